//! Byte ranges of HTTP (RFC 9110 §14), as far as blobs need them: one range.
//!
//! Not here: `Content-Range` of uploads, which OCI writes its own way.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// The header is of another unit, or names several ranges: it is ignored.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that are not there.
    Unsatisfiable,
}

/// Reads a `Range` header for content of `size` bytes.
pub fn parse(header: &str, size: u64) -> Requested {
    let Some(range) = header.trim().strip_prefix("bytes=").filter(|range| !range.contains(',')) else { return Requested::Whole };
    let Some((first, last)) = range.split_once('-') else { return Requested::Whole };
    let number = |text: &str| text.trim().parse::<u64>();
    let range = match (first.trim(), last.trim()) {
        ("", "") => return Requested::Whole,
        ("", suffix) => match number(suffix) {
            Ok(length) => size.saturating_sub(length)..size,
            Err(_) => return Requested::Whole,
        },
        (first, "") => match number(first) {
            Ok(first) => first..size,
            Err(_) => return Requested::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
            (Ok(_), Ok(_)) => return Requested::Unsatisfiable,
            _ => return Requested::Whole,
        },
    };
    if range.start < range.end { Requested::Part(range) } else { Requested::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_of_the_rfc() {
        for (header, wanted) in [
            ("bytes=500-1499", Requested::Part(500..1500)),
            ("bytes=500-", Requested::Part(500..2000)),
            ("bytes=-500", Requested::Part(1500..2000)),
            ("bytes=-5000", Requested::Part(0..2000)),
            ("bytes=1000-5000", Requested::Part(1000..2000)),
            ("bytes=500-0", Requested::Unsatisfiable),
            ("bytes=5000-10000", Requested::Unsatisfiable),
            ("bytes=2000-", Requested::Unsatisfiable),
            ("bytes=-0", Requested::Unsatisfiable),
            ("bytes=0-1,5-6", Requested::Whole),
            ("items=0-1", Requested::Whole),
            ("bytes=x-1", Requested::Whole),
        ] {
            assert_eq!(parse(header, 2000), wanted, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Requested::Unsatisfiable);
    }
}
