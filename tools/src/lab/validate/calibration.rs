//! What the simulation is told of the lab: what links bring of their rate, how long it takes beyond that, and how late a late
//! device is. Learned from runs of two devices alone, so that all others test it.
//!
//! Not here: the runs; see [`super`].

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cells::{BYTES, Cell, LATE, PLAIN, WAN_MBIT};
use super::results::{Row, median};
use super::simulation::{Simulated, Simulation};
use crate::lab::direct::Direct;
use crate::lab::outcome::float;

/// What was learned.
#[derive(Clone, Debug, Default)]
pub(super) struct Calibration {
    /// Payload on the WAN, in thousandths of its rate, as a plain HTTPS download found it.
    pub(super) wan_permille: u64,
    /// Payload on links of devices, by how much faster than the WAN they are, as a plain TCP stream found it.
    lan_permille: BTreeMap<u64, u64>,
    /// Bytes that a plain download moves, for each of the content.
    wire_ratio: f64,
    /// Seconds of a run that are none of the links': manifest, hash list, files.
    extra_seconds: f64,
    /// Copies over the WAN that are none of the blob's.
    extra_copies: f64,
    /// How long a late device takes from its process's start until it wants the blob.
    pub(super) late_ms: u64,
}

impl Calibration {
    /// What runs of two devices say of links; the rest is not known yet.
    pub(super) fn of_links(rows: &[Row]) -> Result<Self> {
        let of = |name: &str, ratio: Option<u64>| {
            let cells = rows.iter().filter(|row| row.cell.calibrates() && ratio.is_none_or(|ratio| row.cell.ratio == ratio));
            median(cells.map(|row| row.figure(name)).collect()).context("no run of two devices has been measured")
        };
        let permille = |mbit: f64, nominal: u64| ((mbit * 1000.0 / float(nominal)).round().clamp(1.0, 1000.0)) as u64;
        let mut lan_permille = BTreeMap::new();
        for row in rows.iter().filter(|row| row.cell.calibrates()) {
            let ratio = row.cell.ratio;
            lan_permille.insert(ratio, permille(of("lan_mbit_goodput", Some(ratio))?, row.cell.lan_mbit()));
        }
        Ok(Self {
            wan_permille: permille(of("wan_mbit_goodput", None)?, WAN_MBIT),
            lan_permille,
            wire_ratio: of("direct_wan_bytes", None)? / of("content_bytes", None)?,
            ..Self::default()
        })
    }

    /// The same with what else the runs of two devices say, compared with `simulation`.
    pub(super) fn with_extras(mut self, rows: &[Row], simulation: &Simulation) -> Result<Self> {
        let (mut seconds, mut copies, mut late) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows.iter().filter(|row| row.cell.calibrates() && row.cell.kind == PLAIN) {
            let found = simulation.run(&row.cell, &self)?;
            seconds.push(row.figure("seconds") - found.seconds);
            copies.push(row.figure("wan_copies") - found.wan_copies);
        }
        self.extra_seconds = median(seconds).unwrap_or(0.0);
        self.extra_copies = median(copies).unwrap_or(0.0);
        for row in rows.iter().filter(|row| row.cell.calibrates() && row.cell.kind == LATE) {
            late.push(row.figure("seconds") - self.foretold(simulation.run(&row.cell, &self)?).seconds);
        }
        self.late_ms = (median(late).unwrap_or(0.0).max(0.0) * 1000.0).round() as u64;
        Ok(self)
    }

    /// What a run in the lab is expected to come to.
    pub(super) fn foretold(&self, simulated: Simulated) -> Simulated {
        Simulated { seconds: simulated.seconds + self.extra_seconds, wan_copies: simulated.wan_copies + self.extra_copies }
    }

    /// What of the rate of a link that is so much faster than the WAN is payload, in thousandths.
    pub(super) fn lan_permille(&self, ratio: u64) -> u64 {
        self.lan_permille.get(&ratio).copied().unwrap_or(1000)
    }

    /// What links of a cell bring, which a run of it need not measure again.
    pub(super) fn direct(&self, cell: &Cell) -> Direct {
        let rate = |mbit: u64, permille: u64| float(mbit * permille) * 1000.0 / 8.0;
        let wan_rate = rate(WAN_MBIT, self.wan_permille);
        Direct {
            seconds: float(BYTES) / wan_rate,
            wan_bytes: (float(BYTES) * self.wire_ratio) as u64,
            wan_rate,
            lan_rate: rate(cell.lan_mbit(), self.lan_permille(cell.ratio)),
        }
    }

    /// The same as an object.
    pub(super) fn json(&self) -> Value {
        let lan: BTreeMap<String, u64> = self.lan_permille.iter().map(|(ratio, permille)| (ratio.to_string(), *permille)).collect();
        json!({
            "wan_permille": self.wan_permille, "lan_permille_by_ratio": lan, "wire_ratio": self.wire_ratio,
            "extra_seconds": self.extra_seconds, "extra_copies": self.extra_copies, "late_ms": self.late_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_learned_from_two_devices_alone() {
        let row = |devices, ratio, wan: f64, lan: f64| {
            let cell = Cell { devices, ratio, kind: PLAIN };
            let figures = [("wan_mbit_goodput", wan), ("lan_mbit_goodput", lan), ("direct_wan_bytes", 1040.0), ("content_bytes", 1000.0)];
            Row { cell, run: 0, figures: figures.map(|(name, value)| (name.to_owned(), value)).into(), wrong: Vec::new() }
        };
        let rows = [row(2, 5, 7.6, 36.0), row(2, 5, 7.6, 38.0), row(2, 5, 7.2, 30.0), row(2, 20, 7.6, 144.0), row(10, 5, 1.0, 1.0)];
        let learned = Calibration::of_links(&rows).unwrap();
        assert_eq!((learned.wan_permille, learned.lan_permille(5), learned.lan_permille(20)), (950, 900, 900));
        assert!((learned.wire_ratio - 1.04).abs() < 1e-9);
        assert!(Calibration::of_links(&rows[4..]).is_err());
        let direct = learned.direct(&Cell { devices: 10, ratio: 20, kind: PLAIN });
        assert!((direct.lan_rate - 144e6 / 8.0).abs() < 1.0 && (direct.wan_rate - 7.6e6 / 8.0).abs() < 1.0);
    }
}
