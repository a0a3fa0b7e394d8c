//! Which devices are one site as the seed sees it, and how often a site brought the same bytes over its WAN.
//!
//! Not here: which devices meet, which they find out themselves; see [`super`].

use std::collections::{BTreeMap, BTreeSet};

use crate::name::DeviceId;
use crate::rollout::report::Fetched;

/// What the seed knows of a device.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// Its configured site.
    pub site: Option<&'a str>,
    /// The devices for which it polled too: those that it was connected with.
    pub others: &'a BTreeSet<DeviceId>,
}

/// The sites, each with its devices, in the order of their first ones: those that polled for each other, and those that carry
/// the same configured site. A public address says nothing: many LANs may be behind one.
pub fn sites(members: &[Member<'_>]) -> Vec<BTreeSet<DeviceId>> {
    let places: BTreeMap<&DeviceId, usize> = members.iter().enumerate().map(|(place, member)| (member.device, place)).collect();
    let mut parents: Vec<usize> = (0..members.len()).collect();
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, member) in members.iter().enumerate() {
        for other in member.others.iter().filter_map(|other| places.get(other)) {
            join(&mut parents, place, *other);
        }
        if let Some(site) = member.site {
            join(&mut parents, place, *named.entry(site).or_insert(place));
        }
    }
    let mut found: BTreeMap<usize, BTreeSet<DeviceId>> = BTreeMap::new();
    for (place, member) in members.iter().enumerate() {
        found.entry(root(&mut parents, place)).or_default().insert(member.device.clone());
    }
    let mut sites: Vec<BTreeSet<DeviceId>> = found.into_values().collect();
    sites.sort_unstable_by(|a, b| a.first().cmp(&b.first()));
    sites
}

fn join(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b)] = a.min(b);
}

/// The first of those that are joined with `place` (union-find with path halving).
fn root(parents: &mut [usize], mut place: usize) -> usize {
    while parents[place] != place {
        parents[place] = parents[parents[place]];
        place = parents[place];
    }
    place
}

/// What the devices of a site fetched of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Devices that said so.
    pub devices: u64,
    /// All their bytes.
    pub fetched: Fetched,
    /// The most that one of them fetched: one copy.
    copy_bytes: u64,
}

impl Copies {
    /// One more device.
    pub fn add(&mut self, fetched: Fetched) {
        self.devices += 1;
        self.fetched.add(fetched);
        self.copy_bytes = self.copy_bytes.max(fetched.bytes());
    }

    /// How often the site brought the version over its WAN: bytes from the WAN ÷ bytes of one copy; none if nothing was fetched.
    pub fn wan_copies(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people; bytes beyond 2^53 round")]
        let ratio = self.fetched.wan_bytes as f64 / self.copy_bytes as f64;
        (self.copy_bytes > 0).then_some(ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites_of(known: &[(&str, Option<&str>, &[&str])]) -> Vec<String> {
        let parsed: Vec<(DeviceId, Option<&str>, BTreeSet<DeviceId>)> = known
            .iter()
            .map(|(device, site, others)| (device.parse().unwrap(), *site, others.iter().map(|other| other.parse().unwrap()).collect()))
            .collect();
        let members: Vec<Member<'_>> = parsed.iter().map(|(device, site, others)| Member { device, site: *site, others }).collect();
        let text = |site: &BTreeSet<DeviceId>| site.iter().map(DeviceId::to_string).collect::<Vec<_>>().join(" ");
        sites(&members).iter().map(text).collect()
    }

    #[test]
    fn devices_that_poll_for_each_other_are_one_site() {
        let known: &[(&str, Option<&str>, &[&str])] =
            &[("a", None, &[]), ("b", None, &["d"]), ("c", None, &["a", "gone"]), ("d", None, &[]), ("e", None, &["d"])];
        assert_eq!(sites_of(known), ["a c", "b d e"]);
    }

    #[test]
    fn a_configured_name_joins_devices_that_do_not_meet() {
        let known: &[(&str, Option<&str>, &[&str])] =
            &[("a", Some("roof"), &[]), ("b", Some("cellar"), &[]), ("c", None, &["d"]), ("d", Some("roof"), &[])];
        assert_eq!(sites_of(known), ["a c d", "b"]);
    }

    #[test]
    fn one_copy_is_what_the_device_needed_that_fetched_most() {
        let mut copies = Copies::default();
        assert_eq!(copies.wan_copies(), None);
        for (wan_bytes, lan_bytes) in [(60, 40), (44, 56), (0, 10)] {
            copies.add(Fetched { wan_bytes, lan_bytes });
        }
        assert_eq!((copies.devices, copies.wan_copies()), (3, Some(1.04)));
    }
}
