//! Records of devices, and of what they shall have.
//!
//! Not here: how reports add up; see `protocol::rollout`.

use std::collections::BTreeMap;

use anyhow::Context;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::digest::Digest;
use protocol::envelope::Envelope;
use protocol::name::{AppName, DeviceId, OrgName, Platform};
use protocol::rollout::DeviceReport;
use protocol::statement::desired::{Counter, DesiredState};
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::MetaError;

/// Why an enrolment token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// No such token was ever made here.
    #[error("the token is not known to this seed; make a new one with `hedgerow fleet token`")]
    Unknown,
    /// It was used already.
    #[error("the token was used before; each enrols one device, make a new one with `hedgerow fleet token`")]
    Used,
    /// Its time is over.
    #[error("the token has expired; make a new one with `hedgerow fleet token`")]
    Expired,
}

/// A one-time enrolment token; its secret is kept as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret.
    pub secret_sha256: Digest,
    /// The organisation that devices enrol into.
    pub org: OrgName,
    /// From this moment on it is refused.
    pub expires: WallTime,
    /// Whether a device used it.
    pub used: bool,
    /// The device that used it, which may do so again: its first answer may have been lost. None in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<TokenUse>,
}

/// Who used a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of its public key.
    pub key_sha256: Digest,
}

/// An enrolled device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// The organisation.
    pub org: OrgName,
    /// The device.
    pub id: DeviceId,
    /// What it can run.
    pub platform: Platform,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`).
    pub key_sha256: Digest,
    /// When it enrolled, in seconds since 1970.
    pub enrolled: WallTime,
}

/// What a group shall have, as signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredStateRecord {
    /// The group.
    pub group: String,
    /// Order among the group's desired states.
    pub counter: Counter,
    /// When it stops being acted on, in seconds since 1970.
    pub expires: WallTime,
    /// The signed envelope.
    pub envelope: String,
}

impl DesiredStateRecord {
    /// What was signed.
    ///
    /// # Errors
    /// When the record is broken.
    pub fn state(&self) -> anyhow::Result<DesiredState> {
        let broken = "the kept desired state is broken";
        let envelope: Envelope = serde_json::from_str(&self.envelope).context(broken)?;
        let payload = STANDARD.decode(&envelope.payload).context(broken)?;
        serde_json::from_slice(&payload).context(broken)
    }
}

/// A rollout of a version to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Identity, unique on the seed.
    pub id: String,
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: u64,
    /// The group.
    pub group: String,
    /// When it started, in seconds since 1970.
    pub started: WallTime,
}

/// Devices, and what they shall have.
#[async_trait]
pub trait FleetStore: Send + Sync {
    /// Adds an enrolment token.
    async fn add_token(&self, token: TokenRecord) -> Result<(), MetaError>;
    /// The token with this secret, if some device can still use it at `now`, be it the one that did before; otherwise why
    /// not. [`Self::enroll`] decides for which device.
    async fn check_token(&self, secret_sha256: &Digest, now: WallTime) -> Result<TokenRecord, MetaError>;
    /// Uses up a token and adds the device, both or neither: a conflict if the device exists with another key. The device
    /// that used the token may do so again, with the same key, until the token expires.
    async fn enroll(&self, secret_sha256: &Digest, device: DeviceRecord, now: WallTime) -> Result<(), MetaError>;
    /// A device.
    async fn device(&self, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceRecord>, MetaError>;
    /// The devices of an organisation, in order of their names.
    async fn devices(&self, org: &OrgName) -> Result<Vec<DeviceRecord>, MetaError>;
    /// Keeps a device's newest report, and that its versions were reported at `now`; a conflict if its counter is not newer
    /// than the one kept.
    async fn put_report(&self, org: &OrgName, id: &DeviceId, report: DeviceReport, now: WallTime) -> Result<(), MetaError>;
    /// The newest report of every device of an organisation that sent one.
    async fn reports(&self, org: &OrgName) -> Result<BTreeMap<DeviceId, DeviceReport>, MetaError>;

    /// What a group shall have, as signed.
    async fn desired_state(&self, org: &OrgName, group: &str) -> Result<Option<DesiredStateRecord>, MetaError>;
    /// Replaces what a group shall have, and starts `rollout` if one is given: a conflict if the kept counter is not
    /// `expected`, retired if the rollout's version is.
    async fn put_desired_state(
        &self,
        org: &OrgName,
        expected: Option<Counter>,
        state: DesiredStateRecord,
        rollout: Option<RolloutRecord>,
    ) -> Result<(), MetaError>;
    /// The newest rollout of an app.
    async fn rollout(&self, org: &OrgName, app: &AppName) -> Result<Option<RolloutRecord>, MetaError>;
}
