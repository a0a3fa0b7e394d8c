//! What is asked of the seed: versions are rolled out in waves, paused, resumed, aborted and rolled back, floors are signed, and
//! now and then the seed is restored from a backup.
//!
//! Not here: what a rollout becomes of it; `protocol::rollout` decides that.

use protocol::name::{DeviceId, RolloutId};
use protocol::rollout::judge::{AbortRule, Verdict, judge};
use protocol::rollout::machine::{Command, Plan as RolloutPlan, Rollout, RolloutState, check_floor};

use super::agenda::Happening;
use super::checks::fleet::Wave;
use super::draws::Draws;
use super::seeded::SeededBug;
use super::world::{Verdict as Outcome, World};

const SECOND: u64 = 1_000_000;

/// How often the seed judges its rollout.
const JUDGE_EVERY: u64 = 10 * SECOND;

/// Something to do on the seed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Errand {
    /// Roll out a version.
    Start {
        version: u64,
    },
    /// Let the devices that wait start.
    Pause,
    Resume,
    Abort,
    RollBack,
    /// The app's key signs that no version below this one is started.
    Floor {
        version: u64,
    },
    /// The seed comes back from a backup that is a little old.
    Restore,
    /// The seed looks how its rollout fares.
    Judge,
}

impl World {
    /// Puts what the operator does into the agenda.
    pub(super) fn plan_errands(&mut self) {
        let mut draws = Draws::new(self.plan.seed, 2);
        let (end, newest) = (self.plan.heals_at, self.plan.newest());
        self.errand(0, Errand::Start { version: 1 });
        self.errand(JUDGE_EVERY, Errand::Judge);
        let part = end / newest.max(1);
        for version in 2..newest {
            self.errand((version - 1) * part + draws.below(part / 4), Errand::Start { version });
        }
        for _ in 0..draws.below(4) {
            let errand = draws.pick(&[Errand::Pause, Errand::Resume, Errand::Abort, Errand::RollBack]);
            let at = draws.below(end);
            self.errand(at, errand);
            if matches!(errand, Errand::Pause) {
                self.errand(at + draws.below(60 * SECOND), Errand::Resume);
            }
        }
        if draws.chance(300) {
            let version = draws.between(1, newest);
            self.errand(draws.below(end), Errand::Floor { version });
        }
        if self.plan.kinds.restored_seed {
            self.errand(draws.below(end), Errand::Restore);
        }
    }

    fn errand(&mut self, at: u64, errand: Errand) {
        self.agenda.push(at, Happening::Errand(errand));
    }

    /// Does it.
    pub(super) fn run_errand(&mut self, errand: Errand) -> Outcome {
        let now = self.wall();
        match errand {
            Errand::Start { version } => {
                let settled = self.seed.settled();
                return self.start_rollout(version, settled);
            }
            Errand::Pause => self.commanded(Command::Pause),
            Errand::Resume => self.commanded(Command::Resume),
            Errand::Abort => self.commanded(Command::Abort("the operator said so".to_owned())),
            Errand::RollBack => {
                let before = self.seed.rollout.as_ref().and_then(|rollout| rollout.before);
                let floor = self.seed.floor();
                if self.seed.command(Command::RollBack(floor), now)
                    && let Some(version) = before
                {
                    return self.start_rollout(version, None);
                }
            }
            Errand::Floor { version } => {
                let allowed = self.seed.rollout.as_ref().is_some_and(|rollout| rollout.version >= version);
                if allowed {
                    self.note(|| format!("the app's key signs floor {version}"));
                    self.seed.set_floor(version);
                    self.seed.seal(&self.library, now);
                }
            }
            Errand::Restore => {
                self.restored = true;
                self.note(|| "the seed comes back from a backup".to_owned());
                self.seed.restore(&self.library, now);
            }
            Errand::Judge => self.judge(),
        }
        Ok(())
    }

    fn commanded(&mut self, command: Command) {
        let (now, what) = (self.wall(), format!("{command:?}"));
        if self.seed.command(command, now) {
            self.note(|| format!("the operator: {what}"));
            self.seed.seal(&self.library, now);
        }
    }

    fn judge(&mut self) {
        let now = self.wall();
        self.errand(self.now + JUDGE_EVERY, Errand::Judge);
        let honest: Vec<usize> = self.honest().collect();
        let Some(count) = self.seed.count(now, honest.into_iter()) else { return };
        let verdict = self.seed.rollout.as_ref().map_or(Verdict::GoOn, |rollout| judge(rollout, &count));
        match verdict {
            Verdict::GoOn => {}
            Verdict::Complete => self.commanded(Command::Complete),
            Verdict::Abort(reason) => self.commanded(Command::Abort(reason)),
        }
        self.done_is_possible = true;
    }

    /// Whether the seed takes its rollout to be done.
    pub(super) fn is_rollout_done(&self) -> bool {
        self.seed.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Done)
    }

    fn start_rollout(&mut self, version: u64, before: Option<u64>) -> Outcome {
        let (now, app) = (self.wall(), self.seed.app.clone());
        if check_floor(&app, version, self.seed.floor()).is_err() {
            return Ok(());
        }
        self.rollouts += 1;
        let mut draws = Draws::new(self.plan.seed, 1000 + self.rollouts);
        let id: RolloutId = format!("r-{}-{}", self.plan.seed, self.rollouts).parse().map_err(|error| format!("{error}"))?;
        let names: Vec<DeviceId> = self.devices.iter().map(|device| device.name.clone()).collect();
        let wave = Wave::draw(&mut draws, &id, &names, self.healed);
        let text = wave.table(u16::from(self.bug == Some(SeededBug::WaveIncludesShare)));
        let steps = text.parse().map_err(|error| format!("{text}: {error}"))?;
        self.note(|| format!("rollout {id} of version {version}, {text}, before {before:?}"));
        let abort = Some(AbortRule::Threshold { max_failures: "20%".parse().map_err(|error| format!("{error}"))?, devices_min: 5 });
        let plan = RolloutPlan { steps, abort: abort.filter(|_| !self.healed && draws.chance(500)), ..RolloutPlan::default() };
        self.checks.fleet.plan(id.clone(), wave);
        self.seed.rollout = Some(Rollout::start(id, (app, version), protocol::name::GroupName::all(), plan, before, now));
        self.seed.seal(&self.library, now);
        Ok(())
    }
}
