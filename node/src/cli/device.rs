//! `hedgerow device …`: this machine as a device.
//!
//! | module | holds |
//! |---|---|
//! | [`peers`] | `peers` |
//! | [`doctor`] | `doctor` |
//! | [`grant`] | `grant` |
//!
//! Not here: how a device works; see [`crate::device`].

pub mod doctor;
pub mod grant;
pub mod peers;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::label::Label;
use protocol::name::{DeviceId, Platform};
use protocol::statement::TrustToken;
use serde_json::json;

use super::Output;
use super::swarm::Swarm;
use crate::config::device::{DeviceConfig, DeviceFile, Switch, Way};
use crate::device::enroll::{KeySource, enroll, own_platform};
use crate::device::run::{Ready, run};
use crate::transport::device_key::KeyType;
use crate::transport::pkcs11::KeyPlace;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Give this machine an identity with a one-time token from `hedgerow fleet token`.
    Enroll(Enroll),
    /// Run the device until SIGTERM.
    Run(Run),
    /// Show the peers that are connected.
    Peers(peers::Peers),
    /// Apply a grant on a device that cannot ask its seed: the version that it names may run until its time is over, or until the
    /// seed is reached and says otherwise.
    Grant(grant::Grant),
    /// Look for what keeps the device from working, and say what to do.
    Doctor(doctor::Doctor),
    /// Show what the running device's swarm is doing: peers, rates, who serves whom, blobs on their way.
    Swarm(Swarm),
}

/// `device enroll`.
#[derive(Debug, Args)]
pub struct Enroll {
    /// The token.
    #[arg(long, env = "HEDGEROW_TOKEN", hide_env_values = true)]
    token: String,
    /// Where the device keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// The device's name; default: made from its key.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// What the device can run, as OS-ARCH or OS-ARCH-VARIANT, for example linux-arm64; default: this machine.
    #[arg(long)]
    platform: Option<Platform>,
    /// The kind of the device's key in its file.
    #[arg(long, value_enum, default_value_t = KeyType::Ed25519, conflicts_with = "pkcs11")]
    key_type: KeyType,
    #[command(flatten)]
    hardware: Hardware,
    #[command(flatten)]
    output: Output,
}

/// A key in hardware.
#[derive(Debug, Args)]
pub struct Hardware {
    /// Make the device's key, P-256, in this PKCS#11 module instead of a file; the PIN comes from the environment variable
    /// `HEDGEROW_PKCS11_PIN`, or from --pin-file.
    #[arg(long, value_name = "MODULE", requires_all = ["token_label", "key_label"])]
    pkcs11: Option<PathBuf>,
    /// The label of the token in the module.
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    token_label: Option<String>,
    /// The label of the key in the token: one that is there already is used.
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    key_label: Option<String>,
    /// A file with the PIN, read at every start.
    #[arg(long, value_name = "FILE", requires = "pkcs11")]
    pin_file: Option<PathBuf>,
}

impl Hardware {
    fn or_file(self, kind: KeyType) -> anyhow::Result<KeySource> {
        let Self { pkcs11: Some(module), token_label: Some(token), key_label: Some(key), pin_file } = self else {
            return Ok(KeySource::File(kind));
        };
        let pin_file = pin_file.map(std::path::absolute).transpose()?;
        Ok(KeySource::Module(KeyPlace { module: std::path::absolute(module)?, token, key, pin_file }))
    }
}

/// Settings of a device that can be given as flags or in the environment.
#[derive(Debug, Args)]
pub struct Settings {
    /// Where the local registry listens, a loopback address. Port 0 chooses one and keeps it. [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", env = "HEDGEROW_ENDPOINT_LISTEN")]
    endpoint_listen: Option<String>,
    /// Where the swarm listens, UDP. Port 0 chooses one and keeps it. [default: [::]:7446]
    #[arg(long, value_name = "ADDRESS:PORT", env = "HEDGEROW_SWARM_LISTEN")]
    swarm_listen: Option<String>,
    /// Where metrics are offered. [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDRESS:PORT", env = "HEDGEROW_METRICS_LISTEN")]
    pub(super) metrics_listen: Option<String>,
    /// Swarm address of a known peer. Can be repeated.
    #[arg(long = "peer", value_name = "ADDRESS:PORT", env = "HEDGEROW_PEERS", value_delimiter = ',')]
    peers: Vec<String>,
    /// Seconds between polls of the seed. [default: 300]
    #[arg(long, value_name = "N", env = "HEDGEROW_POLL_SECONDS")]
    poll_seconds: Option<u64>,
    /// Devices with the same site share even when they are not on one network.
    #[arg(long, value_name = "NAME", env = "HEDGEROW_SITE")]
    site: Option<String>,
    /// How peers are found: beacons on the LAN (mdns), the seed's hints, the configured peers. [default: all]
    #[arg(long, value_name = "WAYS", env = "HEDGEROW_DISCOVERY", value_delimiter = ',')]
    discovery: Vec<Way>,
    /// Whether peers are told of signed documents over libp2p; sharing blobs does not need it. [default: on]
    #[arg(long, value_name = "SWITCH", env = "HEDGEROW_LIBP2P")]
    libp2p: Option<Switch>,
    /// What the device says of itself; counts for groups where the operator did not set the same key. Can be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", env = "HEDGEROW_LABELS", value_delimiter = ',')]
    labels: Vec<Label>,
    /// The command that starts a version, for `sh -c`; its environment says which (see the README). Exit code 0 is healthy;
    /// else the device goes back to the last good version. It may be run again after a crash. [default: none, versions are
    /// only stored]
    #[arg(long, value_name = "COMMAND", env = "HEDGEROW_ACTIVATE_HOOK")]
    activate_hook: Option<String>,
    /// Seconds that it may take. [default: 300]
    #[arg(long, value_name = "N", env = "HEDGEROW_ACTIVATE_SECONDS")]
    activate_seconds: Option<u64>,
    /// Records what the swarm hears and wants done into this new file, at most 64 MiB; `hedgerow-sim replay` reads it. For
    /// looking into a fault: names of peers and digests of blobs stand in it, no content. [default: none]
    #[arg(long, value_name = "FILE", env = "HEDGEROW_RECORD")]
    record: Option<PathBuf>,
}

/// `device run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where the device keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Settings; default: config.toml in --data, if there is one.
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    output: Output,
}

impl Settings {
    /// The settings as a file would say them.
    pub fn into_file(self) -> DeviceFile {
        DeviceFile {
            endpoint_listen: self.endpoint_listen,
            swarm_listen: self.swarm_listen,
            metrics_listen: self.metrics_listen,
            peers: (!self.peers.is_empty()).then_some(self.peers),
            poll_seconds: self.poll_seconds,
            site: self.site,
            discovery: (!self.discovery.is_empty()).then_some(self.discovery),
            libp2p: self.libp2p,
            labels: (!self.labels.is_empty())
                .then(|| self.labels.into_iter().map(|label| (label.key.to_string(), label.value.to_string())).collect()),
            activate_hook: self.activate_hook,
            activate_seconds: self.activate_seconds,
            record: self.record,
        }
    }
}

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub async fn run(self, token: TrustToken) -> anyhow::Result<()> {
        match self {
            Self::Enroll(enroll) => enroll.run().await,
            Self::Run(run) => run.run(token).await,
            Self::Peers(peers) => peers.run().await,
            Self::Grant(grant) => grant.run().await,
            Self::Doctor(doctor) => doctor.run().await,
            Self::Swarm(swarm) => swarm.run().await,
        }
    }
}

impl Enroll {
    async fn run(self) -> anyhow::Result<()> {
        let platform = match self.platform {
            Some(platform) => platform,
            None => own_platform()?,
        };
        let enrolment = enroll(&self.data, &self.token, self.device, platform, self.hardware.or_file(self.key_type)?).await?;
        let result = json!({"org": enrolment.org, "device": enrolment.device, "platform": enrolment.platform});
        self.output.print(&result, || {
            let run = format!("hedgerow device run --data {}", self.data.display());
            format!("enrolled {} of {} ({}); start it with:\n  {run}", enrolment.device, enrolment.org, enrolment.platform)
        })
    }
}

impl Run {
    async fn run(self, token: TrustToken) -> anyhow::Result<()> {
        let config = DeviceConfig::load(&self.data, self.config.as_deref(), self.settings.into_file())?;
        let output = self.output;
        run(config, token, |ready| {
            let text = || {
                let Ready { device, endpoint_url, swarm_addr, metrics_url, .. } = ready;
                format!("ready: {device} serves {endpoint_url} and shares on {swarm_addr}, metrics {metrics_url}")
            };
            if let Err(error) = output.print(ready, text) {
                tracing::warn!(%error, "the ready line was not printed");
            }
        })
        .await
    }
}
