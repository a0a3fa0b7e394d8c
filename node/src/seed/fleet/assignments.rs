//! What a device is told when it polls: its assignment and the desired states of its groups, signed anew only when something
//! changed, grew old, or a new root raised the epoch or names another key.
//!
//! Nothing here looks at other devices, so that a poll costs the same in a fleet of any size.
//!
//! Not here: which group a device is in; `protocol::group` decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use protocol::gossip::message::{GROUPS_MAX, SiteHeads};
use protocol::group::groups_of;
use protocol::label::effective;
use protocol::name::{AppName, DeviceId, GroupName, OrgName};
use protocol::statement::assignment::{Assigned, Assignment, FORMAT, Pin};
use protocol::statement::desired::Counter;
use protocol::statement::renewal::{DOCUMENT_SECONDS, Delegation, is_current};

use super::super::Seed;
use super::super::api::Refused;
use crate::clock::wall_time;
use crate::store::meta::{AssignmentRecord, DeviceView, MetaError};

/// How often it is tried again when another poll of the same device came in between.
const TRIES: usize = 3;

/// What each organisation's root delegates to the online key, as of a timestamp: a new root comes with a new timestamp.
#[derive(Debug, Default)]
pub struct Delegations(Mutex<BTreeMap<OrgName, (String, Delegation)>>);

impl Delegations {
    fn known(&self, org: &OrgName, timestamp: &str) -> Option<Delegation> {
        let delegations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        delegations.get(org).filter(|(of, _)| of == timestamp).map(|(_, delegation)| delegation.clone())
    }

    fn note(&self, org: &OrgName, timestamp: String, delegation: Delegation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(org.clone(), (timestamp, delegation));
    }
}

/// The signed documents for one device.
#[derive(Clone, Debug)]
pub struct DeviceDocuments {
    /// Its assignment.
    pub assignment: String,
    /// The desired states of the groups that it names.
    pub states: Vec<String>,
    /// The counter of the assignment.
    counter: Counter,
    /// The counters of the desired states.
    counters: BTreeMap<GroupName, Counter>,
}

impl Seed {
    /// What the organisation's root delegates to the online key.
    pub(in crate::seed) async fn delegation(&self, org: &OrgName) -> Result<Delegation, Refused> {
        let timestamp = self.store.tuf_file(org, "timestamp.json").await?.map(|file| file.content).unwrap_or_default();
        if let Some(delegation) = self.delegations.known(org, &timestamp) {
            return Ok(delegation);
        }
        let root = self.current_root(org).await.map_err(|error| Refused::failed(error.as_ref()))?;
        let root: serde_json::Value = serde_json::from_str(&root).map_err(|error| Refused::failed(&error))?;
        let online = root.pointer("/signed/x-hedgerow/online");
        let delegated = |online: &serde_json::Value| {
            Some(Delegation { epoch: online.get("epoch")?.as_u64()?, keyid: online.get("keyid")?.as_str()?.to_owned() })
        };
        let missing = || Refused::failed(&std::io::Error::other("the root delegates no online key"));
        let delegation = online.and_then(delegated).ok_or_else(missing)?;
        self.delegations.note(org, timestamp, delegation.clone());
        Ok(delegation)
    }

    /// What a device is to be told.
    ///
    /// # Errors
    /// When it is not known, or the store fails.
    pub async fn documents_for(&self, org: &OrgName, device: &DeviceId) -> Result<DeviceDocuments, Refused> {
        let delegation = self.delegation(org).await?;
        let mut assignment = self.assignment_for(org, device, &delegation).await;
        for _ in 1..TRIES {
            match &assignment {
                Err(refused) if refused.is_conflict() => assignment = self.assignment_for(org, device, &delegation).await,
                _ => break,
            }
        }
        let (assignment, counter, groups) = assignment?;
        let (mut states, mut counters) = (Vec::with_capacity(groups.len()), BTreeMap::new());
        for group in groups {
            let Some(mut kept) = self.store.desired_state(org, &group).await? else { continue };
            if !is_current(kept.signed(), &delegation, self.signer.keyid(), wall_time()) {
                match self.sign_again(org, &group).await {
                    Err(refused) if !refused.is_conflict() => return Err(refused),
                    _ => {}
                }
                let Some(signed) = self.store.desired_state(org, &group).await? else { continue };
                kept = signed;
            }
            states.push(kept.envelope);
            counters.insert(group, kept.counter);
        }
        Ok(DeviceDocuments { assignment, states, counter, counters })
    }

    /// How far the documents of a device that asks, and of others of its organisation, are. A device that is not known, or whose
    /// groups no longer fit a message, is left out: it asks for itself.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn heads_of(
        &self,
        org: &OrgName,
        (device, documents): (&DeviceId, &DeviceDocuments),
        others: BTreeSet<DeviceId>,
    ) -> Result<SiteHeads, Refused> {
        let mut heads = SiteHeads::default();
        heads.assignments.insert(device.clone(), documents.counter);
        heads.states.extend(documents.counters.clone());
        for other in others {
            let found = match self.documents_for(org, &other).await {
                Ok(found) => found,
                Err(refused) if refused.is_missing() || refused.is_conflict() => continue,
                Err(refused) => return Err(refused),
            };
            let new = found.counters.keys().filter(|group| !heads.states.contains_key(*group)).count();
            if heads.states.len() + new <= GROUPS_MAX {
                heads.assignments.insert(other, found.counter);
                heads.states.extend(found.counters);
            }
        }
        Ok(heads)
    }

    /// The device's assignment in its envelope, its counter, and the groups that it names.
    async fn assignment_for(
        &self,
        org: &OrgName,
        device: &DeviceId,
        delegation: &Delegation,
    ) -> Result<(String, Counter, Vec<GroupName>), Refused> {
        let missing = || MetaError::Missing(format!("device {device} of {org}"));
        let view = self.store.device_view(org, device).await?.ok_or_else(missing)?;
        let apps = self.assigned(org, &view).await?;
        let now = wall_time();
        let kept = view.assignment;
        let counter = kept.as_ref().map(|kept| kept.counter);
        let fresh = kept.filter(|kept| kept.apps == apps && is_current(kept.signed(), delegation, self.signer.keyid(), now));
        let assignment = Assignment {
            format: FORMAT,
            org: org.clone(),
            device: device.clone(),
            counter: Counter::after(counter, delegation.epoch),
            expires: now.plus_seconds(DOCUMENT_SECONDS),
            otherwise: GroupName::all(),
            apps,
        };
        let groups = assignment.groups().into_iter().cloned().collect();
        if let Some(fresh) = fresh {
            return Ok((fresh.envelope, fresh.counter, groups));
        }
        let envelope = self.signer.sign_assignment(&assignment);
        let Assignment { counter: next, expires, apps, .. } = assignment;
        let signed_by = self.signer.keyid().to_owned();
        let record = AssignmentRecord { counter: next, expires, apps, signed_by, envelope: envelope.clone() };
        self.store.put_assignment(org, device, counter, record).await?;
        Ok((envelope, next, groups))
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
