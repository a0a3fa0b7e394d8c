//! `Content-Range`: a chunk has bytes, ends within 64 bits, and can be written and read again.
//!
//! Not here: `Range`; see [`super::range`].

use protocol::oci::content_range::ContentRange;

/// Reads the place of a chunk.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(range) = text.parse::<ContentRange>() else { return };
    assert!(range.bytes() > 0 && range.first().checked_add(range.bytes() - 1).is_some(), "{range:?}");
    let written = range.to_string();
    assert_eq!(written.parse(), Ok(range));
    let without_zeros = |number: &str| number.trim_start_matches('0').to_owned();
    let (first, last) = text.split_once('-').expect("a range has a dash");
    let (first_written, last_written) = written.split_once('-').expect("a range has a dash");
    assert_eq!((without_zeros(first), without_zeros(last)), (without_zeros(first_written), without_zeros(last_written)));
}
