//! Bytes ↔ message, with every limit checked before anything is believed.
//!
//! Not here: reading from a stream; the driver hands over whole frames.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::{ADDRESSES_MAX, CLAIMS_MAX, FRAME_BYTES_MAX, GET_UNITS_MAX, RANGES_MAX};
use super::{Get, GetReply, Message, PieceRange};

/// Why a peer's bytes are no message: it runs other software, or means harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameRefused {
    /// The announced length is beyond the limit.
    #[error("a frame of {0} bytes is beyond the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// The bytes are no message, or go on behind it.
    #[error("the frame does not hold one message of this protocol version")]
    Malformed,
    /// A list is longer than its limit.
    #[error("a list in the message is beyond its limit")]
    ListTooLong,
    /// A range is empty or backwards, or does not lie behind the one before it.
    #[error("a range in the message is empty, backwards or out of order")]
    BadRange,
}

/// A thing that travels in a frame.
pub trait Framed: Serialize + DeserializeOwned {
    /// Checks the limits that the encoding itself does not.
    ///
    /// # Errors
    /// When one is exceeded.
    fn check(&self) -> Result<(), FrameRefused>;
}

/// The length that a frame's first four bytes announce.
///
/// # Errors
/// When it is beyond the limit.
pub const fn frame_length(prefix: [u8; 4]) -> Result<usize, FrameRefused> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > FRAME_BYTES_MAX { Err(FrameRefused::TooLong(length)) } else { Ok(length) }
}

/// A whole frame, length included.
pub fn encode<T: Framed>(message: &T) -> Vec<u8> {
    let frame = vec![0; 4];
    #[expect(clippy::expect_used, reason = "messages hold no type that postcard cannot encode, and Vec grows")]
    let mut frame = postcard::to_extend(message, frame).expect("a message always encodes");
    #[expect(clippy::cast_possible_truncation, reason = "lists are bounded, so a frame is at most FRAME_BYTES_MAX")]
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// The message in `body`, a frame without its length.
///
/// # Errors
/// When it is none, or beyond a limit.
pub fn decode<T: Framed>(body: &[u8]) -> Result<T, FrameRefused> {
    if body.len() > FRAME_BYTES_MAX {
        return Err(FrameRefused::TooLong(body.len()));
    }
    let (message, rest) = postcard::take_from_bytes::<T>(body).map_err(|_| FrameRefused::Malformed)?;
    if !rest.is_empty() {
        return Err(FrameRefused::Malformed);
    }
    message.check()?;
    Ok(message)
}

impl Framed for Message {
    fn check(&self) -> Result<(), FrameRefused> {
        match self {
            Self::Holding { pieces, .. } | Self::Have { pieces, .. } => check_ranges(pieces),
            Self::Progress { claims } if claims.len() > CLAIMS_MAX => Err(FrameRefused::ListTooLong),
            Self::Peers { addresses } if addresses.len() > ADDRESSES_MAX => Err(FrameRefused::ListTooLong),
            Self::Hello { .. }
            | Self::Peers { .. }
            | Self::Interest { .. }
            | Self::Claim { .. }
            | Self::Release { .. }
            | Self::Progress { .. }
            | Self::Dropped { .. }
            | Self::Refused { .. }
            | Self::Mended { .. } => Ok(()),
        }
    }
}

impl Framed for Get {
    fn check(&self) -> Result<(), FrameRefused> {
        let bounded = (1..=GET_UNITS_MAX).contains(&self.units) && self.first_unit.checked_add(self.units).is_some();
        if bounded { Ok(()) } else { Err(FrameRefused::BadRange) }
    }
}

impl Framed for GetReply {
    fn check(&self) -> Result<(), FrameRefused> {
        Ok(())
    }
}

/// Ranges are maximal and in order, so that no frame names a piece twice: work for a frame is bounded by the blob's pieces.
fn check_ranges(ranges: &[PieceRange]) -> Result<(), FrameRefused> {
    if ranges.len() > RANGES_MAX {
        return Err(FrameRefused::ListTooLong);
    }
    let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|(before, range)| before.end < range.start);
    if !apart || ranges.iter().any(|range| range.start >= range.end) {
        return Err(FrameRefused::BadRange);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn round_trip(message: &Message) -> Result<Message, FrameRefused> {
        let frame = encode(message);
        let (prefix, body) = frame.split_first_chunk::<4>().unwrap();
        assert_eq!(frame_length(*prefix), Ok(body.len()));
        decode(body)
    }

    #[test]
    fn reads_what_it_writes() {
        let blob = Digest::sha512(b"blob");
        let messages = [
            Message::Hello { version: 1, port: 7446 },
            Message::Peers { addresses: vec!["[fe80::1]:7446".parse().unwrap(), "10.0.0.1:7446".parse().unwrap()] },
            Message::Holding { blob, wanted: true, pieces: vec![(0..3).into(), (7..8).into()] },
            Message::Progress { claims: vec![super::super::ClaimProgress { blob, span: 3, bytes: 1 << 40 }] },
            Message::Dropped { blob },
            Message::Refused { blob, unit: 7 },
            Message::Mended { blob },
        ];
        for message in messages {
            assert_eq!(round_trip(&message), Ok(message));
        }
    }

    #[test]
    fn refuses_what_is_beyond_a_limit() {
        let blob = Digest::sha256(b"blob");
        let many = Message::Have { blob, pieces: vec![PieceRange { start: 1, end: 2 }; RANGES_MAX + 1] };
        assert_eq!(round_trip(&many), Err(FrameRefused::ListTooLong));
        let backwards = Message::Have { blob, pieces: vec![PieceRange { start: 2, end: 2 }] };
        assert_eq!(round_trip(&backwards), Err(FrameRefused::BadRange));
        assert_eq!(frame_length([1, 0, 0, 0]), Err(FrameRefused::TooLong(1 << 24)));
        for pieces in [[0..4, 0..4], [0..4, 3..5], [0..4, 4..5], [5..6, 0..4]] {
            let pieces = pieces.map(PieceRange::from).to_vec();
            let repeated = Message::Holding { blob, wanted: false, pieces };
            assert_eq!(round_trip(&repeated), Err(FrameRefused::BadRange));
        }
        let get = Get { blob, first_unit: u32::MAX, units: 1 };
        assert_eq!(decode::<Get>(&encode(&get)[4..]), Err(FrameRefused::BadRange));
    }

    #[test]
    fn the_fullest_message_fits_a_frame() {
        let last = u32::try_from(RANGES_MAX).unwrap();
        let pieces = (0..last).rev().map(|index| PieceRange { start: u32::MAX - 2 * index - 1, end: u32::MAX - 2 * index }).collect();
        let fullest = Message::Holding { blob: Digest::sha512(b""), wanted: true, pieces };
        let frame = encode(&fullest);
        assert!(frame.len() <= 4 + FRAME_BYTES_MAX, "{}", frame.len());
        assert_eq!(round_trip(&fullest), Ok(fullest));
    }

    #[test]
    fn refuses_every_truncation_and_any_tail() {
        let frame = encode(&Message::Claim { blob: Digest::sha256(b"blob"), span: 300 });
        let body = &frame[4..];
        for cut in 0..body.len() {
            assert!(decode::<Message>(&body[..cut]).is_err());
        }
        assert_eq!(decode::<Message>(&[body, &[0]].concat()), Err(FrameRefused::Malformed));
    }
}
