//! The place of a chunk in an upload: `Content-Range: <first>-<last>` (distribution-spec, "Pushing a blob in chunks"),
//! without the unit and the size that HTTP has there.
//!
//! Not here: whether the upload goes on at that place.

use std::fmt;
use std::str::FromStr;

/// The bytes of one chunk: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    first: u64,
    bytes: u64,
}

/// The text is not the place of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Content-Range must be <first>-<last>, in bytes from 0, last not before first")]
pub struct ContentRangeRefused;

impl ContentRange {
    /// Where the chunk starts, in bytes from the start of the blob.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// How many bytes the chunk has.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl FromStr for ContentRange {
    type Err = ContentRangeRefused;

    fn from_str(text: &str) -> Result<Self, ContentRangeRefused> {
        let (first, last) = text.split_once('-').ok_or(ContentRangeRefused)?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        let (first, last) = number(first).zip(number(last)).ok_or(ContentRangeRefused)?;
        let bytes = last.checked_sub(first).and_then(|bytes| bytes.checked_add(1)).ok_or(ContentRangeRefused)?;
        Ok(Self { first, bytes })
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.first + (self.bytes - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_a_chunk_starts_and_how_many_bytes_it_has() {
        for (text, first, bytes) in [("0-0", 0, 1), ("0-9", 0, 10), ("10-10", 10, 1), ("1-18446744073709551615", 1, u64::MAX)] {
            assert_eq!(text.parse(), Ok(ContentRange { first, bytes }), "{text}");
            assert_eq!(ContentRange { first, bytes }.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_place() {
        for text in ["", "-", "1", "1-", "-1", "2-1", "bytes 0-9/10", "0-9/10", "0-9-10", " 0-9", "+0-9", "0-18446744073709551615", "0-1x"]
        {
            assert_eq!(text.parse::<ContentRange>(), Err(ContentRangeRefused), "{text}");
        }
    }
}
