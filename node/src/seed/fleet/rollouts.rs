//! What operators do with rollouts.
//!
//! Not here: what may become of one; `protocol::rollout` decides.

use axum::http::StatusCode;
use protocol::name::{AppName, GroupName, OrgName, RolloutId};
use protocol::rollout::documents::before;
use protocol::rollout::judge::{Verdict, judge};
use protocol::rollout::machine::{Command, check_floor};
use protocol::rollout::{Plan, Rollout, RolloutRefused};
use protocol::statement::desired::Before;
use protocol::statement::version::VersionName;

use super::super::Seed;
use super::super::api::Refused;
use super::states::{NextState, entry};
use crate::api::{NewRollout, RolloutAction, RolloutStatus};
use crate::clock::wall_time;
use crate::store::meta::{MetaError, VersionRecord};
use crate::trust::{RepositoryFiles, StoredMetadata};

/// How often a change is made when others of the same group come in between: of those that are made at the same time one always
/// gets through.
const TRIES: usize = 16;

impl Seed {
    /// Starts a rollout: the group gets this version, step by step as planned. The same start again, while it is open, says
    /// the same again. Apps of a group that are rolled out at the same time wait for each other.
    ///
    /// # Errors
    /// When there is no such version or group, another rollout is open, or many other changes came in between.
    pub async fn start_rollout(&self, org: &OrgName, new: NewRollout) -> Result<RolloutStatus, Refused> {
        for _ in 1..TRIES {
            match self.try_start(org, new.clone()).await {
                Err(refused) if refused.is_overtaken() => {}
                answer => return answer,
            }
        }
        self.try_start(org, new).await
    }

    async fn try_start(&self, org: &OrgName, new: NewRollout) -> Result<RolloutStatus, Refused> {
        let NewRollout { app, version, group, plan } = new;
        self.check_group(org, &app, &group).await?;
        let record = self.version_to_roll_out(org, &app, version).await?;
        check_floor(&app, version, self.floor(org, &app).await?)?;
        if let Some(open) = self.open_rollouts(org, &app, Some(&group)).await?.pop() {
            if open.version == version && open.plan == plan {
                self.tell(org, &open).await?;
                return self.status_of(org, open).await;
            }
            self.end_or_refuse(org, open).await?;
        }
        let desired = self.desired(org, &group).await?;
        let before = before(desired.1.as_ref(), &app, version);
        let number = before.as_ref().map(|before| before.version);
        let rollout = Rollout::start(new_id()?, (app.clone(), version), group.clone(), plan, number, wall_time());
        let changes = vec![(app, Some(entry(&rollout, &record, before)))];
        self.sign_next(org, &group, desired, NextState { changes, rollouts: vec![rollout.clone()] }).await?;
        self.status_of(org, rollout).await
    }

    /// Pauses, resumes, aborts or takes back the newest rollout of an app in a group.
    ///
    /// # Errors
    /// When there is none, its state does not allow it, or many other changes came in between.
    pub async fn change_rollout(
        &self,
        org: &OrgName,
        app: &AppName,
        group: Option<GroupName>,
        action: RolloutAction,
    ) -> Result<RolloutStatus, Refused> {
        for _ in 1..TRIES {
            match self.try_change(org, app, group.clone(), action.clone()).await {
                Err(refused) if refused.is_overtaken() => {}
                answer => return answer,
            }
        }
        self.try_change(org, app, group, action).await
    }

    async fn try_change(
        &self,
        org: &OrgName,
        app: &AppName,
        group: Option<GroupName>,
        action: RolloutAction,
    ) -> Result<RolloutStatus, Refused> {
        let rollout = self.the_one(org, app, group).await?;
        let command = match action {
            RolloutAction::Pause => Command::Pause,
            RolloutAction::Resume => Command::Resume,
            RolloutAction::Abort { reason } => Command::Abort(reason.unwrap_or_else(|| "the operator aborted it".to_owned())),
            RolloutAction::Rollback => Command::RollBack(self.floor(org, app).await?),
        };
        let is_rollback = matches!(command, Command::RollBack(_));
        let changed = rollout.after(command, wall_time())?;
        if is_rollback {
            return self.go_back(org, changed).await;
        }
        self.tell(org, &changed).await?;
        self.status_of(org, changed).await
    }

    /// Counts the devices of an app's newest rollout.
    ///
    /// # Errors
    /// When there is none.
    pub async fn rollout_status(&self, org: &OrgName, app: &AppName, group: Option<GroupName>) -> Result<RolloutStatus, Refused> {
        let rollout = self.newest(org, app, group).await?;
        self.status_of(org, rollout).await
    }

    /// Signs what a rollout says now, and keeps its state with that.
    pub(super) async fn tell(&self, org: &OrgName, rollout: &Rollout) -> Result<(), Refused> {
        let Some(record) = self.store.version(org, &rollout.app, rollout.version).await? else {
            return Err(MetaError::Missing(format!("version {} of {org}/{}", rollout.version, rollout.app)).into());
        };
        let before = match rollout.before {
            Some(version) => self.store.version(org, &rollout.app, version).await?.filter(|version| version.retired.is_none()),
            None => None,
        };
        let before = before.map(|record| Before { version: record.version, statements: record.statements });
        let desired = self.desired(org, &rollout.group).await?;
        let changes = vec![(rollout.app.clone(), Some(entry(rollout, &record, before)))];
        self.sign_next(org, &rollout.group, desired, NextState { changes, rollouts: vec![rollout.clone()] }).await
    }

    /// Rolls out the version before, to all at once.
    async fn go_back(&self, org: &OrgName, ended: Rollout) -> Result<RolloutStatus, Refused> {
        let version = ended.before.unwrap_or_default();
        let record = self.version_to_roll_out(org, &ended.app, version).await?;
        let (app, group) = (ended.app.clone(), ended.group.clone());
        let desired = self.desired(org, &group).await?;
        let back = Rollout::start(new_id()?, (app.clone(), version), group.clone(), Plan::default(), None, wall_time());
        let changes = vec![(app, Some(entry(&back, &record, None)))];
        self.sign_next(org, &group, desired, NextState { changes, rollouts: vec![ended, back.clone()] }).await?;
        self.status_of(org, back).await
    }

    /// Ends a rollout that has nothing left to do; refuses if it has.
    async fn end_or_refuse(&self, org: &OrgName, open: Rollout) -> Result<(), Refused> {
        let count = self.count(org, &open).await?;
        let command = match judge(&open, &count) {
            _ if count.total() == 0 => Command::Abort("no device took it up, and another one began".to_owned()),
            Verdict::Complete => Command::Complete,
            Verdict::Abort(reason) => Command::Abort(reason),
            Verdict::GoOn => {
                let Rollout { id, app, version, group, .. } = &open;
                let message = format!(
                    "rollout {id} of version {version} of {org}/{app} is open in group {group}; wait until `hedgerow rollout status \
                     {org}/{app} --group {group}` says done, or end it with `hedgerow rollout abort {org}/{app} --group {group}`"
                );
                return Err(Refused::new(StatusCode::CONFLICT, "rollout_open", message));
            }
        };
        let ended = open.after(command, wall_time())?;
        self.tell(org, &ended).await
    }

    async fn check_group(&self, org: &OrgName, app: &AppName, group: &GroupName) -> Result<(), Refused> {
        let known = group.is_all() || self.store.groups(org).await?.iter().any(|known| known.app == *app && known.name == *group);
        if known {
            return Ok(());
        }
        let message = format!(
            "there is no group {group} of {org}/{app}; use --group all, or make it with `hedgerow fleet group create {group} --app {org}/{app}`"
        );
        Err(Refused::new(StatusCode::NOT_FOUND, "unknown_group", message))
    }

    async fn version_to_roll_out(&self, org: &OrgName, app: &AppName, number: u64) -> Result<VersionRecord, Refused> {
        let Some(version) = self.store.version(org, app, number).await? else {
            let name = VersionName { app: app.clone(), version: number };
            let message = format!("{org}/{} has no version {}; publish it first with `hedgerow app publish`", name.app, name.version);
            return Err(Refused::new(StatusCode::NOT_FOUND, "unknown_version", message));
        };
        match version.why_retired(org) {
            Some(reason) => Err(MetaError::Retired(reason).into()),
            None => Ok(version),
        }
    }

    /// The rollout that a change is about: without a group there must be no doubt.
    async fn the_one(&self, org: &OrgName, app: &AppName, group: Option<GroupName>) -> Result<Rollout, Refused> {
        let open = self.open_rollouts(org, app, group.as_ref()).await?;
        if open.len() > 1 {
            let groups: Vec<&str> = open.iter().map(|rollout| rollout.group.as_str()).collect();
            let message = format!("rollouts of {org}/{app} are open in the groups {}; say which with --group", groups.join(", "));
            return Err(Refused::new(StatusCode::CONFLICT, "which_group", message));
        }
        self.newest(org, app, group).await
    }

    /// The newest rollout of an app, of those that are open if there are any.
    async fn newest(&self, org: &OrgName, app: &AppName, group: Option<GroupName>) -> Result<Rollout, Refused> {
        let open = self.open_rollouts(org, app, group.as_ref()).await?;
        if let Some(rollout) = open.into_iter().max_by_key(|rollout| rollout.started) {
            return Ok(rollout);
        }
        self.store.rollout(org, app, group.as_ref()).await?.ok_or_else(|| {
            let group = group.map_or_else(|| "all".to_owned(), |group| group.to_string());
            let start = format!("hedgerow rollout start {org}/{app} --version N --group {group}");
            Refused::new(StatusCode::NOT_FOUND, "no_rollout", format!("{org}/{app} has no rollout; start one with `{start}`"))
        })
    }

    async fn open_rollouts(&self, org: &OrgName, app: &AppName, group: Option<&GroupName>) -> Result<Vec<Rollout>, Refused> {
        let mut open = self.store.open_rollouts(org).await?;
        open.retain(|rollout| rollout.app == *app && group.is_none_or(|group| rollout.group == *group));
        Ok(open)
    }

    /// The least version that the app's key allows, as its role signs it.
    async fn floor(&self, org: &OrgName, app: &AppName) -> Result<Option<u64>, Refused> {
        let source = StoredMetadata { store: self.store.as_ref(), org };
        let files = RepositoryFiles::load(&source, Some(app)).await.map_err(|refused| Refused::failed(&refused))?;
        let role = files.app_role.map(|role| serde_json::from_str::<serde_json::Value>(&role.content));
        let role = role.transpose().map_err(|error| Refused::failed(&error))?;
        Ok(role.and_then(|role| role.pointer("/signed/x-hedgerow/floor")?.as_u64()))
    }

    async fn status_of(&self, org: &OrgName, rollout: Rollout) -> Result<RolloutStatus, Refused> {
        let count = self.count(org, &rollout).await?;
        Ok(RolloutStatus {
            state: count.state_of(&rollout),
            share: rollout.share(wall_time()),
            rollout: rollout.id,
            app: rollout.app,
            version: rollout.version,
            group: rollout.group,
            devices: count.devices,
            failures: count.failures,
            started: rollout.started,
            plan: rollout.plan,
            before: rollout.before,
            reason: rollout.reason,
        })
    }
}

fn new_id() -> Result<RolloutId, Refused> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|error| Refused::failed(&error))?;
    format!("r-{}", hex::encode(id)).parse().map_err(|error: protocol::name::NameRefused| Refused::failed(&error))
}

impl From<RolloutRefused> for Refused {
    fn from(refused: RolloutRefused) -> Self {
        let code = match &refused {
            RolloutRefused::State { .. } => "rollout_state",
            RolloutRefused::NothingBefore { .. } => "nothing_before",
            RolloutRefused::BelowFloor { .. } => "below_floor",
        };
        Self::new(StatusCode::CONFLICT, code, refused.to_string())
    }
}
