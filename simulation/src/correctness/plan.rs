//! What a seed makes of a run: how many devices, which rules, what is published, what goes wrong and when. Each kind of fault
//! is in some runs and not in others, so that what one hides another shows.
//!
//! Not here: what follows from it; see [`super::world`].

use std::fmt;
use std::time::Duration;

use protocol::geometry::UNIT_BYTES;
use protocol::swarm::parameters::Parameters;

use super::draws::Draws;

const SECOND: u64 = 1_000_000;

/// The most devices of a run.
const DEVICES_MAX: u64 = 60;

/// Units that all devices together may have to fetch: it bounds how long a run takes.
const UNITS_MAX: u64 = 2400;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It does as the machines say.
    Honest,
    /// It says that it holds everything and sends wrong bytes.
    Liar,
    /// It says that it holds everything and never sends.
    Withholder,
    /// It claims whatever it may, says that it progresses, and fetches nothing.
    Squatter,
    /// It sends messages of all kinds, and asks for more than anybody can serve.
    Flooder,
}

/// Kinds of faults, each of which a run has or has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    /// Control messages are lost, doubled and overtake each other.
    pub(super) messages: bool,
    pub(super) partitions: bool,
    pub(super) crashes: bool,
    pub(super) freezes: bool,
    pub(super) full_disks: bool,
    pub(super) clock_jumps: bool,
    /// The WAN pauses, for less time than a claim lapses in.
    pub(super) pauses: bool,
    /// The WAN is cut for long.
    pub(super) cuts: bool,
    /// Requests over the WAN fail.
    pub(super) wan_failures: bool,
    /// An honest device sends a wrong unit, once or twice.
    pub(super) slips: bool,
    pub(super) rot: bool,
    /// Answers of the seed are old ones.
    pub(super) replays: bool,
    /// The seed was restored from a backup.
    pub(super) restored_seed: bool,
    /// The WAN goes for ever once a device of the site has everything.
    pub(super) seed_gone: bool,
}

/// A layer.
#[derive(Clone, Debug)]
pub(super) struct LayerPlan {
    pub(super) name: u64,
    pub(super) size: u64,
    pub(super) listed: bool,
    /// The unit of which its hash list says the wrong thing.
    pub(super) lie: Option<u32>,
}

/// A version.
#[derive(Clone, Debug)]
pub(super) struct VersionPlan {
    pub(super) layers: Vec<LayerPlan>,
    /// On how many devices of a thousand it does not start.
    pub(super) bad_permille: u64,
}

/// A device.
#[derive(Clone, Copy, Debug)]
pub(super) struct DevicePlan {
    pub(super) site: usize,
    pub(super) role: Role,
    pub(super) starts_at: u64,
    pub(super) activates: bool,
}

/// A run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kinds: Kinds,
    pub(super) sites: usize,
    pub(super) devices: Vec<DevicePlan>,
    pub(super) versions: Vec<VersionPlan>,
    pub(super) parameters: Parameters,
    pub(super) poll_seconds: u64,
    pub(super) latency_us: u64,
    pub(super) lan_unit_us: u64,
    pub(super) wan_rtt_us: u64,
    /// Time that a unit takes on a site's WAN. Units come whole, without word of progress before, so that on a slower WAN all
    /// claims of a site would seem to stall.
    pub(super) wan_unit_us: u64,
    /// The longest time in which two devices find each other.
    pub(super) discovery_us: u64,
    /// When faults end.
    pub(super) heals_at: u64,
}

impl Plan {
    /// The run of `seed`.
    pub(super) fn of(seed: u64) -> Self {
        let mut draws = Draws::new(seed, 1);
        let kinds = Kinds::draw(&mut draws);
        let versions = versions(&mut draws, kinds);
        let devices = devices(&mut draws, &versions, kinds);
        let parameters = parameters(&mut draws);
        let hold_off_us = u64::try_from(parameters.hold_off.as_micros()).unwrap_or(u64::MAX);
        Self {
            seed,
            kinds,
            sites: devices.iter().map(|device| device.site + 1).max().unwrap_or(1),
            devices,
            versions,
            parameters,
            poll_seconds: draws.between(20, 90),
            latency_us: draws.pick(&[100, 500, 2_000, 4_000]),
            lan_unit_us: draws.pick(&[600, 2_000, 6_000]),
            wan_rtt_us: draws.pick(&[1_000, 40_000, 300_000]),
            wan_unit_us: draws.pick(&[4_000, 10_000, 50_000]),
            discovery_us: hold_off_us / 2,
            heals_at: draws.between(120, 900) * SECOND,
        }
    }

    /// Whether nothing happens that may make a site fetch more than one copy.
    pub(super) fn is_calm(&self) -> bool {
        let Kinds { crashes, messages, partitions, freezes, full_disks, cuts, wan_failures, slips, rot, seed_gone, .. } = self.kinds;
        let disturbed = [crashes, messages, partitions, freezes, full_disks, cuts, wan_failures, slips, rot, seed_gone];
        !disturbed.contains(&true) && self.devices.iter().all(|device| device.role == Role::Honest)
    }

    /// The last version, which all shall have in the end.
    pub(super) const fn newest(&self) -> u64 {
        self.versions.len() as u64
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hostile = self.devices.iter().filter(|device| device.role != Role::Honest).count();
        write!(
            f,
            "{} devices ({hostile} hostile) at {} sites, {} versions, {:?}",
            self.devices.len(),
            self.sites,
            self.versions.len(),
            self.kinds
        )
    }
}

impl Kinds {
    fn draw(draws: &mut Draws) -> Self {
        let quiet = draws.chance(250);
        let seed_gone = draws.chance(120);
        let mut some = |permille: u64| !quiet && draws.chance(permille);
        Self {
            messages: some(300),
            partitions: some(300),
            crashes: some(500),
            freezes: some(250),
            full_disks: some(250),
            clock_jumps: some(400),
            cuts: some(300),
            wan_failures: some(300),
            slips: seed_gone || some(300),
            rot: !seed_gone && some(250),
            replays: some(400),
            restored_seed: some(250),
            pauses: draws.chance(500),
            seed_gone,
        }
    }
}

fn versions(draws: &mut Draws, kinds: Kinds) -> Vec<VersionPlan> {
    let shared = layer(draws, 0, kinds);
    let count = if kinds.seed_gone { 1 } else { draws.between(2, 4) };
    let mut versions: Vec<VersionPlan> = (1..=count)
        .map(|version| {
            let own = (0..draws.between(1, 2)).map(|n| layer(draws, 10 * version + n, kinds));
            let mut layers: Vec<LayerPlan> = own.collect();
            if draws.chance(500) {
                layers.push(shared.clone());
            }
            VersionPlan { layers, bad_permille: if draws.chance(300) { draws.pick(&[100, 500, 1000]) } else { 0 } }
        })
        .collect();
    if let Some(first) = versions.first_mut() {
        first.bad_permille = 0;
    }
    if let Some(last) = versions.last_mut() {
        last.bad_permille = 0;
    }
    versions
}

fn layer(draws: &mut Draws, name: u64, kinds: Kinds) -> LayerPlan {
    let units = draws.pick(&[1, 3, 8, 17, 33, 64, 96]);
    let size = units * UNIT_BYTES - draws.pick(&[0, 1, 4_000]);
    // Of what a list lies only the seed is a source: where it goes for good, none does.
    let lie = (draws.chance(30) && !kinds.seed_gone).then(|| u32::try_from(draws.below(units)).unwrap_or(0));
    LayerPlan { name, size, listed: draws.chance(920), lie }
}

fn devices(draws: &mut Draws, versions: &[VersionPlan], kinds: Kinds) -> Vec<DevicePlan> {
    let bytes: u64 = versions.iter().flat_map(|version| &version.layers).map(|layer| layer.size).sum();
    let most = (UNITS_MAX / bytes.div_ceil(UNIT_BYTES).max(1)).clamp(4, DEVICES_MAX);
    let count = if draws.chance(100) { most } else { draws.between(2, most.min(20)) };
    let sites = if count >= 6 { draws.pick(&[1, 1, 2, 3]) } else { 1 };
    let hostile = if draws.chance(450) && !kinds.seed_gone { draws.between(1, (count / 3).max(1)) } else { 0 };
    let spread = draws.pick(&[0, SECOND, 60 * SECOND]);
    (0..count)
        .map(|index| DevicePlan {
            site: usize::try_from(index % sites).unwrap_or(0),
            role: if index >= count - hostile.min(count - 1) {
                draws.pick(&[Role::Liar, Role::Withholder, Role::Squatter, Role::Flooder])
            } else {
                Role::Honest
            },
            starts_at: draws.below(spread + 1),
            activates: draws.chance(850),
        })
        .collect()
}

fn parameters(draws: &mut Draws) -> Parameters {
    let usual = Parameters::default();
    let window_spans = draws.between(1, 8);
    let window_spans = usize::try_from(window_spans).unwrap_or(usual.window_spans);
    let narrow = draws.chance(500);
    Parameters {
        window_spans,
        window_spans_max: if narrow { window_spans } else { usual.window_spans_max },
        pulls_max: draws.pick(&[2, 4, usual.pulls_max]),
        uploads_max: draws.pick(&[1, 3, usual.uploads_max]),
        queue_per_peer_max: draws.pick(&[1, 4, usual.queue_per_peer_max]),
        unfulfilled_max: draws.pick(&[1, 2, 3]),
        hold_off: Duration::from_millis(draws.pick(&[500, 1000, 2000])),
        ban: Duration::from_secs(draws.between(5, 60)),
        demotion: Duration::from_secs(draws.between(5, 60)),
        recheck_interval: Duration::from_secs(draws.pick(&[10, 600])),
        storage_retry: Duration::from_secs(draws.pick(&[1, 5])),
        ..usual
    }
}
