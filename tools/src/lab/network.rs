//! The lab's network: a seed, a router, sites with a bridge each, devices; rates, cuts and counters.
//!
//! ```text
//! seed ── [relay] ── router ──┬── site 1 ── bridge ──┬── device 1
//!                             └── site 2 …           └── device 2 …
//! ```
//!
//! Each is a namespace. Nothing is translated, so that the seed sees devices under their own addresses, and its hints are true.
//! A site's WAN is shaped by tbf at both of its ends, a device's LAN link too. Where bytes are counted or dropped, packets are
//! never larger than the link takes (`gso_max_segs 1`).
//!
//! Not here: the delay itself, see [`super::relay`]; how a namespace is made, see [`super::namespace`].

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::namespace::{PREFIX, add, batch, forward, ip, nft, remove, shape};
use super::scenario::Settings;

/// The seed's address.
pub(super) const SEED_ADDRESS: &str = "10.88.0.2";
/// A site's interface towards the router, where what crosses the WAN is counted.
const WAN: &str = "wan";
/// The largest packets of the tunnel through the relay have 50 bytes more than those inside.
const UNDERLAY_MTU: u32 = 1600;
/// What a device's link may send at once: a burst of large packets.
const LAN_BURST_BYTES: u64 = 64 << 10;
/// The same of a WAN link, where packets are small.
const WAN_BURST_BYTES: u64 = 16 << 10;
/// How long packets may wait at a link's end before it drops some.
const QUEUE_TIME: Duration = Duration::from_millis(100);

/// The namespaces of one lab; gone, with all processes in them, when dropped.
pub(super) struct Network {
    prefix: String,
    /// For each site, a process in its namespace, whose `/proc` shows the interfaces.
    anchors: Vec<u32>,
}

impl Network {
    /// Makes the network.
    pub(super) fn build(settings: &Settings) -> Result<Self> {
        let mut network = Self { prefix: format!("{PREFIX}{}-", std::process::id()), anchors: Vec::new() };
        network.build_wan(settings).context("making the lab's namespaces")?;
        for site in 0..settings.sites {
            network.build_site(site, settings).with_context(|| format!("making site {}", site + 1))?;
        }
        Ok(network)
    }

    /// The seed's namespace.
    pub(super) fn seed(&self) -> String {
        format!("{}seed", self.prefix)
    }

    /// The relay's namespace.
    pub(super) fn relay(&self) -> String {
        format!("{}relay", self.prefix)
    }

    /// The namespace of a site's own router.
    pub(super) fn site(&self, site: u32) -> String {
        format!("{}site{}", self.prefix, site + 1)
    }

    /// A device's namespace.
    pub(super) fn device(&self, site: u32, device: u32) -> String {
        format!("{}s{}d{}", self.prefix, site + 1, device + 1)
    }

    /// A device's address.
    pub(super) fn device_address(site: u32, device: u32) -> String {
        format!("10.66.{site}.{}", device + 10)
    }

    fn router(&self) -> String {
        format!("{}router", self.prefix)
    }

    fn build_wan(&self, settings: &Settings) -> Result<()> {
        let (seed, router, relay) = (self.seed(), self.router(), self.relay());
        for namespace in [&seed, &router] {
            add(namespace)?;
        }
        if settings.rtt_ms == 0 {
            ip(&format!("link add {WAN} netns {seed} type veth peer name seed netns {router}"))?;
        } else {
            add(&relay)?;
            for (namespace, link, side, peer_link) in [(&seed, "under", 1, "left"), (&router, "under", 2, "right")] {
                ip(&format!("link add {link} netns {namespace} mtu {UNDERLAY_MTU} type veth peer name {peer_link} netns {relay}"))?;
                batch(
                    &relay,
                    &[format!("link set {peer_link} mtu {UNDERLAY_MTU} up"), format!("address add 10.99.{side}.2/30 dev {peer_link}")],
                )?;
                let tunnel = if side == 1 { WAN } else { "seed" };
                batch(
                    namespace,
                    &[
                        format!("link set {link} up"),
                        format!("address add 10.99.{side}.1/30 dev {link}"),
                        format!(
                            "link add {tunnel} mtu 1500 type vxlan id 7 local 10.99.{side}.1 remote 10.99.{side}.2 dstport {} dev {link}",
                            super::relay::PORT
                        ),
                    ],
                )?;
            }
        }
        batch(
            &seed,
            &[
                format!("link set {WAN} gso_max_segs 1 up"),
                format!("address add {SEED_ADDRESS}/30 dev {WAN}"),
                "route add default via 10.88.0.1".to_owned(),
            ],
        )?;
        batch(&router, &["link set seed gso_max_segs 1 up".to_owned(), "address add 10.88.0.1/30 dev seed".to_owned()])?;
        forward(&router)
    }

    fn build_site(&mut self, site: u32, settings: &Settings) -> Result<()> {
        let (router, name) = (self.router(), self.site(site));
        add(&name)?;
        forward(&name)?;
        let down = format!("site{}", site + 1);
        ip(&format!("link add {down} netns {router} type veth peer name {WAN} netns {name}"))?;
        batch(
            &router,
            &[
                format!("link set {down} gso_max_segs 1 up"),
                format!("address add 10.77.{site}.1/30 dev {down}"),
                format!("route add 10.66.{site}.0/24 via 10.77.{site}.2"),
            ],
        )?;
        batch(
            &name,
            &[
                "link add lan type bridge".to_owned(),
                "link set lan up".to_owned(),
                format!("address add 10.66.{site}.1/24 dev lan"),
                format!("link set {WAN} gso_max_segs 1 up"),
                format!("address add 10.77.{site}.2/30 dev {WAN}"),
                format!("route add default via 10.77.{site}.1"),
            ],
        )?;
        let queue = QUEUE_TIME + Duration::from_millis(settings.rtt_ms);
        shape(&router, &down, settings.wan_mbit, WAN_BURST_BYTES, queue)?;
        shape(&name, WAN, settings.wan_mbit, WAN_BURST_BYTES, queue)?;
        let anchor = Command::new("ip").args(["netns", "exec", &name, "sleep", "infinity"]).stdin(Stdio::null()).spawn();
        self.anchors.push(anchor.context("starting `sleep`")?.id());
        for device in 0..settings.devices {
            self.build_device(site, device, settings)?;
        }
        Ok(())
    }

    fn build_device(&self, site: u32, device: u32, settings: &Settings) -> Result<()> {
        let (name, site_name) = (self.device(site, device), self.site(site));
        add(&name)?;
        let port = port(device);
        ip(&format!("link add eth0 netns {name} type veth peer name {port} netns {site_name}"))?;
        let whole = settings.loss_percent == 0;
        let segments = if whole { "" } else { "gso_max_segs 1 " };
        batch(&site_name, &[format!("link set {port} master lan"), format!("link set {port} {segments}up")])?;
        batch(
            &name,
            &[
                format!("link set eth0 {segments}up"),
                format!("address add {}/24 dev eth0", Self::device_address(site, device)),
                format!("route add default via 10.66.{site}.1"),
            ],
        )?;
        let mbit = settings.lan_mbit_of(device);
        shape(&name, "eth0", mbit, LAN_BURST_BYTES, QUEUE_TIME)?;
        shape(&site_name, &port, mbit, LAN_BURST_BYTES, QUEUE_TIME)?;
        if !whole {
            nft(
                &name,
                &format!(
                    "table inet loss {{ chain input {{ type filter hook input priority 0; iif eth0 numgen random mod 100 < {} drop; }}; }}",
                    settings.loss_percent
                ),
            )?;
        }
        Ok(())
    }

    /// Bytes that came to a site over its WAN since the network was made.
    pub(super) fn wan_received(&self, site: u32) -> Result<u64> {
        let anchor = self.anchors.get(site as usize).context("there is no such site")?;
        let path = format!("/proc/{anchor}/net/dev");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        received(&text, WAN).with_context(|| format!("{path} does not show {WAN}"))
    }

    /// Cuts a site's WAN, or mends it.
    pub(super) fn set_wan(&self, site: u32, is_up: bool) -> Result<()> {
        let rules = if is_up {
            "delete table inet cut".to_owned()
        } else {
            format!("table inet cut {{ chain forward {{ type filter hook forward priority 0; iif {WAN} drop; oif {WAN} drop; }}; }}")
        };
        nft(&self.site(site), &rules)
    }

    /// Lets a device hear nothing from some others, or from all again.
    pub(super) fn set_deaf(&self, site: u32, device: u32, to: &[u32]) -> Result<()> {
        let name = self.device(site, device);
        if to.is_empty() {
            return nft(&name, "delete table inet apart");
        }
        let addresses: Vec<String> = to.iter().map(|device| Self::device_address(site, *device)).collect();
        let set = addresses.join(", ");
        nft(&name, &format!("table inet apart {{ chain input {{ type filter hook input priority 0; ip saddr {{ {set} }} drop; }}; }}"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.prefix);
    }
}

/// A device's port at its site's bridge.
fn port(device: u32) -> String {
    format!("port{}", device + 1)
}

/// What `/proc/net/dev` says an interface has received, in bytes.
fn received(text: &str, interface: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_an_interface_received_and_not_what_it_sent() {
        let text = "Inter-|   Receive\n face |bytes    packets\n    lo:       1       2\n   wan:  190543     140    0    0    0     0          0         0    21404\n wan2: 7 8\n";
        assert_eq!((received(text, "wan"), received(text, "lo"), received(text, "eth0")), (Some(190_543), Some(1), None));
    }
}
