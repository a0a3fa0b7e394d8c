//! Around every request: gives it an id, and tells access log, audit log and webhooks what became of it.
//!
//! | module | holds |
//! |---|---|
//! | [`figures`] | requests, counted and timed |
//! | `id` | ids of requests |
//! | `pending` | one request that is not over, and what is told of it |
//!
//! *Writes are carried out to their end.* A request that changes something runs in a task of its own, with the telling of what
//! it did. A client that goes away, with its body sent or while a disk is slow, ends neither: what took effect is always in
//! the audit log and told to webhooks. Its body is still its own: when that breaks off, the write ends with an error.
//!
//! *No write without a line.* While the audit log has no room, because its disk hangs, no write is begun: it waits for
//! [`ROOM_WAIT`](super::audit::ROOM_WAIT) and is answered 503.
//!
//! Not here: what requests do; their routes say it, see [`super::activity`].

pub mod figures;
mod id;
mod pending;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access_log::{AccessLog, AccessWriter};
use super::activity::attempted;
use super::audit::files::Bounds;
use super::audit::{AuditLog, AuditWriter};
use super::log_metrics::LogMetrics;
use super::webhooks::{Deliveries, Webhooks};
use super::{api, registry};
use crate::config::seed::SeedConfig;
use figures::RequestFigures;
use id::Ids;
use pending::Pending;

/// What a request is found by in the logs of both sides; taken over from a client that sends one.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When the seed stops, writes whose clients have gone have this long to end: those that wait for a disk need it. The audit
/// log says of further ones that it does not know how they ended.
const WRITES_TIME: Duration = Duration::from_secs(5);

/// What logs and webhooks need of each request. Clones share it.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Sinks>);

#[derive(Clone, Debug)]
struct Sinks {
    ids: Arc<Ids>,
    figures: Option<RequestFigures>,
    access: Option<AccessLog>,
    audit: AuditLog,
    webhooks: Arc<Webhooks>,
    writes: Writes,
}

/// Writes under way, also those whose clients have gone.
#[derive(Clone, Debug, Default)]
struct Writes {
    tasks: TaskTracker,
    /// No time is left.
    over: CancellationToken,
}

/// The threads and tasks that write and send; to be finished when no more requests come.
#[derive(Debug)]
pub struct Writers {
    writes: Writes,
    access: Option<AccessWriter>,
    audit: AuditWriter,
    deliveries: Deliveries,
}

impl Recorder {
    /// Opens the logs and starts what writes them.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn start(config: &SeedConfig, figures: RequestFigures, metrics: &Arc<LogMetrics>) -> anyhow::Result<(Self, Writers)> {
        let logs = &config.logs;
        let bounds = Bounds { file_bytes: logs.audit_file_bytes, files_kept: logs.audit_files_kept };
        let url = config.public_url.as_ref().map_or_else(|| config.url(), ToString::to_string);
        let (webhooks, deliveries) = Webhooks::start(config.webhooks.clone(), url, config.listen.to_string(), metrics)?;
        let access = logs.access.as_ref().map(|sink| AccessLog::start(sink, logs.access_format, metrics.clone())).transpose()?;
        let (access, access_writer) = access.unzip();
        let (audit, audit_writer) = AuditLog::start(&config.data, bounds, metrics.clone())?;
        let writes = Writes::default();
        let writers = Writers { writes: writes.clone(), access: access_writer, audit: audit_writer, deliveries };
        let (ids, figures, webhooks) = (Arc::new(Ids::new()?), Some(figures), Arc::new(webhooks));
        Ok((Self(Arc::new(Sinks { ids, figures, access, audit, webhooks, writes })), writers))
    }

    /// The same, for the listener of devices: their requests are neither counted nor in the access log.
    #[must_use]
    pub fn for_devices(&self) -> Self {
        Self(Arc::new(Sinks { access: None, figures: None, ..Sinks::clone(&self.0) }))
    }

    /// The audit log, for what the seed does by itself.
    pub fn audit_log(&self) -> &AuditLog {
        &self.0.audit
    }

    /// The access log, if there is one.
    pub fn access_log(&self) -> Option<&AccessLog> {
        self.0.access.as_ref()
    }
}

impl Writers {
    /// Writes and sends what is there, and ends.
    pub async fn finish(self) {
        self.writes.finish(WRITES_TIME).await;
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

impl Writes {
    async fn finish(&self, time: Duration) {
        self.tasks.close();
        if timeout(time, self.tasks.wait()).await.is_err() {
            tracing::warn!(writes = self.tasks.len(), "writes did not end before the seed; their outcome is unknown");
            self.over.cancel();
            self.tasks.wait().await;
        }
    }
}

/// The middleware.
pub async fn record(State(recorder): State<Recorder>, mut request: Request, next: Next) -> Response {
    let is_write = attempted(request.method(), request.uri().path()).is_some();
    let mut pending = Pending::of(recorder, &request);
    request.extensions_mut().insert(pending.record());
    if !is_write {
        let response = pending.carry_out(request, next).await;
        return counted(response, pending);
    }
    if let Err(full) = pending.sinks().audit.room().await {
        tracing::error!(error = %full, "a write was refused");
        let is_registry = request.uri().path().starts_with("/v2/");
        let mut response = if is_registry { registry::not_audited(full) } else { api::Refused::from(full).into_response() };
        pending.refused(&mut response);
        return counted(response, pending);
    }
    let Writes { tasks, over } = pending.sinks().writes.clone();
    let (tell, told) = oneshot::channel();
    let write = tasks.spawn(async move {
        let response = tokio::select! {
            response = pending.carry_out(request, next) => response,
            () = over.cancelled() => return,
        };
        if let Err((_, mut pending)) = tell.send((response, pending)) {
            pending.client_left();
        }
    });
    match told.await {
        Ok((response, pending)) => counted(response, pending),
        Err(_) => match write.await.map_err(tokio::task::JoinError::try_into_panic) {
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Ok(()) | Err(Err(_)) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
    }
}

/// The answer, if there is an access log with a body that knows when it is over.
fn counted(response: Response, pending: Pending) -> Response {
    if pending.sinks().access.is_some() { response.map(|body| Body::new(Counted { body, pending })) } else { response }
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
            let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
            self.pending.sent(bytes);
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
