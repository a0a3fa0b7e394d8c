//! The driver of [`protocol::agent`]: it asks the swarm for blobs, runs the hook that starts versions, and has a clerk ask
//! the seed, so that a seed that is slow or out of reach holds nothing else up.
//!
//! | module | holds |
//! |---|---|
//! | [`clerk`] | what is said to the seed, and what is believed of its answers |
//! | [`grants`] | grants that somebody on this machine applies |
//!
//! Not here: decisions.

mod clerk;
pub mod grants;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use protocol::agent::record::Record;
use protocol::agent::{Agent, ERRANDS_MAX, Effect, Event, Input, Now, Outcome, Refusal, Settings};
use protocol::gossip::message::Documents;
use protocol::label::Labels;
use protocol::name::AppName;
use protocol::statement::TrustToken;
use protocol::statement::receipt::SitePoll;
use protocol::statement::version::VersionName;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use super::endpoint::Catalogue;
use super::gossip::documents::Shared;
use super::hook::{Hook, StartedVersion};
use super::identity::Identity;
use super::metrics::DeviceMetrics;
use super::neighbourhood::View;
use super::seed_client::SeedClient;
use super::signer::ReportSigner;
use super::state::{DeviceDir, Enrolment, Progress};
use super::swarm::{News, SwarmHandle};
use crate::clock::Clock;
use crate::store::blobs::BlobStore;
use crate::transport::discovery::hints::Hinter;
use crate::trust::VerifiedRepository;
use clerk::{Answer, Clerk, Errand};
use grants::Apply;

/// Answers that may wait for the driver, which reads them whatever the clerk does.
const ANSWERS_MAX: usize = 16;

/// What the driver works with.
pub struct Parts {
    /// The data directory.
    pub dir: DeviceDir,
    /// Whom it trusts, and how late it is.
    pub identity: Arc<Identity>,
    /// Who the device is.
    pub enrolment: Enrolment,
    /// How far it got.
    pub progress: Progress,
    /// Requests to the seed.
    pub client: Arc<SeedClient>,
    /// Verified metadata.
    pub repository: VerifiedRepository,
    /// The right to accept statements.
    pub token: TrustToken,
    /// Whole blobs.
    pub blobs: BlobStore,
    /// The swarm.
    pub swarm: SwarmHandle,
    /// What the local registry offers.
    pub catalogue: Arc<RwLock<Catalogue>>,
    /// Figures about this device.
    pub metrics: Arc<DeviceMetrics>,
    /// Between polls.
    pub interval: Duration,
    /// Makes random choices reproducible.
    pub seed: u64,
    /// Where this device takes swarm connections.
    pub port: u16,
    /// The address of which it takes them, which may be unspecified.
    pub listens_on: IpAddr,
    /// The configured site.
    pub site: Option<String>,
    /// Where the device is, and who is there.
    pub neighbourhood: View,
    /// Takes the seed's hints of peers, if they are followed.
    pub hinter: Option<Hinter>,
    /// Shows neighbours the documents in force.
    pub shared: watch::Sender<Arc<Shared>>,
    /// Documents that neighbours handed over.
    pub heard: mpsc::Receiver<Documents>,
    /// Grants that somebody on this machine applies.
    pub grants: mpsc::Receiver<Apply>,
    /// Signs reports.
    pub signer: ReportSigner,
    /// The device's own labels.
    pub labels: Labels,
    /// What starts versions, if anything does.
    pub hook: Option<Hook>,
    /// What was started before.
    pub activation: BTreeMap<AppName, Record>,
}

/// Drives the agent until the swarm or the clerk is gone, or the device is `stopped`; it hears the swarm's `news`, and of the
/// polls that neighbours made for the site. Report counters start at the time in
/// seconds, so that they go up also when `progress.json` was lost.
pub async fn run(parts: Parts, mut news: mpsc::Receiver<News>, mut polled: mpsc::Receiver<SitePoll>, mut stopped: watch::Receiver<bool>) {
    let clock = Clock::start();
    let settings = Settings {
        platform: parts.enrolment.platform.clone(),
        device: parts.enrolment.device.clone(),
        seed: parts.seed,
        interval: parts.interval,
        fresh_at: parts.progress.fresh_at,
        report_counter: parts.progress.report_counter.max(parts.identity.time().now.as_unix_seconds()),
        activates: parts.hook.is_some(),
        labels: parts.labels.clone(),
        records: parts.activation.clone(),
    };
    let (errands, inbox) = mpsc::channel(ERRANDS_MAX);
    let (outbox, mut answers) = mpsc::channel(ANSWERS_MAX);
    let mut driver = Driver {
        agent: Agent::new(clock.now(), settings),
        clock,
        identity: parts.identity.clone(),
        swarm: parts.swarm.clone(),
        catalogue: parts.catalogue.clone(),
        errands,
        dir: parts.dir.clone(),
        metrics: parts.metrics.clone(),
        records: parts.activation.clone(),
        hook: parts.hook.clone(),
        versions: BTreeMap::new(),
        starting: JoinSet::new(),
    };
    driver.end_leftovers().await;
    let clerk = tokio::spawn(Clerk::new(parts).run(inbox, outbox));
    loop {
        driver.carry_out().await;
        let due = driver.agent.poll_timeout();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(clock.to_tokio(due)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = news.recv() => match heard {
                Some(news) => driver.on_news(&news),
                None => break,
            },
            answer = answers.recv() => match answer {
                Some(answer) => driver.on_answer(answer),
                None => break,
            },
            Some(poll) = polled.recv() => driver.input(Input::SitePolled(poll)),
            Some(ended) = driver.starting.join_next() => driver.on_start_ended(ended),
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = timer => driver.agent.handle_timeout(driver.now()),
        }
    }
    clerk.abort();
    driver.input(Input::Stopping);
    driver.carry_out().await;
    driver.starting.shutdown().await;
}

struct Driver {
    agent: Agent,
    clock: Clock,
    identity: Arc<Identity>,
    swarm: SwarmHandle,
    catalogue: Arc<RwLock<Catalogue>>,
    errands: mpsc::Sender<Errand>,
    dir: DeviceDir,
    metrics: Arc<DeviceMetrics>,
    records: BTreeMap<AppName, Record>,
    hook: Option<Hook>,
    /// What the hook is told of each accepted version.
    versions: BTreeMap<VersionName, StartedVersion>,
    /// The start under way; what it started is ended with it.
    starting: JoinSet<(AppName, Outcome)>,
}

impl Driver {
    fn now(&self) -> Now {
        Now { monotonic: self.clock.now(), wall: self.identity.time() }
    }

    fn input(&mut self, input: Input) {
        self.agent.handle_input(self.now(), input);
    }

    fn on_news(&mut self, news: &News) {
        match *news {
            News::Stored(blob, fetched) => {
                self.catalogue(|catalogue| catalogue.note_stored(blob));
                self.input(Input::BlobFetched { blob, fetched });
                self.input(Input::BlobStored { blob });
            }
            News::ListUnusable(list) => self.input(Input::HashListUnusable { list }),
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Kept { statement, stored } => {
                self.versions.insert(statement.statement().name(), StartedVersion::of(&statement));
                self.catalogue(|catalogue| {
                    catalogue.accept(&statement);
                    stored.into_iter().for_each(|blob| catalogue.note_stored(blob));
                });
            }
            Answer::Inputs(inputs) => {
                for input in inputs {
                    if let Input::StatementAccepted(statement) = &input {
                        self.versions.insert(statement.statement().name(), StartedVersion::of(statement));
                        self.catalogue(|catalogue| catalogue.accept(statement));
                    }
                    self.input(input);
                }
            }
        }
    }

    /// What an earlier run of the device left of a start that did not end would run beside the next one.
    async fn end_leftovers(&self) {
        let Some(hook) = &self.hook else { return };
        for (app, record) in &self.records {
            if let Some(release) = record.unended() {
                hook.end_leftovers(VersionName { app: app.clone(), version: release.version }).await;
            }
        }
    }

    fn on_start_ended(&mut self, ended: Result<(AppName, Outcome), JoinError>) {
        match ended {
            Ok((app, outcome)) => self.input(Input::Activated { app, outcome }),
            Err(error) => tracing::error!(%error, "a start was lost; restart the device to repeat it"),
        }
    }

    async fn carry_out(&mut self) {
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::Poll(poll) => self.errand(Errand::Poll(poll)),
                Effect::AcceptStatement { name, digest } => self.errand(Errand::AcceptStatement { name, digest }),
                Effect::Report(report) => self.errand(Errand::Report(report)),
                Effect::KeepFresh { at } => self.errand(Errand::KeepFresh(at)),
                Effect::Want { blob, size, proof } => self.swarm.want(blob, size, proof).await,
                Effect::Unwant { blob } => self.swarm.unwant(blob).await,
                Effect::Activate { app, release, previous, record } => {
                    let name = VersionName { app, version: release.version };
                    self.activate(name, previous, record).await;
                }
                Effect::Keep { app, record } => {
                    if let Err(error) = self.keep(app, record).await {
                        tracing::error!(error = format!("{error:#}"), "what was started cannot be kept; free disk space or check the disk");
                    }
                }
            }
        }
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::VersionStored { name } => {
                    tracing::info!(event = "version_stored", app = %name.app, version = name.version, "version stored and verified");
                }
                Event::VersionFailed { name, reason } => {
                    tracing::error!(event = "version_failed", app = %name.app, version = name.version, reason, "this device cannot have the version");
                }
                Event::Stale { is_stale } => {
                    self.metrics.set_stale(is_stale);
                    match is_stale {
                        true => tracing::warn!(event = "stale", "for a week nothing that the seed said could be accepted"),
                        false => tracing::info!(event = "fresh", "what the seed says is accepted again"),
                    }
                }
                Event::VersionStarted { name } => {
                    tracing::info!(event = "version_started", app = %name.app, version = name.version, "version in use");
                }
            }
        }
    }

    /// Keeps what is about to start, and starts it; the outcome comes later.
    async fn activate(&mut self, name: VersionName, previous: Option<u64>, record: Record) {
        let kept = self.keep(name.app.clone(), record).await;
        let (hook, version) = (self.hook.clone(), self.versions.get(&name).cloned());
        tracing::info!(event = "version_starting", app = %name.app, version = name.version, "starting the version");
        self.starting.spawn(async move {
            let outcome = match (kept, hook, version) {
                (Err(error), ..) => Outcome::NotTried(format!("what is started cannot be kept on the disk: {error:#}")),
                (Ok(()), Some(hook), Some(version)) => hook.run(&version, previous).await,
                (Ok(()), ..) => Outcome::NotTried("its statement is not at hand yet".to_owned()),
            };
            (name.app, outcome)
        });
    }

    async fn keep(&mut self, app: AppName, record: Record) -> anyhow::Result<()> {
        self.records.insert(app, record);
        let (dir, records) = (self.dir.clone(), self.records.clone());
        tokio::task::spawn_blocking(move || dir.keep_activation(records)).await?
    }

    /// The driver never waits for the clerk, which may be waiting for the driver. The machine asks for no more than there is
    /// place for; if it did, it would be told at once that it was in vain.
    fn errand(&mut self, errand: Errand) {
        let in_vain = match self.errands.try_send(errand) {
            Ok(()) => return,
            Err(TrySendError::Closed(_)) => return tracing::debug!("the clerk has stopped"),
            Err(TrySendError::Full(errand)) => match errand {
                Errand::Poll(_) => Input::PollFailed,
                Errand::AcceptStatement { name, .. } => {
                    Input::StatementRefused { name, refusal: Refusal::Temporary("too much is asked of the seed at a time".to_owned()) }
                }
                Errand::Report(_) => Input::ReportFailed,
                Errand::KeepFresh(_) => return tracing::debug!("when the seed was last heard is kept after the next hour"),
            },
        };
        self.input(in_vain);
    }

    fn catalogue(&self, change: impl FnOnce(&mut Catalogue)) {
        change(&mut self.catalogue.write().unwrap_or_else(PoisonError::into_inner));
    }
}
