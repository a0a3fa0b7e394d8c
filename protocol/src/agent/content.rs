//! The content of the versions that are needed, and when one is whole.
//!
//! A version is wanted when desired state and version statement agree: the state names the statement's digest. Its blobs are
//! wanted in two steps, because bytes from peers need a hash list to be checked against: first the lists, then the blobs.
//!
//! Not here: why a version is needed; see [`super::wanted`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Effect, Event, Outbox, Refusal};
use crate::digest::Digest;
use crate::rollout::report::Fetched;
use crate::statement::version::{AcceptedStatement, HashListName, StatedBlob, VersionName};

/// Blobs that are wanted of the swarm at a time: enough to keep a WAN busy with small ones, few enough for files and memory.
pub(super) const WANTS_MAX: usize = 32;

/// Statements that are asked for at a time: enough to keep whoever asks the seed busy, and the answers fit its queues whatever
/// the number of apps.
pub(super) const STATEMENTS_MAX: usize = 64;

/// What the units of a blob are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The blob's own digest; it is one unit, whatever its size.
    Digest,
    /// This hash list, which is stored here.
    HashList(Digest),
}

/// How far a version is.
pub(super) enum Progress<'a> {
    Fetching,
    Stored,
    Failed(&'a str),
}

/// Needed versions and wanted blobs.
#[derive(Debug, Default)]
pub(super) struct Content {
    versions: BTreeMap<VersionName, Version>,
    /// Statements that are asked for and not yet answered, by the digest that was wanted then.
    asked: BTreeMap<VersionName, Digest>,
    /// Versions whose statements are to be asked for, as soon as fewer are.
    to_ask: VecDeque<VersionName>,
    stored: BTreeSet<Digest>,
    wanted: BTreeSet<Digest>,
    /// Wanted, but not yet of the swarm.
    queue: VecDeque<(Digest, u64, Proof)>,
}

#[derive(Debug)]
struct Version {
    statement: Digest,
    /// What was fetched for it in this run.
    fetched: Fetched,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The statement is asked for, or will be as soon as fewer are.
    Asked,
    /// The statement is to be asked for again with the next poll.
    AskAgain,
    /// The statement is accepted, and these blobs are missing.
    Fetching(BTreeMap<Digest, StatedBlob>),
    /// All blobs are stored.
    Stored,
    /// The device cannot have the version.
    Failed(String),
}

impl Content {
    /// These versions are needed, with these statements, and no others.
    pub(super) fn need(&mut self, needed: BTreeMap<VersionName, Digest>, out: &mut Outbox) {
        let before = self.versions.len();
        self.versions.retain(|name, version| needed.get(name) == Some(&version.statement));
        let mut changed = before != self.versions.len();
        for (name, statement) in needed {
            if !self.versions.contains_key(&name) {
                changed = true;
                self.versions.insert(name.clone(), Version { statement, fetched: Fetched::default(), stage: Stage::Asked });
                self.to_ask.push_back(name);
            }
        }
        if changed {
            self.ask_queued(out);
            self.unwant_what_nothing_needs(out);
        }
    }

    pub(super) fn progress(&self, name: &VersionName, statement: &Digest) -> Progress<'_> {
        match self.versions.get(name).filter(|version| version.statement == *statement).map(|version| &version.stage) {
            Some(Stage::Stored) => Progress::Stored,
            Some(Stage::Failed(reason)) => Progress::Failed(reason),
            Some(Stage::Asked | Stage::AskAgain | Stage::Fetching(_)) | None => Progress::Fetching,
        }
    }

    pub(super) fn is_stored(&self, name: &VersionName, statement: &Digest) -> bool {
        matches!(self.progress(name, statement), Progress::Stored)
    }

    /// Whether a statement could not be had, and is to be asked for again.
    pub(super) fn misses_statement(&self) -> bool {
        self.versions.values().any(|version| matches!(version.stage, Stage::AskAgain))
    }

    /// Asks for the statements that could not be had.
    pub(super) fn ask_again(&mut self, out: &mut Outbox) {
        for (name, version) in self.versions.iter_mut().filter(|(_, version)| matches!(version.stage, Stage::AskAgain)) {
            version.stage = Stage::Asked;
            self.to_ask.push_back(name.clone());
        }
        self.ask_queued(out);
    }

    fn ask_queued(&mut self, out: &mut Outbox) {
        let mut later = Vec::new();
        while self.asked.len() < STATEMENTS_MAX
            && let Some(name) = self.to_ask.pop_front()
        {
            let Some(version) = self.versions.get(&name).filter(|version| matches!(version.stage, Stage::Asked)) else { continue };
            if let Some(earlier) = self.asked.get(&name) {
                if *earlier != version.statement {
                    later.push(name);
                }
                continue;
            }
            self.asked.insert(name.clone(), version.statement);
            out.effects.push_back(Effect::AcceptStatement { name, digest: version.statement });
        }
        self.to_ask.extend(later);
    }

    /// Takes note of an answer; whether it is to what is wanted now.
    fn on_answer(&mut self, name: &VersionName) -> bool {
        let asked = self.asked.remove(name);
        self.versions.get(name).is_some_and(|version| {
            matches!(version.stage, Stage::Asked | Stage::AskAgain) && asked.is_none_or(|asked| asked == version.statement)
        })
    }

    pub(super) fn on_statement(&mut self, statement: &AcceptedStatement, out: &mut Outbox) {
        let name = statement.statement().name();
        if !self.on_answer(&name) {
            return self.ask_queued(out);
        }
        let missing: BTreeMap<Digest, StatedBlob> = statement
            .statement()
            .content()
            .into_iter()
            .filter(|blob| !self.stored.contains(&blob.digest))
            .map(|blob| (blob.digest, blob))
            .collect();
        let Some(version) = self.versions.get_mut(&name) else { return };
        if statement.digest() != version.statement {
            let reason = "desired state and version statement do not agree".to_owned();
            out.events.push_back(Event::VersionFailed { name, reason: reason.clone() });
            version.stage = Stage::Failed(reason);
            self.ask_queued(out);
            self.unwant_what_nothing_needs(out);
            return;
        }
        let blobs: Vec<StatedBlob> = missing.values().cloned().collect();
        version.stage = Stage::Fetching(missing);
        for blob in blobs {
            self.want(&blob, out);
        }
        self.ask_queued(out);
        self.unwant_what_nothing_needs(out);
        self.note_complete_versions(out);
    }

    pub(super) fn on_statement_refused(&mut self, name: &VersionName, refusal: Refusal, out: &mut Outbox) {
        if self.on_answer(name)
            && let Some(version) = self.versions.get_mut(name)
        {
            version.stage = match refusal {
                Refusal::Temporary(_) => Stage::AskAgain,
                Refusal::Final(reason) => {
                    out.events.push_back(Event::VersionFailed { name: name.clone(), reason: reason.clone() });
                    Stage::Failed(reason)
                }
            };
        }
        self.ask_queued(out);
        self.unwant_what_nothing_needs(out);
    }

    /// What was fetched to have the version whole, once it is, and if something was.
    pub(super) fn fetched(&self, name: &VersionName, statement: &Digest) -> Option<Fetched> {
        let version = self.versions.get(name).filter(|_| self.is_stored(name, statement));
        version.map(|version| version.fetched).filter(|fetched| fetched.bytes() > 0)
    }

    pub(super) fn on_blob_fetched(&mut self, blob: Digest, fetched: Fetched) {
        for version in self.versions.values_mut() {
            if matches!(&version.stage, Stage::Fetching(missing) if missing.contains_key(&blob)) {
                version.fetched.add(fetched);
            }
        }
    }

    pub(super) fn on_blob_stored(&mut self, stored: Digest, out: &mut Outbox) {
        self.wanted.remove(&stored);
        self.stored.insert(stored);
        let mut now_provable = Vec::new();
        for version in self.versions.values_mut() {
            let Stage::Fetching(missing) = &mut version.stage else { continue };
            missing.remove(&stored);
            let proven = |blob: &&StatedBlob| blob.hash_list.as_ref().is_some_and(|list| list.digest == stored);
            now_provable.extend(missing.values().filter(proven).cloned());
        }
        for blob in now_provable {
            self.want(&blob, out);
        }
        self.want_queued(out);
        self.note_complete_versions(out);
    }

    /// Without a usable list, the blob's digest is its only proof.
    pub(super) fn on_list_unusable(&mut self, list: Digest, out: &mut Outbox) {
        let mut unproven = Vec::new();
        for version in self.versions.values_mut() {
            let Stage::Fetching(missing) = &mut version.stage else { continue };
            for blob in missing.values_mut().filter(|blob| blob.hash_list.as_ref().is_some_and(|name| name.digest == list)) {
                blob.hash_list = None;
                unproven.push(blob.clone());
            }
        }
        for blob in unproven {
            self.wanted.remove(&blob.digest);
            self.want(&blob, out);
        }
    }

    /// Wants a blob, or first the list that its units are checked against.
    fn want(&mut self, blob: &StatedBlob, out: &mut Outbox) {
        let (digest, size, proof) = match &blob.hash_list {
            Some(list) if !self.stored.contains(&list.digest) => (list.digest, list.size, Proof::Digest),
            Some(HashListName { digest, .. }) => (blob.digest, blob.size, Proof::HashList(*digest)),
            None => (blob.digest, blob.size, Proof::Digest),
        };
        if !self.wanted.contains(&digest) && !self.queue.iter().any(|(queued, _, _)| *queued == digest) {
            self.queue.push_back((digest, size, proof));
        }
        self.want_queued(out);
    }

    fn want_queued(&mut self, out: &mut Outbox) {
        while self.wanted.len() < WANTS_MAX
            && let Some((blob, size, proof)) = self.queue.pop_front()
        {
            self.wanted.insert(blob);
            out.effects.push_back(Effect::Want { blob, size, proof });
        }
    }

    fn note_complete_versions(&mut self, out: &mut Outbox) {
        for (name, version) in &mut self.versions {
            if matches!(&version.stage, Stage::Fetching(missing) if missing.is_empty()) {
                version.stage = Stage::Stored;
                out.events.push_back(Event::VersionStored { name: name.clone() });
            }
        }
    }

    /// Lets go of what only older versions needed. While a statement is still to come nobody knows what is needed, and a
    /// blob that both versions share must not be fetched twice.
    fn unwant_what_nothing_needs(&mut self, out: &mut Outbox) {
        if self.versions.values().any(|version| matches!(version.stage, Stage::Asked | Stage::AskAgain)) {
            return;
        }
        let mut needed = BTreeSet::new();
        for version in self.versions.values() {
            if let Stage::Fetching(missing) = &version.stage {
                needed.extend(missing.keys().copied());
                needed.extend(missing.values().filter_map(|blob| blob.hash_list.as_ref()).map(|list| list.digest));
            }
        }
        self.queue.retain(|(blob, _, _)| needed.contains(blob));
        for blob in self.wanted.extract_if(.., |blob| !needed.contains(blob)) {
            out.effects.push_back(Effect::Unwant { blob });
        }
        self.want_queued(out);
    }
}
