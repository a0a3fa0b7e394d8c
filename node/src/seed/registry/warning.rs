//! Warnings: what clients show to people beside an answer that succeeded (distribution-spec, "Warnings").
//!
//! People are warned of what they push without its subject, of access keys that expire soon when they use one on a manifest,
//! and of tags that retention removes soon when they push them.
//!
//! Not here: when retention removes tags; see [`protocol::repository::retention`].

use axum::http::{HeaderMap, HeaderValue, header};
use protocol::name::Tag;
use protocol::repository::RepositorySettings;
use protocol::repository::retention::{Fate, TagFacts};
use protocol::repository::tags::subject_of;
use protocol::time::WallTime;

use crate::seed::registry::auth::Principal;

/// Warned of what ends within this time, in seconds: a week, in which somebody works who can do something about it.
const SOON_SECONDS: u64 = 7 * 86_400;

/// The most bytes that all warnings of one answer may have (distribution-spec, "Warnings").
const WARNINGS_BYTES_MAX: usize = 4096;

/// Adds a warning to the headers of an answer; one that does not fit any more is left out. What is not visible ASCII is
/// shown as `?`.
pub(super) fn warn(headers: &mut HeaderMap, text: &str) {
    let sent: usize = headers.get_all(header::WARNING).iter().map(HeaderValue::len).sum();
    if let Ok(value) = HeaderValue::try_from(format!("299 - \"{}\"", quoted(text)))
        && sent + value.len() <= WARNINGS_BYTES_MAX
    {
        headers.append(header::WARNING, value);
    }
}

/// What is said of an access key that ends soon.
pub(super) fn of_key(principal: &Principal, now: WallTime) -> Option<String> {
    let expires = soon(principal.expires()?, now)?;
    let key = principal.key();
    Some(format!("the access key {key} expires at {expires}; ask for another one, made with hedgerow key create"))
}

/// What is said of a tag that was pushed at `now` and that retention removes soon, whatever is pushed after it.
pub(super) fn of_tag(tag: &Tag, settings: &RepositorySettings, now: WallTime) -> Option<String> {
    let facts = TagFacts { tag, pushed: now, needed: false, subject_present: subject_of(tag).is_some() };
    match settings.retention()?.fates(&[facts]).first()? {
        Fate::Expires(at) => {
            let at = soon(*at, now)?;
            Some(format!("retention removes the tag {tag} at {at}, unless it is pushed again or published in a version"))
        }
        Fate::Unlimited | Fate::Kept(_) => None,
    }
}

/// A moment as people read it, if it is soon.
fn soon(at: WallTime, now: WallTime) -> Option<jiff::Timestamp> {
    let is_soon = at <= now.plus_seconds(SOON_SECONDS);
    is_soon.then(|| i64::try_from(at.as_unix_seconds()).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())).flatten()
}

/// The inside of a quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(headers: &HeaderMap) -> Vec<&str> {
        headers.get_all(header::WARNING).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn a_warning_is_one_quoted_string_whatever_it_says() {
        let mut headers = HeaderMap::new();
        warn(&mut headers, "the key expires soon");
        warn(&mut headers, "tag \"a\\b\"\r\nX: \u{e9}");
        assert_eq!(warnings(&headers), ["299 - \"the key expires soon\"", r#"299 - "tag \"a\\b\"??X: ?""#]);
    }

    #[test]
    fn a_tag_that_retention_removes_within_a_week_is_warned_of_and_no_other() {
        let now = WallTime::from_unix_seconds(1_800_000_000);
        let warned = |tag: &str, settings: &str| of_tag(&tag.parse().unwrap(), &serde_json::from_str(settings).unwrap(), now);
        let text = warned("1.0", r#"{"keep_days":7}"#).unwrap();
        assert!(text.contains("the tag 1.0 at 2027-01-22T08:00:00Z"), "{text}");
        for kept in [r#"{"keep_days":8}"#, r#"{"keep_days":1,"keep_last":3}"#, r#"{"keep_days":1,"expire":["dev-*"]}"#, "{}"] {
            assert_eq!(warned("1.0", kept), None, "{kept}");
        }
        let signature = format!("sha256-{}.sig", "0".repeat(64));
        assert_eq!(warned(&signature, r#"{"keep_days":1}"#), None, "it goes with what it signs");
    }

    #[test]
    fn the_warnings_of_one_answer_are_bounded_together() {
        let mut headers = HeaderMap::new();
        for bytes in [2000, 2080, 2000, 1] {
            warn(&mut headers, &"x".repeat(bytes));
        }
        let lengths: Vec<usize> = warnings(&headers).iter().map(|warning| warning.len()).collect();
        assert_eq!(lengths, [2008, 2088]);
        warn(&mut headers, "");
        assert_eq!(warnings(&headers).len(), 2);
    }
}
