//! How often one client may ask: a token bucket, kept as the one moment when it is full again (the generic cell rate
//! algorithm of ATM Forum TM 4.0, §4.4.2).
//!
//! Not here: who counts as one client, and how many buckets are kept.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::time::Instant;

/// How often one client may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second that are let in for ever.
    pub per_second: NonZeroU32,
    /// Requests that are let in at once after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// What one request costs of the time: at least a microsecond, the resolution of the clock.
    fn interval(self) -> Duration {
        (Duration::from_secs(1) / self.per_second.get()).max(Duration::from_micros(1))
    }
}

/// What one client has left. A new one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// Takes one request out of the bucket.
    ///
    /// # Errors
    /// When it is empty: how long until there is one again.
    pub fn take(&mut self, now: Instant, rate: Rate) -> Result<(), Duration> {
        let interval = rate.interval();
        let full_at = self.full_at.max(now) + interval;
        let missing = full_at.since(now);
        match missing.checked_sub(interval * rate.burst.get()) {
            Some(wait) if !wait.is_zero() => Err(wait),
            Some(_) | None => {
                self.full_at = full_at;
                Ok(())
            }
        }
    }

    /// Whether nothing is missing, so that a new one would do as well.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    #[test]
    fn lets_in_a_burst_and_then_the_rate() {
        let (rate, start) = (rate(10, 3), Instant::from_micros(5_000_000));
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            bucket.take(start, rate).unwrap();
        }
        assert_eq!(bucket.take(start, rate), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        bucket.take(later, rate).unwrap();
        assert_eq!(bucket.take(later + Duration::from_millis(40), rate), Err(Duration::from_millis(60)));
    }

    #[test]
    fn a_refused_request_costs_nothing() {
        let (rate, start) = (rate(1, 1), Instant::ZERO);
        let mut bucket = Bucket::default();
        bucket.take(start, rate).unwrap();
        for _ in 0..100 {
            bucket.take(start, rate).unwrap_err();
        }
        bucket.take(start + Duration::from_secs(1), rate).unwrap();
    }

    #[test]
    fn a_pause_is_worth_one_burst_and_no_more() {
        let rate = rate(100, 5);
        let mut bucket = Bucket::default();
        bucket.take(Instant::ZERO, rate).unwrap();
        assert!(!bucket.is_full(Instant::ZERO));
        let rested = Instant::from_micros(3_600_000_000);
        assert!(bucket.is_full(rested));
        assert_eq!((0..50).filter(|_| bucket.take(rested, rate).is_ok()).count(), 5);
    }

    #[test]
    fn the_highest_rate_is_finite() {
        let rate = rate(u32::MAX, 1);
        let mut bucket = Bucket::default();
        bucket.take(Instant::ZERO, rate).unwrap();
        assert_eq!(bucket.take(Instant::ZERO, rate), Err(Duration::from_micros(1)));
    }
}
