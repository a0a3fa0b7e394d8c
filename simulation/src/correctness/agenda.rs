//! What happens next: entries by time, and of the same time in the order in which they were put in.
//!
//! Not here: what follows from it; see [`super::world`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use protocol::agent::Outcome;
use protocol::digest::Digest;
use protocol::name::AppName;
use protocol::swarm::{AskId, FetchEnd, FetchId};
use protocol::wire::Message;

use super::faults::Fault;
use super::operator::Errand;
use super::seed_side::Answer;

/// What happens.
#[derive(Debug)]
pub(super) enum Happening {
    /// Something happens to a device in one of its lives; nothing does to a later one.
    To { device: usize, life: u32, deed: Deed },
    /// A device gets power.
    Started { device: usize },
    /// Two devices of a site try to connect.
    Dialled { one: usize, other: usize },
    /// Something goes wrong, or right again.
    Fault(Fault),
    /// The operator, or the seed on its own, does something.
    Errand(Errand),
    /// Faults end.
    Healed,
}

/// What happens to a device.
#[derive(Debug)]
pub(super) enum Deed {
    SwarmTimer,
    AgentTimer,
    /// A hostile device does something again.
    Mischief,
    Received {
        from: usize,
        link: u32,
        message: Message,
    },
    /// It notices that a connection is gone.
    LinkLost {
        peer: usize,
        link: u32,
    },
    Asked {
        by: usize,
        fetch: FetchId,
        blob: Digest,
        units: Range<u32>,
        link: u32,
    },
    AskEnded {
        ask: AskId,
    },
    FetchRefused {
        fetch: FetchId,
        end: FetchEnd,
    },
    /// The next unit of a request to a peer comes.
    LanUnit {
        fetch: FetchId,
    },
    /// The next unit of a request over the WAN comes.
    WanUnit {
        fetch: FetchId,
    },
    WanFailed {
        fetch: FetchId,
    },
    Verified {
        blob: Digest,
    },
    Rechecked {
        blob: Digest,
    },
    OpenAgain {
        blob: Digest,
    },
    /// A unit that was stored before its check is checked: what [`super::seeded::SeededBug::StoreBeforeCheck`] is about.
    CheckedLate {
        fetch: FetchId,
        blob: Digest,
        unit: u32,
    },
    Polled {
        answer: Option<Box<Answer>>,
    },
    StatementCame {
        version: u64,
    },
    Reported {
        counter: u64,
        taken: bool,
    },
    Activated {
        app: AppName,
        outcome: Outcome,
    },
}

#[derive(Debug)]
struct Entry {
    at: u64,
    count: u64,
    what: Happening,
}

/// What is still to happen.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    count: u64,
}

impl Agenda {
    /// Puts something in, at a time in microseconds.
    pub(super) fn push(&mut self, at: u64, what: Happening) {
        self.count += 1;
        self.heap.push(Reverse(Entry { at, count: self.count, what }));
    }

    /// What comes next, and when.
    pub(super) fn pop(&mut self) -> Option<(u64, Happening)> {
        self.heap.pop().map(|Reverse(Entry { at, what, .. })| (at, what))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.count) == (other.at, other.count)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.count).cmp(&(other.at, other.count))
    }
}
