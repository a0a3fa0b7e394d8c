//! What may become of a rollout, and what its devices are told.
//!
//! ```text
//! pending ──resume──► running ◄──resume── paused       pending: fetched by all, started by none
//!    │                 │   └────pause──────►│
//!    └─────┬───────────┴────────────────────┘
//!          ├── every device done ──► done              (from running)
//!          ├── abort, too many failures ──► aborted
//!          └── rollback ──► rolled_back                (from any but rolled_back; the version before is rolled out)
//! ```
//!
//! Every change is a new signed desired state. A pause stops the clock of the steps.
//!
//! Not here: counting ([`mod@super::count`]) and judging ([`super::judge`]); two open rollouts of one app in one group, which the
//! store refuses.

use serde::{Deserialize, Serialize};

use super::judge::AbortRule;
use super::steps::{Share, Steps};
use super::window::Window;
use crate::name::{AppName, GroupName, RolloutId};
use crate::span::Span;
use crate::statement::desired::{Activation, Starts};
use crate::time::WallTime;

/// How long after the seed's last word a device that is cut off may go on to start a version by the steps, unless the
/// operator says otherwise, in seconds: a day, so that a night without the WAN delays nothing.
pub const START_WITHIN_SECONDS: u64 = 86_400;

/// The state of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// The devices fetch the version, and none may start it yet.
    Pending,
    /// Devices are on their way.
    Running,
    /// No further device starts for now.
    Paused,
    /// No further device starts any more; those that did go on with the version.
    Aborted,
    /// Every device is done.
    Done,
    /// The version before was rolled out instead.
    RolledBack,
}

impl RolloutState {
    /// Whether it keeps another rollout of the app from starting in the group.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Paused)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Aborted => "aborted",
            Self::Done => "done",
            Self::RolledBack => "rolled back",
        }
    }
}

/// What the operator decided at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Which share of the devices may start when.
    #[serde(default)]
    pub steps: Steps,
    /// The time of day in which devices may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// When the rollout is aborted because of failures; never without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortRule>,
    /// A device that did not say how it ended so long after its turn came counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<Span>,
    /// How long after the seed's last word a device may go on to start by the steps; [`START_WITHIN_SECONDS`] if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Span>,
    /// The devices only fetch the version, until the rollout is resumed.
    #[serde(default)]
    pub prefetch_only: bool,
}

/// A rollout of a version to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Identity, unique on the seed.
    pub id: RolloutId,
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: u64,
    /// The group.
    pub group: GroupName,
    /// When it started, in seconds since 1970.
    pub started: WallTime,
    /// Its state; running in records of before.
    #[serde(default = "running")]
    pub state: RolloutState,
    /// What the operator decided.
    #[serde(default)]
    pub plan: Plan,
    /// From when on the steps count, pauses taken off, in seconds since 1970; with `started` if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<WallTime>,
    /// When it was paused, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<WallTime>,
    /// Why it ended, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version that the group had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The share of the devices that might start when it was aborted or rolled back; none while it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_at_end: Option<Share>,
}

const fn running() -> RolloutState {
    RolloutState::Running
}

/// What an operator, or the judge, wants of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// No further device starts for now.
    Pause,
    /// Devices start again, or for the first time.
    Resume,
    /// No further device starts any more, for this reason.
    Abort(String),
    /// Every device is done.
    Complete,
    /// The group gets the version before; none below this floor.
    RollBack(Option<u64>),
}

/// Why a rollout does not do what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolloutRefused {
    /// Its state does not allow it.
    #[error("rollout {rollout} is {}, so it cannot be {wanted}; `hedgerow rollout status` says more", .state.word())]
    State {
        /// The rollout.
        rollout: RolloutId,
        /// Its state.
        state: RolloutState,
        /// What was wanted.
        wanted: &'static str,
    },
    /// There is nothing to go back to.
    #[error("group {group} had no version of {app} before rollout {rollout}; start a rollout of the version that it shall have")]
    NothingBefore {
        /// The rollout.
        rollout: RolloutId,
        /// The app.
        app: AppName,
        /// The group.
        group: GroupName,
    },
    /// The version before is below what the app's key allows.
    #[error(
        "version {version} of {app} is below the floor {floor} that its owner signed, so no device would start it; roll out version {floor} or a newer one"
    )]
    BelowFloor {
        /// The app.
        app: AppName,
        /// The version that was wanted.
        version: u64,
        /// The least that is allowed.
        floor: u64,
    },
}

/// Checks that a version may be rolled out under the floor that the app's key signed.
///
/// # Errors
/// When it is below.
pub fn check_floor(app: &AppName, version: u64, floor: Option<u64>) -> Result<(), RolloutRefused> {
    match floor.filter(|floor| version < *floor) {
        Some(floor) => Err(RolloutRefused::BelowFloor { app: app.clone(), version, floor }),
        None => Ok(()),
    }
}

impl Rollout {
    /// A rollout that starts now.
    pub fn start(id: RolloutId, (app, version): (AppName, u64), group: GroupName, plan: Plan, before: Option<u64>, now: WallTime) -> Self {
        let state = if plan.prefetch_only { RolloutState::Pending } else { RolloutState::Running };
        Self {
            id,
            app,
            version,
            group,
            started: now,
            state,
            plan,
            since: Some(now),
            paused: None,
            reason: None,
            before,
            share_at_end: None,
        }
    }

    /// The rollout after a command.
    ///
    /// # Errors
    /// With why it cannot be carried out, and what to do.
    pub fn after(&self, command: Command, now: WallTime) -> Result<Self, RolloutRefused> {
        use RolloutState::{Aborted, Done, Paused, Pending, RolledBack, Running};
        let refused = |wanted| Err(RolloutRefused::State { rollout: self.id.clone(), state: self.state, wanted });
        let next = self.clone();
        Ok(match (command, self.state) {
            (Command::Pause, Running) => Self { state: Paused, paused: Some(now), ..next },
            (Command::Pause, _) => return refused("paused"),
            (Command::Resume, Pending) => Self { state: Running, since: Some(now), ..next },
            (Command::Resume, Paused) => {
                let pause = now.as_unix_seconds().saturating_sub(self.paused.unwrap_or(now).as_unix_seconds());
                Self { state: Running, since: Some(self.since().plus_seconds(pause)), paused: None, ..next }
            }
            (Command::Resume, _) => return refused("resumed"),
            (Command::Abort(reason), Pending | Running | Paused) => {
                Self { state: Aborted, reason: Some(reason), share_at_end: Some(self.share(now)), ..next }
            }
            (Command::Abort(_), _) => return refused("aborted"),
            (Command::Complete, Running) => Self { state: Done, ..next },
            (Command::Complete, _) => return refused("completed"),
            (Command::RollBack(floor), Pending | Running | Paused | Aborted | Done) => {
                let Some(version) = self.before else {
                    let (rollout, app, group) = (self.id.clone(), self.app.clone(), self.group.clone());
                    return Err(RolloutRefused::NothingBefore { rollout, app, group });
                };
                check_floor(&self.app, version, floor)?;
                let reason = Some(format!("version {version} is rolled out instead"));
                Self { state: RolledBack, reason, share_at_end: Some(self.share(now)), ..next }
            }
            (Command::RollBack(_), RolledBack) => return refused("rolled back"),
        })
    }

    /// From when on the steps count.
    pub fn since(&self) -> WallTime {
        self.since.unwrap_or(self.started)
    }

    /// The share of the devices that may start now.
    pub fn share(&self, now: WallTime) -> Share {
        if let Some(ended) = self.share_at_end {
            return ended;
        }
        let clock = self.paused.unwrap_or(now);
        match self.state {
            RolloutState::Pending => Share::of(0, 1),
            RolloutState::Done => Share::of(1, 1),
            _ => self.plan.steps.share_at(clock.as_unix_seconds().saturating_sub(self.since().as_unix_seconds())),
        }
    }

    /// What its devices are told about starting, signed at `now`.
    pub fn activation(&self, now: WallTime) -> Activation {
        let starts = match self.state {
            RolloutState::Running => Starts::Open,
            RolloutState::Pending | RolloutState::Paused => Starts::Held,
            RolloutState::Aborted | RolloutState::RolledBack => Starts::Ended,
            RolloutState::Done => return Activation::default(),
        };
        let within = self.plan.start_within.map_or(START_WITHIN_SECONDS, Span::seconds);
        Activation {
            starts,
            since: self.since(),
            steps: self.plan.steps.clone(),
            window: self.plan.window,
            start_until: (starts == Starts::Open).then(|| now.plus_seconds(within)),
        }
    }

    /// Whether devices are to be told the version before: where all may start at once, none needs it.
    pub fn tells_before(&self) -> bool {
        match self.state {
            RolloutState::Running => !self.plan.steps.is_at_once() || self.plan.window.is_some(),
            RolloutState::Pending | RolloutState::Paused | RolloutState::Aborted => true,
            RolloutState::Done | RolloutState::RolledBack => false,
        }
    }

    /// Whether what was signed before is to be signed again, because devices may soon no longer start by it.
    pub fn is_renewal_due(&self, signed: &Activation, now: WallTime) -> bool {
        let within = self.plan.start_within.map_or(START_WITHIN_SECONDS, Span::seconds);
        self.state == RolloutState::Running && signed.start_until.is_some_and(|until| until <= now.plus_seconds(within / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> WallTime {
        WallTime::from_unix_seconds(1_000_000 + seconds)
    }

    fn rollout(plan: Plan) -> Rollout {
        let (app, group) = ("web".parse().unwrap(), GroupName::all());
        Rollout::start("r-1".parse().unwrap(), (app, 2), group, plan, Some(1), at(0))
    }

    fn staged() -> Rollout {
        rollout(Plan { steps: "10%,1h,100%".parse().unwrap(), ..Plan::default() })
    }

    #[test]
    fn a_pause_stops_the_clock_of_the_steps() {
        let running = staged();
        assert_eq!(running.activation(at(0)).starts, Starts::Open);
        let paused = running.after(Command::Pause, at(1_800)).unwrap();
        assert_eq!((paused.activation(at(9_000)).starts, paused.share(at(9_000)).to_string()), (Starts::Held, "10%".into()));
        assert_eq!(paused.activation(at(9_000)).start_until, None);
        let resumed = paused.after(Command::Resume, at(10_000)).unwrap();
        assert_eq!(resumed.activation(at(10_000)).since, at(8_200));
        assert_eq!((resumed.share(at(11_799)).to_string(), resumed.share(at(11_800)).to_string()), ("10%".into(), "100%".into()));
    }

    #[test]
    fn what_is_only_fetched_starts_when_it_is_resumed() {
        let pending = rollout(Plan { prefetch_only: true, ..Plan::default() });
        assert_eq!((pending.state, pending.activation(at(5)).starts), (RolloutState::Pending, Starts::Held));
        assert!(pending.after(Command::Pause, at(5)).is_err() && pending.after(Command::Complete, at(5)).is_err());
        let resumed = pending.after(Command::Resume, at(50)).unwrap();
        assert_eq!((resumed.state, resumed.activation(at(60)).since), (RolloutState::Running, at(50)));
    }

    #[test]
    fn what_ended_cannot_go_on_but_can_be_taken_back() {
        let aborted = staged().after(Command::Abort("too many".into()), at(1)).unwrap();
        assert_eq!((aborted.state, aborted.activation(at(1)).starts), (RolloutState::Aborted, Starts::Ended));
        for command in [Command::Pause, Command::Resume, Command::Abort(String::new()), Command::Complete] {
            assert!(matches!(aborted.after(command, at(2)), Err(RolloutRefused::State { .. })));
        }
        let done = staged().after(Command::Complete, at(1)).unwrap();
        assert_eq!(done.activation(at(1)), Activation::default(), "devices that come later start at once");
        for ended in [aborted, done] {
            let back = ended.after(Command::RollBack(Some(1)), at(3)).unwrap();
            assert_eq!(back.state, RolloutState::RolledBack);
            assert!(matches!(back.after(Command::RollBack(None), at(4)), Err(RolloutRefused::State { .. })));
        }
    }

    #[test]
    fn nobody_goes_back_below_the_floor_or_to_nothing() {
        let below = staged().after(Command::RollBack(Some(2)), at(1));
        assert_eq!(below, Err(RolloutRefused::BelowFloor { app: "web".parse().unwrap(), version: 1, floor: 2 }));
        let first = Rollout { before: None, ..staged() };
        assert!(matches!(first.after(Command::RollBack(None), at(1)), Err(RolloutRefused::NothingBefore { .. })));
    }

    #[test]
    fn start_until_is_renewed_while_the_rollout_runs() {
        let running = rollout(Plan { start_within: Some("2h".parse().unwrap()), ..Plan::default() });
        let signed = running.activation(at(0));
        assert_eq!(signed.start_until, Some(at(7_200)));
        assert!(!running.is_renewal_due(&signed, at(3_599)) && running.is_renewal_due(&signed, at(3_600)));
        let paused = running.after(Command::Pause, at(1)).unwrap();
        assert!(!paused.is_renewal_due(&paused.activation(at(1)), at(100_000)));
    }

    #[test]
    fn a_record_of_before_runs_for_everybody_at_once() {
        let old = r#"{"id":"r-00ff","app":"web","version":3,"group":"all","started":77}"#;
        let rollout: Rollout = serde_json::from_str(old).unwrap();
        assert_eq!((rollout.state, rollout.since().as_unix_seconds()), (RolloutState::Running, 77));
        assert!(rollout.plan.steps.is_at_once());
    }
}
