//! The local registry of a device: pull-only `/v2/` on the loopback interface, answered from what this device has verified,
//! also without a WAN.
//!
//! A tag answers this platform's manifest from the newest statement that this device accepted and that names it; `v7` is
//! version 7. What is accepted but not stored yet is waited for.
//!
//! Not here: the seed's registry, which takes pushes; see `seed::registry`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use protocol::digest::Digest;
use protocol::name::{RepositoryName, Tag};
use protocol::oci::range::{self, Requested};
use protocol::oci::route::{Reference, Route, RouteRefused};
use protocol::statement::version::AcceptedStatement;
use serde_json::json;
use tokio::sync::watch;

use crate::store::blobs::BlobStore;

/// How long a request waits for a blob that is on its way: under the time after which engines give up.
const WAIT: Duration = Duration::from_secs(25);
/// Names under which the loopback interface may be asked; others are a page in a browser that means harm (DNS rebinding).
const HOSTS: [&str; 4] = ["containers.local", "localhost", "127.0.0.1", "[::1]"];

/// What this device can offer.
#[derive(Debug)]
pub struct Catalogue {
    images: BTreeMap<RepositoryName, BTreeMap<u64, OfferedImage>>,
    media_types: BTreeMap<Digest, String>,
    stored: BTreeSet<Digest>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct OfferedImage {
    tag: Tag,
    manifest: Digest,
    content: BTreeSet<Digest>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { images: BTreeMap::new(), media_types: BTreeMap::new(), stored: BTreeSet::new(), changed: watch::Sender::new(0) }
    }
}

impl Catalogue {
    /// Offers what an accepted statement names.
    pub fn accept(&mut self, statement: &AcceptedStatement) {
        for image in &statement.statement().images {
            let documents = image.index.iter().chain([&image.manifest]);
            let mut content: BTreeSet<Digest> = image.blobs.iter().map(|blob| blob.digest).collect();
            for document in documents {
                self.media_types.insert(document.digest, document.media_type.clone());
                content.insert(document.digest);
            }
            let offered = OfferedImage { tag: image.tag.clone(), manifest: image.manifest.digest, content };
            self.images.entry(image.repository.clone()).or_default().insert(statement.statement().version, offered);
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// A blob is whole and verified.
    pub fn note_stored(&mut self, blob: Digest) {
        self.stored.insert(blob);
        self.changed.send_modify(|count| *count += 1);
    }

    fn resolve(&self, repository: &RepositoryName, tag: &Tag) -> Option<Digest> {
        let versions = self.images.get(repository)?;
        let tagged = versions.values().rev().find(|image| image.tag == *tag);
        let numbered = || tag.as_str().strip_prefix('v').and_then(|n| n.parse::<u64>().ok()).and_then(|n| versions.get(&n));
        tagged.or_else(numbered).map(|image| image.manifest)
    }

    fn offers(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.images.get(repository).is_some_and(|versions| versions.values().any(|image| image.content.contains(digest)))
    }

    fn tags(&self, repository: &RepositoryName) -> Option<BTreeSet<&str>> {
        Some(self.images.get(repository)?.values().map(|image| image.tag.as_str()).collect())
    }
}

/// What the routes work with.
#[derive(Clone)]
pub struct EndpointState {
    /// What is offered.
    pub catalogue: Arc<RwLock<Catalogue>>,
    /// Where the bytes are.
    pub blobs: BlobStore,
}

/// The routes.
pub fn router(state: EndpointState) -> Router {
    Router::new()
        .route("/v2/", any(|| async { Refused::none() }))
        .route("/v2", any(|| async { Refused::none() }))
        .route("/v2/{*path}", any(pull))
        .with_state(state)
        .layer(axum::middleware::from_fn(only_local_names))
}

/// An answer that is not content.
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn none() -> Response {
        ([("Docker-Distribution-Api-Version", "registry/2.0")], axum::Json(json!({}))).into_response()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]});
        let mut response = (self.status, [("Docker-Distribution-Api-Version", "registry/2.0")], axum::Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("5"));
        }
        response
    }
}

async fn only_local_names(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok()).or_else(|| request.uri().host());
    let name =
        named.map(|host| host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(name, _)| name));
    if name.is_some_and(|name| HOSTS.contains(&name)) {
        return next.run(request).await;
    }
    let message = "this registry answers as containers.local, localhost, 127.0.0.1 or [::1] only";
    Refused::new(StatusCode::MISDIRECTED_REQUEST, "UNSUPPORTED", message).into_response()
}

async fn pull(State(state): State<EndpointState>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let message = "this registry is pull-only; push to the seed";
        return Refused::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message).into_response();
    }
    let answer = match Route::parse(uri.path()) {
        Ok(Route::Tags(repository)) => tags(&state, &repository),
        Ok(Route::Manifest(repository, reference)) => manifest(&state, &method, &repository, &reference).await,
        Ok(Route::Blob(repository, digest)) => blob(&state, &method, &repository, &digest, &headers).await,
        Ok(_) => Err(Refused::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "there is no such route")),
        Err(refused @ RouteRefused::Digest(_)) => Err(Refused::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", refused.to_string())),
        Err(refused @ RouteRefused::Tag(_)) => Err(Refused::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", refused.to_string())),
        Err(refused) => Err(Refused::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", refused.to_string())),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

fn tags(state: &EndpointState, repository: &RepositoryName) -> Result<Response, Refused> {
    let catalogue = state.catalogue.read().unwrap_or_else(PoisonError::into_inner);
    let tags = catalogue.tags(repository).ok_or_else(|| unknown_repository(repository))?;
    Ok(axum::Json(json!({"name": repository.as_str(), "tags": tags})).into_response())
}

fn unknown_repository(repository: &RepositoryName) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("no version that this device accepted has images in {repository}"))
}

async fn manifest(state: &EndpointState, method: &Method, repository: &RepositoryName, reference: &Reference) -> Result<Response, Refused> {
    let (digest, media_type) = {
        let catalogue = state.catalogue.read().unwrap_or_else(PoisonError::into_inner);
        let unknown = || {
            let message =
                format!("no version that this device accepted names {repository}:{reference}; only signed versions are served here");
            Refused::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
        };
        let digest = match reference {
            Reference::Digest(digest) => catalogue.offers(repository, digest).then_some(*digest),
            Reference::Tag(tag) => catalogue.resolve(repository, tag),
        };
        let digest = digest.ok_or_else(unknown)?;
        (digest, catalogue.media_types.get(&digest).cloned().ok_or_else(unknown)?)
    };
    send(state, method, digest, &media_type, None).await
}

async fn blob(
    state: &EndpointState,
    method: &Method,
    repository: &RepositoryName,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<Response, Refused> {
    let offered = state.catalogue.read().unwrap_or_else(PoisonError::into_inner).offers(repository, digest);
    if !offered {
        return Err(Refused::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("no version that this device accepted needs {digest}")));
    }
    send(state, method, *digest, "application/octet-stream", headers.get("range").and_then(|range| range.to_str().ok())).await
}

async fn send(state: &EndpointState, method: &Method, digest: Digest, media_type: &str, range: Option<&str>) -> Result<Response, Refused> {
    wait_until_stored(state, &digest).await?;
    let failed = |error: std::io::Error| {
        tracing::error!(blob = %digest, %error, "a stored blob cannot be read");
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "a stored blob cannot be read; see the device's log")
    };
    let (file, size) = state.blobs.open_read(&digest).await.map_err(failed)?.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let wanted = match range.map(|range| range::parse(range, size)) {
        None | Some(Requested::Whole) => None,
        Some(Requested::Part(range)) => Some(range),
        Some(Requested::Unsatisfiable) => {
            return Err(Refused::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", format!("{digest} has {size} bytes")));
        }
    };
    let bytes = wanted.clone().unwrap_or(0..size);
    let mut response = Response::builder()
        .status(if wanted.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
        .header(CONTENT_TYPE, media_type)
        .header(CONTENT_LENGTH, bytes.end - bytes.start)
        .header(ACCEPT_RANGES, "bytes")
        .header(ETAG, format!("\"{digest}\""))
        .header("Docker-Content-Digest", digest.to_string())
        .header("Docker-Distribution-Api-Version", "registry/2.0");
    if wanted.is_some() {
        response = response.header("Content-Range", format!("bytes {}-{}/{size}", bytes.start, bytes.end.saturating_sub(1)));
    }
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from_stream(state.blobs.stream(file, bytes)) };
    response.body(body).map_err(|error| failed(std::io::Error::other(error)))
}

async fn wait_until_stored(state: &EndpointState, digest: &Digest) -> Result<(), Refused> {
    let (is_stored, mut changed) = {
        let catalogue = state.catalogue.read().unwrap_or_else(PoisonError::into_inner);
        (catalogue.stored.contains(digest), catalogue.changed.subscribe())
    };
    if is_stored {
        return Ok(());
    }
    let stored = async {
        while changed.changed().await.is_ok() {
            if state.catalogue.read().unwrap_or_else(PoisonError::into_inner).stored.contains(digest) {
                return;
            }
        }
    };
    tokio::time::timeout(WAIT, stored)
        .await
        .map_err(|_| Refused::new(StatusCode::SERVICE_UNAVAILABLE, "TOOMANYREQUESTS", format!("{digest} is still on its way; try again")))
}
