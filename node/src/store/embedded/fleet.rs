//! Operations on tokens, devices and their reports.
//!
//! | module | operations on |
//! |---|---|
//! | `groups` | groups, assignments, and what decides about them |
//! | `rollouts` | desired states and rollouts |
//!
//! Not here: what the documents mean, see `protocol`; who a device is, see [`super::identity`].

mod groups;
mod rollouts;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::group::Group;
use protocol::identity::enrolment::{Admitted, TokenRefused};
use protocol::label::check_count;
use protocol::name::{AppName, DeviceId, GroupName, OrgName};
use protocol::rollout::{DeviceReport, Rollout};
use protocol::statement::desired::Counter;
use protocol::time::WallTime;

use super::{EmbeddedStore, Number, identity, values};
use crate::store::meta::{
    AssignmentRecord, DesiredStateRecord, DeviceChange, DeviceRecord, DeviceView, FleetStore, MetaError, NextDesired, REPORT_STEP_SECONDS,
    ReportRecord, RevocationListRecord, RevokedKeyRecord, TokenRecord, VersionRecord,
};
use crate::store::records::{Range, Records, Table, key, under};
use crate::store::writer::Transaction;

#[async_trait]
impl FleetStore for EmbeddedStore {
    async fn add_tokens(&self, tokens: Vec<TokenRecord>) -> Result<(), MetaError> {
        self.write(move |t| tokens.iter().try_for_each(|token| identity::add_token(t, token))).await
    }

    async fn tokens(&self, org: &OrgName) -> Result<Vec<TokenRecord>, MetaError> {
        let tokens: Vec<TokenRecord> = self.read(|index| values(index.scan(Table::Token, Range::all(""))?)).await?;
        Ok(tokens.into_iter().filter(|token| token.org == *org).collect())
    }

    async fn revoke_token(&self, org: &OrgName, secret_sha256: &Digest) -> Result<(), MetaError> {
        let (org, secret_sha256) = (org.clone(), *secret_sha256);
        self.write(move |t| identity::revoke_token(t, &org, &secret_sha256)).await
    }

    async fn check_token(&self, secret_sha256: &Digest, now: WallTime) -> Result<TokenRecord, MetaError> {
        let key = secret_sha256.to_string();
        let token: Option<TokenRecord> = self.read(move |index| index.get(Table::Token, &key)).await?;
        let token = token.ok_or(TokenRefused::Unknown)?;
        token.terms().check_time(now)?;
        Ok(token)
    }

    async fn enroll(&self, secret_sha256: &Digest, device: DeviceRecord, now: WallTime) -> Result<Admitted, MetaError> {
        let secret_sha256 = *secret_sha256;
        let admitted = Arc::new(OnceLock::new());
        let outcome = admitted.clone();
        self.write(move |t| {
            let _ = outcome.set(identity::enroll(t, &secret_sha256, &device, now)?);
            Ok(())
        })
        .await?;
        admitted.get().copied().ok_or_else(|| MetaError::Failed(anyhow::anyhow!("an enrolment was written that nobody decided")))
    }

    async fn note_leaf(&self, org: &OrgName, id: &DeviceId, key_sha256: &Digest, until: WallTime) -> Result<(), MetaError> {
        let (org, id, key_sha256) = (org.clone(), id.clone(), *key_sha256);
        self.write(move |t| identity::note_leaf(t, &org, &id, &key_sha256, until)).await
    }

    async fn revoke_keys(&self, keys: Vec<RevokedKeyRecord>) -> Result<(), MetaError> {
        self.write(move |t| keys.iter().try_for_each(|key| identity::revoke(t, key))).await
    }

    async fn revoked_keys(&self) -> Result<Vec<RevokedKeyRecord>, MetaError> {
        self.read(|index| values(index.scan(Table::RevokedKey, Range::all(""))?)).await
    }

    async fn revocation_list(&self, org: &OrgName) -> Result<Option<RevocationListRecord>, MetaError> {
        let key = key(&[org]);
        self.read(move |index| index.get(Table::RevocationList, &key)).await
    }

    async fn put_revocation_list(&self, org: &OrgName, expected: Option<Counter>, list: RevocationListRecord) -> Result<(), MetaError> {
        let org = org.clone();
        self.write(move |t| identity::put_revocation_list(t, &org, expected, &list)).await
    }

    async fn device(&self, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceRecord>, MetaError> {
        let key = key(&[org, id]);
        self.read(move |index| index.get(Table::Device, &key)).await
    }

    async fn devices_after(
        &self,
        org: &OrgName,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<(DeviceRecord, Option<ReportRecord>)>, MetaError> {
        let (org, after) = (org.clone(), after.cloned());
        self.read(move |index| groups::devices_after(index, &org, after.as_ref(), limit)).await
    }

    async fn put_report(&self, org: &OrgName, id: &DeviceId, report: DeviceReport, now: WallTime) -> Result<(), MetaError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(move |t| put_report(t, &org, &id, &report, now)).await
    }

    async fn report(&self, org: &OrgName, id: &DeviceId) -> Result<Option<ReportRecord>, MetaError> {
        let key = key(&[org, id]);
        self.read(move |index| index.get(Table::Report, &key)).await
    }

    async fn change_device(&self, org: &OrgName, id: &DeviceId, change: DeviceChange) -> Result<DeviceRecord, MetaError> {
        let stored = key(&[org, id]);
        let (owner, device) = (org.clone(), id.clone());
        self.write(move |t| change_device(t, &owner, &device, change)).await?;
        let changed = self.read(move |index| index.get(Table::Device, &stored)).await?;
        changed.ok_or_else(|| MetaError::Missing(format!("device {id} of {org}")))
    }

    async fn device_view(&self, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceView>, MetaError> {
        let (org, id) = (org.clone(), id.clone());
        self.read(move |index| groups::device_view(index, &org, &id)).await
    }

    async fn put_assignment(
        &self,
        org: &OrgName,
        id: &DeviceId,
        expected: Option<Counter>,
        assignment: AssignmentRecord,
    ) -> Result<(), MetaError> {
        let (org, id) = (org.clone(), id.clone());
        self.write(move |t| groups::put_assignment(t, &org, &id, expected, &assignment)).await
    }

    async fn pinned_versions(&self, org: &OrgName) -> Result<Vec<(AppName, u64)>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| groups::pinned_versions(index, &prefix)).await
    }

    async fn groups(&self, org: &OrgName) -> Result<Vec<Group>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| values(index.scan(Table::Group, Range::all(&prefix))?)).await
    }

    async fn add_group(&self, org: &OrgName, group: Group, next: NextDesired) -> Result<(), MetaError> {
        let org = org.clone();
        self.write(move |t| groups::add_group(t, &org, &group, &next)).await
    }

    async fn remove_group(&self, org: &OrgName, app: &AppName, name: &GroupName, next: NextDesired) -> Result<(), MetaError> {
        let (org, app, name) = (org.clone(), app.clone(), name.clone());
        self.write(move |t| groups::remove_group(t, &org, &app, &name, &next)).await
    }

    async fn desired_state(&self, org: &OrgName, group: &GroupName) -> Result<Option<DesiredStateRecord>, MetaError> {
        let key = key(&[org, group]);
        self.read(move |index| index.get(Table::DesiredState, &key)).await
    }

    async fn put_desired_state(
        &self,
        org: &OrgName,
        expected: Option<Counter>,
        state: DesiredStateRecord,
        rollouts: Vec<Rollout>,
    ) -> Result<(), MetaError> {
        let org = org.clone();
        self.write(move |t| rollouts::put_desired_state(t, &org, expected, &state, &rollouts)).await
    }

    async fn rollout(&self, org: &OrgName, app: &AppName, group: Option<&GroupName>) -> Result<Option<Rollout>, MetaError> {
        let (prefix, group) = (under(&[org, app]), group.cloned());
        self.read(move |index| rollouts::newest(index, &prefix, group.as_ref())).await
    }

    async fn rollouts(&self, org: &OrgName, app: &AppName) -> Result<Vec<Rollout>, MetaError> {
        let prefix = under(&[org, app]);
        self.read(move |index| rollouts::under_ids(index, Table::AppRollout, &prefix)).await
    }

    async fn open_rollouts(&self, org: &OrgName) -> Result<Vec<Rollout>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| rollouts::under_ids(index, Table::OpenRollout, &prefix)).await
    }
}

fn put_report(t: &mut Transaction<'_>, org: &OrgName, id: &DeviceId, report: &DeviceReport, now: WallTime) -> Result<(), MetaError> {
    let stored = key(&[org, id]);
    if !t.contains(Table::Device, &stored)? {
        return Err(MetaError::Missing(format!("device {id} of {org}")));
    }
    let kept: Option<ReportRecord> = t.get(Table::Report, &stored)?;
    if let Some(kept) = kept.as_ref().filter(|kept| kept.report.counter >= report.counter) {
        let (older, newest) = (report.counter, kept.report.counter);
        return Err(MetaError::Conflict(format!("report {older} of device {id} of {org} is not newer than {newest}")));
    }
    let versions = report.apps.iter().flat_map(|(app, said)| [Some(said.version), said.running].map(|version| (app, version)));
    for (app, version) in versions.filter_map(|(app, version)| Some((app, version?))) {
        let version = key(&[org, app, &Number(version)]);
        let reported: Option<WallTime> = t.get(Table::ReportedVersion, &version)?;
        if reported.is_none_or(|reported| reported.plus_seconds(REPORT_STEP_SECONDS) <= now) && t.contains(Table::Version, &version)? {
            t.put(Table::ReportedVersion, version, &now)?;
        }
    }
    let report = kept.iter().fold(report.clone(), |report, kept| report.following(&kept.report));
    t.put(Table::Report, stored, &ReportRecord { received: now, report })
}

fn change_device(t: &mut Transaction<'_>, org: &OrgName, id: &DeviceId, change: DeviceChange) -> Result<(), MetaError> {
    let stored = key(&[org, id]);
    let Some(mut device): Option<DeviceRecord> = t.get(Table::Device, &stored)? else {
        return Err(MetaError::Missing(format!("device {id} of {org}")));
    };
    device.labels.retain(|key, _| !change.remove_labels.contains(key));
    device.labels.extend(change.set_labels);
    check_count(&device.labels).map_err(|refused| MetaError::Conflict(refused.to_string()))?;
    for (app, version) in change.pins {
        let pin = |version: u64| key(&[org, &app, &Number(version), id]);
        if let Some(former) = device.pins.remove(&app) {
            t.delete(Table::Pin, pin(former))?;
        }
        if let Some(version) = version {
            let known: Option<VersionRecord> = t.get(Table::Version, &key(&[org, &app, &Number(version)]))?;
            let known = known.ok_or_else(|| MetaError::Missing(format!("version {version} of {org}/{app}")))?;
            known.why_retired(org).map_or(Ok(()), |reason| Err(MetaError::Retired(reason)))?;
            t.put(Table::Pin, pin(version), &true)?;
            device.pins.insert(app, version);
        }
    }
    t.put(Table::Device, stored, &device)
}
