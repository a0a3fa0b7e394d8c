//! What a run came to: time against its bound, copies over the WAN, what was refused, memory; and which goals it missed.
//!
//! Times are from the first byte of a blob that the seed handed out to the moment at which the last device that counts held
//! everything; bound = max(F/w, F/d, nF/(w+Σu)) with d of the slowest device, and w, d and u as measured in the same run.
//!
//! Not here: several runs together; see [`super::report`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::direct::Direct;
use super::faults::Trouble;
use super::fleet::Fleet;
use super::image::Image;
use super::scenario::{Hostile, Scenario, Settings, Start};

/// The most memory of a device, in bytes: the goal of the project.
const DEVICE_RSS_MAX: u64 = 64 << 20;
/// The most memory of a seed with a fleet as small as the lab's.
const SEED_RSS_MAX: u64 = 256 << 20;
/// The seed's process.
const SEED: &str = "seed";

/// What was seen in a run; times are in seconds since 1970.
pub(super) struct Seen {
    pub(super) direct: Direct,
    pub(super) rolled_out_at: f64,
    pub(super) first_byte_at: f64,
    pub(super) done_at: f64,
    /// When the last device started.
    pub(super) last_start_at: f64,
    /// What polls alone would have brought to a site meanwhile.
    pub(super) poll_bytes: f64,
    /// What came to each site.
    pub(super) wan_bytes: Vec<u64>,
    /// The most memory of each process.
    pub(super) rss_bytes: Vec<(String, u64)>,
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Figures, by name.
    pub(super) figures: BTreeMap<&'static str, f64>,
    /// What does not hold whatever the figures are: in any run it is a failure.
    pub(super) wrong: Vec<String>,
    /// Units that were refused, by who had sent them.
    refused: BTreeMap<String, u64>,
    rss_bytes: BTreeMap<String, u64>,
}

impl Outcome {
    /// Judges what was seen.
    pub(super) fn of(scenario: &Scenario, settings: &Settings, image: &Image, fleet: &Fleet<'_>, seen: &Seen) -> Self {
        let alive: Vec<_> = fleet.devices.iter().filter(|device| !device.is_killed).collect();
        let content = float(image.bytes());
        let uploads: Vec<f64> =
            alive.iter().filter(|device| device.site == 0).map(|device| lan_rate(seen.direct, settings, device.index)).collect();
        let bound = bound(content, seen.direct.wan_rate, &uploads);
        let slowest = uploads.iter().copied().fold(f64::MAX, f64::min);
        let late = match scenario.start {
            Start::Together => 0.0,
            Start::Staggered | Start::LastLate => seen.last_start_at - seen.first_byte_at + content / slowest,
        };
        let bound = bound.max(late) + Trouble::bound_more(scenario.fault);
        let seconds = seen.done_at - seen.first_byte_at;
        let most = float(seen.wan_bytes.iter().copied().max().unwrap_or(0));
        let sound = alive.iter().filter(|device| image.content().all(|blob| blob.is_sound_in(&device.data))).count();
        let (refused, named_by) = refusals(fleet);

        let mut outcome =
            Self { figures: BTreeMap::new(), wrong: Vec::new(), refused, rss_bytes: seen.rss_bytes.iter().cloned().collect() };
        outcome.figures.extend([
            ("devices", f64::from(settings.devices)),
            ("receivers", float(alive.len() as u64)),
            ("verified", float(sound as u64)),
            ("content_bytes", content),
            ("direct_seconds", seen.direct.seconds),
            ("direct_wan_bytes", float(seen.direct.wan_bytes)),
            ("wan_mbit_goodput", seen.direct.wan_rate * 8e-6),
            ("lan_mbit_goodput", seen.direct.lan_rate * 8e-6),
            ("wait_seconds", seen.first_byte_at - seen.rolled_out_at),
            ("seconds", seconds),
            ("bound_seconds", bound),
            ("bound_ratio", seconds / bound),
            ("direct_ratio", seconds / seen.direct.seconds),
            ("wan_bytes", most),
            ("poll_bytes", seen.poll_bytes),
            ("wan_copies", (most - seen.poll_bytes) / float(seen.direct.wan_bytes)),
            ("liar_named_by", float(named_by as u64)),
        ]);
        outcome.find_wrong(fleet, alive.len(), sound, named_by);
        outcome
    }

    /// One with just these figures.
    #[cfg(test)]
    pub(super) fn with(figures: BTreeMap<&'static str, f64>, wrong: Vec<String>) -> Self {
        Self { figures, wrong, refused: BTreeMap::new(), rss_bytes: BTreeMap::new() }
    }

    fn find_wrong(&mut self, fleet: &Fleet<'_>, alive: usize, sound: usize, named_by: usize) {
        if sound < alive {
            self.wrong.push(format!("{} of {alive} devices hold a blob that is not what its digest says, or miss one", alive - sound));
        }
        let liars: BTreeSet<&str> =
            fleet.hostile.iter().filter(|(kind, _)| *kind == Hostile::Liar).map(|(_, device)| device.name.as_str()).collect();
        for (peer, units) in &self.refused {
            if !liars.contains(peer.as_str()) {
                self.wrong.push(format!("{peer} is honest, and {units} units from it were refused: it relayed what it had not verified"));
            }
        }
        if !liars.is_empty() && named_by == 0 {
            self.wrong.push("no device named the liar".to_owned());
        }
        for (name, bytes) in &self.rss_bytes {
            let cap = if name == SEED { SEED_RSS_MAX } else { DEVICE_RSS_MAX };
            if *bytes > cap {
                self.wrong.push(format!("{name} had {} MiB of memory, {} are allowed", bytes >> 20, cap >> 20));
            }
        }
    }

    /// The most memory of any process but the seed, in bytes.
    pub(super) fn device_rss_bytes(&self) -> u64 {
        self.rss_bytes.iter().filter(|(name, _)| *name != SEED).map(|(_, bytes)| *bytes).max().unwrap_or(0)
    }

    /// The outcome as an object.
    pub(super) fn json(&self) -> Value {
        let mut object = json!({"refused_units": self.refused, "rss_bytes": self.rss_bytes, "wrong": self.wrong});
        for (name, value) in &self.figures {
            object[name] = json!(value);
        }
        object
    }
}

/// The least time in which `uploads.len()` devices can have `content` bytes, in seconds; each downloads as fast as it uploads.
fn bound(content: f64, wan_rate: f64, uploads: &[f64]) -> f64 {
    let slowest = uploads.iter().copied().fold(f64::MAX, f64::min);
    let all: f64 = float(uploads.len() as u64) * content / (wan_rate + uploads.iter().sum::<f64>());
    (content / wan_rate).max(content / slowest.max(f64::MIN_POSITIVE)).max(all)
}

fn lan_rate(direct: Direct, settings: &Settings, device: u32) -> f64 {
    direct.lan_rate * float(settings.lan_mbit_of(device)) / float(settings.lan_mbit)
}

/// Refused units by sender, and how many devices named a liar.
fn refusals(fleet: &Fleet<'_>) -> (BTreeMap<String, u64>, usize) {
    let liars: Vec<&str> =
        fleet.hostile.iter().filter(|(kind, _)| *kind == Hostile::Liar).map(|(_, device)| device.name.as_str()).collect();
    let (mut refused, mut named_by) = (BTreeMap::new(), 0);
    for process in fleet.devices.iter().filter_map(|device| device.process.as_ref()) {
        let peers: Vec<String> =
            process.events("unit_refused").iter().map(|event| event["peer"].as_str().unwrap_or("nobody").to_owned()).collect();
        named_by += usize::from(peers.iter().any(|peer| liars.contains(&peer.as_str())));
        for peer in peers {
            *refused.entry(peer).or_default() += 1;
        }
    }
    (refused, named_by)
}

/// A count as a figure; exact below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "counts of bytes are far below 2^53")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9
    }

    #[test]
    fn the_bound_is_the_slowest_of_the_wan_a_device_and_all_links_together() {
        assert!(close(bound(64.0, 1.0, &[10.0; 15]), 64.0), "the WAN");
        assert!(close(bound(64.0, 8.0, &[10.0, 10.0, 2.0]), 32.0), "the slowest device");
        assert!(close(bound(60.0, 400.0, &[10.0, 10.0]), 6.0), "a device's own link");
        assert!(close(bound(60.0, 100.0, &[10.0, 5.0]), 12.0), "the slowest of them");
        assert!(close(bound(60.0, 15.0, &[10.0; 5]), 6.0));
    }
}
