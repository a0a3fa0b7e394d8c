//! The registry over a real socket, with a client that resets its connection while its write is on the way to the disk.

use axum::body::to_bytes;
use axum::middleware::from_fn;
use protocol::oci::route::Reference;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::listener;
use crate::seed::fixture;
use crate::seed::registry::RegistryState;
use crate::seed::registry::auth::generate_key;
use crate::store::meta::Scope;
use crate::transport::meter::Meter;

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// A receiver of webhooks that keeps what it is told.
async fn receiver() -> (String, Arc<std::sync::Mutex<Vec<Value>>>) {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = told.clone();
    let hook = move |axum::Json(event): axum::Json<Value>| {
        kept.lock().unwrap().push(event);
        std::future::ready(())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(hook))).await });
    (url, told)
}

/// The body has come and the disk is slow: what follows goes on when there is a permit.
async fn slow(disk: Arc<Semaphore>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    disk.acquire().await.unwrap().forget();
    next.run(Request::from_parts(parts, Body::from(body))).await
}

#[tokio::test]
async fn a_push_whose_client_resets_after_the_body_takes_effect_with_its_audit_line_and_its_event() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let dir = tempfile::tempdir().unwrap();
    let (hook, told) = receiver().await;
    let mut file = SeedFile::new("127.0.0.1:1", "127.0.0.1:2");
    file.webhooks = vec![toml::from_str(&format!("url = \"{hook}\"")).unwrap()];
    let config = SeedConfig::check(dir.path(), file, SeedFlags::default()).unwrap();
    let (recorder, writers) = Recorder::start(&config, RequestFigures::default(), &Arc::default()).unwrap();

    let seed = fixture::seed(dir.path());
    let (key, owner) = generate_key(&"acme".parse().unwrap(), vec![Scope::Push]).unwrap();
    seed.store.create_org(&owner.org.clone(), owner, vec![]).await.unwrap();
    let disk = Arc::new(Semaphore::new(0));
    let on_the_way = disk.clone();
    let state = RegistryState::new(seed.store.clone(), seed.blobs.clone(), seed.gate.clone(), seed.guard.clone());
    let router = registry::router(state).layer(from_fn(move |request, next| slow(on_the_way.clone(), request, next)));
    let router = router.layer(from_fn_with_state(recorder, record));
    let (meter, (_stop, stopped)) = (Meter::new(None), watch::channel(false));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener::serve(listener, None, meter.clone(), router, stopped));

    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /v2/acme/web/manifests/1.0 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{MANIFEST}",
        MANIFEST.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    while meter.read() < head.len() as u64 {
        tokio::task::yield_now().await;
    }
    client.set_zero_linger().unwrap();
    drop(client);
    while meter.open() > 0 {
        tokio::task::yield_now().await;
    }
    disk.add_permits(1);
    writers.finish().await;

    let pushed = seed.store.manifest(&"acme/web".parse().unwrap(), &Reference::Tag("1.0".parse().unwrap())).await.unwrap();
    let digest = pushed.expect("the push takes effect").digest.to_string();
    let audit = std::fs::read_to_string(dir.path().join("audit/0000000001.jsonl")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{audit}");
    assert_eq!((&lines[0]["outcome"], &lines[0]["status"]), (&"done".into(), &201.into()));
    assert_eq!((&lines[0]["target"]["digest"], &lines[0]["who"]["org"]), (&digest.as_str().into(), &"acme".into()));
    let told = told.lock().unwrap();
    assert_eq!((told.len(), &told[0]["events"][0]["target"]["digest"]), (1, &digest.as_str().into()), "{told:?}");
}
