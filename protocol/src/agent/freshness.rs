//! Whether what the device acts on is stale: for seven days nothing that its seed said could be accepted.
//!
//! Whoever withholds what is new, the seed itself or somebody on the way to it, cannot be told from one who has nothing new,
//! until something expires that he cannot sign: the timestamp for somebody on the way, the roles that people sign for the seed.
//! From then on no answer counts. So a freeze shows at the latest seven days after that, and a site that is cut off seven days
//! after it was.
//!
//! Not here: what can be accepted; see [`crate::statement`].

use crate::time::{Instant, WallTime};

use super::Now;

/// After this long without an answer that could be accepted, in seconds, a device is stale: a week is longer than the outages
/// that heal by themselves, and than a timestamp and a snapshot live.
pub const STALE_SECONDS: u64 = 7 * 86_400;

/// The moment of the last such answer is kept when it has moved by this much, in seconds: an hour lost in a crash is little, and
/// flash wears.
const KEPT_STEP_SECONDS: u64 = 3_600;

/// What is known of it.
#[derive(Debug)]
pub(super) struct Freshness {
    /// By the calendar, in this run or one before.
    last: Option<WallTime>,
    /// By the monotonic clock, in this run; its start at first.
    since: Instant,
    kept: Option<WallTime>,
    /// When the first of the roles expires that people sign.
    expires: Option<WallTime>,
    /// It stays so until an answer was accepted, also if the calendar is no longer trusted by then.
    stale: bool,
    told: bool,
}

impl Freshness {
    pub(super) const fn new(now: Instant, kept: Option<WallTime>) -> Self {
        Self { last: kept, since: now, kept, expires: None, stale: false, told: false }
    }

    pub(super) const fn on_roles(&mut self, expires: Option<WallTime>) {
        self.expires = expires;
    }

    /// All that the seed said was accepted. The moment to keep, if it is due.
    pub(super) fn on_accepted(&mut self, now: Now) -> Option<WallTime> {
        let has_expired = now.calendar().zip(self.expires).is_some_and(|(calendar, expires)| expires <= calendar);
        if has_expired {
            return None;
        }
        (self.stale, self.since) = (false, now.monotonic);
        self.last = now.calendar().or(self.last);
        let is_kept =
            |calendar: WallTime| self.kept.is_some_and(|kept| kept <= calendar && calendar < kept.plus_seconds(KEPT_STEP_SECONDS));
        let due = now.calendar().filter(|calendar| !is_kept(*calendar))?;
        self.kept = Some(due);
        Some(due)
    }

    /// Whether it is stale at `now`.
    fn is_stale(&mut self, now: Now) -> bool {
        let by_calendar = now.calendar().zip(self.last).is_some_and(|(calendar, last)| calendar >= last.plus_seconds(STALE_SECONDS));
        self.stale |= by_calendar || now.monotonic.since(self.since).as_secs() >= STALE_SECONDS;
        self.stale
    }

    /// Whether it is stale, if that is news.
    pub(super) fn news(&mut self, now: Now) -> Option<bool> {
        let is_stale = self.is_stale(now);
        (std::mem::replace(&mut self.told, is_stale) != is_stale).then_some(is_stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::floor::{CheckedTime, TimeTrust};
    use std::time::Duration;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Now {
        Now {
            monotonic: Instant::ZERO + Duration::from_secs(seconds),
            wall: CheckedTime::trusted(WallTime::from_unix_seconds(1_000_000 + seconds)),
        }
    }

    fn blind(now: Now) -> Now {
        Now { wall: CheckedTime { trust: TimeTrust::Behind, ..now.wall }, ..now }
    }

    #[test]
    fn a_device_is_stale_after_seven_days_without_an_answer_and_fresh_with_the_next() {
        let mut freshness = Freshness::new(Instant::ZERO, None);
        assert_eq!(freshness.on_accepted(at(0)), at(0).calendar());
        assert_eq!(freshness.news(at(7 * DAY - 1)), None);
        assert_eq!((freshness.news(at(7 * DAY)), freshness.news(at(8 * DAY))), (Some(true), None));
        freshness.on_accepted(at(8 * DAY));
        assert_eq!(freshness.news(at(8 * DAY)), Some(false));
    }

    #[test]
    fn answers_do_not_count_once_a_role_has_expired_that_people_sign() {
        let mut freshness = Freshness::new(Instant::ZERO, None);
        freshness.on_roles(at(3 * DAY).calendar());
        for day in 0..20 {
            freshness.on_accepted(at(day * DAY));
            assert_eq!(freshness.is_stale(at(day * DAY)), day >= 2 + 7, "day {day}");
        }
        freshness.on_roles(at(99 * DAY).calendar());
        freshness.on_accepted(at(20 * DAY));
        assert!(!freshness.is_stale(at(20 * DAY)));
    }

    #[test]
    fn what_an_earlier_run_kept_counts_and_is_kept_anew_once_an_hour() {
        let mut freshness = Freshness::new(Instant::ZERO, at(0).calendar());
        let started = Now { monotonic: Instant::ZERO, ..at(7 * DAY) };
        assert!(freshness.is_stale(started), "the device was off");
        assert!(freshness.is_stale(blind(started)), "a calendar that is no longer trusted makes nothing fresh");
        let kept: Vec<u64> = (0..180).filter(|minute| freshness.on_accepted(at(7 * DAY + minute * 60)).is_some()).collect();
        assert_eq!(kept, [0, 60, 120]);
    }

    #[test]
    fn without_a_calendar_the_time_since_the_start_counts() {
        let blind = |seconds| blind(at(seconds));
        let mut freshness = Freshness::new(Instant::ZERO, at(0).calendar());
        assert!(!freshness.is_stale(blind(6 * DAY)) && freshness.is_stale(blind(7 * DAY)));
        assert_eq!(freshness.on_accepted(blind(7 * DAY)), None);
        assert!(!freshness.is_stale(blind(8 * DAY)));
    }
}
