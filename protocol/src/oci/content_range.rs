//! The place of a chunk in an upload: `Content-Range: <first>-<last>` (distribution-spec, "Pushing a blob in chunks"),
//! without the unit and the size that HTTP has there.
//!
//! Not here: how far the upload is, and what is answered.

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

/// Why a chunk is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkRefused {
    /// The upload goes on at another place: whoever sent it can go on there.
    #[error("the upload goes on at byte {0}")]
    Elsewhere(u64),
    /// The body has another length.
    #[error("Content-Range is of {0} bytes, Content-Length is another")]
    OtherLength(u64),
}

impl ContentRange {
    /// Where the chunk starts, in bytes from the start of the blob.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// How many bytes the chunk has.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes the chunk adds to an upload that has `received`, in a body whose `length` was announced or not.
    ///
    /// # Errors
    /// When it does not go on where the upload ended, or contradicts its length.
    pub fn goes_on(&self, received: u64, length: Option<u64>) -> Result<u64, ChunkRefused> {
        if self.first != received {
            return Err(ChunkRefused::Elsewhere(received));
        }
        if length.is_some_and(|length| length != self.bytes) {
            return Err(ChunkRefused::OtherLength(self.bytes));
        }
        Ok(self.bytes)
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
    fn a_chunk_goes_on_where_the_upload_ended_and_is_as_long_as_its_body() {
        let chunk: ContentRange = "10-19".parse().unwrap();
        for (received, length, wanted) in [
            (10, Some(10), Ok(10)),
            (10, None, Ok(10)),
            (10, Some(9), Err(ChunkRefused::OtherLength(10))),
            (10, Some(11), Err(ChunkRefused::OtherLength(10))),
            (9, Some(10), Err(ChunkRefused::Elsewhere(9))),
            (11, None, Err(ChunkRefused::Elsewhere(11))),
            (0, Some(11), Err(ChunkRefused::Elsewhere(0))),
        ] {
            assert_eq!(chunk.goes_on(received, length), wanted, "{received} {length:?}");
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
