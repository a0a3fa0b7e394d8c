//! `If-None-Match`: a tag is found only where it stands, and a list that begins with it has it.
//!
//! Not here: `Range`; see [`super::range`].

use protocol::oci::none_match::names;

use super::first_line;

/// Reads a header below a first line with the tag of the content.
pub fn run(data: &[u8]) {
    let Some((tag, header)) = first_line(data) else { return };
    let Ok(header) = std::str::from_utf8(header) else { return };
    if tag.contains('"') {
        return;
    }
    let quoted = format!("\"{tag}\"");
    if names(header, tag) {
        assert!(header.contains(&quoted) || header.contains('*'), "{header:?}");
    }
    assert!(names(&format!("{quoted},{header}"), tag));
    assert!(names(&format!("W/{quoted} , {header}"), tag));
}
