//! The time of day in which devices may start a version, `22:00-04:00`, in UTC.
//!
//! Not here: other conditions for a start; see [`crate::agent`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::WallTime;

const DAY_MINUTES: u16 = 24 * 60;

/// From one minute of the day up to another, over midnight if it comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    from: u16,
    until: u16,
}

/// Why a text is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time window; write HH:MM-HH:MM in UTC, for example 22:00-04:00")]
pub struct WindowRefused(String);

impl Window {
    /// Whether the moment is in it.
    pub const fn contains(self, moment: WallTime) -> bool {
        let minute = minute_of(moment);
        if self.from < self.until { self.from <= minute && minute < self.until } else { self.from <= minute || minute < self.until }
    }

    /// The moment at which it opens next, after one that is outside.
    pub const fn opens_after(self, moment: WallTime) -> WallTime {
        let wait = (self.from + DAY_MINUTES - minute_of(moment)) % DAY_MINUTES;
        let wait = if wait == 0 { DAY_MINUTES } else { wait };
        let whole_minute = moment.as_unix_seconds() / 60 * 60;
        WallTime::from_unix_seconds(whole_minute.saturating_add(wait as u64 * 60))
    }
}

const fn minute_of(moment: WallTime) -> u16 {
    (moment.as_unix_seconds() / 60 % DAY_MINUTES as u64) as u16
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |text: &str| if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u16>().ok() } else { None };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

impl FromStr for Window {
    type Err = WindowRefused;

    fn from_str(text: &str) -> Result<Self, WindowRefused> {
        let window = text.split_once('-').and_then(|(from, until)| Some(Self { from: minute(from)?, until: minute(until)? }));
        window.filter(|window| window.from != window.until).ok_or_else(|| WindowRefused(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.until / 60, self.until % 60)
    }
}

impl TryFrom<String> for Window {
    type Error = WindowRefused;

    fn try_from(text: String) -> Result<Self, WindowRefused> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(hours: u64, minutes: u64) -> WallTime {
        WallTime::from_unix_seconds(86_400 * 20_000 + hours * 3_600 + minutes * 60 + 7)
    }

    #[test]
    fn contains_its_minutes_also_over_midnight() {
        let night: Window = "22:00-04:00".parse().unwrap();
        assert!(night.contains(at(22, 0)) && night.contains(at(3, 59)) && !night.contains(at(4, 0)) && !night.contains(at(21, 59)));
        let noon: Window = "11:30-12:30".parse().unwrap();
        assert!(noon.contains(at(11, 30)) && !noon.contains(at(12, 30)));
    }

    #[test]
    fn opens_at_the_next_time_it_begins() {
        for (text, now) in [("22:00-04:00", at(4, 0)), ("22:00-04:00", at(21, 59)), ("11:30-12:30", at(12, 30)), ("00:00-00:01", at(0, 1))]
        {
            let window: Window = text.parse().unwrap();
            let opens = window.opens_after(now);
            assert!(!window.contains(now) && opens > now && window.contains(opens), "{text}");
            assert!(!window.contains(WallTime::from_unix_seconds(opens.as_unix_seconds() - 1)), "{text}");
        }
    }

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        assert_eq!("22:00-04:05".parse::<Window>().unwrap().to_string(), "22:00-04:05");
        for bad in ["", "22:00", "24:00-01:00", "22:60-01:00", "2:00-03:00", "10:00-10:00", "+1:00-02:00"] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }
}
