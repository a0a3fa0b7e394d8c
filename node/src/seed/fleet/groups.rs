//! Groups, and the devices in them.
//!
//! Not here: what a group gets; see [`super::rollouts`].

use axum::http::StatusCode;
use protocol::group::{Group, groups_of, is_listed, is_member};
use protocol::label::{Labels, effective};
use protocol::name::{AppName, DeviceId, GroupName, OrgName};
use protocol::rollout::documents::inherited;
use protocol::rollout::{Count, Counting, Member, Rollout};
use protocol::selector::Selector;

use super::super::Seed;
use super::super::api::Refused;
use crate::api::{DevicePage, DeviceQuery, DeviceShown};
use crate::clock::wall_time;
use crate::store::meta::{DeviceChange, DeviceRecord, MetaError, ReportRecord};

/// Devices of a page, and the most that may be asked for.
const PAGE: usize = 1000;

impl Seed {
    /// Adds a group. Its devices go on with what `all` has of the app, until a rollout says otherwise.
    ///
    /// # Errors
    /// When the name or the priority is taken.
    pub async fn add_group(&self, org: &OrgName, group: Group) -> Result<Group, Refused> {
        let (_, all) = self.desired(org, &GroupName::all()).await?;
        let desired = self.desired(org, &group.name).await?;
        let changes = vec![(group.app.clone(), inherited(all.as_ref(), &group.app))];
        let next = self.signed_next(org, &group.name, desired, changes).await?;
        self.store.add_group(org, group.clone(), next).await?;
        Ok(group)
    }

    /// Removes a group; its devices go to the next one that takes them, or to `all`.
    ///
    /// # Errors
    /// When there is none, or a rollout is open in it.
    pub async fn remove_group(&self, org: &OrgName, app: &AppName, name: &GroupName) -> Result<(), Refused> {
        let desired = self.desired(org, name).await?;
        let next = self.signed_next(org, name, desired, vec![(app.clone(), None)]).await?;
        Ok(self.store.remove_group(org, app, name, next).await?)
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
        let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
        let groups = self.store.groups(org).await?;
        let (mut devices, mut last) = (Vec::new(), query.last);
        loop {
            let page = self.store.devices_after(org, last.as_ref(), PAGE).await?;
            let Some((end, _)) = page.last() else { return Ok(DevicePage { devices, next: None }) };
            last = Some(end.id.clone());
            for (device, report) in page {
                let device = shown(device, &groups, report);
                let in_group = query.group.as_ref().is_none_or(|group| is_listed(&groups, &device.groups, group));
                if !in_group || selector.as_ref().is_some_and(|selector| !selector.matches(&device.labels)) {
                    continue;
                }
                if devices.len() == limit {
                    let next = devices.last().map(|device: &DeviceShown| device.device.clone());
                    return Ok(DevicePage { devices, next });
                }
                devices.push(device);
            }
        }
    }
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
    /// Counts the devices of a rollout, page by page: those of its group that no pin takes out of it.
    pub(super) async fn count(&self, org: &OrgName, rollout: &Rollout) -> Result<Count, MetaError> {
        let groups = self.store.groups(org).await?;
        let (mut counting, mut last) = (Counting::new(rollout, wall_time()), None);
        loop {
            let page = self.store.devices_after(org, last.as_ref(), PAGE).await?;
            let Some((end, _)) = page.last() else { return Ok(counting.finish()) };
            last = Some(end.id.clone());
            for (device, kept) in &page {
                let report = kept.as_ref().map(|kept| &kept.report);
                let labels = effective(&device.labels, report.map_or(&Labels::new(), |report| &report.labels));
                if !device.pins.contains_key(&rollout.app) && is_member(&groups, &labels, &rollout.app, &rollout.group) {
                    counting.add(Member { device: &device.id, report });
                }
            }
        }
    }
}
