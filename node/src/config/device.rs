//! Settings of a device.
//!
//! Not here: who the device is; enrolment wrote that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use protocol::label::{LabelRefused, Labels, check_count};
use serde::{Deserialize, Serialize};

use super::{address, read_optional, require_loopback};
use crate::api::SITE_BYTES_MAX;

/// Between polls, unless set: a million devices then ask 3,333 times a second.
const POLL_SECONDS: u64 = 300;
const ENDPOINT_LISTEN: &str = "127.0.0.1:8080";
const SWARM_LISTEN: &str = "[::]:7446";
const METRICS_LISTEN: &str = "127.0.0.1:0";
/// How long the start of a version may take, unless set, in seconds: pulling from the loopback interface and a database that
/// mends itself fit in.
const ACTIVATE_SECONDS: u64 = 300;

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Wanted.
    On,
    /// Not wanted.
    Off,
}

/// A way to find peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Multicast on the LAN.
    Mdns,
    /// The seed's hints.
    Seed,
    /// The configured peers.
    Peers,
}

/// The ways to find peers that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Beacons are sent and heard on the LAN.
    pub mdns: bool,
    /// The seed's hints are followed.
    pub seed: bool,
    /// The configured peers are called.
    pub peers: bool,
}

impl Discovery {
    fn of(ways: &[Way]) -> Self {
        let has = |way| ways.contains(&way);
        Self { mdns: has(Way::Mdns), seed: has(Way::Seed), peers: has(Way::Peers) }
    }

    fn ways(self) -> Vec<Way> {
        let ways = [(self.mdns, Way::Mdns), (self.seed, Way::Seed), (self.peers, Way::Peers)];
        ways.into_iter().filter_map(|(used, way)| used.then_some(way)).collect()
    }
}

/// `config.toml` of a device; every key can be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFile {
    /// Where the local registry listens (a loopback address).
    pub endpoint_listen: Option<String>,
    /// Where the swarm listens (UDP).
    pub swarm_listen: Option<String>,
    /// Where metrics are offered.
    pub metrics_listen: Option<String>,
    /// Swarm addresses of known peers.
    pub peers: Option<Vec<String>>,
    /// Seconds between polls.
    pub poll_seconds: Option<u64>,
    /// Devices with the same site share even when they are not on one network.
    pub site: Option<String>,
    /// The ways to find peers.
    pub discovery: Option<Vec<Way>>,
    /// Whether peers are told of signed documents over libp2p.
    pub libp2p: Option<Switch>,
    /// What the device says of itself to operators.
    pub labels: Option<BTreeMap<String, String>>,
    /// The command that starts a version, given to `sh -c`.
    pub activate_hook: Option<String>,
    /// Seconds that it may take.
    pub activate_seconds: Option<u64>,
    /// A new file for what the swarm hears and wants done.
    pub record: Option<PathBuf>,
}

/// Checked settings of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The data directory.
    pub data: PathBuf,
    /// Where the local registry listens.
    pub endpoint_listen: SocketAddr,
    /// Where the swarm listens.
    pub swarm_listen: SocketAddr,
    /// Where metrics are offered.
    pub metrics_listen: SocketAddr,
    /// Swarm addresses of known peers.
    pub peers: Vec<SocketAddr>,
    /// Between polls.
    pub poll_interval: Duration,
    /// The configured site.
    pub site: Option<String>,
    /// The ways to find peers that are in use.
    pub discovery: Discovery,
    /// Whether peers are told of signed documents over libp2p.
    pub libp2p: bool,
    /// What the device says of itself to operators.
    pub labels: Labels,
    /// The command that starts a version; none if versions are only stored.
    pub activate_hook: Option<String>,
    /// How long it may take.
    pub activate_time: Duration,
    /// A new file for what the swarm hears and wants done.
    pub record: Option<PathBuf>,
}

impl DeviceConfig {
    /// Puts settings together: `flags` win over the file `named`, or `config.toml` in `data`; defaults fill the rest.
    ///
    /// # Errors
    /// When a file or value does not fit.
    pub fn load(data: &Path, named: Option<&Path>, flags: DeviceFile) -> anyhow::Result<Self> {
        let file: DeviceFile = read_optional(named, &data.join("config.toml"))?;
        let text = |flag: Option<String>, file: Option<String>, default: &str| flag.or(file).unwrap_or_else(|| default.to_owned());
        let endpoint_listen = address(&text(flags.endpoint_listen, file.endpoint_listen, ENDPOINT_LISTEN), "endpoint_listen")?;
        require_loopback(endpoint_listen, "endpoint_listen")?;
        let peers = flags.peers.or(file.peers).unwrap_or_default();
        let poll_seconds = flags.poll_seconds.or(file.poll_seconds).unwrap_or(POLL_SECONDS);
        if !(1..=86_400).contains(&poll_seconds) {
            bail!("poll_seconds is {poll_seconds}; it must be from 1 to 86400");
        }
        let site = flags.site.or(file.site);
        if let Some(site) = site.as_ref().filter(|site| site.len() > SITE_BYTES_MAX) {
            bail!("site has {} bytes; the seed takes at most {SITE_BYTES_MAX}: choose a shorter name", site.len());
        }
        let discovery = flags.discovery.or(file.discovery).unwrap_or_else(|| vec![Way::Mdns, Way::Seed, Way::Peers]);
        let mut labels = file.labels.unwrap_or_default();
        labels.extend(flags.labels.unwrap_or_default());
        let labels = checked_labels(labels)?;
        let activate_seconds = flags.activate_seconds.or(file.activate_seconds).unwrap_or(ACTIVATE_SECONDS);
        if !(1..=86_400).contains(&activate_seconds) {
            bail!("activate_seconds is {activate_seconds}; it must be from 1 to 86400");
        }
        Ok(Self {
            data: std::path::absolute(data).context("the data directory")?,
            endpoint_listen,
            swarm_listen: address(&text(flags.swarm_listen, file.swarm_listen, SWARM_LISTEN), "swarm_listen")?,
            metrics_listen: address(&text(flags.metrics_listen, file.metrics_listen, METRICS_LISTEN), "metrics_listen")?,
            peers: peers.iter().map(|peer| address(peer, "a peer")).collect::<Result<_, _>>()?,
            poll_interval: Duration::from_secs(poll_seconds),
            site,
            discovery: Discovery::of(&discovery),
            libp2p: flags.libp2p.or(file.libp2p).unwrap_or(Switch::On) == Switch::On,
            labels,
            activate_hook: flags.activate_hook.or(file.activate_hook),
            activate_time: Duration::from_secs(activate_seconds),
            record: flags.record.or(file.record),
        })
    }

    /// The settings in force, as a file would say them.
    pub fn to_file(&self) -> DeviceFile {
        DeviceFile {
            endpoint_listen: Some(self.endpoint_listen.to_string()),
            swarm_listen: Some(self.swarm_listen.to_string()),
            metrics_listen: Some(self.metrics_listen.to_string()),
            peers: Some(self.peers.iter().map(SocketAddr::to_string).collect()),
            poll_seconds: Some(self.poll_interval.as_secs()),
            site: self.site.clone(),
            discovery: Some(self.discovery.ways()),
            libp2p: Some(if self.libp2p { Switch::On } else { Switch::Off }),
            labels: (!self.labels.is_empty())
                .then(|| self.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()),
            activate_hook: self.activate_hook.clone(),
            activate_seconds: Some(self.activate_time.as_secs()),
            record: self.record.clone(),
        }
    }
}

fn checked_labels(labels: BTreeMap<String, String>) -> anyhow::Result<Labels> {
    let checked = labels.into_iter().map(|(key, value)| Ok((key.parse()?, value.parse()?)));
    let labels = checked.collect::<Result<Labels, LabelRefused>>()?;
    check_count(&labels)?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.toml"), "poll_seconds = 7\nsite = \"a\"\n").unwrap();
        let flags = DeviceFile { site: Some("b".into()), ..DeviceFile::default() };
        let config = DeviceConfig::load(dir.path(), None, flags).unwrap();
        assert_eq!((config.poll_interval.as_secs(), config.site.as_deref()), (7, Some("b")));
        assert_eq!(config.swarm_listen.port(), 7446);
    }

    #[test]
    fn ways_to_find_peers_and_labels_are_read_and_shown() {
        let dir = tempfile::tempdir().unwrap();
        let all = DeviceConfig::load(dir.path(), None, DeviceFile::default()).unwrap();
        assert_eq!(all.discovery, Discovery { mdns: true, seed: true, peers: true });
        let text = "discovery = [\"peers\"]\n[labels]\nfloor = \"1\"\nkind = \"kiosk\"\n";
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
        let flags = DeviceFile { labels: Some([("floor".into(), "2".into())].into()), ..DeviceFile::default() };
        let config = DeviceConfig::load(dir.path(), None, flags).unwrap();
        assert_eq!(config.discovery, Discovery { mdns: false, seed: false, peers: true });
        let labels: Vec<String> = config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(labels, ["floor=2", "kind=kiosk"]);
        let shown = toml::to_string_pretty(&config.to_file()).unwrap();
        assert_eq!(toml::from_str::<DeviceFile>(&shown).unwrap(), config.to_file());
    }

    #[test]
    fn refuses_a_site_and_labels_that_are_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let load = |file| DeviceConfig::load(dir.path(), None, file).map(drop).map_err(|error| error.to_string());
        let site = |bytes| DeviceFile { site: Some("s".repeat(bytes)), ..DeviceFile::default() };
        assert_eq!(load(site(SITE_BYTES_MAX)), Ok(()));
        assert!(load(site(SITE_BYTES_MAX + 1)).unwrap_err().contains("site"));
        for (key, value) in [("", "v".into()), ("Upper", "v".into()), ("k", "v".repeat(64)), ("k", "\n".into())] {
            let labels = DeviceFile { labels: Some([(key.to_owned(), value)].into()), ..DeviceFile::default() };
            assert!(load(labels).unwrap_err().contains("label"), "{key}");
        }
    }

    #[test]
    fn refuses_an_endpoint_that_others_can_reach_and_an_impossible_interval() {
        let dir = tempfile::tempdir().unwrap();
        let open = DeviceFile { endpoint_listen: Some("0.0.0.0:8080".into()), ..DeviceFile::default() };
        assert!(DeviceConfig::load(dir.path(), None, open).unwrap_err().to_string().contains("loopback"));
        let never = DeviceFile { poll_seconds: Some(0), ..DeviceFile::default() };
        assert!(DeviceConfig::load(dir.path(), None, never).unwrap_err().to_string().contains("poll_seconds"));
        let never = DeviceFile { activate_seconds: Some(0), ..DeviceFile::default() };
        assert!(DeviceConfig::load(dir.path(), None, never).unwrap_err().to_string().contains("activate_seconds"));
    }
}
