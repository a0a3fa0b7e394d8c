//! Rollouts.
//!
//! Not here: what may become of one; see `protocol::rollout`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::name::{AppName, OrgName};
use protocol::rollout::{REASON_BYTES_MAX, Rollout};

use super::{Refused, require};
use crate::api::{AbortRollout, NewRollout, OfGroup, RolloutAction, RolloutStatus};
use crate::seed::Seed;
use crate::seed::activity::{Activity, ActivityKind, RequestRecord};
use crate::seed::extract::{Json, Path, Query};
use crate::seed::registry::auth::Principal;
use crate::store::meta::Scope;

/// A change of a rollout as its routes get it.
type Change = (State<Arc<Seed>>, Path<(OrgName, AppName)>, Query<OfGroup>, Extension<Principal>, RequestRecord);

pub(super) async fn start(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(new): Json<NewRollout>,
) -> Result<(StatusCode, Json<RolloutStatus>), Refused> {
    require(&principal, &org, Scope::Admin)?;
    let status = seed.start_rollout(&org, new).await?;
    did(&record, ActivityKind::RolloutStart, &org, &status);
    tracing::info!(event = "rollout_started", %org, app = %status.app, version = status.version, rollout = %status.rollout, "rollout started");
    Ok((StatusCode::CREATED, Json(status)))
}

pub(super) async fn status(
    State(seed): State<Arc<Seed>>,
    Path((org, app)): Path<(OrgName, AppName)>,
    Query(of): Query<OfGroup>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<RolloutStatus>, Refused> {
    require(&principal, &org, Scope::Pull)?;
    Ok(Json(seed.rollout_status(&org, &app, of.group).await?))
}

pub(super) async fn list(
    State(seed): State<Arc<Seed>>,
    Path((org, app)): Path<(OrgName, AppName)>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<Rollout>>, Refused> {
    require(&principal, &org, Scope::Pull)?;
    Ok(Json(seed.store.rollouts(&org, &app).await?))
}

pub(super) async fn pause(
    state: State<Arc<Seed>>,
    path: Path<(OrgName, AppName)>,
    of: Query<OfGroup>,
    principal: Extension<Principal>,
    record: RequestRecord,
) -> Result<Json<RolloutStatus>, Refused> {
    change((state, path, of, principal, record), ActivityKind::RolloutPause, RolloutAction::Pause).await
}

pub(super) async fn resume(
    state: State<Arc<Seed>>,
    path: Path<(OrgName, AppName)>,
    of: Query<OfGroup>,
    principal: Extension<Principal>,
    record: RequestRecord,
) -> Result<Json<RolloutStatus>, Refused> {
    change((state, path, of, principal, record), ActivityKind::RolloutResume, RolloutAction::Resume).await
}

pub(super) async fn abort(
    state: State<Arc<Seed>>,
    path: Path<(OrgName, AppName)>,
    of: Query<OfGroup>,
    principal: Extension<Principal>,
    record: RequestRecord,
    Json(AbortRollout { reason }): Json<AbortRollout>,
) -> Result<Json<RolloutStatus>, Refused> {
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        let message = format!("the reason has more than {REASON_BYTES_MAX} bytes; shorten it");
        return Err(Refused::new(StatusCode::BAD_REQUEST, "reason_too_long", message));
    }
    change((state, path, of, principal, record), ActivityKind::RolloutAbort, RolloutAction::Abort { reason }).await
}

pub(super) async fn rollback(
    state: State<Arc<Seed>>,
    path: Path<(OrgName, AppName)>,
    of: Query<OfGroup>,
    principal: Extension<Principal>,
    record: RequestRecord,
) -> Result<Json<RolloutStatus>, Refused> {
    change((state, path, of, principal, record), ActivityKind::RolloutRollback, RolloutAction::Rollback).await
}

async fn change(
    (State(seed), Path((org, app)), Query(of), Extension(principal), record): Change,
    kind: ActivityKind,
    action: RolloutAction,
) -> Result<Json<RolloutStatus>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    let status = seed.change_rollout(&org, &app, of.group, action).await?;
    did(&record, kind, &org, &status);
    tracing::info!(event = "rollout_changed", %org, %app, rollout = %status.rollout, state = ?status.state, "rollout changed");
    Ok(Json(status))
}

fn did(record: &RequestRecord, kind: ActivityKind, org: &OrgName, status: &RolloutStatus) {
    record.did(Activity::in_org(kind, org, Some(format!("{} v{} {}", status.app, status.version, status.rollout))));
}
