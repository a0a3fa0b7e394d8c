//! Which devices were seen behind the same address, or name the same site: a hint for their peers, kept in memory only.
//!
//! Not here: whether two devices really share a LAN; they find out themselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::name::{DeviceId, OrgName};
use protocol::wire::limits::ADDRESSES_MAX;

/// A device that did not poll for this long is no longer named: three default poll intervals.
const FRESH: Duration = Duration::from_secs(900);
/// Devices that are no longer named are forgotten this often; all places are looked at then.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Sites that are remembered; a fleet of a million devices has tens of thousands. Devices of further ones get no hint.
const SITES_MAX: usize = 100_000;
/// Devices of a site that are remembered.
const DEVICES_PER_SITE_MAX: usize = 256;

/// Where devices were seen.
#[derive(Debug, Default)]
pub struct Sites(Mutex<Memory>);

/// Every device of `sites` stands in `places` with its site, and the other way round.
#[derive(Debug, Default)]
struct Memory {
    sites: BTreeMap<Site, BTreeMap<DeviceId, Seen>>,
    places: BTreeMap<(OrgName, DeviceId), Place>,
    swept: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    org: OrgName,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Named(String),
    Behind(IpAddr),
}

#[derive(Clone, Debug)]
struct Seen {
    addresses: Vec<SocketAddr>,
    at: Instant,
}

impl Seen {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < FRESH
    }
}

impl Sites {
    /// A device polled from `from` and takes swarm connections on `port`, on its LANs at the addresses `lan`; the answer names
    /// others of its site. A device that told no address of its own is where it was seen.
    pub fn seen(&self, org: &OrgName, device: &DeviceId, from: IpAddr, lan: &[IpAddr], port: u16, site: Option<String>) -> Vec<SocketAddr> {
        let from = from.to_canonical();
        let site = Site { org: org.clone(), place: site.map_or(Place::Behind(from), Place::Named) };
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lan = if lan.is_empty() { &[from] } else { lan };
        let addresses = lan.iter().filter(|_| port != 0).map(|address| SocketAddr::new(*address, port)).collect();
        memory.seen(Instant::now(), site, device, addresses)
    }
}

impl Memory {
    fn seen(&mut self, now: Instant, site: Site, device: &DeviceId, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_INTERVAL) {
            self.sweep(now);
        }
        self.leave_other(&site, device);
        let known = self.sites.get(&site);
        let room = match known {
            Some(devices) => devices.len() < DEVICES_PER_SITE_MAX || devices.contains_key(device),
            None => self.sites.len() < SITES_MAX,
        };
        let others = known.into_iter().flatten().filter(|(other, seen)| *other != device && seen.is_fresh(now));
        let answer = others.flat_map(|(_, seen)| seen.addresses.iter().copied()).take(ADDRESSES_MAX).collect();
        if !addresses.is_empty() && room {
            self.places.insert((site.org.clone(), device.clone()), site.place.clone());
            self.sites.entry(site).or_default().insert(device.clone(), Seen { addresses, at: now });
        }
        answer
    }

    /// A device is in one place only: whoever moves, or claims to, leaves nothing behind.
    fn leave_other(&mut self, site: &Site, device: &DeviceId) {
        let key = (site.org.clone(), device.clone());
        let Some(place) = self.places.get(&key).filter(|place| **place != site.place).cloned() else { return };
        self.places.remove(&key);
        let left = Site { org: site.org.clone(), place };
        if let Some(devices) = self.sites.get_mut(&left) {
            devices.remove(device);
            if devices.is_empty() {
                self.sites.remove(&left);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        let places = &mut self.places;
        self.sites.retain(|site, devices| {
            devices.retain(|device, seen| {
                let stays = seen.is_fresh(now);
                if !stays {
                    places.remove(&(site.org.clone(), device.clone()));
                }
                stays
            });
            !devices.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_others_of_the_same_organisation_and_place_only() {
        let sites = Sites::default();
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let seen = |org: &OrgName, device: &str, from: &str, port, site: Option<&str>| {
            sites.seen(org, &device.parse().unwrap(), from.parse().unwrap(), &[], port, site.map(str::to_owned))
        };
        assert_eq!(seen(&acme, "a", "192.0.2.1", 1, None), []);
        assert_eq!(seen(&acme, "b", "192.0.2.1", 2, None), ["192.0.2.1:1".parse().unwrap()]);
        assert_eq!(seen(&other, "c", "192.0.2.1", 3, None), []);
        assert_eq!(seen(&acme, "d", "192.0.2.2", 4, Some("roof")), []);
        assert_eq!(seen(&acme, "e", "192.0.2.3", 5, Some("roof")), ["192.0.2.2:4".parse().unwrap()]);
        assert_eq!(seen(&acme, "a", "192.0.2.9", 1, None), [], "it moved");
        assert_eq!(seen(&acme, "b", "192.0.2.1", 2, None), [], "and is no longer named where it was");
    }

    #[test]
    fn devices_behind_one_address_are_named_by_their_own() {
        let sites = Sites::default();
        let seen = |device: &str, lan: &str| {
            let (org, lan) = ("acme".parse().unwrap(), lan.parse().unwrap());
            sites.seen(&org, &device.parse().unwrap(), "192.0.2.1".parse().unwrap(), &[lan], 7446, None)
        };
        assert_eq!(seen("a", "10.0.0.2"), []);
        assert_eq!(seen("b", "10.0.0.3"), ["10.0.0.2:7446".parse().unwrap()]);
    }

    fn poll(memory: &mut Memory, now: Instant, site: usize, device: &str) -> Vec<SocketAddr> {
        let site = Site { org: "acme".parse().unwrap(), place: Place::Named(site.to_string()) };
        memory.seen(now, site, &device.parse().unwrap(), vec!["192.0.2.1:1".parse().unwrap()])
    }

    #[test]
    fn a_full_memory_takes_no_new_site_before_old_ones_are_stale() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        for site in 0..SITES_MAX {
            poll(&mut memory, start, site, &format!("d{site}"));
        }
        poll(&mut memory, start, SITES_MAX, "late");
        assert_eq!((memory.sites.len(), memory.places.len()), (SITES_MAX, SITES_MAX));
        assert_eq!(poll(&mut memory, start, 0, "guest").len(), 1, "known sites go on");
        poll(&mut memory, start + FRESH, SITES_MAX, "late");
        assert_eq!((memory.sites.len(), memory.places.len()), (1, 1));
    }

    #[test]
    fn a_stale_device_is_not_named_also_between_sweeps() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        poll(&mut memory, start, 1, "a");
        poll(&mut memory, start + FRESH - Duration::from_secs(1), 2, "b");
        assert_eq!(poll(&mut memory, start + FRESH, 1, "c"), []);
        assert_eq!(memory.places.len(), 3, "not swept yet");
    }
}
