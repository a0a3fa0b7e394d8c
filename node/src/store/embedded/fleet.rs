//! Operations on tokens, devices, desired states and rollouts.
//!
//! Not here: what the documents mean; see `protocol`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::{AppName, DeviceId, OrgName};
use protocol::rollout::DeviceReport;
use protocol::statement::desired::Counter;
use protocol::time::WallTime;

use super::keys::must_exist;
use super::{EmbeddedStore, Number, name, values};
use crate::store::meta::{
    DesiredStateRecord, DeviceRecord, FleetStore, MetaError, REPORT_STEP_SECONDS, RolloutRecord, TokenRecord, TokenRefused, TokenUse,
    VersionRecord,
};
use crate::store::records::{IndexError, Range, Records, Table, key, under};
use crate::store::writer::Transaction;

#[async_trait]
impl FleetStore for EmbeddedStore {
    async fn add_token(&self, token: TokenRecord) -> Result<(), MetaError> {
        self.write(move |t| add_token(t, &token)).await
    }

    async fn check_token(&self, secret_sha256: &Digest, now: WallTime) -> Result<TokenRecord, MetaError> {
        let key = secret_sha256.to_string();
        let token: Option<TokenRecord> = self.read(move |index| index.get(Table::Token, &key)).await?;
        Ok(usable(token, now)?)
    }

    async fn enroll(&self, secret_sha256: &Digest, device: DeviceRecord, now: WallTime) -> Result<(), MetaError> {
        let secret_sha256 = *secret_sha256;
        self.write(move |t| enroll(t, &secret_sha256, &device, now)).await
    }

    async fn device(&self, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceRecord>, MetaError> {
        let key = key(&[org, id]);
        self.read(move |index| index.get(Table::Device, &key)).await
    }

    async fn devices(&self, org: &OrgName) -> Result<Vec<DeviceRecord>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| values(index.scan(Table::Device, Range::all(&prefix))?)).await
    }

    async fn put_report(&self, org: &OrgName, id: &DeviceId, report: DeviceReport, now: WallTime) -> Result<(), MetaError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(move |t| put_report(t, &org, &id, &report, now)).await
    }

    async fn reports(&self, org: &OrgName) -> Result<BTreeMap<DeviceId, DeviceReport>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| {
            let reports: Vec<(String, DeviceReport)> = index.scan(Table::Report, Range::all(&prefix))?;
            reports.into_iter().map(|(id, report)| Ok((name(&id)?, report))).collect()
        })
        .await
    }

    async fn desired_state(&self, org: &OrgName, group: &str) -> Result<Option<DesiredStateRecord>, MetaError> {
        let key = key(&[org, &group]);
        self.read(move |index| index.get(Table::DesiredState, &key)).await
    }

    async fn put_desired_state(
        &self,
        org: &OrgName,
        expected: Option<Counter>,
        state: DesiredStateRecord,
        rollout: Option<RolloutRecord>,
    ) -> Result<(), MetaError> {
        let org = org.clone();
        self.write(move |t| put_desired_state(t, &org, expected, &state, rollout.as_ref())).await
    }

    async fn rollout(&self, org: &OrgName, app: &AppName) -> Result<Option<RolloutRecord>, MetaError> {
        let prefix = under(&[org, app]);
        self.read(move |index| newest_rollout(index, &prefix)).await
    }
}

fn add_token(t: &mut Transaction<'_>, token: &TokenRecord) -> Result<(), MetaError> {
    must_exist(t, &token.org)?;
    let secret = token.secret_sha256.to_string();
    if t.contains(Table::Token, &secret)? {
        return Err(MetaError::Conflict("a token with this secret exists already; make another one".into()));
    }
    t.put(Table::Token, secret, token)
}

/// The token, if some device may use it: one that was used is still good for the device that used it.
pub(super) fn usable(token: Option<TokenRecord>, now: WallTime) -> Result<TokenRecord, TokenRefused> {
    let token = token.ok_or(TokenRefused::Unknown)?;
    if token.used && token.used_by.is_none() {
        Err(TokenRefused::Used)
    } else if token.expires <= now {
        Err(if token.used { TokenRefused::Used } else { TokenRefused::Expired })
    } else {
        Ok(token)
    }
}

fn enroll(t: &mut Transaction<'_>, secret_sha256: &Digest, device: &DeviceRecord, now: WallTime) -> Result<(), MetaError> {
    let mut token = usable(t.get(Table::Token, &secret_sha256.to_string())?, now)?;
    if token.org != device.org {
        return Err(TokenRefused::Unknown.into());
    }
    let user = TokenUse { device: device.id.clone(), key_sha256: device.key_sha256 };
    if token.used && token.used_by.as_ref() != Some(&user) {
        return Err(TokenRefused::Used.into());
    }
    let stored = key(&[&device.org, &device.id]);
    let known: Option<DeviceRecord> = t.get(Table::Device, &stored)?;
    if known.is_some_and(|known| known.key_sha256 != device.key_sha256) {
        let (org, id) = (&device.org, &device.id);
        return Err(MetaError::Conflict(format!("device {id} of {org} is enrolled with another key; choose another name for this one")));
    }
    token.used = true;
    token.used_by = Some(user);
    t.put(Table::Token, secret_sha256.to_string(), &token)?;
    t.put(Table::Device, stored, device)
}

fn put_report(t: &mut Transaction<'_>, org: &OrgName, id: &DeviceId, report: &DeviceReport, now: WallTime) -> Result<(), MetaError> {
    let stored = key(&[org, id]);
    if !t.contains(Table::Device, &stored)? {
        return Err(MetaError::Missing(format!("device {id} of {org}")));
    }
    let kept: Option<DeviceReport> = t.get(Table::Report, &stored)?;
    if let Some(kept) = kept.filter(|kept| kept.counter >= report.counter) {
        let (older, newest) = (report.counter, kept.counter);
        return Err(MetaError::Conflict(format!("report {older} of device {id} of {org} is not newer than {newest}")));
    }
    for (app, report) in &report.apps {
        let version = key(&[org, app, &Number(report.version)]);
        let reported: Option<WallTime> = t.get(Table::ReportedVersion, &version)?;
        if reported.is_none_or(|reported| reported.plus_seconds(REPORT_STEP_SECONDS) <= now) && t.contains(Table::Version, &version)? {
            t.put(Table::ReportedVersion, version, &now)?;
        }
    }
    t.put(Table::Report, stored, report)
}

fn put_desired_state(
    t: &mut Transaction<'_>,
    org: &OrgName,
    expected: Option<Counter>,
    state: &DesiredStateRecord,
    rollout: Option<&RolloutRecord>,
) -> Result<(), MetaError> {
    must_exist(t, org)?;
    let stored = key(&[org, &state.group]);
    let kept: Option<DesiredStateRecord> = t.get(Table::DesiredState, &stored)?;
    let kept = kept.map(|kept| kept.counter);
    if kept != expected || kept.is_some_and(|kept| kept >= state.counter) {
        return Err(MetaError::Conflict(format!("the desired state of group {} of {org} changed meanwhile; try again", state.group)));
    }
    let version = rollout.map(|rollout| t.get(Table::Version, &key(&[org, &rollout.app, &Number(rollout.version)]))).transpose()?;
    let version: Option<VersionRecord> = version.flatten();
    if let Some(reason) = version.and_then(|version| version.why_retired(org)) {
        return Err(MetaError::Retired(reason));
    }
    t.put(Table::DesiredState, stored, state)?;
    rollout.map_or(Ok(()), |rollout| put_rollout(t, org, rollout))
}

fn put_rollout(t: &mut Transaction<'_>, org: &OrgName, rollout: &RolloutRecord) -> Result<(), MetaError> {
    if t.contains(Table::Rollout, &rollout.id)? {
        return Err(MetaError::Conflict(format!("there is a rollout {} already; choose another id", rollout.id)));
    }
    let count = t.raw_scan(Table::AppRollout, Range::all(&under(&[org, &rollout.app])))?.len() as u64;
    t.put(Table::AppRollout, key(&[org, &rollout.app, &Number(count + 1)]), &rollout.id)?;
    t.put(Table::Rollout, rollout.id.clone(), rollout)
}

fn newest_rollout(records: &impl Records, prefix: &str) -> Result<Option<RolloutRecord>, IndexError> {
    let ids: Vec<(String, String)> = records.scan(Table::AppRollout, Range::all(prefix))?;
    ids.last().map_or(Ok(None), |(_, id)| records.get(Table::Rollout, id))
}
