//! What a device is told when it polls: its assignment and the desired states of its groups, signed anew only when something
//! changed, grew old, or the epoch was raised.
//!
//! Nothing here looks at other devices, so that a poll costs the same in a fleet of any size.
//!
//! Not here: which group a device is in; `protocol::group` decides.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use protocol::group::groups_of;
use protocol::label::effective;
use protocol::name::{AppName, DeviceId, GroupName, OrgName};
use protocol::statement::assignment::{Assigned, Assignment, FORMAT, Pin};
use protocol::statement::desired::Counter;

use super::super::Seed;
use super::super::api::Refused;
use super::states::DESIRED_SECONDS;
use crate::clock::wall_time;
use crate::store::meta::{AssignmentRecord, DeviceView, MetaError};

/// How often it is tried again when another poll of the same device came in between.
const TRIES: usize = 3;

/// The epoch that each organisation's root delegates, as of a timestamp: a new root comes with a new timestamp.
#[derive(Debug, Default)]
pub struct Epochs(Mutex<BTreeMap<OrgName, (String, u64)>>);

impl Epochs {
    fn known(&self, org: &OrgName, timestamp: &str) -> Option<u64> {
        let epochs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.get(org).filter(|(of, _)| of == timestamp).map(|(_, epoch)| *epoch)
    }

    fn note(&self, org: &OrgName, timestamp: String, epoch: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(org.clone(), (timestamp, epoch));
    }
}

/// The signed documents for one device.
#[derive(Clone, Debug)]
pub struct DeviceDocuments {
    /// Its assignment.
    pub assignment: String,
    /// The desired states of the groups that it names.
    pub states: Vec<String>,
}

impl Seed {
    /// The epoch that the organisation's root delegates to the online key.
    pub(in crate::seed) async fn current_epoch(&self, org: &OrgName) -> Result<u64, Refused> {
        let timestamp = self.store.tuf_file(org, "timestamp.json").await?.map(|file| file.content).unwrap_or_default();
        if let Some(epoch) = self.epochs.known(org, &timestamp) {
            return Ok(epoch);
        }
        let root = self.current_root(org).await.map_err(|error| Refused::failed(error.as_ref()))?;
        let root: serde_json::Value = serde_json::from_str(&root).map_err(|error| Refused::failed(&error))?;
        let epoch = root.pointer("/signed/x-hedgerow/online/epoch").and_then(serde_json::Value::as_u64);
        let missing = || Refused::failed(&std::io::Error::other("the root delegates no online key"));
        let epoch = epoch.ok_or_else(missing)?;
        self.epochs.note(org, timestamp, epoch);
        Ok(epoch)
    }

    /// What a device is to be told.
    ///
    /// # Errors
    /// When it is not known, or the store fails.
    pub async fn documents_for(&self, org: &OrgName, device: &DeviceId) -> Result<DeviceDocuments, Refused> {
        let epoch = self.current_epoch(org).await?;
        let mut assignment = self.assignment_for(org, device, epoch).await;
        for _ in 1..TRIES {
            match &assignment {
                Err(refused) if refused.is_conflict() => assignment = self.assignment_for(org, device, epoch).await,
                _ => break,
            }
        }
        let (assignment, groups) = assignment?;
        let mut states = Vec::with_capacity(groups.len());
        for group in groups {
            let Some(mut kept) = self.store.desired_state(org, &group).await? else { continue };
            if kept.counter.epoch < epoch {
                match self.sign_again(org, &group).await {
                    Err(refused) if !refused.is_conflict() => return Err(refused),
                    _ => {}
                }
                let Some(signed) = self.store.desired_state(org, &group).await? else { continue };
                kept = signed;
            }
            states.push(kept.envelope);
        }
        Ok(DeviceDocuments { assignment, states })
    }

    /// The device's assignment in its envelope, and the groups that it names.
    async fn assignment_for(&self, org: &OrgName, device: &DeviceId, epoch: u64) -> Result<(String, Vec<GroupName>), Refused> {
        let missing = || MetaError::Missing(format!("device {device} of {org}"));
        let view = self.store.device_view(org, device).await?.ok_or_else(missing)?;
        let apps = self.assigned(org, &view).await?;
        let now = wall_time();
        let kept = view.assignment;
        let counter = kept.as_ref().map(|kept| kept.counter);
        let fresh =
            kept.filter(|kept| kept.apps == apps && kept.counter.epoch >= epoch && kept.expires > now.plus_seconds(DESIRED_SECONDS / 2));
        let assignment = Assignment {
            format: FORMAT,
            org: org.clone(),
            device: device.clone(),
            counter: Counter::after(counter, epoch),
            expires: now.plus_seconds(DESIRED_SECONDS),
            otherwise: GroupName::all(),
            apps,
        };
        let groups = assignment.groups().into_iter().cloned().collect();
        if let Some(fresh) = fresh {
            return Ok((fresh.envelope, groups));
        }
        let envelope = self.signer.sign_assignment(&assignment);
        let Assignment { counter: next, expires, apps, .. } = assignment;
        let record = AssignmentRecord { counter: next, expires, apps, envelope: envelope.clone() };
        self.store.put_assignment(org, device, counter, record).await?;
        Ok((envelope, groups))
    }

    async fn assigned(&self, org: &OrgName, view: &DeviceView) -> Result<BTreeMap<AppName, Assigned>, Refused> {
        let labels = effective(&view.device.labels, &view.own_labels);
        let mut apps: BTreeMap<AppName, Assigned> =
            groups_of(&view.groups, &labels).into_iter().map(|(app, group)| (app, Assigned::Group(group))).collect();
        for (app, version) in &view.device.pins {
            let missing = || MetaError::Missing(format!("version {version} of {org}/{app}"));
            let statements = self.store.version(org, app, *version).await?.ok_or_else(missing)?.statements;
            apps.insert(app.clone(), Assigned::Pin(Pin { version: *version, statements }));
        }
        Ok(apps)
    }
}
