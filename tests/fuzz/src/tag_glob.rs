//! Patterns of tags: a pattern means the tags that a matcher means which tries every way.
//!
//! Not here: tags themselves; see [`super::reference`].

use protocol::name::Tag;
use protocol::repository::tags::TagGlob;

use super::{assert_short, first_line};

/// Reads the pattern in the first line and the tag below it.
pub fn run(data: &[u8]) {
    let Some((pattern, tag)) = first_line(data) else { return };
    let glob = match pattern.parse::<TagGlob>() {
        Ok(glob) => glob,
        Err(refused) => return assert_short(&refused, 0),
    };
    assert_eq!(glob.to_string(), pattern);
    let Some(tag) = std::str::from_utf8(tag).ok().and_then(|tag| tag.parse::<Tag>().ok()) else { return };
    assert_eq!(glob.matches(&tag), matches(pattern.as_bytes(), tag.as_str().as_bytes()), "{pattern} {tag}");
}

/// Whether the pattern means the tag: `reached[n]` says whether what was read of the pattern can mean the first `n` bytes.
fn matches(pattern: &[u8], tag: &[u8]) -> bool {
    let mut reached = vec![false; tag.len() + 1];
    reached[0] = true;
    for byte in pattern {
        if *byte == b'*' {
            let first = reached.iter().position(|reached| *reached).unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for end in (1..=tag.len()).rev() {
                reached[end] = reached[end - 1] && tag[end - 1] == *byte;
            }
            reached[0] = false;
        }
    }
    reached[tag.len()]
}
