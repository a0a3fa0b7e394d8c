//! Settings of a device.
//!
//! Not here: who the device is; enrolment wrote that.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{address, read_optional, require_loopback};

/// Between polls, unless set: a million devices then ask 3,333 times a second.
const POLL_SECONDS: u64 = 300;
const ENDPOINT_LISTEN: &str = "127.0.0.1:8080";
const SWARM_LISTEN: &str = "[::]:7446";
const METRICS_LISTEN: &str = "127.0.0.1:0";

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
        Ok(Self {
            data: std::path::absolute(data).context("the data directory")?,
            endpoint_listen,
            swarm_listen: address(&text(flags.swarm_listen, file.swarm_listen, SWARM_LISTEN), "swarm_listen")?,
            metrics_listen: address(&text(flags.metrics_listen, file.metrics_listen, METRICS_LISTEN), "metrics_listen")?,
            peers: peers.iter().map(|peer| address(peer, "a peer")).collect::<Result<_, _>>()?,
            poll_interval: Duration::from_secs(poll_seconds),
            site: flags.site.or(file.site),
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
        }
    }
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
    fn refuses_an_endpoint_that_others_can_reach_and_an_impossible_interval() {
        let dir = tempfile::tempdir().unwrap();
        let open = DeviceFile { endpoint_listen: Some("0.0.0.0:8080".into()), ..DeviceFile::default() };
        assert!(DeviceConfig::load(dir.path(), None, open).unwrap_err().to_string().contains("loopback"));
        let never = DeviceFile { poll_seconds: Some(0), ..DeviceFile::default() };
        assert!(DeviceConfig::load(dir.path(), None, never).unwrap_err().to_string().contains("poll_seconds"));
    }
}
