//! What is known of the time when a version may be started: the calendar, if it is trusted; and for bounds (expiry,
//! `start_until`) at least a time that cannot be too early, since whoever ignores a bound is the one that was cut off.
//!
//! Not here: how far a clock is trusted; see [`crate::time::floor`].

use super::Now;
use crate::time::{Instant, WallTime};

/// When the seed was last heard in this run, and how late it was then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard(Option<(Instant, WallTime)>);

/// What is known of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// What the calendar says; none if it is not trusted. Steps and windows go by it.
    pub(super) calendar: Option<WallTime>,
    /// What bounds are checked against: the calendar, or else the time that has passed since the seed was heard. None on a
    /// device that has neither: it cannot know that a bound is not over.
    pub(super) bound: Option<WallTime>,
}

impl Heard {
    /// The seed answered over a verified connection; `now` is at least what it said.
    pub(super) const fn note(&mut self, now: Now) {
        self.0 = Some((now.monotonic, now.wall.now));
    }

    /// What is known at `now`.
    pub(super) fn moment(self, now: Now) -> Moment {
        let calendar = now.calendar();
        let passed = |(at, wall): (Instant, WallTime)| wall.plus_seconds(now.monotonic.since(at).as_secs()).max(now.wall.now);
        Moment { calendar, bound: calendar.or_else(|| self.0.map(passed)) }
    }
}

impl Moment {
    /// Whether `until` is known to be still to come.
    pub(super) fn is_before(self, until: WallTime) -> bool {
        self.bound.is_some_and(|bound| bound < until)
    }
}
