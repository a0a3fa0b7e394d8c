//! Paths, headers and framing that no good client sends. What reaches the registry is refused as JSON; what does not is
//! refused by the server, or the connection is closed.
//!
//! Not here: each parser by itself; `protocol` tests and fuzzes them.

use std::io;

use tests::http::Answer;
use tests::http::connection::{Body, Connection};
use tests::image::{digest, noise};
use tests::seed::Seed;

use super::{Registry, codes, is_well, manifest};

/// Sends bytes as they are: the answer, if there is one.
///
/// Panics if the seed neither answers nor closes the connection.
#[track_caller]
fn raw(registry: &Registry, request: &[u8]) -> Option<Answer> {
    let mut connection = Connection::open(&registry.url).expect("the seed listens");
    let sent = connection.send(request);
    match connection.answer() {
        Ok(answer) => Some(answer),
        Err(error) => {
            let waits = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind());
            assert!(
                !waits,
                "{:?}: no answer, and the connection stays open ({sent:?})",
                String::from_utf8_lossy(&request[..request.len().min(80)])
            );
            None
        }
    }
}

fn head(registry: &Registry, line: &str, headers: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n{headers}\r\n", registry.authorization).into_bytes()
}

/// A seed with one image, `acme/web:1.0`.
fn with_image() -> (Seed, Registry) {
    let seed = Seed::start();
    let registry = Registry::of(&seed);
    let bytes = noise(1, 100);
    assert_eq!(registry.push_blob("acme/web", &digest(&bytes), &bytes).status, 201);
    assert_eq!(registry.push_manifest("acme/web", "1.0", &manifest(&[(&digest(&bytes), 100)], "")).status, 201);
    (seed, registry)
}

#[test]
fn paths_that_hide_something_are_refused_as_json() {
    let (mut seed, registry) = with_image();
    let long = "a".repeat(60_000);
    let pieces = [
        "%00",
        "a%00b",
        "%0d%0aX-Injected:%20yes",
        "%0a",
        "%2e%2e",
        "..",
        ".",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%5c..",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "%ff",
        "%",
        "%zz",
        "%2",
        "a%20b",
        "A",
        "-a",
        "a--",
        "web:1.0",
        "web@sha256",
        "{}",
        "$(id)",
        "~root",
        &long,
    ];
    for piece in pieces {
        let targets = [
            format!("/v2/{piece}/manifests/1.0"),
            format!("/v2/acme/{piece}/manifests/1.0"),
            format!("/v2/acme/web/{piece}/manifests/1.0"),
            format!("/v2/acme/web/blobs/{piece}"),
            format!("/v2/acme/web/blobs/sha256:{piece}"),
            format!("/v2/acme/web/blobs/uploads/{piece}"),
            format!("/v2/acme/web/referrers/{piece}"),
            format!("/v2/acme/{piece}/tags/list"),
            format!("/v2/{piece}"),
            format!("/v2/acme/web/{piece}"),
        ];
        for target in targets {
            for method in ["GET", "PUT", "DELETE", "PATCH", "POST"] {
                let answer = raw(&registry, &head(&registry, &format!("{method} {target}"), "Content-Length: 0\r\nConnection: close\r\n"));
                let answer = answer.unwrap_or_else(|| panic!("{method} {target:.80}: no answer"));
                assert!((400..500).contains(&answer.status), "{method} {target:.80}: {} {:.200}", answer.status, answer.text());
                assert!(answer.header("x-injected").is_none(), "{method} {target}");
                codes(&answer);
            }
        }
    }
    is_well(&mut seed);
}

#[test]
fn queries_that_hide_something_add_no_header_and_mount_nothing() {
    let (mut seed, registry) = with_image();
    let blob = digest(&noise(1, 100));
    let targets = [
        ("POST", format!("acme/web/blobs/uploads/?digest={blob}%0d%0aX-Injected:%20yes")),
        ("POST", "acme/web/blobs/uploads/?digest=sha256:..%2f..%2f..%2fkeys".to_owned()),
        ("POST", "acme/web/blobs/uploads/?digest=".to_owned()),
        ("POST", "acme/web/blobs/uploads/?digest-algorithm=%00".to_owned()),
        ("PUT", format!("acme/web/manifests/{blob}?tag=%0d%0aX-Injected:%20yes")),
        ("GET", "acme/web/tags/list?n=-1".to_owned()),
        ("GET", "acme/web/tags/list?n=1e9".to_owned()),
    ];
    for (method, target) in targets {
        let answer = registry.ask(method, &target, &[("Content-Type", super::MANIFEST)], Body::Whole(b""));
        assert!((400..500).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.text());
        assert!(answer.header("x-injected").is_none(), "{method} {target}");
        codes(&answer);
    }
    for from in ["acme%2Fweb%00", "..%2f..%2facme%2fweb", "acme/web%0d%0aX-Injected:%20yes", "%ff"] {
        let answer = registry.ask("POST", &format!("acme/api/blobs/uploads/?mount={blob}%0a&from={from}"), &[], Body::Whole(b""));
        assert!(answer.status == 202 || (400..500).contains(&answer.status), "{from}: {}", answer.status);
        assert!(answer.header("x-injected").is_none(), "{from}");
    }
    let last = registry.get("acme/web/tags/list?n=0&last=%0d%0aX-Injected:%20yes");
    assert!(last.header("x-injected").is_none());
    is_well(&mut seed);
}

#[test]
fn heads_that_are_too_large_or_have_too_much_are_refused() {
    let (mut seed, registry) = with_image();
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>();
    let refused: [(&str, Vec<u8>); 7] = [
        ("5,000 headers", head(&registry, "GET /v2/", &many(5000))),
        ("100,000 headers", head(&registry, "GET /v2/", &many(100_000))),
        ("a header of 1 MiB", head(&registry, "GET /v2/", &format!("X-Long: {}\r\n", "a".repeat(1 << 20)))),
        ("a name of 70,000 bytes", head(&registry, "GET /v2/", &format!("X-{}: 1\r\n", "a".repeat(70_000)))),
        ("a path of 64 KiB", head(&registry, &format!("GET /v2/{}", "a".repeat(64 << 10)), "")),
        ("a path of 1 MiB", head(&registry, &format!("GET /v2/{}", "a".repeat(1 << 20)), "")),
        ("a method of 64 KiB", head(&registry, &format!("{} /v2/", "G".repeat(64 << 10)), "")),
    ];
    for (what, request) in refused {
        let status = raw(&registry, &request).map(|answer| answer.status);
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{what}: {status:?}");
    }
    let answer = raw(&registry, &head(&registry, "GET /v2/", &format!("{}Connection: close\r\n", many(50))));
    assert_eq!(answer.map(|answer| answer.status), Some(200), "fifty headers are not many");
    is_well(&mut seed);
}

#[test]
fn lengths_that_contradict_each_other_smuggle_nothing() {
    let (mut seed, registry) = with_image();
    let authorization = registry.authorization.clone();
    let hidden = format!("DELETE /v2/acme/web/manifests/1.0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n\r\n");
    let chunked = format!("0\r\n\r\n{hidden}");
    let framings = [
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {}\r\n", hidden.len())),
        ("two lengths in one line", format!("Content-Length: 0, {}\r\n", hidden.len())),
        ("a length with a sign", "Content-Length: +0\r\n".to_owned()),
        ("a length in hexadecimal", "Content-Length: 0x0\r\n".to_owned()),
        ("a length below none", "Content-Length: -1\r\n".to_owned()),
        ("a length beyond numbers", "Content-Length: 18446744073709551616\r\n".to_owned()),
        ("a coding that is none", "Transfer-Encoding: xchunked\r\n".to_owned()),
        ("chunks that are not the last coding", "Transfer-Encoding: chunked, identity\r\n".to_owned()),
        ("a space before the colon", format!("Content-Length : {}\r\n", hidden.len())),
        ("a folded line", "Transfer-Encoding:\r\n chunked\r\n".to_owned()),
        ("a bare carriage return", "X-A: b\rContent-Length: 0\r\n".to_owned()),
        ("a zero byte", "X-A: b\0c\r\n".to_owned()),
    ];
    for (what, framing) in framings {
        let request = [head(&registry, "POST /v2/acme/web/blobs/uploads/", &framing), hidden.clone().into_bytes()].concat();
        let status = raw(&registry, &request).map(|answer| answer.status);
        assert!(status.is_none_or(|status| [400, 411, 501].contains(&status)), "{what}: {status:?}");
        assert_eq!(registry.get("acme/web/manifests/1.0").status, 200, "{what}: a request in a body was carried out");
    }
    // RFC 9112 section 6.1: with both, the chunks count and the connection ends, or the request is refused.
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunked.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", chunked.len()),
    ] {
        let request = [head(&registry, "POST /v2/acme/web/blobs/uploads/", &framing), chunked.clone().into_bytes()].concat();
        let status = raw(&registry, &request).map(|answer| answer.status);
        assert!(status.is_none_or(|status| [202, 400].contains(&status)), "{framing}: {status:?}");
        assert_eq!(registry.get("acme/web/manifests/1.0").status, 200, "{framing}: a request in a body was carried out");
    }
    is_well(&mut seed);
}

#[test]
fn a_host_or_scheme_that_is_not_ours_changes_nothing_in_an_answer_but_the_realm() {
    let (mut seed, registry) = with_image();
    let authorization = &registry.authorization;
    let ask = |target: &str, host: &str, authorization: &str| {
        let request = format!("{target} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n");
        raw(&registry, request.as_bytes())
    };
    let with_key = format!("Authorization: {authorization}\r\n");
    for target in ["POST /v2/acme/web/blobs/uploads/", "POST http://evil.example/v2/acme/web/blobs/uploads/"] {
        for host in ["evil.example", "evil.example:99999", "evil example", "\"", "[::1", ""] {
            let Some(answer) = ask(target, host, &with_key) else { continue };
            assert!([202, 400].contains(&answer.status), "{target} {host}: {}", answer.status);
            assert!(answer.header("location").is_none_or(|location| location.starts_with("/v2/acme/web/")), "{target} {host}: {answer:?}");
        }
    }
    for host in ["evil.example\", realm2=\"x", "a b", "\\", "x\"y"] {
        let Some(answer) = ask("GET /v2/", host, "") else { continue };
        assert!([400, 401].contains(&answer.status), "{host}: {}", answer.status);
        for challenge in answer.headers("www-authenticate") {
            assert!(!challenge.contains("realm2") && challenge.matches('"').count() % 2 == 0, "{host}: {challenge}");
        }
    }
    is_well(&mut seed);
}

#[test]
fn what_is_no_request_is_refused_or_closed() {
    let (mut seed, registry) = with_image();
    let hello = [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &noise(1, 506)].concat();
    let requests: [&[u8]; 10] = [
        b"\r\n\r\n\r\n\r\nGET\r\n\r\n",
        b"GET /v2/\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"GET  /v2/  HTTP/1.1\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nContent-Length: 0\r\n\r\n",
        b"TRACE /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"BREW /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        &hello,
        &noise(2, 4096),
    ];
    for request in requests {
        let status = raw(&registry, request).map(|answer| answer.status);
        let shown = String::from_utf8_lossy(&request[..request.len().min(40)]);
        assert!(status.is_none_or(|status| (400..=405).contains(&status) || status == 505), "{shown:?}: {status:?}");
    }
    is_well(&mut seed);
}
