//! The system's clocks, read in one place and handed to the machines as arguments.
//!
//! Not here: decisions about time.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use protocol::identity::standing::Validity;
use protocol::time::floor::{Bounds, CheckedTime, KeptFloor, TimeFloor};
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
    floor: Mutex<TimeFloor>,
    clock: fn() -> WallTime,
    monotonic: Clock,
}

impl TrustedClock {
    /// The clock of a process whose floor was `kept`, and whose newest verified metadata sets these bounds.
    pub fn new(kept: Option<KeptFloor>, bounds: Bounds) -> Self {
        let floor = TimeFloor::new(built_after(), bounds, kept);
        Self { floor: Mutex::new(floor), clock: wall_time, monotonic: Clock::start() }
    }

    /// The clock of a seed, which nobody tells the time.
    pub fn of_seed() -> Self {
        Self::new(None, Bounds::default())
    }

    /// The same, for tests, with a clock that lost its battery.
    #[cfg(test)]
    pub(crate) fn lost() -> Self {
        Self { clock: || WallTime::from_unix_seconds(5), ..Self::of_seed() }
    }

    fn time(&self) -> std::sync::MutexGuard<'_, TimeFloor> {
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time that expiry is checked against, and whether the clock is trusted.
    pub fn read(&self) -> CheckedTime {
        self.time().read((self.clock)(), self.monotonic.now())
    }

    /// Takes note that the seed says that it is `said`.
    pub fn heard(&self, said: WallTime) {
        self.time().heard(said, self.monotonic.now());
    }

    /// Newer metadata was verified.
    pub fn bound(&self, bounds: Bounds) {
        self.time().bound(bounds);
    }

    /// The moment at which a certificate of the seed is judged.
    pub fn seed_certificate_at(&self, leaf: Validity) -> WallTime {
        self.time().seed_certificate_at(leaf, (self.clock)())
    }

    /// The least that the time can be, to be kept for the next run.
    pub fn kept(&self) -> KeptFloor {
        self.time().kept()
    }
}

/// What the system believes the calendar says.
pub fn wall_time() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_seconds(since_epoch.as_secs())
}

/// The same, in milliseconds since 1970.
pub fn wall_millis() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The same, to the microsecond, for whoever writes it down.
pub fn timestamp() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Microsecond).unwrap_or(now)
}
