//! Lengths of time as people write them: `90s`, `30m`, `1h`, `7d`.
//!
//! Not here: moments; see [`crate::time`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest length of time, in seconds: ten years, so that a sum of several stays far below the end of any clock.
pub const SPAN_SECONDS_MAX: u64 = 10 * 365 * 86_400;

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A length of time in whole seconds, at most [`SPAN_SECONDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Span(u64);

/// Why a text or number is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time; write a number of s, m, h or d, for example 30m, at most 3650d")]
pub struct SpanRefused(String);

impl Span {
    /// So many seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Span {
    type Error = SpanRefused;

    fn try_from(seconds: u64) -> Result<Self, SpanRefused> {
        if seconds <= SPAN_SECONDS_MAX { Ok(Self(seconds)) } else { Err(SpanRefused(format!("{seconds}s"))) }
    }
}

impl From<Span> for u64 {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = SpanRefused;

    fn from_str(text: &str) -> Result<Self, SpanRefused> {
        let refused = || SpanRefused(text.chars().take(80).collect());
        let unit = text.chars().next_back().ok_or_else(refused)?;
        let (_, seconds) = UNITS.iter().find(|(letter, _)| *letter == unit).ok_or_else(refused)?;
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        let count: u64 = digits.parse().map_err(|_| refused())?;
        count.checked_mul(*seconds).and_then(|seconds| Self::try_from(seconds).ok()).ok_or_else(refused)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, seconds) =
            UNITS.into_iter().find(|(_, seconds)| self.0 >= *seconds && self.0.is_multiple_of(*seconds)).unwrap_or(('s', 1));
        write!(f, "{}{letter}", self.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("30m", 1_800), ("1h", 3_600), ("7d", 604_800)] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.seconds(), span.to_string()), (seconds, text.to_owned()));
        }
        assert_eq!("120m".parse::<Span>().unwrap().to_string(), "2h");
        for wrong in ["", "h", "1", "1w", "-1h", "1.5h", "+1h", "3651d", "99999999999999999999s", "1é"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Span>("999999999999").is_err());
    }
}
