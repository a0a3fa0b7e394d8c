//! A device of a run: what is on it, and the machines that it runs.
//!
//! Not here: what happens to it; see [`super::world`].

use std::collections::BTreeMap;
use std::ops::Range;

use protocol::agent::{Agent, Now};
use protocol::digest::Digest;
use protocol::name::{DeviceId, NodeId};
use protocol::swarm::peer_view::OwnView;
use protocol::swarm::{AskId, FetchId, Swarm};
use protocol::time::floor::{Bounds, CheckedTime, TimeFloor};
use protocol::time::{Instant, WallTime};

use super::content::Proven;
use super::disk::Disk;
use super::plan::{DevicePlan, Role};

/// The calendar at the start of a run.
pub(super) const BEGINNING: WallTime = WallTime::from_unix_seconds(1_800_000_000);

/// No root or timestamp expires in a run.
pub(super) const BOUNDS: Bounds = Bounds { epoch: 1, until: WallTime::from_unix_seconds(u64::MAX) };

/// Calendar time without error, `micros` after the start of a run.
pub(super) const fn wall(micros: u64) -> WallTime {
    BEGINNING.plus_seconds(micros / 1_000_000)
}

/// A fetch that is not over.
#[derive(Clone, Debug)]
pub(super) struct OpenFetch {
    /// The peer that is asked; none for the WAN.
    pub(super) peer: Option<usize>,
    pub(super) blob: Digest,
    /// What is still to come.
    pub(super) units: Range<u32>,
    /// What the peer calls the request, once it arrived there.
    pub(super) ask: Option<AskId>,
}

/// A request of a peer that is not over.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenAsk {
    pub(super) by: usize,
    pub(super) fetch: FetchId,
}

/// How often the swarm machine's timer rang lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wakes {
    second: u64,
    count: u32,
}

/// More wakes a second than any machine needs: there is a tick of 250 ms, and each message may move a timer once.
const WAKES_MAX: u32 = 5_000;

impl Wakes {
    /// The timer rings; false if it rang too often in this second.
    pub(super) fn ring(&mut self, now: u64) -> bool {
        let second = now / 1_000_000;
        *self = if self.second == second { Self { count: self.count + 1, ..*self } } else { Self { second, count: 1 } };
        self.count <= WAKES_MAX
    }
}

/// A device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: NodeId,
    pub(super) name: DeviceId,
    pub(super) plan: DevicePlan,
    pub(super) alive: bool,
    /// How often it was started: what was to happen to it in an earlier life does not.
    pub(super) life: u32,
    pub(super) frozen_until: u64,
    /// Seconds that its clock is ahead; behind if negative.
    pub(super) clock_ahead: i64,
    pub(super) time: TimeFloor,
    /// Whether the seed's time was verified in this life.
    pub(super) knows_time: bool,
    pub(super) disk: Disk,
    pub(super) swarm: Option<Swarm<OwnView>>,
    pub(super) agent: Option<Agent>,
    pub(super) wakes: Wakes,
    pub(super) swarm_timer: Option<u64>,
    pub(super) agent_timer: Option<u64>,
    /// Connected peers, and which connection it is.
    pub(super) links: BTreeMap<usize, u32>,
    pub(super) fetches: BTreeMap<FetchId, OpenFetch>,
    pub(super) asks: BTreeMap<AskId, OpenAsk>,
    pub(super) next_ask: u64,
    pub(super) wants: BTreeMap<Digest, Proven>,
    /// Wrong units that it will still send though its disk is sound.
    pub(super) slips: u32,
    /// The blobs that a hostile device heard of.
    pub(super) heard_of: Vec<Digest>,
}

impl Device {
    /// A device that was never started.
    pub(super) fn new(id: NodeId, name: DeviceId, plan: DevicePlan) -> Self {
        Self {
            id,
            name,
            plan,
            alive: false,
            life: 0,
            frozen_until: 0,
            clock_ahead: 0,
            time: TimeFloor::new(BEGINNING, BOUNDS, None),
            knows_time: false,
            disk: Disk::new(),
            swarm: None,
            agent: None,
            wakes: Wakes::default(),
            swarm_timer: None,
            agent_timer: None,
            links: BTreeMap::new(),
            fetches: BTreeMap::new(),
            asks: BTreeMap::new(),
            next_ask: 0,
            wants: BTreeMap::new(),
            slips: 0,
            heard_of: Vec::new(),
        }
    }

    /// Whether it does as the machines say.
    pub(super) fn is_honest(&self) -> bool {
        self.plan.role == Role::Honest
    }

    /// What its clock says, right or wrong.
    pub(super) const fn clock(&self, now: u64) -> WallTime {
        WallTime::from_unix_seconds(wall(now).as_unix_seconds().saturating_add_signed(self.clock_ahead))
    }

    /// The time that expiry is checked against, and whether the clock is trusted.
    pub(super) fn checked_time(&self, now: u64) -> CheckedTime {
        self.time.read(self.clock(now), Instant::from_micros(now))
    }

    /// What both clocks say, and whether the calendar is trusted.
    pub(super) fn clocks(&self, now: u64) -> Now {
        Now { monotonic: Instant::from_micros(now), wall: self.checked_time(now) }
    }

    /// Everything that a process forgets when it ends.
    pub(super) fn forget(&mut self) {
        self.alive = false;
        self.knows_time = false;
        self.life += 1;
        self.swarm = None;
        self.agent = None;
        self.swarm_timer = None;
        self.agent_timer = None;
        self.links.clear();
        self.fetches.clear();
        self.asks.clear();
        self.wants.clear();
        self.frozen_until = 0;
    }
}
