//! Warnings: what clients show to people beside an answer that succeeded (distribution-spec, "Warnings").
//!
//! Not here: what is warned of.

use axum::http::{HeaderMap, HeaderValue, header};

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
