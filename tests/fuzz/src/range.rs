//! `Range`: a part lies within the blob, can be written and read again, and only the blob's size turns one that is there
//! into one that is not.
//!
//! Not here: `Content-Range`; see [`super::content_range`].

use protocol::oci::range::{Requested, parse};

use super::first_line;

/// Reads a header for a blob whose size stands in the first line.
pub fn run(data: &[u8]) {
    let Some((size, header)) = first_line(data) else { return };
    let (Ok(size), Ok(header)) = (size.parse(), std::str::from_utf8(header)) else { return };
    let requested = parse(header, size);
    let ignored = requested == Requested::Whole;
    for other in [0, 1, size.saturating_add(1), u64::MAX] {
        assert_eq!(parse(header, other) == Requested::Whole, ignored, "of {other}");
    }
    if let Requested::Part(part) = requested {
        assert!(part.start < part.end && part.end <= size, "{part:?}");
        assert_eq!(parse(&format!("bytes={}-{}", part.start, part.end - 1), size), Requested::Part(part.clone()));
        assert_eq!(parse(&format!("bytes={}-{}", part.start, part.end - 1), part.start), Requested::Unsatisfiable);
    }
}
