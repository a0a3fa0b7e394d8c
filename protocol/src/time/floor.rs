//! The least that the time can be, from what was verified: a clock that lost its battery says 1970, and an attacker who sets
//! one back brings expired documents to life again.
//!
//! A floor that stands too high does harm too: everything looks expired, for as long as it takes the calendar to catch up. It
//! comes from the seed, whose own clock may be wrong, or which may be in the wrong hands. Hence:
//!
//! | rule | reason |
//! |---|---|
//! | What the seed says of the time (the `Date` of an answer over verified TLS) raises the floor only up to the expiry of the newest verified timestamp, and of the root | a wrong `Date` alone moves it by days at most; beyond that the seed must sign what is wrong |
//! | The floor belongs to an epoch; a root that raises the epoch puts it back to the time of the build | what the seed signed under a wrong clock ends with a signature of people, as a fast-forward does. No document of an earlier epoch is accepted any more, so that nothing old comes to life by it |
//! | Documents expire by the floor or the clock, whichever is later | refuses more, never less |
//! | The certificate of the seed is judged by the floor or the clock, whichever is *earlier*, and never before it begins | the way to the seed is the way to a new root: neither a floor nor a clock that is ahead may close it. A certificate that expired since is no key to anything: all that a device acts on is signed, and its reports are not secret from a seed's former key |
//! | A clock far from what the seed said last, or before the floor, is not trusted | staged work starts by the calendar, and is better late than early |
//!
//! Not here: what counts as verified, and where the floor is kept; see `node::clock`.

use super::WallTime;
use crate::identity::standing::Validity;

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
    /// It is before the floor, or before what the seed said last.
    Behind,
    /// It was far ahead of what the seed said last.
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

/// A floor as it is kept between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptFloor {
    /// The epoch under which it was reached; 0 in what a program without epochs kept, which every root ends.
    pub epoch: u64,
    /// The floor.
    pub floor: WallTime,
}

/// How far the newest verified metadata lets the floor go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The epoch that the root delegates.
    pub epoch: u64,
    /// The earliest expiry of root and timestamp; what is said of a time beyond it is no evidence. The beginning of the
    /// calendar while there is no timestamp.
    pub until: WallTime,
}

/// What the seed said of the time last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    said: WallTime,
    is_ahead: bool,
}

/// The floor; within an epoch it never goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeFloor {
    built: WallTime,
    bounds: Bounds,
    floor: WallTime,
    heard: Option<Heard>,
}

impl TimeFloor {
    /// The floor of a process that starts: the newest of what it was built after and what it kept of this epoch.
    pub fn new(built: WallTime, bounds: Bounds, kept: Option<KeptFloor>) -> Self {
        let kept = kept.filter(|kept| kept.epoch == bounds.epoch);
        Self { built, bounds, floor: kept.map_or(built, |kept| kept.floor.max(built)), heard: None }
    }

    /// The least that the time can be.
    pub const fn floor(&self) -> WallTime {
        self.floor
    }

    /// What to keep for the next run.
    pub const fn kept(&self) -> KeptFloor {
        KeptFloor { epoch: self.bounds.epoch, floor: self.floor }
    }

    /// Newer metadata was verified. A higher epoch begins with the time of the build.
    pub fn bound(&mut self, bounds: Bounds) {
        if bounds.epoch > self.bounds.epoch {
            self.floor = self.built;
        }
        self.bounds = bounds;
        self.raise();
    }

    /// The seed says that it is `said`, while the clock says `clock`.
    pub fn heard(&mut self, said: WallTime, clock: WallTime) {
        let is_ahead = clock > said.max(self.floor).plus_seconds(AHEAD_SECONDS_MAX);
        self.heard = Some(Heard { said, is_ahead });
        self.raise();
    }

    fn raise(&mut self) {
        if let Some(Heard { said, .. }) = self.heard.filter(|heard| heard.said <= self.bounds.until) {
            self.floor = self.floor.max(said);
        }
    }

    /// What a clock that says `clock` is good for.
    pub fn read(&self, clock: WallTime) -> CheckedTime {
        let least = self.heard.map_or(self.floor, |heard| heard.said.max(self.floor));
        let trust = if clock.plus_seconds(BEHIND_SECONDS_MAX) < least {
            TimeTrust::Behind
        } else if self.heard.is_some_and(|heard| heard.is_ahead) {
            TimeTrust::Ahead
        } else {
            TimeTrust::Trusted
        };
        CheckedTime { now: clock.max(self.floor), trust }
    }

    /// The moment at which a certificate of the seed is judged.
    pub fn seed_certificate_at(&self, leaf: Validity, clock: WallTime) -> WallTime {
        clock.min(self.floor).max(leaf.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: WallTime = WallTime::from_unix_seconds(1_000_000_000);
    const DAY: u64 = 86_400;
    const YEAR: u64 = 365 * DAY;

    fn after(seconds: u64) -> WallTime {
        BUILT.plus_seconds(seconds)
    }

    /// The floor under a timestamp that expires three days after `now`.
    fn at(now: u64) -> TimeFloor {
        TimeFloor::new(BUILT, bounds(1, now), None)
    }

    fn bounds(epoch: u64, now: u64) -> Bounds {
        Bounds { epoch, until: after(now + 3 * DAY) }
    }

    #[test]
    fn a_clock_before_the_build_or_what_was_kept_is_not_trusted_and_the_floor_stands_in_for_it() {
        let lost = WallTime::from_unix_seconds(5);
        for (kept, floor) in [(None, BUILT), (Some(after(DAY)), after(DAY)), (Some(lost), BUILT)] {
            let time = TimeFloor::new(BUILT, bounds(1, 0), kept.map(|floor| KeptFloor { epoch: 1, floor }));
            assert_eq!(time.read(lost), CheckedTime { now: floor, trust: TimeTrust::Behind });
            assert_eq!(time.read(floor), CheckedTime::trusted(floor));
        }
    }

    #[test]
    fn a_clock_that_is_set_right_is_trusted_again_and_one_that_jumps_back_is_not() {
        let mut time = at(30 * DAY);
        assert_eq!(time.read(after(0)).trust, TimeTrust::Trusted);
        time.heard(after(30 * DAY), after(0));
        assert_eq!(time.read(after(0)), CheckedTime { now: after(30 * DAY), trust: TimeTrust::Behind });
        let set = after(30 * DAY + 7);
        assert_eq!(time.read(set), CheckedTime::trusted(set));
        assert_eq!(time.read(after(29 * DAY)).trust, TimeTrust::Behind);
    }

    #[test]
    fn a_clock_a_little_behind_is_trusted_but_never_read_below_the_floor() {
        let mut time = at(DAY);
        time.heard(after(DAY), after(DAY));
        let clock = WallTime::from_unix_seconds(after(DAY).as_unix_seconds() - BEHIND_SECONDS_MAX);
        assert_eq!(time.read(clock), CheckedTime::trusted(after(DAY)));
    }

    #[test]
    fn a_clock_that_jumps_ahead_refuses_more_and_starts_nothing_until_the_seed_says_the_same() {
        let mut time = at(DAY);
        let ahead = after(400 * DAY);
        time.heard(after(DAY), ahead);
        assert_eq!(time.read(ahead), CheckedTime { now: ahead, trust: TimeTrust::Ahead });
        assert_eq!(time.floor(), after(DAY), "the clock itself never raises the floor");
        time.heard(after(DAY + 60), after(DAY + 61));
        assert_eq!(time.read(after(DAY + 61)), CheckedTime::trusted(after(DAY + 61)));
    }

    #[test]
    fn within_an_epoch_the_floor_never_goes_back() {
        let mut time = at(DAY);
        time.heard(after(DAY), after(DAY));
        time.heard(after(5), after(DAY));
        time.bound(bounds(1, 0));
        assert_eq!(time.floor(), after(DAY));
        assert_eq!(TimeFloor::new(BUILT, bounds(1, 0), Some(time.kept())).floor(), after(DAY));
    }

    #[test]
    fn a_date_a_year_ahead_moves_no_floor_and_starts_nothing_until_the_seed_is_right_again() {
        let mut time = at(0);
        time.heard(after(YEAR), after(60));
        assert_eq!(time.floor(), BUILT);
        assert_eq!(time.read(after(60)), CheckedTime { now: after(60), trust: TimeTrust::Behind });
        time.heard(after(120), after(120));
        assert_eq!(time.read(after(120)), CheckedTime::trusted(after(120)));
    }

    #[test]
    fn a_timestamp_signed_a_year_ahead_moves_the_floor_until_a_new_root_raises_the_epoch() {
        let mut time = at(0);
        time.heard(after(YEAR), after(60));
        time.bound(bounds(1, YEAR));
        assert_eq!(time.floor(), after(YEAR), "what was heard counts as soon as what was verified allows it");
        time.heard(after(120), after(120));
        assert_eq!(time.read(after(120)), CheckedTime { now: after(YEAR), trust: TimeTrust::Behind });

        let kept = time.kept();
        time.bound(bounds(2, 120));
        assert_eq!(time.read(after(130)), CheckedTime::trusted(after(130)));
        assert_eq!(TimeFloor::new(BUILT, bounds(2, 120), Some(kept)).floor(), BUILT, "also if it was not running then");
        time.bound(Bounds { epoch: 2, until: WallTime::default() });
        assert_eq!(time.floor(), after(120));
    }

    #[test]
    fn neither_a_floor_nor_a_clock_that_is_ahead_closes_the_way_to_the_seed() {
        let leaf = Validity { from: after(DAY), until: after(90 * DAY) };
        let mut time = at(YEAR);
        time.heard(after(YEAR), after(2 * DAY));
        let judged = |clock: u64| time.seed_certificate_at(leaf, after(clock));
        assert_eq!(judged(2 * DAY), after(2 * DAY), "the floor is ahead");
        assert_eq!(judged(0), leaf.from, "the clock is behind");
        assert_eq!(at(0).seed_certificate_at(leaf, after(YEAR)), leaf.from, "the clock is ahead");
        let long_over = Validity { from: after(0), until: after(DAY) };
        assert!(time.seed_certificate_at(long_over, after(2 * DAY)) > long_over.until, "what expired before both is refused");
    }
}
