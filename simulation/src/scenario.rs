//! What a run is asked to do: flags over a scenario file over defaults.
//!
//! A scenario file is TOML. Its keys are those of [`Choices`], `[[kill]]` tables with `site`, `device` (its index at the
//! site) and `at_ms`, and tables `[faults]` with those of [`Faults`], `[rates]` with those of [`Rates`], `[parameters]` with those of
//! [`Rules`] and `[rollout]` with
//! those of [`Staged`]. What a run decides depends on nothing else:
//! neither on threads nor on the machine.
//!
//! ```toml
//! devices = 40
//! sites = 2
//! wan_mbit = 20
//!
//! [[kill]]
//! site = 0
//! device = 3
//! at_ms = 2500
//!
//! [parameters]
//! window_spans = 4
//! ```
//!
//! Not here: what happens then; see [`crate::fleet`].

mod capacity;
mod faults;
mod file;
pub(crate) mod rates;
mod rules;
pub mod staged;
mod wan;

use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::ensure;
use clap::{Args, ValueEnum as _};
use protocol::geometry::{Geometry, UNIT_BYTES};
use protocol::swarm::parameters::Parameters;
use serde::Deserialize;

pub use crate::network::sharing::SharingKind;
use crate::node_ids::DEVICES_PER_SITE_MAX;
use crate::seed_egress::SeedEgress;
use crate::site_log::PIECES_MAX;
pub use faults::Faults;
pub(crate) use faults::Role;
pub use rates::Rates;
pub use rules::Rules;
pub use staged::Staged;

/// The death of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// The site, from 0.
    pub site: u32,
    /// The device's index at the site, from 0.
    pub device: u32,
    /// The moment, in milliseconds of virtual time.
    pub at_ms: u64,
}

impl FromStr for Kill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let (place, at_ms) = text.split_once('@')?;
            let (site, device) = place.split_once(':')?;
            Some(Self { site: site.parse().ok()?, device: device.parse().ok()?, at_ms: at_ms.parse().ok()? })
        };
        parts().ok_or_else(|| "expected SITE:DEVICE@MS, such as 0:3@2500".to_owned())
    }
}

/// What was chosen, in a scenario file or by flags.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Choices {
    /// Devices of the fleet, spread evenly over the sites [default: 1000]
    #[arg(long, value_name = "N")]
    pub devices: Option<u32>,
    /// Sites, each with a WAN link and a LAN of its own [default: 50]
    #[arg(long, value_name = "S")]
    pub sites: Option<u32>,
    /// Where identities, start times and random choices come from [default: 1]
    #[arg(long, value_name = "K")]
    pub seed: Option<u64>,
    /// Pieces of the blob that every device wants; up to 2047 a piece is 64 KiB, up to 4096 it is 1 MiB, above it is 4 MiB
    /// [default: 256]
    #[arg(long, value_name = "N")]
    pub pieces: Option<u32>,
    /// A site's WAN link, in Mbit/s [default: 50]
    #[arg(long, value_name = "MBIT")]
    pub wan_mbit: Option<u64>,
    /// A device's LAN capacity, up and down each, in Mbit/s [default: 1000]
    #[arg(long, value_name = "MBIT")]
    pub lan_mbit: Option<u64>,
    /// How flows share links [default: max-min]
    #[arg(long, value_name = "KIND")]
    pub sharing: Option<SharingKind>,
    /// What the seed sends to all sites together, in Mbit/s, in equal parts to those that fetch [default: no limit]
    #[arg(long, value_name = "MBIT")]
    pub seed_mbit: Option<u64>,
    /// The devices of a site are Wi-Fi stations that share this much air, in Mbit/s; what goes from one to another crosses it
    /// twice, and what comes over the WAN is counted so too [default: wired]
    #[arg(long, value_name = "MBIT")]
    pub wifi_mbit: Option<u64>,
    /// From the request to the first byte over the WAN [default: 20]
    #[arg(long, value_name = "MS")]
    pub wan_rtt_ms: Option<u64>,
    /// How long a control message takes, in microseconds [default: 1000]
    #[arg(long, value_name = "US")]
    pub lan_latency_us: Option<u64>,
    /// Devices start at random moments of this time [default: 1000]
    #[arg(long, value_name = "MS")]
    pub start_spread_ms: Option<u64>,
    /// When devices begin to want the blob, each at a random moment of --start-spread-ms; they run and know each other by then
    /// [default: as they start]
    #[arg(long, value_name = "MS")]
    pub wanted_ms: Option<u64>,
    /// From a device's start until it and its site's devices are connected [default: 200]
    #[arg(long, value_name = "MS")]
    pub discovery_ms: Option<u64>,
    /// From a device's death until its peers notice [default: 15000, a node's idle timeout]
    #[arg(long, value_name = "MS")]
    pub loss_ms: Option<u64>,
    /// Virtual time after which a run that is not done has failed [default: 60 s + four times the bound + starts + losses]
    #[arg(long, value_name = "MS")]
    pub limit_ms: Option<u64>,
    /// Kills a device, at a moment of virtual time; may be given again
    #[arg(long, value_name = "SITE:DEVICE@MS")]
    pub kill: Vec<Kill>,
    /// What goes wrong.
    #[command(flatten)]
    pub faults: Faults,
    /// What devices are slow at.
    #[command(flatten)]
    pub rates: Rates,
    /// A rollout after it.
    #[arg(skip)]
    pub rollout: Option<Staged>,
    /// Rules of the swarm that differ from those of a node.
    #[command(flatten)]
    pub parameters: Rules,
}

impl Choices {
    /// These choices, and those of `others` where nothing was chosen; kills add up.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            devices: self.devices.or(others.devices),
            sites: self.sites.or(others.sites),
            seed: self.seed.or(others.seed),
            pieces: self.pieces.or(others.pieces),
            wan_mbit: self.wan_mbit.or(others.wan_mbit),
            lan_mbit: self.lan_mbit.or(others.lan_mbit),
            sharing: self.sharing.or(others.sharing),
            seed_mbit: self.seed_mbit.or(others.seed_mbit),
            wifi_mbit: self.wifi_mbit.or(others.wifi_mbit),
            wan_rtt_ms: self.wan_rtt_ms.or(others.wan_rtt_ms),
            lan_latency_us: self.lan_latency_us.or(others.lan_latency_us),
            start_spread_ms: self.start_spread_ms.or(others.start_spread_ms),
            wanted_ms: self.wanted_ms.or(others.wanted_ms),
            discovery_ms: self.discovery_ms.or(others.discovery_ms),
            loss_ms: self.loss_ms.or(others.loss_ms),
            limit_ms: self.limit_ms.or(others.limit_ms),
            kill: self.kill.into_iter().chain(others.kill).collect(),
            faults: self.faults.or(others.faults),
            rates: self.rates.or(others.rates),
            rollout: match (self.rollout, others.rollout) {
                (Some(rollout), others) => Some(rollout.or(others.unwrap_or_default())),
                (None, others) => others,
            },
            parameters: self.parameters.or(others.parameters),
        }
    }
}

/// A run, complete and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Devices of the fleet.
    pub devices: u32,
    /// Sites.
    pub sites: u32,
    /// Where identities, start times and random choices come from.
    pub seed: u64,
    /// Pieces of the blob.
    pub pieces: u32,
    pub(crate) wan_mbit: u64,
    pub(crate) lan_mbit: u64,
    pub(crate) sharing: SharingKind,
    pub(crate) seed_mbit: Option<u64>,
    pub(crate) wifi_mbit: Option<u64>,
    pub(crate) wan_rtt_ms: u64,
    pub(crate) lan_latency_us: u64,
    pub(crate) start_spread_ms: u64,
    pub(crate) wanted_ms: Option<u64>,
    pub(crate) discovery_ms: u64,
    pub(crate) loss_ms: u64,
    pub(crate) kills: Vec<Kill>,
    pub(crate) faults: Faults,
    pub(crate) rates: Rates,
    pub(crate) parameters: Arc<Parameters>,
    limit_ms: Option<u64>,
    rules: Rules,
    seed_egress: Option<SeedEgress>,
    pub(crate) rollout: Option<staged::Rules>,
}

const MBIT_MAX: u64 = 1_000_000;
const MS_MAX: u64 = 7 * 24 * 3600 * 1000;

impl TryFrom<Choices> for Scenario {
    type Error = anyhow::Error;

    fn try_from(choices: Choices) -> anyhow::Result<Self> {
        let mut kills = choices.kill;
        kills.sort_unstable();
        let mut scenario = Self {
            devices: choices.devices.unwrap_or(1000),
            sites: choices.sites.unwrap_or(50),
            seed: choices.seed.unwrap_or(1),
            pieces: choices.pieces.unwrap_or(256),
            wan_mbit: choices.wan_mbit.unwrap_or(50),
            lan_mbit: choices.lan_mbit.unwrap_or(1000),
            sharing: choices.sharing.unwrap_or_default(),
            seed_mbit: choices.seed_mbit,
            wifi_mbit: choices.wifi_mbit,
            wan_rtt_ms: choices.wan_rtt_ms.unwrap_or(20),
            lan_latency_us: choices.lan_latency_us.unwrap_or(1000),
            start_spread_ms: choices.start_spread_ms.unwrap_or(1000),
            wanted_ms: choices.wanted_ms,
            discovery_ms: choices.discovery_ms.unwrap_or(200),
            loss_ms: choices.loss_ms.unwrap_or(15_000),
            limit_ms: choices.limit_ms,
            kills,
            faults: choices.faults,
            rates: choices.rates,
            parameters: Arc::new(choices.parameters.applied(Parameters::default())),
            rules: choices.parameters,
            seed_egress: None,
            rollout: choices.rollout.map(Staged::checked).transpose()?,
        };
        scenario.check()?;
        scenario.seed_egress = scenario.seed_mbit.map(|seed_mbit| scenario.plan_seed_egress(seed_mbit));
        Ok(scenario)
    }
}

impl Scenario {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.sites >= 1, "`sites` must be at least 1");
        ensure!(self.devices >= self.sites, "`devices` is {}, fewer than one for each of the {} sites", self.devices, self.sites);
        let largest = self.devices_of(0);
        ensure!(largest <= DEVICES_PER_SITE_MAX, "`devices` puts {largest} at a site; at most {DEVICES_PER_SITE_MAX} are allowed");
        ensure!((1..=PIECES_MAX).contains(&self.pieces), "`pieces` must be from 1 to {PIECES_MAX}");
        let rates = [
            ("wan_mbit", Some(self.wan_mbit)),
            ("lan_mbit", Some(self.lan_mbit)),
            ("seed_mbit", self.seed_mbit),
            ("wifi_mbit", self.wifi_mbit),
            ("slow_mbit", self.faults.slow_mbit),
        ];
        for (name, mbit) in rates.into_iter().filter_map(|(name, mbit)| Some((name, mbit?))) {
            ensure!((1..=MBIT_MAX).contains(&mbit), "`{name}` must be from 1 to {MBIT_MAX}");
        }
        self.rates.check()?;
        let times = [
            ("wan_rtt_ms", self.wan_rtt_ms),
            ("lan_latency_us", self.lan_latency_us),
            ("start_spread_ms", self.start_spread_ms),
            ("wanted_ms", self.wanted_ms.unwrap_or(0)),
            ("discovery_ms", self.discovery_ms),
            ("loss_ms", self.loss_ms),
            ("limit_ms", self.limit_ms.unwrap_or(0)),
            ("late_ms", self.faults.late_ms.unwrap_or(0)),
            ("kill_owner_ms", self.faults.kill_owner_ms.unwrap_or(0)),
            ("kill_half_ms", self.faults.kill_half_ms.unwrap_or(0)),
            ("partition_ms", self.faults.partition_ms.unwrap_or(0)),
            ("partition_for_ms", self.faults.partition_for_ms.unwrap_or(0)),
            ("wan_cut_ms", self.faults.wan_cut_ms.unwrap_or(0)),
            ("wan_cut_for_ms", self.faults.wan_cut_for_ms.unwrap_or(0)),
            ("churn_off_ms", self.faults.churn_off_ms.unwrap_or(0)),
            ("churn_within_ms", self.faults.churn_within_ms.unwrap_or(0)),
            ("offline_until_ms", self.faults.offline_until_ms.unwrap_or(0)),
        ];
        for (name, time) in times.into_iter().chain(self.kills.iter().map(|kill| ("at_ms", kill.at_ms))) {
            ensure!(time <= MS_MAX, "`{name}` is {time}, more than {MS_MAX}");
        }
        let percents = [
            ("slow_percent", u64::from(self.faults.slow_percent.unwrap_or(0))),
            ("churn_percent", self.faults.churn_percent.unwrap_or(0)),
            ("offline_percent", self.faults.offline_percent.unwrap_or(0)),
        ];
        for (name, percent) in percents {
            ensure!(percent <= 100, "`{name}` is {percent}; it must be at most 100");
        }
        let shortest_off_ms = self.wan_rtt_ms.max(self.lan_latency_us / 1000) + 1;
        ensure!(self.faults.churn_off_ms() >= shortest_off_ms, "`churn_off_ms` must be at least {shortest_off_ms}, more than a round trip");
        let smallest = self.devices_of(self.sites - 1);
        let others = self.faults.liars.unwrap_or(0).saturating_add(self.faults.withholders.unwrap_or(0));
        ensure!(others < smallest, "`liars` and `withholders` leave no device of the {smallest} at a site that wants the blob");
        for Kill { site, device, .. } in &self.kills {
            ensure!(*site < self.sites, "`kill` names site {site}, but the last one is {}", self.sites - 1);
            let last = self.devices_of(*site) - 1;
            ensure!(*device <= last, "`kill` names device {device} of site {site}, but the last one there is {last}");
        }
        Ok(())
    }

    /// How many devices `site` has: the first sites have one more if it does not come out even.
    pub(crate) const fn devices_of(&self, site: u32) -> u32 {
        self.devices / self.sites + (site < self.devices % self.sites) as u32
    }

    /// The cut of the smallest kind of blob that has as many pieces.
    pub(crate) fn geometry(&self) -> Geometry {
        let piece_bytes = match self.pieces {
            ..2048 => UNIT_BYTES,
            2048..=4096 => 1 << 20,
            4097.. => 4 << 20,
        };
        Geometry::listed(u64::from(self.pieces) * piece_bytes)
    }

    /// The virtual time after which a site that is not done has failed, in microseconds.
    pub(crate) fn limit_us(&self, site: u32) -> u64 {
        let kills = self.kills.iter().filter(|kill| kill.site == site).map(|kill| kill.at_ms + self.loss_ms).sum::<u64>();
        let bound_ms = self.bound_us(site, self.devices_of(site)) / 1000;
        let kills = kills + self.faults.late_ms.unwrap_or(0) + self.faults.wan_cut_for_ms() + self.loss_ms;
        let offline = if self.is_offline_at_first(site) { self.faults.offline_until_ms() } else { 0 };
        let churn = self.faults.churn_percent.map_or(0, |_| self.faults.churn_within_ms() + self.faults.churn_off_ms() + self.loss_ms);
        let checking_ms = self.rates.checking_us(self.geometry().size()) / 1000;
        let apart = self.faults.partition_ms.map_or(0, |from| from + self.faults.partition_for_ms());
        let begins = self.wanted_ms.unwrap_or(0) + apart + self.start_spread_ms;
        let usual = 60_000 + 4 * bound_ms + checking_ms + begins + self.discovery_ms + kills + offline + churn;
        self.limit_ms.unwrap_or(usual) * 1000
    }

    /// The command that runs this scenario.
    pub fn command(&self) -> String {
        let mut command = "hedgerow-sim run".to_owned();
        let numbers = [
            ("devices", u64::from(self.devices)),
            ("sites", u64::from(self.sites)),
            ("seed", self.seed),
            ("pieces", u64::from(self.pieces)),
            ("wan-mbit", self.wan_mbit),
            ("lan-mbit", self.lan_mbit),
            ("wan-rtt-ms", self.wan_rtt_ms),
            ("lan-latency-us", self.lan_latency_us),
            ("start-spread-ms", self.start_spread_ms),
            ("discovery-ms", self.discovery_ms),
            ("loss-ms", self.loss_ms),
        ];
        let chosen =
            [("wanted-ms", self.wanted_ms), ("limit-ms", self.limit_ms), ("seed-mbit", self.seed_mbit), ("wifi-mbit", self.wifi_mbit)];
        let chosen = chosen.into_iter().filter_map(|(flag, number)| Some((flag, number?)));
        let sharing = (self.sharing != SharingKind::default()).then(|| self.sharing.to_possible_value()).flatten();
        let sharing = sharing.map(|kind| ("sharing", kind.get_name().to_owned()));
        let numbers = numbers.into_iter().chain(chosen).map(|(flag, number)| (flag, number.to_string())).chain(sharing);
        for (flag, number) in numbers.chain(self.faults.flags()).chain(self.rates.flags()).chain(self.rules.flags()) {
            let _infallible = write!(command, " --{flag} {number}");
        }
        for Kill { site, device, at_ms } in &self.kills {
            let _infallible = write!(command, " --kill {site}:{device}@{at_ms}");
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> anyhow::Result<Scenario> {
        Scenario::try_from(toml::from_str::<Choices>(text)?)
    }

    #[test]
    fn every_device_is_at_one_site_and_every_piece_count_has_a_blob() {
        let scenario = scenario("devices = 11\nsites = 4").unwrap();
        assert_eq!((0..4).map(|site| scenario.devices_of(site)).collect::<Vec<_>>(), [3, 3, 3, 2]);
        for pieces in [1, 255, 256, 2047, 2048, 4096, 4097, PIECES_MAX] {
            assert_eq!(Scenario { pieces, ..scenario.clone() }.geometry().pieces(), pieces);
        }
    }

    #[test]
    fn the_bound_is_that_of_the_narrowest_place() {
        let text = |wan: u64, lan: u64| format!("devices = 10\nsites = 1\nwan_mbit = {wan}\nlan_mbit = {lan}");
        let bits = 256 * UNIT_BYTES * 8;
        assert_eq!(scenario(&text(50, 1000)).unwrap().bound_us(0, 10), bits / 50);
        assert_eq!(scenario(&text(1000, 50)).unwrap().bound_us(0, 5), bits / 50);
        assert_eq!(scenario(&text(100, 95)).unwrap().bound_us(0, 10), bits / 95);
        assert_eq!(scenario(&text(50, 50)).unwrap().bound_us(0, 11), bits / 50);
    }

    #[test]
    fn a_scenario_that_cannot_be_run_is_refused_with_the_key() {
        for (text, key) in [
            ("sites = 0", "`sites`"),
            ("devices = 3\nsites = 4", "`devices`"),
            ("devices = 65536\nsites = 1", "`devices`"),
            ("pieces = 0", "`pieces`"),
            ("wan_mbit = 0", "`wan_mbit`"),
            ("discovery_ms = 99999999999", "`discovery_ms`"),
            ("[rates]\ndisk_mbit = 0", "`disk_mbit`"),
            ("[rates]\nverify_mbit = 1000001", "`verify_mbit`"),
            ("[rates]\nslow_start_kib = 0", "`slow_start_kib`"),
            ("[rollout]\ntime_zones = 3", "`time_zones` needs `online`"),
            ("[rollout]\ntime_zones = 25\nonline = \"08:00-20:00\"", "`time_zones`"),
            ("[[kill]]\nsite = 50\ndevice = 0\nat_ms = 1", "`kill`"),
            ("[[kill]]\nsite = 1\ndevice = 20\nat_ms = 1", "`kill`"),
        ] {
            let refused = scenario(text).unwrap_err().to_string();
            assert!(refused.contains(key), "{text}: {refused}");
        }
    }

    #[test]
    fn flags_come_before_the_file() {
        let flags = Choices { seed: Some(7), kill: vec!["0:1@5".parse().unwrap()], ..Choices::default() };
        let file: Choices = toml::from_str("seed = 8\npieces = 9\n[[kill]]\nsite = 0\ndevice = 0\nat_ms = 3").unwrap();
        let scenario = Scenario::try_from(flags.or(file)).unwrap();
        assert_eq!((scenario.seed, scenario.pieces, scenario.kills.len()), (7, 9, 2));
        assert!(scenario.command().ends_with("--kill 0:0@3 --kill 0:1@5"), "{}", scenario.command());
        assert!("0:1".parse::<Kill>().is_err() && "0@1".parse::<Kill>().is_err());
    }
}
