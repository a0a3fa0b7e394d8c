//! Events to a receiver that listens, fails and comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

use super::*;
use crate::config::logs::WebhookFile;
use crate::seed::activity::ActivityKind;
use crate::transport::ca::CertificateAuthority;
use crate::transport::certificate::CurrentCertificate;
use crate::transport::meter::Meter;
use crate::{listener, transport};

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Status(u16),
    Redirect,
    Nothing,
}

/// A receiver: what it does first, then it takes everything.
#[derive(Clone, Debug, Default)]
struct Script(Arc<Mutex<(VecDeque<Answer>, Vec<Taken>)>>);

#[derive(Clone, Debug)]
struct Taken {
    headers: HeaderMap,
    body: serde_json::Value,
}

impl Script {
    fn of(answers: &[Answer]) -> Self {
        Self(Arc::new(Mutex::new((answers.iter().copied().collect(), Vec::new()))))
    }

    fn router(&self) -> Router {
        Router::new().fallback(receive).with_state(self.clone())
    }

    fn taken(&self) -> Vec<Taken> {
        self.0.lock().unwrap().1.clone()
    }

    /// The tags of the events that were taken.
    fn tags(&self) -> Vec<String> {
        self.taken().iter().map(|taken| taken.body["events"][0]["target"]["tag"].as_str().unwrap().to_owned()).collect()
    }
}

async fn receive(State(script): State<Script>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(uri.path(), "/hook");
    let answer = script.0.lock().unwrap().0.pop_front().unwrap_or(Answer::Status(200));
    match answer {
        Answer::Nothing => std::future::pending().await,
        Answer::Redirect => (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
        Answer::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap();
            if status.is_success() {
                script.0.lock().unwrap().1.push(Taken { headers, body: serde_json::from_slice(&body).unwrap() });
            }
            status.into_response()
        }
    }
}

fn start(url: &str, settings: &str) -> (Webhooks, Deliveries, WebhookMetrics) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let file: WebhookFile = toml::from_str(&format!("url = \"{url}/hook\"\nbackoff_ms = 1\n{settings}")).unwrap();
    let metrics = LogMetrics::default();
    let configs = WebhookConfig::check_all(vec![file]).unwrap();
    let (webhooks, deliveries) = Webhooks::start(configs, "http://seed.example".into(), "127.0.0.1:5000".into(), &metrics).unwrap();
    (webhooks, deliveries, metrics.webhook(url))
}

fn push(webhooks: &Webhooks, repository: &str, tag: &str) {
    let tags = vec![tag.parse().unwrap()];
    let activity = Activity { tags, ..Activity::in_repository(ActivityKind::ManifestPush, &repository.parse().unwrap()) };
    let origin = Origin { id: "r1".into(), addr: String::new(), host: String::new(), method: "PUT".into(), useragent: String::new() };
    webhooks.tell(&activity, crate::clock::timestamp(), Some("00ff"), &origin);
}

async fn until(mut condition: impl FnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    patience.await.unwrap();
}

#[tokio::test]
async fn a_receiver_that_fails_gets_every_event_in_order_when_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = "timeout_ms = 200\nheaders = { Authorization = \"Bearer s3cret\" }";
    let (webhooks, deliveries, metrics) = start(&format!("http://{address}"), settings);
    let tags: Vec<String> = (0..5).map(|n| format!("v{n}")).collect();
    tags.iter().for_each(|tag| push(&webhooks, "acme/web", tag));
    until(|| metrics.failed.get() > 0).await;

    let script =
        Script::of(&[Answer::Status(500), Answer::Nothing, Answer::Redirect, Answer::Status(200), Answer::Status(503), Answer::Nothing]);
    let listener = TcpListener::bind(address).await.unwrap();
    let router = script.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    until(|| metrics.delivered.get() == 5).await;
    assert_eq!(script.tags(), tags);
    for taken in script.taken() {
        assert_eq!(taken.headers["content-type"], event::MEDIA_TYPE);
        assert_eq!(taken.headers["authorization"], "Bearer s3cret");
        assert_eq!(taken.body["events"].as_array().unwrap().len(), 1);
    }
    assert!(metrics.failed.get() >= 6, "each failure was counted: {}", metrics.failed.get());
    assert_eq!((metrics.dropped.get(), metrics.waiting.get()), (0, 0));
    deliveries.finish().await;
}

#[tokio::test]
async fn events_that_wait_when_the_seed_stops_are_still_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let script = Script::of(&[]);
    let router = script.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (webhooks, deliveries, _) = start(&url, "");
    (0..20).for_each(|n| push(&webhooks, "acme/web", &format!("v{n}")));
    deliveries.finish().await;
    assert_eq!(script.tags().len(), 20);
}

#[tokio::test]
async fn events_beyond_the_queue_are_dropped_and_counted() {
    let (webhooks, _deliveries, metrics) = start("http://127.0.0.1:1", "queue_events = 2");
    (0..10).for_each(|n| push(&webhooks, "acme/web", &format!("v{n}")));
    assert_eq!(metrics.dropped.get(), 8);
    assert_eq!(metrics.waiting.get(), 2);
}

#[tokio::test]
async fn an_event_that_the_receiver_refuses_for_good_does_not_hold_up_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let script = Script::of(&[Answer::Status(422)]);
    let router = script.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (webhooks, deliveries, metrics) = start(&url, "");
    push(&webhooks, "acme/web", "refused");
    push(&webhooks, "acme/web", "taken");
    deliveries.finish().await;
    assert_eq!((script.tags(), metrics.dropped.get()), (vec!["taken".to_owned()], 1));
}

#[tokio::test]
async fn a_receiver_gets_what_it_asked_for() {
    let (webhooks, _deliveries, metrics) = start("http://127.0.0.1:1", "repositories = [\"acme/*\", \"other/web\"]\nevents = [\"push\"]");
    push(&webhooks, "acme/web", "1.0");
    push(&webhooks, "other/web", "1.0");
    push(&webhooks, "other/api", "1.0");
    let deleted = Activity::in_repository(ActivityKind::TagDelete, &"acme/web".parse().unwrap());
    assert!(!webhooks.wants(&deleted) && !webhooks.wants_pulls());
    assert_eq!(metrics.waiting.get(), 2);
}

#[tokio::test]
async fn a_receiver_with_a_certificate_of_its_own_ca_is_believed_and_no_other() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let dir = tempfile::tempdir().unwrap();
    let authority = CertificateAuthority::create(dir.path(), "ca").unwrap();
    let certificate = CurrentCertificate::new(authority.issue_server(&["127.0.0.1".to_owned()]).unwrap()).unwrap();
    let tls = Arc::new(transport::tls::public_listener(Arc::new(certificate)).unwrap());
    let socket = listener::bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
    let url = format!("https://{}", socket.local_addr().unwrap());
    let script = Script::of(&[]);
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(listener::serve(socket, Some(tls), Meter::new(None), script.router(), stopped));

    let (suspicious, _running, failures) = start(&url, "");
    push(&suspicious, "acme/web", "not-sent");
    until(|| failures.failed.get() > 0).await;
    let (webhooks, deliveries, _) = start(&url, &format!("ca_file = \"{}\"", dir.path().join("ca.pem").display()));
    push(&webhooks, "acme/web", "sent");
    deliveries.finish().await;
    assert_eq!(script.tags(), ["sent"]);
}
