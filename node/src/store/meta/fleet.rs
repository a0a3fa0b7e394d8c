//! Records of devices, their groups, and of what they shall have.
//!
//! Not here: how reports add up; see `protocol::rollout`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::digest::Digest;
use protocol::envelope::Envelope;
use protocol::group::Group;
pub use protocol::identity::enrolment::TokenRefused;
use protocol::identity::enrolment::{Admitted, Terms};
use protocol::label::{LabelKey, Labels};
use protocol::name::{AppName, DeviceId, GroupName, OrgName, Platform};
use protocol::rollout::{DeviceReport, Rollout};
use protocol::statement::assignment::Assigned;
use protocol::statement::desired::{Counter, DesiredState};
use protocol::statement::renewal::Kept;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::MetaError;

/// The length of what a token is called towards people: 64 bits, which two tokens of an organisation never share.
const TOKEN_ID_CHARS: usize = 16;

/// An enrolment token; its secret is kept as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret.
    pub secret_sha256: Digest,
    /// The organisation that devices enrol into.
    pub org: OrgName,
    /// From this moment on it is refused.
    pub expires: WallTime,
    /// Whether all its uses are gone.
    pub used: bool,
    /// How many devices it can still enrol; 1 in records of before.
    #[serde(default = "one_use")]
    pub uses_left: u32,
    /// The only device that it enrols; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Whether that device may be enrolled already, with another key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
    /// The labels that a device gets which enrols with it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// What the token whose secret has this hash is called towards people.
pub fn token_id(secret_sha256: &Digest) -> String {
    secret_sha256.hex().chars().take(TOKEN_ID_CHARS).collect()
}

const fn one_use() -> u32 {
    1
}

impl TokenRecord {
    /// A token that enrols one device of any name.
    pub const fn single(secret_sha256: Digest, org: OrgName, expires: WallTime) -> Self {
        Self { secret_sha256, org, expires, used: false, uses_left: 1, device: None, replaces: false, labels: Labels::new() }
    }

    /// What it is called towards people: the beginning of its hash, which is no secret.
    pub fn id(&self) -> String {
        token_id(&self.secret_sha256)
    }

    /// What it allows.
    pub fn terms(&self) -> Terms {
        let uses_left = if self.used { 0 } else { self.uses_left };
        Terms { expires: self.expires, uses_left, device: self.device.clone(), replaces: self.replaces }
    }
}

/// A device key that is never accepted again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedKeyRecord {
    /// SHA-256 of the key (`SubjectPublicKeyInfo`).
    pub key_sha256: Digest,
    /// The organisation.
    pub org: OrgName,
    /// The device that had it; none if a list is all that is known of it.
    pub device: Option<DeviceId>,
    /// When it was revoked, in seconds since 1970.
    pub revoked: WallTime,
    /// Until when the last certificate of it is valid, as [`DeviceRecord::leaf_until`] was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_until: Option<WallTime>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An organisation's newest revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationListRecord {
    /// Order among the organisation's lists.
    pub counter: Counter,
    /// When it stops being taken as the newest, in seconds since 1970.
    pub expires: WallTime,
    /// The keys on it.
    pub keys: BTreeSet<Digest>,
    /// The SHA-256 of what was signed; none in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The identity of the online key that signed it; empty in records of before.
    #[serde(default)]
    pub signed_by: String,
    /// The signed envelope.
    pub envelope: String,
}

impl RevocationListRecord {
    /// What decides whether it is signed anew.
    pub fn signed(&self) -> Kept<'_> {
        Kept { counter: self.counter, expires: self.expires, signed_by: &self.signed_by }
    }
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
    /// Until when the last certificate of its key is valid; none in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_until: Option<WallTime>,
    /// The operator's labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The versions that it shall have whatever its groups get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<AppName, u64>,
}

/// What an operator changes of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceChange {
    /// Labels that it gets.
    pub set_labels: Labels,
    /// Labels that it loses.
    pub remove_labels: Vec<LabelKey>,
    /// Versions that it is pinned to, or no longer.
    pub pins: BTreeMap<AppName, Option<u64>>,
}

/// The newest that a device said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "KeptReport")]
pub struct ReportRecord {
    /// When it came, in seconds since 1970.
    pub received: WallTime,
    /// What it says.
    pub report: DeviceReport,
}

/// Records of before are the report alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum KeptReport {
    Dated { received: WallTime, report: DeviceReport },
    Alone(DeviceReport),
}

impl From<KeptReport> for ReportRecord {
    fn from(kept: KeptReport) -> Self {
        match kept {
            KeptReport::Dated { received, report } => Self { received, report },
            KeptReport::Alone(report) => Self { received: WallTime::default(), report },
        }
    }
}

/// What a device acts on, as signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentRecord {
    /// Order among the device's assignments.
    pub counter: Counter,
    /// When it stops being accepted, in seconds since 1970.
    pub expires: WallTime,
    /// What it says of apps.
    pub apps: BTreeMap<AppName, Assigned>,
    /// The identity of the online key that signed it; empty in records of before.
    #[serde(default)]
    pub signed_by: String,
    /// The signed envelope.
    pub envelope: String,
}

impl AssignmentRecord {
    /// What decides whether it is signed anew.
    pub fn signed(&self) -> Kept<'_> {
        Kept { counter: self.counter, expires: self.expires, signed_by: &self.signed_by }
    }
}

/// What decides about a device's assignment, read in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// The device.
    pub device: DeviceRecord,
    /// Its own labels.
    pub own_labels: Labels,
    /// Its newest assignment.
    pub assignment: Option<AssignmentRecord>,
    /// The groups of the organisation.
    pub groups: Vec<Group>,
}

/// What a group shall have, as signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredStateRecord {
    /// The group.
    pub group: GroupName,
    /// Order among the group's desired states.
    pub counter: Counter,
    /// When it stops being acted on, in seconds since 1970.
    pub expires: WallTime,
    /// The identity of the online key that signed it; empty in records of before.
    #[serde(default)]
    pub signed_by: String,
    /// The signed envelope.
    pub envelope: String,
}

/// The desired state that shall take the place of the one that somebody saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextDesired {
    /// The counter of that one; it is a conflict if it is another by now.
    pub expected: Option<Counter>,
    /// The next.
    pub state: DesiredStateRecord,
}

impl DesiredStateRecord {
    /// What decides whether it is signed anew.
    pub fn signed(&self) -> Kept<'_> {
        Kept { counter: self.counter, expires: self.expires, signed_by: &self.signed_by }
    }

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

/// Devices, and what they shall have.
#[async_trait]
pub trait FleetStore: Send + Sync {
    /// Adds an enrolment token.
    async fn add_token(&self, token: TokenRecord) -> Result<(), MetaError> {
        self.add_tokens(vec![token]).await
    }
    /// Adds enrolment tokens, all or none.
    async fn add_tokens(&self, tokens: Vec<TokenRecord>) -> Result<(), MetaError>;
    /// The tokens of an organisation, in no order that means anything.
    async fn tokens(&self, org: &OrgName) -> Result<Vec<TokenRecord>, MetaError>;
    /// Forgets the token of `org` with this secret; missing if there is none.
    async fn revoke_token(&self, org: &OrgName, secret_sha256: &Digest) -> Result<(), MetaError>;
    /// The token with this secret, if its time is not over at `now`; otherwise why not. Whether it has a use left for a device,
    /// [`Self::enroll`] decides.
    async fn check_token(&self, secret_sha256: &Digest, now: WallTime) -> Result<TokenRecord, MetaError>;
    /// Takes a use of a token and adds the device, or puts it in the place of the one with its name, whose key is revoked then;
    /// all or nothing. [`protocol::identity::enrolment::admit`] decides.
    async fn enroll(&self, secret_sha256: &Digest, device: DeviceRecord, now: WallTime) -> Result<Admitted, MetaError>;
    /// Notes that the key `key_sha256` of a device got a certificate that is valid until `until`, before the device gets it; missing
    /// if the device has another key, or this one was revoked.
    async fn note_leaf(&self, org: &OrgName, id: &DeviceId, key_sha256: &Digest, until: WallTime) -> Result<(), MetaError>;
    /// Revokes keys, for ever, all or none; until when their certificates are valid is filled in. One that is revoked already stays
    /// as it is.
    async fn revoke_keys(&self, keys: Vec<RevokedKeyRecord>) -> Result<(), MetaError>;
    /// Every key that was ever revoked, of all organisations.
    async fn revoked_keys(&self) -> Result<Vec<RevokedKeyRecord>, MetaError>;
    /// An organisation's newest revocation list.
    async fn revocation_list(&self, org: &OrgName) -> Result<Option<RevocationListRecord>, MetaError>;
    /// Replaces an organisation's revocation list: a conflict if the kept counter is not `expected`.
    async fn put_revocation_list(&self, org: &OrgName, expected: Option<Counter>, list: RevocationListRecord) -> Result<(), MetaError>;
    /// A device.
    async fn device(&self, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceRecord>, MetaError>;
    /// At most `limit` devices of an organisation that come after this one, in order of their names, with their newest reports.
    async fn devices_after(
        &self,
        org: &OrgName,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<(DeviceRecord, Option<ReportRecord>)>, MetaError>;
    /// Changes a device; missing if it, or a version that it is pinned to, does not exist, retired if that version is, a
    /// conflict if it gets too many labels. What it is then comes back.
    async fn change_device(&self, org: &OrgName, id: &DeviceId, change: DeviceChange) -> Result<DeviceRecord, MetaError>;
    /// What decides about a device's assignment.
    async fn device_view(&self, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceView>, MetaError>;
    /// Replaces a device's assignment: a conflict if the kept counter is not `expected`, or not older.
    async fn put_assignment(
        &self,
        org: &OrgName,
        id: &DeviceId,
        expected: Option<Counter>,
        assignment: AssignmentRecord,
    ) -> Result<(), MetaError>;
    /// The versions that devices of an organisation are pinned to.
    async fn pinned_versions(&self, org: &OrgName) -> Result<Vec<(AppName, u64)>, MetaError>;
    /// Keeps a device's newest report, and that its versions were reported at `now`; a conflict if its counter is not newer
    /// than the one kept.
    async fn put_report(&self, org: &OrgName, id: &DeviceId, report: DeviceReport, now: WallTime) -> Result<(), MetaError>;
    /// The newest report of a device.
    async fn report(&self, org: &OrgName, id: &DeviceId) -> Result<Option<ReportRecord>, MetaError>;

    /// The groups of an organisation.
    async fn groups(&self, org: &OrgName) -> Result<Vec<Group>, MetaError>;
    /// Adds a group, and what it shall have, both or neither; a conflict if [`protocol::group::check_new`] refuses it.
    async fn add_group(&self, org: &OrgName, group: Group, next: NextDesired) -> Result<(), MetaError>;
    /// Removes a group, and what it should have of the app, both or neither: a conflict while a rollout is open in it, missing
    /// if there is none.
    async fn remove_group(&self, org: &OrgName, app: &AppName, name: &GroupName, next: NextDesired) -> Result<(), MetaError>;

    /// What a group shall have, as signed.
    async fn desired_state(&self, org: &OrgName, group: &GroupName) -> Result<Option<DesiredStateRecord>, MetaError>;
    /// Replaces what a group shall have, and with it rollouts, in their order: each is a new one, or the new state of one that
    /// is known. A conflict if the kept counter is not `expected`, or if a new rollout meets an open one of its app and group;
    /// retired if a new rollout's version is.
    async fn put_desired_state(
        &self,
        org: &OrgName,
        expected: Option<Counter>,
        state: DesiredStateRecord,
        rollouts: Vec<Rollout>,
    ) -> Result<(), MetaError>;
    /// The newest rollout of an app, in this group if one is given.
    async fn rollout(&self, org: &OrgName, app: &AppName, group: Option<&GroupName>) -> Result<Option<Rollout>, MetaError>;
    /// The rollouts of an app, oldest first.
    async fn rollouts(&self, org: &OrgName, app: &AppName) -> Result<Vec<Rollout>, MetaError>;
    /// The rollouts of an organisation that have not ended.
    async fn open_rollouts(&self, org: &OrgName) -> Result<Vec<Rollout>, MetaError>;
}
