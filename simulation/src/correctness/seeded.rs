//! Bugs that a run may be given, to prove that the checkers find them. None of them is in the product: each is put around a
//! machine by the driver, and does what the same mistake inside would do.
//!
//! | bug | is put in by |
//! |---|---|
//! | skip the unit check, store before check, trust the map of units after a crash | the driver, which does this work |
//! | keep a lapsed claim | times of lapse that never come |
//! | take over by time | a lapse as short as a stall, whether or not other claims progress |
//! | ignore `Release` | the driver, which does not hand it on |
//! | a ban never lapses | a ban without end |
//! | window off by one | a window with one span more |
//! | drop WAN re-entry | a number of unfulfilled requests that is never reached |
//! | wave `<` as `<=` | shares larger by the least step: of whole hundredths of a percent, `a <= b` is `a < b + 1` |
//! | accept an equal counter | the driver, which asks again without what was accepted before |
//!
//! Not here: finding them; see [`super::checks`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use protocol::swarm::parameters::Parameters;

/// A mistake that a run is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeededBug {
    /// Whatever a source sends is stored.
    SkipUnitCheck,
    /// A unit is stored, and only then checked.
    StoreBeforeCheck,
    /// After a crash each unit that the map names is taken to be there.
    TrustUnitMap,
    /// A claim without progress stands for ever.
    KeepLapsedClaim,
    /// A claim that stalls is taken over even if the WAN is slow for all.
    TakeOverByTime,
    /// A claim that its owner let go stands.
    IgnoreRelease,
    /// Who sent a wrong unit is never believed again.
    BanForEver,
    /// One span more than the window is claimed.
    WindowOffByOne,
    /// What a peer says it holds never comes back to the WAN.
    DropReEntry,
    /// A device in the position of the share starts with it.
    WaveIncludesShare,
    /// A document with the counter of the one in force takes its place.
    AcceptEqualCounter,
}

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

impl SeededBug {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::SkipUnitCheck,
        Self::StoreBeforeCheck,
        Self::TrustUnitMap,
        Self::KeepLapsedClaim,
        Self::TakeOverByTime,
        Self::IgnoreRelease,
        Self::BanForEver,
        Self::WindowOffByOne,
        Self::DropReEntry,
        Self::WaveIncludesShare,
        Self::AcceptEqualCounter,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipUnitCheck => "skip-unit-check",
            Self::StoreBeforeCheck => "store-before-check",
            Self::TrustUnitMap => "trust-unit-map",
            Self::KeepLapsedClaim => "keep-lapsed-claim",
            Self::TakeOverByTime => "take-over-by-time",
            Self::IgnoreRelease => "ignore-release",
            Self::BanForEver => "ban-for-ever",
            Self::WindowOffByOne => "window-off-by-one",
            Self::DropReEntry => "drop-re-entry",
            Self::WaveIncludesShare => "wave-includes-share",
            Self::AcceptEqualCounter => "accept-equal-counter",
        }
    }

    /// The parameters that a machine with this bug is made with, instead of `right`.
    pub(super) fn parameters(self, right: Parameters) -> Parameters {
        match self {
            Self::KeepLapsedClaim => Parameters { claim_stall: NEVER, claim_lapse: NEVER, ..right },
            Self::TakeOverByTime => Parameters { claim_lapse: right.claim_stall, ..right },
            Self::BanForEver => Parameters { ban: NEVER, ..right },
            Self::WindowOffByOne => {
                Parameters { window_spans: right.window_spans + 1, window_spans_max: right.window_spans_max + 1, ..right }
            }
            Self::DropReEntry => Parameters { unfulfilled_max: u32::MAX, ..right },
            _ => right,
        }
    }
}

impl fmt::Display for SeededBug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SeededBug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|bug| bug.name() == text).ok_or_else(|| format!("there is no bug {text:?}; there are {}", known()))
    }
}
