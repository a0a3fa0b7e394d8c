//! Manifests one by one: what is refused, how large they may be, tags by parameter, subjects and warnings.
//!
//! Not here: manifests of each kind of content; see `lifecycle`.

use serde_json::{Value, json};
use tests::registry::{Registry, Reply, Request};

use super::data::{Algorithm, DataSet, INDEX, MANIFEST, Manifest, digest_of};
use super::lifecycle::{push, repository};
use super::{Case, Run};

/// The size that registries should take at least, and ours takes at most, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// The most tags that one push may set here.
const TAGS_MAX: usize = 32;

/// A digest that nothing has.
const BAD_DIGEST: &str = "sha256:baddigeststring";

pub(super) fn cases() -> Vec<Case> {
    let cases: [(&str, Run); 16] = [
        ("missing-manifest", missing),
        ("bad-digest-image", bad_digest),
        ("invalid-digest-format", invalid_digest),
        ("sparse/image is refused", sparse_image),
        ("sparse/index is refused", sparse_index),
        ("largest manifest", largest),
        ("exact bytes", exact_bytes),
        ("media type without parameters", without_parameters),
        ("pushed again", again),
        ("pushed by tag and by another algorithm", by_either_algorithm),
        ("most tags by parameter", most_tags),
        ("deleted with its tags", deleted_with_its_tags),
        ("missing subject is warned of", missing_subject),
        ("preexisting fallback tag", fallback_tag),
        ("pulled for a mirror", mirrored),
        ("known already", known_already),
    ];
    cases.into_iter().map(|(name, run)| Case::new(format!("manifests/{name}"), run)).collect()
}

/// A set of one image, pushed; the test's own repository is in its name.
fn pushed(registry: &Registry, name: &'static str) -> (String, Manifest) {
    let mut set = DataSet::new(name);
    let image = set.image(json!({}));
    set.tag("1", &image);
    push(registry, &set);
    (format!("/v2/{}/manifests/", repository(&set)), set.manifests.remove(0))
}

fn put(registry: &Registry, path: &str, reference: &str, bytes: &[u8]) -> Request {
    registry.ask("PUT", &format!("{path}{reference}")).body(MANIFEST, bytes)
}

fn missing(registry: &Registry) {
    let (path, _) = pushed(registry, "missing");
    for reference in ["missing", &Algorithm::Sha256.digest(b"missing"), &Algorithm::Sha512.digest(b"missing")] {
        registry.ask("HEAD", &format!("{path}{reference}")).gives(404);
        registry.ask("GET", &format!("{path}{reference}")).refused(404, "MANIFEST_UNKNOWN");
        registry.ask("DELETE", &format!("{path}{reference}")).refused(404, "MANIFEST_UNKNOWN");
    }
}

fn bad_digest(registry: &Registry) {
    let (path, image) = pushed(registry, "bad-digest");
    let other = [image.bytes.as_slice(), b"  "].concat();
    for algorithm in Algorithm::ALL {
        let wrong = algorithm.digest(b"other");
        put(registry, &path, &wrong, &image.bytes).refused(400, "DIGEST_INVALID");
        registry.ask("GET", &format!("{path}{wrong}")).refused(404, "MANIFEST_UNKNOWN");
    }
    put(registry, &path, &image.digest, &other).refused(400, "DIGEST_INVALID");
    registry.ask("GET", &format!("{path}{}", image.digest)).gives(200).bytes(&image.bytes);
}

fn invalid_digest(registry: &Registry) {
    let (path, image) = pushed(registry, "invalid-digest");
    put(registry, &path, BAD_DIGEST, &image.bytes).refused(400, "DIGEST_INVALID");
    registry.ask("GET", &format!("{path}{BAD_DIGEST}")).refused(400, "DIGEST_INVALID");
    registry.ask("DELETE", &format!("{path}{BAD_DIGEST}")).refused(400, "DIGEST_INVALID");
}

/// What a manifest names must be there, so that whoever pulls it gets all of it.
fn sparse_image(registry: &Registry) {
    let mut set = DataSet::new("sparse-image");
    let image = set.image(json!({}));
    let missing = set.blobs.remove(0);
    let path = format!("/v2/{}/manifests/", repository(&set));
    let manifest = set.manifests.remove(0);
    push(registry, &set);
    put(registry, &path, "1", &manifest.bytes).refused(400, "MANIFEST_BLOB_UNKNOWN");
    registry.ask("GET", &format!("{path}{}", digest_of(&image))).refused(404, "MANIFEST_UNKNOWN");
    set.blobs.push(missing);
    push(registry, &set);
    put(registry, &path, "1", &manifest.bytes).gives(201);
}

fn sparse_index(registry: &Registry) {
    let mut set = DataSet::new("sparse-index");
    let there = set.image(json!({}));
    push(registry, &set);
    let missing = json!({ "mediaType": MANIFEST, "digest": Algorithm::Sha256.digest(b"missing"), "size": 1024 });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [there, missing] }).to_string();
    let path = format!("/v2/{}/manifests/1", repository(&set));
    registry.ask("PUT", &path).body(INDEX, index.as_bytes()).refused(400, "MANIFEST_BLOB_UNKNOWN");
}

fn largest(registry: &Registry) {
    let of = |bytes: usize| {
        let empty = json!({ "annotations": { "padding": "" } }).to_string();
        json!({ "annotations": { "padding": "x".repeat(bytes - empty.len()) } }).to_string()
    };
    let path = "/v2/acme/conformance/largest/manifests/";
    let largest = of(BYTES_MAX);
    assert_eq!(largest.len(), BYTES_MAX);
    put(registry, path, "1", largest.as_bytes()).gives(201);
    registry.ask("GET", &format!("{path}1")).gives(200).bytes(largest.as_bytes());
    put(registry, path, "2", of(BYTES_MAX + 1).as_bytes()).refused(413, "SIZE_INVALID");
    registry.ask("PUT", &format!("{path}2")).streamed(of(BYTES_MAX + 1).as_bytes()).refused(413, "SIZE_INVALID");
}

fn exact_bytes(registry: &Registry) {
    let path = "/v2/acme/conformance/exact/manifests/";
    let text = format!("\n{{ \"layers\" : [ ],\r\n\t\"mediaType\":\"{MANIFEST}\", \"layers\":[],\"\u{fc}\":1.0e2}}  ");
    for text in [text.replacen("\"layers\" : [ ],", "", 1), text.replace("\"layers\":[],", "")] {
        let digest = Algorithm::Sha256.digest(text.as_bytes());
        let reply = put(registry, path, "1", text.as_bytes()).gives(201).with("Docker-Content-Digest", &digest);
        registry.ask("GET", &reply.location()).gives(200).bytes(text.as_bytes());
        registry.ask("GET", &format!("{path}1")).gives(200).with("Docker-Content-Digest", &digest).bytes(text.as_bytes());
    }
}

fn without_parameters(registry: &Registry) {
    let path = "/v2/acme/conformance/types/manifests/1";
    let stated = format!("{{\"mediaType\":\"{MANIFEST}\"}}");
    for (sent, text, kept) in [
        (format!("{MANIFEST}; charset=utf-8"), stated.as_str(), MANIFEST),
        ("application/vnd.example+json".to_owned(), "{}", "application/vnd.example+json"),
    ] {
        registry.ask("PUT", path).body(sent, text.as_bytes()).gives(201);
        registry.ask("HEAD", path).gives(200).with("Content-Type", kept);
    }
    registry.ask("PUT", path).header("Content-Length", "0").refused(400, "MANIFEST_INVALID");
}

fn again(registry: &Registry) {
    let (path, image) = pushed(registry, "again");
    for reference in ["1", "1", &image.digest, "2"] {
        put(registry, &path, reference, &image.bytes).gives(201).with("Docker-Content-Digest", &image.digest);
    }
}

fn by_either_algorithm(registry: &Registry) {
    let (path, image) = pushed(registry, "either-algorithm");
    let sha512 = Algorithm::Sha512.digest(&image.bytes);
    put(registry, &path, &format!("{sha512}?tag=2"), &image.bytes).gives(201).with("Docker-Content-Digest", &sha512);
    for (reference, digest) in [("1", &image.digest), ("2", &sha512), (&image.digest, &image.digest), (&sha512, &sha512)] {
        registry.ask("GET", &format!("{path}{reference}")).gives(200).with("Docker-Content-Digest", digest).bytes(&image.bytes);
    }
}

fn most_tags(registry: &Registry) {
    let (path, image) = pushed(registry, "most-tags");
    let tags = |count: usize| (0..count).map(|number| format!("v{number:02}")).collect::<Vec<_>>();
    let reference = |tags: &[String]| format!("{}?tag={}", image.digest, tags.join("&tag="));
    put(registry, &path, &reference(&tags(TAGS_MAX + 1)), &image.bytes).refused(414, "UNSUPPORTED");
    let none = registry.ask("GET", &path.replace("manifests/", "tags/list")).gives(200).json();
    assert_eq!(none["tags"], json!(["1"]));
    let reply = put(registry, &path, &reference(&tags(TAGS_MAX)), &image.bytes).gives(201);
    assert_eq!(reply.list("OCI-Tag"), tags(TAGS_MAX));
    registry.ask("GET", &format!("{path}v31")).gives(200).with("Docker-Content-Digest", &image.digest);
    put(registry, &path, &format!("{}?tag=.bad", image.digest), &image.bytes).refused(400, "MANIFEST_INVALID");
}

fn deleted_with_its_tags(registry: &Registry) {
    let (path, image) = pushed(registry, "deleted-with-tags");
    put(registry, &path, "2", &image.bytes).gives(201);
    registry.ask("DELETE", &format!("{path}{}", image.digest)).gives(202);
    for reference in ["1", "2", &image.digest] {
        registry.ask("GET", &format!("{path}{reference}")).refused(404, "MANIFEST_UNKNOWN");
    }
}

/// Warnings are read by people, so they must say something; clients must take them.
fn missing_subject(registry: &Registry) {
    let (path, image) = pushed(registry, "missing-subject-warning");
    let put_referrer = |subject: &str, size: usize| -> Reply {
        let subject = json!({ "mediaType": MANIFEST, "digest": subject, "size": size });
        let artifact = json!({ "mediaType": MANIFEST, "artifactType": "a/b", "subject": subject }).to_string();
        put(registry, &path, "artifact", artifact.as_bytes()).gives(201)
    };
    put_referrer(&image.digest, image.bytes.len()).with("OCI-Subject", &image.digest).without("Warning");
    let missing = Algorithm::Sha256.digest(b"missing");
    let reply = put_referrer(&missing, 7).with("OCI-Subject", &missing);
    let warning = reply.header("Warning").expect("a warning");
    let text = warning.strip_prefix("299 - \"").and_then(|text| text.strip_suffix('"'));
    assert!(text.is_some_and(|text| text.contains(&missing) && warning.len() <= 4096), "{warning}");
}

/// Clients that do not know the referrers API keep a list under a tag. Its manifests are referrers here too, with all that
/// their own bytes say, and the list stays what the client wrote.
fn fallback_tag(registry: &Registry) {
    let (path, image) = pushed(registry, "fallback-tag");
    let subject = json!({ "mediaType": MANIFEST, "digest": image.digest, "size": image.bytes.len() });
    let annotations = json!({ "org.example": "1" });
    let artifact = json!({ "mediaType": MANIFEST, "artifactType": "a/b", "subject": subject, "annotations": annotations }).to_string();
    let digest = Algorithm::Sha256.digest(artifact.as_bytes());
    put(registry, &path, &digest, artifact.as_bytes()).gives(201);
    let listed = json!({ "mediaType": MANIFEST, "digest": digest, "size": artifact.len() });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [listed] }).to_string();
    let tag = image.digest.replace(':', "-");
    registry.ask("PUT", &format!("{path}{tag}")).body(INDEX, index.as_bytes()).gives(201);
    registry.ask("GET", &format!("{path}{tag}")).gives(200).bytes(index.as_bytes());
    let referrers = registry.ask("GET", &path.replace("manifests/", &format!("referrers/{}", image.digest))).gives(200).json();
    let complete =
        json!({ "mediaType": MANIFEST, "digest": digest, "size": artifact.len(), "artifactType": "a/b", "annotations": annotations });
    assert_eq!(referrers["manifests"], json!([complete]));
}

/// A mirror's clients say which registry they mean.
fn mirrored(registry: &Registry) {
    let (path, image) = pushed(registry, "mirrored");
    let config: Value = serde_json::from_slice(&image.bytes).expect("a manifest is JSON");
    let config = format!("blobs/{}", digest_of(&config["config"]));
    for namespace in ["docker.io", "registry.example.com%3A5000"] {
        for rest in ["manifests/1", &format!("manifests/{}", image.digest), &config, "tags/list", &format!("referrers/{}", image.digest)] {
            let target = format!("{}?ns={namespace}", path.replace("manifests/", rest));
            registry.ask("HEAD", &target).gives(200);
            registry.ask("GET", &target).gives(200);
        }
    }
}

fn known_already(registry: &Registry) {
    let (path, image) = pushed(registry, "known");
    let etag = registry.ask("HEAD", &format!("{path}1")).gives(200).header("ETag").expect("an ETag").to_owned();
    registry.ask("GET", &format!("{path}1")).header("If-None-Match", &etag).gives(304).with("Docker-Content-Digest", &image.digest);
    registry.ask("GET", &format!("{path}1")).header("If-None-Match", "\"other\"").gives(200).bytes(&image.bytes);
}
