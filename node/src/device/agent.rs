//! The driver of [`protocol::agent`]: polls, verifies what the answer carries, asks the swarm for blobs, reports.
//!
//! Not here: decisions.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Context;
use protocol::agent::{Agent, Effect, Event, Input};
use protocol::digest::Digest;
use protocol::statement::TrustToken;
use protocol::statement::desired::{AcceptedDesiredState, GROUP_ALL};
use protocol::statement::version::{AcceptedStatement, VersionName};
use tokio::sync::mpsc;

use super::endpoint::Catalogue;
use super::metrics::DeviceMetrics;
use super::seed_client::{SeedClient, StateAnswer};
use super::state::{DeviceDir, Enrolment, Progress};
use super::swarm::{News, SwarmHandle};
use crate::api::DeviceStateAnswer;
use crate::clock::{Clock, wall_time};
use crate::trust::VerifiedRepository;

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
}

/// Drives the agent until the swarm is gone.
pub async fn run(parts: Parts, mut news: mpsc::Receiver<News>) {
    let clock = Clock::start();
    let agent = Agent::new(clock.now(), parts.enrolment.platform.clone(), parts.seed, parts.interval, parts.progress.report_counter);
    let mut driver = Driver { agent, clock, parts, etag: None };
    driver.resume();
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
                None => return,
            },
            () = timer => driver.agent.handle_timeout(clock.now()),
        }
    }
}

struct Driver {
    agent: Agent,
    clock: Clock,
    parts: Parts,
    etag: Option<String>,
}

impl Driver {
    /// Goes on with the desired state of the last run: the seed may be out of reach.
    fn resume(&mut self) {
        let Some(desired) = self.parts.progress.desired.clone() else { return };
        match self.accept_desired(&desired) {
            Ok(accepted) => self.input(Input::StateAccepted(accepted)),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the desired state of the last run is not acted on"),
        }
    }

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

    async fn carry_out(&mut self) {
        while let Some(effect) = self.agent.poll_effect() {
            match effect {
                Effect::Poll => self.poll().await,
                Effect::AcceptStatement { name, digest } => self.accept_statement(name, digest).await,
                Effect::Want { blob, size, proof } => self.parts.swarm.want(blob, size, proof).await,
                Effect::Unwant { blob } => self.parts.swarm.unwant(blob).await,
                Effect::Report(report) => self.report(&report).await,
            }
        }
        while let Some(event) = self.agent.poll_event() {
            let Event::VersionStored { name } = event;
            tracing::info!(event = "version_stored", app = %name.app, version = name.version, "version stored and verified");
        }
    }

    async fn poll(&mut self) {
        let answer = self.parts.client.state(self.etag.as_deref(), self.parts.port, self.parts.site.as_deref()).await;
        match answer {
            Ok(StateAnswer::Unchanged) => self.input(Input::Unchanged),
            Ok(StateAnswer::Changed { etag, state }) => match self.take_state(*state).await {
                Ok(accepted) => {
                    self.etag = etag;
                    self.input(accepted.map_or(Input::Unchanged, Input::StateAccepted));
                }
                Err(error) => {
                    self.parts.metrics.count_refused_document();
                    tracing::error!(event = "state_refused", error = format!("{error:#}"), "what the seed says is not acted on");
                    self.input(Input::PollFailed);
                }
            },
            Err(error) => {
                tracing::warn!(event = "poll_failed", error = format!("{error:#}"), "the seed cannot be asked; trying again");
                self.input(Input::PollFailed);
            }
        }
    }

    async fn take_state(&mut self, state: DeviceStateAnswer) -> anyhow::Result<Option<AcceptedDesiredState>> {
        self.parts.swarm.learned(state.peers, false).await;
        let timestamp = Some(state.timestamp.as_bytes());
        self.parts.repository.refresh(wall_time(), self.parts.client.as_ref(), timestamp).await.context("the organisation's metadata")?;
        let Some(desired) = state.desired else { return Ok(None) };
        let accepted = self.accept_desired(&desired)?;
        if self.parts.progress.counter != Some(accepted.state().counter) || self.parts.progress.desired.as_ref() != Some(&desired) {
            self.parts.progress.counter = Some(accepted.state().counter);
            self.parts.progress.desired = Some(desired);
            self.parts.dir.keep_progress(&self.parts.progress)?;
        }
        Ok(Some(accepted))
    }

    fn accept_desired(&self, desired: &str) -> anyhow::Result<AcceptedDesiredState> {
        let online = self.parts.repository.online_key();
        let accepted = AcceptedDesiredState::accept(desired.as_bytes(), &online, GROUP_ALL, self.parts.progress.counter, wall_time());
        accepted.map_err(|refused| anyhow::Error::new(refused.clone()).context(format!("desired state refused ({})", refused.reason())))
    }

    async fn accept_statement(&mut self, name: VersionName, digest: Digest) {
        let Parts { repository, token, enrolment, client, .. } = &mut self.parts;
        let kept = repository.accepted_before(token, &name, &enrolment.platform).ok().filter(|kept| kept.digest() == digest);
        let accepted = match kept {
            Some(kept) => Ok(kept),
            None => repository.statement(token, &name, &enrolment.platform, wall_time(), client.as_ref()).await,
        };
        match accepted {
            Ok(statement) => self.on_statement(statement),
            Err(refused) => {
                let retry = refused.reason() == "unavailable";
                self.parts.metrics.count_refused_document();
                tracing::error!(event = "statement_refused", app = %name.app, version = name.version, reason = refused.reason(), error = %refused, "the version is not acted on");
                self.input(Input::StatementRefused { name, reason: refused.to_string(), retry });
            }
        }
    }

    fn on_statement(&mut self, statement: AcceptedStatement) {
        self.catalogue(|catalogue| catalogue.accept(&statement));
        self.input(Input::StatementAccepted(statement));
    }

    async fn report(&mut self, report: &protocol::rollout::DeviceReport) {
        self.parts.progress.report_counter = report.counter;
        if let Err(error) = self.parts.dir.keep_progress(&self.parts.progress) {
            tracing::error!(error = format!("{error:#}"), "the report's counter cannot be kept");
        }
        match self.parts.client.report(report).await {
            Ok(()) => self.input(Input::Reported { counter: report.counter }),
            Err(error) => {
                tracing::warn!(event = "report_failed", error = format!("{error:#}"), "the seed did not take the report; trying again");
                self.input(Input::ReportFailed);
            }
        }
    }

    fn catalogue(&self, change: impl FnOnce(&mut Catalogue)) {
        change(&mut self.parts.catalogue.write().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}
