//! What keeps a device from working, found from outside of it: each check says what it found and, if something is wrong,
//! what to do next.
//!
//! Not here: what a running device knows, see [`super::control`]; printing.

use std::net::UdpSocket;
use std::path::Path;

use protocol::site::Surroundings;
use rustix::fs::statvfs;
use serde::Serialize;

use super::control::Health;
use super::identity::Identity;
use super::seed_client::{Poll, SeedClient};
use super::state::DeviceDir;
use crate::config::device::DeviceConfig;
use crate::files;
use crate::transport::interfaces;
use crate::transport::quic::{SOCKET_RECEIVE_BYTES, SOCKET_SEND_BYTES};
use crate::trust::VerifiedRepository;

/// Less free space than this is too little for the next version of most apps.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at, one word.
    pub check: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do; none if nothing need be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    const fn good(check: &'static str, found: String) -> Self {
        Self { check, ok: true, found, next: None }
    }

    fn bad(check: &'static str, found: String, next: impl Into<String>) -> Self {
        Self { check, ok: false, found, next: Some(next.into()) }
    }
}

/// Looks at the device in `config.data`; `running` is what it says itself, if it runs.
///
/// # Errors
/// When no device is enrolled there.
pub async fn examine(config: &DeviceConfig, running: Option<&Health>) -> anyhow::Result<Vec<Finding>> {
    let dir = DeviceDir::new(&config.data);
    let enrolment = dir.enrolment()?;
    let mut findings = vec![
        process(running),
        ports(config, running),
        lans(running),
        multicast(config, running),
        buffers(Path::new("/proc/sys/net/core")),
        disk(&config.data),
    ];
    findings.extend(seed(&dir, &enrolment.device_url, running).await);
    findings.push(peers(running));
    Ok(findings)
}

fn process(running: Option<&Health>) -> Finding {
    match running {
        Some(_) => Finding::good("process", "the device runs".to_owned()),
        None => Finding::bad("process", "the device does not run".to_owned(), "start it with `hedgerow device run --data DIR`"),
    }
}

fn ports(config: &DeviceConfig, running: Option<&Health>) -> Finding {
    let listen = running.map_or(config.swarm_listen, |health| health.swarm_addr);
    let found = |words: &str| format!("UDP {listen} {words}");
    if running.is_some() {
        return Finding::good("ports", found("is open; let it through the firewall from the LAN, and UDP 5353 for multicast"));
    }
    match UdpSocket::bind(listen) {
        Ok(_) => Finding::good("ports", found("is free")),
        Err(error) => {
            Finding::bad("ports", found(&format!("cannot be used: {error}")), "stop what uses it, or choose another with --swarm-listen")
        }
    }
}

fn lans(running: Option<&Health>) -> Finding {
    let read = || {
        let interfaces = interfaces::read().unwrap_or_default();
        Surroundings { interfaces, site: None }.lans().map(|lan| lan.name.clone()).collect()
    };
    let lans: Vec<String> = running.map_or_else(read, |health| health.lans.clone());
    if lans.is_empty() {
        let next = "plug in a cable or join a Wi-Fi; VPNs, container bridges and loopback are not counted";
        return Finding::bad("lans", "no interface leads to a LAN".to_owned(), next);
    }
    Finding::good("lans", lans.join(", "))
}

fn multicast(config: &DeviceConfig, running: Option<&Health>) -> Finding {
    match running.and_then(|health| health.multicast_seen) {
        _ if !config.discovery.mdns => Finding::good("multicast", "not used: --discovery leaves mdns out".to_owned()),
        Some(0) => {
            let next = "if there are other devices on this LAN, let UDP 5353 through their firewalls and its switches (IGMP snooping without \
                        a querier drops it), or go without: the seed's hints find peers at the next poll, --peer and --site always";
            Finding::bad("multicast", "no datagram of anybody else came by multicast".to_owned(), next)
        }
        Some(seen) => Finding::good("multicast", format!("{seen} datagrams of others came by multicast")),
        None => Finding::bad("multicast", "unknown while the device does not run".to_owned(), "start the device"),
    }
}

fn buffers(limits: &Path) -> Finding {
    let limit = |name: &str| files::read_text(&limits.join(name)).ok().and_then(|text| text.trim().parse::<usize>().ok());
    let (receive, send) = (limit("rmem_max").unwrap_or(0), limit("wmem_max").unwrap_or(0));
    let found = format!(
        "the kernel grants {receive} bytes to receive and {send} to send on a UDP socket; the device asks for {SOCKET_RECEIVE_BYTES} and {SOCKET_SEND_BYTES}"
    );
    if receive >= SOCKET_RECEIVE_BYTES && send >= SOCKET_SEND_BYTES {
        return Finding::good("buffers", found);
    }
    let next = "set net.core.rmem_max and net.core.wmem_max to 4194304, as 60-hedgerow.conf in node/sysctl.d does, and restart the device";
    Finding::bad("buffers", found, next)
}

fn disk(data: &Path) -> Finding {
    match statvfs(data) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{} MiB free in {}", free >> 20, data.display());
            if free >= FREE_BYTES_MIN { Finding::good("disk", found) } else { Finding::bad("disk", found, "make room on the disk") }
        }
        Err(error) => Finding::bad("disk", format!("{}: {error}", data.display()), "look at the disk"),
    }
}

/// Whether the seed answers, and how the clock compares with its own.
async fn seed(dir: &DeviceDir, url: &str, running: Option<&Health>) -> [Finding; 2] {
    let asked = async {
        let enrolment = dir.enrolment()?;
        let root = files::read_text(&dir.join("root.json"))?;
        let repository = VerifiedRepository::open(&dir.join("trust"), &enrolment.org, root.as_bytes())?;
        let identity = Identity::open(dir, repository.root(), repository.timestamp_expires())?;
        let client = SeedClient::new(identity.credentials.clone(), url)?;
        let answer = client.state(Poll::default()).await.map(drop);
        anyhow::Ok((answer, identity.time()))
    };
    let (seed, trusted) = match asked.await {
        Ok((Ok(()), time)) => (Finding::good("seed", format!("{url} answers")), Some(time.trust.is_trusted())),
        Ok((Err(error), _)) => {
            let next = "check the WAN, its firewall (TCP) and the name; until then peers bring what they have";
            (Finding::bad("seed", format!("{url}: {error:#}"), next), running.map(|health| health.clock_trusted))
        }
        Err(error) => (Finding::bad("seed", format!("{error:#}"), "mend the data directory, or enrol again"), None),
    };
    let clock = match trusted {
        Some(true) => Finding::good("clock", "it fits what was verified".to_owned()),
        Some(false) => {
            Finding::bad("clock", "it does not fit what was verified".to_owned(), "set it, for example with NTP; staged starts wait for it")
        }
        None => Finding::bad("clock", "unknown".to_owned(), "it is compared with the seed's as soon as that answers"),
    };
    [seed, clock]
}

fn peers(running: Option<&Health>) -> Finding {
    match running.map(|health| health.peers) {
        Some(0) => Finding::bad(
            "peers",
            "none is connected".to_owned(),
            "if there are others on this LAN, see multicast and ports on both machines",
        ),
        Some(peers) => Finding::good("peers", format!("{peers} connected")),
        None => Finding::bad("peers", "unknown while the device does not run".to_owned(), "start the device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_are_too_small_lead_to_the_file_that_raises_them() {
        let limits = tempfile::tempdir().unwrap();
        let set = |bytes: usize| {
            for name in ["rmem_max", "wmem_max"] {
                std::fs::write(limits.path().join(name), format!("{bytes}\n")).unwrap();
            }
        };
        set(212_992);
        let small = buffers(limits.path());
        assert!(!small.ok && small.next.unwrap().contains("60-hedgerow.conf"));
        let file = include_str!("../../sysctl.d/60-hedgerow.conf");
        let granted = file.lines().filter_map(|line| line.split_once("max = ")).map(|(_, bytes)| bytes.parse().unwrap());
        granted.for_each(|bytes| {
            set(bytes);
            assert!(buffers(limits.path()).ok, "the file grants what is asked for");
        });
    }

    #[test]
    fn a_port_that_is_taken_is_found_before_the_device_runs() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let listen = Some(taken.local_addr().unwrap().to_string());
        let file = crate::config::device::DeviceFile { swarm_listen: listen, ..Default::default() };
        let config = DeviceConfig::load(dir.path(), None, file).unwrap();
        assert!(!ports(&config, None).ok);
        drop(taken);
        assert!(ports(&config, None).ok);
    }
}
