//! The cells of the matrix: how many devices, how much faster the LAN is than the WAN, and what goes wrong.
//!
//! Not here: how they are run; see [`super`].

use anyhow::Result;

use super::calibration::Calibration;
use crate::lab::scenario::{self, FAULT_SECONDS, Scenario, Settings};

/// A site's WAN link; small, so that what all links carry together is no work for two processors.
pub(super) const WAN_MBIT: u64 = 8;
/// What every device is to have: ten seconds of the WAN, of which moments that differ by chance are a small part.
pub(super) const BYTES: u64 = 8 << 20;
/// What a piece of that has.
const PIECE_BYTES: u64 = 64 << 10;
/// How much faster than the WAN a device's link is.
const RATIOS: [u64; 3] = [1, 5, 20];
/// The link of a slow device: half of the WAN, so that it is the narrow place.
const SLOW_MBIT: u64 = WAN_MBIT / 2;
/// Devices of the cells on which nothing is fitted.
const DEVICES: [u32; 3] = [5, 10, 20];
/// Devices of those that calibrate.
const DEVICES_CALIBRATING: u32 = 2;
/// Kinds whose fault comes when this percentage of a copy has come; they are scenarios of the lab.
pub(super) const PLAIN: &str = "flash-crowd";
pub(super) const LATE: &str = "late-joiner";
const OWNER_KILLED: &str = "owner-killed";
const SLOW: &str = "slow-devices";
const PARTITION: &str = "partition";
/// In the simulation, devices want the blob from then on: they know each other and are no newcomers.
const WANTED_MS: u64 = 5000;
/// And one after the other within this time: a device that hears of a version tells the others.
const SPREAD_MS: u64 = 250;
/// Sites of the simulation, of which the median counts.
const SITES: u32 = 21;
/// In the lab the seed is a millisecond away, and first reads the blob.
const RTT_MS: u64 = 2;

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) devices: u32,
    pub(super) ratio: u64,
    pub(super) kind: &'static str,
}

/// All 48: those of two devices first.
pub(super) fn all() -> Vec<Cell> {
    let cell = |devices, ratio, kind| Cell { devices, ratio, kind };
    let calibrating = RATIOS.iter().flat_map(|ratio| [PLAIN, LATE].map(|kind| cell(DEVICES_CALIBRATING, *ratio, kind)));
    // Where a LAN is as slow as the WAN, half a site is not done in time by itself, and takes a second copy: no case of its own.
    let makes_sense = |cell: &Cell| cell.kind != PARTITION || cell.ratio > 1;
    let kinds = [PLAIN, OWNER_KILLED, SLOW, LATE, PARTITION];
    let others = DEVICES.iter().flat_map(|devices| RATIOS.iter().flat_map(move |ratio| kinds.map(|kind| cell(*devices, *ratio, kind))));
    calibrating.chain(others.filter(makes_sense)).collect()
}

impl Cell {
    /// `d5-u20-partition`: five devices, links of 20 times the WAN.
    pub(super) fn name(&self) -> String {
        format!("d{}-u{}-{}", self.devices, self.ratio, self.kind)
    }

    /// Whether the simulation is fitted to it.
    pub(super) const fn calibrates(&self) -> bool {
        self.devices == DEVICES_CALIBRATING
    }

    pub(super) const fn lan_mbit(&self) -> u64 {
        WAN_MBIT * self.ratio
    }

    /// What happens in the lab.
    pub(super) fn scenario(&self) -> Result<&'static Scenario> {
        scenario::named(self.kind)
    }

    /// The size of the lab, for run `run`.
    pub(super) fn settings(&self, scenario: &Scenario, run: u32) -> Settings {
        let settings = Settings {
            devices: self.devices,
            bytes: BYTES,
            wan_mbit: WAN_MBIT,
            lan_mbit: self.lan_mbit(),
            seed: u64::from(run) + 1,
            slow_mbit: Some(SLOW_MBIT),
            is_one_layer: true,
            ..Settings::default()
        };
        settings.of(scenario)
    }

    /// The flags of `hedgerow-sim run` that do the same.
    pub(super) fn flags(&self, calibration: &Calibration) -> Vec<String> {
        let copy_ms = |percent: u64| BYTES * 8 * percent / (WAN_MBIT * calibration.wan_permille);
        let at = |percent: u64| WANTED_MS + copy_ms(percent) / 100;
        let mut flags = vec![
            ("devices", u64::from(self.devices * SITES)),
            ("sites", u64::from(SITES)),
            ("pieces", BYTES / PIECE_BYTES),
            ("wan-mbit", WAN_MBIT),
            ("lan-mbit", self.lan_mbit()),
            ("wan-goodput-permille", calibration.wan_permille),
            ("lan-goodput-permille", calibration.lan_permille(self.ratio)),
            ("wan-rtt-ms", RTT_MS),
            ("wanted-ms", WANTED_MS),
            ("start-spread-ms", SPREAD_MS),
        ];
        match self.kind {
            OWNER_KILLED => flags.push(("kill-owner-ms", at(15))),
            SLOW => flags.extend([("slow-percent", 30), ("slow-mbit", SLOW_MBIT)]),
            LATE => flags.extend([("late", 1), ("late-ms", at(50) + calibration.late_ms)]),
            PARTITION => flags.extend([("partition-ms", at(30)), ("partition-for-ms", FAULT_SECONDS * 1000)]),
            _ => {}
        }
        let words = flags.into_iter().flat_map(|(flag, number)| [format!("--{flag}"), number.to_string()]);
        ["run".to_owned(), "--json".to_owned()].into_iter().chain(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_48_cells_with_names_of_their_own_and_each_is_a_scenario() {
        let cells = all();
        assert_eq!(cells.len(), 48);
        assert_eq!(cells.iter().map(Cell::name).collect::<BTreeSet<_>>().len(), 48);
        assert!(cells.iter().all(|cell| cell.scenario().is_ok()));
        assert_eq!(cells.iter().filter(|cell| cell.calibrates()).count(), 6);
    }

    #[test]
    fn a_fault_comes_when_that_much_has_come_over_the_wan() {
        let cell = Cell { devices: 5, ratio: 5, kind: PARTITION };
        let mut half = Calibration::default();
        half.wan_permille = 500;
        let words = cell.flags(&half);
        let value = |flag: &str| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].clone());
        let third_of_copy_ms = 8 * 1024 * 1024 * 8 * 30 / 100 / (8 * 500);
        assert_eq!(value("--partition-ms"), Some((5000 + third_of_copy_ms).to_string()));
        assert_eq!(value("--lan-mbit").as_deref(), Some("40"));
    }
}
