//! What becomes of an event that was offered to a receiver of webhooks, and when it is offered again.
//!
//! Not here: what an event says, and how it is sent.

use std::time::Duration;

/// The longest wait between two attempts: how long a receiver that is back may have to wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// The receiver has the event.
    Taken,
    /// It does not want this event: to send it again is no use, and it would hold up the others.
    Unwanted,
    /// It could not take it now.
    Again,
}

impl Offered {
    /// By the status of its answer. Redirections are not followed: headers with secrets would go where the settings do not say.
    pub const fn answered(status: u16) -> Self {
        match status {
            200..=299 => Self::Taken,
            400 | 413 | 422 => Self::Unwanted,
            _ => Self::Again,
        }
    }
}

/// How long to wait after the `failures`th failure in a row, the first being 0: twice as long each time, and a random half of
/// it less, so that seeds that failed together do not come back together.
pub fn backoff(first: Duration, failures: u32, random: u32) -> Duration {
    let longest = first.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(BACKOFF_MAX);
    let half = longest / 2;
    let more = half.as_nanos() * u128::from(random) / u128::from(u32::MAX);
    half + Duration::from_nanos(u64::try_from(more).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_are_never_less_than_half() {
        let first = Duration::from_secs(1);
        for (failures, longest) in [(0, 1), (1, 2), (3, 8), (6, 60), (31, 60), (32, 60), (u32::MAX, 60)] {
            let longest = Duration::from_secs(longest);
            assert_eq!(backoff(first, failures, u32::MAX), longest, "{failures}");
            assert_eq!(backoff(first, failures, 0), longest / 2, "{failures}");
        }
    }

    #[test]
    fn only_what_no_repetition_can_heal_is_dropped() {
        for (status, offered) in [
            (200, Offered::Taken),
            (204, Offered::Taken),
            (301, Offered::Again),
            (400, Offered::Unwanted),
            (401, Offered::Again),
            (404, Offered::Again),
            (413, Offered::Unwanted),
            (422, Offered::Unwanted),
            (429, Offered::Again),
            (500, Offered::Again),
            (503, Offered::Again),
        ] {
            assert_eq!(Offered::answered(status), offered, "{status}");
        }
    }
}
