//! Errands to the seed, one after the other: polls, statements, reports. What the seed says is verified here, before the
//! agent hears of it.
//!
//! Not here: when an errand is run; [`protocol::agent`] decides.

use anyhow::Context;
use protocol::agent::{Input, Refusal};
use protocol::digest::Digest;
use protocol::rollout::DeviceReport;
use protocol::statement::desired::{AcceptedDesiredState, GROUP_ALL};
use protocol::statement::version::{AcceptedStatement, VersionName};
use tokio::sync::mpsc;

use super::Parts;
use crate::api::DeviceStateAnswer;
use crate::clock::wall_time;
use crate::device::seed_client::StateAnswer;
use crate::trust::TrustRefused;

/// What the agent wants of the seed.
#[derive(Debug)]
pub(super) enum Errand {
    Poll,
    AcceptStatement { name: VersionName, digest: Digest },
    Report(DeviceReport),
}

/// What became of an errand, or was found at the start.
pub(super) enum Answer {
    Input(Input),
    /// A statement that was accepted in an earlier run, and which of its content is stored.
    Kept {
        statement: AcceptedStatement,
        stored: Vec<Digest>,
    },
}

pub(super) struct Clerk {
    parts: Parts,
    etag: Option<String>,
}

impl Clerk {
    pub(super) const fn new(parts: Parts) -> Self {
        Self { parts, etag: None }
    }

    pub(super) async fn run(mut self, mut errands: mpsc::Receiver<Errand>, answers: mpsc::Sender<Answer>) {
        for kept in self.kept_statements() {
            let _ = answers.send(kept).await;
        }
        if let Some(input) = self.resume() {
            let _ = answers.send(Answer::Input(input)).await;
        }
        while let Some(errand) = errands.recv().await {
            let input = match errand {
                Errand::Poll => self.poll().await,
                Errand::AcceptStatement { name, digest } => self.accept_statement(name, digest).await,
                Errand::Report(report) => self.report(report).await,
            };
            if answers.send(Answer::Input(input)).await.is_err() {
                return;
            }
        }
    }

    /// What was accepted once is served, whatever the seed wants now, and without asking it.
    fn kept_statements(&self) -> Vec<Answer> {
        let Parts { repository, token, enrolment, blobs, .. } = &self.parts;
        let kept = repository.kept_versions(&enrolment.platform).into_iter();
        let accepted = kept.filter_map(|name| repository.accepted_before(token, &name, &enrolment.platform).ok());
        let with_content = accepted.map(|statement| {
            let content = statement.statement().content();
            let stored = content.iter().map(|blob| blob.digest).filter(|blob| blobs.path(blob).is_file()).collect();
            Answer::Kept { statement, stored }
        });
        with_content.collect()
    }

    /// Goes on with the desired state of the last run: the seed may be out of reach.
    fn resume(&self) -> Option<Input> {
        match self.accept_desired(self.parts.progress.desired.as_ref()?) {
            Ok(accepted) => Some(Input::StateAccepted(accepted)),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the desired state of the last run is not acted on");
                None
            }
        }
    }

    async fn poll(&mut self) -> Input {
        let answer = self.parts.client.state(self.etag.as_deref(), self.parts.port, self.parts.site.as_deref()).await;
        match answer {
            Ok(StateAnswer::Unchanged) => Input::Unchanged,
            Ok(StateAnswer::Changed { etag, state }) => match self.take_state(*state).await {
                Ok(accepted) => {
                    self.etag = etag;
                    accepted.map_or(Input::Unchanged, Input::StateAccepted)
                }
                Err(error) => {
                    self.parts.metrics.count_refused_document();
                    tracing::error!(event = "state_refused", error = format!("{error:#}"), "what the seed says is not acted on");
                    Input::PollFailed
                }
            },
            Err(error) => {
                tracing::warn!(event = "poll_failed", error = format!("{error:#}"), "the seed cannot be asked; trying again");
                Input::PollFailed
            }
        }
    }

    async fn take_state(&mut self, state: DeviceStateAnswer) -> anyhow::Result<Option<AcceptedDesiredState>> {
        if self.parts.follows_hints {
            self.parts.swarm.learned(state.peers, false).await;
        }
        let timestamp = Some(state.timestamp.as_bytes());
        self.parts.repository.refresh(wall_time(), self.parts.client.as_ref(), timestamp).await.context("the organisation's metadata")?;
        let Some(desired) = state.desired else { return Ok(None) };
        let accepted = self.accept_desired(&desired)?;
        if self.parts.progress.counter != Some(accepted.state().counter) || self.parts.progress.desired.as_ref() != Some(&desired) {
            self.parts.progress.counter = Some(accepted.state().counter);
            self.parts.progress.desired = Some(desired);
            self.keep_progress().await?;
        }
        Ok(Some(accepted))
    }

    fn accept_desired(&self, desired: &str) -> anyhow::Result<AcceptedDesiredState> {
        let online = self.parts.repository.online_key();
        let accepted = AcceptedDesiredState::accept(desired.as_bytes(), &online, GROUP_ALL, self.parts.progress.counter, wall_time());
        accepted.map_err(|refused| anyhow::Error::new(refused.clone()).context(format!("desired state refused ({})", refused.reason())))
    }

    async fn accept_statement(&mut self, name: VersionName, digest: Digest) -> Input {
        let Parts { repository, token, enrolment, client, .. } = &mut self.parts;
        let kept = repository.accepted_before(token, &name, &enrolment.platform).ok().filter(|kept| kept.digest() == digest);
        let accepted = match kept {
            Some(kept) => Ok(kept),
            None => repository.statement(token, &name, &enrolment.platform, wall_time(), client.as_ref()).await,
        };
        match accepted {
            Ok(statement) => Input::StatementAccepted(statement),
            Err(refused) => {
                self.etag = None;
                self.parts.metrics.count_refused_document();
                let (reason, text) = (refused.reason(), refused.to_string());
                tracing::error!(event = "statement_refused", app = %name.app, version = name.version, reason, error = text, "the version is not acted on");
                Input::StatementRefused { name, refusal: refusal(&refused) }
            }
        }
    }

    async fn report(&mut self, report: DeviceReport) -> Input {
        self.parts.progress.report_counter = report.counter;
        if let Err(error) = self.keep_progress().await {
            tracing::error!(error = format!("{error:#}"), "the report's counter cannot be kept; free disk space or check the disk");
        }
        match self.parts.client.report(&report).await {
            Ok(()) => Input::Reported { counter: report.counter },
            Err(error) => {
                tracing::warn!(event = "report_failed", error = format!("{error:#}"), "the seed did not take the report; trying again");
                Input::ReportFailed
            }
        }
    }

    async fn keep_progress(&self) -> anyhow::Result<()> {
        let (dir, progress) = (self.parts.dir.clone(), self.parts.progress.clone());
        tokio::task::spawn_blocking(move || dir.keep_progress(&progress)).await.context("writing was interrupted")?
    }
}

/// A statement that says something impossible stays so; everything else may be put right, here or by the operator.
fn refusal(refused: &TrustRefused) -> Refusal {
    match refused {
        TrustRefused::Statement(_) => Refusal::Final(refused.to_string()),
        _ => Refusal::Temporary(refused.to_string()),
    }
}
