//! Requests through the middleware, and the lines that they leave.

use std::path::Path;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::Semaphore;
use tower_service::Service as _;

use super::pending::LEFT;
use super::*;
use crate::config::logs::{AccessFormat, LogsFile};
use crate::config::seed::{SeedFile, SeedFlags};
use crate::seed::activity::{Activity, ActivityKind, RequestRecord};
use crate::seed::printable::printable;

mod resets;

struct World {
    dir: tempfile::TempDir,
    recorder: Recorder,
    figures: RequestFigures,
    router: Router,
    writers: Writers,
    /// What [`slow_deletion`] waits for.
    disk: Arc<Semaphore>,
}

async fn delete_tag(record: RequestRecord) -> &'static str {
    record.did(Activity::in_repository(ActivityKind::TagDelete, &"acme/web".parse().unwrap()));
    "gone"
}

async fn slow_deletion(disk: Arc<Semaphore>, record: RequestRecord) -> &'static str {
    disk.acquire().await.unwrap().forget();
    delete_tag(record).await
}

impl World {
    fn start(format: AccessFormat) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogsFile { access_format: Some(format), ..LogsFile::default() };
        let file = SeedFile { logs, ..SeedFile::new("127.0.0.1:1", "127.0.0.1:2") };
        let flags = SeedFlags { access_log: Some(dir.path().join("access.log").display().to_string()), ..SeedFlags::default() };
        let config = SeedConfig::check(dir.path(), file, flags).unwrap();
        let figures = RequestFigures::default();
        let (recorder, writers) = Recorder::start(&config, figures.clone(), &Arc::default()).unwrap();
        let disk = Arc::new(Semaphore::new(0));
        let slow = disk.clone();
        let router = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .route("/api/never", get(std::future::pending::<()>))
            .route("/v2/acme/web/manifests/1.0", delete(delete_tag))
            .route("/v2/acme/web/manifests/2.0", delete(move |record| slow_deletion(slow.clone(), record)))
            .route("/v2/acme/web/manifests/3.0", delete(std::future::pending::<()>))
            .route("/enroll", post(|| async { StatusCode::FORBIDDEN }))
            .layer(from_fn_with_state(recorder.clone(), record));
        Self { dir, recorder, figures, router, writers, disk }
    }

    fn request(method: &str, uri: &str, user_agent: &[u8]) -> Request {
        let user_agent = HeaderValue::from_bytes(user_agent).unwrap();
        Request::builder().method(method).uri(uri).header(header::USER_AGENT, user_agent).body(Body::empty()).unwrap()
    }

    async fn ask(&mut self, method: &str, uri: &str, user_agent: &[u8]) -> (StatusCode, String) {
        let response = self.router.call(Self::request(method, uri, user_agent)).await.unwrap();
        let (status, id) = (response.status(), response.headers()[REQUEST_ID].to_str().unwrap().to_owned());
        response.into_body().collect().await.unwrap();
        (status, id)
    }

    /// Ends it: the lines of the access log, and those of the audit log.
    async fn finish(self) -> (String, Vec<Value>) {
        self.writers.finish().await;
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let audit = read(&self.dir.path().join("audit/0000000001.jsonl"));
        let audit = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (read(&self.dir.path().join("access.log")), audit)
    }
}

const HOSTILE: [(&str, &[u8]); 4] = [
    ("/v2/a\"b{}\"status\":200", b"x\" 200 0 \"-\" \"y"),
    ("/v2/%0d%0a127.0.0.1", b"tab\there"),
    ("/v2/\u{85}\u{2028}\u{202e}", b"\xc2\x9b2J\xff"),
    ("/v2/back\\slash", br"\"),
];

#[tokio::test]
async fn no_client_can_forge_a_line_or_drive_a_terminal() {
    for format in [AccessFormat::Json, AccessFormat::Combined] {
        let mut world = World::start(format);
        for (uri, user_agent) in HOSTILE {
            world.ask("DELETE", uri, user_agent).await;
        }
        world.ask("POST", "/enroll", HOSTILE[2].1).await;
        let (access, audit) = world.finish().await;
        assert!(access.bytes().all(|byte| matches!(byte, b'\n' | 0x20..=0x7e)), "{access}");
        assert_eq!(access.lines().count(), HOSTILE.len() + 1);
        for (line, (_, user_agent)) in access.lines().zip(HOSTILE) {
            if format == AccessFormat::Json {
                let line: Value = serde_json::from_str(line).unwrap();
                assert_eq!((&line["status"], &line["user_agent"]), (&404.into(), &printable(user_agent, 256).into()));
            } else {
                let quotes = line.matches('"').count();
                assert_eq!((quotes, line.split('"').nth(2)), (6, Some(" 404 0 ")), "{line}");
                assert!(!line.contains('\\') || line.replace("\\x", "").find('\\').is_none(), "{line}");
            }
        }
        assert_eq!(audit.len(), 1);
        assert_eq!(audit[0]["from"]["user_agent"], "\\xc2\\x9b2J\\xff");
    }
}

#[tokio::test]
async fn no_client_can_make_a_line_long() {
    for format in [AccessFormat::Json, AccessFormat::Combined] {
        let mut world = World::start(format);
        let (method, path, user_agent) = ("M".repeat(60_000), format!("/{}", "p".repeat(60_000)), vec![0xff; 60_000]);
        world.ask(&method, &path, &user_agent).await;
        let (access, _) = world.finish().await;
        assert!(access.len() < 3000, "{format:?}: {} bytes", access.len());
        assert!(access.contains(&format!("{}...", &method[..32])), "{access}");
    }
}

#[tokio::test]
async fn a_line_says_what_was_sent_and_has_the_id_that_the_client_was_told() {
    let mut world = World::start(AccessFormat::Json);
    let (status, id) = world.ask("GET", "/hello?token=secret", b"curl/8").await;
    assert_eq!(status, StatusCode::OK);
    let (access, audit) = world.finish().await;
    let line: Value = serde_json::from_str(&access).unwrap();
    let texts = ["method", "path", "protocol", "user_agent", "request"].map(|name| line[name].as_str().unwrap().to_owned());
    assert_eq!(texts, ["GET", "/hello", "HTTP/1.1", "curl/8", &id]);
    assert_eq!((&line["status"], &line["bytes"]), (&200.into(), &5.into()));
    assert!(audit.is_empty(), "reading is not audited");
}

#[tokio::test]
async fn writes_are_audited_whether_they_were_carried_out_refused_or_never_ended() {
    let mut world = World::start(AccessFormat::Json);
    world.ask("DELETE", "/v2/acme/web/manifests/1.0", b"curl").await;
    world.ask("POST", "/enroll", b"curl").await;
    for left in ["/v2/acme/web/manifests/2.0", "/v2/acme/web/manifests/3.0"] {
        assert!(world.router.call(World::request("DELETE", left, b"curl")).now_or_never().is_none());
    }
    world.disk.add_permits(1);
    let writes = world.writers.writes.clone();
    while writes.tasks.len() > 1 {
        tokio::task::yield_now().await;
    }
    writes.finish(Duration::from_millis(1)).await;
    let (access, audit) = world.finish().await;
    let said: Vec<_> =
        audit.iter().map(|line| (line["action"].as_str().unwrap(), line["outcome"].as_str().unwrap(), &line["status"])).collect();
    let (done, forbidden, none) = (200.into(), 403.into(), Value::Null);
    assert_eq!(
        said,
        [
            ("tag.delete", "done", &done),
            ("device.enrol", "refused", &forbidden),
            ("tag.delete", "done", &done),
            ("tag.delete", "unknown", &none)
        ]
    );
    assert_eq!(audit[3]["target"], serde_json::json!({ "repository": "acme/web", "tags": ["3.0"] }));
    let statuses: Vec<Value> = access.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone()).collect();
    assert_eq!(statuses, [200, 403, LEFT, LEFT], "there was nobody to answer");
}

#[tokio::test]
async fn a_request_is_counted_once_also_when_its_client_goes_away() {
    let mut world = World::start(AccessFormat::Json);
    world.ask("DELETE", "/v2/acme/web/manifests/1.0", b"curl").await;
    world.ask("GET", "/api/absent", b"curl").await;
    assert!(world.router.call(World::request("GET", "/api/never", b"curl")).now_or_never().is_none());
    for (route, method, status) in [("manifests", "DELETE", 200), ("api", "GET", 404), ("api", "GET", LEFT)] {
        assert_eq!(world.figures.counted(route, method, status), 1, "{method} {route} {status}");
    }
    world.finish().await;
}

#[tokio::test]
async fn no_write_begins_while_the_audit_log_has_no_room_and_reading_goes_on() {
    let mut world = World::start(AccessFormat::Json);
    let recorder = world.recorder.clone();
    let full = recorder.0.audit.fill();
    world.disk.add_permits(1);
    let (refused, _) = world.ask("DELETE", "/v2/acme/web/manifests/2.0", b"curl").await;
    assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.disk.available_permits(), 1, "no route was asked");
    assert_eq!(world.ask("GET", "/hello", b"curl").await.0, StatusCode::OK);
    drop(full);
    assert_eq!(world.ask("DELETE", "/v2/acme/web/manifests/2.0", b"curl").await.0, StatusCode::OK);
    let (_, audit) = world.finish().await;
    assert_eq!(audit.len(), 1);
}
