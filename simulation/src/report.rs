//! What is said at the end of a run, for programs and for people.
//!
//! Not here: how the figures come about.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::baselines::Baseline;
use crate::curves::Curves;
use crate::rollout::RolloutOutcome;
use crate::scenario::Scenario;
use crate::site::SiteOutcome;

/// A figure of all sites: the middle one, the 99th of a hundred, the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// The outcome of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// SHA-256 over the digests of all sites, each over every decision there.
    pub digest: String,
    /// Devices of the fleet.
    pub devices: u32,
    /// Sites.
    pub sites: u32,
    /// Pieces of the blob.
    pub pieces: u32,
    /// Bytes of the blob.
    pub blob_bytes: u64,
    /// The seed.
    pub seed: u64,
    /// Threads that were used.
    pub threads: usize,
    /// Devices that were killed before their site was done.
    pub killed: u32,
    /// Devices that are complete.
    pub complete: u32,
    /// Wall time.
    pub seconds: f64,
    /// Inputs and timeouts that the machines were given.
    pub events: u64,
    /// The same, a second of wall time.
    pub events_per_second: f64,
    /// Payload bytes that came over each site's WAN ÷ the blob's.
    pub wan_copies: Spread,
    /// Virtual time from the first byte over the WAN to the last device complete ÷ max(F/w, F/d, nF/(w+Σu)).
    pub time_over_bound: Spread,
    /// The same time in seconds.
    pub virtual_seconds: Spread,
    /// Payload bytes that came over LANs.
    pub lan_bytes: u64,
    /// Control messages sent, for each device.
    pub messages_per_device: f64,
    /// Bytes of their frames, for each device.
    pub message_bytes_per_device: f64,
    /// Units that a device stored although it had them.
    pub units_stored_twice: u64,
    /// Bytes that the views of what peers hold take, for each device of the site with the largest.
    pub view_bytes_per_device: u64,
    /// The most memory that the process used.
    pub rss_bytes: u64,
    /// Whether the run was interrupted: then all figures are of the sites that were done.
    pub partial: bool,
    /// Sites that were done.
    pub sites_done: u32,
    /// What is plotted.
    pub curves: Curves,
    /// Other ways to distribute, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strategies: Vec<Baseline>,
    /// How the rollout went, if the scenario has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutOutcome>,
}

impl Report {
    /// The report of the sites that are done, each with its index, in order.
    pub(crate) fn new(scenario: &Scenario, threads: usize, seconds: f64, done: &[(u32, SiteOutcome)]) -> Self {
        let sites = || done.iter().map(|(_, outcome)| outcome);
        let blob_bytes = scenario.geometry().size();
        let events = sites().map(|site| site.events).sum();
        let devices: u32 = done.iter().map(|(index, _)| scenario.devices_of(*index)).sum();
        let each = |of: fn(&SiteOutcome) -> u64| ratio(sites().map(of).sum(), u64::from(devices));
        let largest_view = done.iter().map(|(index, site)| site.view_bytes / u64::from(scenario.devices_of(*index))).max();
        let spread = |figure: &dyn Fn(&SiteOutcome) -> f64| Spread::of_figures(sites().map(figure).collect());
        Self {
            digest: digest(sites()),
            sites_done: u32::try_from(done.len()).unwrap_or(u32::MAX),
            partial: done.len() < scenario.sites as usize,
            curves: Curves::new(done, blob_bytes),
            strategies: Vec::new(),
            rollout: None,
            devices: scenario.devices,
            sites: scenario.sites,
            pieces: scenario.pieces,
            blob_bytes,
            seed: scenario.seed,
            threads,
            killed: sites().map(|site| site.killed).sum(),
            complete: sites().map(|site| site.complete).sum(),
            seconds,
            events,
            events_per_second: events as f64 / seconds.max(f64::MIN_POSITIVE),
            wan_copies: spread(&|site| ratio(site.wan_bytes, blob_bytes)),
            time_over_bound: spread(&|site| ratio(site.duration_us, site.bound_us)),
            virtual_seconds: spread(&|site| ratio(site.duration_us, 1_000_000)),
            lan_bytes: sites().map(|site| site.lan_bytes).sum(),
            messages_per_device: each(|site| site.messages),
            message_bytes_per_device: each(|site| site.message_bytes),
            units_stored_twice: sites().map(|site| site.stored_twice).sum(),
            view_bytes_per_device: largest_view.unwrap_or(0),
            rss_bytes: peak_rss_bytes().unwrap_or(0),
        }
    }
}

impl Spread {
    pub(crate) fn of_figures(mut figures: Vec<f64>) -> Self {
        figures.sort_unstable_by(f64::total_cmp);
        let rank = |percent: usize| figures.get((figures.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
        Self { p50: rank(50), p99: rank(99), max: rank(100) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.4} {:>10.4} {:>10.4}", self.p50, self.p99, self.max)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.partial {
            writeln!(
                f,
                "PARTIAL          interrupted when {} of {} sites were done; all figures are of these",
                self.sites_done, self.sites
            )?;
        }
        writeln!(f, "digest           {}", self.digest)?;
        writeln!(f, "devices          {} at {} sites, {} complete, {} killed", self.devices, self.sites, self.complete, self.killed)?;
        writeln!(f, "blob             {} pieces, {} MiB", self.pieces, self.blob_bytes >> 20)?;
        writeln!(f, "run              {:.2} s on {} threads, seed {}", self.seconds, self.threads, self.seed)?;
        writeln!(f, "events           {}, {:.0} a second", self.events, self.events_per_second)?;
        writeln!(f, "memory           {} MiB at most", self.rss_bytes >> 20)?;
        writeln!(f, "messages         {:.0} a device, {:.0} bytes", self.messages_per_device, self.message_bytes_per_device)?;
        writeln!(f, "per site                p50        p99        max")?;
        writeln!(f, "WAN copies       {}", self.wan_copies)?;
        writeln!(f, "time / bound     {}", self.time_over_bound)?;
        write!(f, "virtual seconds  {}", self.virtual_seconds)?;
        for Baseline { strategy, time_over_bound, wan_copies } in &self.strategies {
            write!(f, "\n{:<16} {:>10.4} of the bound, {:.4} WAN copies", format!("{strategy:?}"), time_over_bound.p50, wan_copies.p50)?;
        }
        if let Some(rollout) = &self.rollout {
            write!(f, "\nrollout          {} after {} s, {} devices started it", rollout.state, rollout.seconds, rollout.started)?;
            write!(f, "; {:?} {}", rollout.devices, rollout.reason)?;
        }
        Ok(())
    }
}

fn digest<'a>(sites: impl Iterator<Item = &'a SiteOutcome>) -> String {
    let mut hasher = Sha256::new();
    for site in sites {
        hasher.update(site.digest);
    }
    hex::encode(hasher.finalize())
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The kernel's high-water mark of this process; none where there is no `/proc`.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_of_real_sites() {
        let figures: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Spread::of_figures(figures.clone()), Spread { p50: 50.0, p99: 99.0, max: 100.0 });
        assert_eq!(Spread::of_figures(figures[..1].to_vec()), Spread { p50: 100.0, p99: 100.0, max: 100.0 });
    }
}
