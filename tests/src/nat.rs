//! Two LANs with the same private addresses behind one public address: each has a router that translates, and so has the
//! provider of both.
//!
//! ```text
//! LAN of the seed ── provider ──┬── router ── bridge ── devices 192.168.7.…
//!                               └── router ── bridge ── devices 192.168.7.…
//! ```
//!
//! Not here: a single LAN; see [`crate::lan`].

use std::fs;
use std::process::Command;

use crate::lan::{Lan, Place};
use crate::process::Outcome;

/// The router's address on each of the two LANs.
const ROUTER: &str = "192.168.7.1";

/// The two LANs, gone when dropped.
#[derive(Debug)]
pub struct Twins {
    provider: Place,
    /// The namespaces of the two routers, each with the bridge of its LAN.
    routers: [Place; 2],
    places: [Vec<Place>; 2],
}

impl Twins {
    /// Makes them, behind a new place on `lan`, which is their public address. Routers count what goes to anybody but `seed`.
    #[track_caller]
    pub fn behind(lan: &mut Lan, seed: &str) -> Self {
        let provider = lan.plug();
        let routers = ["a", "b"].map(|name| Place { namespace: format!("{}{name}", provider.namespace), address: ROUTER.to_owned() });
        let twins = Self { provider, routers, places: [Vec::new(), Vec::new()] };
        for (number, router) in twins.routers.iter().enumerate() {
            let (link, near, far) = (format!("twin{number}"), format!("100.64.{number}.1"), format!("100.64.{number}.2"));
            ip(&["netns", "add", &router.namespace]);
            ip(&[
                "link",
                "add",
                &link,
                "netns",
                &twins.provider.namespace,
                "type",
                "veth",
                "peer",
                "name",
                "wan",
                "netns",
                &router.namespace,
            ]);
            twins.provider.run(&["ip", "address", "add", &format!("{near}/30"), "dev", &link]);
            twins.provider.run(&["ip", "link", "set", &link, "up"]);
            for command in [
                format!("ip address add {far}/30 dev wan"),
                "ip link set wan up".to_owned(),
                "ip link add lan type bridge mcast_snooping 0".to_owned(),
                format!("ip address add {ROUTER}/24 dev lan"),
                "ip link set lan up".to_owned(),
                format!("ip route add default via {near}"),
            ] {
                router.run(&command.split(' ').collect::<Vec<_>>());
            }
            translate(router, "wan", seed);
        }
        translate(&twins.provider, "eth0", seed);
        twins
    }

    /// A new namespace on one of the two LANs; the first on each has the same address, and so have the others.
    #[track_caller]
    pub fn plug(&mut self, site: usize) -> Place {
        let number = self.places[site].len() + 2;
        let router = &self.routers[site];
        let place = Place { namespace: format!("{}{number}", router.namespace), address: format!("192.168.7.{number}") };
        let port = format!("p{number}");
        ip(&["netns", "add", &place.namespace]);
        self.places[site].push(place.clone());
        ip(&["link", "add", &port, "netns", &router.namespace, "type", "veth", "peer", "name", "eth0", "netns", &place.namespace]);
        router.run(&["ip", "link", "set", &port, "master", "lan", "up"]);
        for command in [
            "ip link set lo up".to_owned(),
            format!("ip address add {}/24 dev eth0", place.address),
            "ip link set eth0 up".to_owned(),
            format!("ip route add default via {ROUTER}"),
        ] {
            place.run(&command.split(' ').collect::<Vec<_>>());
        }
        place
    }

    /// Packets that left one of the two LANs for somebody else than the seed.
    ///
    /// # Panics
    /// When the firewall does not say.
    #[track_caller]
    pub fn strayed(&self) -> u64 {
        let packets = |router: &Place| -> u64 {
            let shown = router.run(&["nft", "list", "chain", "ip", "twin", "out"]).stdout;
            let words: Vec<&str> = shown.split_whitespace().collect();
            let at = words.iter().position(|word| *word == "packets").expect("the chain counts");
            words[at + 1].parse().expect("it is a number")
        };
        self.routers.iter().map(packets).sum()
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        for place in self.places.iter().flatten().chain(&self.routers) {
            let _ = Command::new("ip").args(["netns", "delete", &place.namespace]).status();
        }
    }
}

/// Makes a namespace a router that translates what leaves by `interface`, and counts what is not for the seed.
#[track_caller]
fn translate(place: &Place, interface: &str, seed: &str) {
    place.run(&["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
    let rules = format!(
        "table ip twin {{\n \
         chain nat {{\n type nat hook postrouting priority 100; policy accept;\n oifname \"{interface}\" masquerade\n }}\n \
         chain out {{\n type filter hook forward priority 0; policy accept;\n oifname \"{interface}\" ip daddr != {seed} counter\n }}\n}}\n"
    );
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), rules).expect("a temporary file can be written");
    place.run(&["nft", "-f", &file.path().display().to_string()]);
}

#[track_caller]
fn ip(arguments: &[&str]) {
    Outcome::of(Command::new("ip").args(arguments)).succeeded();
}
