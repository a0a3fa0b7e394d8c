//! Tokens, enrolment, desired states and rollouts.
//!
//! Not here: routes; see [`super::api`] and [`super::devices`].

use anyhow::Context;
use axum::http::StatusCode;
use protocol::name::{AppName, OrgName};
use protocol::rollout;
use protocol::statement::desired::{DesiredApp, GROUP_ALL};
use protocol::statement::version::VersionName;

use super::Seed;
use super::api::Refused;
use crate::api::{EnrolRequest, Enrolled, NewRollout, NewToken, RolloutStatus, TokenMade};
use crate::clock::wall_time;
use crate::device::enroll::Token;
use crate::store::meta::{DesiredStateRecord, DeviceRecord, MetaError, RolloutRecord, TokenRecord};
use crate::transport::identity::DeviceIdentity;
use crate::trust::{RepositoryFiles, StoredMetadata};

/// The longest life of a token, in seconds: a token is a secret that lies around until it is used.
const TOKEN_SECONDS_MAX: u64 = 30 * 86_400;
/// A desired state is acted on for this long without being renewed, in seconds: the longest that a taken seed can freeze a
/// fleet unseen.
const DESIRED_SECONDS: u64 = 14 * 86_400;

impl Seed {
    /// Adds a token whose secret only the operator knows.
    ///
    /// # Errors
    /// When its life is longer than allowed.
    pub async fn add_token(&self, org: &OrgName, new: NewToken) -> Result<TokenMade, Refused> {
        if new.lifetime_seconds > TOKEN_SECONDS_MAX {
            let message = format!("a token lives at most {TOKEN_SECONDS_MAX} seconds, not {}", new.lifetime_seconds);
            return Err(Refused::new(StatusCode::BAD_REQUEST, "lifetime_too_long", message));
        }
        let expires = wall_time().plus_seconds(new.lifetime_seconds);
        let record = TokenRecord { secret_sha256: new.secret_sha256, org: org.clone(), expires, used: false, used_by: None };
        self.store.add_token(record).await?;
        Ok(TokenMade { expires })
    }

    /// Enrols a device: the token is used up and the device known, or neither. A device that did not get the answer asks
    /// again, with the same key.
    ///
    /// # Errors
    /// When the token or the certificate request is refused.
    pub async fn enroll(&self, request: EnrolRequest) -> Result<Enrolled, Refused> {
        let now = wall_time();
        let secret_sha256 = Token::secret_sha256(&request.secret);
        let org = self.store.check_token(&secret_sha256, now).await?.org;
        let leaf = self
            .authority
            .issue_leaf(&request.request, &org, &request.device)
            .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, "bad_request", format!("{error:#}")))?;
        let key_sha256 = protocol::digest::Digest::Sha256(leaf.identity.node.0);
        let record = DeviceRecord { org: org.clone(), id: request.device.clone(), platform: request.platform, key_sha256, enrolled: now };
        let root = self.current_root(&org).await.map_err(|error| Refused::failed(error.as_ref()))?;
        self.store.enroll(&secret_sha256, record, now).await?;
        self.metrics.count_enrolment();
        tracing::info!(event = "device_enrolled", %org, device = %request.device, "device enrolled");
        Ok(Enrolled { org, device: request.device, certificate: leaf.pem, authority: self.authority.pem().to_owned(), root })
    }

    /// Whether the store knows the device under the key that its certificate names.
    ///
    /// # Errors
    /// When it does not: the device has to enrol anew.
    pub async fn check_device(&self, identity: &DeviceIdentity) -> Result<DeviceRecord, Refused> {
        let known = self.store.device(&identity.org, &identity.device).await?;
        known.filter(|known| known.key_sha256.as_bytes() == identity.node.0).ok_or_else(|| {
            let message = "this device is not known to the seed; enrol it anew with a token from `hedgerow fleet token`";
            Refused::new(StatusCode::FORBIDDEN, "unknown_device", message)
        })
    }

    /// Starts a rollout: the group shall have this version from now on.
    ///
    /// # Errors
    /// When the version is not published, or another change came in between.
    pub async fn start_rollout(&self, org: &OrgName, new: NewRollout) -> Result<RolloutStatus, Refused> {
        if new.group != GROUP_ALL {
            let message = format!("there is no group {:?}; use --group {GROUP_ALL}", new.group);
            return Err(Refused::new(StatusCode::NOT_FOUND, "unknown_group", message));
        }
        let Some(version) = self.store.version(org, &new.app, new.version).await? else {
            let name = VersionName { app: new.app.clone(), version: new.version };
            let message = format!("{org}/{} has no version {}; publish it first with `hedgerow app publish`", name.app, name.version);
            return Err(Refused::new(StatusCode::NOT_FOUND, "unknown_version", message));
        };
        if let Some(reason) = version.why_retired(org) {
            return Err(MetaError::Retired(reason).into());
        }
        let rollout = RolloutRecord {
            id: rollout_id().map_err(|error| Refused::failed(&error))?,
            app: new.app.clone(),
            version: new.version,
            group: new.group.clone(),
            started: wall_time(),
        };
        let desired = DesiredApp { version: new.version, rollout: rollout.id.clone(), statements: version.statements };
        self.change_desired_state(org, &new.group, Some((new.app.clone(), desired)), Some(rollout)).await?;
        self.rollout_status(org, &new.app).await
    }

    /// Counts the devices of an app's newest rollout.
    ///
    /// # Errors
    /// When there is none.
    pub async fn rollout_status(&self, org: &OrgName, app: &AppName) -> Result<RolloutStatus, Refused> {
        let Some(rollout) = self.store.rollout(org, app).await? else {
            let message =
                format!("{org}/{app} has no rollout; start one with `hedgerow rollout start {org}/{app} --version N --group all`");
            return Err(Refused::new(StatusCode::NOT_FOUND, "no_rollout", message));
        };
        let (devices, reports) = (self.store.devices(org).await?, self.store.reports(org).await?);
        let reports = || devices.iter().map(|device| reports.get(&device.id));
        let count = rollout::count(app, rollout.version, reports());
        let failures = rollout::failures(app, rollout.version, reports().flatten());
        Ok(RolloutStatus {
            rollout: rollout.id,
            app: rollout.app,
            version: rollout.version,
            group: rollout.group,
            state: count.state,
            devices: count.devices,
            failures,
        })
    }

    async fn change_desired_state(
        &self,
        org: &OrgName,
        group: &str,
        change: Option<(AppName, DesiredApp)>,
        rollout: Option<RolloutRecord>,
    ) -> Result<(), Refused> {
        let kept = self.store.desired_state(org, group).await?;
        let previous = kept.as_ref().map(DesiredStateRecord::state).transpose().map_err(|error| Refused::failed(error.as_ref()))?;
        let epoch = self.current_epoch(org).await.map_err(|error| Refused::failed(error.as_ref()))?;
        let expires = wall_time().plus_seconds(DESIRED_SECONDS);
        let next = rollout::next_desired_state(previous.as_ref(), org, group, epoch, expires, change);
        let envelope = self.signer.sign_desired_state(&next);
        let record = DesiredStateRecord { group: group.to_owned(), counter: next.counter, expires, envelope };
        self.store.put_desired_state(org, kept.map(|kept| kept.counter), record, rollout).await?;
        Ok(())
    }

    async fn current_root(&self, org: &OrgName) -> anyhow::Result<String> {
        let source = StoredMetadata { store: self.store.as_ref(), org };
        Ok(RepositoryFiles::load(&source, None).await?.root.content)
    }

    async fn current_epoch(&self, org: &OrgName) -> anyhow::Result<u64> {
        let root: serde_json::Value = serde_json::from_str(&self.current_root(org).await?).context("the root metadata is broken")?;
        root.pointer("/signed/x-hedgerow/online/epoch").and_then(serde_json::Value::as_u64).context("the root delegates no online key")
    }
}

/// Signs a group's desired state again when half of its life is over.
///
/// # Errors
/// When the store fails.
pub async fn renew_desired_state(seed: &Seed, org: &OrgName, group: &str) -> anyhow::Result<()> {
    let Some(kept) = seed.store.desired_state(org, group).await? else { return Ok(()) };
    if kept.expires > wall_time().plus_seconds(DESIRED_SECONDS / 2) {
        return Ok(());
    }
    match seed.change_desired_state(org, group, None, None).await {
        Ok(()) => Ok(()),
        Err(refused) if refused.is_conflict() => Ok(()),
        Err(refused) => anyhow::bail!("{refused}"),
    }
}

fn rollout_id() -> Result<String, getrandom::Error> {
    let mut id = [0; 8];
    getrandom::fill(&mut id)?;
    Ok(format!("r-{}", hex::encode(id)))
}

impl From<MetaError> for Refused {
    fn from(error: MetaError) -> Self {
        let status = match &error {
            MetaError::Conflict(_) => StatusCode::CONFLICT,
            MetaError::Missing(_) => StatusCode::NOT_FOUND,
            MetaError::Retired(_) => StatusCode::GONE,
            MetaError::Immutable(_) | MetaError::Token(_) => StatusCode::FORBIDDEN,
            MetaError::Failed(_) => return Self::failed(&error),
        };
        let code = match &error {
            MetaError::Conflict(_) => "conflict",
            MetaError::Missing(_) => "missing",
            MetaError::Immutable(_) => "denied",
            MetaError::Retired(_) => "retired",
            MetaError::Token(_) => "token_refused",
            MetaError::Failed(_) => "failed",
        };
        Self::new(status, code, error.to_string())
    }
}
