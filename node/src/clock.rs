//! The system's clocks, read in one place and handed to the machines as arguments.
//!
//! Not here: decisions about time.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use protocol::time::floor::{CheckedTime, TimeFloor};
use protocol::time::{Instant, WallTime};

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// The time since the start.
    pub fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The same moment in the async runtime's words.
    pub fn to_tokio(self, instant: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + instant.since(Instant::ZERO))
    }
}

/// A moment before every build of this program, 2026-11-01T00:00:00Z: no clock that is right says less. A build that is given
/// `SOURCE_DATE_EPOCH` takes that instead.
const BUILT_AFTER: u64 = 1_793_491_200;

/// A moment before this build of the program.
pub fn built_after() -> WallTime {
    let built = option_env!("SOURCE_DATE_EPOCH").and_then(|seconds| seconds.parse().ok()).unwrap_or(BUILT_AFTER);
    WallTime::from_unix_seconds(built)
}

/// The system's calendar clock, and how far it is trusted.
#[derive(Debug)]
pub struct TrustedClock {
    time: Mutex<Floored>,
    clock: fn() -> WallTime,
}

#[derive(Debug)]
struct Floored {
    floor: TimeFloor,
    /// Evidence beyond it is no evidence.
    until: WallTime,
}

impl TrustedClock {
    /// The clock of a process whose floor was `kept`. Evidence beyond `until` is no evidence.
    pub fn new(kept: Option<WallTime>, until: WallTime) -> Self {
        let floor = TimeFloor::new(built_after(), kept);
        Self { time: Mutex::new(Floored { floor, until }), clock: wall_time }
    }

    /// The same, for tests, with a clock that lost its battery.
    #[cfg(test)]
    pub(crate) fn lost() -> Self {
        Self { clock: || WallTime::from_unix_seconds(5), ..Self::new(None, WallTime::from_unix_seconds(u64::MAX)) }
    }

    fn time(&self) -> std::sync::MutexGuard<'_, Floored> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time that expiry is checked against, and whether the clock is trusted.
    pub fn read(&self) -> CheckedTime {
        self.time().floor.read((self.clock)())
    }

    /// Takes note that it is at least `verified`.
    pub fn verified(&self, verified: WallTime) {
        let mut time = self.time();
        let until = time.until;
        time.floor.verified(verified, until, (self.clock)());
    }

    /// Evidence counts up to `until` from now on.
    pub fn believe_until(&self, until: WallTime) {
        self.time().until = until;
    }

    /// The least that the time can be.
    pub fn floor(&self) -> WallTime {
        self.time().floor.floor()
    }
}

/// What the system believes the calendar says.
pub fn wall_time() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_seconds(since_epoch.as_secs())
}

/// The same, to the microsecond, for whoever writes it down.
pub fn timestamp() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Microsecond).unwrap_or(now)
}
