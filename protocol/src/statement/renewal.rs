//! When a document of the online key is signed anew: assignments, desired states and revocation lists.
//!
//! Not here: what stands in them; when the metadata is, see `node::trust::repository`.

use super::desired::Counter;
use crate::time::WallTime;
use crate::time::floor::AHEAD_SECONDS_MAX;

/// A document of the online key is acted on for this long without being renewed, in seconds: the longest that a taken seed can
/// freeze a fleet unseen.
pub const DOCUMENT_SECONDS: u64 = 14 * 86_400;

/// What is known of a document without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Its counter.
    pub counter: Counter,
    /// When it expires.
    pub expires: WallTime,
    /// The identity of the key that signed it.
    pub signed_by: &'a str,
}

/// What the newest root delegates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The epoch of the counters.
    pub epoch: u64,
    /// The identity of the online key.
    pub keyid: String,
}

/// Whether a document serves for now, for a seed whose online key is `own`. It does not when another key signed it, when its
/// epoch is over, when half of its life is, or when it lives for too long, because it was signed under a clock that was ahead.
/// A seed whose key the root does not name (yet) signs nothing anew: no device would take it.
pub fn is_current(kept: Kept<'_>, delegation: &Delegation, own: &str, now: WallTime) -> bool {
    let lives =
        kept.expires > now.plus_seconds(DOCUMENT_SECONDS / 2) && kept.expires <= now.plus_seconds(DOCUMENT_SECONDS + AHEAD_SECONDS_MAX);
    delegation.keyid != own || (kept.signed_by == own && kept.counter.epoch >= delegation.epoch && lives)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_seconds(1_000_000);

    #[test]
    fn what_another_key_signed_what_is_of_an_epoch_before_and_what_lives_too_short_or_too_long_is_signed_anew() {
        let delegation = Delegation { epoch: 2, keyid: "own".into() };
        let kept = |signed_by, epoch, seconds| Kept { counter: Counter { epoch, n: 1 }, expires: NOW.plus_seconds(seconds), signed_by };
        for (signed_by, epoch, seconds, expected) in [
            ("own", 2, DOCUMENT_SECONDS, true),
            ("own", 2, DOCUMENT_SECONDS / 2 + 1, true),
            ("other", 2, DOCUMENT_SECONDS, false),
            ("", 2, DOCUMENT_SECONDS, false),
            ("own", 1, DOCUMENT_SECONDS, false),
            ("own", 2, DOCUMENT_SECONDS / 2, false),
            ("own", 2, 365 * 86_400, false),
        ] {
            assert_eq!(is_current(kept(signed_by, epoch, seconds), &delegation, "own", NOW), expected, "{signed_by} {epoch} {seconds}");
        }
    }

    #[test]
    fn a_seed_whose_key_no_root_names_signs_nothing_anew() {
        let kept = Kept { counter: Counter { epoch: 1, n: 1 }, expires: NOW, signed_by: "before" };
        assert!(is_current(kept, &Delegation { epoch: 1, keyid: "before".into() }, "own", NOW));
    }
}
