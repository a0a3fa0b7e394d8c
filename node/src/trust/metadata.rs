//! TUF 1.0 documents: their names, their content, their signatures; pure functions of their arguments.
//!
//! Role and file names: an app's role is `app-<app>`, so that an app may be called `root` or `timestamp` without
//! meeting a top-level role (TUF 1.0 §4.5 leaves role names to the repository).
//!
//! Not here: when a document is made and what is checked; see [`super::repository`], [`super::client`].

use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use olpc_cjson::CanonicalFormatter;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName};
use protocol::statement::desired::OnlineKey;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sigstore_tuf::{Key, Root, TargetFile, Targets};

use super::refused::TrustRefused;

/// How long root metadata is valid, in seconds: 5 years, for a signature that needs the most guarded key; a device on a
/// shelf for longer must be enrolled again.
pub const ROOT_SECONDS: u64 = 5 * 365 * DAY_SECONDS;

/// How long a targets role is valid, in seconds: 1 year bounds how long a taken seed can keep devices on old versions,
/// and asks each operator for one signature a year at most.
pub const TARGETS_SECONDS: u64 = 365 * DAY_SECONDS;

/// A role that people sign is warned of this long before it expires, in seconds: 60 days, for people who meet to sign.
pub const EXPIRY_WARNING_SECONDS: u64 = 60 * DAY_SECONDS;

/// How long a snapshot is valid, in seconds: 7 days, longer than a timestamp, so that renewing a timestamp is one small
/// file for every device and not two.
pub const SNAPSHOT_SECONDS: u64 = 7 * DAY_SECONDS;

/// How long a timestamp is valid, in seconds: 3 days, a seed's outage over a weekend, after which a device takes no new
/// version.
pub const TIMESTAMP_SECONDS: u64 = 3 * DAY_SECONDS;

/// A timestamp older than this, in seconds, is renewed: 12 hours; six tries before it expires, and polls in between find
/// nothing new.
pub const TIMESTAMP_RENEWAL_SECONDS: u64 = DAY_SECONDS / 2;

/// The only `format` of the `x-hedgerow` members of roots and of apps' roles that this code reads and writes.
pub const MEMBER_FORMAT: u32 = 1;

/// The name of the only file that is never versioned (TUF 1.0 §6.2).
pub(super) const TIMESTAMP_FILE: &str = "timestamp.json";

const DAY_SECONDS: u64 = 86_400;
const SPEC_VERSION: &str = "1.0.37";
pub(super) const MEMBER: &str = "x-hedgerow";
const ED25519: &str = "ed25519";

/// The root's `x-hedgerow` member: whose root it is, and the delegation of the online key for desired states.
#[derive(Debug, Serialize, Deserialize)]
struct RootMember {
    format: u32,
    org: OrgName,
    online: OnlineDelegation,
    /// Whether grants of the app keys count where no timestamp and no desired state can be had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    grants: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct OnlineDelegation {
    keyid: String,
    epoch: u64,
    /// Revocation lists of epochs before this one do not count any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    revocations_since: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(epoch: &u64) -> bool {
    *epoch == 0
}

/// The `x-hedgerow` member of an app's role.
#[derive(Debug, Serialize, Deserialize)]
struct AppMember {
    format: u32,
    floor: u64,
}

/// What a root says (TUF 1.0 §4.3), besides its expiry.
pub(super) struct RootContent<'a> {
    pub(super) org: &'a OrgName,
    pub(super) version: u64,
    pub(super) root: &'a VerifyingKey,
    pub(super) targets: &'a VerifyingKey,
    pub(super) online: &'a VerifyingKey,
    pub(super) epoch: u64,
}

/// The role that signs the versions of `app`.
pub(super) fn role_name(app: &AppName) -> String {
    format!("app-{app}")
}

/// The app whose role this is; none if it is no app's.
pub(super) fn app_of(role: &str) -> Option<AppName> {
    role.strip_prefix("app-")?.parse().ok()
}

/// The file of version `version` of `role` (TUF 1.0 §6.2, consistent snapshots).
pub(super) fn versioned(role: &str, version: u64) -> String {
    format!("{version}.{role}.json")
}

/// The un-versioned name of a role's file, by which snapshots pin it and devices keep it.
pub(super) fn unversioned(role: &str) -> String {
    format!("{role}.json")
}

/// A role's name as it stands in file names and addresses: what is not unreserved (RFC 3986 §2.3) is escaped.
pub(super) fn encoded(role: &str) -> String {
    let mut encoded = String::with_capacity(role.len());
    for byte in role.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

/// Whether the name belongs to a role that no targets role may delegate.
pub(super) fn is_top_level(role: &str) -> bool {
    ["root", "timestamp", "snapshot", "targets"].contains(&role)
}

/// The paths that the role of `app` may sign (TUF 1.0 §4.5, PATHPATTERN).
pub(super) fn path_pattern(app: &AppName) -> String {
    format!("{app}/*/*.json")
}

/// Where a target is served (TUF 1.0 §6.2): its digest stands before the file name.
pub(super) fn consistent_path(path: &str, digest: &Digest) -> String {
    match path.rsplit_once('/') {
        Some((dir, name)) => format!("{dir}/{}.{name}", digest.hex()),
        None => format!("{}.{path}", digest.hex()),
    }
}

/// The digest in the path of a served target, `<app>/<N>/<sha256>.<platform>.json`; none if it is no such path.
pub fn statement_digest(path: &str) -> Option<Digest> {
    let mut parts = path.split('/');
    let (app, version, file) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || app.parse::<AppName>().is_err() || version.parse::<u64>().is_err() {
        return None;
    }
    let (hex, platform) = file.strip_suffix(".json")?.split_once('.')?;
    platform.parse::<protocol::name::Platform>().ok()?;
    format!("sha256:{hex}").parse().ok()
}

/// The target entry of a statement (TUF 1.0 §4.5, TARGETS).
pub(super) fn target_entry(bytes: &[u8]) -> Value {
    json!({ "length": bytes.len(), "hashes": { "sha256": Digest::sha256(bytes).hex() } })
}

/// The digest by which `target` is served: its SHA-256, or else its SHA-512.
pub(super) fn target_digest(path: &str, target: &TargetFile) -> Result<Digest, TrustRefused> {
    target_digests(target).next().ok_or_else(|| TrustRefused::Malformed {
        file: path.to_owned(),
        detail: "its role names neither a SHA-256 nor a SHA-512 for it".to_owned(),
    })
}

/// The hashes of `target` that are understood, SHA-256 first.
pub(super) fn target_digests(target: &TargetFile) -> impl Iterator<Item = Digest> {
    ["sha256", "sha512"].into_iter().filter_map(|name| format!("{name}:{}", target.hashes.get(name)?).parse().ok())
}

/// `now` as the TUF library takes it; times beyond its calendar are its last moment, at which everything has expired.
pub(super) fn calendar(now: WallTime) -> jiff::Timestamp {
    i64::try_from(now.as_unix_seconds()).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).unwrap_or(jiff::Timestamp::MAX)
}

/// The key object of TUF 1.0 §4.2.
pub(super) fn key_object(key: &VerifyingKey) -> Value {
    json!({ "keytype": ED25519, "scheme": ED25519, "keyval": { "public": hex::encode(key.as_bytes()) } })
}

/// The identity of a key: SHA-256 of its canonical key object (TUF 1.0 §4.2).
pub(super) fn keyid(key: &VerifyingKey) -> String {
    Digest::sha256(&canonical(&key_object(key))).hex()
}

/// The content of root metadata (TUF 1.0 §4.3), valid for [`ROOT_SECONDS`].
#[expect(clippy::unwrap_used, reason = "the member consists of strings and numbers")]
pub(super) fn root(content: &RootContent<'_>, now: WallTime) -> Value {
    let RootContent { org, version, root, targets, online, epoch } = *content;
    let keys: BTreeMap<String, Value> = [root, targets, online].map(|key| (keyid(key), key_object(key))).into();
    let role = |key: &VerifyingKey| json!({ "keyids": [keyid(key)], "threshold": 1 });
    let online_delegation = OnlineDelegation { keyid: keyid(online), epoch, revocations_since: 0 };
    let member = RootMember { format: MEMBER_FORMAT, org: org.clone(), online: online_delegation, grants: false };
    let mut signed = header("root", version, now.plus_seconds(ROOT_SECONDS));
    signed["consistent_snapshot"] = json!(true);
    signed["keys"] = json!(keys);
    signed["roles"] = json!({ "root": role(root), "targets": role(targets), "snapshot": role(online), "timestamp": role(online) });
    signed[MEMBER] = serde_json::to_value(member).unwrap();
    signed
}

/// The content of a targets role without targets and delegations (TUF 1.0 §4.5).
pub(super) fn empty_targets() -> Value {
    let mut signed = header("targets", 0, WallTime::from_unix_seconds(0));
    signed["targets"] = json!({});
    signed
}

/// `signed` of a targets role as its next version, valid for [`TARGETS_SECONDS`].
pub(super) fn next_targets(mut signed: Value, previous: u64, now: WallTime) -> Value {
    signed["version"] = json!(previous.saturating_add(1));
    signed["expires"] = json!(calendar(now.plus_seconds(TARGETS_SECONDS)).to_string());
    signed
}

/// The delegation of the role `name` for the paths of `app` to `threshold` of these keys (TUF 1.0 §4.5, ROLE).
pub(super) fn delegation(name: &str, app: &AppName, keyids: &[String], threshold: usize) -> Value {
    json!({
        "name": name, "keyids": keyids, "threshold": threshold,
        "terminating": true, "paths": [path_pattern(app)],
    })
}

/// The least version that devices may start, as the app's role says it; 0 if it says none.
pub(super) fn floor(name: &str, role: &Targets) -> Result<u64, TrustRefused> {
    let Some(member) = role.extra.get(MEMBER) else { return Ok(0) };
    let malformed = |detail: String| TrustRefused::Malformed { file: unversioned(name), detail: format!("{MEMBER}: {detail}") };
    let member = AppMember::deserialize(member).map_err(|error| malformed(error.to_string()))?;
    if member.format != MEMBER_FORMAT {
        return Err(malformed(format!("it has format {}, this program reads {MEMBER_FORMAT}; update it", member.format)));
    }
    Ok(member.floor)
}

/// Makes `floor` what the app's role in `signed` says.
pub(super) fn set_floor(signed: &mut Value, floor: u64) {
    signed[MEMBER] = json!({ "format": MEMBER_FORMAT, "floor": floor });
}

/// A verified role as JSON again, without the members that it does not have.
#[expect(clippy::unwrap_used, reason = "what was parsed from JSON serialises to it")]
pub(super) fn plain(role: &impl Serialize) -> Value {
    let mut signed = serde_json::to_value(role).unwrap();
    remove_nulls(&mut signed);
    signed
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The content of snapshot metadata (TUF 1.0 §4.4) that pins file names to versions, valid for [`SNAPSHOT_SECONDS`].
pub(super) fn snapshot(version: u64, pins: &BTreeMap<String, u64>, now: WallTime) -> Value {
    let mut signed = header("snapshot", version, now.plus_seconds(SNAPSHOT_SECONDS));
    signed["meta"] = pins.iter().map(|(file, version)| (file.clone(), json!({ "version": version }))).collect();
    signed
}

/// The content of timestamp metadata (TUF 1.0 §4.6), valid for [`TIMESTAMP_SECONDS`].
pub(super) fn timestamp(version: u64, snapshot_version: u64, now: WallTime) -> Value {
    let mut signed = header("timestamp", version, now.plus_seconds(TIMESTAMP_SECONDS));
    signed["meta"] = json!({ "snapshot.json": { "version": snapshot_version } });
    signed
}

/// The metadata file of `signed` with a signature of each of `keys` over its canonical form (TUF 1.0 §4.2).
pub(super) fn sign(signed: &Value, keys: &[&SigningKey]) -> String {
    let bytes = canonical(signed);
    let signature = |key: &&SigningKey| json!({ "keyid": keyid(&key.verifying_key()), "sig": hex::encode(key.sign(&bytes).to_bytes()) });
    let signatures: Vec<Value> = keys.iter().map(signature).collect();
    json!({ "signatures": signatures, "signed": signed }).to_string()
}

/// Whether the root allows grants.
pub(super) fn allows_grants(root: &Root) -> bool {
    root.extra.get(MEMBER).and_then(|member| member.get("grants")).and_then(Value::as_bool).unwrap_or(false)
}

/// The first epoch whose revocation lists still count; 0 if all do.
pub(super) fn revocations_since(root: &Root) -> u64 {
    let online = root.extra.get(MEMBER).and_then(|member| member.get("online"));
    online.and_then(|online| online.get("revocations_since")).and_then(Value::as_u64).unwrap_or(0)
}

/// The delegation of the online key in verified root metadata, which must be `org`'s.
///
/// # Errors
/// When the member is missing, another organisation's, or names no ed25519 key of the root.
pub(super) fn online_key(root: &Root, org: &OrgName) -> Result<OnlineKey, TrustRefused> {
    let malformed = |detail: String| TrustRefused::Malformed { file: versioned("root", root.version), detail };
    let member = root.extra.get(MEMBER).ok_or_else(|| malformed(format!("it has no member {MEMBER}")))?;
    let format = member.get("format").and_then(Value::as_u64);
    if format != Some(u64::from(MEMBER_FORMAT)) {
        return Err(malformed(format!("{MEMBER} has format {format:?}, this program reads {MEMBER_FORMAT}; update it")));
    }
    let member = RootMember::deserialize(member).map_err(|error| malformed(format!("{MEMBER}: {error}")))?;
    if member.org != *org {
        return Err(TrustRefused::ForeignOrg { found: member.org, wanted: org.clone() });
    }
    let key = root.keys.get(&member.online.keyid).and_then(ed25519_key);
    let key = key.ok_or_else(|| malformed("the delegated online key is not an ed25519 key of the root".to_owned()))?;
    Ok(OnlineKey { org: member.org, epoch: member.online.epoch, key })
}

/// The ed25519 key of a key object; none if it is of another kind, or weak.
pub(super) fn ed25519_key(key: &Key) -> Option<VerifyingKey> {
    let mut raw = [0; 32];
    let is_ed25519 = key.keytype == ED25519 && key.scheme == ED25519;
    hex::decode_to_slice(&key.keyval.public, &mut raw).ok().filter(|()| is_ed25519)?;
    VerifyingKey::from_bytes(&raw).ok().filter(|key| !key.is_weak())
}

/// The members that every role has (TUF 1.0 §4.2).
fn header(role: &str, version: u64, expires: WallTime) -> Value {
    json!({
        "_type": role, "spec_version": SPEC_VERSION,
        "version": version, "expires": calendar(expires).to_string(),
    })
}

/// Canonical JSON (TUF 1.0 §4.1).
#[expect(clippy::unwrap_used, reason = "writing to memory does not fail, and no floating point number is ever put in")]
pub(super) fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, CanonicalFormatter::new());
    value.serialize(&mut serializer).unwrap();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_is_that_of_the_tuf_library() {
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let theirs: Key = serde_json::from_value(key_object(&key)).unwrap();
        assert_eq!(keyid(&key), theirs.key_id().unwrap());
    }

    #[test]
    fn times_are_whole_seconds_in_utc_and_saturate() {
        assert_eq!(calendar(WallTime::from_unix_seconds(0)).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(calendar(WallTime::from_unix_seconds(u64::MAX)), jiff::Timestamp::MAX);
    }

    #[test]
    fn a_served_target_names_its_digest() {
        let digest = Digest::sha256(b"x");
        let path = consistent_path("web/3/linux-amd64.json", &digest);
        assert_eq!(path, format!("web/3/{}.linux-amd64.json", digest.hex()));
        assert_eq!(statement_digest(&path), Some(digest));
        for other in ["web/3/linux-amd64.json", "web/x/00.linux-amd64.json", "../3/00.linux-amd64.json", "web/3"] {
            assert_eq!(statement_digest(other), None, "{other}");
        }
    }

    #[test]
    fn no_app_takes_the_name_of_a_top_level_role() {
        for app in ["root", "targets", "snapshot", "timestamp", "app-root"] {
            let role = role_name(&app.parse().unwrap());
            assert!(!["root", "targets", "snapshot", "timestamp"].contains(&role.as_str()));
        }
    }
}
