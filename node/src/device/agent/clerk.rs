//! Errands to the seed, one after the other: polls, statements, reports. What the seed says is verified here, before the
//! agent hears of it.
//!
//! Not here: when an errand is run; [`protocol::agent`] decides.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use protocol::agent::documents::{Offer, Reader, RefusedDocument, Taken};
use protocol::agent::turn::{PollFor, Trust};
use protocol::agent::{Input, Refusal, RoleTerms};
use protocol::digest::Digest;
use protocol::gossip::message::{Documents, GROUPS_MAX, Heads, OTHERS_MAX};
use protocol::name::{AppName, DeviceId, GroupName};
use protocol::rollout::DeviceReport;
use protocol::statement::desired::Counter;
use protocol::statement::receipt::PollReceipt;
use protocol::statement::refused::DocumentRefused;
use protocol::statement::version::{AcceptedStatement, VersionName};
use protocol::time::WallTime;
use tokio::sync::mpsc;

use super::Parts;
use crate::api::DeviceStateAnswer;
use crate::device::gossip::documents::Shared;
use crate::device::seed_client::{Poll, Polled, StateAnswer};
use crate::trust::TrustRefused;

/// What the agent wants of the seed.
#[derive(Debug)]
pub(super) enum Errand {
    Poll(PollFor),
    AcceptStatement { name: VersionName, digest: Digest },
    Report(DeviceReport),
    KeepFresh(WallTime),
}

/// What became of an errand, or was found at the start.
pub(super) enum Answer {
    Inputs(Vec<Input>),
    /// A statement that was accepted in an earlier run, and which of its content is stored.
    Kept {
        statement: Box<AcceptedStatement>,
        stored: Vec<Digest>,
    },
}

pub(super) struct Clerk {
    pub(super) parts: Parts,
    etag: Option<String>,
    /// What the answer with that tag says of the site's devices, as JSON.
    site: Option<String>,
    /// The groups of the assignment in force.
    groups: BTreeSet<GroupName>,
    /// The receipt of the last poll for the site.
    polled: Option<PollReceipt>,
    /// What the agent was told of it last.
    trust: Trust,
    /// The timestamp that was taken last in this run, and its version.
    timestamp: Option<(u64, String)>,
}

impl Clerk {
    pub(super) const fn new(parts: Parts) -> Self {
        let trust = Trust { revocations: None, timestamp: None };
        Self { parts, etag: None, site: None, groups: BTreeSet::new(), polled: None, trust, timestamp: None }
    }

    pub(super) async fn run(mut self, mut errands: mpsc::Receiver<Errand>, answers: mpsc::Sender<Answer>) {
        self = match self.serve_kept(&answers).await {
            Some(clerk) => clerk,
            None => return,
        };
        let resumed = self.resume();
        let _ = answers.send(Answer::Inputs(resumed)).await;
        loop {
            self.share();
            let inputs = tokio::select! {
                errand = errands.recv() => match errand {
                    Some(Errand::Poll(poll)) => self.poll(poll).await,
                    Some(Errand::AcceptStatement { name, digest }) => self.accept_statement(name, digest).await,
                    Some(Errand::Report(report)) => vec![self.report(report).await],
                    Some(Errand::KeepFresh(at)) => {
                        self.keep_fresh(at).await;
                        continue;
                    }
                    None => return,
                },
                Some(documents) = self.parts.heard.recv() => self.take_heard(documents).await,
                Some(grant) = self.parts.grants.recv() => self.apply(grant).await,
            };
            let inputs = self.trust_news().into_iter().chain(inputs).collect();
            if answers.send(Answer::Inputs(inputs)).await.is_err() {
                return;
            }
        }
    }

    /// How far what decides whom this device trusts is, if the agent does not know it yet.
    fn trust_news(&mut self) -> Option<Input> {
        let Parts { identity, repository, .. } = &self.parts;
        let trust = Trust { revocations: identity.revocations(), timestamp: repository.timestamp_version() };
        (std::mem::replace(&mut self.trust, trust) != trust).then_some(Input::Trust(trust))
    }

    /// What was accepted once is served, whatever the seed wants now, and without asking it. One statement is read at a time,
    /// on a thread that may wait for the disk. None if the device stops.
    async fn serve_kept(self, answers: &mpsc::Sender<Answer>) -> Option<Self> {
        let mut clerk = self;
        for name in clerk.parts.repository.kept_versions(&clerk.parts.enrolment.platform) {
            let reading = tokio::task::spawn_blocking(move || (clerk.kept_statement(&name), clerk));
            let (kept, back) = reading.await.ok()?;
            clerk = back;
            if let Some(kept) = kept {
                answers.send(kept).await.ok()?;
            }
        }
        Some(clerk)
    }

    fn kept_statement(&self, name: &VersionName) -> Option<Answer> {
        let Parts { repository, token, enrolment, blobs, .. } = &self.parts;
        let statement = repository.accepted_before(token, name, &enrolment.platform).ok()?;
        let content = statement.statement().content();
        let stored = content.iter().map(|blob| blob.digest).filter(|blob| blobs.path(blob).is_file()).collect();
        Some(Answer::Kept { statement: Box::new(statement), stored })
    }

    /// Goes on with the documents of the last run: the seed may be out of reach.
    fn resume(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        if self.parts.progress.assignment.is_some() {
            let Taken { state, refused, .. } = self.take_documents(Offer::default());
            inputs.extend(told(&refused).chain(self.roles(state.as_ref())).chain(state));
        }
        inputs.extend(self.granted());
        inputs
    }

    pub(super) fn take_documents(&mut self, offer: Offer<'_>) -> Taken {
        let Parts { repository, enrolment, progress, metrics, identity, .. } = &mut self.parts;
        let online = repository.online_key();
        let taken = progress.kept().take(Reader { online: &online, device: &enrolment.device, now: identity.time().now }, offer);
        for RefusedDocument { document, refused } in &taken.refused {
            let (reason, error) = (refused.reason(), refused.to_string());
            tracing::error!(event = "state_refused", document, reason, error, "what the seed says is not acted on");
            metrics.count_refused_document(document, reason);
        }
        if let Some(Input::StateAccepted { assignment, .. }) = &taken.state {
            self.groups = assignment.assignment().groups().into_iter().cloned().collect();
        }
        taken
    }

    async fn poll(&mut self, poll: PollFor) -> Vec<Input> {
        let lan: Vec<IpAddr> = self.parts.neighbourhood.surroundings.borrow().addresses(self.parts.listens_on).collect();
        let others = if poll == PollFor::Site { self.others() } else { Vec::new() };
        let (etag, port, site) = (self.etag.as_deref(), self.parts.port, self.parts.site.as_deref());
        let answer = self.parts.client.state(Poll { etag, port, site, lan, others }).await;
        self.parts.identity.keep_time().await;
        match answer {
            Ok(Polled { answer: StateAnswer::Unchanged, at, receipt }) => {
                let polled = self.polled(at, receipt);
                self.end_grants().await.into_iter().chain([polled]).collect()
            }
            Ok(Polled { answer: StateAnswer::Changed { etag, state }, at, receipt }) => {
                let (mut inputs, complete) = self.take_state(etag, *state).await;
                inputs.push(if complete { self.polled(at, receipt) } else { Input::PollFailed });
                inputs
            }
            Err(error) => {
                tracing::warn!(event = "poll_failed", error = format!("{error:#}"), "the seed cannot be asked; trying again");
                vec![Input::PollFailed]
            }
        }
    }

    /// All of an answer was accepted. The receipt of a poll for the site is kept for the others, if they will believe it.
    fn polled(&mut self, at: Option<WallTime>, mark: Option<String>) -> Input {
        let receipt = mark.zip(self.site.clone()).and_then(|(mark, heads)| PollReceipt::of_mark(&mark, heads));
        let online = self.parts.repository.online_key();
        let warn = |refused: &DocumentRefused| {
            tracing::warn!(reason = refused.reason(), "neighbours would not believe the seed's receipt of a poll; they ask for themselves");
        };
        self.polled = receipt.filter(|receipt| receipt.open(&online).inspect_err(warn).is_ok());
        let said = at.map(|at| at.as_unix_seconds().saturating_mul(1_000));
        Input::Polled { at_ms: self.polled.as_ref().map(|receipt| receipt.at_ms).or(said) }
    }

    /// The devices that hear of a poll, as far as this one knows: whoever is connected, if any of them gossips.
    fn others(&self) -> Vec<DeviceId> {
        if self.parts.neighbourhood.gossiping.borrow().is_empty() {
            return Vec::new();
        }
        self.parts.neighbourhood.neighbours.borrow().values().map(|neighbour| neighbour.device.clone()).take(OTHERS_MAX - 1).collect()
    }

    /// Takes what is acceptable of an answer, and whether all of it was.
    async fn take_state(&mut self, etag: Option<String>, answer: DeviceStateAnswer) -> (Vec<Input>, bool) {
        if let Some(hinter) = &self.parts.hinter {
            hinter.hint(answer.peers);
        }
        let timestamp = Some(answer.timestamp.as_bytes());
        let now = self.parts.identity.time().now;
        let refreshed = self.parts.repository.refresh(now, self.parts.client.as_ref(), timestamp).await;
        // Who is revoked and who may sign is taken also when other metadata is refused: a root that verified is in force.
        let trusted = self.take_trust(answer.revocations).await;
        if let Err(refused) = refreshed {
            return (self.refuse_state("metadata", refused.reason(), &refused.to_string()), false);
        }
        let forgotten = match trusted {
            Ok(forgotten) => forgotten,
            Err(error) => {
                let refused = error.downcast_ref::<DocumentRefused>();
                let (document, reason) = refused.map_or(("trust", "not_taken"), |refused| ("revocations", refused.reason()));
                return (self.refuse_state(document, reason, &format!("{error:#}")), false);
            }
        };
        self.parts.identity.keep_time().await;
        let offer = Offer { assignment: Some(&answer.assignment), states: &answer.states };
        let Some((inputs, complete)) = self.take_and_keep(offer).await else { return (Vec::new(), false) };
        let site = answer.site.and_then(|heads| serde_json::to_string(&heads).ok());
        (self.etag, self.site) = if complete { (etag, site) } else { (None, None) };
        self.timestamp = self.parts.repository.timestamp_version().map(|version| (version, answer.timestamp));
        let ended = if complete { self.end_grants().await } else { Vec::new() };
        (inputs.into_iter().chain(forgotten).chain(ended).collect(), complete)
    }

    /// Takes documents that a neighbour handed over: they are checked as if they came from the seed.
    async fn take_heard(&mut self, documents: Documents) -> Vec<Input> {
        if let Some(envelope) = &documents.revocations {
            let Parts { identity, repository, .. } = &self.parts;
            let taken = identity.learn_revocations(envelope.as_bytes(), &repository.online_key(), repository.revocations_since()).await;
            if let Err(error) = taken {
                tracing::warn!(error = format!("{error:#}"), "a neighbour's list of revoked keys is not taken");
            }
        }
        if let Some(timestamp) = documents.timestamp {
            self.take_heard_timestamp(timestamp).await;
        }
        if documents.states.is_empty() {
            return Vec::new();
        }
        let offer = Offer { assignment: None, states: &documents.states };
        let inputs = self.take_and_keep(offer).await.map(|(inputs, _)| inputs);
        tracing::info!(event = "heard", states = documents.states.len(), "documents were taken from a neighbour");
        inputs.unwrap_or_default()
    }

    /// Follows a timestamp to new roots and roles, over the WAN. If that fails, a statement that needs them is asked for again.
    async fn take_heard_timestamp(&mut self, timestamp: String) {
        let Parts { identity, repository, client, .. } = &mut self.parts;
        let refreshed = repository.refresh(identity.time().now, client.as_ref(), Some(timestamp.as_bytes())).await;
        // A root that verified is in force, whatever became of the rest.
        if let Err(error) = identity.learn_root(repository.root(), repository.timestamp_expires()) {
            tracing::warn!(error = format!("{error:#}"), "the authorities of a new root are not taken");
        }
        match refreshed {
            Ok(_) => self.timestamp = repository.timestamp_version().map(|version| (version, timestamp)),
            Err(refused) => tracing::debug!(%refused, "metadata to which a neighbour's timestamp leads is not taken"),
        }
    }

    /// Takes what is acceptable of an offer and keeps it, and whether all of it was; none if the disk did not take it.
    async fn take_and_keep(&mut self, offer: Offer<'_>) -> Option<(Vec<Input>, bool)> {
        let before = self.parts.progress.clone();
        let Taken { state, refused, complete } = self.take_documents(offer);
        if self.parts.progress != before
            && let Err(error) = self.keep_progress().await
        {
            tracing::error!(
                error = format!("{error:#}"),
                "documents cannot be kept, so they are not acted on; free disk space or check the disk"
            );
            self.parts.progress = before;
            return None;
        }
        Some((told(&refused).chain(self.roles(state.as_ref())).chain(state).collect(), complete))
    }

    /// Shows the documents in force to those who tell neighbours of them.
    fn share(&self) {
        let Parts { progress, identity, repository, shared, .. } = &self.parts;
        let counter = |group: &GroupName| progress.counters.desired(group).map_or_else(Counter::default, |seen| seen.counter);
        let counters = self.groups.iter().take(GROUPS_MAX).map(|group| (group.clone(), counter(group)));
        let (version, timestamp) = self.timestamp.clone().unzip();
        let heads = Heads { states: counters.collect(), revocations: identity.revocations(), timestamp: version };
        let (polled, online) = (self.polled.clone(), Some(repository.online_key()));
        let is_known = {
            let known = shared.borrow();
            known.polled == polled && known.online == online && known.heads == heads && known.timestamp == timestamp
        };
        if !is_known {
            let (states, revocations) = (progress.states.clone(), identity.revocation_list());
            shared.send_replace(Arc::new(Shared { heads, states, revocations, timestamp, polled, online }));
        }
    }

    /// What the signed role says of every app that the device shall have, and when the first of all roles expires.
    fn roles(&self, state: Option<&Input>) -> Vec<Input> {
        let Some(Input::StateAccepted { states, .. }) = state else { return Vec::new() };
        let apps: Vec<&AppName> = states.iter().flat_map(|state| state.state().apps.keys()).collect();
        let expire = Input::RolesExpire { at: self.parts.repository.roles_expire(&apps) };
        apps.into_iter().filter_map(|app| self.role(app)).chain([expire]).collect()
    }

    async fn keep_fresh(&mut self, at: WallTime) {
        self.parts.progress.fresh_at = Some(at);
        if let Err(error) = self.keep_progress().await {
            tracing::error!(error = format!("{error:#}"), "when the seed was last heard cannot be kept; free disk space or check the disk");
        }
    }

    /// None while no role of the app is here: then no version of it was accepted either.
    pub(super) fn role(&self, app: &AppName) -> Option<Input> {
        let (floor, expires) = self.parts.repository.terms(app).ok()?;
        let terms = RoleTerms { floor: Some(floor).filter(|floor| *floor > 0), expires };
        Some(Input::Role { app: app.clone(), terms })
    }

    fn refuse_state(&self, document: &'static str, reason: &'static str, error: &str) -> Vec<Input> {
        self.parts.metrics.count_refused_document(document, reason);
        tracing::error!(event = "state_refused", document, reason, error, "what the seed says is not acted on");
        vec![Input::DocumentRefused { document, reason }]
    }

    /// Says if the seed has forgotten keys that it once revoked.
    async fn take_trust(&mut self, revocations: Option<Digest>) -> anyhow::Result<Option<Input>> {
        let Parts { identity, repository, client, metrics, .. } = &self.parts;
        let authorities = identity.learn_root(repository.root(), repository.timestamp_expires()).context("the authorities of the root");
        let taken = match revocations {
            None => Ok(identity.revoked_keys()),
            Some(digest) if identity.knows_revocations(&digest) => Ok(0),
            Some(_) => self.take_revocations().await,
        };
        let is_older = |error: &anyhow::Error| {
            matches!(error.downcast_ref(), Some(DocumentRefused::OlderCounter { .. } | DocumentRefused::OtherContent(_)))
        };
        let is_behind = revocations.is_none() || taken.as_ref().is_err_and(is_older);
        for list in identity.forgotten_lists(is_behind) {
            match client.give_back_revocations(list).await {
                Ok(()) => {
                    tracing::info!(event = "revocations_given_back", "the seed has forgotten a list of revoked keys, and has it again");
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the seed does not take back a list of revoked keys"),
            }
        }
        let forgotten = taken?;
        authorities?;
        if forgotten == 0 {
            return Ok(None);
        }
        tracing::warn!(event = "revocations_forgotten", forgotten, "the seed has forgotten keys that it revoked; they stay refused here");
        let (document, reason) = ("revocations", "forgotten_keys");
        metrics.count_refused_document(document, reason);
        Ok(Some(Input::DocumentRefused { document, reason }))
    }

    /// How many keys that were revoked before the seed's newest list does not name.
    async fn take_revocations(&self) -> anyhow::Result<usize> {
        let Parts { identity, repository, client, .. } = &self.parts;
        let envelope = client.revocations().await?;
        identity.learn_revocations(&envelope, &repository.online_key(), repository.revocations_since()).await
    }

    async fn accept_statement(&mut self, name: VersionName, digest: Digest) -> Vec<Input> {
        let now = self.parts.identity.time().now;
        let Parts { repository, token, enrolment, client, .. } = &mut self.parts;
        let kept = repository.accepted_before(token, &name, &enrolment.platform).ok().filter(|kept| kept.digest() == digest);
        let accepted = match kept {
            Some(kept) => Ok(kept),
            None => repository.statement(token, &name, &enrolment.platform, now, client.as_ref()).await,
        };
        match accepted {
            Ok(statement) => self.role(&name.app).into_iter().chain([Input::StatementAccepted(statement)]).collect(),
            Err(refused) => {
                self.etag = None;
                self.parts.metrics.count_refused_document("statement", refused.reason());
                let (reason, text) = (refused.reason(), refused.to_string());
                tracing::error!(event = "statement_refused", app = %name.app, version = name.version, reason, error = text, "the version is not acted on");
                let told = Input::DocumentRefused { document: "statement", reason };
                vec![told, Input::StatementRefused { name, refusal: refusal(&refused) }]
            }
        }
    }

    async fn report(&mut self, report: DeviceReport) -> Input {
        self.parts.progress.report_counter = report.counter;
        if let Err(error) = self.keep_progress().await {
            tracing::error!(error = format!("{error:#}"), "the report's counter cannot be kept; free disk space or check the disk");
        }
        let counter = report.counter;
        let sent = match self.parts.signer.seal(report) {
            Ok(envelope) => self.parts.client.report(&envelope).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => Input::Reported { counter },
            Err(error) => {
                tracing::warn!(event = "report_failed", error = format!("{error:#}"), "the seed did not take the report; trying again");
                Input::ReportFailed
            }
        }
    }

    pub(super) async fn keep_progress(&self) -> anyhow::Result<()> {
        let (dir, progress) = (self.parts.dir.clone(), self.parts.progress.clone());
        tokio::task::spawn_blocking(move || dir.keep_progress(&progress)).await.context("writing was interrupted")?
    }
}

/// What the machine is told of documents that were refused.
fn told(refused: &[RefusedDocument]) -> impl Iterator<Item = Input> {
    refused.iter().map(|RefusedDocument { document, refused }| Input::DocumentRefused { document, reason: refused.reason() })
}

/// A statement that says something impossible stays so; everything else may be put right, here or by the operator.
fn refusal(refused: &TrustRefused) -> Refusal {
    match refused {
        TrustRefused::Statement(_) => Refusal::Final(refused.to_string()),
        _ => Refusal::Temporary(refused.to_string()),
    }
}
