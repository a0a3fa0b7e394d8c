//! The control API for operators, with an access key: `/api/v1/…`, and the trust metadata `/tuf/<org>/…`.
//!
//! | module | holds |
//! |---|---|
//! | `devices` | devices: lists, labels, pins, sites |
//! | `groups` | groups of devices |
//! | `keys` | organisations and their access keys |
//! | `repositories` | repositories and their settings |
//! | `rollouts` | rollouts |
//! | `tokens` | enrolment tokens |
//! | `versions` | versions of apps |
//!
//! Not here: what devices ask for; see [`super::devices`].

mod devices;
mod groups;
mod keys;
mod repositories;
mod rollouts;
mod tokens;
mod versions;

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Extension, Router};
use protocol::name::OrgName;
use tower::limit::ConcurrencyLimitLayer;

use super::activity::{Activity, ActivityKind, RequestRecord};
use super::audit::NoRoom;
use super::extract::{Json, Path, no_method, no_route};
use super::limits::TooOften;
use super::metadata::tuf_file;
use super::registry::auth::{AuthError, Principal, authenticate};
use super::trust::ORG_SCOPES;
use super::{Seed, openapi, revocation};
use crate::api::{ApiError, BODY_BYTES_MAX, HashListQuery, HashLists, NewManagedVersion, NewOrg, OrgCreated, Published, SeedTrust};
use crate::listener::Client;
use crate::store::meta::Scope;
use crate::telemetry::chain;
use crate::trust::{Publication, TrustChange, publication};

/// Blobs of one hash list query: more than a version has.
const QUERY_BLOBS_MAX: usize = 10_000;
/// Publications that are read and checked at a time: each may take several times its body in memory.
const PUBLICATIONS_AT_ONCE: usize = 2;

/// A request that was not carried out, and why.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    body: ApiError,
    retry_after_seconds: Option<u64>,
}

impl Refused {
    /// A refusal with a short name of the reason, and a message for people.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, body: ApiError { code: code.to_owned(), message: message.into() }, retry_after_seconds: None }
    }

    /// The seed itself failed: the details are for its log.
    pub fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = chain(error), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the seed failed; see its log, and try again")
    }

    /// Whether there is no such thing.
    pub fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// Whether somebody else's change came in between.
    pub fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT
    }

    /// The same, of a change that may be made anew from what is there now: nobody but the store refused it.
    pub fn is_overtaken(&self) -> bool {
        self.is_conflict() && self.body.code == "conflict"
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.body.message)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let challenge = self.status == StatusCode::UNAUTHORIZED;
        let mut response = (self.status, Json(self.body)).into_response();
        if challenge {
            let value = axum::http::HeaderValue::from_static("Basic realm=\"hedgerow\"");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, value);
        }
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<TooOften> for Refused {
    fn from(often: TooOften) -> Self {
        let retry_after_seconds = Some(often.retry_after_seconds);
        Self { retry_after_seconds, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", often.to_string()) }
    }
}

impl From<NoRoom> for Refused {
    fn from(full: NoRoom) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit_log_full", full.to_string())
    }
}

impl From<AuthError> for Refused {
    fn from(error: AuthError) -> Self {
        match &error {
            AuthError::Failed(cause) => Self::failed(cause),
            AuthError::Missing
            | AuthError::Invalid
            | AuthError::InvalidToken
            | AuthError::Expired
            | AuthError::Token
            | AuthError::Scope(_) => Self::new(StatusCode::UNAUTHORIZED, "unauthorized", error.to_string()),
        }
    }
}

/// The routes. Who asks is known before a body is read, so that strangers cannot make the seed buffer one.
pub fn router(seed: Arc<Seed>) -> Router {
    let bounds = (ConcurrencyLimitLayer::new(PUBLICATIONS_AT_ONCE), DefaultBodyLimit::max(publication::PUBLICATION_BYTES_MAX));
    let change = post(change_trust).layer::<_, Infallible>(bounds.clone());
    let managed = post(publish_managed).layer::<_, Infallible>(bounds.clone());
    let publish = post(publish).layer::<_, Infallible>(bounds);
    let described = get(|| async { ([(CONTENT_TYPE, "application/json")], openapi::DOCUMENT) });
    Router::new()
        .route("/api/v1/trust", get(trust))
        .route("/api/v1/orgs", get(keys::orgs).post(create_org))
        .route("/api/v1/orgs/{org}/keys", get(keys::list).post(keys::create))
        .route("/api/v1/orgs/{org}/keys/{id}", delete(keys::revoke))
        .route("/api/v1/orgs/{org}/hash-lists", post(hash_lists))
        .route("/api/v1/orgs/{org}/versions", publish)
        .route("/api/v1/orgs/{org}/managed-versions", managed)
        .route("/api/v1/orgs/{org}/repositories", get(repositories::list))
        .route("/api/v1/orgs/{org}/repositories/{*repository}", get(repositories::show))
        .route("/api/v1/orgs/{org}/repository-settings", get(repositories::settings))
        .route("/api/v1/orgs/{org}/repository-settings/{*pattern}", patch(repositories::change).delete(repositories::clear))
        .route("/api/v1/orgs/{org}/apps/{app}/deployed", get(versions::deployed))
        .route("/api/v1/orgs/{org}/apps/{app}/versions", get(versions::list))
        .route("/api/v1/orgs/{org}/apps/{app}/versions/{version}", get(versions::show))
        .route("/api/v1/orgs/{org}/apps/{app}/versions/{version}/retire", post(versions::retire))
        .route("/api/v1/orgs/{org}/trust", change)
        .route("/api/v1/orgs/{org}/tokens", get(tokens::list).post(tokens::add))
        .route("/api/v1/orgs/{org}/tokens/{id}", delete(tokens::revoke))
        .route("/api/v1/orgs/{org}/devices", get(devices::list))
        .route("/api/v1/orgs/{org}/devices/{device}", get(devices::show).patch(devices::change))
        .route("/api/v1/orgs/{org}/devices/{device}/revoke", post(revocation::revoke))
        .route("/api/v1/orgs/{org}/sites", get(devices::sites))
        .route("/api/v1/orgs/{org}/groups", get(groups::list).post(groups::create))
        .route("/api/v1/orgs/{org}/apps/{app}/groups/{group}", delete(groups::remove))
        .route("/api/v1/orgs/{org}/rollouts", post(rollouts::start))
        .route("/api/v1/orgs/{org}/apps/{app}/rollouts", get(rollouts::list))
        .route("/api/v1/orgs/{org}/apps/{app}/rollout", get(rollouts::status))
        .route("/api/v1/orgs/{org}/apps/{app}/rollout/pause", post(rollouts::pause))
        .route("/api/v1/orgs/{org}/apps/{app}/rollout/resume", post(rollouts::resume))
        .route("/api/v1/orgs/{org}/apps/{app}/rollout/abort", post(rollouts::abort))
        .route("/api/v1/orgs/{org}/apps/{app}/rollout/rollback", post(rollouts::rollback))
        .route("/tuf/{org}/{*path}", get(metadata))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(seed.clone(), identify))
        .route("/api/v1/openapi.json", described)
        .method_not_allowed_fallback(no_method)
        .fallback(no_route)
        .with_state(seed)
}

async fn identify(State(seed): State<Arc<Seed>>, mut request: Request, next: Next) -> Result<Response, Refused> {
    let principal = authenticate(request.headers(), seed.store.as_ref()).await;
    if let Ok(principal) = &principal {
        RequestRecord::of(request.extensions()).is_from(principal);
    }
    seed.guard.admit(principal.as_ref().ok(), request.extensions().get::<Client>())?;
    let principal = principal?;
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

/// Checks for `scope` of `org`; for anybody else the organisation might as well not exist.
pub(super) fn require(principal: &Principal, org: &OrgName, scope: Scope) -> Result<(), Refused> {
    if principal.org() != *org {
        return Err(AuthError::Invalid.into());
    }
    Ok(principal.require(scope)?)
}

async fn trust(State(seed): State<Arc<Seed>>) -> Json<SeedTrust> {
    Json(seed.trust())
}

async fn create_org(
    State(seed): State<Arc<Seed>>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(new): Json<NewOrg>,
) -> Result<(StatusCode, Json<OrgCreated>), Refused> {
    principal.require(Scope::Seed)?;
    let new = if new.managed_keys { seed.new_managed_org(new.org).await? } else { new };
    let managed_keys = new.managed_keys;
    let created = seed.create_org(new, ORG_SCOPES.to_vec()).await?;
    if managed_keys {
        tracing::warn!(org = %created.org, "the keys of the organisation are on this seed: whoever takes it can ship code to its devices");
    }
    record.did(Activity::in_org(ActivityKind::OrgCreate, &created.org, None));
    Ok((StatusCode::CREATED, Json(created)))
}

async fn hash_lists(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
    Json(query): Json<HashListQuery>,
) -> Result<Json<HashLists>, Refused> {
    require(&principal, &org, Scope::Publish)?;
    if query.blobs.len() > QUERY_BLOBS_MAX {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "too_many", format!("ask for at most {QUERY_BLOBS_MAX} blobs at a time")));
    }
    let mut lists = std::collections::BTreeMap::new();
    for blob in query.blobs {
        if seed.store.org_blob(&org, &blob).await?.is_some()
            && let Some(list) = seed.store.hash_list(&blob).await?
        {
            lists.insert(blob, list);
        }
    }
    Ok(Json(HashLists { lists }))
}

async fn publish(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(publication): Json<Publication>,
) -> Result<(StatusCode, Json<Published>), Refused> {
    require(&principal, &org, Scope::Publish)?;
    let published = seed.publish(&org, &publication).await?;
    Ok(note_published(&record, &org, published))
}

async fn publish_managed(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(new): Json<NewManagedVersion>,
) -> Result<(StatusCode, Json<Published>), Refused> {
    require(&principal, &org, Scope::Publish)?;
    let published = seed.publish_managed(&org, new).await?;
    Ok(note_published(&record, &org, published))
}

fn note_published(record: &RequestRecord, org: &OrgName, published: Published) -> (StatusCode, Json<Published>) {
    record.did(Activity::in_org(ActivityKind::VersionPublish, org, Some(format!("{} v{}", published.app, published.version))));
    tracing::info!(event = "version_published", %org, app = %published.app, version = published.version, "version published");
    (StatusCode::CREATED, Json(published))
}

async fn change_trust(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(change): Json<TrustChange>,
) -> Result<StatusCode, Refused> {
    require(&principal, &org, Scope::Admin)?;
    seed.change_trust(&org, &change).await?;
    record.did(Activity::in_org(ActivityKind::TrustChange, &org, None));
    tracing::info!(event = "trust_changed", %org, root = change.root.is_some(), "trust metadata changed");
    Ok(StatusCode::NO_CONTENT)
}

async fn metadata(
    State(seed): State<Arc<Seed>>,
    Path((org, path)): Path<(OrgName, String)>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    require(&principal, &org, Scope::Pull)?;
    tuf_file(&seed, &org, &path, &headers).await
}
