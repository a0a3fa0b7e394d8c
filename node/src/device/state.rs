//! What a device keeps between runs besides blobs: who it is, and how far it got. Plain JSON, replaced durably.
//!
//! | file in the data directory | holds |
//! |---|---|
//! | `device.json` | who the device is and which seed it belongs to, written by enrolment |
//! | `device.key`, `device.pem`, `ca.pem` | its key (0600), its certificate, the CA it trusts |
//! | `root.json` | the organisation's root metadata, checked against the token |
//! | `progress.json` | counters, assignment, desired states, grants and ports |
//! | `activation.json` | what was started of each app, and what failed |
//! | `revoked.json` | the keys that are refused, and the newest revocation list that was accepted |
//! | `time.json` | the floor of the clock, and the epoch under which it was reached |
//! | `renewal.json` | when it renews its certificate early, because of new authorities |
//!
//! Not here: TUF metadata and statements; see [`crate::trust`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use protocol::agent::documents::{Kept, KeptGrant};
use protocol::agent::record::Record;
use protocol::name::{AppName, DeviceId, GroupName, OrgName, Platform};
use protocol::statement::counters::Counters;
use protocol::statement::desired::Counter;
use protocol::statement::revocation::HeldRevocations;
use protocol::time::WallTime;
use protocol::time::floor::KeptFloor;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::config::device::DeviceConfig;
use crate::files::{self, Access};
use crate::transport::ca::single_certificate;
use crate::transport::device_key::{DeviceKey, KEY_FILE};
use crate::transport::pkcs11::KeyPlace;

const FORMAT: u32 = 1;

/// Who a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The format of this file.
    pub format: u32,
    /// The organisation.
    pub org: OrgName,
    /// The device.
    pub device: DeviceId,
    /// What it can run.
    pub platform: Platform,
    /// Its seed.
    pub device_url: String,
    /// Where its key is, if that is a PKCS#11 module and not `device.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPlace>,
}

/// How far a device got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The format of this file.
    pub format: u32,
    /// The newest documents that were accepted.
    #[serde(default)]
    pub counters: Counters,
    /// The assignment that is in force, as signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<String>,
    /// The desired states that are in force, as signed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<GroupName, String>,
    /// What a program without assignments kept: the newest counter of the group `all`. It is carried over into `counters`.
    #[serde(default, skip_serializing)]
    counter: Option<Counter>,
    /// The desired state with that counter; it counts no longer, as no assignment stands behind it.
    #[serde(default, skip_serializing, rename = "desired")]
    _desired: IgnoredAny,
    /// The grants that were applied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<AppName, KeptGrant>,
    /// When all that the seed said was accepted last, in seconds since 1970, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_at: Option<WallTime>,
    /// The counter of the last report.
    #[serde(default)]
    pub report_counter: u64,
    /// Ports that the system chose at the first start, kept ever after.
    #[serde(default)]
    pub ports: Ports,
}

impl Progress {
    /// The documents in it.
    pub const fn kept(&mut self) -> Kept<'_> {
        let Self { counters, assignment, states, grants, .. } = self;
        Kept { counters, assignment, states, grants }
    }
}

/// Keys that are refused.
#[derive(Serialize, Deserialize)]
struct KeptRevocations {
    format: u32,
    #[serde(flatten)]
    held: HeldRevocations,
}

/// How late it is at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptTime {
    format: u32,
    #[serde(default)]
    epoch: u64,
    floor: WallTime,
}

/// When the certificate is renewed early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EarlyRenewal {
    format: u32,
    early: Option<WallTime>,
}

/// Ports that the system chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Of the local registry.
    #[serde(default)]
    pub endpoint: u16,
    /// Of the swarm.
    #[serde(default)]
    pub swarm: u16,
    /// Of the metrics.
    #[serde(default)]
    pub metrics: u16,
}

impl Ports {
    /// Puts these in the place of ports that are 0, which the system chooses once.
    pub fn fill(self, config: &mut DeviceConfig) {
        let listeners = [
            (&mut config.endpoint_listen, self.endpoint),
            (&mut config.swarm_listen, self.swarm),
            (&mut config.metrics_listen, self.metrics),
        ];
        for (address, kept) in listeners {
            if address.port() == 0 {
                address.set_port(kept);
            }
        }
    }
}

/// The data directory of a device.
#[derive(Clone, Debug)]
pub struct DeviceDir(PathBuf);

impl DeviceDir {
    /// The directory at `path`; it need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether a device was enrolled here.
    pub fn is_enrolled(&self) -> bool {
        self.join("device.json").exists()
    }

    /// Who the device is.
    ///
    /// # Errors
    /// When no device was enrolled here, or the file is broken.
    pub fn enrolment(&self) -> anyhow::Result<Enrolment> {
        if !self.is_enrolled() {
            bail!("no device is enrolled in {}; run `hedgerow device enroll --token TOKEN --data {0}` first", self.0.display());
        }
        let path = self.join("device.json");
        let enrolment: Enrolment =
            serde_json::from_str(&files::read_text(&path)?).with_context(|| format!("{} is broken", path.display()))?;
        if enrolment.format != FORMAT {
            bail!("{} has format {}, this program reads {FORMAT}; update it", path.display(), enrolment.format);
        }
        Ok(enrolment)
    }

    /// The device's key.
    ///
    /// # Errors
    /// When it is missing or broken.
    pub fn key(&self) -> anyhow::Result<DeviceKey> {
        match self.enrolment()?.key {
            Some(place) => place.open(),
            None => DeviceKey::load(&self.join(KEY_FILE)),
        }
    }

    /// The certificate, PEM.
    ///
    /// # Errors
    /// When it is missing.
    pub fn certificate(&self) -> anyhow::Result<String> {
        Ok(files::read_text(&self.join("device.pem"))?)
    }

    /// Keeps the next certificate, PEM.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_certificate(&self, certificate: &str) -> anyhow::Result<()> {
        Ok(files::replace(&self.join("device.pem"), certificate.as_bytes(), Access::Public)?)
    }

    /// The CA that enrolment gave, which is trusted until a root names others.
    ///
    /// # Errors
    /// When it is missing or broken.
    pub fn authority(&self) -> anyhow::Result<rustls_pki_types::CertificateDer<'static>> {
        single_certificate(&files::read_text(&self.join("ca.pem"))?)
    }

    /// The keys that are refused; none if no list was ever accepted.
    ///
    /// # Errors
    /// When the file is broken: a device that forgot whom to refuse does not start.
    pub fn revoked(&self) -> anyhow::Result<Option<HeldRevocations>> {
        let kept = self.kept("revoked.json", |revoked: &KeptRevocations| revoked.format)?;
        Ok(kept.map(|kept| kept.held))
    }

    /// Keeps the keys that are refused.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_revoked(&self, held: HeldRevocations) -> anyhow::Result<()> {
        let revoked = KeptRevocations { format: FORMAT, held };
        Ok(files::replace(&self.join("revoked.json"), &serde_json::to_vec(&revoked)?, Access::Private)?)
    }

    /// How late it is at least.
    ///
    /// # Errors
    /// When the file is broken.
    pub fn time_floor(&self) -> anyhow::Result<Option<KeptFloor>> {
        let kept = self.kept("time.json", |time: &KeptTime| time.format)?;
        Ok(kept.map(|KeptTime { epoch, floor, .. }| KeptFloor { epoch, floor }))
    }

    /// Keeps how late it is at least.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_time_floor(&self, KeptFloor { epoch, floor }: KeptFloor) -> anyhow::Result<()> {
        let time = KeptTime { format: FORMAT, epoch, floor };
        Ok(files::replace(&self.join("time.json"), &serde_json::to_vec(&time)?, Access::Private)?)
    }

    /// When the certificate is renewed early, if it is.
    ///
    /// # Errors
    /// When the file is broken.
    pub fn early_renewal(&self) -> anyhow::Result<Option<WallTime>> {
        Ok(self.kept("renewal.json", |kept: &EarlyRenewal| kept.format)?.and_then(|kept| kept.early))
    }

    /// Keeps when the certificate is renewed early.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_early_renewal(&self, early: Option<WallTime>) -> anyhow::Result<()> {
        let kept = EarlyRenewal { format: FORMAT, early };
        Ok(files::replace(&self.join("renewal.json"), &serde_json::to_vec(&kept)?, Access::Private)?)
    }

    /// What is in the file `name`, if there is one.
    fn kept<T: DeserializeOwned>(&self, name: &str, format: impl Fn(&T) -> u32) -> anyhow::Result<Option<T>> {
        let path = self.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let kept: T = serde_json::from_str(&files::read_text(&path)?).with_context(|| format!("{} is broken", path.display()))?;
        if format(&kept) != FORMAT {
            bail!("{} has format {}, this program reads {FORMAT}; update it", path.display(), format(&kept));
        }
        Ok(Some(kept))
    }

    /// Keeps who the device is; `device.json` comes last, so that a broken enrolment can be repeated.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn keep_enrolment(&self, enrolment: Enrolment, certificate: &str, authority: &str, root: &str) -> anyhow::Result<()> {
        files::replace(&self.join("device.pem"), certificate.as_bytes(), Access::Public)?;
        files::replace(&self.join("ca.pem"), authority.as_bytes(), Access::Public)?;
        files::replace(&self.join("root.json"), root.as_bytes(), Access::Public)?;
        let enrolment = Enrolment { format: FORMAT, ..enrolment };
        Ok(files::replace(&self.join("device.json"), &serde_json::to_vec_pretty(&enrolment)?, Access::Public)?)
    }

    /// How far the device got; nowhere if it never ran.
    ///
    /// # Errors
    /// When the file is broken.
    pub fn progress(&self) -> anyhow::Result<Progress> {
        let kept = self.kept("progress.json", |progress: &Progress| progress.format)?;
        let progress = kept.unwrap_or(Progress { format: FORMAT, ..Progress::default() });
        Ok(match progress.counter {
            Some(counter) => Progress { counters: Counters::of_all(counter), counter: None, ..progress },
            None => progress,
        })
    }

    /// Keeps how far the device got.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_progress(&self, progress: &Progress) -> anyhow::Result<()> {
        Ok(files::replace(&self.join("progress.json"), &serde_json::to_vec_pretty(progress)?, Access::Private)?)
    }

    /// What was started of each app; nothing if no version ever was.
    ///
    /// # Errors
    /// When the file is broken.
    pub fn activation(&self) -> anyhow::Result<BTreeMap<AppName, Record>> {
        let path = self.join("activation.json");
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        let broken =
            || format!("{} is broken; what runs on this device is not known, so start it with --data on a new folder", path.display());
        let kept: Activation = serde_json::from_str(&files::read_text(&path)?).with_context(broken)?;
        if kept.format != FORMAT {
            bail!("{} has format {}, this program reads {FORMAT}; update it", path.display(), kept.format);
        }
        Ok(kept.apps)
    }

    /// Keeps what was started.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_activation(&self, apps: BTreeMap<AppName, Record>) -> anyhow::Result<()> {
        let kept = serde_json::to_vec_pretty(&Activation { format: FORMAT, apps })?;
        Ok(files::replace(&self.join("activation.json"), &kept, Access::Private)?)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Activation {
    format: u32,
    apps: BTreeMap<AppName, Record>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_program_kept_does_not_let_counters_go_back() {
        let home = tempfile::tempdir().unwrap();
        let dir = DeviceDir::new(home.path());
        let old = r#"{"format":1,"counter":{"epoch":1,"n":7},"desired":"{}","report_counter":3}"#;
        std::fs::write(dir.join("progress.json"), old).unwrap();
        let progress = dir.progress().unwrap();
        let all = GroupName::all();
        assert_eq!(progress.counters.desired(&all).map(|seen| seen.counter), Some(Counter { epoch: 1, n: 7 }));
        dir.keep_progress(&progress).unwrap();
        assert_eq!(dir.progress().unwrap(), progress);
    }

    use crate::config::device::DeviceFile;

    #[test]
    fn kept_ports_take_the_place_of_0_and_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = DeviceFile { swarm_listen: Some("[::]:0".into()), ..DeviceFile::default() };
        let mut config = DeviceConfig::load(dir.path(), None, file).unwrap();
        Ports { endpoint: 1, swarm: 2, metrics: 3 }.fill(&mut config);
        let ports = [config.endpoint_listen, config.swarm_listen, config.metrics_listen].map(|address| address.port());
        assert_eq!(ports, [8080, 2, 3]);
    }
}
