//! Settings of a seed: `seed.toml` in its data directory, written by `seed init` and the operator's to edit.
//!
//! Not here: keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use protocol::oci::authority::Origin;
use serde::{Deserialize, Serialize};

use super::{address, read_toml};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "seed.toml";

const METRICS_LISTEN: &str = "127.0.0.1:0";

/// `seed.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    /// Where registry and API listen.
    pub listen: String,
    /// Where devices connect.
    pub device_listen: String,
    /// Where metrics are offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<String>,
    /// Names or addresses under which the seed is reached; they stand in its URLs and certificates.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Registry and API speak plain HTTP also where others can listen in.
    #[serde(default)]
    pub insecure_http: bool,
    /// Where clients find the registry, if that is a TLS proxy in front of it: scheme, host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Most Mbit/s that are sent to devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_mbit: Option<u64>,
}

/// What a command line or environment may override.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeedFlags {
    /// Where metrics are offered.
    pub metrics_listen: Option<String>,
    /// Most Mbit/s that are sent to devices.
    pub egress_mbit: Option<u64>,
}

/// Checked settings of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedConfig {
    /// The data directory.
    pub data: PathBuf,
    /// Where registry and API listen.
    pub listen: SocketAddr,
    /// Where devices connect.
    pub device_listen: SocketAddr,
    /// Where metrics are offered.
    pub metrics_listen: SocketAddr,
    /// Names or addresses under which the seed is reached.
    pub hosts: Vec<String>,
    /// Registry and API speak plain HTTP also where others can listen in.
    pub insecure_http: bool,
    /// Where clients find the registry, if not at the `Host` that they name.
    pub public_url: Option<Origin>,
    /// Most Mbit/s that are sent to devices.
    pub egress_mbit: Option<u64>,
}

impl SeedConfig {
    /// Reads the settings of the seed in `data`, or in the file `named`.
    ///
    /// # Errors
    /// When there is none, or a value does not fit.
    pub fn load(data: &Path, named: Option<&Path>, flags: SeedFlags) -> anyhow::Result<Self> {
        let default = data.join(FILE_NAME);
        if named.is_none() && !default.exists() {
            bail!("there is no seed in {}; run `hedgerow seed init --data {0} --keys DIR --org ORG` first", data.display());
        }
        let file: SeedFile = read_toml(named.unwrap_or(&default))?;
        Self::check(data, file, flags)
    }

    /// Checks settings.
    ///
    /// # Errors
    /// When a value does not fit.
    pub fn check(data: &Path, file: SeedFile, flags: SeedFlags) -> anyhow::Result<Self> {
        let metrics_listen = flags.metrics_listen.or(file.metrics_listen).unwrap_or_else(|| METRICS_LISTEN.to_owned());
        let config = Self {
            data: std::path::absolute(data).context("the data directory")?,
            listen: address(&file.listen, "listen")?,
            device_listen: address(&file.device_listen, "device_listen")?,
            metrics_listen: address(&metrics_listen, "metrics_listen")?,
            hosts: file.hosts,
            insecure_http: file.insecure_http,
            public_url: file.public_url.map(|url| url.parse().with_context(|| format!("public_url {url:?}"))).transpose()?,
            egress_mbit: flags.egress_mbit.or(file.egress_mbit),
        };
        for (address, what) in [(config.listen, "--listen"), (config.device_listen, "--device-listen")] {
            if address.ip().is_unspecified() && config.hosts.is_empty() {
                bail!("{what} is {address}, which is no address that others can use; say how they reach the seed with --host NAME");
            }
        }
        Ok(config)
    }

    /// Whether registry and API speak TLS.
    pub const fn uses_tls(&self) -> bool {
        !self.insecure_http && !self.listen.ip().is_loopback()
    }

    /// Where registry and API are found.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.uses_tls() { "https" } else { "http" }, self.authority(self.listen))
    }

    /// Where devices connect.
    pub fn device_url(&self) -> String {
        format!("https://{}", self.authority(self.device_listen))
    }

    /// Names and addresses that stand in the server certificates.
    pub fn certificate_hosts(&self, address: SocketAddr) -> Vec<String> {
        if self.hosts.is_empty() { vec![address.ip().to_string()] } else { self.hosts.clone() }
    }

    /// The settings in force, as a file would say them.
    pub fn to_file(&self) -> SeedFile {
        SeedFile {
            listen: self.listen.to_string(),
            device_listen: self.device_listen.to_string(),
            metrics_listen: Some(self.metrics_listen.to_string()),
            hosts: self.hosts.clone(),
            insecure_http: self.insecure_http,
            public_url: self.public_url.as_ref().map(ToString::to_string),
            egress_mbit: self.egress_mbit,
        }
    }

    fn authority(&self, address: SocketAddr) -> String {
        match self.hosts.first() {
            Some(host) if host.contains(':') => format!("[{host}]:{}", address.port()),
            Some(host) => format!("{host}:{}", address.port()),
            None => address.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, hosts: &[&str], insecure_http: bool) -> anyhow::Result<SeedConfig> {
        let file = SeedFile {
            listen: listen.into(),
            device_listen: listen.into(),
            metrics_listen: None,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            insecure_http,
            public_url: None,
            egress_mbit: None,
        };
        SeedConfig::check(Path::new("/data"), file, SeedFlags::default())
    }

    #[test]
    fn plain_http_is_for_loopback_or_on_request_only() {
        assert_eq!(check("127.0.0.1:5000", &[], false).unwrap().url(), "http://127.0.0.1:5000");
        assert_eq!(check("10.0.0.1:5000", &[], false).unwrap().url(), "https://10.0.0.1:5000");
        assert_eq!(check("10.0.0.1:5000", &[], true).unwrap().url(), "http://10.0.0.1:5000");
        assert_eq!(check("127.0.0.1:5000", &[], false).unwrap().device_url(), "https://127.0.0.1:5000");
    }

    #[test]
    fn a_wildcard_address_needs_a_host() {
        assert!(check("0.0.0.0:5000", &[], false).unwrap_err().to_string().contains("--host"));
        let config = check("0.0.0.0:5000", &["seed.example", "10.0.0.1"], false).unwrap();
        assert_eq!(config.url(), "https://seed.example:5000");
        assert_eq!(config.certificate_hosts(config.listen), ["seed.example", "10.0.0.1"]);
    }
}
