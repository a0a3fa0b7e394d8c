//! Which devices are of one site: those on-link, and those that carry the same configured name (DESIGN, "site"). Whoever
//! proposes a peer, this rule decides; so no hint joins two sites.
//!
//! Two sites with the same private prefix are not told apart by it, and need not be: what is on-link is reached over the
//! own wire or not at all, and who answers there shows a certificate of the same organisation.
//!
//! | module | decides |
//! |---|---|
//! | [`members`] | which devices the seed shows as one site |
//! | [`places`] | which devices the seed names to each other, and for how long |
//!
//! Not here: what the interfaces of this machine are, which the driver reads; who is dialled when, see [`crate::dialer`].

pub mod members;
pub mod places;

use std::net::IpAddr;

/// What is known of a network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name, for people.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// What it is.
    pub kind: Kind,
    /// Its addresses, each with the length of its prefix.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// What an interface is; only [`Kind::Lan`] leads to peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A network of this machine's neighbours.
    #[default]
    Lan,
    /// This machine itself.
    Loopback,
    /// A tunnel or a point-to-point link: VPNs, PPP. Who is at its other end is far away.
    Tunnel,
    /// A bridge without a port to the outside: networks of containers and virtual machines, the same on every machine.
    Internal,
}

/// Facts of the system from which the kind of an interface follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// It is the loopback interface (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// It has one other end (`IFF_POINTOPOINT`), is a TUN or TAP device, or carries no Ethernet frames.
    pub tunnel: bool,
    /// For a bridge: whether one of its ports is an interface other than the end of a container's or virtual machine's link.
    pub bridge_with_outside_port: Option<bool>,
}

impl Kind {
    /// The kind of an interface with these facts. Names say nothing: anybody may call a VPN `eth1`.
    pub const fn of(facts: Facts) -> Self {
        match facts {
            Facts { loopback: true, .. } => Self::Loopback,
            Facts { tunnel: true, .. } => Self::Tunnel,
            Facts { bridge_with_outside_port: Some(false), .. } => Self::Internal,
            _ => Self::Lan,
        }
    }
}

/// Where a device is: its interfaces, and the site that its operator named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The interfaces that are up.
    pub interfaces: Vec<Interface>,
    /// The configured site.
    pub site: Option<String>,
}

impl Surroundings {
    /// Whether a device at `address` that carries the configured `site` is of this device's site.
    pub fn is_same_site(&self, address: IpAddr, site: Option<&str>) -> bool {
        self.is_on_link(address) || (self.site.is_some() && self.site.as_deref() == site)
    }

    /// Whether `address` is in the prefix of an interface that leads to neighbours, or of this machine.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let near = self.interfaces.iter().filter(|interface| matches!(interface.kind, Kind::Lan | Kind::Loopback));
        near.flat_map(|interface| &interface.addresses).any(|(own, prefix)| shares_prefix(*own, address, *prefix))
    }

    /// The interfaces that lead to neighbours.
    pub fn lans(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(|interface| interface.kind == Kind::Lan)
    }

    /// The addresses under which neighbours reach a device that takes connections at `listens_on`, without naming an interface.
    pub fn addresses(&self, listens_on: IpAddr) -> impl Iterator<Item = IpAddr> {
        let all = self.lans().flat_map(|interface| &interface.addresses).map(|(address, _)| *address);
        all.filter(move |address| takes(listens_on, *address) && !is_link_local(*address))
    }
}

/// Whether a socket at `listens_on`, which may be unspecified, takes what comes to `address`.
pub fn takes(listens_on: IpAddr, address: IpAddr) -> bool {
    match listens_on {
        IpAddr::V6(any) if any.is_unspecified() => true,
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4(),
        one => one == address,
    }
}

/// Whether an address means something only together with an interface (RFC 4291 §2.5.6; RFC 3927).
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn shares_prefix(own: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (own, other) {
        (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros() >= prefix.min(32),
        (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros() >= prefix.min(128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(kind: Kind, addresses: &[&str]) -> Interface {
        let parsed = addresses.iter().map(|text| text.split_once('/').unwrap());
        let addresses = parsed.map(|(address, prefix)| (address.parse().unwrap(), prefix.parse().unwrap())).collect();
        Interface { kind, addresses, ..Interface::default() }
    }

    fn at(site: Option<&str>) -> Surroundings {
        let interfaces = vec![
            interface(Kind::Loopback, &["127.0.0.1/8", "::1/128"]),
            interface(Kind::Lan, &["10.1.0.7/24", "fd00:1::7/64", "fe80::7/64"]),
            interface(Kind::Internal, &["172.17.0.1/16"]),
            interface(Kind::Tunnel, &["10.8.0.2/24"]),
        ];
        Surroundings { interfaces, site: site.map(str::to_owned) }
    }

    fn is_same(here: &Surroundings, address: &str, site: Option<&str>) -> bool {
        here.is_same_site(address.parse().unwrap(), site)
    }

    #[test]
    fn a_neighbour_is_who_is_on_link_of_an_interface_that_leads_to_a_lan() {
        let here = at(None);
        for near in ["10.1.0.200", "::ffff:10.1.0.200", "fd00:1::1", "fe80::1", "127.0.0.9", "::1"] {
            assert!(is_same(&here, near, None), "{near}");
        }
        for far in ["10.1.1.1", "192.0.2.1", "fd00:2::1", "172.17.0.2", "10.8.0.1", "::2"] {
            assert!(!is_same(&here, far, None), "{far}");
        }
    }

    #[test]
    fn a_name_joins_what_no_wire_joins_and_only_if_both_carry_it() {
        assert!(is_same(&at(Some("roof")), "10.2.0.1", Some("roof")));
        assert!(!is_same(&at(Some("roof")), "10.2.0.1", Some("cellar")));
        assert!(!is_same(&at(Some("roof")), "10.2.0.1", None));
        assert!(!is_same(&at(None), "10.2.0.1", Some("roof")));
        assert!(!is_same(&at(None), "10.2.0.1", None), "two without a name have none in common");
    }

    #[test]
    fn tunnels_and_networks_of_containers_lead_to_nobody() {
        let kind = |facts| Kind::of(facts);
        assert_eq!(kind(Facts::default()), Kind::Lan);
        assert_eq!(
            kind(Facts { bridge_with_outside_port: Some(true), ..Facts::default() }),
            Kind::Lan,
            "a bridge that has the LAN's cable"
        );
        assert_eq!(kind(Facts { bridge_with_outside_port: Some(false), ..Facts::default() }), Kind::Internal);
        assert_eq!(kind(Facts { tunnel: true, ..Facts::default() }), Kind::Tunnel);
        assert_eq!(kind(Facts { loopback: true, tunnel: true, ..Facts::default() }), Kind::Loopback);
    }

    #[test]
    fn a_device_is_reached_where_it_listens() {
        let here = at(None);
        let addresses =
            |listens_on: &str| -> Vec<String> { here.addresses(listens_on.parse().unwrap()).map(|address| address.to_string()).collect() };
        assert_eq!(addresses("::"), ["10.1.0.7", "fd00:1::7"]);
        assert_eq!(addresses("0.0.0.0"), ["10.1.0.7"]);
        assert_eq!(addresses("fd00:1::7"), ["fd00:1::7"]);
        assert!(addresses("127.0.0.1").is_empty(), "on this machine alone");
    }
}
