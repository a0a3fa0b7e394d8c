//! Groups, pins and assignments.
//!
//! Not here: which group a device is in; see `protocol::group`.

use protocol::group::{Group, check_new};
use protocol::name::{AppName, DeviceId, GroupName, OrgName};
use protocol::statement::desired::Counter;

use crate::store::embedded::keys::must_exist;
use crate::store::embedded::{name, values};
use crate::store::meta::{AssignmentRecord, DeviceRecord, DeviceView, MetaError, NextDesired, ReportRecord};
use crate::store::records::{IndexError, Range, Records, Table, key, under};
use crate::store::writer::Transaction;

use super::rollouts::put_desired_state;

pub(super) fn device_view(records: &impl Records, org: &OrgName, id: &DeviceId) -> Result<Option<DeviceView>, IndexError> {
    let stored = key(&[org, id]);
    let Some(device): Option<DeviceRecord> = records.get(Table::Device, &stored)? else { return Ok(None) };
    let report: Option<ReportRecord> = records.get(Table::Report, &stored)?;
    let own_labels = report.map(|kept| kept.report.labels).unwrap_or_default();
    let assignment = records.get(Table::Assignment, &stored)?;
    let groups = values(records.scan(Table::Group, Range::all(&under(&[org])))?)?;
    Ok(Some(DeviceView { device, own_labels, assignment, groups }))
}

pub(super) fn put_assignment(
    t: &mut Transaction<'_>,
    org: &OrgName,
    id: &DeviceId,
    expected: Option<Counter>,
    assignment: &AssignmentRecord,
) -> Result<(), MetaError> {
    let stored = key(&[org, id]);
    if !t.contains(Table::Device, &stored)? {
        return Err(MetaError::Missing(format!("device {id} of {org}")));
    }
    let kept: Option<AssignmentRecord> = t.get(Table::Assignment, &stored)?;
    let kept = kept.map(|kept| kept.counter);
    if kept != expected || kept.is_some_and(|kept| kept >= assignment.counter) {
        return Err(MetaError::Conflict(format!("the assignment of device {id} of {org} changed meanwhile; try again")));
    }
    t.put(Table::Assignment, stored, assignment)
}

pub(super) fn pinned_versions(records: &impl Records, prefix: &str) -> Result<Vec<(AppName, u64)>, IndexError> {
    let mut pinned = Vec::new();
    for (rest, _) in records.raw_scan(Table::Pin, Range::all(prefix))? {
        let mut parts = rest.split(' ');
        let (Some(app), Some(version)) = (parts.next(), parts.next().and_then(|version| version.parse().ok())) else {
            return Err(IndexError(format!("holds an unreadable pin {rest:?}")));
        };
        pinned.push((name(app)?, version));
    }
    pinned.dedup();
    Ok(pinned)
}

pub(super) fn add_group(t: &mut Transaction<'_>, org: &OrgName, group: &Group, next: &NextDesired) -> Result<(), MetaError> {
    must_exist(t, org)?;
    let groups: Vec<Group> = values(t.scan(Table::Group, Range::all(&under(&[org])))?)?;
    check_new(&groups, group).map_err(|refused| MetaError::Conflict(refused.to_string()))?;
    t.put(Table::Group, key(&[org, &group.app, &group.name]), group)?;
    put_desired_state(t, org, next.expected, &next.state, &[])
}

pub(super) fn remove_group(
    t: &mut Transaction<'_>,
    org: &OrgName,
    app: &AppName,
    name: &GroupName,
    next: &NextDesired,
) -> Result<(), MetaError> {
    let stored = key(&[org, app, name]);
    if !t.contains(Table::Group, &stored)? {
        return Err(MetaError::Missing(format!("group {name} of {org}/{app}")));
    }
    if t.contains(Table::OpenRollout, &stored)? {
        let message = format!(
            "a rollout of {org}/{app} is open in group {name}; end it first, for example with \
             `hedgerow rollout abort {org}/{app} --group {name}`"
        );
        return Err(MetaError::Conflict(message));
    }
    t.delete(Table::Group, stored)?;
    put_desired_state(t, org, next.expected, &next.state, &[])
}

pub(super) fn devices_after(
    records: &impl Records,
    org: &OrgName,
    after: Option<&DeviceId>,
    limit: usize,
) -> Result<Vec<(DeviceRecord, Option<ReportRecord>)>, IndexError> {
    let prefix = under(&[org]);
    let range = Range { prefix: &prefix, after: after.map(DeviceId::as_str), limit };
    let devices: Vec<DeviceRecord> = values(records.scan(Table::Device, range)?)?;
    let with_report = |device: DeviceRecord| Ok((records.get(Table::Report, &key(&[org, &device.id]))?, device));
    let found: Result<Vec<(Option<ReportRecord>, DeviceRecord)>, IndexError> = devices.into_iter().map(with_report).collect();
    Ok(found?.into_iter().map(|(report, device)| (device, report)).collect())
}
