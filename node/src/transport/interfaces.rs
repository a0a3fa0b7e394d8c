//! The interfaces of this machine, and their changes. They are read again every second: the kernel's own messages about
//! them carry neither names nor what a bridge is made of, so that each would lead to the same reading, and a site whose
//! cable is plugged in waits longer than that for its first lease.
//!
//! Not here: which of them lead to neighbours; [`protocol::site`] decides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use if_addrs::IfAddr;
use protocol::site::{Facts, Interface, Kind, Surroundings};
use tokio::sync::watch;

/// Between two readings: a reading takes about 0.1 ms.
const EVERY: Duration = Duration::from_secs(1);
const SYSTEM: &str = "/sys/class/net";
/// Ethernet in `/sys/class/net/*/type` (`ARPHRD_ETHER`; Wi-Fi says the same), and the loopback interface.
const FRAMES: [&str; 2] = ["1", "772"];

/// Follows the interfaces for as long as somebody looks at them.
pub async fn follow(surroundings: Arc<watch::Sender<Surroundings>>) {
    let mut ticks = tokio::time::interval(EVERY);
    while !surroundings.is_closed() {
        ticks.tick().await;
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(interfaces)) => {
                surroundings.send_if_modified(|known| {
                    let changed = known.interfaces != interfaces;
                    known.interfaces = interfaces;
                    changed
                });
            }
            Ok(Err(error)) => tracing::debug!(%error, "the interfaces cannot be read; trying again"),
            Err(_) => return,
        }
    }
}

/// The interfaces that are up and have an address, by number.
///
/// # Errors
/// When the system does not say.
pub fn read() -> std::io::Result<Vec<Interface>> {
    let mut found: BTreeMap<u32, Interface> = BTreeMap::new();
    for read in if_addrs::get_if_addrs()? {
        let Some(index) = read.index.filter(|_| read.is_oper_up() || read.is_loopback()) else { continue };
        let address = match &read.addr {
            IfAddr::V4(v4) => (v4.ip.into(), v4.prefixlen),
            IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen),
        };
        let interface = found.entry(index).or_insert_with(|| {
            let kind = Kind::of(facts(&Path::new(SYSTEM).join(&read.name), read.is_loopback(), read.is_p2p()));
            Interface { name: read.name.clone(), index, kind, addresses: Vec::new() }
        });
        interface.addresses.push(address);
    }
    for interface in found.values_mut() {
        interface.addresses.sort_unstable();
    }
    Ok(found.into_values().collect())
}

fn facts(folder: &Path, loopback: bool, point_to_point: bool) -> Facts {
    let frames = std::fs::read_to_string(folder.join("type")).ok();
    let other_frames = frames.is_some_and(|frames| !FRAMES.contains(&frames.trim()));
    let tunnel = point_to_point || folder.join("tun_flags").exists() || other_frames;
    let ports = std::fs::read_dir(folder.join("brif")).ok();
    let bridge_with_outside_port = ports.map(|ports| ports.flatten().any(|port| leads_outside(&port.path())));
    Facts { loopback, tunnel, bridge_with_outside_port }
}

/// Whether a bridge's port is more than the end of a container's or a virtual machine's link: it belongs to hardware, or lies
/// upon an interface (a VLAN, a bond) that this machine sees.
fn leads_outside(port: &Path) -> bool {
    let interface = port.canonicalize().ok().and_then(|path| path.parent().map(PathBuf::from)).unwrap_or_default();
    let lower = std::fs::read_dir(&interface).into_iter().flatten().flatten();
    let is_stacked = lower.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("lower_"));
    interface.join("device").exists() || is_stacked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_read() {
        let interfaces = read().unwrap();
        assert!(interfaces.iter().any(|interface| interface.kind == Kind::Loopback && !interface.addresses.is_empty()), "{interfaces:?}");
    }

    #[test]
    fn a_bridge_is_judged_by_its_ports_and_a_tunnel_by_its_frames() {
        let system = tempfile::tempdir().unwrap();
        let make = |path: &str, content: &str| {
            let path = system.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        make("eth0/type", "1\n");
        make("wg0/type", "65534\n");
        make("tap0/tun_flags", "0x1002\n");
        make("docker0/brif/veth1/brport", "");
        make("veth1/type", "1\n");
        make("br0/brif/eth0/brport", "");
        make("eth0/device", "");
        for (bridge, port) in [("docker0", "veth1"), ("br0", "eth0")] {
            // As in sysfs: what stands in brif is a link to the port's own folder, in which brport stands.
            let link = system.path().join(bridge).join("brif").join(port);
            std::fs::remove_dir_all(&link).unwrap();
            make(&format!("{port}/brport/state"), "3");
            std::os::unix::fs::symlink(system.path().join(port).join("brport"), link).unwrap();
        }
        let kind = |name: &str| Kind::of(facts(&system.path().join(name), false, false));
        assert_eq!(["eth0", "wg0", "tap0", "docker0", "br0"].map(kind), [Kind::Lan, Kind::Tunnel, Kind::Tunnel, Kind::Internal, Kind::Lan]);
    }
}
