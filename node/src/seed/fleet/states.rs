//! Desired states: the next one of a group, and renewal of those that grow old.
//!
//! Not here: what changes; see [`super::rollouts`].

use protocol::name::{AppName, GroupName, OrgName};
use protocol::rollout::Rollout;
use protocol::rollout::documents::next_desired_state;
use protocol::statement::desired::{Before, DesiredApp, DesiredState};
use protocol::statement::renewal::{DOCUMENT_SECONDS, is_current};

use super::super::Seed;
use super::super::api::Refused;
use crate::clock::wall_time;
use crate::store::meta::{DesiredStateRecord, NextDesired, VersionRecord};

/// What is to become of a group's desired state.
#[derive(Debug, Default)]
pub(super) struct NextState {
    /// Apps that get another entry, or go.
    pub(super) changes: Vec<(AppName, Option<DesiredApp>)>,
    /// Rollouts that begin or change with it.
    pub(super) rollouts: Vec<Rollout>,
}

impl Seed {
    /// What a group shall have now, and the record that says so.
    pub(super) async fn desired(
        &self,
        org: &OrgName,
        group: &GroupName,
    ) -> Result<(Option<DesiredStateRecord>, Option<DesiredState>), Refused> {
        let kept = self.store.desired_state(org, group).await?;
        let state = kept.as_ref().map(DesiredStateRecord::state).transpose().map_err(|error| Refused::failed(error.as_ref()))?;
        Ok((kept, state))
    }

    /// Signs the desired state that follows the one in `kept`, and keeps it with its rollouts.
    pub(super) async fn sign_next(
        &self,
        org: &OrgName,
        group: &GroupName,
        (kept, previous): (Option<DesiredStateRecord>, Option<DesiredState>),
        next: NextState,
    ) -> Result<(), Refused> {
        let NextDesired { expected, state } = self.signed_next(org, group, (kept, previous), next.changes).await?;
        self.store.put_desired_state(org, expected, state, next.rollouts).await?;
        Ok(())
    }

    /// The desired state that follows the one in `kept`, to be kept in its place.
    pub(super) async fn signed_next(
        &self,
        org: &OrgName,
        group: &GroupName,
        (kept, previous): (Option<DesiredStateRecord>, Option<DesiredState>),
        changes: Vec<(AppName, Option<DesiredApp>)>,
    ) -> Result<NextDesired, Refused> {
        let epoch = self.delegation(org).await?.epoch;
        let expires = wall_time().plus_seconds(DOCUMENT_SECONDS);
        let state = next_desired_state(previous.as_ref(), org, group, epoch, expires, changes);
        let envelope = self.signer.sign_desired_state(&state);
        let signed_by = self.signer.keyid().to_owned();
        let record = DesiredStateRecord { group: group.clone(), counter: state.counter, expires, signed_by, envelope };
        Ok(NextDesired { expected: kept.map(|kept| kept.counter), state: record })
    }

    /// The same state of a group, signed again.
    pub(super) async fn sign_again(&self, org: &OrgName, group: &GroupName) -> Result<(), Refused> {
        let desired = self.desired(org, group).await?;
        self.sign_next(org, group, desired, NextState::default()).await
    }
}

/// What a rollout says in the desired state of its group; `before` is what devices have that may not start it.
pub(super) fn entry(rollout: &Rollout, version: &VersionRecord, before: Option<Before>) -> DesiredApp {
    DesiredApp {
        version: rollout.version,
        rollout: rollout.id.clone(),
        statements: version.statements.clone(),
        activation: rollout.activation(wall_time()),
        before: before.filter(|_| rollout.tells_before()),
    }
}

/// Signs an organisation's desired states again when they are due, or when a new root raised the epoch or names another key.
///
/// # Errors
/// When the store fails.
pub async fn renew_desired_states(seed: &Seed, org: &OrgName) -> anyhow::Result<()> {
    let delegation = seed.delegation(org).await.map_err(|refused| anyhow::anyhow!("{refused}"))?;
    for kept in seed.store.desired_states(org).await? {
        if is_current(kept.signed(), &delegation, seed.signer.keyid(), wall_time()) {
            continue;
        }
        match seed.sign_again(org, &kept.group).await {
            Ok(()) => {}
            Err(refused) if refused.is_conflict() => {}
            Err(refused) => anyhow::bail!("{refused}"),
        }
    }
    Ok(())
}
