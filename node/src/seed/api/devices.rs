//! Devices: lists, labels, pins, sites.
//!
//! Not here: what devices ask for themselves; see [`crate::seed::devices`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use protocol::name::{DeviceId, OrgName};

use super::{Refused, require};
use crate::api::{DeviceChange, DevicePage, DeviceQuery, DeviceShown, Page, SitePage};
use crate::seed::Seed;
use crate::seed::activity::{Activity, ActivityKind, RequestRecord};
use crate::seed::extract::{Json, Path, Query};
use crate::seed::registry::auth::Principal;
use crate::store::meta::Scope;

pub(super) async fn list(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Query(query): Query<DeviceQuery>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<DevicePage>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    Ok(Json(seed.list_devices(&org, query).await?))
}

pub(super) async fn sites(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Query(page): Query<Page>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<SitePage>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    Ok(Json(seed.list_sites(&org, page).await?))
}

pub(super) async fn show(
    State(seed): State<Arc<Seed>>,
    Path((org, device)): Path<(OrgName, DeviceId)>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<DeviceShown>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    Ok(Json(seed.show_device(&org, &device).await?))
}

pub(super) async fn change(
    State(seed): State<Arc<Seed>>,
    Path((org, device)): Path<(OrgName, DeviceId)>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(change): Json<DeviceChange>,
) -> Result<Json<DeviceShown>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    let shown = seed.change_device(&org, &device, change.into()).await?;
    record.did(Activity::in_org(ActivityKind::DeviceChange, &org, Some(device.to_string())));
    Ok(Json(shown))
}
