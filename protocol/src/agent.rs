//! The machine of a device: when it asks its seed, what it wants because of the answer, and what it reports.
//!
//! A version is wanted when desired state and version statement agree: the state names the statement's digest. Its blobs are
//! wanted in two steps, because bytes from peers need a hash list to be checked against: first the lists, then the blobs.
//!
//! Not here: who brings the bytes, which [`crate::swarm`] decides; starting a version, waves and health, which come later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::digest::Digest;
use crate::name::{AppName, Platform};
use crate::rendezvous;
use crate::rollout::{APPS_MAX, AppReport, DeviceReport, DeviceState, short_reason};
use crate::statement::desired::{AcceptedDesiredState, Counter};
use crate::statement::version::{AcceptedStatement, HashListName, StatedBlob, VersionName};
use crate::time::Instant;

/// First pause after the seed could not be reached; it doubles up to the poll interval.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The first poll comes within this part of the interval, so that a fleet whose power returns does not ask all at once.
const FIRST_POLL_PART: u32 = 10;

/// Blobs that are wanted of the swarm at a time: enough to keep a WAN busy with small ones, few enough for files and memory.
const WANTS_MAX: usize = 32;

/// Why a statement could not be had, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Asking again may help: the seed was out of reach, metadata has to be renewed, the disk was full.
    Temporary(String),
    /// The statement itself is not to be acted on.
    Final(String),
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// The seed answered that nothing changed.
    Unchanged,
    /// The seed could not be reached, or its answer was refused.
    PollFailed,
    /// The seed's desired state was accepted.
    StateAccepted(AcceptedDesiredState),
    /// A wanted statement was accepted, now or in an earlier run.
    StatementAccepted(AcceptedStatement),
    /// A wanted statement could not be had.
    StatementRefused {
        /// The version.
        name: VersionName,
        /// Why.
        refusal: Refusal,
    },
    /// A wanted blob is stored and verified.
    BlobStored {
        /// The blob.
        blob: Digest,
    },
    /// A blob's hash list cannot be used.
    HashListUnusable {
        /// The list.
        list: Digest,
    },
    /// The seed took a report.
    Reported {
        /// The report's counter.
        counter: u64,
    },
    /// The seed did not take a report.
    ReportFailed,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the seed what the device shall have.
    Poll,
    /// Get the statement of a version, and check that it is the one with this digest.
    AcceptStatement {
        /// The version.
        name: VersionName,
        /// The digest that the desired state names.
        digest: Digest,
    },
    /// Store a blob; if it is stored already, say so.
    Want {
        /// The blob.
        blob: Digest,
        /// Its size in bytes.
        size: u64,
        /// What its units are checked against.
        proof: Proof,
    },
    /// A blob is not wanted any more.
    Unwant {
        /// The blob.
        blob: Digest,
    },
    /// Tell the seed.
    Report(DeviceReport),
}

/// What the units of a blob are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The blob's own digest; it is one unit, whatever its size.
    Digest,
    /// This hash list, which is stored here.
    HashList(Digest),
}

/// News for the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The device cannot have a version that it should have.
    VersionFailed {
        /// The version.
        name: VersionName,
        /// Why, for people.
        reason: String,
    },
    /// All blobs of a version are stored and verified.
    VersionStored {
        /// The version.
        name: VersionName,
    },
}

/// The machine of one device.
#[derive(Debug)]
pub struct Agent {
    platform: Platform,
    seed: u64,
    draws: u64,
    interval: Duration,
    next_poll: Option<Instant>,
    failures: u32,
    counter: Option<Counter>,
    apps: BTreeMap<AppName, App>,
    stored: BTreeSet<Digest>,
    wanted: BTreeSet<Digest>,
    /// Wanted, but not yet of the swarm.
    queue: VecDeque<(Digest, u64, Proof)>,
    report_counter: u64,
    reported: BTreeMap<AppName, AppReport>,
    sending: Option<BTreeMap<AppName, AppReport>>,
    report_failures: u32,
    report_at: Instant,
    effects: VecDeque<Effect>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct App {
    name: VersionName,
    digest: Digest,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The statement is asked for.
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

impl Agent {
    /// The machine of a device that can run `platform`, started at `now`.
    ///
    /// `seed` makes its random choices reproducible; `report_counter` is the counter of the last report it ever sent.
    pub fn new(now: Instant, platform: Platform, seed: u64, interval: Duration, report_counter: u64) -> Self {
        let mut agent = Self {
            platform,
            seed,
            draws: 0,
            interval,
            next_poll: None,
            failures: 0,
            counter: None,
            apps: BTreeMap::new(),
            stored: BTreeSet::new(),
            wanted: BTreeSet::new(),
            queue: VecDeque::new(),
            report_counter,
            reported: BTreeMap::new(),
            sending: None,
            report_failures: 0,
            report_at: now,
            effects: VecDeque::new(),
            events: VecDeque::new(),
        };
        agent.next_poll = Some(now + agent.jitter(interval / FIRST_POLL_PART));
        agent
    }

    /// Takes note of what happened outside.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Unchanged => self.on_polled(now),
            Input::PollFailed => self.on_poll_failed(now),
            Input::StateAccepted(state) => {
                self.on_polled(now);
                self.on_state(&state);
            }
            Input::StatementAccepted(statement) => self.on_statement(&statement),
            Input::StatementRefused { name, refusal } => self.on_statement_refused(&name, refusal),
            Input::BlobStored { blob } => self.on_blob_stored(blob),
            Input::HashListUnusable { list } => self.on_list_unusable(list),
            Input::Reported { counter } => self.on_reported(counter),
            Input::ReportFailed => {
                self.sending = None;
                self.report_at = now + self.jitter(backoff(self.report_failures, self.interval));
                self.report_failures = self.report_failures.saturating_add(1);
            }
        }
        self.report_changes(now);
    }

    /// Takes note that time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_poll.is_some_and(|poll| poll <= now) {
            self.next_poll = None;
            self.effects.push_back(Effect::Poll);
        }
        self.report_changes(now);
    }

    /// The next thing the driver must do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The next news for the owner.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called, unless an input comes first.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let report = (self.sending.is_none() && self.current_report() != self.reported).then_some(self.report_at);
        self.next_poll.into_iter().chain(report).min()
    }

    /// The newest counter that was accepted since the start.
    pub const fn counter(&self) -> Option<Counter> {
        self.counter
    }

    fn on_polled(&mut self, now: Instant) {
        self.failures = 0;
        self.next_poll = Some(now + self.interval);
        let again = self.apps.values_mut().filter(|app| matches!(app.stage, Stage::AskAgain));
        for app in again {
            app.stage = Stage::Asked;
            self.effects.push_back(Effect::AcceptStatement { name: app.name.clone(), digest: app.digest });
        }
    }

    fn on_poll_failed(&mut self, now: Instant) {
        self.next_poll = Some(now + self.jitter(backoff(self.failures, self.interval)));
        self.failures = self.failures.saturating_add(1);
    }

    fn on_state(&mut self, state: &AcceptedDesiredState) {
        let state = state.state();
        self.counter = Some(state.counter);
        self.apps.retain(|app, _| state.apps.contains_key(app));
        for (app, desired) in &state.apps {
            let name = VersionName { app: app.clone(), version: desired.version };
            let Some(digest) = desired.statements.get(&self.platform).copied() else {
                let reason = format!("version {} has no image for {}", desired.version, self.platform);
                if self.apps.get(app).is_none_or(|known| known.name != name) {
                    self.events.push_back(Event::VersionFailed { name: name.clone(), reason: reason.clone() });
                }
                self.apps.insert(app.clone(), App { name, digest: Digest::sha256(b""), stage: Stage::Failed(reason) });
                continue;
            };
            if self.apps.get(app).is_some_and(|known| known.name == name && known.digest == digest) {
                continue;
            }
            self.apps.insert(app.clone(), App { name: name.clone(), digest, stage: Stage::Asked });
            self.effects.push_back(Effect::AcceptStatement { name, digest });
        }
        self.unwant_what_nothing_needs();
    }

    fn on_statement(&mut self, statement: &AcceptedStatement) {
        let name = statement.statement().name();
        let missing: BTreeMap<Digest, StatedBlob> = statement
            .statement()
            .content()
            .into_iter()
            .filter(|blob| !self.stored.contains(&blob.digest))
            .map(|blob| (blob.digest, blob))
            .collect();
        let Some(app) = self.apps.get_mut(&name.app).filter(|app| app.name == name && matches!(app.stage, Stage::Asked | Stage::AskAgain))
        else {
            return;
        };
        if statement.digest() != app.digest {
            let reason = "desired state and version statement do not agree".to_owned();
            self.events.push_back(Event::VersionFailed { name, reason: reason.clone() });
            app.stage = Stage::Failed(reason);
            self.unwant_what_nothing_needs();
            return;
        }
        let blobs: Vec<StatedBlob> = missing.values().cloned().collect();
        app.stage = Stage::Fetching(missing);
        for blob in blobs {
            self.want(&blob);
        }
        self.unwant_what_nothing_needs();
        self.note_complete_versions();
    }

    fn on_statement_refused(&mut self, name: &VersionName, refusal: Refusal) {
        if let Some(app) = self.apps.get_mut(&name.app).filter(|app| app.name == *name) {
            app.stage = match refusal {
                Refusal::Temporary(_) => Stage::AskAgain,
                Refusal::Final(reason) => {
                    self.events.push_back(Event::VersionFailed { name: name.clone(), reason: reason.clone() });
                    Stage::Failed(reason)
                }
            };
        }
        self.unwant_what_nothing_needs();
    }

    /// Wants a blob, or first the list that its units are checked against.
    fn want(&mut self, blob: &StatedBlob) {
        match &blob.hash_list {
            Some(list) if !self.stored.contains(&list.digest) => self.want_once(list.digest, list.size, Proof::Digest),
            Some(HashListName { digest, .. }) => self.want_once(blob.digest, blob.size, Proof::HashList(*digest)),
            None => self.want_once(blob.digest, blob.size, Proof::Digest),
        }
    }

    fn want_once(&mut self, blob: Digest, size: u64, proof: Proof) {
        if !self.wanted.contains(&blob) && !self.queue.iter().any(|(queued, _, _)| *queued == blob) {
            self.queue.push_back((blob, size, proof));
        }
        self.want_queued();
    }

    fn want_queued(&mut self) {
        while self.wanted.len() < WANTS_MAX
            && let Some((blob, size, proof)) = self.queue.pop_front()
        {
            self.wanted.insert(blob);
            self.effects.push_back(Effect::Want { blob, size, proof });
        }
    }

    fn on_blob_stored(&mut self, stored: Digest) {
        self.wanted.remove(&stored);
        self.stored.insert(stored);
        let mut now_provable = Vec::new();
        for app in self.apps.values_mut() {
            let Stage::Fetching(missing) = &mut app.stage else { continue };
            missing.remove(&stored);
            let proven = |blob: &&StatedBlob| blob.hash_list.as_ref().is_some_and(|list| list.digest == stored);
            now_provable.extend(missing.values().filter(proven).cloned());
        }
        for blob in now_provable {
            self.want(&blob);
        }
        self.want_queued();
        self.note_complete_versions();
    }

    /// Without a usable list, the blob's digest is its only proof.
    fn on_list_unusable(&mut self, list: Digest) {
        let mut unproven = Vec::new();
        for app in self.apps.values_mut() {
            let Stage::Fetching(missing) = &mut app.stage else { continue };
            for blob in missing.values_mut().filter(|blob| blob.hash_list.as_ref().is_some_and(|name| name.digest == list)) {
                blob.hash_list = None;
                unproven.push(blob.clone());
            }
        }
        for blob in unproven {
            self.wanted.remove(&blob.digest);
            self.want(&blob);
        }
    }

    fn note_complete_versions(&mut self) {
        for app in self.apps.values_mut() {
            if matches!(&app.stage, Stage::Fetching(missing) if missing.is_empty()) {
                app.stage = Stage::Stored;
                self.events.push_back(Event::VersionStored { name: app.name.clone() });
            }
        }
    }

    /// Lets go of what only older versions needed. While a statement is still to come nobody knows what is needed, and a
    /// blob that both versions share must not be fetched twice.
    fn unwant_what_nothing_needs(&mut self) {
        if self.apps.values().any(|app| matches!(app.stage, Stage::Asked | Stage::AskAgain)) {
            return;
        }
        let mut needed = BTreeSet::new();
        for app in self.apps.values() {
            if let Stage::Fetching(missing) = &app.stage {
                needed.extend(missing.keys().copied());
                needed.extend(missing.values().filter_map(|blob| blob.hash_list.as_ref()).map(|list| list.digest));
            }
        }
        self.queue.retain(|(blob, _, _)| needed.contains(blob));
        for blob in self.wanted.extract_if(.., |blob| !needed.contains(blob)) {
            self.effects.push_back(Effect::Unwant { blob });
        }
        self.want_queued();
    }

    fn current_report(&self) -> BTreeMap<AppName, AppReport> {
        let report = |app: &App| {
            let (state, reason) = match &app.stage {
                Stage::Asked | Stage::AskAgain | Stage::Fetching(_) => (DeviceState::Fetching, None),
                Stage::Stored => (DeviceState::Stored, None),
                Stage::Failed(reason) => (DeviceState::Failed, Some(short_reason(reason.clone()))),
            };
            AppReport { version: app.name.version, state, reason }
        };
        self.apps.iter().take(APPS_MAX).map(|(name, app)| (name.clone(), report(app))).collect()
    }

    fn report_changes(&mut self, now: Instant) {
        let current = self.current_report();
        if self.sending.is_some() || current == self.reported || now < self.report_at {
            return;
        }
        self.report_counter += 1;
        self.sending = Some(current.clone());
        self.effects.push_back(Effect::Report(DeviceReport { counter: self.report_counter, apps: current }));
    }

    fn on_reported(&mut self, counter: u64) {
        if counter == self.report_counter
            && let Some(sent) = self.sending.take()
        {
            self.reported = sent;
            self.report_failures = 0;
        }
    }

    fn jitter(&mut self, limit: Duration) -> Duration {
        self.draws += 1;
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_micros(rendezvous::draw(self.seed, self.draws) % micros)
    }
}

fn backoff(failures: u32, limit: Duration) -> Duration {
    RETRY_MIN.saturating_mul(1 << failures.min(16)).min(limit.max(RETRY_MIN))
}

#[cfg(test)]
pub(crate) mod tests;
