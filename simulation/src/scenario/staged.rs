//! The rollout of a scenario: what the operator decides, and how the version fares on devices.
//!
//! Not here: what comes of it; see [`crate::rollout`].

use anyhow::ensure;
use protocol::rollout::judge::{AbortRule, DEVICES_MIN};
use protocol::rollout::machine::Plan;
use protocol::rollout::steps::{Share, Steps};
use protocol::rollout::window::Window;
use protocol::span::Span;
use serde::Deserialize;

/// A table `[rollout]`: version 2 comes to a fleet that runs version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Staged {
    /// Which share of the devices may start it when, `"5%,10m,100%"` [default: everybody at once].
    pub steps: Option<Steps>,
    /// The time of day in which devices may start it, UTC, `"22:00-04:00"`; the rollout starts at midnight.
    pub window: Option<Window>,
    /// It is aborted when more than this share of the devices that ended failed, `"5%"` [default: never].
    pub abort: Option<Share>,
    /// A device that did not say how it ended so long after its turn came has failed, `"30m"`.
    pub silence: Option<String>,
    /// The devices only fetch it for so long after the start, `"2h"`, and start it then.
    pub prefetch: Option<String>,
    /// Between polls, in seconds [default: 300].
    pub poll_seconds: Option<u64>,
    /// How long a start takes until it is seen whether the version is healthy, in seconds [default: 30].
    pub start_seconds: Option<u64>,
    /// Devices, of a hundred, on which it is not healthy.
    pub fails_percent: Option<u64>,
    /// Devices, of a hundred, that say nothing any more once they started it.
    pub mute_percent: Option<u64>,
    /// The time of day in which devices are on the network, by the clock of their site, `"08:00-20:00"`: outside of it they
    /// reach no seed [default: always].
    pub online: Option<Window>,
    /// Time zones over which the sites are spread, one after the other, an hour apart to the east; the first is UTC
    /// [default: 1].
    pub time_zones: Option<u64>,
}

/// The same, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) plan: Plan,
    pub(crate) resume_after_seconds: u64,
    pub(crate) poll_seconds: u64,
    pub(crate) start_seconds: u64,
    pub(crate) fails_percent: u64,
    pub(crate) mute_percent: u64,
    pub(crate) online: Option<Window>,
    pub(crate) time_zones: u64,
}

impl Staged {
    /// This, and what `others` say where it says nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            steps: self.steps.or(others.steps),
            window: self.window.or(others.window),
            abort: self.abort.or(others.abort),
            silence: self.silence.or(others.silence),
            prefetch: self.prefetch.or(others.prefetch),
            poll_seconds: self.poll_seconds.or(others.poll_seconds),
            start_seconds: self.start_seconds.or(others.start_seconds),
            fails_percent: self.fails_percent.or(others.fails_percent),
            mute_percent: self.mute_percent.or(others.mute_percent),
            online: self.online.or(others.online),
            time_zones: self.time_zones.or(others.time_zones),
        }
    }

    pub(crate) fn checked(self) -> anyhow::Result<Rules> {
        let span = |key: &str, text: Option<String>| -> anyhow::Result<Option<Span>> {
            text.map(|text| text.parse::<Span>().map_err(|error| anyhow::anyhow!("`{key}`: {error}"))).transpose()
        };
        let (silence, prefetch) = (span("silence", self.silence)?, span("prefetch", self.prefetch)?);
        let plan = Plan {
            steps: self.steps.unwrap_or_default(),
            window: self.window,
            abort: self.abort.map(|max_failures| AbortRule::Threshold { max_failures, devices_min: DEVICES_MIN }),
            silence,
            prefetch_only: prefetch.is_some(),
            ..Plan::default()
        };
        let rules = Rules {
            plan,
            resume_after_seconds: prefetch.map_or(0, Span::seconds),
            poll_seconds: self.poll_seconds.unwrap_or(300),
            start_seconds: self.start_seconds.unwrap_or(30),
            fails_percent: self.fails_percent.unwrap_or(0),
            mute_percent: self.mute_percent.unwrap_or(0),
            online: self.online,
            time_zones: self.time_zones.unwrap_or(1),
        };
        ensure!((1..=86_400).contains(&rules.poll_seconds), "`poll_seconds` must be from 1 to 86400");
        ensure!(rules.start_seconds <= 86_400, "`start_seconds` must be at most 86400");
        ensure!(rules.fails_percent <= 100, "`fails_percent` must be at most 100");
        ensure!(rules.mute_percent <= 100, "`mute_percent` must be at most 100");
        ensure!((1..=24).contains(&rules.time_zones), "`time_zones` must be from 1 to 24");
        let tells = self.time_zones.is_none() || rules.online.is_some();
        ensure!(tells, "`time_zones` needs `online`: it is by the clock of their site that devices are on the network");
        let waits = rules.mute_percent == 0 || silence.is_some();
        ensure!(waits, "`mute_percent` needs `silence`: without it the rollout waits for ever for devices that say nothing");
        Ok(rules)
    }
}
