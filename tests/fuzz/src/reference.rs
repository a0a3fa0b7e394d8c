//! Names: the parsers take exactly what the grammars of the distribution-spec and the limits of `protocol` allow, and what
//! they took is the text that came.
//!
//! The grammars stand here a second time, written from the specification, so that the two can be compared.
//!
//! Not here: where names stand in a path; see [`super::path`].

use std::fmt::Display;
use std::str::FromStr;

use protocol::digest::Digest;
use protocol::name::{AppName, DeviceId, NAME_BYTES_MAX, OrgName, Platform, REPOSITORY_NAME_BYTES_MAX, RepositoryName, Tag};
use protocol::oci::route::Reference;
use protocol::repository::RepositoryPattern;

use super::assert_short;

/// Reads a name of every kind.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(reads::<Tag>(text), is_tag(text));
    assert_eq!(reads::<Digest>(text), is_digest(text));
    assert_eq!(reads::<Reference>(text), is_tag(text) || is_digest(text));
    assert_eq!(reads::<OrgName>(text), is_component(text));
    assert_eq!(reads::<AppName>(text), is_component(text));
    assert_eq!(reads::<DeviceId>(text), is_component(text));
    assert_eq!(reads::<RepositoryName>(text), is_repository(text));
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert!(text.starts_with(&format!("{}/", name.org())));
    }
    if let Ok(pattern) = text.parse::<RepositoryPattern>() {
        assert!(text.starts_with(&format!("{}/", pattern.org())));
    }
    reads::<RepositoryPattern>(text);
    reads::<Platform>(text);
}

/// Whether the text is a name of this kind; one that is must be written as it came.
fn reads<T: FromStr<Err: Display> + Display>(text: &str) -> bool {
    match text.parse::<T>() {
        Ok(name) => {
            assert_eq!(name.to_string(), text);
            true
        }
        Err(refused) => {
            assert_short(&refused, 0);
            false
        }
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let mut rest = text.chars();
    rest.next().is_some_and(|first| matches!(first, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_'))
        && rest.all(|other| matches!(other, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '-'))
        && text.len() <= 128
}

/// `sha256:[0-9a-f]{64}` or `sha512:[0-9a-f]{128}`
fn is_digest(text: &str) -> bool {
    let hex = |text: &str, digits: usize| text.len() == digits && text.chars().all(|digit| matches!(digit, '0'..='9' | 'a'..='f'));
    text.strip_prefix("sha256:").is_some_and(|value| hex(value, 64)) || text.strip_prefix("sha512:").is_some_and(|value| hex(value, 128))
}

/// Components with `/` between them: the organisation and 1 to 15 more.
pub(super) fn is_repository(text: &str) -> bool {
    let components: Vec<&str> = text.split('/').collect();
    (2..=16).contains(&components.len()) && text.len() <= REPOSITORY_NAME_BYTES_MAX && components.into_iter().all(is_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let Some(mut rest) = after_word(text) else { return false };
    while !rest.is_empty() {
        let next = match rest.strip_prefix('.').or_else(|| rest.strip_prefix("__")).or_else(|| rest.strip_prefix('_')) {
            Some(next) => next,
            None if rest.starts_with('-') => rest.trim_start_matches('-'),
            None => return false,
        };
        let Some(behind) = after_word(next) else { return false };
        rest = behind;
    }
    text.len() <= NAME_BYTES_MAX
}

/// What stands behind `[a-z0-9]+`.
fn after_word(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|letter: char| matches!(letter, 'a'..='z' | '0'..='9'));
    (rest.len() < text.len()).then_some(rest)
}
