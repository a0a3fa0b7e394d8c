//! Around every request: gives it an id, and tells access log, audit log and webhooks what became of it.
//!
//! | module | holds |
//! |---|---|
//! | `id` | ids of requests |
//!
//! A request whose client goes away before the answer is told too, by what drops it.
//!
//! Not here: what requests do; their routes say it, see [`super::activity`].

mod id;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Buf as _, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::task::spawn_blocking;

use super::access_log::{self, AccessLog, AccessWriter};
use super::activity::{Activity, Outcome, RequestRecord, attempted};
use super::audit::files::Bounds;
use super::audit::{self, AuditLog, AuditWriter, Who};
use super::log_metrics::LogMetrics;
use super::printable::{PATH_BYTES_MAX, USER_AGENT_BYTES_MAX, printable, quotable};
use super::registry;
use super::registry::auth::Principal;
use super::webhooks::event::Origin;
use super::webhooks::{Deliveries, Webhooks};
use crate::clock::timestamp;
use crate::config::logs::AccessFormat;
use crate::config::seed::SeedConfig;
use crate::listener::Client;
use id::Ids;

/// What a request is found by in the logs of both sides; taken over from a client that sends one.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Status in the access log of a request that its client left before the answer, as nginx has it.
const LEFT: u16 = 499;

/// What logs and webhooks need of each request. Clones share it.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Sinks>);

#[derive(Clone, Debug)]
struct Sinks {
    ids: Arc<Ids>,
    access: Option<AccessLog>,
    audit: AuditLog,
    webhooks: Arc<Webhooks>,
}

/// The threads and tasks that write and send; to be finished when no more requests come.
#[derive(Debug)]
pub struct Writers {
    access: Option<AccessWriter>,
    audit: AuditWriter,
    deliveries: Deliveries,
}

impl Recorder {
    /// Opens the logs and starts what writes them.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn start(config: &SeedConfig, metrics: &Arc<LogMetrics>) -> anyhow::Result<(Self, Writers)> {
        let logs = &config.logs;
        let bounds = Bounds { file_bytes: logs.audit_file_bytes, files_kept: logs.audit_files_kept };
        let url = config.public_url.as_ref().map_or_else(|| config.url(), ToString::to_string);
        let (webhooks, deliveries) = Webhooks::start(config.webhooks.clone(), url, config.listen.to_string(), metrics)?;
        let access = logs.access.as_ref().map(|sink| AccessLog::start(sink, logs.access_format, metrics.clone())).transpose()?;
        let (access, access_writer) = access.unzip();
        let (audit, audit_writer) = AuditLog::start(&config.data, bounds, metrics.clone())?;
        let sinks = Sinks { ids: Arc::new(Ids::new()?), access, audit, webhooks: Arc::new(webhooks) };
        Ok((Self(Arc::new(sinks)), Writers { access: access_writer, audit: audit_writer, deliveries }))
    }

    /// The same, for a listener without an access log.
    #[must_use]
    pub fn without_access_log(&self) -> Self {
        Self(Arc::new(Sinks { access: None, ..Sinks::clone(&self.0) }))
    }

    /// The access log, if there is one.
    pub fn access_log(&self) -> Option<&AccessLog> {
        self.0.access.as_ref()
    }
}

impl Writers {
    /// Writes and sends what is there, and ends.
    pub async fn finish(self) {
        self.deliveries.finish().await;
        let (access, audit) = (self.access, self.audit);
        let finished = spawn_blocking(move || {
            audit.finish();
            if let Some(access) = access {
                access.finish();
            }
        });
        if let Err(error) = finished.await {
            tracing::error!(%error, "the logs were not finished");
        }
    }
}

/// The middleware.
pub async fn record(State(recorder): State<Recorder>, mut request: Request, next: Next) -> Response {
    let mut pending = Pending::of(recorder, &request);
    request.extensions_mut().insert(pending.record.clone());
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::try_from(&pending.id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let pulled = pending.pulled(&response);
    pending.answered(response.status(), pulled).await;
    if pending.recorder.0.access.is_some() { response.map(|body| Body::new(Counted { body, pending })) } else { response }
}

/// A request that is not over. Dropped, it is.
#[derive(Debug)]
struct Pending {
    recorder: Recorder,
    record: RequestRecord,
    id: String,
    time: jiff::Timestamp,
    started: Instant,
    method: Method,
    uri: Uri,
    version: Version,
    client: Option<Client>,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    status: Option<StatusCode>,
    /// Audit log and webhooks know.
    told: bool,
    sent_bytes: u64,
}

impl Pending {
    fn of(recorder: Recorder, request: &Request) -> Self {
        let headers = request.headers();
        Self {
            id: recorder.0.ids.of(headers),
            recorder,
            record: RequestRecord::default(),
            time: timestamp(),
            started: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            client: request.extensions().get().cloned(),
            host: headers.get(header::HOST).cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            status: None,
            told: false,
            sent_bytes: 0,
        }
    }

    async fn answered(&mut self, status: StatusCode, pulled: Option<Activity>) {
        self.status = Some(status);
        if let Some(entry) = self.audit_entry() {
            self.recorder.0.audit.add(entry).await;
        }
        self.told = true;
        self.tell_webhooks();
        if let Some(pulled) = pulled {
            self.tell(&pulled);
        }
    }

    /// What was pulled, if anybody wants to know.
    fn pulled(&self, response: &Response) -> Option<Activity> {
        let asked = self.recorder.0.webhooks.wants_pulls() && self.method == Method::GET && response.status().is_success();
        if asked { registry::described::pulled(self.uri.path(), response.headers()) } else { None }
    }

    /// A write that was carried out, or one that was not.
    fn audit_entry(&self) -> Option<audit::Entry> {
        let did = self.record.activity();
        let outcome = Outcome::of(self.status, did.is_some());
        let target = match did {
            Some(activity) => activity.clone(),
            None if outcome == Outcome::Done => return None,
            None => attempted(&self.method, self.uri.path())?,
        };
        let path = self.uri.path().as_bytes();
        target.action.is_write().then(|| audit::Entry {
            time: self.time,
            action: target.action,
            outcome,
            status: self.status.map(|status| status.as_u16()),
            who: self.who(),
            from: audit::From {
                address: self.client.as_ref().map(|client| client.address),
                user_agent: printable(self.user_agent(), USER_AGENT_BYTES_MAX),
            },
            request: self.id.clone(),
            method: self.method.to_string(),
            path: printable(path, PATH_BYTES_MAX),
            target,
        })
    }

    fn who(&self) -> Option<Who> {
        if let Some(principal) = self.record.principal() {
            return Some(Who {
                org: principal.org().to_string(),
                key: Some(principal.key().to_owned()),
                label: principal.label().to_owned(),
                device: None,
            });
        }
        let device = self.client.as_ref()?.device.as_ref()?;
        Some(Who { org: device.org.to_string(), key: None, label: String::new(), device: Some(device.device.to_string()) })
    }

    fn user_agent(&self) -> &[u8] {
        self.user_agent.as_ref().map_or(b"", HeaderValue::as_bytes)
    }

    fn tell_webhooks(&self) {
        if let Some(activity) = self.record.activity() {
            self.tell(activity);
        }
    }

    fn tell(&self, activity: &Activity) {
        let webhooks = &self.recorder.0.webhooks;
        if !webhooks.wants(activity) {
            return;
        }
        let host = self.host.as_ref().map(HeaderValue::as_bytes).or_else(|| Some(self.uri.authority()?.as_str().as_bytes()));
        let origin = Origin {
            id: self.id.clone(),
            addr: self.client.as_ref().map(|client| client.address.to_string()).unwrap_or_default(),
            host: printable(host.unwrap_or_default(), USER_AGENT_BYTES_MAX),
            method: self.method.to_string(),
            useragent: printable(self.user_agent(), USER_AGENT_BYTES_MAX),
        };
        let actor = self.record.principal().map(Principal::key);
        webhooks.tell(activity, self.time, actor, &origin);
    }

    fn add_to_access_log(&self, log: &AccessLog) {
        let client_text = match log.format() {
            AccessFormat::Json => printable,
            AccessFormat::Combined => quotable,
        };
        let principal = self.record.principal();
        let org = principal.map(|principal| principal.org().to_string());
        log.add(&access_log::Entry {
            time: self.time,
            client: self.client.as_ref().map(|client| client.address.ip()),
            key: principal.map(Principal::key),
            org: org.as_deref(),
            method: self.method.as_str(),
            path: &client_text(self.uri.path().as_bytes(), PATH_BYTES_MAX),
            protocol: protocol_name(self.version),
            status: self.status.map_or(LEFT, |status| status.as_u16()),
            bytes: self.sent_bytes,
            duration_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            user_agent: &client_text(self.user_agent(), USER_AGENT_BYTES_MAX),
            request: &self.id,
        });
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.told {
            if let Some(entry) = self.audit_entry() {
                self.recorder.0.audit.add_now(entry);
            }
            self.tell_webhooks();
        }
        if let Some(log) = &self.recorder.0.access {
            self.add_to_access_log(log);
        }
    }
}

const fn protocol_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// The body of an answer, which counts what is taken of it; when it is dropped, the request is over.
struct Counted {
    body: Body,
    pending: Pending,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.pending.sent_bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
