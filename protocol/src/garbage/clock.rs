//! Whether the calendar is believed when something is about to be removed because of its age.
//!
//! Leases, the age of tags and what devices reported are all compared with the clock. A clock that jumps years ahead, after a
//! battery was lost or by a wrong time server, would make everything old at once. So a store keeps when it last
//! believed the clock, and believes it again while it goes on from there. What it does not believe removes nothing, until
//! the clock is right again or an operator says that it is.
//!
//! | the clock | |
//! |---|---|
//! | was never looked at | believed |
//! | went on by up to [`AHEAD_SECONDS_MAX`] | believed |
//! | went on by more | [`ClockDoubt::Ahead`] |
//! | went back by more than [`BACK_SECONDS_MAX`] | [`ClockDoubt::Back`] |
//!
//! Not here: keeping that moment, and what is told to whom.

use crate::time::WallTime;

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// By how much the clock may have gone on since it was last believed, in seconds: a seed looks every hour, so this is how
/// long it may have been off without being asked about. A clock that is wrong by less takes things so much too early.
pub const AHEAD_SECONDS_MAX: u64 = 7 * SECONDS_A_DAY;

/// By how much the clock may have gone back, in seconds: time servers correct a clock that ran fast.
pub const BACK_SECONDS_MAX: u64 = 60 * 60;

/// Why the clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockDoubt {
    /// It is far ahead of when it was last believed.
    #[error(
        "the clock went on by {} days since it was last looked at, so it may be wrong, and nothing is removed because of its age; set the \
         clock, or, if it is right because this seed was off for so long, say so with `hedgerow store gc --accept-clock`",
        seconds / SECONDS_A_DAY
    )]
    Ahead {
        /// By how much, in seconds.
        seconds: u64,
    },
    /// It is behind when it was last believed.
    #[error(
        "the clock went back by {} hours since it was last looked at, so it is or was wrong, and nothing is removed because of its age; \
         set the clock, or, if it is right now, say so with `hedgerow store gc --accept-clock`",
        seconds / 3600
    )]
    Back {
        /// By how much, in seconds.
        seconds: u64,
    },
}

/// Whether to believe that it is `now`, when it was `believed` at the last time that the clock was believed.
///
/// # Errors
/// With why not.
pub const fn believe(believed: Option<WallTime>, now: WallTime) -> Result<(), ClockDoubt> {
    let Some(believed) = believed else { return Ok(()) };
    let (believed, now) = (believed.as_unix_seconds(), now.as_unix_seconds());
    let (ahead, back) = (now.saturating_sub(believed), believed.saturating_sub(now));
    if ahead > AHEAD_SECONDS_MAX {
        Err(ClockDoubt::Ahead { seconds: ahead })
    } else if back > BACK_SECONDS_MAX {
        Err(ClockDoubt::Back { seconds: back })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: WallTime = WallTime::from_unix_seconds(1_800_000_000);

    #[test]
    fn a_clock_that_goes_on_is_believed_and_one_that_jumps_is_not() {
        assert_eq!(believe(None, THEN), Ok(()), "there is nothing to compare it with");
        assert_eq!(believe(Some(THEN), THEN), Ok(()));
        assert_eq!(believe(Some(THEN), THEN.plus_seconds(AHEAD_SECONDS_MAX)), Ok(()));
        let seconds = AHEAD_SECONDS_MAX + 1;
        assert_eq!(believe(Some(THEN), THEN.plus_seconds(seconds)), Err(ClockDoubt::Ahead { seconds }));
        assert_eq!(believe(Some(THEN.plus_seconds(BACK_SECONDS_MAX)), THEN), Ok(()));
        let seconds = BACK_SECONDS_MAX + 1;
        assert_eq!(believe(Some(THEN.plus_seconds(seconds)), THEN), Err(ClockDoubt::Back { seconds }));
        assert!(believe(Some(THEN), WallTime::default()).is_err());
    }
}
