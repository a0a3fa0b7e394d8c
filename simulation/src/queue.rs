//! What happens next at one site. Entries are ordered by time, device and a counter of the device: a total order that
//! depends on nothing but the run itself.
//!
//! Not here: what follows from it; see [`crate::site`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use protocol::swarm::{AskId, FetchEnd, FetchId};
use protocol::wire::Message;

use crate::node_ids::ShortId;

/// What happens to a device. Peers are named by their index at the site. Most of what waits is units on their way, so messages,
/// which are large and soon there, stand apart.
#[derive(Debug)]
pub(crate) enum Happening {
    /// It starts, and wants the blob.
    Started,
    /// It wants the blob, some time after it started.
    Wanted,
    /// It and the devices that started before it find each other.
    Discovered,
    /// It dies without a word.
    Killed,
    /// The first device of the site that is fetching over the WAN dies.
    OwnerKilled,
    /// The devices of the site fall apart in two halves.
    FellApart,
    /// The site's WAN link has another capacity.
    WanChanged { capacity: u64 },
    /// It is switched off.
    SwitchedOff,
    /// It is switched on again, with what it stored.
    SwitchedOn,
    /// Its timer rings.
    TimerRang,
    /// It is connected to a peer.
    PeerJoined { peer: u32 },
    /// It notices that a peer is gone, if the peer was not switched on again since.
    PeerLeft { peer: u32, life: u32 },
    /// A control message arrives.
    Received { from: u32, message: Box<Message> },
    /// A control message of this device arrives at several others.
    ReceivedByAll { told: Box<(Vec<ShortId>, Message)> },
    /// A peer's request arrives.
    Asked { by: u32, fetch: FetchId, units: Range<u32> },
    /// A request that it serves is over.
    AskEnded { ask: AskId },
    /// The first bytes that a peer serves arrive.
    ServingReached { ask: AskId, fetch: FetchId },
    /// A peer's refusal arrives.
    FetchRefused { fetch: FetchId, end: FetchEnd },
    /// The first byte of a fetch over the WAN arrives.
    WanReached { fetch: FetchId },
    /// The next unit of a flow is whole, if the flow's schedule is still this one.
    UnitDue { slot: usize, schedule: u64 },
    /// A unit that came is hashed and written, unless the device was switched off since.
    UnitStored { fetch: FetchId, unit: u32, last: bool, life: u32 },
    /// The digest of the whole blob was checked.
    BlobVerified,
}

/// Time, device and the device's counter, in this order, and where the event is: a device has fewer than 2³² events in a run,
/// as the counter checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: u64,
    device: u32,
    count: u32,
    slot: u32,
}

/// Events for which there is more room at once at least.
const GROWTH_MIN: usize = 64;

/// The events of a site that are still to come.
#[derive(Debug)]
pub(crate) struct Queue {
    keys: BinaryHeap<Reverse<Key>>,
    happenings: Vec<Option<Happening>>,
    free: Vec<u32>,
    counts: Vec<u32>,
}

impl Queue {
    pub(crate) fn new(devices: usize) -> Self {
        Self { keys: BinaryHeap::new(), happenings: Vec::new(), free: Vec::new(), counts: vec![0; devices] }
    }

    /// `happening` comes to `device` at `at`, in microseconds of virtual time.
    pub(crate) fn push(&mut self, at: u64, device: u32, happening: Happening) {
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.happenings.len() == self.happenings.capacity() {
                self.happenings.reserve_exact(GROWTH_MIN + self.happenings.len() / 4);
                self.keys.reserve_exact(GROWTH_MIN + self.keys.len() / 4);
            }
            self.happenings.push(None);
            u32::try_from(self.happenings.len() - 1).unwrap_or(u32::MAX)
        });
        self.happenings[slot as usize] = Some(happening);
        let count = &mut self.counts[device as usize];
        *count += 1;
        self.keys.push(Reverse(Key { at, device, count: *count, slot }));
    }

    /// When the next event comes.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.keys.peek().map(|Reverse(key)| key.at)
    }

    /// The next event, its time and its device.
    pub(crate) fn pop(&mut self) -> Option<(u64, u32, Happening)> {
        let Reverse(key) = self.keys.pop()?;
        let happening = self.happenings[key.slot as usize].take()?;
        self.free.push(key.slot);
        Some((key.at, key.device, happening))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_small() {
        assert!(size_of::<Option<Happening>>() <= 24);
    }

    #[test]
    fn the_order_is_time_then_device_then_first_come() {
        let mut queue = Queue::new(3);
        for (at, device, peer) in [(5, 2, 0), (5, 1, 1), (4, 2, 2), (5, 1, 3), (5, 0, 4)] {
            queue.push(at, device, Happening::PeerJoined { peer });
        }
        let order: Vec<(u64, u32, u32)> = std::iter::from_fn(|| queue.pop())
            .map(|(at, device, happening)| match happening {
                Happening::PeerJoined { peer } => (at, device, peer),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [(4, 2, 2), (5, 0, 4), (5, 1, 1), (5, 1, 3), (5, 2, 0)]);
    }
}
