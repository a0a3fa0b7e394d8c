//! One request that is not over: what is known of it, and who is told when it is answered or dropped.
//!
//! Not here: when that is; see the parent.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{REQUEST_ID, Recorder, Sinks};
use crate::clock::timestamp;
use crate::config::logs::AccessFormat;
use crate::listener::Client;
use crate::seed::access_log::{self, AccessLog};
use crate::seed::activity::{Activity, Outcome, RequestRecord, attempted};
use crate::seed::audit::{self, Who};
use crate::seed::printable::{HOST_BYTES_MAX, METHOD_BYTES_MAX, PATH_BYTES_MAX, USER_AGENT_BYTES_MAX, printable, quotable};
use crate::seed::registry;
use crate::seed::registry::auth::Principal;
use crate::seed::webhooks::event::Origin;

/// Status in the access log and of the figures of a request that its client left before the answer, as nginx has it.
pub(super) const LEFT: u16 = 499;

/// A request that is not over. Dropped, it is.
#[derive(Debug)]
pub(super) struct Pending {
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
    pub(super) fn of(recorder: Recorder, request: &Request) -> Self {
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

    pub(super) fn sinks(&self) -> &Sinks {
        &self.recorder.0
    }

    /// What its route fills in.
    pub(super) fn record(&self) -> RequestRecord {
        self.record.clone()
    }

    /// Lets the routes answer, and tells what came of it.
    pub(super) async fn carry_out(&mut self, request: Request, next: Next) -> Response {
        let mut response = next.run(request).await;
        self.add_id(&mut response);
        let pulled = self.pulled(&response);
        self.answered(response.status(), pulled).await;
        response
    }

    /// It was refused before any route got it, for want of room in the audit log.
    pub(super) fn refused(&mut self, response: &mut Response) {
        self.add_id(response);
        self.count(response.status().as_u16());
        self.status = Some(response.status());
        self.told = true;
    }

    fn add_id(&self, response: &mut Response) {
        if let Ok(id) = HeaderValue::try_from(&self.id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }

    /// There is nobody to answer any more.
    pub(super) const fn client_left(&mut self) {
        self.status = None;
    }

    /// So many bytes of the answer were taken.
    pub(super) const fn sent(&mut self, bytes: u64) {
        self.sent_bytes += bytes;
    }

    fn count(&self, status: u16) {
        if let Some(figures) = &self.sinks().figures {
            figures.count(&self.method, self.uri.path(), status, self.started.elapsed());
        }
    }

    async fn answered(&mut self, status: StatusCode, pulled: Option<Activity>) {
        self.count(status.as_u16());
        self.status = Some(status);
        if let Some(entry) = self.audit_entry() {
            self.sinks().audit.add(entry).await;
        }
        self.told = true;
        self.tell_webhooks();
        if let Some(pulled) = pulled {
            self.tell(&pulled);
        }
    }

    /// What was pulled, if anybody wants to know.
    fn pulled(&self, response: &Response) -> Option<Activity> {
        let asked = self.sinks().webhooks.wants_pulls() && self.method == Method::GET && response.status().is_success();
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
            from: audit::Source {
                address: self.client.as_ref().map(|client| client.address),
                user_agent: printable(self.user_agent(), USER_AGENT_BYTES_MAX),
            },
            request: self.id.clone(),
            method: self.method(),
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
        let device = &self.client.as_ref()?.device.as_ref()?.identity;
        Some(Who { org: device.org.to_string(), key: None, label: String::new(), device: Some(device.device.to_string()) })
    }

    /// A stranger may make a method up, of any length that a head may have.
    fn method(&self) -> String {
        printable(self.method.as_str().as_bytes(), METHOD_BYTES_MAX)
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
        let webhooks = &self.sinks().webhooks;
        if !webhooks.wants(activity) {
            return;
        }
        let host = self.host.as_ref().map(HeaderValue::as_bytes).or_else(|| Some(self.uri.authority()?.as_str().as_bytes()));
        let origin = Origin {
            id: self.id.clone(),
            addr: self.client.as_ref().map(|client| client.address.to_string()).unwrap_or_default(),
            host: printable(host.unwrap_or_default(), HOST_BYTES_MAX),
            method: self.method(),
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
            method: &self.method(),
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
            self.count(LEFT);
            if let Some(entry) = self.audit_entry() {
                self.sinks().audit.add_if_room(entry);
            }
            self.tell_webhooks();
        }
        if let Some(log) = &self.sinks().access {
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
