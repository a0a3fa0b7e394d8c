//! A seed in the wrong hands: whoever has its data directory has its records and its online key, and signs with it whatever that
//! key can sign.
//!
//! Not here: what devices make of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node::store::embedded::EmbeddedStore;
use node::store::meta::{FleetStore as _, TrustStore as _, TufFile};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::seed::{ORG, Seed};

const TIMESTAMP: &str = "timestamp.json";

/// The records and the online key of a seed that does not run.
pub struct Taken {
    runtime: Runtime,
    store: EmbeddedStore,
    key: KeyPair,
    keyid: String,
}

impl Taken {
    /// Takes `seed`.
    ///
    /// # Panics
    /// When it runs, or its files cannot be read.
    #[track_caller]
    pub fn of(seed: &Seed) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let store = runtime.block_on(async { EmbeddedStore::open(&seed.data()) }).expect("the records can be read");
        let pem = std::fs::read_to_string(seed.data().join("keys/online.pem")).expect("a seed has an online key");
        let key = KeyPair::from_pem(&pem).expect("the online key can be read");
        let mut taken = Self { runtime, store, key, keyid: String::new() };
        let timestamp = taken.document(TIMESTAMP);
        taken.keyid = timestamp["signatures"][0]["keyid"].as_str().expect("a signature names its key").to_owned();
        taken
    }

    /// The content of a TUF file.
    #[track_caller]
    pub fn content(&self, name: &str) -> String {
        let org = ORG.parse().expect("a name");
        let file = self.runtime.block_on(self.store.tuf_file(&org, name)).expect("the records can be read");
        file.unwrap_or_else(|| panic!("the seed has no {name}")).content
    }

    fn document(&self, name: &str) -> Value {
        serde_json::from_str(&self.content(name)).expect("a TUF file is JSON")
    }

    /// What is signed in a TUF file.
    #[track_caller]
    pub fn signed(&self, name: &str) -> Value {
        self.document(name)["signed"].clone()
    }

    /// A TUF file that the online key signs, whatever it is.
    ///
    /// # Panics
    /// Never: the key signs.
    pub fn sign(&self, signed: &Value) -> String {
        // Sorted names, no white space, and nothing that is escaped: that is canonical JSON.
        let signature = self.key.sign(signed.to_string().as_bytes()).expect("the key signs");
        json!({ "signatures": [{ "keyid": self.keyid, "sig": hex::encode(signature) }], "signed": signed }).to_string()
    }

    /// Lets the seed serve these files.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn serve(&self, files: &[(&str, String)]) {
        let expected = TufFile { name: TIMESTAMP.to_owned(), content: self.content(TIMESTAMP) };
        let files = files.iter().map(|(name, content)| TufFile { name: (*name).to_owned(), content: content.clone() });
        let org = ORG.parse().expect("a name");
        self.runtime.block_on(self.store.put_tuf_files(&org, &expected, files.collect())).expect("the records can be written");
    }

    /// The next timestamp over the next snapshot, with `change` made to what it pins; of version `version` at least.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn pin(&self, version: u64, change: impl FnOnce(&mut Value)) {
        let mut timestamp = self.signed(TIMESTAMP);
        let number = timestamp["meta"]["snapshot.json"]["version"].as_u64().expect("a timestamp names a snapshot");
        let mut snapshot = self.signed(&format!("{number}.snapshot.json"));
        change(&mut snapshot["meta"]);
        let next = version.max(number + 1);
        let after = timestamp["version"].as_u64().expect("a timestamp has a version") + 1;
        snapshot["version"] = json!(next);
        timestamp["version"] = json!(version.max(after));
        timestamp["meta"]["snapshot.json"]["version"] = json!(next);
        self.serve(&[(&format!("{next}.snapshot.json"), self.sign(&snapshot)), (TIMESTAMP, self.sign(&timestamp))]);
    }

    /// The next desired state of the group `all`, with `change` made to it; of counter `counter` at least.
    ///
    /// # Panics
    /// When there is none, or it cannot be written.
    pub fn desire(&self, counter: u64, change: impl FnOnce(&mut Value)) {
        let (org, group) = (ORG.parse().expect("a name"), "all".parse().expect("a name"));
        let kept = self.runtime.block_on(self.store.desired_state(&org, &group)).expect("the records can be read");
        let mut record = kept.expect("the group has a desired state");
        let envelope: Value = serde_json::from_str(&record.envelope).expect("an envelope is JSON");
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap_or_default()).expect("a payload is base64");
        let mut state: Value = serde_json::from_slice(&payload).expect("a desired state is JSON");
        change(&mut state);
        let expected = record.counter;
        record.counter.n = counter.max(expected.n + 1);
        state["counter"]["n"] = json!(record.counter.n);
        let (kind, payload) = (envelope["payloadType"].as_str().unwrap_or_default(), state.to_string());
        let bytes = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let signature = STANDARD.encode(self.key.sign(bytes.as_bytes()).expect("the key signs"));
        let signatures = json!([{ "keyid": self.keyid, "sig": signature }]);
        record.envelope = json!({ "payloadType": kind, "payload": STANDARD.encode(payload), "signatures": signatures }).to_string();
        let put = self.store.put_desired_state(&org, Some(expected), record, Vec::new());
        self.runtime.block_on(put).expect("the records can be written");
    }
}
