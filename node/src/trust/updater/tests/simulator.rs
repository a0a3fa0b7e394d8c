//! A repository in memory, changed and published role by role, and a client that keeps what it trusts.
//!
//! Not here: the claims.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use protocol::digest::Digest;
use protocol::time::WallTime;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::super::metadata;
use super::super::super::refused::TrustRefused;
use super::super::super::source::{MetadataSource, SourceError};
use super::super::{AnyRoot, Found, Refreshed, Updater};

/// When the tests begin; everything is valid for 30 days from here.
pub(super) const NOW: WallTime = WallTime::from_unix_seconds(1_800_000_000);
pub(super) const DAY: u64 = 86_400;
const TOP_LEVEL: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

pub(super) fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(super) fn keyid(number: u8) -> String {
    metadata::keyid(&key(number).verifying_key())
}

fn key_object(number: u8) -> Value {
    metadata::key_object(&key(number).verifying_key())
}

pub(super) fn expiry(days: u64) -> Value {
    json!(metadata::calendar(NOW.plus_seconds(days * DAY)).to_string())
}

/// The repository: what is being written, who signs it, and what is served.
pub(super) struct Simulator {
    pub(super) roles: BTreeMap<String, Value>,
    pub(super) signers: BTreeMap<String, Vec<u8>>,
    /// How often a role was published since its history was begun.
    published: BTreeMap<String, u64>,
    pub(super) served: BTreeMap<String, String>,
    pub(super) artifacts: BTreeMap<String, Vec<u8>>,
    /// Whether snapshot and timestamp name lengths and hashes.
    pub(super) with_hashes: bool,
    requests: Mutex<Vec<String>>,
    next_key: u8,
}

impl Simulator {
    pub(super) fn new() -> Self {
        let header = |kind: &str| json!({"_type": kind, "spec_version": "1.0.37", "version": 0, "expires": expiry(30)});
        let mut roles: BTreeMap<String, Value> = TOP_LEVEL.map(|role| (role.to_owned(), header(role))).into();
        let mut root = roles["root"].clone();
        root["consistent_snapshot"] = json!(true);
        (root["keys"], root["roles"]) = (json!({}), json!({}));
        roles.insert("root".into(), root);
        for (role, member) in [("targets", "targets"), ("snapshot", "meta"), ("timestamp", "meta")] {
            roles.get_mut(role).unwrap()[member] = json!({});
        }
        let (signers, published, served, artifacts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut made = Self { roles, signers, published, served, artifacts, with_hashes: false, requests: Mutex::default(), next_key: 100 };
        for role in TOP_LEVEL {
            let key = made.new_key();
            made.set_keys(role, &[key], 1);
            made.signers.insert(role.into(), vec![key]);
        }
        made.publish(&["targets", "snapshot", "timestamp", "root"]);
        made
    }

    pub(super) fn new_key(&mut self) -> u8 {
        self.next_key += 1;
        self.next_key
    }

    pub(super) fn role(&mut self, role: &str) -> &mut Value {
        self.roles.get_mut(role).unwrap()
    }

    /// Names the keys of a top-level role; who signs stays.
    pub(super) fn set_keys(&mut self, role: &str, keys: &[u8], threshold: usize) {
        let root = self.role("root");
        let ids: Vec<String> = keys.iter().map(|key| keyid(*key)).collect();
        for key in keys {
            root["keys"][keyid(*key)] = key_object(*key);
        }
        root["roles"][role] = json!({"keyids": ids, "threshold": threshold});
    }

    /// Gives a top-level role one new key, which signs it from now on.
    pub(super) fn rotate(&mut self, role: &str) {
        let key = self.new_key();
        self.set_keys(role, &[key], 1);
        self.signers.insert(role.into(), vec![key]);
    }

    /// Forgets the history of a role: the next version published is 1.
    pub(super) fn restart(&mut self, role: &str) {
        self.published.remove(role);
        self.role(role)["version"] = json!(0);
    }

    /// The number of the newest file of a role, whatever stands in it.
    fn file_of(&self, role: &str, number: u64) -> String {
        if role == "timestamp" { "timestamp.json".into() } else { format!("{number}.{}.json", metadata::encoded(role)) }
    }

    pub(super) fn newest(&self, role: &str) -> String {
        self.file_of(role, self.published[role])
    }

    /// Publishes the next version of each role, in this order.
    pub(super) fn publish(&mut self, roles: &[&str]) {
        for role in roles {
            let version = self.roles[*role]["version"].as_u64().unwrap() + 1;
            self.role(role)["version"] = json!(version);
            let number = self.published.get(*role).unwrap_or(&0) + 1;
            self.published.insert((*role).to_owned(), number);
            let keys: Vec<SigningKey> = self.signers[*role].iter().map(|number| key(*number)).collect();
            let content = metadata::sign(&self.roles[*role], &keys.iter().collect::<Vec<_>>());
            let mut pin = json!({"version": version});
            if self.with_hashes {
                pin["length"] = json!(content.len());
                pin["hashes"] = json!({"sha256": Digest::sha256(content.as_bytes()).hex()});
            }
            match *role {
                "root" | "timestamp" => {}
                "snapshot" => self.role("timestamp")["meta"]["snapshot.json"] = pin,
                _ => self.role("snapshot")["meta"][format!("{role}.json")] = pin,
            }
            self.served.insert(self.file_of(role, number), content);
        }
    }

    /// Adds a delegation with a key of its own; the role is made if it is new.
    pub(super) fn delegate(&mut self, delegator: &str, role: &str, paths: &[&str], terminating: bool) -> u8 {
        let number = self.new_key();
        if !self.roles.contains_key(role) {
            let made = json!({"_type": "targets", "spec_version": "1.0.37", "version": 0, "expires": expiry(30), "targets": {}});
            self.roles.insert(role.into(), made);
        }
        self.signers.entry(role.into()).or_default().push(number);
        let parent = self.role(delegator);
        if parent.get("delegations").is_none() {
            parent["delegations"] = json!({"keys": {}, "roles": []});
        }
        parent["delegations"]["keys"][keyid(number)] = key_object(number);
        let delegation = json!({"name": role, "keyids": [keyid(number)], "threshold": 1, "terminating": terminating, "paths": paths});
        parent["delegations"]["roles"].as_array_mut().unwrap().push(delegation);
        number
    }

    /// Lists an artifact with hashes of these kinds.
    pub(super) fn add_artifact(&mut self, role: &str, path: &str, content: &[u8], kinds: &[&str]) {
        let digest = |kind: &str| if kind == "sha512" { Digest::sha512(content) } else { Digest::sha256(content) };
        let hashes: BTreeMap<&str, String> = kinds.iter().map(|kind| (*kind, digest(kind).hex())).collect();
        self.role(role)["targets"][path] = json!({"length": content.len(), "hashes": hashes});
        for hash in hashes.values() {
            let (dir, name) = path.rsplit_once('/').map_or(("", path), |(dir, name)| (dir, name));
            let separator = if dir.is_empty() { "" } else { "/" };
            self.artifacts.insert(format!("{dir}{separator}{hash}.{name}"), content.to_vec());
        }
    }

    /// Changes a published file behind its signatures.
    pub(super) fn spoil(&mut self, role: &str, change: impl FnOnce(&mut Value)) {
        let file = self.newest(role);
        let mut document: Value = serde_json::from_str(&self.served[&file]).unwrap();
        change(&mut document);
        self.served.insert(file, document.to_string());
    }

    pub(super) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

#[async_trait]
impl MetadataSource for Simulator {
    async fn metadata(&self, name: &str, _bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.requests.lock().unwrap().push(name.to_owned());
        Ok(self.served.get(name).map(|content| content.clone().into_bytes()))
    }

    async fn target(&self, path: &str, _bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.requests.lock().unwrap().push(path.to_owned());
        Ok(self.artifacts.get(path).cloned())
    }
}

/// A client that is started anew for everything it does, with what it kept.
pub(super) struct Client {
    dir: TempDir,
    root: String,
}

impl Client {
    /// A client that trusts the first root.
    pub(super) fn of(repository: &Simulator) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), root: repository.served["1.root.json"].clone() }
    }

    pub(super) fn with_root(root: String) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), root }
    }

    pub(super) fn open(&self) -> Result<Updater, TrustRefused> {
        Updater::open(self.dir.path(), self.root.as_bytes(), Box::new(AnyRoot))
    }

    pub(super) async fn refresh(&self, repository: &Simulator) -> Result<Refreshed, TrustRefused> {
        self.refresh_at(repository, NOW).await
    }

    pub(super) async fn refresh_at(&self, repository: &Simulator, now: WallTime) -> Result<Refreshed, TrustRefused> {
        self.open()?.refresh(now, repository, None).await
    }

    /// Refreshes and searches, as one process.
    pub(super) async fn find(&self, repository: &Simulator, path: &str) -> Result<Option<Found>, TrustRefused> {
        let mut updater = self.open()?;
        updater.refresh(NOW, repository, None).await?;
        updater.find(path, NOW, repository).await
    }

    /// Refreshes, searches and fetches, as one process.
    pub(super) async fn fetch(&self, repository: &Simulator, path: &str) -> Result<Vec<u8>, TrustRefused> {
        let mut updater = self.open()?;
        updater.refresh(NOW, repository, None).await?;
        let found = updater.find(path, NOW, repository).await?.ok_or_else(|| TrustRefused::NotPublished(path.to_owned()))?;
        updater.download(path, &found.target, 1 << 20, repository).await
    }

    pub(super) fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.path().join(file)).ok()
    }

    /// The version of a role that is kept.
    pub(super) fn version(&self, role: &str) -> Option<u64> {
        let text = self.text(&format!("{}.json", metadata::encoded(role)))?;
        serde_json::from_str::<Value>(&text).unwrap()["signed"]["version"].as_u64()
    }

    /// Root, timestamp, snapshot and targets as they are kept.
    pub(super) fn versions(&self) -> [Option<u64>; 4] {
        ["root", "timestamp", "snapshot", "targets"].map(|role| self.version(role))
    }
}

pub(super) fn reason<T>(result: Result<T, TrustRefused>) -> &'static str {
    result.err().map_or("accepted", |refused| refused.reason())
}
