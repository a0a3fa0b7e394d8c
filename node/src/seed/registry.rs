//! The registry: OCI distribution-spec 1.1 under `/v2/`, for unmodified container tools.
//!
//! | module | holds |
//! |---|---|
//! | `path` | what a path and a method ask for; repository names have slashes, so no router can tell |
//! | [`auth`] | access keys and tokens, and who a request is from |
//! | `error` | the one table from what went wrong to status and code |
//! | `blobs` | pull of blobs, whole and in ranges |
//! | `uploads` | push of blobs: whole, streamed, in chunks, mounted |
//! | `places` | what is taken in at the same time, and by whom |
//! | `manifests` | push, pull and deletion of manifests |
//! | `kept` | what may not be deleted by its digest |
//! | `tags`, `referrers`, `catalog` | lists |
//! | `warning` | what clients show to people beside an answer |
//! | [`described`] | what a request was about, for the logs |
//!
//! Promises: bytes are kept exactly; a large blob is never held in memory; what a push acknowledged is durable; a repository of
//! another organisation answers like one that does not exist, unless it is public.
//!
//! Not here: reading what requests hold, see [`protocol::oci`]; listeners and TLS, and what devices see; see `device::endpoint`.

pub mod auth;
mod blobs;
mod catalog;
pub(in crate::seed) mod described;
mod error;
mod kept;
mod manifests;
mod path;
mod places;
mod query;
mod referrers;
mod tags;
mod uploads;
mod warning;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use protocol::digest::Digest;
use protocol::garbage::renewal_due;
use protocol::name::RepositoryName;
use protocol::oci::access::Access;
use protocol::oci::authority::Origin;
use protocol::oci::route::Route;
use protocol::oci::scope::Action;
use protocol::time::WallTime;

use super::audit::NoRoom;
use super::limits::Guard;
use crate::clock::wall_time;
use crate::listener::Client;
use crate::listener::handover::Handover;
use crate::seed::activity::RequestRecord;
use crate::store::blobs::BlobStore;
use crate::store::meta::{MetaError, MetaStore, Relied};
use auth::gate::{Caller, Gate};
use auth::{AuthError, Principal, challenged, issue};
use error::Refused;
use places::Places;
use query::Query;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What the registry works on. Clones share it.
#[derive(Clone)]
pub struct RegistryState {
    store: Arc<dyn MetaStore>,
    blobs: BlobStore,
    gate: Arc<Gate>,
    guard: Arc<Guard>,
    uploads: Arc<uploads::Uploads>,
    bodies: Places,
    manifest_kib: Places,
    referrer_pages: Places,
}

impl RegistryState {
    /// The registry on these records and blobs, with no uploads under way.
    pub fn new(store: Arc<dyn MetaStore>, blobs: BlobStore, gate: Arc<Gate>, guard: Arc<Guard>) -> Self {
        let limits = guard.limits();
        let uploads = Arc::new(uploads::Uploads::new(limits.uploads()));
        let bodies = Places::new(limits.bodies_max);
        let manifest_kib = manifests::places(limits.manifest_bytes_max);
        let referrer_pages = referrers::places();
        Self { store, blobs, gate, guard, uploads, bodies, manifest_kib, referrer_pages }
    }

    /// Uploads under way.
    pub fn uploads_open(&self) -> usize {
        self.uploads.count()
    }

    /// Pushes that wait for a place.
    pub fn bodies_waiting(&self) -> u64 {
        self.bodies.waiting() + self.manifest_kib.waiting()
    }
}

impl std::fmt::Debug for RegistryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryState").field("blobs", &self.blobs).finish_non_exhaustive()
    }
}

/// The routes `/v2/…` and `/auth/token`.
pub fn router(state: RegistryState) -> Router {
    let token = get(issue::get).post(issue::post).layer(DefaultBodyLimit::max(issue::FORM_BYTES_MAX));
    Router::new()
        .route("/v2", any(serve))
        .route("/v2/", any(serve))
        .route("/v2/{*rest}", any(serve))
        .route("/auth/token", token)
        .with_state(Arc::new(state))
}

/// The answer to a write that is not begun, because the audit log has no room for it.
pub(in crate::seed) fn not_audited(full: NoRoom) -> Response {
    Refused::NotAudited(full).into_response()
}

async fn serve(State(state): State<Arc<RegistryState>>, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = match state.gate.origin(request.headers(), &uri) {
        Err(refused) => Refused::Unsupported(refused.to_string()).into_response(),
        Ok(origin) => match answer(&state, &origin, request).await {
            Ok(response) => response,
            Err(Refused::Auth(error)) => challenged(error, &origin, &path::token_scopes(&uri, &method)),
            Err(refused) => {
                if let Some(limit) = refused.limit() {
                    state.guard.count_refused(limit);
                }
                refused.into_response()
            }
        },
    };
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    // What is pushed says its own type, and a browser must not take it for a page.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if method == Method::HEAD { without_body(response) } else { response }
}

async fn answer(state: &RegistryState, origin: &Origin, mut request: Request) -> Result<Response, Refused> {
    let record = RequestRecord::of(request.extensions());
    let caller = state.gate.identify(request.headers(), origin.authority(), &*state.store).await;
    let principal = caller.as_ref().ok().and_then(Caller::principal);
    if let Some(principal) = principal {
        record.is_from(principal);
    }
    state.guard.admit(principal, request.extensions().get::<Client>())?;
    let caller = caller?;
    let route = path::parse(request.uri().path(), request.method());
    if route.is_err() {
        caller.require_credentials()?;
    }
    let route = route?;
    let is_public = admit(state, &caller, &route, request.method()).await?;
    let query = Query::parse(request.uri())?;
    if request.method() == Method::HEAD {
        request.headers_mut().remove(header::RANGE);
    }
    let method = request.method().clone();
    let of_key = match &route {
        Route::Manifest(..) => caller.principal().and_then(|principal| warning::of_key(principal, wall_time())),
        _ => None,
    };
    let handover = request.extensions().get::<Handover>().cloned();
    let call = Call { state, caller, is_public, query, record, handover, probe: method == Method::HEAD };
    let mut response = route_to(&call, route, method, request).await?;
    if let Some(text) = of_key {
        warning::warn(response.headers_mut(), &text);
    }
    Ok(response)
}

/// Lets the one who knows answer. What writes is boxed: a pull, which is most of what is asked for, would else carry room for
/// the state of all of it.
async fn route_to(call: &Call<'_>, route: Route, method: Method, request: Request) -> Result<Response, Refused> {
    match (route, method) {
        (Route::Base, Method::GET | Method::HEAD) => Ok(axum::Json(serde_json::json!({})).into_response()),
        (Route::Catalog, Method::GET | Method::HEAD) => Box::pin(catalog::list(call)).await,
        (Route::Blob(repository, blob), Method::GET | Method::HEAD) => blobs::get(call, &repository, &blob, request.headers()).await,
        (Route::Blob(repository, blob), Method::DELETE) => Box::pin(blobs::delete(call, &repository, &blob)).await,
        (Route::Uploads(repository), Method::POST) => Box::pin(uploads::start(call, repository, request)).await,
        (Route::Upload(repository, id), Method::GET | Method::HEAD) => uploads::status(call, &repository, &id),
        (Route::Upload(repository, id), Method::PATCH) => Box::pin(uploads::patch(call, &repository, &id, request)).await,
        (Route::Upload(repository, id), Method::PUT) => Box::pin(uploads::put(call, &repository, &id, request)).await,
        (Route::Upload(repository, id), Method::DELETE) => uploads::cancel(call, &repository, &id),
        (Route::Manifest(repository, reference), Method::GET | Method::HEAD) => {
            manifests::get(call, &repository, &reference, request.headers()).await
        }
        (Route::Manifest(repository, reference), Method::PUT) => Box::pin(manifests::put(call, &repository, reference, request)).await,
        (Route::Manifest(repository, reference), Method::DELETE) => Box::pin(manifests::delete(call, &repository, &reference)).await,
        (Route::Tags(repository), Method::GET | Method::HEAD) => Box::pin(tags::list(call, &repository)).await,
        (Route::Referrers(repository, subject), Method::GET | Method::HEAD) => Box::pin(referrers::list(call, &repository, &subject)).await,
        (route, method) => Err(Refused::MethodNotAllowed { method, methods: path::methods(&route) }),
    }
}

/// Checks that the caller may send such a request; true if it may because the repository is public.
async fn admit(state: &RegistryState, caller: &Caller, route: &Route, method: &Method) -> Result<bool, Refused> {
    let Some((repository, action)) = path::action(route, method) else {
        caller.require_credentials()?;
        return Ok(false);
    };
    let asker = caller.asker();
    let in_private = asker.decide(action, repository, false);
    let is_public = action == Action::Pull && in_private != Ok(Access::Own) && state.store.is_public(repository).await?;
    Ok(asker.decide(action, repository, is_public).map_err(AuthError::from)? == Access::Public)
}

/// One request that was let in.
struct Call<'a> {
    state: &'a RegistryState,
    caller: Caller,
    /// Whether it was let in because its repository is public.
    is_public: bool,
    query: Query,
    record: RequestRecord,
    /// Where parts of files can be handed over to the connection, if it can send them.
    handover: Option<Handover>,
    probe: bool,
}

impl Call<'_> {
    /// What a push asks for and then does not send is relied on: a HEAD by a key that may push keeps garbage collection away
    /// for a while from what was last used at `used`. False if that was taken just now.
    async fn rely_on(&self, repository: &RepositoryName, digest: &Digest, used: WallTime) -> Result<bool, Refused> {
        let now = wall_time();
        let may_push = self.caller.owns(repository) && self.caller.require(Action::Push, repository).is_ok();
        if !self.probe || !may_push || !renewal_due(used, now) {
            return Ok(true);
        }
        let relied = vec![Relied { digest: *digest, may_be_manifest: true }];
        match self.state.store.rely_on(repository, relied, now).await {
            Ok(()) => Ok(true),
            Err(MetaError::Missing(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is a point in looking into the request's own repository: those of other organisations that are not public
    /// are as if they did not exist.
    fn may_see(&self, repository: &RepositoryName) -> bool {
        self.is_public || self.caller.owns(repository)
    }

    /// Who writes to a repository of its organisation. Refuses another organisation's, in the words for one that does not exist.
    fn must_own(&self, repository: &RepositoryName) -> Result<&Principal, Refused> {
        let owner = self.caller.principal().filter(|_| self.caller.owns(repository));
        owner.ok_or_else(|| Refused::NameUnknown(repository.clone()))
    }
}

/// The answer to a HEAD: everything but the bytes.
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let (Some(bytes), false) = (body.size_hint().exact(), parts.headers.contains_key(header::CONTENT_LENGTH)) {
        parts.headers.insert(header::CONTENT_LENGTH, bytes.into());
    }
    Response::from_parts(parts, Body::empty())
}

/// A header's value from text that has nothing but visible ASCII in it.
fn header_value(text: &impl ToString) -> Result<HeaderValue, Refused> {
    Ok(HeaderValue::try_from(text.to_string())?)
}

/// An answer without content.
fn empty<const N: usize>(status: StatusCode, headers: [(HeaderName, String); N]) -> Result<Response, Refused> {
    let mut response = status.into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, header_value(&value)?);
    }
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(header::CONTENT_LENGTH, 0.into());
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
