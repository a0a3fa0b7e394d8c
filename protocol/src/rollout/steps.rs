//! The step table of a rollout: what share of its devices may start the version when, `10%,1h,50%,1d,100%`.
//!
//! Each device has a position in a rollout, from a hash of both; it may start once the share has grown past its position. So
//! a device needs nobody to tell it that its time has come, and other devices come first in another rollout.
//!
//! Not here: pauses, which move the moment from which time counts; see [`super::machine`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{DeviceId, RolloutId};
use crate::span::{Span, SpanRefused};

/// The most steps of a table: each device gets them all.
pub const STEPS_MAX: usize = 32;

const WHOLE: u16 = 10_000;

/// A share in hundredths of a percent, from 0 to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share(u16);

/// Shares and the seconds after the start from which on they hold; the first holds at once, the last is everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Steps(Vec<Step>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    share: Share,
    after_seconds: u64,
}

/// Why a text is no step table or no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepsRefused {
    /// A share is expected there.
    #[error("{0:?} is not a share of devices; write a percentage from 0% to 100%, for example 10% or 0.5%")]
    Share(String),
    /// A length of time is expected there.
    #[error(transparent)]
    Span(#[from] SpanRefused),
    /// The table does not go on to everybody.
    #[error("the steps must go up and end with 100%, for example 10%,1h,50%,1d,100%; to stop on the way, pause the rollout")]
    NotRising,
    /// There are too many.
    #[error("there are more than {STEPS_MAX} steps; use fewer")]
    TooMany,
}

impl Share {
    /// So many of `of`, in hundredths of a percent.
    pub fn of(part: u64, of: u64) -> Self {
        let share = u128::from(part) * u128::from(WHOLE) / u128::from(of.max(1));
        Self(u16::try_from(share).unwrap_or(WHOLE).min(WHOLE))
    }

    /// Whether `part` is a larger share of `of`.
    pub fn is_exceeded_by(self, part: u64, of: u64) -> bool {
        u128::from(part) * u128::from(WHOLE) > u128::from(self.0) * u128::from(of)
    }

    /// Whether it is past a device's position.
    pub fn includes(self, position: u64) -> bool {
        (u128::from(position) * u128::from(WHOLE)) >> 64 < u128::from(self.0)
    }
}

/// Where a device stands in a rollout, evenly over all numbers: the first 8 bytes of the SHA-256 of both names.
pub fn position(rollout: &RolloutId, device: &DeviceId) -> u64 {
    let hash = Digest::sha256(format!("{rollout} {device}").as_bytes());
    hash.as_bytes().iter().take(8).fold(0, |word, &byte| word << 8 | u64::from(byte))
}

impl Steps {
    /// Everybody at once.
    pub fn at_once() -> Self {
        Self(vec![Step { share: Share(WHOLE), after_seconds: 0 }])
    }

    /// Whether everybody may start at once, so that no clock is needed.
    pub fn is_at_once(&self) -> bool {
        self.0.first().is_some_and(|step| step.share == Share(WHOLE))
    }

    /// The share that may start `elapsed_seconds` after the beginning.
    pub fn share_at(&self, elapsed_seconds: u64) -> Share {
        self.0.iter().rev().find(|step| step.after_seconds <= elapsed_seconds).map_or(Share(0), |step| step.share)
    }

    /// How many seconds after the beginning a device in this position may start.
    pub fn reached_after(&self, position: u64) -> u64 {
        self.0.iter().find(|step| step.share.includes(position)).map_or(u64::MAX, |step| step.after_seconds)
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::at_once()
    }
}

impl FromStr for Share {
    type Err = StepsRefused;

    fn from_str(text: &str) -> Result<Self, StepsRefused> {
        let refused = || StepsRefused::Share(text.chars().take(80).collect());
        let number = text.strip_suffix('%').ok_or_else(refused)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "00"));
        let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole, 3) || !digits(part, 2) {
            return Err(refused());
        }
        let hundredths: u16 = format!("{whole}{part:0<2}").parse().map_err(|_| refused())?;
        if hundredths > WHOLE { Err(refused()) } else { Ok(Self(hundredths)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 100 {
            0 => write!(f, "{}%", self.0 / 100),
            part => write!(f, "{}.{}%", self.0 / 100, format!("{part:02}").trim_end_matches('0')),
        }
    }
}

impl FromStr for Steps {
    type Err = StepsRefused;

    fn from_str(text: &str) -> Result<Self, StepsRefused> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > 2 * STEPS_MAX {
            return Err(StepsRefused::TooMany);
        }
        let (mut steps, mut after_seconds) = (Vec::<Step>::new(), 0);
        for (index, part) in parts.iter().enumerate() {
            if index % 2 == 1 {
                after_seconds += part.parse::<Span>()?.seconds();
                continue;
            }
            let share: Share = part.parse()?;
            let rises = steps.last().is_none_or(|last| last.share < share && last.after_seconds < after_seconds);
            if !rises {
                return Err(StepsRefused::NotRising);
            }
            steps.push(Step { share, after_seconds });
        }
        let whole = steps.last().is_some_and(|last| last.share == Share(WHOLE)) && parts.len() % 2 == 1;
        if whole { Ok(Self(steps)) } else { Err(StepsRefused::NotRising) }
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = 0;
        for (index, step) in self.0.iter().enumerate() {
            if index > 0 {
                let wait = Span::try_from(step.after_seconds - before).map_err(|_| fmt::Error)?;
                write!(f, ",{wait},")?;
            }
            write!(f, "{}", step.share)?;
            before = step.after_seconds;
        }
        Ok(())
    }
}

macro_rules! as_text {
    ($type:ident) => {
        impl TryFrom<String> for $type {
            type Error = StepsRefused;

            fn try_from(text: String) -> Result<Self, StepsRefused> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

as_text!(Share);
as_text!(Steps);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_step_by_step() {
        let steps: Steps = "10%,1h,50%,1d,100%".parse().unwrap();
        let share = |elapsed| steps.share_at(elapsed).to_string();
        assert_eq!((share(0), share(3_599), share(3_600)), ("10%".into(), "10%".into(), "50%".into()));
        assert_eq!((share(90_000 - 1), share(90_000)), ("50%".into(), "100%".into()));
        assert!(!steps.is_at_once() && Steps::at_once().is_at_once());
    }

    #[test]
    fn a_device_starts_when_the_share_passes_its_position_and_all_do_in_the_end() {
        let steps: Steps = "10%,1h,50%,1d,100%".parse().unwrap();
        let rollout = "r-1".parse().unwrap();
        let positions: Vec<u64> = (0..10_000).map(|n| position(&rollout, &format!("d{n}").parse().unwrap())).collect();
        let started = |elapsed| positions.iter().filter(|position| steps.share_at(elapsed).includes(**position)).count();
        assert!((900..1_100).contains(&started(0)), "{}", started(0));
        assert!((4_800..5_200).contains(&started(3_600)), "{}", started(3_600));
        assert_eq!(started(90_000), 10_000);
        for position in positions.into_iter().chain([0, u64::MAX]) {
            let reached = steps.reached_after(position);
            assert!(steps.share_at(reached).includes(position));
            assert!(reached == 0 || !steps.share_at(reached - 1).includes(position));
        }
    }

    #[test]
    fn the_first_devices_are_others_in_another_rollout() {
        let of = |rollout: &str, n: u32| position(&rollout.parse().unwrap(), &format!("d{n}").parse().unwrap());
        let first = |rollout: &str| -> Vec<u32> { (0..1_000).filter(|n| Share(1_000).includes(of(rollout, *n))).collect() };
        assert_ne!(first("r-1"), first("r-2"));
    }

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for text in ["100%", "10%,1h,50%,1d,100%", "0.5%,30m,12.25%,1s,100%", "0%,1d,100%"] {
            assert_eq!(text.parse::<Steps>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "10%",
            "10%,1h",
            "10%,50%",
            "50%,1h,10%,1h,100%",
            "50%,0s,100%",
            "10%,1h,101%",
            "10,1h,100%",
            "1.234%,1h,100%",
            ".5%",
            "100%,1h",
        ] {
            assert!(bad.parse::<Steps>().is_err(), "{bad}");
        }
        let many = format!("{}100%", "0%,1s,".repeat(STEPS_MAX));
        assert_eq!(many.parse::<Steps>(), Err(StepsRefused::TooMany));
        assert_eq!((Share::of(1, 3).to_string(), Share::of(5, 0).to_string()), ("33.33%".into(), "100%".into()));
    }
}
