//! Groups, and the devices in them.
//!
//! Not here: what a group gets; see [`super::rollouts`].

use axum::http::StatusCode;
use protocol::group::{Group, groups_of};
use protocol::label::{Labels, effective};
use protocol::name::{AppName, DeviceId, GroupName, OrgName};
use protocol::selector::Selector;
use protocol::statement::desired::{Activation, DesiredApp};

use super::super::Seed;
use super::super::api::Refused;
use super::states::NextState;
use crate::api::{DevicePage, DeviceQuery, DeviceShown};
use crate::store::meta::{DeviceChange, DeviceRecord, MetaError, ReportRecord};

/// Devices of a page, and the most that may be asked for.
const PAGE: usize = 1000;

impl Seed {
    /// Adds a group. Its devices go on with what `all` has of the app, until a rollout says otherwise.
    ///
    /// # Errors
    /// When the name or the priority is taken.
    pub async fn add_group(&self, org: &OrgName, group: Group) -> Result<Group, Refused> {
        self.store.add_group(org, group.clone()).await?;
        let (_, all) = self.desired(org, &GroupName::all()).await?;
        let inherited = all.and_then(|all| all.apps.get(&group.app).cloned());
        let inherited = inherited.map(|app| DesiredApp { activation: Activation::default(), before: None, ..settled(app) });
        let desired = self.desired(org, &group.name).await?;
        let next = NextState { changes: vec![(group.app.clone(), inherited)], ..NextState::default() };
        self.sign_next(org, &group.name, desired, next).await?;
        Ok(group)
    }

    /// Removes a group; its devices go to the next one that takes them, or to `all`.
    ///
    /// # Errors
    /// When there is none, or a rollout is open in it.
    pub async fn remove_group(&self, org: &OrgName, app: &AppName, name: &GroupName) -> Result<(), Refused> {
        self.store.remove_group(org, app, name).await?;
        let desired = self.desired(org, name).await?;
        self.sign_next(org, name, desired, NextState { changes: vec![(app.clone(), None)], ..NextState::default() }).await
    }

    /// Changes labels and pins of a device.
    ///
    /// # Errors
    /// When it, or a version, does not exist, or gets too many labels.
    pub async fn change_device(&self, org: &OrgName, id: &DeviceId, change: DeviceChange) -> Result<DeviceShown, Refused> {
        self.store.change_device(org, id, change).await?;
        self.show_device(org, id).await
    }

    /// A device with all that is known of it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn show_device(&self, org: &OrgName, id: &DeviceId) -> Result<DeviceShown, Refused> {
        let missing = || {
            Refused::new(
                StatusCode::NOT_FOUND,
                "missing",
                format!("there is no device {id} of {org}; `hedgerow fleet list --org {org}` lists them"),
            )
        };
        let device = self.store.device(org, id).await?.ok_or_else(missing)?;
        let (groups, report) = (self.store.groups(org).await?, self.store.report(org, id).await?);
        Ok(shown(device, &groups, report))
    }

    /// The devices that a query asks for, in the order of their names.
    ///
    /// # Errors
    /// When the query does not fit, or the store fails.
    pub async fn list_devices(&self, org: &OrgName, query: DeviceQuery) -> Result<DevicePage, Refused> {
        let bad = |error: &dyn std::error::Error| Refused::new(StatusCode::BAD_REQUEST, "bad_selector", error.to_string());
        let selector: Option<Selector> =
            query.selector.map(|text| text.parse()).transpose().map_err(|error: protocol::selector::SelectorRefused| bad(&error))?;
        let limit = query.limit.unwrap_or(PAGE).min(PAGE);
        let (groups, mut reports) = (self.store.groups(org).await?, self.store.reports(org).await?);
        let mut devices = Vec::new();
        for device in self.store.devices(org).await? {
            if query.last.as_ref().is_some_and(|last| device.id <= *last) {
                continue;
            }
            let report = reports.remove(&device.id);
            let device = shown(device, &groups, report);
            let in_group = query.group.as_ref().is_none_or(|group| is_in(&device, &groups, group));
            if in_group && selector.as_ref().is_none_or(|selector| selector.matches(&device.labels)) {
                devices.push(device);
            }
            if devices.len() > limit {
                devices.truncate(limit);
                let next = devices.last().map(|device| device.device.clone());
                return Ok(DevicePage { devices, next });
            }
        }
        Ok(DevicePage { devices, next: None })
    }
}

/// The version that a group goes on with: of a rollout that was aborted, the one before.
fn settled(app: DesiredApp) -> DesiredApp {
    use protocol::statement::desired::Starts;
    match &app.before {
        Some(before) if app.activation.starts != Starts::Open => {
            DesiredApp { version: before.version, statements: before.statements.clone(), ..app }
        }
        _ => app,
    }
}

/// In `all` is who is in no group of some app, or of any if there are no groups.
fn is_in(device: &DeviceShown, groups: &[Group], group: &GroupName) -> bool {
    if group.is_all() {
        return groups.is_empty() || groups.iter().any(|group| !device.groups.contains_key(&group.app));
    }
    device.groups.values().any(|of| of == group)
}

fn shown(device: DeviceRecord, groups: &[Group], report: Option<ReportRecord>) -> DeviceShown {
    let own_labels = report.as_ref().map(|kept| kept.report.labels.clone()).unwrap_or_default();
    let labels: Labels = effective(&device.labels, &own_labels);
    let (reported, said) = report.map(|kept| (kept.received, kept.report)).unzip();
    let stale = said.as_ref().is_some_and(|said| said.stale);
    let (apps, refused) = said.map(|said| (said.apps, said.refused)).unwrap_or_default();
    DeviceShown {
        groups: groups_of(groups, &labels),
        device: device.id,
        platform: device.platform,
        enrolled: device.enrolled,
        labels,
        operator_labels: device.labels,
        pins: device.pins,
        reported,
        apps,
        refused,
        stale,
    }
}

impl From<crate::api::DeviceChange> for DeviceChange {
    fn from(change: crate::api::DeviceChange) -> Self {
        Self { set_labels: change.set_labels, remove_labels: change.remove_labels, pins: change.pins }
    }
}

impl Seed {
    /// The members of a rollout's group: those that no pin takes out of it.
    pub(super) async fn members(
        &self,
        org: &OrgName,
        app: &AppName,
        group: &GroupName,
    ) -> Result<Vec<(DeviceId, Option<ReportRecord>)>, MetaError> {
        let (groups, mut reports) = (self.store.groups(org).await?, self.store.reports(org).await?);
        let groups: Vec<Group> = groups.into_iter().filter(|group| group.app == *app).collect();
        let all = GroupName::all();
        let mut members = Vec::new();
        for device in self.store.devices(org).await? {
            let report = reports.remove(&device.id);
            let none = Labels::new();
            let labels = effective(&device.labels, report.as_ref().map_or(&none, |kept| &kept.report.labels));
            let its = groups_of(&groups, &labels);
            if !device.pins.contains_key(app) && its.get(app).unwrap_or(&all) == group {
                members.push((device.id, report));
            }
        }
        Ok(members)
    }
}
