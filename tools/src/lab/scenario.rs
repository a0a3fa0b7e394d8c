//! The scenarios: who takes part, what goes wrong, and what must hold all the same.
//!
//! Not here: how faults are brought about; see [`super::faults`].

use anyhow::{Result, bail};

use super::image::{LAYERS, ONE_LAYER};

/// How large a lab is.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Settings {
    /// Devices at each site
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) devices: u32,
    /// Sites, each with a WAN link and a LAN of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(super) sites: u32,
    /// What every device is to have
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1 << 20..=4 << 30))]
    pub(super) bytes: u64,
    /// A site's WAN link, each way
    #[arg(long, value_name = "MBIT", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(super) wan_mbit: u64,
    /// A device's LAN link, each way
    #[arg(long, value_name = "MBIT", default_value_t = 80, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(super) lan_mbit: u64,
    /// Round trip between seed and sites
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=5000))]
    pub(super) rtt_ms: u64,
    /// Packets, of a hundred, that each device loses of what comes in
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50))]
    pub(super) loss_percent: u32,
    /// Decides the content, and who is killed
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub(super) seed: u64,
    /// How devices find each other (mdns, seed, peers; separated by commas), with no site configured [default: all ways, and
    /// each site's name]
    #[arg(long, value_name = "WAYS")]
    pub(super) discovery: Option<String>,
    /// Devices whose LAN link has a tenth of the rate: the first ones of a site
    #[arg(skip)]
    pub(super) slow: u32,
    /// What they have instead of a tenth, in Mbit/s
    #[arg(skip)]
    pub(super) slow_mbit: Option<u64>,
    /// Whether the image has a single layer
    #[arg(skip)]
    pub(super) is_one_layer: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            devices: 15,
            sites: 1,
            bytes: 64 << 20,
            wan_mbit: 8,
            lan_mbit: 80,
            rtt_ms: 0,
            loss_percent: 0,
            seed: 1,
            discovery: None,
            slow: 0,
            slow_mbit: None,
            is_one_layer: false,
        }
    }
}

impl Settings {
    /// The settings as `scenario` wants them.
    pub(super) fn of(mut self, scenario: &Scenario) -> Self {
        self.slow = (self.devices * scenario.slow_percent).div_ceil(100);
        if scenario.alone {
            self.devices = 1;
        }
        self
    }

    /// The flags that choose these sizes.
    pub(super) fn flags(&self) -> String {
        let Self { devices, bytes, rtt_ms, .. } = self;
        let discovery = self.discovery.as_ref().map_or_else(String::new, |ways| format!(" --discovery {ways}"));
        format!("--devices {devices} --bytes {bytes} --rtt-ms {rtt_ms}{discovery}")
    }

    /// The rate of a device's LAN link.
    pub(super) fn lan_mbit_of(&self, device: u32) -> u64 {
        if device < self.slow { self.slow_mbit.unwrap_or((self.lan_mbit / 10).max(1)) } else { self.lan_mbit }
    }

    /// The shares of the image's layers.
    pub(super) const fn layers(&self) -> &'static [u64] {
        if self.is_one_layer { ONE_LAYER } else { LAYERS }
    }
}

/// When devices start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// All run, and know each other, before the rollout starts.
    Together,
    /// One runs before; the others start one after the other, over the time that the WAN takes for one copy.
    Staggered,
    /// All but the last one start together, and that one when half has come over the WAN.
    LastLate,
}

/// What happens to every site.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// A device is killed: the one that has the most from the WAN.
    KillOwner,
    /// Every second device is killed.
    KillHalf,
    /// The devices fall apart in two halves that reach the seed but not each other, for [`FAULT_SECONDS`].
    Partition,
    /// Nothing passes the WAN for [`FAULT_SECONDS`].
    CutWan,
    /// The seed is killed, and started again after [`FAULT_SECONDS`].
    RestartSeed,
}

/// How long a fault lasts that ends.
pub(super) const FAULT_SECONDS: u64 = 5;

/// A device that speaks to its peers and does not mean well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hostile {
    /// It says that it holds everything, and sends wrong bytes.
    Liar,
    /// It says that it holds everything, and sends nothing.
    Withholder,
}

/// What must hold.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Goals {
    /// The most copies over a site's WAN.
    pub(super) wan_copies: f64,
    /// The most that the time may be, in bounds; none if that says nothing here.
    pub(super) bound_ratio: Option<f64>,
    /// The most that the time may be, in times of a plain HTTPS download.
    pub(super) direct_ratio: Option<f64>,
}

/// One scenario.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) start: Start,
    /// What goes wrong when this share of one copy has come over the WAN.
    pub(super) fault: Option<(f64, Fault)>,
    /// The last devices of each site.
    pub(super) hostile: &'static [Hostile],
    pub(super) slow_percent: u32,
    pub(super) alone: bool,
    pub(super) goals: Goals,
}

impl Scenario {
    /// The same with at most so many copies, and without goals that depend on how busy the machine is.
    pub(super) fn in_short(&self, wan_copies: f64) -> Self {
        let goals = Goals { wan_copies, bound_ratio: Some(BOUND_RATIO_SHORT), direct_ratio: None };
        Self { goals, ..self.clone() }
    }
}

/// Copies in the short lab: of few bytes, what two begin to fetch at once weighs more.
const COPIES_SHORT: f64 = 1.05;
/// The same with a device that comes later: a busy machine may let it begin what is on its way already.
const COPIES_SHORT_LATE: f64 = 1.25;
/// The same beside a liar, whose word may end fetches that had begun.
const COPIES_SHORT_DECEIVED: f64 = 1.5;
/// Times of the bound in the short lab: something is wrong beyond it on any machine.
const BOUND_RATIO_SHORT: f64 = 4.0;

const PLAIN: Scenario = Scenario {
    name: "flash-crowd",
    about: "all devices want it at once",
    start: Start::Together,
    fault: None,
    hostile: &[],
    slow_percent: 0,
    alone: false,
    goals: Goals { wan_copies: 1.02, bound_ratio: Some(1.05), direct_ratio: None },
};
const TROUBLED: Goals = Goals { wan_copies: 1.05, bound_ratio: Some(1.10), direct_ratio: None };
const DECEIVED: Goals = Goals { wan_copies: 1.05, bound_ratio: Some(1.15), direct_ratio: None };
/// Two islands take a copy each while they are apart.
const APART: Goals = Goals { wan_copies: 1.0 + 1.0, bound_ratio: Some(1.15), direct_ratio: None };
const DIRECT: Goals = Goals { wan_copies: 1.02, bound_ratio: None, direct_ratio: Some(1.02) };

/// All scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    PLAIN,
    Scenario {
        name: "staggered",
        about: "devices start one after the other while it comes",
        start: Start::Staggered,
        goals: TROUBLED,
        ..PLAIN
    },
    Scenario { name: "late-joiner", about: "a device starts when half has come", start: Start::LastLate, goals: TROUBLED, ..PLAIN },
    Scenario {
        name: "owner-killed",
        about: "the device that has the most from the WAN is killed at 15 %",
        fault: Some((0.15, Fault::KillOwner)),
        goals: TROUBLED,
        ..PLAIN
    },
    Scenario {
        name: "half-killed",
        about: "every second device is killed at 30 %; the others count",
        fault: Some((0.30, Fault::KillHalf)),
        goals: TROUBLED,
        ..PLAIN
    },
    Scenario {
        name: "slow-devices",
        about: "30 % of the devices have a tenth of the LAN rate",
        slow_percent: 30,
        goals: TROUBLED,
        ..PLAIN
    },
    Scenario { name: "liar", about: "a device says it has all and sends wrong bytes", hostile: &[Hostile::Liar], goals: DECEIVED, ..PLAIN },
    Scenario {
        name: "withholder",
        about: "a device says it has all and sends nothing",
        hostile: &[Hostile::Withholder],
        goals: DECEIVED,
        ..PLAIN
    },
    Scenario {
        name: "deceived",
        about: "a liar and a withholder together",
        hostile: &[Hostile::Liar, Hostile::Withholder],
        goals: DECEIVED,
        ..PLAIN
    },
    Scenario {
        name: "partition",
        about: "the site falls in two halves for 5 s at 30 %",
        fault: Some((0.30, Fault::Partition)),
        goals: APART,
        ..PLAIN
    },
    Scenario { name: "wan-cut", about: "the WAN is cut for 5 s at 30 %", fault: Some((0.30, Fault::CutWan)), goals: TROUBLED, ..PLAIN },
    Scenario {
        name: "seed-restart",
        about: "the seed is killed at 30 % and runs again 5 s later",
        fault: Some((0.30, Fault::RestartSeed)),
        goals: TROUBLED,
        ..PLAIN
    },
    Scenario { name: "alone", about: "one device, against a plain HTTPS download", alone: true, goals: DIRECT, ..PLAIN },
];

/// The scenario with this name.
pub(super) fn named(name: &str) -> Result<&'static Scenario> {
    let names = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) else {
        bail!("there is no scenario `{name}`; there are {}", names());
    };
    Ok(scenario)
}

/// The scenarios of `check`, with their sizes and the copies that each may take; in the first one devices are told nothing of
/// each other.
pub(super) fn short() -> [(&'static str, Settings, f64); 3] {
    let settings = |devices, bytes| Settings { devices, bytes, ..Settings::default() };
    [
        ("flash-crowd", Settings { rtt_ms: 40, discovery: Some("mdns".to_owned()), ..settings(4, 6 << 20) }, COPIES_SHORT),
        ("late-joiner", settings(4, 6 << 20), COPIES_SHORT_LATE),
        ("liar", settings(4, 4 << 20), COPIES_SHORT_DECEIVED),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_found_by_their_names_and_an_unknown_one_is_refused_with_them() {
        for scenario in SCENARIOS {
            assert_eq!(named(scenario.name).unwrap().about, scenario.about, "two scenarios have the name {}", scenario.name);
        }
        let error = named("nothing").unwrap_err().to_string();
        assert!(error.contains("there are flash-crowd, staggered"), "{error}");
        for (name, _, _) in short() {
            named(name).unwrap();
        }
    }

    #[test]
    fn the_scenario_decides_who_is_slow_and_who_is_alone() {
        let settings = |devices| Settings { devices, ..Vec::from(short()).remove(1).1 };
        let slow = settings(10).of(named("slow-devices").unwrap());
        assert_eq!((slow.lan_mbit_of(2), slow.lan_mbit_of(3)), (8, 80));
        assert_eq!(settings(10).of(named("alone").unwrap()).devices, 1);
    }
}
