//! Repositories, for operators: list, show, and what is set for them.
//!
//! Not here: what they hold, which the registry serves; the rules, see `protocol::repository`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::name::{NameRefused, OrgName};
use protocol::repository::{RepositoryPattern, RepositorySettings};

use super::super::extract::{Json, Path, Query};
use super::{Refused, require};
use crate::api::{Page, RepositoryPage, RepositoryShown};
use crate::seed::Seed;
use crate::seed::activity::{Activity, ActivityKind, RequestRecord};
use crate::seed::registry::auth::Principal;
use crate::store::meta::Scope;

/// `GET /api/v1/orgs/{org}/repositories`.
pub(super) async fn list(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Query(page): Query<Page>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<RepositoryPage>, Refused> {
    require(&principal, &org, Scope::Pull)?;
    Ok(Json(seed.repositories().list(&org, &page).await?))
}

/// `GET /api/v1/orgs/{org}/repositories/{repository}`, whose name may have slashes.
pub(super) async fn show(
    State(seed): State<Arc<Seed>>,
    Path((org, path)): Path<(OrgName, String)>,
    Query(page): Query<Page>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<RepositoryShown>, Refused> {
    require(&principal, &org, Scope::Pull)?;
    let repository = format!("{org}/{path}").parse().map_err(|refused| invalid(&refused))?;
    Ok(Json(seed.repositories().show(&repository, &page).await?))
}

/// `GET /api/v1/orgs/{org}/repository-settings`: all that is set, by pattern.
pub(super) async fn settings(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<BTreeMap<RepositoryPattern, RepositorySettings>>, Refused> {
    require(&principal, &org, Scope::Pull)?;
    Ok(Json(seed.store.repository_settings(&org).await?))
}

/// `PATCH /api/v1/orgs/{org}/repository-settings/{pattern}`: what the body does not speak of stays as it was.
pub(super) async fn change(
    State(seed): State<Arc<Seed>>,
    Path((org, path)): Path<(OrgName, String)>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(change): Json<RepositorySettings>,
) -> Result<Json<RepositorySettings>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    let pattern: RepositoryPattern = format!("{org}/{path}").parse().map_err(|refused| invalid(&refused))?;
    change.check(&pattern).map_err(|refused| Refused::new(StatusCode::BAD_REQUEST, "bad_settings", refused.to_string()))?;
    let activity = Activity::in_org(
        ActivityKind::SettingsChange,
        &org,
        Some(format!("{pattern} {}", serde_json::to_string(&change).unwrap_or_default())),
    );
    seed.store.put_repository_settings(&org, &pattern, Some(change)).await?;
    record.did(activity);
    let settings = seed.store.repository_settings(&org).await?.remove(&pattern).unwrap_or_default();
    let text = serde_json::to_string(&settings).unwrap_or_default();
    tracing::info!(event = "repository_settings_changed", %pattern, settings = text, "settings of repositories changed");
    Ok(Json(settings))
}

/// `DELETE /api/v1/orgs/{org}/repository-settings/{pattern}`: wider patterns decide from now on.
pub(super) async fn clear(
    State(seed): State<Arc<Seed>>,
    Path((org, path)): Path<(OrgName, String)>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
) -> Result<StatusCode, Refused> {
    require(&principal, &org, Scope::Admin)?;
    let pattern: RepositoryPattern = format!("{org}/{path}").parse().map_err(|refused| invalid(&refused))?;
    seed.store.put_repository_settings(&org, &pattern, None).await?;
    record.did(Activity::in_org(ActivityKind::SettingsClear, &org, Some(pattern.to_string())));
    tracing::info!(event = "repository_settings_cleared", %pattern, "settings of repositories removed");
    Ok(StatusCode::NO_CONTENT)
}

fn invalid(refused: &NameRefused) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad_name", refused.to_string())
}
