//! When a device asks its seed, and for whom: one device of a site asks for all of them, once an interval; each asks for itself
//! once an hour.
//!
//! Who asked for the site last asks again, in its own phase of the interval. The others hear of it ([`crate::gossip`]) and wait.
//! Who has heard of no such poll for an interval and a half doubts that somebody asks, waits a random time more, and asks for
//! the site itself unless it hears of one meanwhile: so the place of a device that died, or that is cut off from the seed, is
//! taken without anybody being elected.
//!
//! A poll counts for those alone that it was made for, and only with the seed's receipt of it, which says when it was made: by
//! the seed's clock, which a device knows from its own polls. What it tells of a device is counters: one whose assignment is
//! older than told asks for itself at once; one that lacks something else gives its neighbours time to hand it over first.
//!
//! So a neighbour that means ill can do no more than be silent. A receipt that it keeps back, or an old one that it hands over,
//! makes the others doubt as if nobody had asked: what is new at the seed reaches each of them within two intervals (and some
//! seconds), and what the seed told of is asked for after 20 s by whoever was not handed it.
//!
//! Not here: how long is waited after a failure, see [`super`]; receipts, see [`crate::statement::receipt`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gossip::message::SiteHeads;
use crate::name::{DeviceId, GroupName};
use crate::rendezvous;
use crate::statement::assignment::AcceptedAssignment;
use crate::statement::desired::{AcceptedDesiredState, Counter};
use crate::statement::receipt::SitePoll;
use crate::time::Instant;

/// After this long a device asks for itself, whatever it hears: the seed sees that it is there, and where.
pub const OWN_TIME: Duration = Duration::from_secs(3_600);
/// Neighbours have this long to hand over a document that somebody was told of: two questions of gossip.
const HAND_OVER_TIME: Duration = Duration::from_secs(20);
/// Those whose assignment changed at the same time ask within this time.
const SOON: Duration = Duration::from_secs(2);
/// Who doubts waits up to half an interval more, and up to this at least: a poll is heard of within a second or two.
const PATIENCE_MIN: Duration = Duration::from_secs(5);
/// A receipt may be ahead of what a device takes for the seed's time by this much, in milliseconds: it knows that to the second.
const AHEAD_MS_MAX: u64 = 5_000;

/// For whom the seed is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollFor {
    /// For this device, and the others of its site, if it gossips with any.
    Site,
    /// For this device alone.
    Itself,
}

/// The rule of one device.
#[derive(Debug)]
pub(super) struct Turn {
    device: DeviceId,
    interval: Duration,
    seed: u64,
    draws: u64,
    next: Option<(Instant, PollFor)>,
    /// What was asked last.
    asked: PollFor,
    /// When the seed answered this device last.
    own: Option<Instant>,
    /// That moment by the seed's clock, in milliseconds since 1970, if it said so.
    seed_time: Option<(Instant, u64)>,
    /// The last poll for the site that counted for this device, by the seed's clock: those of before are no news.
    polled_ms: Option<u64>,
    /// A poll of which could not be said yet how long ago it was.
    early: Option<SitePoll>,
    /// When this device takes the place of the one that asks for the site; none while it is that one, or knows of none.
    doubt: Option<Instant>,
    /// The last poll failed.
    failing: bool,
    held: Held,
    /// What the seed was last said to have for this device, if it is more.
    lacking: Option<(Held, Instant)>,
}

/// How far this device's documents are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    assignment: Counter,
    states: BTreeMap<GroupName, Option<Counter>>,
    trust: Trust,
}

/// How far what decides whom a device trusts is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The counter of the list of revoked keys; none if there is no list.
    pub revocations: Option<Counter>,
    /// The version of the organisation's `timestamp.json`, with which a new root comes; none if it is not at hand.
    pub timestamp: Option<u64>,
}

impl Held {
    /// The same as somebody was told of it; what is not told is as it is here.
    fn as_told(&self, assignment: Counter, heads: &SiteHeads) -> Self {
        let states = self.states.iter().map(|(group, own)| (group.clone(), heads.states.get(group).copied().max(*own)));
        let trust =
            Trust { revocations: heads.revocations.max(self.trust.revocations), timestamp: heads.timestamp.max(self.trust.timestamp) };
        Self { assignment: assignment.max(self.assignment), states: states.collect(), trust }
    }

    /// Whether there is something newer than this.
    fn lacks(&self, told: &Self) -> bool {
        let lacks_state = |(group, told): (&GroupName, &Option<Counter>)| self.states.get(group).is_some_and(|own| told > own);
        told.assignment > self.assignment
            || told.trust.revocations > self.trust.revocations
            || told.trust.timestamp > self.trust.timestamp
            || told.states.iter().any(lacks_state)
    }
}

impl Turn {
    /// The rule of a device that asks for the first time at `first`; `seed` makes its random choices reproducible.
    pub(super) fn new(device: DeviceId, interval: Duration, seed: u64, first: Instant) -> Self {
        Self {
            device,
            interval,
            seed: rendezvous::draw(seed, u64::MAX),
            draws: 0,
            next: Some((first, PollFor::Itself)),
            asked: PollFor::Itself,
            own: None,
            seed_time: None,
            polled_ms: None,
            early: None,
            doubt: None,
            failing: false,
            held: Held::default(),
            lacking: None,
        }
    }

    /// When it asks next; none while an answer is awaited.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.map(|(due, _)| due)
    }

    /// For whom it asks now, if it does.
    pub(super) fn take(&mut self, now: Instant) -> Option<PollFor> {
        let (_, poll) = self.next.take_if(|(due, _)| *due <= now)?;
        self.asked = poll;
        Some(poll)
    }

    /// The seed answered, at `at_ms` by its clock if it said so, and all of it was accepted. `phase` is when this device asks next
    /// if it asks once an interval; `misses_statement` says that it could not get a statement, for which it asks by itself.
    pub(super) fn on_polled(&mut self, now: Instant, at_ms: Option<u64>, phase: Instant, misses_statement: bool) {
        (self.own, self.failing, self.lacking) = (Some(now), false, None);
        self.seed_time = at_ms.map(|at_ms| (now, at_ms));
        // The seed's clock may have been set back.
        self.polled_ms = self.polled_ms.map(|polled| at_ms.map_or(polled, |at_ms| polled.min(at_ms)));
        if self.asked == PollFor::Site {
            (self.doubt, self.polled_ms) = (None, at_ms);
        }
        match self.doubt {
            None => self.next = Some((phase, PollFor::Site)),
            Some(_) => self.wait(misses_statement),
        }
        if let Some(poll) = self.early.take() {
            self.on_site_polled(now, &poll, misses_statement);
        }
    }

    /// The seed did not answer, or not all was accepted: it asks again at `again`.
    pub(super) fn on_failed(&mut self, again: Instant) {
        self.failing = true;
        self.next = Some((again, self.asked));
    }

    /// A neighbour polled for the site, as the seed says. Whether that counts for this device: then it waits.
    pub(super) fn on_site_polled(&mut self, now: Instant, poll: &SitePoll, misses_statement: bool) -> bool {
        let Some(assignment) = poll.heads.assignments.get(&self.device) else { return false };
        if self.seed_time.is_none() {
            self.early = Some(poll.clone());
            return false;
        }
        let Some(ago) = self.ago(now, poll.at_ms).filter(|_| self.polled_ms < Some(poll.at_ms)) else { return false };
        self.polled_ms = Some(poll.at_ms);
        let doubted = (self.interval * 3 / 2).saturating_sub(ago);
        let patience = self.draw((self.interval / 2).max(PATIENCE_MIN));
        self.doubt = Some(now + doubted + patience);
        let told = self.held.as_told(*assignment, &poll.heads);
        if !self.held.lacks(&told) {
            self.lacking = None;
        } else if self.lacking.as_ref().is_none_or(|(known, _)| *known != told) {
            let wait = if told.assignment > self.held.assignment { Duration::ZERO } else { HAND_OVER_TIME };
            let due = now + wait + self.draw(SOON);
            self.lacking = Some((told, due));
        }
        match &mut self.next {
            None => {}
            // It goes on asking until it is answered, but no longer for others.
            Some((_, poll)) if self.failing => *poll = PollFor::Itself,
            Some(_) => self.wait(misses_statement),
        }
        true
    }

    /// These documents are in force now.
    pub(super) fn on_state(&mut self, assignment: &AcceptedAssignment, states: &[AcceptedDesiredState], misses_statement: bool) {
        let assignment = assignment.assignment();
        let counter = |group: &GroupName| states.iter().map(AcceptedDesiredState::state).find(|state| state.group == *group);
        let groups = assignment.groups().into_iter();
        self.held.states = groups.map(|group| (group.clone(), counter(group).map(|state| state.counter))).collect();
        self.held.assignment = assignment.counter;
        self.on_held(misses_statement);
    }

    /// This is how far what decides whom this device trusts is now.
    pub(super) fn on_trust(&mut self, trust: Trust, misses_statement: bool) {
        self.held.trust = trust;
        self.on_held(misses_statement);
    }

    fn on_held(&mut self, misses_statement: bool) {
        let arrived = self.lacking.take_if(|(told, _)| !self.held.lacks(told)).is_some();
        if arrived && self.next.is_some() && self.doubt.is_some() && !self.failing {
            self.wait(misses_statement);
        }
    }

    /// Somebody else asks for the site.
    fn wait(&mut self, misses_statement: bool) {
        let (Some(own), Some(doubt)) = (self.own, self.doubt) else { return };
        let statement = misses_statement.then(|| own + self.interval);
        let lacking = self.lacking.as_ref().map(|(_, due)| *due);
        let itself = statement.into_iter().chain(lacking).fold(own + OWN_TIME.max(self.interval), Instant::min);
        self.next = Some(if doubt < itself { (doubt, PollFor::Site) } else { (itself, PollFor::Itself) });
    }

    /// How long ago the seed's clock said `at_ms`; none if the device does not know that clock well enough.
    fn ago(&self, now: Instant, at_ms: u64) -> Option<Duration> {
        let (then, seed_ms) = self.seed_time?;
        let since = u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX);
        let seed_now = seed_ms.saturating_add(since);
        (at_ms <= seed_now.saturating_add(AHEAD_MS_MAX)).then(|| Duration::from_millis(seed_now.saturating_sub(at_ms)))
    }

    fn draw(&mut self, limit: Duration) -> Duration {
        self.draws += 1;
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_micros(rendezvous::draw(self.seed, self.draws) % micros)
    }
}
