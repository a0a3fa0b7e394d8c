//! The machine of a device: when it asks its seed, what it wants because of the answer, when it starts what it wants, and
//! what it reports.
//!
//! | module | decides |
//! |---|---|
//! | [`documents`] | which signed documents are in force |
//! | [`content`] | which blobs are wanted, and when a version is whole |
//! | [`wanted`] | which version of an app the signed documents ask for, and whether it may be started now |
//! | [`record`] | what of it survives a crash |
//! | `moment` | what is known of the time when a version may be started |
//! | `start` | starts, one at a time, and the way back when one fails |
//! | [`freshness`] | whether what it acts on is stale |
//! | `report` | what the seed is told |
//! | [`turn`] | when the seed is asked, and for whom |
//!
//! Not here: who brings the bytes, which [`crate::swarm`] decides; how a version is started, which the driver does.

pub mod content;
pub mod documents;
pub mod freshness;
mod moment;
pub mod record;
mod report;
mod start;
pub mod turn;
pub mod wanted;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::digest::Digest;
use crate::label::Labels;
use crate::name::{AppName, DeviceId, Platform};
use crate::rendezvous;
use crate::rollout::report::{DeviceReport, Fetched};
use crate::statement::assignment::AcceptedAssignment;
use crate::statement::desired::AcceptedDesiredState;
use crate::statement::receipt::SitePoll;
use crate::statement::version::{AcceptedStatement, VersionName};
use crate::time::floor::CheckedTime;
use crate::time::{Instant, WallTime};
use content::{Content, Proof, STATEMENTS_MAX};
use documents::Granted;
use freshness::Freshness;
use moment::Heard;
use record::{Record, Release};
use report::Reporting;
use start::Start;
use turn::{PollFor, Trust, Turn};
use wanted::Wanted;

/// First pause after the seed could not be reached; it doubles up to the poll interval.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The first poll comes within this part of the interval, so that a fleet whose power returns does not ask all at once.
const FIRST_POLL_PART: u32 = 10;

/// The most polls, statements and reports that are asked for and not yet answered, and moments that are not yet kept: one,
/// [`STATEMENTS_MAX`], one and one, since the next moment comes with the answer to a later poll. A queue for so many is never full.
pub const ERRANDS_MAX: usize = STATEMENTS_MAX + 3;

/// What both clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the driver started.
    pub monotonic: Instant,
    /// How late it is at least, and whether the calendar is trusted: if not, nothing staged is started.
    pub wall: CheckedTime,
}

impl Now {
    /// The calendar, if it is trusted.
    pub fn calendar(self) -> Option<WallTime> {
        self.wall.trust.is_trusted().then_some(self.wall.now)
    }
}

/// Why a statement could not be had, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Asking again may help: the seed was out of reach, metadata has to be renewed, the disk was full.
    Temporary(String),
    /// The statement itself is not to be acted on.
    Final(String),
}

/// How a start ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The version runs and is healthy.
    Healthy,
    /// It does not, for this reason.
    Failed(String),
    /// It was not tried, for a reason that may pass.
    NotTried(String),
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// The seed answered; nothing changed, or what did was accepted.
    Polled {
        /// When, by its clock, in milliseconds since 1970, if it said so.
        at_ms: Option<u64>,
    },
    /// The seed could not be reached, or something in its answer was refused.
    PollFailed,
    /// A neighbour polled for its site, and the seed gave it a receipt.
    SitePolled(SitePoll),
    /// How far what decides whom the device trusts is.
    Trust(Trust),
    /// These documents are in force: the device's assignment, and the desired states of its groups.
    StateAccepted {
        /// The assignment.
        assignment: AcceptedAssignment,
        /// The desired states.
        states: Vec<AcceptedDesiredState>,
    },
    /// These grants are in force, and no others: each takes the place of what the documents say of its app. Where one has ended, the
    /// documents follow.
    Granted(Vec<Granted>),
    /// A signed document was refused.
    DocumentRefused {
        /// Its kind, one word.
        document: &'static str,
        /// The reason, one word.
        reason: &'static str,
    },
    /// What the newest role of the app that was verified says.
    Role {
        /// The app.
        app: AppName,
        /// What it says.
        terms: RoleTerms,
    },
    /// The first of the roles that people sign, and that what the device shall have depends on, expires then.
    RolesExpire {
        /// When; none while none is known.
        at: Option<WallTime>,
    },
    /// A wanted statement was accepted, now or in an earlier run.
    StatementAccepted(AcceptedStatement),
    /// A wanted statement could not be had.
    StatementRefused {
        /// The version.
        name: VersionName,
        /// Why.
        refusal: Refusal,
    },
    /// These bytes of a wanted blob were fetched; that it is stored comes next.
    BlobFetched {
        /// The blob.
        blob: Digest,
        /// From where.
        fetched: Fetched,
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
    /// A start ended.
    Activated {
        /// The app.
        app: AppName,
        /// How.
        outcome: Outcome,
    },
    /// The seed took a report.
    Reported {
        /// The report's counter.
        counter: u64,
    },
    /// The seed did not take a report.
    ReportFailed,
    /// The device is told to stop: a start under way will not end, which is not the version's fault.
    Stopping,
}

/// What the role of an app says of all its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleTerms {
    /// The least version that may be started; none if any may.
    pub floor: Option<u64>,
    /// After this moment no version is started that did not run before.
    pub expires: WallTime,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the seed what the device shall have, and how far the documents of its neighbours are.
    Poll(PollFor),
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
    /// Keep the record durably, then start the version, and say how that ended. The same may be asked again after a crash.
    Activate {
        /// The app.
        app: AppName,
        /// The version.
        release: Release,
        /// The version that ran before.
        previous: Option<u64>,
        /// What to keep first.
        record: Record,
    },
    /// Keep the record durably. If that fails, the next run of the device starts the version again, which does no harm.
    Keep {
        /// The app.
        app: AppName,
        /// What to keep.
        record: Record,
    },
    /// Tell the seed.
    Report(DeviceReport),
    /// Keep durably that all the seed said was accepted at `at`. If that fails, the next run says too early that it is stale.
    KeepFresh {
        /// When.
        at: WallTime,
    },
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
    /// For [`freshness::STALE_SECONDS`] nothing that the seed said could be accepted; or it is so no longer.
    Stale {
        /// Whether it is so.
        is_stale: bool,
    },
    /// A version runs and is healthy, or may be taken into use where nothing starts it.
    VersionStarted {
        /// The version.
        name: VersionName,
    },
}

/// Effects and events that the driver has not taken yet.
#[derive(Debug, Default)]
struct Outbox {
    effects: VecDeque<Effect>,
    events: VecDeque<Event>,
}

/// What a device is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it can run.
    pub platform: Platform,
    /// Its name, which gives it its place in every rollout.
    pub device: DeviceId,
    /// Makes its random choices reproducible.
    pub seed: u64,
    /// Between polls.
    pub interval: Duration,
    /// The counter of the last report it ever sent.
    pub report_counter: u64,
    /// When all that the seed said was accepted last, as it was kept.
    pub fresh_at: Option<WallTime>,
    /// Whether it has something to start versions with.
    pub activates: bool,
    /// Its own labels.
    pub labels: Labels,
    /// What it kept of each app.
    pub records: BTreeMap<AppName, Record>,
}

/// The machine of one device.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    draws: u64,
    turn: Turn,
    failures: u32,
    apps: BTreeMap<AppName, Wanted>,
    granted: Vec<Granted>,
    roles: BTreeMap<AppName, RoleTerms>,
    heard: Heard,
    content: Content,
    start: Start,
    reporting: Reporting,
    freshness: Freshness,
    out: Outbox,
}

impl Agent {
    /// The machine of a device, started at `now`.
    pub fn new(now: Instant, mut settings: Settings) -> Self {
        let start = Start::new(std::mem::take(&mut settings.records));
        let reporting = Reporting::new(now, settings.report_counter, settings.labels.clone());
        let freshness = Freshness::new(now, settings.fresh_at);
        let first = now + jitter(settings.seed, 1, settings.interval / FIRST_POLL_PART);
        let turn = Turn::new(settings.device.clone(), settings.interval, settings.seed, first);
        Self {
            settings,
            draws: 1,
            turn,
            failures: 0,
            apps: BTreeMap::new(),
            granted: Vec::new(),
            roles: BTreeMap::new(),
            heard: Heard::default(),
            content: Content::default(),
            start,
            reporting,
            freshness,
            out: Outbox::default(),
        }
    }

    /// Takes note of what happened outside.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Polled { at_ms } => self.on_polled(now, at_ms),
            Input::PollFailed => self.on_poll_failed(now.monotonic),
            Input::SitePolled(poll) => self.on_site_polled(now.monotonic, &poll),
            Input::Trust(trust) => self.turn.on_trust(trust, self.content.misses_statement()),
            Input::StateAccepted { assignment, states } => self.on_state(&assignment, &states),
            Input::Granted(granted) => self.on_granted(granted),
            Input::DocumentRefused { document, reason } => self.reporting.note_refused(document, reason),
            Input::Role { app, terms } => drop(self.roles.insert(app, terms)),
            Input::RolesExpire { at } => self.freshness.on_roles(at),
            Input::StatementAccepted(statement) => self.content.on_statement(&statement, &mut self.out),
            Input::StatementRefused { name, refusal } => self.content.on_statement_refused(&name, refusal, &mut self.out),
            Input::BlobFetched { blob, fetched } => self.content.on_blob_fetched(blob, fetched),
            Input::BlobStored { blob } => self.content.on_blob_stored(blob, &mut self.out),
            Input::HashListUnusable { list } => self.content.on_list_unusable(list, &mut self.out),
            Input::Activated { app, outcome } => self.on_activated(now.monotonic, &app, outcome),
            Input::Reported { counter } => self.reporting.on_reported(counter),
            Input::ReportFailed => {
                let pause = backoff(self.reporting.failures(), self.settings.interval);
                let at = now.monotonic + self.jitter(pause);
                self.reporting.on_failed(at);
            }
            Input::Stopping => return self.on_stopping(),
        }
        self.judge_freshness(now);
        self.go_on(now);
    }

    /// Takes note that time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.judge_freshness(now);
        self.go_on(now);
        // The report comes first: the device's labels have a say in what the seed answers.
        self.out.effects.extend(self.turn.take(now.monotonic).map(Effect::Poll));
    }

    /// The next thing the driver must do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    /// The next news for the owner.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called, unless an input comes first.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let report = self.reporting.due(&self.app_reports());
        self.turn.due().into_iter().chain(report).chain(self.start.due()).min()
    }

    /// Polls are spread over the interval by the device's own phase, whatever moment it was started at.
    fn on_polled(&mut self, now: Now, at_ms: Option<u64>) {
        self.failures = 0;
        self.heard.note(now);
        let interval = self.settings.interval.as_secs().max(1);
        let phase = rendezvous::draw(self.settings.seed, 0) % interval;
        let wait = now.calendar().map_or(interval, |calendar| {
            let into = (calendar.as_unix_seconds().saturating_add(interval) - phase) % interval;
            interval - into
        });
        let misses_statement = self.content.misses_statement();
        self.turn.on_polled(now.monotonic, at_ms, now.monotonic + Duration::from_secs(wait), misses_statement);
        self.content.ask_again(&mut self.out);
        self.out.effects.extend(self.freshness.on_accepted(now).map(|at| Effect::KeepFresh { at }));
    }

    fn on_site_polled(&mut self, now: Instant, poll: &SitePoll) {
        let misses_statement = self.content.misses_statement();
        if self.turn.on_site_polled(now, poll, misses_statement) {
            self.content.ask_again(&mut self.out);
        }
    }

    fn judge_freshness(&mut self, now: Now) {
        if let Some(is_stale) = self.freshness.news(now) {
            self.out.events.push_back(Event::Stale { is_stale });
            self.reporting.note_stale(is_stale);
        }
    }

    fn on_poll_failed(&mut self, now: Instant) {
        let pause = backoff(self.failures, self.settings.interval);
        let again = now + self.jitter(pause);
        self.turn.on_failed(again);
        self.failures = self.failures.saturating_add(1);
    }

    fn on_state(&mut self, assignment: &AcceptedAssignment, states: &[AcceptedDesiredState]) {
        self.turn.on_state(assignment, states, self.content.misses_statement());
        let mut wanted = wanted::resolve(assignment, states, &self.settings.platform, &self.settings.device);
        wanted.extend(self.granted.iter().map(wanted::granted));
        for (app, wanted) in &wanted {
            let known = self.apps.get(app).is_some_and(|known| known.version == wanted.version && known.target.is_none());
            if wanted.target.is_none() && !known {
                let name = VersionName { app: app.clone(), version: wanted.version };
                let reason = no_image(wanted.version, &self.settings.platform);
                self.out.events.push_back(Event::VersionFailed { name, reason });
            }
        }
        self.start.forget_troubles(|app| self.apps.get(app).zip(wanted.get(app)).is_some_and(|(known, new)| known.asks_the_same(new)));
        self.apps = wanted;
    }

    fn on_granted(&mut self, granted: Vec<Granted>) {
        self.granted = granted;
        for (app, wanted) in self.granted.iter().map(wanted::granted) {
            self.start
                .forget_troubles(|troubled| *troubled != app || self.apps.get(&app).is_some_and(|known| known.asks_the_same(&wanted)));
            self.apps.insert(app, wanted);
        }
    }

    fn jitter(&mut self, limit: Duration) -> Duration {
        self.draws += 1;
        jitter(self.settings.seed, self.draws, limit)
    }
}

fn jitter(seed: u64, draw: u64, limit: Duration) -> Duration {
    let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
    Duration::from_micros(rendezvous::draw(seed, draw) % micros)
}

fn no_image(version: u64, platform: &Platform) -> String {
    format!("version {version} has no image for {platform}")
}

fn backoff(failures: u32, limit: Duration) -> Duration {
    RETRY_MIN.saturating_mul(1 << failures.min(16)).min(limit.max(RETRY_MIN))
}

#[cfg(test)]
pub(crate) mod tests;
