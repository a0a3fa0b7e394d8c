//! Versions of apps, for operators: list, show, retire.
//!
//! Not here: publishing; see [`crate::seed::trust`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::name::{AppName, OrgName};
use protocol::rollout::REASON_BYTES_MAX;

use super::super::extract::{Json, Path};
use super::{Refused, require};
use crate::api::{Deployed, Retire};
use crate::clock::wall_time;
use crate::seed::Seed;
use crate::seed::activity::{Activity, ActivityKind, RequestRecord};
use crate::seed::registry::auth::Principal;
use crate::store::meta::{MetaError, Retirement, Scope, VersionRecord};

/// `GET /api/v1/orgs/{org}/apps/{app}/versions`: all of them, the retired too, with why.
pub(super) async fn list(
    State(seed): State<Arc<Seed>>,
    Path((org, app)): Path<(OrgName, AppName)>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<VersionRecord>>, Refused> {
    require(&principal, &org, Scope::Pull)?;
    Ok(Json(seed.store.versions(&org, &app).await?))
}

/// `GET /api/v1/orgs/{org}/apps/{app}/deployed`: the versions that some group shall have.
pub(super) async fn deployed(
    State(seed): State<Arc<Seed>>,
    Path((org, app)): Path<(OrgName, AppName)>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Deployed>, Refused> {
    require(&principal, &org, Scope::Pull)?;
    Ok(Json(Deployed { versions: seed.store.deployed_versions(&org, &app).await? }))
}

/// `GET /api/v1/orgs/{org}/apps/{app}/versions/{version}`: one that can be used; a retired one is gone, and the answer says why.
pub(super) async fn show(
    State(seed): State<Arc<Seed>>,
    Path((org, app, number)): Path<(OrgName, AppName, u64)>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<VersionRecord>, Refused> {
    require(&principal, &org, Scope::Pull)?;
    let version = find(&seed, &org, &app, number).await?;
    match version.why_retired(&org) {
        Some(reason) => Err(MetaError::Retired(reason).into()),
        None => Ok(Json(version)),
    }
}

/// `POST /api/v1/orgs/{org}/apps/{app}/versions/{version}/retire`; again changes nothing.
pub(super) async fn retire(
    State(seed): State<Arc<Seed>>,
    Path((org, app, number)): Path<(OrgName, AppName, u64)>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(Retire { reason }): Json<Retire>,
) -> Result<Json<VersionRecord>, Refused> {
    require(&principal, &org, Scope::Publish)?;
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        let message = format!("a reason has at most {REASON_BYTES_MAX} bytes; shorten it");
        return Err(Refused::new(StatusCode::BAD_REQUEST, "reason_too_long", message));
    }
    let retirement = Retirement { at: wall_time(), reason: reason.filter(|reason| !reason.is_empty()) };
    seed.store.retire_version(&org, &app, number, retirement).await?;
    record.did(Activity::in_org(ActivityKind::VersionRetire, &org, Some(format!("{app} v{number}"))));
    tracing::info!(event = "version_retired", %org, %app, version = number, "version retired");
    Ok(Json(find(&seed, &org, &app, number).await?))
}

async fn find(seed: &Seed, org: &OrgName, app: &AppName, number: u64) -> Result<VersionRecord, Refused> {
    let missing = || MetaError::Missing(format!("version {number} of {org}/{app}"));
    Ok(seed.store.version(org, app, number).await?.ok_or_else(missing)?)
}
