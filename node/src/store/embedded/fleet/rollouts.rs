//! Desired states, and the rollouts that change them.
//!
//! Not here: what may become of a rollout; see `protocol::rollout`.

use protocol::name::{GroupName, OrgName};
use protocol::rollout::Rollout;
use protocol::statement::desired::Counter;

use crate::store::embedded::Number;
use crate::store::embedded::keys::must_exist;
use crate::store::meta::{DesiredStateRecord, MetaError, VersionRecord};
use crate::store::records::{IndexError, Range, Records, Table, key, under};
use crate::store::writer::Transaction;

pub(super) fn put_desired_state(
    t: &mut Transaction<'_>,
    org: &OrgName,
    expected: Option<Counter>,
    state: &DesiredStateRecord,
    rollouts: &[Rollout],
) -> Result<(), MetaError> {
    must_exist(t, org)?;
    let stored = key(&[org, &state.group]);
    let kept: Option<DesiredStateRecord> = t.get(Table::DesiredState, &stored)?;
    let kept = kept.map(|kept| kept.counter);
    if kept != expected || kept.is_some_and(|kept| kept >= state.counter) {
        return Err(MetaError::Conflict(format!("the desired state of group {} of {org} changed meanwhile; try again", state.group)));
    }
    t.put(Table::DesiredState, stored, state)?;
    rollouts.iter().try_for_each(|rollout| put_rollout(t, org, rollout))
}

fn put_rollout(t: &mut Transaction<'_>, org: &OrgName, rollout: &Rollout) -> Result<(), MetaError> {
    let id = rollout.id.to_string();
    let open = key(&[org, &rollout.app, &rollout.group]);
    if !t.contains(Table::Rollout, &id)? {
        let other: Option<String> = t.get(Table::OpenRollout, &open)?;
        if let Some(other) = other {
            let (app, group) = (&rollout.app, &rollout.group);
            return Err(MetaError::Conflict(format!(
                "rollout {other} of {org}/{app} began in group {group} meanwhile; look at its status"
            )));
        }
        let version: Option<VersionRecord> = t.get(Table::Version, &key(&[org, &rollout.app, &Number(rollout.version)]))?;
        if let Some(reason) = version.and_then(|version| version.why_retired(org)) {
            return Err(MetaError::Retired(reason));
        }
        let count = t.raw_scan(Table::AppRollout, Range::all(&under(&[org, &rollout.app])))?.len() as u64;
        t.put(Table::AppRollout, key(&[org, &rollout.app, &Number(count + 1)]), &id)?;
    }
    if rollout.state.is_open() {
        t.put(Table::OpenRollout, open, &id)?;
    } else if t.get::<String>(Table::OpenRollout, &open)?.as_deref() == Some(&id) {
        t.delete(Table::OpenRollout, open)?;
    }
    t.put(Table::Rollout, id, rollout)
}

pub(super) fn newest(records: &impl Records, prefix: &str, group: Option<&GroupName>) -> Result<Option<Rollout>, IndexError> {
    let ids: Vec<(String, String)> = records.scan(Table::AppRollout, Range::all(prefix))?;
    for (_, id) in ids.iter().rev() {
        let found: Option<Rollout> = records.get(Table::Rollout, id)?;
        if let Some(found) = found.filter(|found| group.is_none_or(|group| found.group == *group)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

pub(super) fn under_ids(records: &impl Records, table: Table, prefix: &str) -> Result<Vec<Rollout>, IndexError> {
    let ids: Vec<(String, String)> = records.scan(table, Range::all(prefix))?;
    let found: Result<Vec<Option<Rollout>>, IndexError> = ids.iter().map(|(_, id)| records.get(Table::Rollout, id)).collect();
    Ok(found?.into_iter().flatten().collect())
}
