//! One run of a scenario: everything is set up, the links are measured, the version is rolled out, and what happens is watched.
//!
//! Not here: how what was seen is judged; see [`super::outcome`].

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::direct::{self, Direct};
use super::faults::Trouble;
use super::fleet::Fleet;
use super::image::Image;
use super::interrupt;
use super::network::Network;
use super::outcome::{Outcome, Seen, float};
use super::process::{Process, command_in};
use super::relay::PORT;
use super::scenario::{Scenario, Settings, Start};

/// Between two looks: what figures in seconds may be wrong by.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks at memory, and at whether all still run.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two lines of progress.
const SAY_INTERVAL: Duration = Duration::from_secs(5);
/// What polls cost is counted this long before the rollout.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// A run that is not done after so many times of what the WAN needs has failed, and this much more.
const TIMES_MAX: f64 = 8.0;
const MORE_MAX: Duration = Duration::from_secs(90);
/// When the last device of [`Start::LastLate`] starts.
const LATE_SHARE: f64 = 0.5;

/// What the lab runs.
pub(super) struct Programs {
    /// The shipped binary.
    pub(super) hedgerow: PathBuf,
    /// Hostile devices.
    pub(super) hostile: PathBuf,
    /// This program.
    pub(super) tools: PathBuf,
}

/// A run that goes on.
struct Trial<'a> {
    scenario: &'a Scenario,
    settings: &'a Settings,
    network: &'a Network,
    image: &'a Image,
    fleet: Fleet<'a>,
    direct: Direct,
    /// For each device, what it still misses, and when it started, since 1970.
    missing: Vec<Vec<PathBuf>>,
    started_at: Vec<Option<f64>>,
}

/// Runs `scenario` once in a fresh network, with all files in `work`; what the links bring is measured, unless it is known.
pub(super) fn run(
    scenario: &Scenario,
    settings: &Settings,
    programs: &Programs,
    network: &Network,
    work: &Path,
    known: Option<Direct>,
) -> Result<Outcome> {
    let image = Image::make(&work.join("image"), settings.seed, settings.bytes, settings.layers())?;
    let mut relay = start_relay(settings, programs, network, work)?;
    let mut fleet = Fleet::set_up(scenario, settings, programs, network, work, &image)?;
    let direct = known.map_or_else(|| direct::measure(&fleet, programs, network, settings, &image), Ok)?;
    let megabits = |rate: f64| rate * 8.0 / 1e6;
    eprintln!(
        "lab: plain HTTPS over the WAN {:.2} Mbit/s ({:.1} s), plain TCP over the LAN {:.1} Mbit/s",
        megabits(direct.wan_rate),
        direct.seconds,
        megabits(direct.lan_rate)
    );
    fleet.start_hostile()?;
    let data = fleet.devices.iter().map(|device| image.content().map(|blob| blob.in_data(&device.data)).collect());
    let missing = data.collect();
    let started_at = vec![None; fleet.devices.len()];
    let mut trial = Trial { scenario, settings, network, image: &image, fleet, direct, missing, started_at };
    let outcome = trial.go(programs, work);
    if let Some(relay) = &mut relay {
        relay.check()?;
    }
    outcome
}

fn start_relay(settings: &Settings, programs: &Programs, network: &Network, work: &Path) -> Result<Option<Process>> {
    if settings.rtt_ms == 0 {
        return Ok(None);
    }
    let mut command = command_in(&network.relay(), &programs.tools);
    command.args(["lab", "relay", "--delay-us", &(settings.rtt_ms * 500).to_string()]);
    for (side, number) in [("--left", 1), ("--right", 2)] {
        command.args([side, &format!("10.99.{number}.2:{PORT}"), &format!("10.99.{number}.1:{PORT}")]);
    }
    Process::start("relay", work, &mut command).map(Some)
}

impl Trial<'_> {
    fn go(&mut self, programs: &Programs, work: &Path) -> Result<Outcome> {
        let first = self.first_starters();
        for number in first {
            self.start(number)?;
        }
        self.fleet.await_ready()?;
        self.fleet.settle()?;
        let poll_rate = self.poll_rate()?;
        let mut watcher = self.watch_seed(programs, work)?;
        let before = self.received()?;
        let rolled_out_at = direct::now();
        self.fleet.roll_out()?;
        let done_at = self.watch(&before)?;
        let after = self.received()?;
        let first_byte_at = first_byte(&mut watcher)?;
        let wan_bytes = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        let mut seen = Seen {
            direct: self.direct,
            rolled_out_at,
            first_byte_at,
            done_at,
            last_start_at: self.started_at.iter().flatten().copied().fold(0.0, f64::max),
            poll_bytes: poll_rate * (done_at - rolled_out_at),
            wan_bytes,
            rss_bytes: Vec::new(),
        };
        for process in self.fleet.processes() {
            process.sample();
            seen.rss_bytes.push((process.name.clone(), process.peak_bytes));
        }
        let seed_before = self.fleet.seed.peak_bytes;
        seen.rss_bytes.iter_mut().filter(|(name, _)| name == "seed").for_each(|(_, bytes)| *bytes = seed_before.max(*bytes));
        Ok(Outcome::of(self.scenario, self.settings, self.image, &self.fleet, &seen))
    }

    /// The devices that run before the rollout starts.
    fn first_starters(&self) -> Vec<usize> {
        let last = self.settings.devices - 1 - u32::try_from(self.scenario.hostile.len()).unwrap_or(0);
        let starts = |index: u32| match self.scenario.start {
            Start::Together => true,
            Start::Staggered => index == 0,
            Start::LastLate => index != last,
        };
        (0..self.fleet.devices.len()).filter(|number| starts(self.fleet.devices[*number].index)).collect()
    }

    fn start(&mut self, number: usize) -> Result<()> {
        self.started_at[number] = Some(direct::now());
        self.fleet.start_device(number)
    }

    fn received(&self) -> Result<Vec<u64>> {
        (0..self.settings.sites).map(|site| self.network.wan_received(site)).collect()
    }

    /// Bytes per second that polls bring to a site: the most of all sites.
    fn poll_rate(&self) -> Result<f64> {
        let before = self.received()?;
        interrupt::sleep(IDLE_TIME)?;
        let most = self.received()?.iter().zip(&before).map(|(after, before)| after - before).max().unwrap_or(0);
        Ok(float(most) / IDLE_TIME.as_secs_f64())
    }

    /// Starts what says when the seed hands out the first byte.
    fn watch_seed(&self, programs: &Programs, work: &Path) -> Result<Process> {
        let mut command = command_in(&self.network.seed(), &programs.tools);
        let mut watcher = Process::start("first-byte", work, command.args(["lab", "first-byte", &self.fleet.seed.metrics]))?;
        watcher.first_line()?;
        Ok(watcher)
    }

    /// Watches until every device that is not killed has everything; when that was, since 1970.
    fn watch(&mut self, before: &[u64]) -> Result<f64> {
        let content = float(self.image.bytes());
        let limit = Duration::from_secs_f64(content / self.direct.wan_rate * TIMES_MAX) + MORE_MAX;
        let begun = Instant::now();
        let (mut checked, mut said) = (begun, begun);
        let mut trouble = Trouble::new(self.scenario.fault);
        loop {
            interrupt::sleep(LOOK_INTERVAL)?;
            let now = direct::now();
            let received = self.received()?;
            let least = received.iter().zip(before).map(|(after, before)| after - before).min().unwrap_or(0);
            let copied = float(least) / content;
            trouble.step(copied, &mut self.fleet, self.network, self.settings)?;
            self.start_late(copied, begun.elapsed())?;
            let (done, all) = self.done();
            if done == all && trouble.is_over() {
                return Ok(now);
            }
            if checked.elapsed() >= CHECK_INTERVAL {
                checked = Instant::now();
                self.check()?;
            }
            if said.elapsed() >= SAY_INTERVAL {
                said = Instant::now();
                eprintln!("lab: {:.0} % of a copy over the WAN, {done} of {all} devices done", copied * 100.0);
            }
            if begun.elapsed() > limit {
                bail!("{done} of {all} devices were done after {} s; the end of a log:\n{}", limit.as_secs(), self.tail());
            }
        }
    }

    /// Starts devices whose time has come.
    fn start_late(&mut self, copied: f64, since: Duration) -> Result<()> {
        let copy_seconds = float(self.image.bytes()) / self.direct.wan_rate;
        for number in 0..self.fleet.devices.len() {
            if self.started_at[number].is_some() {
                continue;
            }
            let due = match self.scenario.start {
                Start::Together => true,
                Start::Staggered => {
                    let share = f64::from(self.fleet.devices[number].index) / f64::from(self.settings.devices);
                    since.as_secs_f64() >= share * copy_seconds
                }
                Start::LastLate => copied >= LATE_SHARE,
            };
            if due {
                self.start(number)?;
            }
        }
        Ok(())
    }

    /// How many of the devices that count have everything.
    fn done(&mut self) -> (usize, usize) {
        let alive = self.fleet.devices.iter().zip(&mut self.missing).filter(|(device, _)| !device.is_killed);
        let left: Vec<usize> = alive
            .map(|(_, missing)| {
                missing.retain(|path| !path.is_file());
                missing.len()
            })
            .collect();
        (left.iter().filter(|missing| **missing == 0).count(), left.len())
    }

    fn check(&mut self) -> Result<()> {
        let killed: Vec<String> = self.fleet.devices.iter().filter(|device| device.is_killed).map(|device| device.name.clone()).collect();
        for process in self.fleet.processes().filter(|process| !killed.contains(&process.name)) {
            process.sample();
            process.check()?;
        }
        Ok(())
    }

    /// The end of the log of a device that is not done.
    fn tail(&self) -> String {
        let late = self.fleet.devices.iter().zip(&self.missing).find(|(device, missing)| !device.is_killed && !missing.is_empty());
        late.and_then(|(device, _)| device.process.as_ref())
            .map_or_else(String::new, |process| format!("{}:\n{}", process.name, process.tail()))
    }
}

fn first_byte(watcher: &mut Process) -> Result<f64> {
    let text = watcher.written()?;
    let time = text.lines().nth(1).context("the seed handed out no blob, but all devices are done")?;
    time.parse().with_context(|| format!("what says when the first byte came wrote {time:?}"))
}
