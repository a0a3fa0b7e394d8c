//! Groups of devices.
//!
//! Not here: which group a device is in; see `protocol::group`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::group::Group;
use protocol::name::{AppName, GroupName, OrgName};

use super::{Refused, require};
use crate::seed::Seed;
use crate::seed::activity::{Activity, ActivityKind, RequestRecord};
use crate::seed::extract::{Json, Path};
use crate::seed::registry::auth::Principal;
use crate::store::meta::Scope;

pub(super) async fn list(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<Group>>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    Ok(Json(seed.store.groups(&org).await?))
}

pub(super) async fn create(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(group): Json<Group>,
) -> Result<(StatusCode, Json<Group>), Refused> {
    require(&principal, &org, Scope::Admin)?;
    let group = seed.add_group(&org, group).await?;
    record.did(Activity::in_org(ActivityKind::GroupCreate, &org, Some(format!("{} {}", group.app, group.name))));
    Ok((StatusCode::CREATED, Json(group)))
}

pub(super) async fn remove(
    State(seed): State<Arc<Seed>>,
    Path((org, app, group)): Path<(OrgName, AppName, GroupName)>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
) -> Result<StatusCode, Refused> {
    require(&principal, &org, Scope::Admin)?;
    seed.remove_group(&org, &app, &group).await?;
    record.did(Activity::in_org(ActivityKind::GroupRemove, &org, Some(format!("{app} {group}"))));
    Ok(StatusCode::NO_CONTENT)
}
