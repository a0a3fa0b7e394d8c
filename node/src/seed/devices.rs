//! What devices ask for, on their own listener: a client certificate is required on every route but enrolment.
//!
//! Not here: what operators ask for; see [`super::api`].

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::TryStreamExt as _;
use protocol::digest::Digest;
use protocol::envelope::ENVELOPE_BYTES_MAX;
use protocol::gossip::message::{OTHERS_MAX, SiteHeads};
use protocol::name::{DeviceId, OrgName};
use protocol::oci::range::{self, Requested};
use protocol::rollout::signed;
use protocol::site::places::Polled;
use serde::Deserialize;

use super::Seed;
use super::api::Refused;
use super::enrolment;
use super::extract::{Path, Query, no_method, no_route};
use super::fleet::assignments::DeviceDocuments;
use super::metadata::tuf_file;
use crate::api::{DeviceStateAnswer, LAN_ADDRESSES_MAX, POLL_RECEIPT, SITE_BYTES_MAX};
use crate::clock::{wall_millis, wall_time};
use crate::listener::Client;
use crate::transport::identity::DeviceIdentity;

/// The largest report: every app at its limits.
const REPORT_BYTES_MAX: usize = 256 << 10;

/// The routes. Who asks is known before a body is read, so that strangers cannot make the seed buffer one.
pub fn router(seed: Arc<Seed>) -> Router {
    Router::new()
        .route("/api/v1/device/state", get(state))
        .route("/api/v1/device/report", post(report))
        .route("/api/v1/device/revocations", get(revocations).post(give_back).layer(DefaultBodyLimit::max(ENVELOPE_BYTES_MAX)))
        .route("/api/v1/device/blobs/{digest}", get(blob))
        .route("/tuf/{org}/{*path}", get(metadata))
        .layer(DefaultBodyLimit::max(REPORT_BYTES_MAX))
        .layer(from_fn_with_state(seed.clone(), enrolment::identify))
        .route("/api/v1/device/renew", enrolment::renewal(&seed))
        .route("/enroll", post(enrolment::enroll).layer(DefaultBodyLimit::max(enrolment::BYTES_MAX)))
        .method_not_allowed_fallback(no_method)
        .fallback(no_route)
        .with_state(seed)
}

#[derive(Deserialize)]
struct Poll {
    #[serde(default)]
    port: u16,
    site: Option<String>,
    /// Its addresses on its LANs, separated by commas.
    #[serde(default)]
    lan: String,
    /// Others of its site, for which it asks too, separated by commas.
    #[serde(default)]
    others: String,
}

impl Poll {
    fn lan(&self) -> Result<Vec<IpAddr>, Refused> {
        let lan = self.lan.split(',').filter(|address| !address.is_empty()).take(LAN_ADDRESSES_MAX).map(str::parse);
        let bad = |_| Refused::new(StatusCode::BAD_REQUEST, "bad_address", "lan names IP addresses, separated by commas");
        lan.collect::<Result<_, _>>().map_err(bad)
    }

    fn others(&self) -> Result<BTreeSet<DeviceId>, Refused> {
        let others = self.others.split(',').filter(|other| !other.is_empty()).take(OTHERS_MAX - 1).map(str::parse);
        let bad = |_| Refused::new(StatusCode::BAD_REQUEST, "bad_device", "others names devices, separated by commas");
        others.collect::<Result<_, _>>().map_err(bad)
    }
}

async fn state(
    State(seed): State<Arc<Seed>>,
    Extension(client): Extension<Client>,
    Extension(identity): Extension<DeviceIdentity>,
    Query(poll): Query<Poll>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let DeviceIdentity { org, device, .. } = identity;
    if poll.site.as_ref().is_some_and(|site| site.len() > SITE_BYTES_MAX) {
        let message = format!("the name of a site has at most {SITE_BYTES_MAX} bytes");
        return Err(Refused::new(StatusCode::BAD_REQUEST, "site_too_long", message));
    }
    let (lan, mut others) = (poll.lan()?, poll.others()?);
    others.remove(&device);
    seed.metrics.count_poll(!others.is_empty());
    let missing = || Refused::new(StatusCode::NOT_FOUND, "missing", "the organisation has no trust metadata");
    let timestamp = seed.store.tuf_file(&org, "timestamp.json").await?.ok_or_else(missing)?.content;
    let polled = Polled { from: client.address.ip(), lan, port: poll.port, site: poll.site, others: others.clone() };
    let peers: Vec<SocketAddr> = seed.sites.on_polled(&org, &device, polled);
    let documents = seed.documents_for(&org, &device).await?;
    let list = seed.store.revocation_list(&org).await?;
    let site = match others.is_empty() {
        true => None,
        false => {
            let heads = seed.heads_of(&org, (&device, &documents), others).await?;
            Some(SiteHeads { revocations: list.as_ref().map(|list| list.counter), timestamp: version_of(&timestamp), ..heads })
        }
    };
    let DeviceDocuments { assignment, states, .. } = documents;
    let revocations = list.and_then(|list| list.digest);
    let revoked = revocations.map(|digest| digest.to_string());
    let heads = site.as_ref().map(serde_json::to_string).transpose().map_err(|error| Refused::failed(&error))?;
    let etag = etag_of([&timestamp, &assignment].into_iter().chain(&states).chain(&revoked).chain(&heads));
    let receipt = heads.map(|heads| (POLL_RECEIPT, seed.signer.sign_poll(&org, wall_millis(), heads).mark()));
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag)], AppendHeaders(receipt)).into_response());
    }
    let answer = DeviceStateAnswer { timestamp, assignment, states, revocations, peers, site };
    let body = serde_json::to_vec(&answer).map_err(|error| Refused::failed(&error))?;
    let tagged = [(ETAG, etag), (CONTENT_TYPE, "application/json".to_owned())];
    Ok((tagged, AppendHeaders(receipt), body).into_response())
}

/// The version of a timestamp; none if it cannot be read.
fn version_of(timestamp: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(timestamp).ok()?.pointer("/signed/version")?.as_u64()
}

async fn revocations(State(seed): State<Arc<Seed>>, Extension(identity): Extension<DeviceIdentity>) -> Result<Response, Refused> {
    let missing = || Refused::new(StatusCode::NOT_FOUND, "missing", format!("no key of {} was ever revoked", identity.org));
    let list = seed.store.revocation_list(&identity.org).await?.ok_or_else(missing)?;
    Ok(([(CONTENT_TYPE, "application/json")], list.envelope).into_response())
}

async fn give_back(
    State(seed): State<Arc<Seed>>,
    Extension(identity): Extension<DeviceIdentity>,
    body: Bytes,
) -> Result<StatusCode, Refused> {
    seed.take_back_revocations(&identity, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who else is at the site is a hint of the moment and changes with every device that comes and goes: it is not part of it.
fn etag_of<'a>(documents: impl Iterator<Item = &'a String>) -> String {
    let digests: String = documents.map(|document| Digest::sha256(document.as_bytes()).hex()).collect();
    format!("\"{}\"", &Digest::sha256(digests.as_bytes()).hex()[..32])
}

async fn report(State(seed): State<Arc<Seed>>, Extension(identity): Extension<DeviceIdentity>, body: Bytes) -> Result<StatusCode, Refused> {
    let DeviceIdentity { org, device, node } = &identity;
    let report = signed::open(&body, org, device, &Digest::Sha256(node.0)).map_err(|refused| {
        seed.metrics.count_refused_report();
        tracing::warn!(event = "report_refused", %org, %device, reason = refused.reason(), "a report is not believed: {refused}");
        Refused::new(StatusCode::BAD_REQUEST, refused.reason(), refused.to_string())
    })?;
    seed.metrics.count_report();
    if report.stale {
        seed.metrics.count_stale_report();
    }
    seed.store.put_report(org, device, report, wall_time()).await.inspect_err(|_| seed.metrics.count_refused_report())?;
    Ok(StatusCode::NO_CONTENT)
}

async fn metadata(
    State(seed): State<Arc<Seed>>,
    Extension(identity): Extension<DeviceIdentity>,
    Path((org, path)): Path<(OrgName, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    if identity.org != org {
        return Err(Refused::new(StatusCode::NOT_FOUND, "missing", format!("{org} has no trust metadata {path}")));
    }
    tuf_file(&seed, &org, &path, &headers).await
}

async fn blob(
    State(seed): State<Arc<Seed>>,
    Extension(identity): Extension<DeviceIdentity>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let digest: Digest = digest.parse().map_err(|error| Refused::new(StatusCode::BAD_REQUEST, "bad_digest", format!("{error}")))?;
    let missing = || Refused::new(StatusCode::NOT_FOUND, "missing", format!("there is no blob {digest}"));
    seed.store.org_blob(&identity.org, &digest).await?.ok_or_else(missing)?;
    let (file, size) = seed.blobs.open_read(&digest).await.map_err(|error| Refused::failed(&error))?.ok_or_else(missing)?;
    let part = match headers.get(RANGE).and_then(|range| range.to_str().ok()).map(|header| range::parse(header, size)) {
        None | Some(Requested::Whole) => None,
        Some(Requested::Part(part)) => Some(part),
        Some(Requested::Unsatisfiable) => {
            return Err(Refused::new(StatusCode::RANGE_NOT_SATISFIABLE, "bad_range", format!("{digest} has {size} bytes")));
        }
    };
    let bytes = part.clone().unwrap_or(0..size);
    let mut response = Response::builder()
        .status(if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, bytes.end - bytes.start);
    if part.is_some() {
        response = response.header(CONTENT_RANGE, format!("bytes {}-{}/{size}", bytes.start, bytes.end.saturating_sub(1)));
    }
    let metrics = seed.metrics.clone();
    let counted = seed.blobs.stream(file, bytes).inspect_ok(move |block| metrics.add_blob_bytes(block.len() as u64));
    response.body(Body::from_stream(counted)).map_err(|error| Refused::failed(&error))
}
