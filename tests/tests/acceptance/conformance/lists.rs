//! Lists: of tags and referrers, in pages, and of what does not exist.
//!
//! Not here: lists of each kind of content; see `lifecycle`.

use serde_json::{Value, json};
use tests::registry::Registry;

use super::Case;
use super::data::{Algorithm, INDEX, MANIFEST, digest_of};

/// More referrers than one answer has.
const MANY: usize = 260;

/// More tags than one answer has.
const MANY_TAGS: usize = 10_050;

/// The largest list of referrers that clients have to read, in bytes: that of a manifest.
const INDEX_BYTES_MAX: usize = 4 << 20;

/// Cases of a registry in which nothing was pushed.
pub(super) fn empty() -> Vec<Case> {
    vec![
        Case::new("ping", |registry| {
            registry.ask("GET", "/v2/").gives(200).with("Docker-Distribution-Api-Version", "registry/2.0");
            registry.ask("GET", "/v2").gives(200);
            registry.ask("HEAD", "/v2/").gives(200);
        }),
        Case::new("empty/tag list", |registry| {
            registry.ask("GET", "/v2/acme/conformance/empty/tags/list").refused(404, "NAME_UNKNOWN");
        }),
        Case::new("empty/referrers", |registry| {
            for algorithm in Algorithm::ALL {
                let path = format!("/v2/acme/conformance/empty/referrers/{}", algorithm.digest(b"nothing"));
                let index = registry.ask("GET", &path).gives(200).with("Content-Type", INDEX).json();
                assert_eq!(index, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }));
                registry.ask("HEAD", &path).gives(200).with("Content-Type", INDEX);
            }
        }),
    ]
}

/// Cases of lists that have more than one page.
pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("lists/tags in pages", tags),
        Case::new("lists/many tags", many_tags),
        Case::new("lists/referrers in pages", referrers),
        Case::new("lists/large referrers in pages", large_referrers),
    ]
}

fn tags(registry: &Registry) {
    let path = "/v2/acme/conformance/tags/";
    let tags = ["10", "2", "B", "a", "a.b", "a_b", "b"];
    for tag in tags.iter().rev() {
        registry.ask("PUT", &format!("{path}manifests/{tag}")).body(MANIFEST, b"{}").gives(201);
    }
    let page = |query: &str| {
        let reply = registry.ask("GET", &format!("{path}tags/list{query}")).gives(200);
        let body = reply.json();
        assert_eq!(body["name"], "acme/conformance/tags");
        (body["tags"].clone(), reply.next())
    };
    for (query, expected) in [
        ("", &tags[..]),
        ("?n=7", &tags[..]),
        ("?n=1000000", &tags[..]),
        ("?n=99999999999999999999", &tags[..]),
        ("?last=a", &tags[4..]),
        ("?last=C", &tags[3..]),
        ("?last=b", &[]),
        ("?last=zzz&n=3", &[]),
        ("?n=3&last=B", &tags[3..6]),
        ("?n=0", &[]),
        ("?n=0&last=2", &[]),
    ] {
        let (listed, next) = page(query);
        assert_eq!(listed, json!(expected), "{query}");
        assert_eq!(next.is_some(), query == "?n=3&last=B", "{query} leads on to {next:?}");
    }
    for size in 1..=tags.len() {
        let mut seen = Vec::new();
        let mut next = Some(format!("{path}tags/list?n={size}"));
        while let Some(target) = next {
            let reply = registry.ask("GET", &target).gives(200);
            let listed: Vec<Value> = reply.json()["tags"].as_array().expect("a list").clone();
            next = reply.next();
            assert!(listed.len() == size || next.is_none(), "a page of {} tags, not {size}", listed.len());
            seen.extend(listed);
        }
        assert_eq!(json!(seen), json!(tags), "pages of {size}");
    }
    for query in ["?n=x", "?n=-1", "?n=", "?n=1.5"] {
        registry.ask("GET", &format!("{path}tags/list{query}")).refused(400, "UNSUPPORTED");
    }
}

/// Follows the pages of a tag list that is asked for without a size.
fn many_tags(registry: &Registry) {
    let path = "/v2/acme/conformance/many-tags/";
    let tags: Vec<String> = (0..MANY_TAGS).map(|number| format!("v{number:05}")).collect();
    let digest = Algorithm::Sha256.digest(b"{}");
    for some in tags.chunks(32) {
        let target = format!("{path}manifests/{digest}?tag={}", some.join("&tag="));
        registry.ask("PUT", &target).body(MANIFEST, b"{}").gives(201);
    }
    let (mut seen, mut pages, mut next) = (Vec::new(), 0, Some(format!("{path}tags/list")));
    while let Some(target) = next {
        let reply = registry.ask("GET", &target).gives(200);
        seen.extend(reply.json()["tags"].as_array().expect("a list").clone());
        pages += 1;
        next = reply.next();
    }
    assert_eq!(json!(seen), json!(tags));
    assert!(pages > 1, "all in one page");
}

/// Pushes that many artifacts with annotations of this size, of two types in turn: their digests, in order.
fn push_artifacts(registry: &Registry, repository: &str, subject: &str, count: usize, annotation_bytes: usize) -> Vec<(String, String)> {
    let mut pushed: Vec<(String, String)> = (0..count)
        .map(|number| {
            let artifact_type = format!("application/vnd.example.{}+json", number % 2);
            let subject = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
            let annotations = json!({ "number": number.to_string(), "padding": "x".repeat(annotation_bytes) });
            let artifact = json!({ "artifactType": artifact_type, "subject": subject, "annotations": annotations }).to_string();
            let digest = Algorithm::Sha256.digest(artifact.as_bytes());
            registry.ask("PUT", &format!("/v2/{repository}/manifests/{digest}")).body(MANIFEST, artifact.as_bytes()).gives(201);
            (digest, artifact_type)
        })
        .collect();
    pushed.sort();
    pushed
}

/// All referrers, page by page, and the number of pages.
fn walk(registry: &Registry, target: String) -> (Vec<String>, usize) {
    let (mut seen, mut pages, mut next) = (Vec::new(), 0, Some(target));
    while let Some(target) = next {
        let reply = registry.ask("GET", &target).gives(200).with("Content-Type", INDEX);
        assert_eq!(reply.header("OCI-Filters-Applied").is_some(), target.contains("artifactType"), "{target}");
        let index = reply.json();
        let listed: Vec<String> =
            index["manifests"].as_array().expect("a list").iter().map(|descriptor| digest_of(descriptor).to_owned()).collect();
        assert!(!listed.is_empty() && index.to_string().len() <= INDEX_BYTES_MAX, "a page of {} manifests", listed.len());
        seen.extend(listed);
        pages += 1;
        next = reply.next();
    }
    seen.sort();
    (seen, pages)
}

fn referrers(registry: &Registry) {
    let (repository, subject) = ("acme/conformance/many-referrers", Algorithm::Sha256.digest(b"many"));
    let pushed = push_artifacts(registry, repository, &subject, MANY, 1);
    let path = format!("/v2/{repository}/referrers/{subject}");
    let (all, pages) = walk(registry, path.clone());
    assert_eq!(all, pushed.iter().map(|(digest, _)| digest.clone()).collect::<Vec<_>>());
    assert!(pages > 1, "all in one page");
    let (some, _) = walk(registry, format!("{path}?artifactType=application%2Fvnd.example.1%2Bjson"));
    let expected: Vec<String> =
        pushed.into_iter().filter(|(_, kind)| kind == "application/vnd.example.1+json").map(|(digest, _)| digest).collect();
    assert_eq!(some, expected);
}

fn large_referrers(registry: &Registry) {
    let (repository, subject) = ("acme/conformance/large-referrers", Algorithm::Sha512.digest(b"large"));
    let pushed = push_artifacts(registry, repository, &subject, 5, 1_900_000);
    let (all, pages) = walk(registry, format!("/v2/{repository}/referrers/{subject}"));
    assert_eq!(all, pushed.into_iter().map(|(digest, _)| digest).collect::<Vec<_>>());
    assert_eq!(pages, 3, "two to a page");
}
