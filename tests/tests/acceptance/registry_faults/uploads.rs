//! Uploads whose digest, length or place is not what was said, and uploads that break off.
//!
//! Not here: uploads as the specification wants them; see [`crate::conformance`].

use std::io;

use tests::http::connection::{Body, Connection};
use tests::image::{digest, noise};
use tests::seed::Seed;
use tests::wait;

use super::{Registry, codes, is_well};

/// Several batches of what the seed collects before it writes.
const BLOB_BYTES: usize = 1_000_000;

/// Begins a request that says that `length` bytes come, and sends `bytes`.
fn begin(registry: &Registry, method: &str, target: &str, length: usize, bytes: &[u8]) -> Connection {
    begin_framed(registry, method, target, &format!("Content-Length: {length}"), bytes)
}

fn begin_framed(registry: &Registry, method: &str, target: &str, framing: &str, bytes: &[u8]) -> Connection {
    let mut connection = Connection::open(&registry.url).expect("the seed listens");
    let authorization = &registry.authorization;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n{framing}\r\n\r\n");
    connection.send(head.as_bytes()).expect("a head is taken");
    connection.send(bytes).expect("a part of a body is taken");
    connection
}

/// How many bytes of an upload the registry says that it has.
pub(super) fn received(registry: &Registry, upload: &str) -> usize {
    let status = registry.get(upload);
    assert_eq!(status.status, 204, "{}", status.text());
    let range = status.header("range").expect("a status has a range").to_owned();
    let last: usize = range.strip_prefix("0-").and_then(|last| last.parse().ok()).unwrap_or_else(|| panic!("not a range: {range}"));
    // `0-0` is of no bytes or of one; no upload here has one.
    if last == 0 { 0 } else { last + 1 }
}

/// Goes on with an upload where the registry says it is, and ends it.
pub(super) fn resume(registry: &Registry, upload: &str, bytes: &[u8]) {
    let rest = &bytes[received(registry, upload)..];
    let range = format!("{}-{}", bytes.len() - rest.len(), bytes.len() - 1);
    let name = digest(bytes);
    let ended = registry.ask("PUT", &format!("{upload}?digest={name}"), &[("Content-Range", &range)], Body::Whole(rest));
    assert_eq!(ended.status, 201, "{}", ended.text());
    assert!(registry.get(&format!("acme/web/blobs/{name}")).body == bytes);
}

#[test]
fn bytes_under_the_digest_of_others_are_refused_and_never_served() {
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    let (bytes, others) = (noise(1, BLOB_BYTES), noise(2, BLOB_BYTES));
    let wrong = digest(&others);
    let whole = registry.push_blob("acme/web", &wrong, &bytes);
    let upload = registry.start_upload("acme/web");
    assert_eq!(registry.ask("PATCH", &upload, &[], Body::Streamed(&bytes)).status, 202);
    let streamed = registry.ask("PUT", &format!("{upload}?digest={wrong}"), &[], Body::Whole(b""));
    let upload = registry.start_upload("acme/web");
    let in_the_end = registry.ask("PUT", &format!("{upload}?digest={wrong}"), &[], Body::Whole(&bytes));
    for refused in [whole, streamed, in_the_end] {
        assert_eq!((refused.status, codes(&refused)), (400, vec!["DIGEST_INVALID".to_owned()]));
    }
    for name in [&wrong, &digest(&bytes)] {
        assert_eq!(registry.get(&format!("acme/web/blobs/{name}")).status, 404);
    }
    assert_eq!(registry.push_blob("acme/web", &wrong, &others).status, 201);
    assert!(registry.get(&format!("acme/web/blobs/{wrong}")).body == others);
    is_well(&mut seed);
}

#[test]
fn a_body_that_is_shorter_or_longer_than_it_says_is_not_taken_for_the_blob() {
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    let bytes = noise(1, BLOB_BYTES);
    let name = digest(&bytes);
    let target = format!("/v2/acme/web/blobs/uploads/?digest={name}");
    let blob = format!("acme/web/blobs/{name}");

    // All bytes of the blob came, but the client had said that there are more, and left.
    let mut longer = begin(&registry, "POST", &target, BLOB_BYTES + 1, &bytes);
    longer.end().expect("the connection is there");
    if let Ok(answer) = longer.answer() {
        assert_eq!((answer.status, codes(&answer)), (400, vec!["BLOB_UPLOAD_INVALID".to_owned()]));
    }
    assert_eq!(registry.get(&blob).status, 404);

    // The client said that there are fewer: what is more is no part of this request.
    let mut shorter = begin(&registry, "POST", &target, BLOB_BYTES - 10, &bytes);
    let answer = shorter.answer().expect("a request that is whole is answered");
    assert_eq!((answer.status, codes(&answer)), (400, vec!["DIGEST_INVALID".to_owned()]));
    if let Ok(next) = shorter.answer() {
        assert_eq!(next.status, 400, "the rest of a body was taken for a request: {}", next.text());
    }
    assert_eq!(registry.get(&blob).status, 404);
    assert_eq!(registry.push_blob("acme/web", &name, &bytes).status, 201);
    is_well(&mut seed);
}

#[test]
fn a_chunk_whose_place_is_a_lie_is_refused_and_the_upload_goes_on() {
    let seed = Seed::start();
    let registry = Registry::of(&seed);
    let bytes = noise(1, BLOB_BYTES);
    let half = BLOB_BYTES / 2;
    let lies: [(&str, String, Body<'_>, u16, &str); 9] = [
        ("longer than the body", format!("0-{half}"), Body::Whole(&bytes[..half]), 400, "SIZE_INVALID"),
        ("shorter than the body", format!("0-{}", half - 2), Body::Whole(&bytes[..half]), 400, "SIZE_INVALID"),
        ("longer than the stream", format!("0-{half}"), Body::Streamed(&bytes[..half]), 400, "SIZE_INVALID"),
        ("shorter than the stream", format!("0-{}", half - 2), Body::Streamed(&bytes[..half]), 400, "SIZE_INVALID"),
        ("elsewhere", format!("{half}-{}", BLOB_BYTES - 1), Body::Whole(&bytes[half..]), 416, "BLOB_UPLOAD_INVALID"),
        ("at the end of numbers", format!("{0}-{0}", u64::MAX), Body::Whole(&bytes[..1]), 416, "BLOB_UPLOAD_INVALID"),
        ("backwards", "9-0".to_owned(), Body::Whole(&bytes[..10]), 400, "BLOB_UPLOAD_INVALID"),
        ("of all numbers", format!("0-{}", u64::MAX), Body::Whole(&bytes[..10]), 400, "BLOB_UPLOAD_INVALID"),
        ("in words", "the first half".to_owned(), Body::Whole(&bytes[..half]), 400, "BLOB_UPLOAD_INVALID"),
    ];
    for (lie, range, body, status, code) in lies {
        let upload = registry.start_upload("acme/web");
        let refused = registry.ask("PATCH", &upload, &[("Content-Range", &range)], body);
        assert_eq!((refused.status, codes(&refused)), (status, vec![code.to_owned()]), "{lie}");
        resume(&registry, &upload, &bytes);
    }
}

#[test]
fn an_upload_that_broke_off_goes_on_where_its_status_says() {
    const SENT: usize = 600_000;
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    let bytes = noise(1, BLOB_BYTES);
    let chunk = [format!("{SENT:x}\r\n").as_bytes(), &bytes[..SENT], b"\r\n"].concat();
    let name = digest(&bytes);
    for (method, end, length, sent) in [
        ("PATCH", String::new(), format!("Content-Length: {BLOB_BYTES}"), &bytes[..SENT]),
        ("PATCH", String::new(), "Transfer-Encoding: chunked".to_owned(), &chunk),
        ("PUT", format!("?digest={name}"), format!("Content-Length: {BLOB_BYTES}"), &bytes[..SENT]),
    ] {
        for leaves in [true, false] {
            let upload = registry.start_upload("acme/web");
            let mut broken = begin_framed(&registry, method, &format!("{upload}{end}"), &length, sent);
            if leaves {
                drop(broken);
            } else {
                broken.end().expect("the connection is there");
                let said = broken.answer().map(|answer| (answer.status, codes(&answer)));
                assert!(said.as_ref().ok().is_none_or(|said| *said == (400, vec!["BLOB_UPLOAD_INVALID".to_owned()])), "{said:?}");
            }
            wait::until("the seed to notice that the connection broke", || received(&registry, &upload) == SENT);
            assert_eq!(registry.get(&format!("acme/web/blobs/{name}")).status, 404);
            resume(&registry, &upload, &bytes);
            assert_eq!(registry.ask("DELETE", &format!("acme/web/blobs/{name}"), &[], Body::Whole(b"")).status, 202);
        }
    }
    is_well(&mut seed);
}

#[test]
fn chunks_of_a_stream_that_are_no_chunks_end_it() {
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    let long = format!("5;{}\r\nhedge\r\n0\r\n\r\n", "x".repeat(1 << 20));
    for chunks in
        ["xyz\r\nhedge\r\n0\r\n\r\n", "-5\r\nhedge\r\n0\r\n\r\n", "fffffffffffffffff\r\nhedge", "5\r\nhedgerow\r\n0\r\n\r\n", &long]
    {
        let upload = registry.start_upload("acme/web");
        let mut connection = begin_framed(&registry, "PATCH", &upload, "Transfer-Encoding: chunked", b"");
        let sent = connection.send(chunks.as_bytes());
        let said = connection.answer();
        let shown = &chunks[..chunks.len().min(40)];
        match said {
            Ok(answer) => assert_eq!(answer.status, 400, "{shown}: {}", answer.text()),
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "{shown}: no answer, and the connection stays open: {sent:?}");
            }
        }
    }
    is_well(&mut seed);
}
