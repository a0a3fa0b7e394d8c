//! The bodies of the control API `/api/v1/…` and of enrolment, as seed, device and operator's command exchange them.
//!
//! Not here: routes; see `seed::api`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use protocol::digest::Digest;
use protocol::gossip::message::SiteHeads;
use protocol::label::{LabelKey, Labels};
use protocol::name::{AppName, DeviceId, GroupName, OrgName, Platform, RepositoryName, RolloutId, Tag};
use protocol::repository::retention::KeptBy;
use protocol::repository::{RepositoryPattern, RepositorySettings, Setting};
use protocol::rollout::steps::Share;
use protocol::rollout::{AppReport, DeviceState, Plan, RolloutState};
use protocol::statement::version::HashListName;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::store::meta::{Scope, TufFile};

/// The largest JSON body of the control API, publications apart, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The largest root metadata, in bytes.
pub const ROOT_BYTES_MAX: usize = 512 << 10;

/// The longest label of an access key, in bytes: a line.
pub const LABEL_BYTES_MAX: usize = 128;

/// The longest name of a site that a device may give, in bytes.
pub const SITE_BYTES_MAX: usize = 64;

/// The addresses on its LANs that a device tells at a poll: one for each family of two interfaces.
pub const LAN_ADDRESSES_MAX: usize = 4;

/// What went wrong, for people and programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiError {
    /// A short name of the reason.
    pub code: String,
    /// What failed, why, and what to do.
    pub message: String,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// `GET /api/v1/trust`: what an operator needs to make an organisation's root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeedTrust {
    /// The seed's online key, hex.
    pub online_key: String,
    /// Where devices connect.
    pub device_url: String,
    /// SHA-256 of the device CA's certificate.
    pub ca_sha256: Digest,
    /// The certificates of all device CAs, DER in base64, the one that signs first: what a root names during a rotation.
    #[serde(default)]
    pub authorities: Vec<String>,
}

/// `POST /api/v1/orgs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrg {
    /// The name.
    pub org: OrgName,
    /// `1.root.json` and `1.targets.json`; none if the seed makes them.
    #[serde(default)]
    pub files: Vec<TufFile>,
    /// Whether the seed makes and keeps the organisation's keys, for trials.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub managed_keys: bool,
}

/// `POST /api/v1/orgs/{org}/managed-versions`: a version that the seed signs, because it keeps the organisation's keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewManagedVersion {
    /// The app.
    pub app: AppName,
    /// N, which must be the next one.
    pub version: u64,
    /// The exact text of the statement for each platform.
    pub statements: BTreeMap<Platform, String>,
    /// The least version that devices may start from now on, if it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u64>,
    /// Whether the floor may be lowered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_floor: bool,
}

/// `GET /api/v1/orgs/{org}/apps/{app}/deployed`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deployed {
    /// The versions that some group shall have.
    pub versions: BTreeSet<u64>,
}

/// The answer to [`NewOrg`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrgCreated {
    /// The name.
    pub org: OrgName,
    /// A key with every scope of the organisation; it is not shown again.
    pub access_key: String,
}

/// One of the organisations of `GET /api/v1/orgs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrgListed {
    /// The name.
    pub org: OrgName,
}

/// `POST /api/v1/orgs/{org}/keys`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What the key may do.
    pub scopes: Vec<Scope>,
    /// What its owner calls it, at most [`LABEL_BYTES_MAX`].
    #[serde(default)]
    pub label: String,
    /// From when on it is refused; none for never.
    #[serde(default)]
    pub expires: Option<WallTime>,
}

/// The answer to [`NewKey`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyMade {
    /// The key; it is not shown again.
    pub access_key: String,
    /// What is known of it from now on.
    #[serde(flatten)]
    pub key: KeyListed,
}

/// One of the access keys of `GET /api/v1/orgs/{org}/keys`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyListed {
    /// Its public part, by which it is revoked.
    pub id: String,
    /// The organisation it acts for.
    pub org: OrgName,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// What its owner calls it.
    pub label: String,
    /// When it was made.
    pub created: WallTime,
    /// From when on it is refused; none for never.
    pub expires: Option<WallTime>,
}

/// `POST /api/v1/orgs/{org}/hash-lists`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashListQuery {
    /// The blobs.
    pub blobs: Vec<Digest>,
}

/// The answer to [`HashListQuery`]; blobs that need no list, or are not known, are absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HashLists {
    /// The list of each blob.
    pub lists: BTreeMap<Digest, HashListName>,
}

/// The answer to a publication.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The app.
    pub app: AppName,
    /// N.
    pub version: u64,
}

/// `POST /api/v1/orgs/{org}/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// SHA-256 of the secret of each token, at most [`TOKENS_MAX`]; the secrets stay with the operator.
    pub secrets_sha256: Vec<Digest>,
    /// How long the tokens can be used, in seconds.
    pub lifetime_seconds: u64,
    /// The labels of each device that enrols with one of them.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How many devices each token enrols.
    #[serde(default = "one_use")]
    pub uses: u32,
    /// The only device that the token enrols; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Whether that device may be enrolled already: then its key is revoked, and the new one takes its place.
    #[serde(default)]
    pub replaces: bool,
}

const fn one_use() -> u32 {
    1
}

/// The most tokens that one request makes: a transaction of a few hundred KiB.
pub const TOKENS_MAX: usize = 1_000;

/// The answer to [`NewToken`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenMade {
    /// When the token stops being accepted.
    pub expires: WallTime,
}

/// One of the tokens of `GET /api/v1/orgs/{org}/tokens`; nothing of it enrols a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenListed {
    /// What it is called, by which it is revoked.
    pub id: String,
    /// When it stops being accepted.
    pub expires: WallTime,
    /// How many devices it can still enrol.
    pub uses_left: u32,
    /// The only device that it enrols; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The labels of each device that enrols with it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// `POST /enroll`, on the device listener, without a client certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The token's secret, hex.
    pub secret: String,
    /// The device's wish for its name.
    pub device: DeviceId,
    /// What it can run.
    pub platform: Platform,
    /// The certificate request, PEM.
    pub request: String,
    /// SHA-256 of the root metadata that the token names, with which the answer then begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_sha256: Option<Digest>,
}

/// The answer to [`EnrolRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Enrolled {
    /// The organisation.
    pub org: OrgName,
    /// The device.
    pub device: DeviceId,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The CA's certificate, PEM.
    pub authority: String,
    /// The organisation's root metadata, to be checked against the token.
    pub root: String,
    /// The roots that came after it, one by one, the newest last: the token may be older than they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later_roots: Vec<String>,
}

/// `POST /api/v1/device/renew`, on the device listener, with the certificate that is to be renewed, which may have expired.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The certificate request, PEM, for the key on record.
    pub request: String,
    /// SHA-256 of each authority's certificate that the device trusts: it gets a certificate of one of them, because one that
    /// was away for long learns of new authorities only with a certificate that is valid.
    #[serde(default)]
    pub authorities: Vec<Digest>,
}

/// The answer to [`RenewRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Renewed {
    /// The new certificate, PEM.
    pub certificate: String,
}

/// `POST /api/v1/orgs/{org}/devices/{device}/revoke`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeDevice {
    /// Why, at most [`protocol::rollout::REASON_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to [`RevokeDevice`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceRevoked {
    /// The device.
    pub device: DeviceId,
    /// SHA-256 of the key that is refused for ever.
    pub key_sha256: Digest,
    /// When it was revoked.
    pub revoked: WallTime,
    /// How many keys are revoked for which the list has no room, so that peers do not refuse them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The header in which the answer to a poll for others too, changed or not, carries the mark of its receipt
/// ([`protocol::statement::receipt`]).
pub const POLL_RECEIPT: &str = "hedgerow-poll-receipt";

/// `GET /api/v1/device/state`. The answer's `ETag` stands for all but `peers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStateAnswer {
    /// The organisation's `timestamp.json`.
    pub timestamp: String,
    /// The device's signed assignment.
    pub assignment: String,
    /// The signed desired states of the groups that the assignment names, as far as there are any.
    pub states: Vec<String>,
    /// The SHA-256 of the organisation's list of revoked keys, if a key was ever revoked; the list itself, which may be as large as
    /// a megabyte, is at `GET /api/v1/device/revocations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations: Option<Digest>,
    /// Where other devices of the same site may be found: a hint, no more.
    pub peers: Vec<SocketAddr>,
    /// How far the documents of the site's devices are, if it was asked for others too: `?others=` names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteHeads>,
}

/// `POST /api/v1/orgs/{org}/rollouts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRollout {
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: u64,
    /// The group.
    pub group: GroupName,
    /// Steps and thresholds; everybody at once if it is left out.
    #[serde(default)]
    pub plan: Plan,
}

/// `?group=`: which group's rollout is meant; without it the one that is open, else the newest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfGroup {
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
}

/// The body of `POST /api/v1/orgs/{org}/apps/{app}/rollout/abort`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortRollout {
    /// Why, for people, at most [`protocol::rollout::REASON_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an operator does with a rollout that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutAction {
    /// No further device starts for now.
    Pause,
    /// Devices start again, or for the first time.
    Resume,
    /// No further device starts any more.
    Abort {
        /// Why.
        reason: Option<String>,
    },
    /// The version before is rolled out.
    Rollback,
}

/// A rollout, as its start and its status answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Identity.
    pub rollout: RolloutId,
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: u64,
    /// The group.
    pub group: GroupName,
    /// The state of the whole.
    pub state: RolloutState,
    /// How many devices are in each state.
    pub devices: BTreeMap<DeviceState, u64>,
    /// Why devices failed, and how many for each reason; the rarest of many reasons are summed as "other reasons".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u64>,
    /// When it started, in seconds since 1970.
    pub started: WallTime,
    /// The share of the devices that may start now.
    pub share: Share,
    /// What was decided at the start.
    pub plan: Plan,
    /// The version that the group had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What `GET /api/v1/orgs/{org}/devices` asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceQuery {
    /// Only devices of this group, for any app.
    pub group: Option<GroupName>,
    /// Only devices whose labels this selector takes.
    pub selector: Option<String>,
    /// Only what comes after this name.
    pub last: Option<DeviceId>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// `GET /api/v1/orgs/{org}/devices`: a page of them, in the order of their names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DevicePage {
    /// The devices.
    pub devices: Vec<DeviceShown>,
    /// What to give as `last` for those that follow, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<DeviceId>,
}

/// A device as operators see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceShown {
    /// The name.
    pub device: DeviceId,
    /// What it can run.
    pub platform: Platform,
    /// When it enrolled, in seconds since 1970.
    pub enrolled: WallTime,
    /// The labels that count.
    pub labels: Labels,
    /// Those of them that operators gave; the others are the device's own.
    pub operator_labels: Labels,
    /// Its group for each app for which it is not `all`.
    pub groups: BTreeMap<AppName, GroupName>,
    /// The versions that it shall have whatever its groups get.
    pub pins: BTreeMap<AppName, u64>,
    /// When its newest report came, in seconds since 1970; none if there was no report.
    pub reported: Option<WallTime>,
    /// What it says of its apps.
    pub apps: BTreeMap<AppName, AppReport>,
    /// How many documents of the seed it refused since it was started, by `<document>/<reason>`.
    pub refused: BTreeMap<String, u64>,
    /// Whether it said that for 7 days nothing that its seed said could be accepted.
    #[serde(default)]
    pub stale: bool,
}

/// `PATCH /api/v1/orgs/{org}/devices/{device}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceChange {
    /// Labels that it gets.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub set_labels: Labels,
    /// Labels that it loses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_labels: Vec<LabelKey>,
    /// Versions that it is pinned to, or no longer if null.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<AppName, Option<u64>>,
}

/// `GET /api/v1/orgs/{org}/sites`: a page of them, in the order of their first devices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SitePage {
    /// The sites.
    pub sites: Vec<SiteShown>,
    /// What to give as `last` for those that follow, if there are any: the first device of the last one here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<DeviceId>,
}

/// Devices that meet on a LAN or carry the same configured site, as far as the seed was asked for them in the last quarter of an hour.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteShown {
    /// The configured site, if a device has one.
    pub site: Option<String>,
    /// The addresses from which its devices polled.
    pub addresses: BTreeSet<IpAddr>,
    /// Its devices.
    pub devices: Vec<SiteDevice>,
    /// What its devices say of the versions that they fetched.
    pub versions: Vec<SiteVersion>,
}

/// A device of a site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteDevice {
    /// The name.
    pub device: DeviceId,
    /// Where its peers reach it, as it says.
    pub addresses: Vec<SocketAddr>,
    /// How long ago it polled, or another device for it, in seconds.
    pub seen_seconds: u64,
}

/// What the devices of a site fetched of a version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SiteVersion {
    /// The app.
    pub app: AppName,
    /// N.
    pub version: u64,
    /// How many devices say so.
    pub devices: u64,
    /// Bytes of its blobs that they fetched from the seed.
    pub wan_bytes: u64,
    /// Bytes of its blobs that they fetched from each other.
    pub lan_bytes: u64,
    /// `wan_bytes` ÷ the most bytes that one of them fetched.
    pub wan_copies: f64,
}

/// Where a list goes on, and how long its pages are: `?last=&limit=`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only what comes after this name.
    pub last: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// `GET /api/v1/orgs/{org}/repositories`: a page of them, in ASCII order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepositoryPage {
    /// The repositories.
    pub repositories: Vec<RepositoryListed>,
    /// What to give as `last` for those that follow, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RepositoryName>,
}

/// One of a list of repositories.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepositoryListed {
    /// The name.
    pub repository: RepositoryName,
    /// How many tags it has.
    pub tags: usize,
    /// The settings in force.
    pub settings: RepositorySettings,
}

/// `GET /api/v1/orgs/{org}/repositories/{repository}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepositoryShown {
    /// The name.
    pub repository: RepositoryName,
    /// The settings in force.
    pub settings: RepositorySettings,
    /// The pattern that each of them comes from.
    pub from: BTreeMap<Setting, RepositoryPattern>,
    /// A page of its tags, in ASCII order.
    pub tags: Vec<TagShown>,
    /// What to give as `last` for the tags that follow, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Tag>,
}

/// A tag of a repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TagShown {
    /// The name.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Digest,
    /// When it was last pushed, in seconds since 1970.
    pub pushed: WallTime,
    /// When it expires, in seconds since 1970; the next run after that removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<WallTime>,
    /// What keeps it, where retention would remove it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptBy>,
}

/// `POST /api/v1/orgs/{org}/apps/{app}/versions/{version}/retire`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retire {
    /// Why, at most [`protocol::rollout::REASON_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
