//! The driver of [`protocol::agent`]: it asks the swarm for blobs, and has a clerk ask the seed, so that a seed that is slow
//! or out of reach holds nothing else up.
//!
//! Not here: decisions; what is said to the seed, see [`clerk`].

mod clerk;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use protocol::agent::{Agent, Effect, Event, Input};
use protocol::statement::TrustToken;
use tokio::sync::mpsc;

use super::endpoint::Catalogue;
use super::metrics::DeviceMetrics;
use super::seed_client::SeedClient;
use super::state::{DeviceDir, Enrolment, Progress};
use super::swarm::{News, SwarmHandle};
use crate::clock::{Clock, wall_time};
use crate::store::blobs::BlobStore;
use crate::trust::VerifiedRepository;
use clerk::{Answer, Clerk, Errand};

/// Errands that may wait for the clerk: a poll, a report, and a statement for each of many apps.
const ERRANDS_MAX: usize = 1024;

/// What the driver works with.
pub struct Parts {
    /// The data directory.
    pub dir: DeviceDir,
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
    /// The configured site.
    pub site: Option<String>,
    /// Whether the seed's hints of peers are followed.
    pub follows_hints: bool,
}

/// Drives the agent until the swarm or the clerk is gone. Report counters start at the time in seconds, so that they go up
/// also when `progress.json` was lost.
pub async fn run(parts: Parts, mut news: mpsc::Receiver<News>) {
    let clock = Clock::start();
    let counter = parts.progress.report_counter.max(wall_time().as_unix_seconds());
    let agent = Agent::new(clock.now(), parts.enrolment.platform.clone(), parts.seed, parts.interval, counter);
    let (errands, inbox) = mpsc::channel(ERRANDS_MAX);
    let (outbox, mut answers) = mpsc::channel(ERRANDS_MAX);
    let mut driver = Driver { agent, clock, swarm: parts.swarm.clone(), catalogue: parts.catalogue.clone(), errands };
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
            () = timer => driver.agent.handle_timeout(clock.now()),
        }
    }
    clerk.abort();
}

struct Driver {
    agent: Agent,
    clock: Clock,
    swarm: SwarmHandle,
    catalogue: Arc<RwLock<Catalogue>>,
    errands: mpsc::Sender<Errand>,
}

impl Driver {
    fn input(&mut self, input: Input) {
        self.agent.handle_input(self.clock.now(), input);
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
            Answer::Kept { statement, stored } => self.catalogue(|catalogue| {
                catalogue.accept(&statement);
                stored.into_iter().for_each(|blob| catalogue.note_stored(blob));
            }),
            Answer::Input(input) => {
                if let Input::StatementAccepted(statement) = &input {
                    self.catalogue(|catalogue| catalogue.accept(statement));
                }
                self.input(input);
            }
        }
    }

    async fn carry_out(&mut self) {
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::Poll => self.errand(Errand::Poll).await,
                Effect::AcceptStatement { name, digest } => self.errand(Errand::AcceptStatement { name, digest }).await,
                Effect::Report(report) => self.errand(Errand::Report(report)).await,
                Effect::Want { blob, size, proof } => self.swarm.want(blob, size, proof).await,
                Effect::Unwant { blob } => self.swarm.unwant(blob).await,
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
            }
        }
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
