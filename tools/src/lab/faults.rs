//! What goes wrong in a run, brought about when its time has come.
//!
//! Not here: which scenario has which fault; see [`super::scenario`].

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::fleet::{Device, Fleet};
use super::network::Network;
use super::scenario::{FAULT_SECONDS, Fault, Settings};

/// The one fault of a run.
pub(super) struct Trouble {
    fault: Option<(f64, Fault)>,
    /// When what ends by itself is to end.
    ends: Option<(Instant, Fault)>,
}

impl Trouble {
    /// One that has not begun.
    pub(super) const fn new(fault: Option<(f64, Fault)>) -> Self {
        Self { fault, ends: None }
    }

    /// How much longer the best possible run takes with the fault, in seconds.
    pub(super) const fn bound_more(fault: Option<(f64, Fault)>) -> f64 {
        match fault {
            Some((_, Fault::CutWan | Fault::RestartSeed)) => FAULT_SECONDS as f64,
            // While a site is apart, its halves share the WAN, at worst for the same bytes.
            Some((_, Fault::Partition)) => FAULT_SECONDS as f64 / 2.0,
            _ => 0.0,
        }
    }

    /// Begins or ends the fault if it is time; `copied` is the share of one copy that came over the WAN.
    pub(super) fn step(&mut self, copied: f64, fleet: &mut Fleet<'_>, network: &Network, settings: &Settings) -> Result<()> {
        if let Some((_, fault)) = self.fault.take_if(|(share, _)| copied >= *share) {
            eprintln!("lab: {fault:?}, when {:.0} % of a copy had come", copied * 100.0);
            begin(fault, fleet, network, settings)?;
            if matches!(fault, Fault::CutWan | Fault::Partition | Fault::RestartSeed) {
                self.ends = Some((Instant::now() + Duration::from_secs(FAULT_SECONDS), fault));
            }
        }
        if let Some((_, fault)) = self.ends.take_if(|(at, _)| *at <= Instant::now()) {
            end(fault, fleet, network, settings)?;
            eprintln!("lab: {fault:?} is over");
        }
        Ok(())
    }

    /// Whether the fault has begun, and is over if it ends by itself.
    pub(super) const fn is_over(&self) -> bool {
        self.fault.is_none() && self.ends.is_none()
    }
}

fn begin(fault: Fault, fleet: &mut Fleet<'_>, network: &Network, settings: &Settings) -> Result<()> {
    match fault {
        Fault::KillOwner => {
            for site in 0..settings.sites {
                let of_site = fleet.devices.iter_mut().filter(|device| device.site == site);
                let most = of_site.max_by_key(|device| tcp_received(&network.device(site, device.index)));
                most.map_or(Ok(()), Device::kill)?;
            }
            Ok(())
        }
        Fault::KillHalf => fleet.devices.iter_mut().filter(|device| device.index % 2 == 1).try_for_each(Device::kill),
        Fault::Partition => set_apart(network, settings, true),
        Fault::CutWan => (0..settings.sites).try_for_each(|site| network.set_wan(site, false)),
        Fault::RestartSeed => fleet.kill_seed(),
    }
}

fn end(fault: Fault, fleet: &mut Fleet<'_>, network: &Network, settings: &Settings) -> Result<()> {
    match fault {
        Fault::Partition => set_apart(network, settings, false),
        Fault::CutWan => (0..settings.sites).try_for_each(|site| network.set_wan(site, true)),
        Fault::RestartSeed => fleet.start_seed(),
        Fault::KillOwner | Fault::KillHalf => Ok(()),
    }
}

/// Bytes that came over the open TCP connections of a namespace: a device has none but to its seed.
fn tcp_received(namespace: &str) -> u64 {
    let output = Command::new("ip").args(["netns", "exec", namespace, "ss", "--tcp", "--info", "--no-header"]).output();
    output.map_or(0, |output| bytes_received(&String::from_utf8_lossy(&output.stdout)))
}

fn bytes_received(text: &str) -> u64 {
    text.split_whitespace().filter_map(|word| word.strip_prefix("bytes_received:")?.parse::<u64>().ok()).sum()
}

/// Lets the devices with even and those with odd numbers hear each other no more, or again.
fn set_apart(network: &Network, settings: &Settings, are_apart: bool) -> Result<()> {
    for site in 0..settings.sites {
        for device in 0..settings.devices {
            let others: Vec<u32> = (0..settings.devices).filter(|other| are_apart && other % 2 != device % 2).collect();
            if !are_apart || !others.is_empty() {
                network.set_deaf(site, device, &others)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_connections_add_up() {
        let text = "ESTAB 0 0 10.66.0.10:1 10.88.0.2:2\n\t cubic bytes_sent:9 bytes_received:100 segs_out:1\nESTAB 0 0 a b\n\t bytes_received:11\n";
        assert_eq!((bytes_received(text), bytes_received("")), (111, 0));
    }

    #[test]
    fn only_what_takes_the_wan_away_makes_the_bound_longer() {
        let more = |fault| Trouble::bound_more(Some((0.3, fault)));
        assert!(more(Fault::CutWan) > more(Fault::Partition) && more(Fault::Partition) > more(Fault::KillHalf));
        assert!(Trouble::bound_more(None).abs() < f64::EPSILON);
    }
}
