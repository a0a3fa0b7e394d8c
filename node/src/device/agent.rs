//! The driver of [`protocol::agent`]: it asks the swarm for blobs, runs the hook that starts versions, and has a clerk ask
//! the seed, so that a seed that is slow or out of reach holds nothing else up.
//!
//! | module | holds |
//! |---|---|
//! | [`clerk`] | what is said to the seed, and what is believed of its answers |
//! | [`documents`] | the signed documents in force |
//!
//! Not here: decisions.

mod clerk;
mod documents;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use protocol::agent::record::Record;
use protocol::agent::{Agent, Effect, Event, Input, Now, Outcome, Settings};
use protocol::gossip::message::Documents;
use protocol::label::Labels;
use protocol::name::AppName;
use protocol::site::Surroundings;
use protocol::statement::TrustToken;
use protocol::statement::version::VersionName;
use protocol::time::floor::CheckedTime;
use tokio::sync::{mpsc, watch};

use super::endpoint::Catalogue;
use super::gossip::documents::Shared;
use super::hook::{Hook, StartedVersion};
use super::identity::Identity;
use super::metrics::DeviceMetrics;
use super::seed_client::SeedClient;
use super::signer::ReportSigner;
use super::state::{DeviceDir, Enrolment, Progress};
use super::swarm::{News, SwarmHandle};
use crate::clock::Clock;
use crate::store::blobs::BlobStore;
use crate::transport::discovery::hints::Hinter;
use crate::trust::VerifiedRepository;
use clerk::{Answer, Clerk, Errand};

/// Errands that may wait for the clerk: a poll, a report, and a statement for each of many apps.
const ERRANDS_MAX: usize = 1024;

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
    /// Where the device is.
    pub surroundings: watch::Receiver<Surroundings>,
    /// Takes the seed's hints of peers, if they are followed.
    pub hinter: Option<Hinter>,
    /// Shows neighbours the documents in force.
    pub shared: watch::Sender<Arc<Shared>>,
    /// Documents that neighbours handed over.
    pub heard: mpsc::Receiver<Documents>,
    /// Signs reports.
    pub signer: ReportSigner,
    /// The device's own labels.
    pub labels: Labels,
    /// What starts versions, if anything does.
    pub hook: Option<Hook>,
    /// What was started before.
    pub activation: BTreeMap<AppName, Record>,
}

/// Drives the agent until the swarm or the clerk is gone. Report counters start at the time in seconds, so that they go up
/// also when `progress.json` was lost.
pub async fn run(parts: Parts, mut news: mpsc::Receiver<News>) {
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
    let (outbox, mut answers) = mpsc::channel(ERRANDS_MAX);
    let (ended, mut outcomes) = mpsc::channel(1);
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
        ended,
    };
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
            Some((app, outcome)) = outcomes.recv() => driver.input(Input::Activated { app, outcome }),
            () = timer => driver.agent.handle_timeout(driver.now()),
        }
    }
    clerk.abort();
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
    ended: mpsc::Sender<(AppName, Outcome)>,
}

impl Driver {
    /// A calendar that is not trusted is none.
    fn now(&self) -> Now {
        let CheckedTime { now, trust } = self.identity.time();
        Now { monotonic: self.clock.now(), calendar: trust.is_trusted().then_some(now) }
    }

    fn input(&mut self, input: Input) {
        self.agent.handle_input(self.now(), input);
    }

    fn on_news(&mut self, news: &News) {
        match *news {
            News::Stored(blob) => {
                self.catalogue(|catalogue| catalogue.note_stored(blob));
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

    async fn carry_out(&mut self) {
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::Poll => self.errand(Errand::Poll).await,
                Effect::AcceptStatement { name, digest } => self.errand(Errand::AcceptStatement { name, digest }).await,
                Effect::Report(report) => self.errand(Errand::Report(report)).await,
                Effect::KeepFresh { at } => self.errand(Errand::KeepFresh(at)).await,
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
        let (hook, version, ended) = (self.hook.clone(), self.versions.get(&name).cloned(), self.ended.clone());
        tracing::info!(event = "version_starting", app = %name.app, version = name.version, "starting the version");
        tokio::spawn(async move {
            let outcome = match (kept, hook, version) {
                (Err(error), ..) => Outcome::NotTried(format!("what is started cannot be kept on the disk: {error:#}")),
                (Ok(()), Some(hook), Some(version)) => hook.run(&version, previous).await,
                (Ok(()), ..) => Outcome::NotTried("its statement is not at hand yet".to_owned()),
            };
            let _ = ended.send((name.app, outcome)).await;
        });
    }

    async fn keep(&mut self, app: AppName, record: Record) -> anyhow::Result<()> {
        self.records.insert(app, record);
        let (dir, records) = (self.dir.clone(), self.records.clone());
        tokio::task::spawn_blocking(move || dir.keep_activation(records)).await?
    }

    async fn errand(&self, errand: Errand) {
        if self.errands.send(errand).await.is_err() {
            tracing::debug!("the clerk has stopped");
        }
    }

    fn catalogue(&self, change: impl FnOnce(&mut Catalogue)) {
        change(&mut self.catalogue.write().unwrap_or_else(PoisonError::into_inner));
    }
}
