//! How slow a peer may be before it loses its place: a place that is held by somebody who reads nothing is lost to all others.
//!
//! Not here: who gets a place; see [`super::upload`].

use std::num::NonZeroU32;
use std::time::Duration;

use crate::rate_limit::Rate;

/// Bytes a second of the slowest reader that is served: eight of them at a time fit into an uplink of 2 Mbit/s, the slowest
/// of the field.
pub const READ_BYTES_PER_SECOND_MIN: u64 = 32 << 10;

/// What every reader has before that counts: a lost packet or a busy disk on a slow link takes seconds.
const GRACE: Duration = Duration::from_secs(10);

/// Requests of one peer that may be given up for its slowness before it is disconnected: one or two happen on a bad link.
pub const SLOW_READS_MAX: u32 = 3;

/// How long a peer that read too slowly is not let in again.
pub const SLOW_PEER_PAUSE: Duration = Duration::from_secs(60);

/// Control messages of one peer that are heard a second; the others wait. A site whose LAN has 10 Gbit/s needs about as many
/// for a blob with the smallest pieces; at this rate one peer that floods costs a small part of a processor.
pub const MESSAGES: Rate = Rate { per_second: MESSAGES_PER_SECOND, burst: MESSAGES_PER_SECOND };
const MESSAGES_PER_SECOND: NonZeroU32 = NonZeroU32::new(20_000).unwrap();

/// How long a peer may take to read `bytes`.
pub const fn time_for(bytes: u64) -> Duration {
    GRACE.saturating_add(Duration::from_millis(bytes.saturating_mul(1000) / READ_BYTES_PER_SECOND_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_nothing_is_given_up_and_who_reads_slowly_but_steadily_is_not() {
        assert_eq!(time_for(0), GRACE);
        assert_eq!(time_for(1 << 20), Duration::from_secs(42));
        assert!(time_for(u64::MAX) > time_for(4 << 20));
    }
}
