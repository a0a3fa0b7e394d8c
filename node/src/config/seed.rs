//! Settings of a seed: `seed.toml` in its data directory, written by `seed init` and the operator's to edit.
//!
//! Not here: keys.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use protocol::oci::authority::Origin;
use serde::{Deserialize, Serialize};

use super::identity::IdentityConfig;
use super::limits::Limits;
use super::logs::{LogsConfig, LogsFile, WebhookConfig, WebhookFile};
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
    /// The certificate chain that registry and API show, PEM, instead of one of the seed's own CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_certificate_file: Option<PathBuf>,
    /// The key of that certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<PathBuf>,
    /// Most Mbit/s that are sent to devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_mbit: Option<u64>,
    /// What clients may take of the seed.
    #[serde(default, skip_serializing_if = "Limits::are_default")]
    pub limits: Limits,
    /// How long device certificates live.
    #[serde(default, skip_serializing_if = "IdentityConfig::is_default")]
    pub identity: IdentityConfig,
    /// Access log and audit log.
    #[serde(default, skip_serializing_if = "LogsFile::is_default")]
    pub logs: LogsFile,
    /// Who is told of pushes, mounts, deletions and pulls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookFile>,
}

impl SeedFile {
    /// The defaults, on these addresses.
    pub fn new(listen: impl Into<String>, device_listen: impl Into<String>) -> Self {
        Self {
            listen: listen.into(),
            device_listen: device_listen.into(),
            metrics_listen: None,
            hosts: Vec::new(),
            insecure_http: false,
            public_url: None,
            tls_certificate_file: None,
            tls_key_file: None,
            egress_mbit: None,
            limits: Limits::default(),
            identity: IdentityConfig::default(),
            logs: LogsFile::default(),
            webhooks: Vec::new(),
        }
    }
}

/// What a command line or environment may override.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeedFlags {
    /// Where metrics are offered.
    pub metrics_listen: Option<String>,
    /// Most Mbit/s that are sent to devices.
    pub egress_mbit: Option<u64>,
    /// Where the access log goes.
    pub access_log: Option<String>,
    /// The certificate chain of registry and API.
    pub tls_certificate_file: Option<PathBuf>,
    /// The key of that certificate.
    pub tls_key_file: Option<PathBuf>,
    /// Limits, by the names of their variables.
    pub limits: BTreeMap<String, String>,
}

/// A certificate chain and its key in files that somebody else renews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM: the server's certificate first.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
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
    /// What registry and API show instead of a certificate of the seed's own CA.
    pub tls_files: Option<TlsFiles>,
    /// Most Mbit/s that are sent to devices.
    pub egress_mbit: Option<u64>,
    /// What clients may take of the seed.
    pub limits: Limits,
    /// How long device certificates live.
    pub identity: IdentityConfig,
    /// Access log and audit log.
    pub logs: LogsConfig,
    /// Who is told of pushes, mounts, deletions and pulls.
    pub webhooks: Vec<WebhookConfig>,
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
        let data = std::path::absolute(data).context("the data directory")?;
        let certificate = flags.tls_certificate_file.or(file.tls_certificate_file);
        let config = Self {
            tls_files: tls_files(&data, certificate, flags.tls_key_file.or(file.tls_key_file))?,
            data,
            listen: address(&file.listen, "listen")?,
            device_listen: address(&file.device_listen, "device_listen")?,
            metrics_listen: address(&metrics_listen, "metrics_listen")?,
            hosts: file.hosts,
            insecure_http: file.insecure_http,
            public_url: file.public_url.map(|url| url.parse().with_context(|| format!("public_url {url:?}"))).transpose()?,
            egress_mbit: flags.egress_mbit.or(file.egress_mbit),
            limits: file.limits.overridden(&flags.limits)?.checked()?,
            identity: file.identity.checked()?,
            logs: LogsConfig::check(file.logs, flags.access_log)?,
            webhooks: WebhookConfig::check_all(file.webhooks)?,
        };
        if config.insecure_http && config.tls_files.is_some() {
            bail!("insecure_http asks for plain HTTP, and tls_certificate_file for TLS; take one of them away");
        }
        for host in &config.hosts {
            check_host(host)?;
        }
        refuse_shared_ports(&[
            ("--listen", config.listen),
            ("--device-listen", config.device_listen),
            ("--metrics-listen", config.metrics_listen),
        ])?;
        for (address, what) in [(config.listen, "--listen"), (config.device_listen, "--device-listen")] {
            if address.ip().is_unspecified() && config.hosts.is_empty() {
                bail!("{what} is {address}, which is no address that others can use; say how they reach the seed with --host NAME");
            }
        }
        Ok(config)
    }

    /// Whether registry and API speak TLS.
    pub const fn uses_tls(&self) -> bool {
        self.tls_files.is_some() || self.uses_own_ca()
    }

    /// Whether the certificate of registry and API is one of the seed's own CA.
    pub const fn uses_own_ca(&self) -> bool {
        self.tls_files.is_none() && !self.insecure_http && !self.listen.ip().is_loopback()
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
            tls_certificate_file: self.tls_files.as_ref().map(|files| files.certificate.clone()),
            tls_key_file: self.tls_files.as_ref().map(|files| files.key.clone()),
            egress_mbit: self.egress_mbit,
            limits: self.limits.clone(),
            identity: self.identity,
            logs: self.logs.to_file(),
            webhooks: self.webhooks.iter().map(WebhookConfig::to_file).collect(),
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

/// Both files or none; a relative path is one in the data directory.
fn tls_files(data: &Path, certificate: Option<PathBuf>, key: Option<PathBuf>) -> anyhow::Result<Option<TlsFiles>> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate: data.join(certificate), key: data.join(key) })),
        (Some(_), None) => bail!("tls_certificate_file is set and tls_key_file is not; a certificate is of no use without its key"),
        (None, Some(_)) => bail!("tls_key_file is set and tls_certificate_file is not; a key is of no use without its certificate"),
    }
}

/// Refuses what can stand neither in a URL nor in a certificate.
fn check_host(host: &str) -> anyhow::Result<()> {
    if rustls_pki_types::ServerName::try_from(host).is_err() {
        bail!("--host {host:?} is neither a DNS name nor an IP address, and no certificate can carry it; give it without scheme and port");
    }
    Ok(())
}

/// Two listeners cannot have the same port, unless each has an address of its own; a port of 0 is chosen later.
fn refuse_shared_ports(listeners: &[(&str, SocketAddr)]) -> anyhow::Result<()> {
    for (index, (what, address)) in listeners.iter().enumerate() {
        for (other_what, other) in listeners.iter().take(index) {
            let same_ip = address.ip() == other.ip() || address.ip().is_unspecified() || other.ip().is_unspecified();
            if same_ip && address.port() == other.port() && address.port() != 0 {
                bail!("{other_what} and {what} both have port {}; each listener needs a port of its own", address.port());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, hosts: &[&str], insecure_http: bool) -> anyhow::Result<SeedConfig> {
        check_with(listen, "127.0.0.1:7443", |file| {
            file.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            file.insecure_http = insecure_http;
        })
    }

    fn check_with(listen: &str, device_listen: &str, change: impl FnOnce(&mut SeedFile)) -> anyhow::Result<SeedConfig> {
        let mut file = SeedFile::new(listen, device_listen);
        change(&mut file);
        SeedConfig::check(Path::new("/data"), file, SeedFlags::default())
    }

    #[test]
    fn own_tls_files_are_both_or_none_and_mean_https_also_on_loopback() {
        let with = |certificate: Option<&str>, key: Option<&str>, insecure_http| {
            check_with("127.0.0.1:5000", "127.0.0.1:7443", |file| {
                (file.tls_certificate_file, file.tls_key_file) = (certificate.map(PathBuf::from), key.map(PathBuf::from));
                file.insecure_http = insecure_http;
            })
        };
        let config = with(Some("/etc/tls.pem"), Some("tls.key"), false).unwrap();
        assert_eq!((config.url().as_str(), config.uses_own_ca()), ("https://127.0.0.1:5000", false));
        assert_eq!(config.tls_files.unwrap().key, Path::new("/data/tls.key"));
        assert!(with(Some("tls.pem"), None, false).unwrap_err().to_string().contains("tls_key_file"));
        assert!(with(None, Some("tls.key"), false).unwrap_err().to_string().contains("tls_certificate_file"));
        assert!(with(Some("tls.pem"), Some("tls.key"), true).unwrap_err().to_string().contains("insecure_http"));
    }

    #[test]
    fn a_host_is_one_that_a_certificate_can_carry() {
        for good in ["seed.example", "seed", "10.0.0.1", "2001:db8::1"] {
            check("0.0.0.0:5000", &[good], false).unwrap();
        }
        for bad in ["", "https://seed.example", "seed.example:5000", "se ed", "ä.example", "[::1]"] {
            assert!(check("0.0.0.0:5000", &["seed.example", bad], false).unwrap_err().to_string().contains("--host"), "{bad}");
        }
    }

    #[test]
    fn two_listeners_do_not_share_a_port() {
        let both = |listen, device_listen| check_with(listen, device_listen, |file| file.hosts = vec!["seed.example".to_owned()]);
        for (listen, device_listen) in
            [("127.0.0.1:5000", "127.0.0.1:5000"), ("0.0.0.0:5000", "10.0.0.1:5000"), ("10.0.0.1:5000", "[::]:5000")]
        {
            let refused = both(listen, device_listen).unwrap_err().to_string();
            assert!(refused.contains("--listen") && refused.contains("--device-listen") && refused.contains("5000"), "{refused}");
        }
        both("10.0.0.1:5000", "10.0.0.2:5000").unwrap();
        both("127.0.0.1:0", "127.0.0.1:0").unwrap();
    }

    #[test]
    fn plain_http_is_for_loopback_or_on_request_only() {
        assert_eq!(check("127.0.0.1:5000", &[], false).unwrap().url(), "http://127.0.0.1:5000");
        assert_eq!(check("10.0.0.1:5000", &[], false).unwrap().url(), "https://10.0.0.1:5000");
        assert_eq!(check("10.0.0.1:5000", &[], true).unwrap().url(), "http://10.0.0.1:5000");
        assert_eq!(check("127.0.0.1:5000", &[], false).unwrap().device_url(), "https://127.0.0.1:7443");
    }

    #[test]
    fn a_wildcard_address_needs_a_host() {
        assert!(check("0.0.0.0:5000", &[], false).unwrap_err().to_string().contains("--host"));
        let config = check("0.0.0.0:5000", &["seed.example", "10.0.0.1"], false).unwrap();
        assert_eq!(config.url(), "https://seed.example:5000");
        assert_eq!(config.certificate_hosts(config.listen), ["seed.example", "10.0.0.1"]);
    }
}
