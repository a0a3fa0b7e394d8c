//! Verified: the counters of the documents that a device acts on never go back, and with an equal one the document is the
//! same; the counters of its reports go up; nothing below the floor that it knows is started; what is started is whole; and a
//! device starts a version of a rollout in waves only when its turn has come by the table that the operator wrote, with a
//! clock that is not far off, or never did before.
//!
//! The turn is computed here anew, from the hash of rollout and device, in exact integers.
//!
//! Not verified: waves of a device that has a wrong clock and has not heard from its seed since it was started, for which
//! nothing tells it that the clock is wrong; signatures and expiry, which `protocol::statement` has tests for; windows of the day, of which no rollout of a
//! run has one; what a device does with a version once it is started.

use std::collections::{BTreeMap, BTreeSet};

use protocol::digest::Digest;
use protocol::name::{DeviceId, RolloutId};
use protocol::statement::desired::{Counter, DesiredState, Starts};
use protocol::time::floor::{AHEAD_SECONDS_MAX, BEHIND_SECONDS_MAX};
use sha2::{Digest as _, Sha256};

use crate::correctness::content::Library;
use crate::correctness::device::{Device, wall};
use crate::correctness::draws::Draws;
use crate::correctness::world::Verdict;

const WHOLE: u16 = 10_000;

/// The table of a rollout: shares in hundredths of a percent, and the seconds after which each holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correctness) struct Wave(Vec<(u16, u64)>);

impl Wave {
    /// A table for these devices. Often a share lies just at the place of a device, which then must not start yet.
    pub(in crate::correctness) fn draw(draws: &mut Draws, rollout: &RolloutId, devices: &[DeviceId], brisk: bool) -> Self {
        if draws.chance(200) {
            return Self(vec![(WHOLE, 0)]);
        }
        let device = &devices[draws.index(devices.len())];
        let at_device = u16::try_from((position(rollout, device) * u128::from(WHOLE)) >> 64).unwrap_or(0);
        let share = if draws.chance(600) { at_device } else { u16::try_from(draws.between(1, 6_000)).unwrap_or(1) };
        let (first, second) = if brisk { (20, 40) } else { (draws.between(20, 200), draws.between(20, 400)) };
        let share = share.clamp(1, WHOLE - 10);
        let next = share + (WHOLE - share) / 2;
        Self(vec![(share, 0), (next, first), (WHOLE, first + second)])
    }

    /// As an operator writes it, with shares larger by so many hundredths of a percent.
    pub(in crate::correctness) fn table(&self, more: u16) -> String {
        let mut text = String::new();
        let mut before = 0;
        for (share, after) in &self.0 {
            let share = (share + more).min(WHOLE);
            if !text.is_empty() {
                text += &format!(",{}s,", after - before);
            }
            text += &format!("{}.{:02}%", share / 100, share % 100);
            before = *after;
        }
        text
    }

    /// Whether a device at this place may start so many seconds after the beginning: whether place ÷ 2^64 is below the share.
    fn includes(&self, position: u128, elapsed: u64) -> bool {
        let share = self.0.iter().rev().find(|(_, after)| *after <= elapsed).map_or(0, |(share, _)| *share);
        position * u128::from(WHOLE) < u128::from(share) << 64
    }

    fn is_at_once(&self) -> bool {
        self.0.first().is_some_and(|(share, _)| *share == WHOLE)
    }
}

fn position(rollout: &RolloutId, device: &DeviceId) -> u128 {
    let hash = Sha256::digest(format!("{rollout} {device}").as_bytes());
    hash.iter().take(8).fold(0, |word, byte| word << 8 | u128::from(*byte))
}

/// Books of a fleet.
#[derive(Debug, Default)]
pub(in crate::correctness) struct FleetChecks {
    waves: BTreeMap<RolloutId, Wave>,
    accepted: BTreeMap<(usize, &'static str), (Counter, Digest)>,
    in_force: BTreeMap<usize, DesiredState>,
    reports: BTreeMap<usize, u64>,
    /// Versions that devices have started before.
    started: BTreeSet<(usize, u64)>,
}

impl FleetChecks {
    /// The operator rolls something out by this table.
    pub(in crate::correctness) fn plan(&mut self, rollout: RolloutId, wave: Wave) {
        self.waves.insert(rollout, wave);
    }

    /// A device accepted a document.
    pub(in crate::correctness) fn accepts(&mut self, device: usize, what: &'static str, counter: Counter, sealed: &[u8]) -> Verdict {
        let digest = Digest::sha256(sealed);
        let before = self.accepted.insert((device, what), (counter, digest));
        match before {
            Some((known, _)) if counter < known => Err(format!("d{device} goes back from {what} {known:?} to {counter:?}")),
            Some((known, other)) if counter == known && other != digest => {
                Err(format!("d{device} takes another {what} of the counter {counter:?}"))
            }
            _ => Ok(()),
        }
    }

    /// The desired state that a device acts on.
    pub(in crate::correctness) fn in_force(&mut self, device: usize, state: Option<&DesiredState>) {
        match state {
            Some(state) => drop(self.in_force.insert(device, state.clone())),
            None => drop(self.in_force.remove(&device)),
        }
    }

    /// A device sends a report.
    pub(in crate::correctness) fn reports(&mut self, device: usize, counter: u64) -> Verdict {
        match self.reports.insert(device, counter) {
            Some(before) if counter <= before => Err(format!("d{device} reports {counter} after {before}")),
            _ => Ok(()),
        }
    }

    /// A device starts a version.
    pub(in crate::correctness) fn starts(
        &mut self,
        device: &Device,
        (index, now): (usize, u64),
        library: &Library,
        version: u64,
    ) -> Verdict {
        if device.disk.kept.role.1.is_some_and(|floor| version < floor) {
            return Err(format!("d{index} starts version {version}, below the floor {:?}", device.disk.kept.role.1));
        }
        if let Some(missing) = library.content(version).iter().find(|blob| !device.disk.has_whole(blob)) {
            return Err(format!("d{index} starts version {version} without {missing}"));
        }
        if !self.started.insert((index, version)) {
            return Ok(());
        }
        let Some(desired) = self.in_force.get(&index).and_then(|state| state.apps.get(&library.app)) else {
            return Err(format!("d{index} starts version {version}, though nothing is desired"));
        };
        if desired.before.as_ref().is_some_and(|before| before.version == version) {
            return Ok(());
        }
        if desired.version != version {
            return Err(format!("d{index} starts version {version}, but version {} is desired", desired.version));
        }
        let Some(wave) = self.waves.get(&desired.rollout) else { return Err(format!("nobody began rollout {}", desired.rollout)) };
        if desired.activation.starts != Starts::Open {
            return Err(format!("d{index} starts version {version}, though nobody may: {:?}", desired.activation.starts));
        }
        if wave.is_at_once() {
            return Ok(());
        }
        let (clock, true_time) = (device.clock(now).as_unix_seconds(), wall(now).as_unix_seconds());
        if !device.knows_time && device.clock_ahead != 0 {
            return Ok(());
        }
        if clock > true_time + AHEAD_SECONDS_MAX || clock + BEHIND_SECONDS_MAX < true_time {
            return Err(format!("d{index} starts version {version} in a wave by a clock that is {} s ahead", device.clock_ahead));
        }
        let elapsed = clock.saturating_sub(desired.activation.since.as_unix_seconds());
        if wave.includes(position(&desired.rollout, &device.name), elapsed) {
            return Ok(());
        }
        Err(format!(
            "d{index} starts version {version} of {} {elapsed} s after it began, before its turn in {}",
            desired.rollout,
            wave.table(0)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_at_the_share_is_not_in_the_wave_and_one_just_below_is() {
        let wave = Wave(vec![(2_500, 0), (WHOLE, 60)]);
        assert!(wave.includes((1 << 62) - 1, 59) && !wave.includes(1 << 62, 59) && wave.includes(1 << 62, 60));
        assert_eq!((wave.table(0), wave.table(1)), ("25.00%,60s,100.00%".to_owned(), "25.01%,60s,100.00%".to_owned()));
    }
}
