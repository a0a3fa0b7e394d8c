//! Clients that hardly move: the seed goes on with the others, in bounded memory.
//!
//! Not here: how long a client may take; the listener tests that with short times.

use tests::http::connection::{Body, Connection};
use tests::image::{digest, noise};
use tests::seed::Seed;

use super::{Registry, is_well, manifest};

/// Connections that stand still at the same time.
const CONNECTIONS: usize = 200;
/// What of a head or body each of them sent: more than a seed reads at once.
const SENT_BYTES: usize = 60 << 10;
/// A blob that nobody reads to its end: more than the buffers between two processes hold.
const UNREAD_BYTES: usize = 24 << 20;

/// A seed with an image, and how it is asked whether others are served.
struct Served {
    seed: Seed,
    registry: Registry,
    blob: Vec<u8>,
    image: Vec<u8>,
}

impl Served {
    fn new(blob_bytes: usize) -> Self {
        let seed = Seed::start();
        let registry = Registry::of(&seed);
        let blob = noise(1, blob_bytes);
        let name = digest(&blob);
        let image = manifest(&[(&name, blob.len())], "");
        assert_eq!(registry.push_blob("acme/web", &name, &blob).status, 201);
        assert_eq!(registry.push_manifest("acme/web", "1.0", &image).status, 201);
        Self { seed, registry, blob, image }
    }

    /// Checks that pulls and pushes of manifests go on.
    fn goes_on(&mut self) {
        assert!(self.registry.get("acme/web/manifests/1.0").body == self.image);
        assert!(self.registry.get(&format!("acme/web/blobs/{}", digest(&self.blob))).body == self.blob);
        assert_eq!(self.registry.push_manifest("acme/web", "2.0", &self.image).status, 201);
        is_well(&mut self.seed);
    }

    fn connections(&self, request: &str, then: &[u8]) -> Vec<Connection> {
        let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n", self.registry.authorization);
        let open = |_| {
            let mut connection = Connection::open(&self.registry.url).expect("the seed accepts connections");
            connection.send(head.as_bytes()).expect("a head is taken");
            connection.send(then).expect("what is sent is taken");
            connection
        };
        (0..CONNECTIONS).map(open).collect()
    }
}

#[test]
fn heads_that_never_end_keep_nobody_else_waiting() {
    let mut served = Served::new(1 << 20);
    let mut slow = served.connections("GET /v2/", format!("X-Slow: {}", "a".repeat(SENT_BYTES)).as_bytes());
    for _ in 0..5 {
        for connection in &mut slow {
            connection.send(b"a").expect("the seed still waits");
        }
        served.goes_on();
    }
    drop(slow);
    served.goes_on();
}

#[test]
fn bodies_that_never_end_keep_no_pull_waiting_and_pushes_go_on_when_they_are_gone() {
    let mut served = Served::new(1 << 20);
    let name = digest(b"never sent to its end");
    let body = [format!("Content-Length: {}\r\n\r\n", 1 << 30).as_bytes(), &noise(3, SENT_BYTES)].concat();
    let mut slow = served.connections(&format!("POST /v2/acme/web/blobs/uploads/?digest={name}"), &body);
    for _ in 0..5 {
        for connection in &mut slow {
            // Those that found no place may have been told so, and closed.
            let _ = connection.send(b"a");
        }
        served.goes_on();
    }
    drop(slow);
    let bytes = noise(4, 1 << 20);
    assert_eq!(served.registry.push_blob("acme/web", &digest(&bytes), &bytes).status, 201);
    served.goes_on();
}

#[test]
fn answers_that_nobody_reads_take_bounded_memory() {
    let mut served = Served::new(UNREAD_BYTES);
    let blob = format!("GET /v2/acme/web/blobs/{}", digest(&served.blob));
    let slow = served.connections(&blob, b"\r\n");
    served.goes_on();
    let bytes = noise(5, 1 << 20);
    assert_eq!(served.registry.push_blob("acme/web", &digest(&bytes), &bytes).status, 201);
    served.goes_on();
    drop(slow);
    served.goes_on();
    let again =
        served.registry.ask("GET", &format!("acme/web/blobs/{}", digest(&served.blob)), &[("Range", "bytes=5-9")], Body::Whole(b""));
    assert_eq!((again.status, again.body.as_slice()), (206, &served.blob[5..10]));
}
