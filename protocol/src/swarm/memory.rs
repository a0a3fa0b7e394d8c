//! How the memory for bytes in flight is shared among peers: every peer may send and be sent control messages, and what is
//! left goes in equal parts to those that bring or get bytes now. Flow control makes it hold: what a peer may send unread is
//! its receive window, what waits for its acknowledgement is the send window.
//!
//! A window that shrinks takes nothing back that was granted: a peer that turns idle may still send what it was granted
//! last. Peers send only what they were asked for, and an idle one was asked for nothing.
//!
//! Not here: which peers are active; the driver sees their requests.

use std::time::Duration;

/// Bytes that may be in flight towards this node, over all peers: a third of what a device with 64 peers may use in all.
pub const RECEIVE_BYTES_MAX: u64 = 24 << 20;
/// Bytes sent and not yet acknowledged, over all peers.
pub const SEND_BYTES_MAX: u64 = 8 << 20;
/// For a peer that brings nothing: the largest control message has 48 KiB.
const RECEIVE_IDLE_BYTES: u64 = 64 << 10;
/// For a peer that gets nothing: control messages that wait are mostly under 100 bytes.
const SEND_IDLE_BYTES: u64 = 16 << 10;
/// Most for one peer, each way: at 4 Gbit/s it covers a pause of 8 ms of either end's threads. Reckoned, not measured.
const RECEIVE_PEER_BYTES_MAX: u64 = 4 << 20;
const SEND_PEER_BYTES_MAX: u64 = 4 << 20;
/// Least for one that is active, however many there are: the windows of more peers than that are over the sum.
const ACTIVE_BYTES_MIN: u64 = 64 << 10;

/// Connections at a time; further peers are turned away. A neighbourhood is 64, and devices of other neighbourhoods dial.
pub const CONNECTIONS_MAX: usize = 128;

/// A peer counts as active for this long after its last bytes, so that windows do not change with every request.
pub const ACTIVE_FOR: Duration = Duration::from_secs(1);

/// The windows of one peer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// What it may send before it was read.
    pub receive: u64,
    /// What may be sent to it before it acknowledged.
    pub send: u64,
}

/// The windows of one peer, of which `is_active` says whether it brings and whether it gets bytes now, as `active` of all the
/// `peers` do.
pub fn windows(peers: usize, active: [usize; 2], is_active: [bool; 2]) -> Windows {
    let ([bringing, getting], [is_bringing, is_getting]) = (active, is_active);
    Windows {
        receive: if is_bringing {
            share(RECEIVE_BYTES_MAX, peers - bringing.min(peers), RECEIVE_IDLE_BYTES, bringing, RECEIVE_PEER_BYTES_MAX)
        } else {
            RECEIVE_IDLE_BYTES
        },
        send: if is_getting {
            share(SEND_BYTES_MAX, peers - getting.min(peers), SEND_IDLE_BYTES, getting, SEND_PEER_BYTES_MAX)
        } else {
            SEND_IDLE_BYTES
        },
    }
}

fn share(all: u64, idle: usize, idle_bytes: u64, active: usize, most: u64) -> u64 {
    (all.saturating_sub(idle as u64 * idle_bytes) / active.max(1) as u64).clamp(ACTIVE_BYTES_MIN, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_all_peers_stay_within_the_sums_however_many_are_active() {
        for peers in 1..=CONNECTIONS_MAX {
            for active in 0..=peers.min(64) {
                let one = |is_active| windows(peers, [active; 2], [is_active; 2]);
                let sum = |of: fn(Windows) -> u64| of(one(true)) * active as u64 + of(one(false)) * (peers - active) as u64;
                assert!(sum(|windows| windows.receive) <= RECEIVE_BYTES_MAX, "{peers} {active}");
                assert!(sum(|windows| windows.send) <= SEND_BYTES_MAX, "{peers} {active}");
            }
        }
    }

    #[test]
    fn a_lone_active_peer_gets_the_most_and_every_active_one_some() {
        assert_eq!(windows(1, [1; 2], [true; 2]), Windows { receive: RECEIVE_PEER_BYTES_MAX, send: SEND_PEER_BYTES_MAX });
        assert!(windows(CONNECTIONS_MAX, [64; 2], [true; 2]).send >= ACTIVE_BYTES_MIN);
        assert_eq!(windows(64, [1, 0], [true, false]).send, SEND_IDLE_BYTES);
    }
}
