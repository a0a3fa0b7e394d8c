//! Blobs: each way to push one, with the right and a wrong digest, mounts, uploads that are given up, and parts.
//!
//! Not here: manifests; see `lifecycle`.

use tests::registry::{Registry, Request};

use super::Case;
use super::data::{Algorithm, Blob};

const REPOSITORY: &str = "acme/conformance/blobs";
const OTHER_REPOSITORY: &str = "acme/conformance/other-blobs";

/// Bytes of a blob that is pushed whole.
const SMALL: usize = 512;

/// Bytes of a blob that is pushed in three chunks.
const LARGE: usize = 3 * 65_536 - 5;

/// Where a blob is pushed to, and which algorithm the upload is told of.
pub(super) struct Way<'a> {
    pub(super) registry: &'a Registry,
    pub(super) repository: &'a str,
    pub(super) announced: Option<Algorithm>,
}

/// A way to push: does all of it but the last request, which it gives.
type Method = fn(&Way<'_>, &Blob) -> Request;

/// All ways to push.
const METHODS: [(&str, Method); 10] = [
    ("post only", post_only),
    ("post+put", post_put),
    ("post+put streamed", |way, blob| way.registry.ask("PUT", &end(&way.start(), blob)).streamed(&blob.bytes)),
    ("chunked single", |way, blob| chunked(way, blob, 1, Order::Right, Last::Patched)),
    ("chunked multi", |way, blob| chunked(way, blob, 3, Order::Right, Last::Patched)),
    ("chunked multi and put chunk", |way, blob| chunked(way, blob, 3, Order::Right, Last::Put)),
    ("chunked out-of-order", |way, blob| chunked(way, blob, 3, Order::WrongFirst, Last::Patched)),
    ("chunked out-of-order and put chunk", |way, blob| chunked(way, blob, 3, Order::WrongFirst, Last::Put)),
    ("stream", |way, blob| patched(way, blob, |request| request.streamed(&blob.bytes))),
    ("stream with length", |way, blob| patched(way, blob, |request| request.octets(&blob.bytes))),
];

/// In which order chunks are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Right,
    /// Before each right one, a wrong one is tried.
    WrongFirst,
}

/// Which request has the last chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Patched,
    Put,
}

impl Way<'_> {
    fn uploads(&self, query: &str) -> String {
        format!("/v2/{}/blobs/uploads/{query}", self.repository)
    }

    /// Starts an upload: its location.
    fn start(&self) -> String {
        let query = self.announced.map(|algorithm| format!("?digest-algorithm={}", algorithm.name())).unwrap_or_default();
        self.registry.ask("POST", &self.uploads(&query)).gives(202).location()
    }
}

fn uploads_to<'a>(registry: &'a Registry, repository: &'a str) -> Way<'a> {
    Way { registry, repository, announced: None }
}

fn blob_path(repository: &str, blob: &Blob) -> String {
    format!("/v2/{repository}/blobs/{}", blob.digest)
}

/// Where an upload is ended.
fn end(location: &str, blob: &Blob) -> String {
    format!("{location}{}digest={}", if location.contains('?') { '&' } else { '?' }, blob.digest)
}

fn post_only(way: &Way<'_>, blob: &Blob) -> Request {
    way.registry.ask("POST", &way.uploads(&format!("?digest={}", blob.digest))).octets(&blob.bytes)
}

pub(super) fn post_put(way: &Way<'_>, blob: &Blob) -> Request {
    way.registry.ask("PUT", &end(&way.start(), blob)).octets(&blob.bytes)
}

fn patched(way: &Way<'_>, blob: &Blob, with_body: impl FnOnce(Request) -> Request) -> Request {
    let reply = with_body(way.registry.ask("PATCH", &way.start())).gives(202);
    let location = reply.location();
    reply.with("Range", format!("0-{}", blob.bytes.len() - 1));
    way.registry.ask("PUT", &end(&location, blob))
}

fn chunked(way: &Way<'_>, blob: &Blob, chunks: usize, order: Order, last: Last) -> Request {
    let size = blob.bytes.len().div_ceil(chunks);
    let mut location = way.start();
    let mut sent = 0;
    for (number, bytes) in blob.bytes.chunks(size).enumerate() {
        let is_put = |number: usize| last == Last::Put && number + 1 == chunks;
        let request = |number: usize, first: usize, bytes: &[u8], location: &str| {
            let (method, target) = if is_put(number) { ("PUT", end(location, blob)) } else { ("PATCH", location.to_owned()) };
            way.registry.ask(method, &target).header("Content-Range", format!("{first}-{}", first + bytes.len() - 1)).octets(bytes)
        };
        if order == Order::WrongFirst {
            // The chunk after the right one, or the first one again.
            let skipped = if sent + size < blob.bytes.len() { number + 1 } else { 0 };
            let wrong = blob.bytes.chunks(size).nth(skipped).expect("there is such a chunk");
            request(skipped, skipped * size, wrong, &location).gives(416);
            let status = way.registry.ask("GET", &location).gives(204);
            location = status.location();
            status.with("Range", format!("0-{}", sent.max(1) - 1));
        }
        let right = request(number, sent, bytes, &location);
        if is_put(number) {
            return right;
        }
        sent += bytes.len();
        let reply = right.gives(202);
        location = reply.location();
        reply.with("Range", format!("0-{}", sent - 1));
    }
    way.registry.ask("PUT", &end(&location, blob))
}

/// Does what a case of an algorithm does.
type Run = fn(&Registry, Algorithm);

/// The cases of each algorithm, which push the same blobs in different ways.
pub(super) fn sequences() -> Vec<Vec<Case>> {
    Algorithm::ALL.into_iter().map(of_algorithm).collect()
}

fn of_algorithm(algorithm: Algorithm) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add =
        |name: String, run: Box<dyn Fn(&Registry) + Send>| cases.push(Case::new(format!("{} blobs/{name}", algorithm.name()), run));
    let announced = [None, Some(Algorithm::Sha256), Some(Algorithm::Sha512)];
    for (number, (name, method)) in METHODS.into_iter().enumerate() {
        for announced in announced {
            let told = announced.map(|announced| format!(", announced as {}", announced.name())).unwrap_or_default();
            let blob = Blob::random(algorithm, 1000 + number as u64, if name.contains("multi") { LARGE } else { SMALL });
            add(format!("{name}{told}"), Box::new(move |registry| pushed(registry, &blob, method, announced)));
        }
        let mut blob = Blob::random(algorithm, 2000 + number as u64, LARGE);
        blob.bytes.extend(b"oh no");
        add(format!("bad digest {name}"), Box::new(move |registry| refused(registry, &blob, method)));
    }
    let single: [(&str, Run); 9] = [
        ("get-missing", missing),
        ("mount", |registry, algorithm| mounted(registry, &Blob::random(algorithm, 3000, SMALL), &format!("&from={OTHER_REPOSITORY}"))),
        ("mount anonymous", |registry, algorithm| mounted(registry, &Blob::random(algorithm, 3001, SMALL), "")),
        ("mount missing", mount_missing),
        ("post cancel", cancelled),
        ("empty", |registry, algorithm| pushed_whole(registry, algorithm, b"")),
        ("emptyJSON", |registry, algorithm| pushed_whole(registry, algorithm, b"{}")),
        ("upload status", status),
        ("pushed twice", twice),
    ];
    for (name, run) in single {
        add(name.to_owned(), Box::new(move |registry| run(registry, algorithm)));
    }
    for (range, expected) in RANGES {
        add(format!("range requests/{range}"), Box::new(move |registry| part(registry, algorithm, range, expected)));
    }
    cases
}

/// Checks that a blob can be pulled, then deletes it, after which it is gone at once.
fn pulled_and_deleted(registry: &Registry, repository: &str, blob: &Blob) {
    let path = blob_path(repository, blob);
    let head = registry.ask("HEAD", &path).gives(200);
    head.with("Docker-Content-Digest", &blob.digest).with_length(blob.bytes.len());
    registry.ask("GET", &path).gives(200).with("Docker-Content-Digest", &blob.digest).bytes(&blob.bytes);
    deleted(registry, repository, blob);
}

fn deleted(registry: &Registry, repository: &str, blob: &Blob) {
    let path = blob_path(repository, blob);
    registry.ask("DELETE", &path).gives(202);
    registry.ask("HEAD", &path).gives(404);
    registry.ask("GET", &path).refused(404, "BLOB_UNKNOWN");
}

fn pushed(registry: &Registry, blob: &Blob, method: Method, announced: Option<Algorithm>) {
    let reply = method(&Way { registry, repository: REPOSITORY, announced }, blob).gives(201);
    let location = reply.location();
    reply.with("Docker-Content-Digest", &blob.digest);
    registry.ask("GET", &location).gives(200).bytes(&blob.bytes);
    pulled_and_deleted(registry, REPOSITORY, blob);
}

fn pushed_whole(registry: &Registry, algorithm: Algorithm, bytes: &[u8]) {
    let blob = Blob { digest: algorithm.digest(bytes), bytes: bytes.to_vec() };
    for method in [post_only, post_put] {
        pushed(registry, &blob, method, None);
    }
}

fn refused(registry: &Registry, blob: &Blob, method: Method) {
    method(&uploads_to(registry, REPOSITORY), blob).refused(400, "DIGEST_INVALID");
    registry.ask("GET", &blob_path(REPOSITORY, blob)).refused(404, "BLOB_UNKNOWN");
}

fn missing(registry: &Registry, algorithm: Algorithm) {
    let path = blob_path(REPOSITORY, &Blob::random(algorithm, 4000, SMALL));
    registry.ask("HEAD", &path).gives(404);
    registry.ask("GET", &path).refused(404, "BLOB_UNKNOWN");
    registry.ask("DELETE", &path).refused(404, "BLOB_UNKNOWN");
}

fn mounted(registry: &Registry, blob: &Blob, from: &str) {
    post_put(&uploads_to(registry, OTHER_REPOSITORY), blob).gives(201);
    let way = uploads_to(registry, REPOSITORY);
    let reply = registry.ask("POST", &way.uploads(&format!("?mount={}{from}", blob.digest))).gives(201);
    let location = reply.location();
    reply.with("Docker-Content-Digest", &blob.digest);
    registry.ask("GET", &location).gives(200).bytes(&blob.bytes);
    deleted(registry, OTHER_REPOSITORY, blob);
    pulled_and_deleted(registry, REPOSITORY, blob);
}

/// What cannot be mounted can be pushed by the upload that was started instead.
fn mount_missing(registry: &Registry, algorithm: Algorithm) {
    let blob = Blob::random(algorithm, 3002, SMALL);
    let way = uploads_to(registry, REPOSITORY);
    for from in [format!("&from={OTHER_REPOSITORY}"), "&from=acme/conformance/none".to_owned(), "&from=%2F".to_owned(), String::new()] {
        let location = registry.ask("POST", &way.uploads(&format!("?mount={}{from}", blob.digest))).gives(202).location();
        registry.ask("GET", &blob_path(REPOSITORY, &blob)).refused(404, "BLOB_UNKNOWN");
        registry.ask("PUT", &end(&location, &blob)).octets(&blob.bytes).gives(201);
        pulled_and_deleted(registry, REPOSITORY, &blob);
    }
}

fn cancelled(registry: &Registry, algorithm: Algorithm) {
    let blob = Blob::random(algorithm, 4001, SMALL);
    let location = uploads_to(registry, REPOSITORY).start();
    registry.ask("PATCH", &location).octets(&blob.bytes).gives(202);
    registry.ask("DELETE", &location).gives(204);
    for (method, target) in
        [("GET", location.clone()), ("PATCH", location.clone()), ("PUT", end(&location, &blob)), ("DELETE", location.clone())]
    {
        registry.ask(method, &target).refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
    registry.ask("GET", &blob_path(REPOSITORY, &blob)).refused(404, "BLOB_UNKNOWN");
}

/// An upload says how far it is; another repository does not have it.
fn status(registry: &Registry, algorithm: Algorithm) {
    let blob = Blob::random(algorithm, 4002, SMALL);
    let location = uploads_to(registry, REPOSITORY).start();
    registry.ask("GET", &location).gives(204).with("Range", "0-0");
    registry.ask("PATCH", &location).octets(&blob.bytes[..100]).gives(202).with("Range", "0-99");
    let status = registry.ask("GET", &location).gives(204).with("Range", "0-99");
    registry.ask("GET", &location.replace(REPOSITORY, OTHER_REPOSITORY)).refused(404, "BLOB_UPLOAD_UNKNOWN");
    registry.ask("PUT", &end(&status.location(), &blob)).octets(&blob.bytes[100..]).gives(201);
    registry.ask("GET", &location).refused(404, "BLOB_UPLOAD_UNKNOWN");
    pulled_and_deleted(registry, REPOSITORY, &blob);
}

fn twice(registry: &Registry, algorithm: Algorithm) {
    let blob = Blob::random(algorithm, 4003, SMALL);
    for (_, method) in METHODS {
        method(&uploads_to(registry, REPOSITORY), &blob).gives(201).with("Docker-Content-Digest", &blob.digest);
    }
    pulled_and_deleted(registry, REPOSITORY, &blob);
}

/// What a `Range` is answered with.
#[derive(Clone, Copy)]
enum Expected {
    /// The bytes from the first to the last.
    Part(usize, usize),
    /// All bytes, as if there was no `Range`.
    Whole,
    Unsatisfiable,
}

/// Bytes of the blob whose parts are asked for.
const PARTED: usize = 2048;

/// Ranges of a blob of [`PARTED`] bytes.
const RANGES: [(&str, Expected); 17] = [
    ("bytes=500-1499", Expected::Part(500, 1499)),
    ("bytes=500-", Expected::Part(500, 2047)),
    ("bytes=-500", Expected::Part(1548, 2047)),
    ("bytes=2000-5000", Expected::Part(2000, 2047)),
    ("bytes=500-0", Expected::Unsatisfiable),
    ("bytes=5000-10000", Expected::Unsatisfiable),
    ("bytes=0-", Expected::Part(0, 2047)),
    ("bytes=0-0", Expected::Part(0, 0)),
    ("bytes=2047-2047", Expected::Part(2047, 2047)),
    ("bytes=2048-", Expected::Unsatisfiable),
    ("bytes=-5000", Expected::Part(0, 2047)),
    ("bytes=-0", Expected::Unsatisfiable),
    ("bytes=0-18446744073709551615", Expected::Part(0, 2047)),
    ("bytes=18446744073709551616-", Expected::Unsatisfiable),
    ("bytes=0-1,4-5", Expected::Whole),
    ("items=0-1", Expected::Whole),
    ("bytes=a-b", Expected::Whole),
];

fn part(registry: &Registry, algorithm: Algorithm, range: &str, expected: Expected) {
    let blob = Blob::random(algorithm, 5000, PARTED);
    post_put(&uploads_to(registry, REPOSITORY), &blob).gives(201);
    let asked = registry.ask("GET", &blob_path(REPOSITORY, &blob)).header("Range", range).answer();
    let content_range = asked.header("Content-Range").map(str::to_owned);
    match expected {
        Expected::Part(first, last) => {
            assert_eq!((asked.status(), content_range), (206, Some(format!("bytes {first}-{last}/{PARTED}"))));
            asked.with("Docker-Content-Digest", &blob.digest).bytes(&blob.bytes[first..=last]);
        }
        Expected::Whole => {
            assert_eq!((asked.status(), content_range), (200, None));
            asked.bytes(&blob.bytes);
        }
        Expected::Unsatisfiable => assert_eq!((asked.status(), content_range), (416, Some(format!("bytes */{PARTED}")))),
    }
    registry.ask("HEAD", &blob_path(REPOSITORY, &blob)).header("Range", range).gives(200).with_length(PARTED);
    deleted(registry, REPOSITORY, &blob);
}
