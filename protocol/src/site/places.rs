//! Where devices were seen when they polled, and with whom: which of them the seed names to each other, and for how long it
//! remembers any.
//!
//! Not here: whether two devices really share a LAN, they find out themselves; which of them are shown as one site, see
//! [`super::members`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::name::{DeviceId, OrgName};
use crate::time::Instant;
use crate::wire::limits::ADDRESSES_MAX;

/// A device that did not poll for this long, and for which nobody did, is no longer named: three default poll intervals.
const FRESH: Duration = Duration::from_secs(900);
/// Devices that are no longer named are forgotten this often; all places are looked at then.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Places that are remembered; a fleet of a million devices has tens of thousands. Devices of further ones get no hint.
const PLACES_MAX: usize = 100_000;
/// Devices of a place that are remembered.
const DEVICES_PER_PLACE_MAX: usize = 256;

/// What a device said when it polled.
#[derive(Clone, Debug)]
pub struct Polled {
    /// Where it was seen.
    pub from: IpAddr,
    /// Its addresses on its LANs.
    pub lan: Vec<IpAddr>,
    /// Where it takes swarm connections; 0 if it takes none.
    pub port: u16,
    /// Its configured site.
    pub site: Option<String>,
    /// The others of its site for which it asked too.
    pub others: BTreeSet<DeviceId>,
}

/// Where a device was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The address from which it polled.
    pub from: IpAddr,
    /// Its configured site.
    pub site: Option<String>,
    /// Where it takes swarm connections.
    pub addresses: Vec<SocketAddr>,
    /// For whom it polled when it last did so for others.
    pub others: BTreeSet<DeviceId>,
    /// When it polled, or another one did for it.
    pub at: Instant,
}

/// Where devices were seen. Every device in `devices` stands in `places` under its place, and the other way round.
#[derive(Debug, Default)]
pub struct Places {
    places: BTreeMap<Place, BTreeSet<DeviceId>>,
    devices: BTreeMap<OrgName, BTreeMap<DeviceId, Seen>>,
    swept: Option<Instant>,
}

/// Devices of one place are hinted at to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    org: OrgName,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Named(String),
    Behind(IpAddr),
}

impl Seen {
    fn place(&self, org: &OrgName) -> Place {
        Place { org: org.clone(), at: self.site.clone().map_or(At::Behind(self.from), At::Named) }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.since(self.at) < FRESH
    }
}

impl Places {
    /// A device polled at `now`; the answer names others of its place. A device that told no address of its own is where it was
    /// seen.
    pub fn on_polled(&mut self, now: Instant, org: &OrgName, device: &DeviceId, polled: Polled) -> Vec<SocketAddr> {
        let Polled { from, lan, port, site, others } = polled;
        let from = from.to_canonical();
        let lan = if lan.is_empty() { vec![from] } else { lan };
        let addresses = lan.into_iter().filter(|_| port != 0).map(|address| SocketAddr::new(address, port)).collect();
        self.seen(org, device, Seen { from, site, addresses, others, at: now })
    }

    /// Where each device of the organisation was seen that is not silent.
    pub fn devices(&self, now: Instant, org: &OrgName) -> BTreeMap<DeviceId, Seen> {
        let of_org = self.devices.get(org).into_iter().flatten();
        of_org.filter(|(_, seen)| seen.is_fresh(now)).map(|(device, seen)| (device.clone(), seen.clone())).collect()
    }

    fn seen(&mut self, org: &OrgName, device: &DeviceId, mut seen: Seen) -> Vec<SocketAddr> {
        let (now, place) = (seen.at, seen.place(org));
        if self.swept.is_none_or(|swept| now.since(swept) >= SWEEP_INTERVAL) {
            self.sweep(now);
        }
        let before = self.leave(org, device).filter(|before| before.place(org) == place);
        // A poll for itself alone does not say that it has no neighbours.
        if let Some(before) = before.filter(|_| seen.others.is_empty()) {
            seen.others = before.others;
        }
        let of_org = self.devices.entry(org.clone()).or_default();
        for other in &seen.others {
            if let Some(other) = of_org.get_mut(other) {
                other.at = now;
            }
        }
        let known = self.places.get(&place);
        let room = known.map_or(self.places.len() < PLACES_MAX, |devices| devices.len() < DEVICES_PER_PLACE_MAX);
        let others = known.into_iter().flatten().filter_map(|other| of_org.get(other));
        let fresh = others.filter(|other| other.is_fresh(now));
        let answer = fresh.flat_map(|other| other.addresses.iter().copied()).take(ADDRESSES_MAX).collect();
        if !seen.addresses.is_empty() && room {
            self.places.entry(place).or_default().insert(device.clone());
            of_org.insert(device.clone(), seen);
        }
        answer
    }

    /// A device is in one place only: whoever moves, or claims to, leaves nothing behind.
    fn leave(&mut self, org: &OrgName, device: &DeviceId) -> Option<Seen> {
        let left = self.devices.get_mut(org)?.remove(device)?;
        let place = left.place(org);
        if let Some(devices) = self.places.get_mut(&place) {
            devices.remove(device);
            if devices.is_empty() {
                self.places.remove(&place);
            }
        }
        Some(left)
    }

    fn sweep(&mut self, now: Instant) {
        self.swept = Some(now);
        let all = self.devices.iter().flat_map(|(org, devices)| devices.iter().map(move |(device, seen)| (org, device, seen)));
        let stale: Vec<_> = all.filter(|(_, _, seen)| !seen.is_fresh(now)).map(|(org, device, _)| (org.clone(), device.clone())).collect();
        for (org, device) in stale {
            self.leave(&org, &device);
        }
        self.devices.retain(|_, devices| !devices.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(from: &str, port: u16) -> Polled {
        Polled { from: from.parse().unwrap(), lan: Vec::new(), port, site: None, others: BTreeSet::new() }
    }

    #[test]
    fn names_others_of_the_same_organisation_and_place_only() {
        let mut places = Places::default();
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let mut seen = |org: &OrgName, device: &str, from: &str, port, site: Option<&str>| {
            places.on_polled(Instant::ZERO, org, &device.parse().unwrap(), Polled { site: site.map(str::to_owned), ..polled(from, port) })
        };
        assert_eq!(seen(&acme, "a", "192.0.2.1", 1, None), []);
        assert_eq!(seen(&acme, "b", "192.0.2.1", 2, None), ["192.0.2.1:1".parse().unwrap()]);
        assert_eq!(seen(&other, "c", "192.0.2.1", 3, None), []);
        assert_eq!(seen(&acme, "d", "192.0.2.2", 4, Some("roof")), []);
        assert_eq!(seen(&acme, "e", "192.0.2.3", 5, Some("roof")), ["192.0.2.2:4".parse().unwrap()]);
        assert_eq!(seen(&acme, "a", "192.0.2.9", 1, None), [], "it moved");
        assert_eq!(seen(&acme, "b", "192.0.2.1", 2, None), [], "and is no longer named where it was");
        assert_eq!(places.devices(Instant::ZERO, &other).into_keys().collect::<Vec<_>>(), ["c".parse().unwrap()]);
    }

    #[test]
    fn devices_behind_one_address_are_named_by_their_own() {
        let mut places = Places::default();
        let mut seen = |device: &str, lan: &str| {
            let (org, lan) = ("acme".parse().unwrap(), vec![lan.parse().unwrap()]);
            places.on_polled(Instant::ZERO, &org, &device.parse().unwrap(), Polled { lan, ..polled("192.0.2.1", 7446) })
        };
        assert_eq!(seen("a", "10.0.0.2"), []);
        assert_eq!(seen("b", "10.0.0.3"), ["10.0.0.2:7446".parse().unwrap()]);
    }

    fn count(places: &Places) -> usize {
        places.devices.values().map(BTreeMap::len).sum()
    }

    fn poll(places: &mut Places, now: Instant, site: usize, device: &str, others: &[&str]) -> Vec<SocketAddr> {
        let from = "192.0.2.1".parse().unwrap();
        let others = others.iter().map(|other| other.parse().unwrap()).collect();
        let seen = Seen { from, site: Some(site.to_string()), addresses: vec!["192.0.2.1:1".parse().unwrap()], others, at: now };
        places.seen(&"acme".parse().unwrap(), &device.parse().unwrap(), seen)
    }

    #[test]
    fn a_full_memory_takes_no_new_place_before_old_ones_are_stale() {
        let (mut places, start) = (Places::default(), Instant::ZERO);
        for site in 0..PLACES_MAX {
            poll(&mut places, start, site, &format!("d{site}"), &[]);
        }
        poll(&mut places, start, PLACES_MAX, "late", &[]);
        assert_eq!((places.places.len(), count(&places)), (PLACES_MAX, PLACES_MAX));
        assert_eq!(poll(&mut places, start, 0, "guest", &[]).len(), 1, "known places go on");
        poll(&mut places, start + FRESH, PLACES_MAX, "late", &[]);
        assert_eq!((places.places.len(), count(&places)), (1, 1));
    }

    #[test]
    fn a_stale_device_is_not_named_also_between_sweeps() {
        let (mut places, start) = (Places::default(), Instant::ZERO);
        poll(&mut places, start, 1, "a", &[]);
        poll(&mut places, start + FRESH - Duration::from_secs(1), 2, "b", &[]);
        assert_eq!(poll(&mut places, start + FRESH, 1, "c", &[]), []);
        assert_eq!(count(&places), 3, "not swept yet");
    }

    #[test]
    fn a_device_for_which_another_polls_is_not_stale() {
        let (mut places, start) = (Places::default(), Instant::ZERO);
        poll(&mut places, start, 1, "a", &[]);
        poll(&mut places, start + FRESH / 2, 1, "b", &["a", "unknown"]);
        assert_eq!(poll(&mut places, start + FRESH, 1, "c", &[]).len(), 2);
    }
}
