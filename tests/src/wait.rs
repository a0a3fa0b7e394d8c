//! Waiting for something to become true, with a deadline.
//!
//! Not here: how long the product may take; a deadline only keeps a broken test from hanging.

use std::thread;
use std::time::{Duration, Instant};

/// Far more than anything takes, also on a busy machine: the longest is a neighbour that could not be called for gossip, which
/// is called again after a minute.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// The first value that `attempt` gives.
///
/// # Panics
/// When it gives none within [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", PATIENCE.as_secs());
        thread::sleep(PAUSE);
    }
}

/// Returns when `holds` does.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// Returns after `time` if `holds` did all along.
///
/// # Panics
/// When it does not once.
#[track_caller]
pub fn throughout(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(holds(), "did not last: {what}");
        thread::sleep(PAUSE);
    }
}
