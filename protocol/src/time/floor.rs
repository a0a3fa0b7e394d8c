//! The least that the time can be, from what was verified: a clock that lost its battery says 1970, and an attacker who sets
//! one back brings expired documents to life again.
//!
//! The clock is believed between two marks: not before the floor, and not far ahead of what was verified last. The time that
//! expiry is checked against is never before the floor, whatever the clock says; a clock that is ahead is used for expiry
//! (which refuses more, never less), but it is not trusted, so that it starts nothing early.
//!
//! Not here: what counts as verified, and where the floor is kept; see `node::clock`.

use super::WallTime;

/// A clock may be this far behind the floor and is still trusted, in seconds: the floor is as exact as a clock that is set
/// by hand, and time protocols keep within seconds.
pub const BEHIND_SECONDS_MAX: u64 = 600;

/// A clock may be this far ahead of what was verified last and is still trusted, in seconds: a device in the wrong time zone
/// is not.
pub const AHEAD_SECONDS_MAX: u64 = 1_800;

/// Whether what a clock says can be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeTrust {
    /// It fits what was verified.
    Trusted,
    /// It is before the floor.
    Behind,
    /// It was far ahead when the time was last verified.
    Ahead,
}

impl TimeTrust {
    /// Whether staged work may start by this clock.
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Trusted)
    }

    /// Its name, for logs and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Behind => "behind",
            Self::Ahead => "ahead",
        }
    }
}

/// The time to check expiry against, and whether the clock is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedTime {
    /// Never before the floor.
    pub now: WallTime,
    /// Whether staged work may start.
    pub trust: TimeTrust,
}

impl CheckedTime {
    /// The time of a clock that is trusted as it is, as on a seed.
    pub const fn trusted(now: WallTime) -> Self {
        Self { now, trust: TimeTrust::Trusted }
    }
}

/// The floor; it never goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeFloor {
    floor: WallTime,
    is_ahead: bool,
}

impl TimeFloor {
    /// The floor of a process that starts: the newest of what it was built after and what it kept.
    pub fn new(built: WallTime, kept: Option<WallTime>) -> Self {
        Self { floor: kept.map_or(built, |kept| kept.max(built)), is_ahead: false }
    }

    /// The least that the time can be.
    pub const fn floor(&self) -> WallTime {
        self.floor
    }

    /// Takes note that it is at least `verified`, while the clock says `clock`.
    ///
    /// `until` is the last moment that the source may speak for: the expiry of the newest verified root, so that a seed in
    /// the wrong hands cannot move the floor beyond what a new root puts right. Later evidence is no evidence.
    pub fn verified(&mut self, verified: WallTime, until: WallTime, clock: WallTime) {
        if verified > until {
            return;
        }
        self.floor = self.floor.max(verified);
        self.is_ahead = clock > self.floor.plus_seconds(AHEAD_SECONDS_MAX);
    }

    /// What a clock that says `clock` is good for.
    pub fn read(&self, clock: WallTime) -> CheckedTime {
        let trust = if clock.plus_seconds(BEHIND_SECONDS_MAX) < self.floor {
            TimeTrust::Behind
        } else if self.is_ahead {
            TimeTrust::Ahead
        } else {
            TimeTrust::Trusted
        };
        CheckedTime { now: clock.max(self.floor), trust }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: WallTime = WallTime::from_unix_seconds(1_000_000);
    const ROOT_EXPIRES: WallTime = WallTime::from_unix_seconds(9_000_000);
    const DAY: u64 = 86_400;

    fn after(seconds: u64) -> WallTime {
        BUILT.plus_seconds(seconds)
    }

    #[test]
    fn a_clock_before_the_build_or_what_was_kept_is_not_trusted_and_the_floor_stands_in_for_it() {
        let lost = WallTime::from_unix_seconds(5);
        for (kept, floor) in [(None, BUILT), (Some(after(DAY)), after(DAY)), (Some(lost), BUILT)] {
            let time = TimeFloor::new(BUILT, kept);
            assert_eq!(time.read(lost), CheckedTime { now: floor, trust: TimeTrust::Behind });
            assert_eq!(time.read(floor), CheckedTime::trusted(floor));
        }
    }

    #[test]
    fn a_clock_that_is_set_right_is_trusted_again_and_one_that_jumps_back_is_not() {
        let mut time = TimeFloor::new(BUILT, None);
        assert_eq!(time.read(after(0)).trust, TimeTrust::Trusted);
        time.verified(after(30 * DAY), ROOT_EXPIRES, after(0));
        assert_eq!(time.read(after(0)), CheckedTime { now: after(30 * DAY), trust: TimeTrust::Behind });
        let set = after(30 * DAY + 7);
        assert_eq!(time.read(set), CheckedTime::trusted(set));
        assert_eq!(time.read(after(29 * DAY)).trust, TimeTrust::Behind);
    }

    #[test]
    fn a_clock_a_little_behind_is_trusted_but_never_read_below_the_floor() {
        let mut time = TimeFloor::new(BUILT, None);
        time.verified(after(DAY), ROOT_EXPIRES, after(DAY));
        let clock = WallTime::from_unix_seconds(after(DAY).as_unix_seconds() - BEHIND_SECONDS_MAX);
        assert_eq!(time.read(clock), CheckedTime::trusted(after(DAY)));
    }

    #[test]
    fn a_clock_that_jumps_ahead_refuses_more_and_starts_nothing_until_the_time_is_verified_anew() {
        let mut time = TimeFloor::new(BUILT, None);
        let ahead = after(400 * DAY);
        time.verified(after(DAY), ROOT_EXPIRES, ahead);
        assert_eq!(time.read(ahead), CheckedTime { now: ahead, trust: TimeTrust::Ahead });
        assert_eq!(time.floor(), after(DAY), "the clock itself never raises the floor");
        time.verified(after(DAY + 60), ROOT_EXPIRES, after(DAY + 61));
        assert_eq!(time.read(after(DAY + 61)), CheckedTime::trusted(after(DAY + 61)));
    }

    #[test]
    fn the_floor_never_goes_back_and_never_beyond_the_root() {
        let mut time = TimeFloor::new(BUILT, None);
        time.verified(after(DAY), ROOT_EXPIRES, after(DAY));
        time.verified(after(5), ROOT_EXPIRES, after(DAY));
        assert_eq!(time.floor(), after(DAY));
        time.verified(ROOT_EXPIRES.plus_seconds(1), ROOT_EXPIRES, after(DAY));
        assert_eq!(time.floor(), after(DAY));
        assert_eq!(time.read(after(DAY)).trust, TimeTrust::Trusted, "what is no evidence says nothing of the clock");
    }
}
