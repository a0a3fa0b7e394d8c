//! Operations on organisations, versions, tokens, devices and rollouts.
//!
//! Not here: signatures; see `node::trust`.

use protocol::digest::Digest;
use protocol::name::{DeviceId, OrgName};
use protocol::rollout::DeviceReport;
use protocol::statement::desired::Counter;
use protocol::time::WallTime;

use super::Number;
use super::repositories::Size;
use crate::store::meta::{
    AccessKeyRecord, DesiredStateRecord, DeviceRecord, MetaError, RolloutRecord, TokenRecord, TokenRefused, TokenUse, TufFile,
    VersionRecord,
};
use crate::store::records::{IndexError, Range, Records, Table, key, under};
use crate::store::writer::Transaction;

pub(super) fn create_org(t: &mut Transaction<'_>, org: &OrgName, access_key: &AccessKeyRecord, files: &[TufFile]) -> Result<(), MetaError> {
    if t.contains(Table::Org, org.as_str())? {
        return Err(MetaError::Conflict(format!("organisation {org} exists already; choose another name")));
    }
    if access_key.org != *org {
        return Err(MetaError::Conflict(format!("the access key is of organisation {}, not {org}", access_key.org)));
    }
    if t.contains(Table::AccessKey, &access_key.id)? {
        return Err(MetaError::Conflict("the access key's id is taken; make another key".into()));
    }
    t.put(Table::Org, org.to_string(), &true)?;
    t.put(Table::AccessKey, access_key.id.clone(), access_key)?;
    put_files(t, org, files)
}

fn must_exist(t: &Transaction<'_>, org: &OrgName) -> Result<(), MetaError> {
    if t.contains(Table::Org, org.as_str())? { Ok(()) } else { Err(MetaError::Missing(format!("organisation {org}"))) }
}

fn put_files(t: &mut Transaction<'_>, org: &OrgName, files: &[TufFile]) -> Result<(), MetaError> {
    files.iter().try_for_each(|file| t.put(Table::TufFile, key(&[org, &file.name]), file))
}

pub(super) fn put_tuf_files(t: &mut Transaction<'_>, org: &OrgName, expected: &TufFile, files: &[TufFile]) -> Result<(), MetaError> {
    const TIMESTAMP: &str = "timestamp.json";
    must_exist(t, org)?;
    let kept: Option<TufFile> = t.get(Table::TufFile, &key(&[org, &TIMESTAMP]))?;
    if kept.as_ref() != Some(expected) {
        return Err(MetaError::Conflict(format!("the trust metadata of {org} changed meanwhile; fetch it and try again")));
    }
    put_files(t, org, files)
}

pub(super) fn publish_version(
    t: &mut Transaction<'_>,
    org: &OrgName,
    version: &VersionRecord,
    expected: &TufFile,
    files: &[TufFile],
) -> Result<(), MetaError> {
    let VersionRecord { app, version: number, .. } = version;
    put_tuf_files(t, org, expected, files)?;
    let exists = |number: u64| t.contains(Table::Version, &key(&[org, app, &Number(number)]));
    let next = *number == 1 || (*number > 1 && exists(number - 1)?);
    if !next || exists(*number)? {
        return Err(MetaError::Conflict(format!(
            "version {number} is not the next one of {org}/{app}; look at its versions and try again"
        )));
    }
    for (platform, statement) in &version.statements {
        let holder = format!("statement of {app} {number} {platform}");
        t.put(Table::Holding, key(&[org, statement, &holder]), &Size::OfFile)?;
    }
    t.put(Table::Version, key(&[org, app, &Number(*number)]), version)
}

pub(super) fn add_token(t: &mut Transaction<'_>, token: &TokenRecord) -> Result<(), MetaError> {
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

pub(super) fn enroll(t: &mut Transaction<'_>, secret_sha256: &Digest, device: &DeviceRecord, now: WallTime) -> Result<(), MetaError> {
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

pub(super) fn put_report(t: &mut Transaction<'_>, org: &OrgName, id: &DeviceId, report: &DeviceReport) -> Result<(), MetaError> {
    let stored = key(&[org, id]);
    if !t.contains(Table::Device, &stored)? {
        return Err(MetaError::Missing(format!("device {id} of {org}")));
    }
    let kept: Option<DeviceReport> = t.get(Table::Report, &stored)?;
    if let Some(kept) = kept.filter(|kept| kept.counter >= report.counter) {
        let (older, newest) = (report.counter, kept.counter);
        return Err(MetaError::Conflict(format!("report {older} of device {id} of {org} is not newer than {newest}")));
    }
    t.put(Table::Report, stored, report)
}

pub(super) fn put_desired_state(
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

pub(super) fn newest_rollout(records: &impl Records, prefix: &str) -> Result<Option<RolloutRecord>, IndexError> {
    let ids: Vec<(String, String)> = records.scan(Table::AppRollout, Range::all(prefix))?;
    ids.last().map_or(Ok(None), |(_, id)| records.get(Table::Rollout, id))
}
