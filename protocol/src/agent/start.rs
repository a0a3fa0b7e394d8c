//! Starts: one at a time, each noted durably before it begins; when one fails, the last good version is started instead.
//!
//! Not here: which version shall run; see [`super::wanted`].

use std::collections::BTreeMap;

use super::record::{FailedStart, Record, Release, Run};
use super::{Agent, Effect, Event, Now, Outcome, backoff};
use crate::name::AppName;
use crate::rollout::report::short_reason;
use crate::statement::version::VersionName;
use crate::time::Instant;

/// A version is given up after so many starts that did not end because the device stopped: once is a power cut, twice may be
/// bad luck.
pub(super) const STARTS_MAX: u32 = 3;

/// What is known of starts.
#[derive(Debug)]
pub(super) struct Start {
    records: BTreeMap<AppName, Record>,
    troubles: BTreeMap<AppName, Trouble>,
    /// The start under way.
    current: Option<(AppName, Release)>,
    /// When a start may become possible by time alone.
    next: Option<Instant>,
}

/// A start that is tried again: there is no other version to go to, or it could not be tried.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) reason: String,
    /// Whether the version is at fault.
    pub(super) is_failure: bool,
    tries: u32,
    retry_at: Instant,
}

impl Start {
    pub(super) const fn new(records: BTreeMap<AppName, Record>) -> Self {
        Self { records, troubles: BTreeMap::new(), current: None, next: None }
    }

    pub(super) fn record(&self, app: &AppName) -> Record {
        self.records.get(app).cloned().unwrap_or_default()
    }

    pub(super) fn trouble(&self, app: &AppName) -> Option<&Trouble> {
        self.troubles.get(app)
    }

    pub(super) fn is_starting(&self, app: &AppName) -> bool {
        self.current.as_ref().is_some_and(|(current, _)| current == app)
    }

    /// Another version is wanted of these apps, so what kept them from starting may no longer.
    pub(super) fn forget_troubles(&mut self, stays: impl Fn(&AppName) -> bool) {
        self.troubles.retain(|app, _| stays(app));
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.next
    }
}

impl Agent {
    /// Wants the content that is needed, starts what may be started, and says what changed.
    pub(super) fn go_on(&mut self, now: Now) {
        self.give_up_what_stops_the_device();
        let moment = self.heard.moment(now);
        let mut needed = BTreeMap::new();
        let mut next: Option<Instant> = None;
        let (mut possible, mut put_off) = (Vec::new(), Vec::new());
        for (app, wanted) in &self.apps {
            let record = self.start.record(app);
            let goal = wanted.goal(&record, self.roles.get(app), moment);
            let fetched = wanted.target.filter(|_| wanted.is_fetched(&record));
            for release in fetched.into_iter().chain(goal.release) {
                needed.insert(VersionName { app: app.clone(), version: release.version }, release.statement);
            }
            if let (Some(at), Some(calendar)) = (goal.next, moment.calendar) {
                let wait = at.as_unix_seconds().saturating_sub(calendar.as_unix_seconds());
                next = earlier(next, now.monotonic + std::time::Duration::from_secs(wait));
            }
            let Some(release) = goal.release.filter(|release| !record.is_running(release, self.settings.activates)) else { continue };
            match self.start.troubles.get(app) {
                Some(trouble) if trouble.retry_at > now.monotonic => next = earlier(next, trouble.retry_at),
                None if record.tries(&release) >= STARTS_MAX && !self.start.is_starting(app) => {
                    put_off.push((app.clone(), record.tries(&release)));
                }
                _ => possible.push((app.clone(), release)),
            }
        }
        // The last good version is tried again after longer and longer pauses, in which the device may hear of another one.
        for (app, tries) in put_off {
            let trouble = Trouble { reason: stopped(tries), is_failure: true, tries, retry_at: now.monotonic };
            next = earlier(next, self.note_trouble(&app, trouble));
        }
        self.start.next = next;
        self.content.need(needed, &mut self.out);
        for (app, release) in possible {
            let name = VersionName { app: app.clone(), version: release.version };
            if self.start.current.is_none() && self.content.is_stored(&name, &release.statement) && self.is_allowed(&app, &release) {
                self.start(app, release);
            }
        }
        let reports = self.app_reports();
        if let Some(report) = self.reporting.take(now.monotonic, reports) {
            self.out.effects.push_back(Effect::Report(report));
        }
    }

    /// Nothing below the floor is ever started, also not again.
    fn is_allowed(&self, app: &AppName, release: &Release) -> bool {
        self.roles.get(app).and_then(|role| role.floor).is_none_or(|floor| release.version >= floor)
    }

    /// A version with which the device stopped again and again is given up, unless it is the last good one.
    fn give_up_what_stops_the_device(&mut self) {
        let given_up = |(app, record): (&AppName, &Record)| {
            let run = record.running.filter(|run| !run.healthy && run.tries >= STARTS_MAX && record.good != Some(run.release))?;
            (!self.start.is_starting(app) && self.apps.contains_key(app)).then(|| (app.clone(), run))
        };
        let given_up: Vec<(AppName, Run)> = self.start.records.iter().filter_map(given_up).collect();
        for (app, run) in given_up {
            self.note_failed(&app, run.release, stopped(run.tries));
        }
    }

    fn start(&mut self, app: AppName, release: Release) {
        let activated = self.settings.activates;
        let record = self.start.records.entry(app.clone()).or_default();
        let previous = record.good.map(|good| good.version).filter(|version| *version != release.version);
        let tries = record.tries(&release).saturating_add(1);
        record.running = Some(Run { release, healthy: false, activated, tries });
        let record = record.clone();
        self.start.current = Some((app.clone(), release));
        if activated {
            self.out.effects.push_back(Effect::Activate { app, release, previous, record });
        } else {
            self.on_healthy(&app, release);
        }
    }

    pub(super) fn on_activated(&mut self, now: Instant, app: &AppName, outcome: Outcome) {
        let Some((_, release)) = self.start.current.clone().filter(|(current, _)| current == app) else { return };
        match outcome {
            Outcome::Healthy => self.on_healthy(app, release),
            Outcome::Failed(reason) => self.on_failed(now, app, release, reason),
            Outcome::NotTried(reason) => {
                self.take_back_try(app);
                self.try_later(now, app, (reason, false));
            }
        }
    }

    /// A start that is cut short by the device's own stop does not count against the version.
    pub(super) fn on_stopping(&mut self) {
        if let Some((app, _)) = self.start.current.clone() {
            self.take_back_try(&app);
        }
    }

    fn take_back_try(&mut self, app: &AppName) {
        self.start.current = None;
        let record = self.start.records.entry(app.clone()).or_default();
        if let Some(run) = record.running.as_mut() {
            run.tries = run.tries.saturating_sub(1);
        }
        self.out.effects.push_back(Effect::Keep { app: app.clone(), record: record.clone() });
    }

    fn on_healthy(&mut self, app: &AppName, release: Release) {
        self.start.current = None;
        self.start.troubles.remove(app);
        let activated = self.settings.activates;
        let went_back = self.apps.get(app).is_some_and(|wanted| wanted.has_failed(&self.start.record(app)));
        let record = self.start.records.entry(app.clone()).or_default();
        record.running = Some(Run { release, healthy: true, activated, tries: 0 });
        record.good = Some(release);
        if !went_back {
            record.failed = None;
        }
        self.out.effects.push_back(Effect::Keep { app: app.clone(), record: record.clone() });
        self.out.events.push_back(Event::VersionStarted { name: VersionName { app: app.clone(), version: release.version } });
    }

    fn on_failed(&mut self, now: Instant, app: &AppName, release: Release, reason: String) {
        self.start.current = None;
        if self.start.record(app).good != Some(release) {
            return self.note_failed(app, release, reason);
        }
        let name = VersionName { app: app.clone(), version: release.version };
        self.out.events.push_back(Event::VersionFailed { name, reason: reason.clone() });
        let record = self.start.records.entry(app.clone()).or_default();
        record.running = record.running.map(|run| Run { tries: 0, ..run });
        self.out.effects.push_back(Effect::Keep { app: app.clone(), record: record.clone() });
        self.try_later(now, app, (reason, true));
    }

    /// The version is not tried again in this rollout.
    fn note_failed(&mut self, app: &AppName, release: Release, reason: String) {
        let reason = short_reason(reason);
        let name = VersionName { app: app.clone(), version: release.version };
        self.out.events.push_back(Event::VersionFailed { name, reason: reason.clone() });
        let rollout = self.apps.get(app).and_then(|wanted| wanted.rollout.clone());
        let record = self.start.records.entry(app.clone()).or_default();
        record.running = None;
        record.failed = Some(FailedStart { rollout, version: release.version, reason });
        self.out.effects.push_back(Effect::Keep { app: app.clone(), record: record.clone() });
    }

    fn try_later(&mut self, now: Instant, app: &AppName, (reason, is_failure): (String, bool)) {
        let tries = self.start.troubles.get(app).map_or(0, |trouble| trouble.tries);
        self.note_trouble(app, Trouble { reason, is_failure, tries, retry_at: now });
    }

    /// Puts the next try off by a pause that grows with the tries; until when.
    fn note_trouble(&mut self, app: &AppName, trouble: Trouble) -> Instant {
        let retry_at = trouble.retry_at + backoff(trouble.tries, self.settings.interval);
        self.start.troubles.insert(app.clone(), Trouble { tries: trouble.tries.saturating_add(1), retry_at, ..trouble });
        retry_at
    }
}

fn stopped(tries: u32) -> String {
    format!("the device stopped {tries} times while it was starting the version")
}

fn earlier(known: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(known.map_or(other, |known| known.min(other)))
}
