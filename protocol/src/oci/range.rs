//! Byte ranges of downloads (RFC 9110 §14), as far as blobs need them: one range.
//!
//! Not here: `Content-Range` of uploads, which OCI writes its own way; see [`super::content_range`].

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// The header is of another unit, names several ranges or cannot be read: it is ignored (RFC 9110 §14.2).
    Whole,
    /// These bytes: at least one, and all of them there.
    Part(Range<u64>),
    /// Bytes that are not there. So is a range that ends before it starts, as the conformance suite wants.
    Unsatisfiable,
}

/// Reads a `Range` header for content of `size` bytes.
pub fn parse(header: &str, size: u64) -> Requested {
    let Some((unit, range)) = header.trim().split_once('=') else { return Requested::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Requested::Whole };
    let (Some(start), Some(end)) = (number(first), number(last)) else { return Requested::Whole };
    let part = match (first, last) {
        _ if !unit.eq_ignore_ascii_case("bytes") => return Requested::Whole,
        ("", "") => return Requested::Whole,
        ("", _) => size.saturating_sub(end)..size,
        (_, "") => start..size,
        (_, _) => start..end.saturating_add(1).min(size),
    };
    if part.is_empty() { Requested::Unsatisfiable } else { Requested::Part(part) }
}

/// A number of any length, the largest if it is larger, and 0 of no digits; none if there is anything but digits.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.bytes().fold(0_u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ranges_that_clients_send() {
        for (header, part) in [
            ("bytes=500-1499", 500..1500),
            ("bytes=500-", 500..3000),
            ("bytes=-500", 2500..3000),
            ("bytes=-5000", 0..3000),
            ("bytes=2000-5000", 2000..3000),
            ("bytes=0-0", 0..1),
            ("bytes=2999-2999", 2999..3000),
            ("bytes=0-99999999999999999999", 0..3000),
            ("bytes=-99999999999999999999", 0..3000),
            ("Bytes=1-1", 1..2),
            (" bytes= 1-1 ", 1..2),
        ] {
            assert_eq!(parse(header, 3000), Requested::Part(part), "{header}");
        }
    }

    #[test]
    fn a_range_without_bytes_is_refused() {
        for header in
            ["bytes=500-0", "bytes=5000-10000", "bytes=3000-", "bytes=-0", "bytes=99999999999999999999-", "bytes=99999999999999999999-0"]
        {
            assert_eq!(parse(header, 3000), Requested::Unsatisfiable, "{header}");
        }
    }

    #[test]
    fn what_is_not_one_range_of_bytes_is_ignored() {
        for header in ["", "bytes", "bytes=", "bytes=-", "bytes=5", "bytes=0-1,5-6", "bytes=a-b", "bytes=x-1", "items=0-1"] {
            assert_eq!(parse(header, 3000), Requested::Whole, "{header}");
        }
        for header in ["bytes=+1-2", "bytes=1-+2", "bytes=--1", "bytes=1--2", "bytes=1 -2", "bytes =1-2", "bytes=0x1-2"] {
            assert_eq!(parse(header, 3000), Requested::Whole, "{header}");
        }
    }

    #[test]
    fn an_empty_blob_has_no_parts() {
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(parse(header, 0), Requested::Unsatisfiable, "{header}");
        }
    }
}
