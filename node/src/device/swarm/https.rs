//! The swarm over HTTPS, for sites whose network lets no UDP through: TCP on the swarm's port number, mutual TLS with the same
//! leaf, the same messages and the same ranges of blobs. Whoever dials makes all requests for messages; a blob is asked for by
//! whoever wants it, at the other's port.
//!
//! | request | meaning |
//! |---|---|
//! | `POST /swarm/v1/greeting` | a `Hello` frame each way; begins a session |
//! | `POST /swarm/v1/messages` | frames from the one who dialled |
//! | `GET /swarm/v1/messages` | frames for the one who dialled, as soon as there are some |
//! | `GET /swarm/v1/blobs/<digest>` | a range of whole units, as `Range` says; 404 if not held, 503 if too many are served |
//!
//! Messages without a session get 410. A session lasts ten minutes at most, so that QUIC is tried again.
//!
//! Not here: QUIC, which is tried first; what is said and served, which [`protocol::swarm`] decides; the sessions, see
//! [`super::session`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use protocol::digest::Digest;
use protocol::geometry::Geometry;
use protocol::identity::standing::Purpose;
use protocol::name::NodeId;
use protocol::oci::range::{self, Requested};
use protocol::wire::limits::GET_UNITS_MAX;
use protocol::wire::{Get, GetReply, Message, VERSION};
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::StreamReader;

use super::Command;
use super::connections::{Control, Greeting};
use super::link::Link;
use super::serve::{Ask, Reply};
use super::session::{Https, MESSAGES_BYTES_MAX, Session, frames, messages};
use crate::listener::Client;
use crate::transport::credentials::DeviceCredentials;
use crate::transport::identity::{DEVICE_DNS_NAME, DeviceLeaf};

/// To open a connection: a LAN needs milliseconds, and the handshake of a small device some tens more.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// Without a byte for this long a request is given up.
const READ_TIME: Duration = Duration::from_secs(15);
/// Connections to one peer that are kept for the next range.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// What all requests need.
pub(super) struct Web {
    credentials: Arc<DeviceCredentials>,
    commands: mpsc::Sender<Command>,
    port: u16,
    sessions: Mutex<BTreeMap<NodeId, Arc<Session>>>,
}

impl Web {
    pub(super) const fn new(credentials: Arc<DeviceCredentials>, port: u16, commands: mpsc::Sender<Command>) -> Self {
        Self { credentials, commands, port, sessions: Mutex::new(BTreeMap::new()) }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of the peer that asks.
    fn session(&self, client: &Client) -> Result<Arc<Session>, StatusCode> {
        let node = client.device.as_ref().ok_or(StatusCode::FORBIDDEN)?.identity.node;
        self.sessions().get(&node).filter(|session| session.is_open()).cloned().ok_or(StatusCode::GONE)
    }

    /// A client for one peer: it knows no other address.
    fn client(&self, address: SocketAddr) -> anyhow::Result<reqwest::Client> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.credentials.peer_client(b"http/1.1")?)
            .tls_info(true)
            .http1_only()
            .https_only(true)
            .no_proxy()
            .resolve(DEVICE_DNS_NAME, address)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIME)
            .read_timeout(READ_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build()
            .context("making the HTTPS client")
    }
}

/// The routes.
pub(super) fn router(web: Arc<Web>) -> Router {
    Router::new()
        .route("/swarm/v1/greeting", post(greeting))
        .route("/swarm/v1/messages", post(hear).get(tell))
        .route("/swarm/v1/blobs/{digest}", get(blob))
        .layer(DefaultBodyLimit::max(MESSAGES_BYTES_MAX))
        .layer(from_fn_with_state(web.clone(), let_in))
        .with_state(web)
}

/// A connection may outlive what its certificate was good for when it was made.
async fn let_in(
    State(web): State<Arc<Web>>,
    Extension(from): Extension<Client>,
    request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let leaf = from.device.ok_or(StatusCode::FORBIDDEN)?;
    web.credentials.admission().refusal(&leaf, Purpose::Blobs).map_err(|_| StatusCode::FORBIDDEN)?;
    Ok(next.run(request).await)
}

/// Dials an address and greets.
pub(super) async fn dial(web: &Web, address: SocketAddr) -> anyhow::Result<Greeting> {
    let client = web.client(address)?;
    let hello = frames(&[Message::Hello { version: VERSION, port: web.port }]);
    let response = client.post(url(address, "greeting")).body(hello).send().await?.error_for_status()?;
    let leaf = leaf(&response)?;
    let port = hello_port(&crate::device::seed_client::bounded(response, MESSAGES_BYTES_MAX).await?)?;
    let link = Https::new(leaf.identity.node, address, client);
    let (session, outbox) = Session::new(link.clone(), true);
    let control = Control::Session { outbox, session: Arc::new(session) };
    Ok(Greeting::new(leaf, Link::Https(link), Some(address), port, control))
}

async fn greeting(State(web): State<Arc<Web>>, Extension(from): Extension<Client>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let leaf = from.device.ok_or(StatusCode::FORBIDDEN)?;
    let port = hello_port(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let address = SocketAddr::new(from.address.ip().to_canonical(), port);
    let client = web.client(address).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let link = Https::new(leaf.identity.node, address, client);
    let (session, outbox) = Session::new(link.clone(), false);
    let session = Arc::new(session);
    {
        let mut sessions = web.sessions();
        sessions.retain(|_, session| session.is_open());
        sessions.insert(leaf.identity.node, session.clone());
    }
    let greeting = Greeting::new(leaf, Link::Https(link), None, port, Control::Session { outbox, session });
    web.commands.send(Command::Greeted(Box::new(greeting))).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(frames(&[Message::Hello { version: VERSION, port: web.port }]))
}

async fn hear(State(web): State<Arc<Web>>, Extension(from): Extension<Client>, body: Bytes) -> Result<StatusCode, StatusCode> {
    let session = web.session(&from)?;
    match session.hear(&body, &web.commands).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(refused) => {
            let node = session.link().node();
            tracing::warn!(event = "frame_refused", %node, refused = format!("{refused:#}"), "a peer sent what is no message; disconnecting it");
            session.link().close();
            Err(StatusCode::BAD_REQUEST)
        }
    }
}

async fn tell(State(web): State<Arc<Web>>, Extension(from): Extension<Client>) -> Result<Vec<u8>, StatusCode> {
    Ok(web.session(&from)?.next_frames().await)
}

async fn blob(
    State(web): State<Arc<Web>>,
    Extension(from): Extension<Client>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    let peer = from.device.ok_or(StatusCode::FORBIDDEN)?.identity.node;
    let blob: Digest = digest.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let (tell, told) = oneshot::channel();
    web.commands.send(Command::Geometry { blob, tell }).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let geometry = told.await.ok().flatten().ok_or(StatusCode::NOT_FOUND)?;
    let wanted = match headers.get(RANGE).and_then(|header| header.to_str().ok()).map(|header| range::parse(header, geometry.size())) {
        Some(Requested::Part(range)) => range,
        Some(Requested::Whole) | None => 0..geometry.size(),
        Some(Requested::Unsatisfiable) => return Err(StatusCode::RANGE_NOT_SATISFIABLE),
    };
    let get = units(&geometry, &wanted).map(|units| Get { blob, first_unit: units.start, units: units.end - units.start });
    let get = get.ok_or(StatusCode::RANGE_NOT_SATISFIABLE)?;
    let (reply, answer) = Reply::http();
    web.commands.send(Command::Asked(Ask { peer, get, reply })).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    match answer.await {
        Ok((GetReply::Sending, blocks)) => {
            let sender = web.sessions().get(&peer).map(|session| session.link().clone());
            let body = stream::unfold((blocks, sender), |(mut blocks, sender)| async move {
                let block = blocks.recv().await?;
                if let (Ok(block), Some(sender)) = (&block, &sender) {
                    sender.count_sent(block.len() as u64);
                }
                Some((block, (blocks, sender)))
            });
            let length = [(CONTENT_LENGTH, (wanted.end - wanted.start).to_string())];
            let range = [(CONTENT_RANGE, format!("bytes {}-{}/{}", wanted.start, wanted.end.saturating_sub(1), geometry.size()))];
            Ok((StatusCode::PARTIAL_CONTENT, length, range, Body::from_stream(body)).into_response())
        }
        Ok((GetReply::NotHeld, _)) => Err(StatusCode::NOT_FOUND),
        Ok((GetReply::Busy, _)) | Err(_) => Ok((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response()),
    }
}

/// The units that a range of bytes is, if it is whole units, and not too many.
fn units(geometry: &Geometry, range: &Range<u64>) -> Option<Range<u32>> {
    let unit = geometry.unit_bytes();
    let first = u32::try_from(range.start / unit).ok()?;
    let end = u32::try_from(range.end.div_ceil(unit)).ok()?;
    (geometry.bytes_of(first..end) == *range && end - first <= GET_UNITS_MAX).then_some(first..end)
}

/// Asks a peer for units: its answer, and the bytes if it sends them.
pub(super) async fn request(
    link: &Https,
    blob: &Digest,
    bytes: Range<u64>,
) -> anyhow::Result<(GetReply, Option<impl AsyncRead + Unpin + use<>>)> {
    let header = format!("bytes={}-{}", bytes.start, bytes.end.saturating_sub(1));
    let request = link.client().get(url(link.address(), &format!("blobs/{blob}"))).header(RANGE, header);
    let response = request.send().await?;
    ensure!(leaf(&response)?.identity.node == link.node(), "another device answers at the peer's address");
    let length = response.content_length();
    match response.status() {
        StatusCode::PARTIAL_CONTENT if length == Some(bytes.end - bytes.start) => {
            link.count_received(bytes.end - bytes.start);
            Ok((GetReply::Sending, Some(StreamReader::new(Box::pin(response.bytes_stream().map_err(std::io::Error::other))))))
        }
        StatusCode::NOT_FOUND => Ok((GetReply::NotHeld, None)),
        StatusCode::SERVICE_UNAVAILABLE => Ok((GetReply::Busy, None)),
        status => bail!("the peer answered {status} with {length:?} bytes"),
    }
}

pub(super) fn url(address: SocketAddr, path: &str) -> String {
    format!("https://{DEVICE_DNS_NAME}:{}/swarm/v1/{path}", address.port())
}

fn leaf(response: &reqwest::Response) -> anyhow::Result<DeviceLeaf> {
    let info = response.extensions().get::<reqwest::tls::TlsInfo>();
    let certificate = info.and_then(reqwest::tls::TlsInfo::peer_certificate).context("the peer showed no certificate")?;
    Ok(DeviceLeaf::from_certificate(certificate)?)
}

fn hello_port(body: &[u8]) -> anyhow::Result<u16> {
    match messages(body)?[..] {
        [Message::Hello { version: VERSION, port }] => Ok(port),
        [Message::Hello { version, .. }] => bail!("the peer speaks version {version} of the swarm protocol, this node {VERSION}"),
        _ => bail!("the peer did not greet first"),
    }
}
