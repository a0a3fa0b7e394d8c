//! Grants that somebody on this machine applies, and those in force from before.
//!
//! What a grant names must be here already: its statement, accepted earlier and proved again from disk, and the role of its app,
//! whose keys must have signed it. Its content is fetched as that of any version, from peers if need be.
//!
//! Not here: which grants count, and until when; see [`protocol::agent::documents`] and [`protocol::statement::grant`].

use anyhow::Context;
use protocol::agent::Input;
use protocol::agent::documents::{Granted, Offer, Reader, Taken};
use protocol::name::AppName;
use protocol::statement::grant::{AcceptedGrant, GrantRefused, app_named};
use protocol::statement::version::{AcceptedStatement, VersionName};
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Parts;
use super::clerk::Clerk;

/// A grant that is to be applied.
#[derive(Debug)]
pub struct Apply {
    /// As signed.
    pub envelope: String,
    /// Where it is told what came of it: why it does not count, for people.
    pub tell: oneshot::Sender<Result<GrantApplied, String>>,
}

/// A grant that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantApplied {
    /// The app.
    pub app: AppName,
    /// The version that the device shall have.
    pub version: u64,
    /// Until when it may be started, in seconds since 1970, unless the seed is heard before.
    pub not_after: WallTime,
}

impl Clerk {
    /// Applies a grant, and says what came of it.
    pub(super) async fn apply(&mut self, Apply { envelope, tell }: Apply) -> Vec<Input> {
        let (said, inputs) = match self.take_grant(envelope).await {
            Ok((applied, inputs)) => (Ok(applied), inputs),
            Err(error) => {
                let reason = error.downcast_ref().map_or("not_taken", GrantRefused::reason);
                let error = format!("{error:#}");
                tracing::error!(event = "grant_refused", reason, error, "the grant is not acted on");
                self.parts.metrics.count_refused_document("grant", reason);
                (Err(error), vec![Input::DocumentRefused { document: "grant", reason }])
            }
        };
        let _ = tell.send(said);
        inputs
    }

    async fn take_grant(&mut self, envelope: String) -> anyhow::Result<(GrantApplied, Vec<Input>)> {
        let app = app_named(envelope.as_bytes())?;
        let (accepted, _) = self.check_grant(&app, &envelope)?;
        let before = self.parts.progress.clone();
        self.parts.progress.kept().keep_grant(&accepted, envelope);
        if let Err(error) = self.keep_progress().await {
            self.parts.progress = before;
            return Err(error.context("the grant cannot be kept, so it is not acted on; free disk space or check the disk"));
        }
        let (version, not_after) = (accepted.grant().version, accepted.grant().not_after);
        tracing::info!(event = "grant_applied", %app, version, until = not_after.as_unix_seconds(), "the grant counts until the seed is heard");
        Ok((GrantApplied { app, version, not_after }, self.granted()))
    }

    /// The grant, and the statement of its version, if both count here.
    fn check_grant(&mut self, app: &AppName, envelope: &str) -> anyhow::Result<(AcceptedGrant, AcceptedStatement)> {
        let Parts { repository, progress, enrolment, identity, token, .. } = &mut self.parts;
        let authority =
            repository.grant_authority(app).with_context(|| format!("this device knows nothing of {app}, so it cannot check the grant"))?;
        let (online, now) = (repository.online_key(), identity.time().now);
        let reader = Reader { online: &online, device: &enrolment.device, now };
        let accepted = progress.kept().accept_grant(reader, &authority, envelope)?;
        let name = VersionName { app: app.clone(), version: accepted.grant().version };
        let statement = repository.accepted_before(token, &name, &enrolment.platform);
        let missing = || {
            format!("version {} of {app} was never announced to this device, so it cannot have it before it reaches its seed", name.version)
        };
        Ok((accepted, statement.with_context(missing)?))
    }

    /// What the machine is told of the grants in force; nothing if there is none.
    pub(super) fn granted(&mut self) -> Vec<Input> {
        let kept: Vec<(AppName, String)> =
            self.parts.progress.grants.iter().filter_map(|(app, kept)| Some((app.clone(), kept.envelope.clone()?))).collect();
        let (mut inputs, mut granted) = (Vec::new(), Vec::new());
        for (app, envelope) in kept {
            match self.check_grant(&app, &envelope) {
                Ok((grant, statement)) => {
                    inputs.extend(self.role(&app));
                    granted.push(Granted { grant, statement: statement.digest() });
                }
                Err(error) => tracing::warn!(%app, error = format!("{error:#}"), "a grant does not count any more"),
            }
        }
        if !granted.is_empty() {
            inputs.push(Input::Granted(granted));
        }
        inputs
    }

    /// The seed was heard: the documents count again, and no grant.
    pub(super) async fn end_grants(&mut self) -> Vec<Input> {
        if !self.parts.progress.kept().end_grants() {
            return Vec::new();
        }
        if let Err(error) = self.keep_progress().await {
            tracing::error!(error = format!("{error:#}"), "that grants have ended cannot be kept; free disk space or check the disk");
        }
        tracing::info!(event = "grants_ended", "the seed was heard; what it says counts again, and no grant");
        let Taken { state, .. } = self.take_documents(Offer::default());
        [Input::Granted(Vec::new())].into_iter().chain(state).collect()
    }
}
