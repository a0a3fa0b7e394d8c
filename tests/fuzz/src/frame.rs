//! Messages of peers: what was read is within its limits, and can be written and read again.
//!
//! Not here: what a message does.

use std::fmt::Debug;

use protocol::wire::codec::{Framed, decode, encode, frame_length};
use protocol::wire::limits::{ADDRESSES_MAX, CLAIMS_MAX, FRAME_BYTES_MAX, GET_UNITS_MAX, RANGES_MAX};
use protocol::wire::{Get, GetReply, Message};

/// Reads a frame without its length, as each of the things that travel in frames.
pub fn run(data: &[u8]) {
    read::<GetReply>(data);
    if let Some(get) = read::<Get>(data) {
        assert!((1..=GET_UNITS_MAX).contains(&get.units) && get.first_unit.checked_add(get.units).is_some(), "{get:?}");
    }
    match read::<Message>(data) {
        Some(Message::Peers { addresses }) => assert!(addresses.len() <= ADDRESSES_MAX),
        Some(Message::Progress { claims }) => assert!(claims.len() <= CLAIMS_MAX),
        Some(Message::Holding { pieces, .. } | Message::Have { pieces, .. }) => {
            assert!(pieces.len() <= RANGES_MAX && pieces.iter().all(|range| range.start < range.end), "{pieces:?}");
            assert!(pieces.windows(2).all(|pair| pair[0].end < pair[1].start), "{pieces:?}");
        }
        Some(_) | None => {}
    }
}

fn read<T: Framed + Debug + PartialEq>(body: &[u8]) -> Option<T> {
    let message: T = decode(body).ok()?;
    let frame = encode(&message);
    let (prefix, written) = frame.split_first_chunk().expect("a frame starts with its length");
    assert_eq!(frame_length(*prefix), Ok(written.len()));
    assert!(written.len() <= body.len() && body.len() <= FRAME_BYTES_MAX);
    assert_eq!(decode::<T>(written).as_ref(), Ok(&message));
    Some(message)
}
