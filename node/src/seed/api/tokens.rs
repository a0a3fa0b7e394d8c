//! Enrolment tokens over the control API: made, listed, taken back.
//!
//! Not here: whom they let in; see `seed::enrolment`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::name::OrgName;

use super::{Refused, require};
use crate::api::{NewToken, TokenListed, TokenMade};
use crate::clock::wall_time;
use crate::seed::Seed;
use crate::seed::activity::{Activity, ActivityKind, RequestRecord};
use crate::seed::extract::{Json, Path};
use crate::seed::registry::auth::Principal;
use crate::store::meta::{Scope, TokenRecord};

/// `POST /api/v1/orgs/{org}/tokens`.
pub(super) async fn add(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<TokenMade>), Refused> {
    require(&principal, &org, Scope::Admin)?;
    let made = seed.add_tokens(&org, new).await?;
    record.did(Activity::in_org(ActivityKind::TokenCreate, &org, None));
    Ok((StatusCode::CREATED, Json(made)))
}

/// `GET /api/v1/orgs/{org}/tokens`: those that can still enrol a device, the first to expire first.
pub(super) async fn list(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<TokenListed>>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    let now = wall_time();
    let is_good = |token: &TokenRecord| token.terms().uses_left > 0 && token.expires > now;
    let good = seed.store.tokens(&org).await?.into_iter().filter(is_good);
    let mut tokens: Vec<TokenListed> = good.map(listed).collect();
    tokens.sort_by(|one, other| (one.expires, &one.id).cmp(&(other.expires, &other.id)));
    Ok(Json(tokens))
}

/// `DELETE /api/v1/orgs/{org}/tokens/{id}`: no device enrols with it from now on. Devices that did stay.
pub(super) async fn revoke(
    State(seed): State<Arc<Seed>>,
    Path((org, id)): Path<(OrgName, String)>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
) -> Result<StatusCode, Refused> {
    require(&principal, &org, Scope::Admin)?;
    let token = seed.store.tokens(&org).await?.into_iter().find(|token| token.id() == id);
    let missing = || Refused::new(StatusCode::NOT_FOUND, "missing", format!("{org} has no token {id}"));
    seed.store.revoke_token(&org, &token.ok_or_else(missing)?.secret_sha256).await?;
    record.did(Activity::in_org(ActivityKind::TokenRevoke, &org, Some(id.clone())));
    tracing::info!(event = "token_revoked", %org, token = id, by = principal.key(), "enrolment token revoked");
    Ok(StatusCode::NO_CONTENT)
}

fn listed(token: TokenRecord) -> TokenListed {
    TokenListed { id: token.id(), expires: token.expires, uses_left: token.terms().uses_left, device: token.device, labels: token.labels }
}
