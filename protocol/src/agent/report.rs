//! What the seed is told: each change, with a counter that goes up, again until the seed took it.
//!
//! Not here: signing it; see [`crate::rollout::signed`].

use std::collections::{BTreeMap, BTreeSet};

use super::content::Progress;
use super::{Agent, no_image};
use crate::label::Labels;
use crate::name::AppName;
use crate::rollout::report::{APPS_MAX, AppReport, DeviceReport, DeviceState, REFUSALS_MAX, short_reason};
use crate::statement::version::VersionName;
use crate::time::Instant;

type Apps = BTreeMap<AppName, AppReport>;

/// What was said, and what is being said.
#[derive(Debug)]
pub(super) struct Reporting {
    counter: u64,
    labels: Labels,
    refused: BTreeMap<String, u64>,
    stale: bool,
    /// What the seed knows; none before the first report of this run.
    told: Option<Told>,
    sending: Option<Told>,
    /// Whether anything is known yet: a report before that would take back what an earlier run said.
    begun: bool,
    failures: u32,
    at: Instant,
}

/// The parts of a report whose change is worth another one. Of refused documents that is another kind, not another time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    apps: Apps,
    refused: BTreeSet<String>,
    stale: bool,
}

impl Reporting {
    pub(super) const fn new(now: Instant, counter: u64, labels: Labels) -> Self {
        let refused = BTreeMap::new();
        Self { counter, labels, refused, stale: false, told: None, sending: None, begun: false, failures: 0, at: now }
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn note_refused(&mut self, document: &str, reason: &str) {
        let name = format!("{document}/{reason}");
        if self.refused.contains_key(&name) || self.refused.len() < REFUSALS_MAX {
            *self.refused.entry(name).or_default() += 1;
        }
    }

    pub(super) const fn note_stale(&mut self, is_stale: bool) {
        self.stale = is_stale;
    }

    pub(super) fn on_reported(&mut self, counter: u64) {
        if counter == self.counter
            && let Some(sent) = self.sending.take()
        {
            self.told = Some(sent);
            self.failures = 0;
        }
    }

    pub(super) fn on_failed(&mut self, again_at: Instant) {
        self.sending = None;
        self.at = again_at;
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn due(&self, apps: &Apps) -> Option<Instant> {
        (self.begun && self.is_news(apps)).then_some(self.at)
    }

    /// The report that is due, if there is one.
    pub(super) fn take(&mut self, now: Instant, apps: Apps) -> Option<DeviceReport> {
        self.begun = true;
        if now < self.at || !self.is_news(&apps) {
            return None;
        }
        self.counter += 1;
        self.sending = Some(Told { apps: apps.clone(), refused: self.refused.keys().cloned().collect(), stale: self.stale });
        Some(DeviceReport { counter: self.counter, apps, labels: self.labels.clone(), refused: self.refused.clone(), stale: self.stale })
    }

    fn is_news(&self, apps: &Apps) -> bool {
        let known = |told: &Told| told.apps == *apps && told.stale == self.stale && told.refused.iter().eq(self.refused.keys());
        self.sending.is_none() && !self.told.as_ref().is_some_and(known)
    }
}

impl Agent {
    pub(super) fn app_reports(&self) -> Apps {
        let report = |app: &AppName| {
            let wanted = &self.apps[app];
            let (state, reason) = self.state_of(app);
            let running = self.start.record(app).running.filter(|run| run.healthy).map(|run| run.release.version);
            let name = VersionName { app: app.clone(), version: wanted.version };
            let fetched = wanted.target.and_then(|target| self.content.fetched(&name, &target.statement));
            let (version, rollout) = (wanted.version, wanted.rollout.clone());
            AppReport { version, rollout, state, running, reason: reason.map(short_reason), fetched }
        };
        self.apps.keys().take(APPS_MAX).map(|app| (app.clone(), report(app))).collect()
    }

    fn state_of(&self, app: &AppName) -> (DeviceState, Option<String>) {
        let (wanted, record) = (&self.apps[app], self.start.record(app));
        let failed = |reason: String| (DeviceState::Failed, Some(reason));
        let Some(target) = wanted.target else { return failed(no_image(wanted.version, &self.settings.platform)) };
        if let Some(trouble) = self.start.trouble(app) {
            let state = if trouble.is_failure { DeviceState::Failed } else { DeviceState::Waiting };
            return (state, Some(trouble.reason.clone()));
        }
        let role = self.roles.get(app);
        let floor = role.and_then(|role| role.floor);
        if wanted.has_failed(&record) {
            let reason = record.failed.as_ref().map(|failed| failed.reason.clone()).unwrap_or_default();
            return match wanted.way_back(&record, role) {
                Some(back) if record.is_running(&back, self.settings.activates) => (DeviceState::RolledBack, Some(reason)),
                Some(_) => (DeviceState::Starting, None),
                None => failed(reason),
            };
        }
        let runs = record.is_running(&target, self.settings.activates);
        if let Some(floor) = floor.filter(|floor| target.version < *floor && !runs) {
            return failed(format!("version {} is below the floor {floor} that the app's owner signed", target.version));
        }
        if !wanted.is_fetched(&record) {
            return (DeviceState::Waiting, None);
        }
        match self.content.progress(&VersionName { app: app.clone(), version: target.version }, &target.statement) {
            Progress::Fetching => (DeviceState::Fetching, None),
            Progress::Failed(reason) => failed(reason.to_owned()),
            Progress::Stored if runs && self.settings.activates => (DeviceState::Healthy, None),
            Progress::Stored if runs => (DeviceState::Stored, None),
            Progress::Stored if self.start.is_starting(app) => (DeviceState::Starting, None),
            Progress::Stored => (DeviceState::Waiting, None),
        }
    }
}
