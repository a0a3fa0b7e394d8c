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
/// Sites that are remembered; a fleet of a million devices has tens of thousands.
const SITES_MAX: usize = 100_000;
/// Devices of a site that are remembered.
const DEVICES_PER_SITE_MAX: usize = 256;

/// Where devices were seen.
#[derive(Debug, Default)]
pub struct Sites(Mutex<BTreeMap<Site, BTreeMap<DeviceId, Seen>>>);

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

#[derive(Clone, Copy, Debug)]
struct Seen {
    address: SocketAddr,
    at: Instant,
}

impl Sites {
    /// A device polled from `from` and takes swarm connections on `port`; the answer names others of its site.
    pub fn seen(&self, org: &OrgName, device: &DeviceId, from: IpAddr, port: u16, site: Option<String>) -> Vec<SocketAddr> {
        let now = Instant::now();
        let place = site.map_or(Place::Behind(from.to_canonical()), Place::Named);
        let mut sites = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sites.len() >= SITES_MAX {
            sites.retain(|_, devices| devices.values().any(|seen| now.duration_since(seen.at) < FRESH));
        }
        let devices = sites.entry(Site { org: org.clone(), place }).or_default();
        devices.retain(|_, seen| now.duration_since(seen.at) < FRESH);
        if port != 0 && (devices.len() < DEVICES_PER_SITE_MAX || devices.contains_key(device)) {
            devices.insert(device.clone(), Seen { address: SocketAddr::new(from.to_canonical(), port), at: now });
        }
        devices.iter().filter(|(other, _)| *other != device).map(|(_, seen)| seen.address).take(ADDRESSES_MAX).collect()
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
            sites.seen(org, &device.parse().unwrap(), from.parse().unwrap(), port, site.map(str::to_owned))
        };
        assert_eq!(seen(&acme, "a", "192.0.2.1", 1, None), []);
        assert_eq!(seen(&acme, "b", "192.0.2.1", 2, None), ["192.0.2.1:1".parse().unwrap()]);
        assert_eq!(seen(&other, "c", "192.0.2.1", 3, None), []);
        assert_eq!(seen(&acme, "d", "192.0.2.2", 4, Some("roof")), []);
        assert_eq!(seen(&acme, "e", "192.0.2.3", 5, Some("roof")), ["192.0.2.2:4".parse().unwrap()]);
    }
}
