//! Each error code with its JSON body, also for requests that make no sense. [`tests::registry`] checks the body.
//!
//! Not here: errors that belong to one operation; they are with it.

use tests::registry::Registry;

use super::Case;
use super::data::{Algorithm, MANIFEST};

const REPOSITORY: &str = "/v2/acme/conformance/errors";

/// More uploads than one organisation may have under way.
const UPLOADS: usize = 2000;

/// The case that takes all places for uploads, so that no other can run at the same time.
pub(super) fn too_many() -> Case {
    Case::new("errors/TOOMANYREQUESTS", wait)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("errors/UNAUTHORIZED", unauthorized),
        Case::new("errors/UNSUPPORTED, method", methods),
        Case::new("errors/UNSUPPORTED, digest-algorithm", algorithms),
        Case::new("errors/BLOB_UPLOAD_UNKNOWN", unknown_upload),
        Case::new("errors/BLOB_UPLOAD_INVALID and SIZE_INVALID, chunks", chunks),
        Case::new("errors/DIGEST_INVALID, uploads", digests),
        Case::new("errors/MANIFEST_INVALID, contents", manifests),
    ];
    cases.extend(PATHS.into_iter().map(|(method, path, status, code)| {
        Case::new(format!("errors/{code}, {method} {path}"), move |registry| {
            let target = path.replace("REPOSITORY", REPOSITORY);
            registry.ask(method, &target).body(MANIFEST, b"").refused(status, code);
        })
    }));
    cases
}

/// Paths that are refused for what they are.
const PATHS: [(&str, &str, u16, &str); 33] = [
    ("GET", "/v2/Acme/web/tags/list", 400, "NAME_INVALID"),
    ("GET", "/v2/acme//web/tags/list", 400, "NAME_INVALID"),
    ("GET", "/v2/acme/-web/tags/list", 400, "NAME_INVALID"),
    ("GET", "/v2/acme/web-/tags/list", 400, "NAME_INVALID"),
    ("GET", "/v2/acme/we...b/tags/list", 400, "NAME_INVALID"),
    ("GET", "/v2/acme/%2e%2e/tags/list", 400, "NAME_INVALID"),
    ("GET", "/v2/web/tags/list", 400, "NAME_INVALID"),
    ("GET", "/v2//tags/list", 400, "NAME_INVALID"),
    ("POST", "/v2/acme/w%20b/blobs/uploads/", 400, "NAME_INVALID"),
    ("POST", "/v2/acme/w%00b/blobs/uploads/", 400, "NAME_INVALID"),
    ("GET", "/v2/acme/conformance/unknown/tags/list", 404, "NAME_UNKNOWN"),
    ("POST", "/v2/unknown/web/blobs/uploads/", 404, "NAME_UNKNOWN"),
    ("PUT", "/v2/unknown/web/manifests/1", 404, "NAME_UNKNOWN"),
    ("GET", "REPOSITORY/blobs/sha256:baddigeststring", 400, "DIGEST_INVALID"),
    ("GET", "REPOSITORY/blobs/sha256:", 400, "DIGEST_INVALID"),
    ("GET", "REPOSITORY/blobs/", 400, "DIGEST_INVALID"),
    ("GET", "REPOSITORY/blobs/latest", 400, "DIGEST_INVALID"),
    ("GET", "REPOSITORY/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"),
    ("DELETE", "REPOSITORY/blobs/sha256:baddigeststring", 400, "DIGEST_INVALID"),
    ("GET", "REPOSITORY/referrers/latest", 400, "DIGEST_INVALID"),
    ("GET", "REPOSITORY/referrers/sha512:00", 400, "DIGEST_INVALID"),
    ("PUT", "REPOSITORY/manifests/1", 400, "MANIFEST_INVALID"),
    ("PUT", "REPOSITORY/manifests/.x", 400, "MANIFEST_INVALID"),
    ("GET", "REPOSITORY/manifests/.x", 404, "MANIFEST_UNKNOWN"),
    ("GET", "REPOSITORY/manifests/", 404, "MANIFEST_UNKNOWN"),
    ("GET", "/v2/acme", 404, "UNSUPPORTED"),
    ("GET", "REPOSITORY", 404, "UNSUPPORTED"),
    ("GET", "REPOSITORY/tags", 404, "UNSUPPORTED"),
    ("GET", "REPOSITORY/tags/list/", 404, "UNSUPPORTED"),
    ("GET", "/v2/%", 404, "UNSUPPORTED"),
    ("GET", "/v2/%ff/web/tags/list", 404, "UNSUPPORTED"),
    ("GET", "/v2//", 404, "UNSUPPORTED"),
    ("GET", "REPOSITORY/blobs/uploads/..%2f..", 404, "UNSUPPORTED"),
];

fn unauthorized(registry: &Registry) {
    let digest = Algorithm::Sha256.digest(b"nothing");
    for (method, rest) in [
        ("GET", "/v2/".to_owned()),
        ("GET", format!("{REPOSITORY}/tags/list")),
        ("GET", format!("{REPOSITORY}/blobs/{digest}")),
        ("GET", format!("{REPOSITORY}/referrers/{digest}")),
        ("POST", format!("{REPOSITORY}/blobs/uploads/")),
        ("PUT", format!("{REPOSITORY}/manifests/1")),
        ("DELETE", format!("{REPOSITORY}/manifests/1")),
        ("GET", "/v2/Not/A/Path".to_owned()),
    ] {
        let refused = registry.ask(method, &rest).anonymous().refused(401, "UNAUTHORIZED");
        assert!(refused.header("WWW-Authenticate").is_some(), "{method} {rest}");
    }
}

/// A method that a path does not have is refused with those that it has (RFC 9110 §15.5.6).
fn methods(registry: &Registry) {
    let digest = Algorithm::Sha256.digest(b"nothing");
    for (target, has) in [
        ("/v2/".to_owned(), "GET, HEAD"),
        (format!("{REPOSITORY}/blobs/{digest}"), "GET, HEAD, DELETE"),
        (format!("{REPOSITORY}/blobs/uploads/"), "POST"),
        (format!("{REPOSITORY}/blobs/uploads/0"), "GET, HEAD, PATCH, PUT, DELETE"),
        (format!("{REPOSITORY}/manifests/1"), "GET, HEAD, PUT, DELETE"),
        (format!("{REPOSITORY}/tags/list"), "GET, HEAD"),
        (format!("{REPOSITORY}/referrers/{digest}"), "GET, HEAD"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEDGE"] {
            let reply = registry.ask(method, &target).answer();
            let is_refused = reply.status() == 405;
            assert_eq!(is_refused, !has.split(", ").any(|has| has == method), "{method} {target}: {}", reply.status());
            if is_refused && method != "HEAD" {
                assert_eq!(reply.json()["errors"][0]["code"], "UNSUPPORTED");
                reply.with("Allow", has);
            }
        }
    }
}

fn algorithms(registry: &Registry) {
    for algorithm in ["md5", "SHA256", "blake3", "", "sha256:00"] {
        registry.ask("POST", &format!("{REPOSITORY}/blobs/uploads/?digest-algorithm={algorithm}")).refused(400, "UNSUPPORTED");
    }
}

fn unknown_upload(registry: &Registry) {
    let digest = Algorithm::Sha256.digest(b"");
    for id in ["0123456789abcdef0123456789abcdef", "a.b", "x"] {
        for (method, query) in
            [("GET", String::new()), ("PATCH", String::new()), ("PUT", format!("?digest={digest}")), ("DELETE", String::new())]
        {
            registry.ask(method, &format!("{REPOSITORY}/blobs/uploads/{id}{query}")).refused(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
}

fn start(registry: &Registry) -> String {
    registry.ask("POST", &format!("{REPOSITORY}/blobs/uploads/")).gives(202).location()
}

fn chunks(registry: &Registry) {
    let location = start(registry);
    for range in ["bytes 0-4", "bytes 0-4/5", "0", "0-", "-4", "4-0", "a-b", "0-99999999999999999999", "0-4,5-6", ""] {
        let refused = registry.ask("PATCH", &location).header("Content-Range", range).octets(b"hedge");
        refused.refused(400, "BLOB_UPLOAD_INVALID");
    }
    for range in ["0-3", "0-5"] {
        registry.ask("PATCH", &location).header("Content-Range", range).octets(b"hedge").refused(400, "SIZE_INVALID");
    }
    registry.ask("GET", &location).gives(204).with("Range", "0-0");
    registry.ask("PATCH", &location).header("Content-Range", "0-4").octets(b"hedge").gives(202).with("Range", "0-4");
    for range in ["0-4", "4-5", "6-7"] {
        let refused = registry.ask("PATCH", &location).header("Content-Range", range).octets(b"rows").gives(416);
        refused.with("Range", "0-4").with("Location", &location);
    }
    registry.ask("DELETE", &location).gives(204);
}

fn digests(registry: &Registry) {
    let location = start(registry);
    registry.ask("PUT", &location).octets(b"hedge").refused(400, "DIGEST_INVALID");
    for digest in ["sha256:baddigeststring", "md5:00", "sha256", ""] {
        registry.ask("PUT", &format!("{location}?digest={digest}")).octets(b"hedge").refused(400, "DIGEST_INVALID");
        registry.ask("POST", &format!("{REPOSITORY}/blobs/uploads/?digest={digest}")).octets(b"hedge").refused(400, "DIGEST_INVALID");
    }
    let digest = Algorithm::Sha256.digest(b"hedge");
    registry.ask("PUT", &format!("{location}?digest={digest}")).octets(b"hedge").gives(201);
}

fn manifests(registry: &Registry) {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let (deep_field, deep_custom_field) = (format!("{{\"layers\":[{deep}]}}"), format!("{{\"x\":{deep}}}"));
    let many = format!("{{\"layers\":[{}]}}", vec![r#"{"digest":"sha256:00","size":1}"#; 10_000].join(","));
    let contents = [
        "",
        "{",
        "[]",
        "null",
        "{} {}",
        r#"{"layers":{}}"#,
        r#"{"layers":[{"digest":"sha256:baddigeststring","size":1}]}"#,
        r#"{"layers":[{"size":1}]}"#,
        r#"{"subject":{"digest":"latest","size":1}}"#,
        r#"{"config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":-1}}"#,
        r#"{"mediaType":"application/vnd.example"}"#,
        "{\"annotations\":{\"a\":\"\u{0}\"}}",
        &deep,
        &deep_field,
        &many,
    ];
    let not_utf8: &[u8] = b"{\"annotations\":{\"a\":\"\xff\"}}";
    for content in contents.map(str::as_bytes).into_iter().chain([not_utf8]) {
        registry.ask("PUT", &format!("{REPOSITORY}/manifests/1")).body(MANIFEST, content).refused(400, "MANIFEST_INVALID");
    }
    // Garbage collection reads all of a manifest, also fields that no registry knows.
    registry.ask("PUT", &format!("{REPOSITORY}/manifests/1")).body(MANIFEST, deep_custom_field.as_bytes()).refused(400, "MANIFEST_INVALID");
}

/// Whoever is told to wait is told how long, and goes on afterwards.
fn wait(registry: &Registry) {
    let mut locations = Vec::new();
    let refused = loop {
        let started = registry.ask("POST", &format!("{REPOSITORY}/blobs/uploads/")).answer();
        if started.status() != 202 {
            break started;
        }
        locations.push(started.location());
        assert!(locations.len() < UPLOADS, "there is no limit");
    };
    for location in &locations {
        registry.ask("DELETE", location).gives(204);
    }
    assert_eq!((refused.status(), refused.json()["errors"][0]["code"].as_str()), (429, Some("TOOMANYREQUESTS")));
    let seconds = refused.header("Retry-After").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "when to try again: {seconds:?}");
    let location = start(registry);
    registry.ask("DELETE", &location).gives(204);
}
