//! What is done with content of every kind: push, list, head, pull, referrers, delete.
//!
//! Not here: the ways to push a blob, one by one; see `blobs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tests::registry::{Registry, Reply, Request};

use super::Case;
use super::blobs::{Way, post_put};
use super::data::{self, Algorithm, DataSet, INDEX, MANIFEST, Manifest};

/// Does one thing with a set.
type Step = fn(&Registry, &DataSet);

/// Six cases for each kind, which build on one another.
pub(super) fn sequences() -> Vec<Vec<Case>> {
    let steps: [(&str, Step); 6] =
        [("push", push), ("list", list), ("head", head), ("pull", pull), ("referrers", referrers), ("delete", delete)];
    let sets = data::all().into_iter().map(Arc::new);
    sets.map(|set| steps.map(|(step, act)| Case::new(format!("{}/{step}", set.name), with(&set, act))).into()).collect()
}

fn with(set: &Arc<DataSet>, act: Step) -> impl Fn(&Registry) + 'static {
    let set = Arc::clone(set);
    move |registry| act(registry, &set)
}

/// The repository of a set: none shares one, so that all that is in it is known.
pub(super) fn repository(set: &DataSet) -> String {
    format!("acme/conformance/{}", set.name)
}

fn path(set: &DataSet, kind: &str, reference: &str) -> String {
    format!("/v2/{}/{kind}/{reference}", repository(set))
}

impl DataSet {
    fn tags_of(&self, manifest: &Manifest) -> Vec<&str> {
        self.tags.iter().filter(|(_, digest)| *digest == manifest.digest).map(|(tag, _)| tag.as_str()).collect()
    }

    /// Each tag and digest with the manifest that it names.
    fn references(&self) -> Vec<(&str, &Manifest)> {
        let named = self.manifests.iter().flat_map(|manifest| {
            let references = self.tags_of(manifest).into_iter().chain([manifest.digest.as_str()]);
            references.map(move |reference| (reference, manifest))
        });
        named.collect()
    }
}

/// Pushes all of a set.
pub(super) fn push(registry: &Registry, set: &DataSet) {
    for blob in &set.blobs {
        let way = Way { registry, repository: &repository(set), announced: None };
        post_put(&way, blob).gives(201).with("Docker-Content-Digest", &blob.digest);
    }
    for manifest in &set.manifests {
        let tags = if set.tags_by_parameter { set.tags_of(manifest) } else { Vec::new() };
        let parameters: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let target = format!("{}?{}", path(set, "manifests", &manifest.digest), parameters.join("&"));
        let reply = put(registry, &target, manifest);
        assert_eq!(reply.list("OCI-Tag"), tags, "the tags that were set");
    }
    for (tag, digest) in set.tags.iter().filter(|_| !set.tags_by_parameter) {
        let manifest = set.manifests.iter().find(|manifest| manifest.digest == *digest).expect("a tag is of a manifest");
        put(registry, &path(set, "manifests", tag), manifest).without("OCI-Tag");
    }
}

fn put(registry: &Registry, target: &str, manifest: &Manifest) -> Reply {
    let reply = registry.ask("PUT", target).body(manifest.media_type, &manifest.bytes).gives(201);
    let reply = reply.with("Docker-Content-Digest", &manifest.digest);
    assert_eq!(reply.header("OCI-Subject"), manifest.subject.as_deref(), "the subject that was seen");
    check(ask(registry, "GET", &reply.location()).gives(200), manifest).bytes(&manifest.bytes);
    reply
}

/// A request for a manifest, as clients send it.
fn ask(registry: &Registry, method: &'static str, target: &str) -> Request {
    registry.ask(method, target).header("Accept", format!("{INDEX}, {MANIFEST}"))
}

fn check(reply: Reply, manifest: &Manifest) -> Reply {
    let reply = reply.with("Content-Type", manifest.media_type).with("Docker-Content-Digest", &manifest.digest);
    reply.with_length(manifest.bytes.len())
}

fn list(registry: &Registry, set: &DataSet) {
    let name = repository(set);
    let mut tags: Vec<&str> = set.tags.iter().map(|(tag, _)| tag.as_str()).collect();
    tags.sort_unstable();
    let listed = |query: &str| registry.ask("GET", &path(set, "tags", &format!("list{query}"))).gives(200).json();
    assert_eq!(listed(""), json!({ "name": name, "tags": tags }));
    for (number, last) in tags.iter().enumerate() {
        assert_eq!(listed(&format!("?last={last}"))["tags"], json!(tags[number + 1..]), "the tags after {last}");
    }
}

fn head(registry: &Registry, set: &DataSet) {
    for (reference, manifest) in set.references() {
        check(ask(registry, "HEAD", &path(set, "manifests", reference)).gives(200), manifest);
    }
    for blob in &set.blobs {
        let reply = registry.ask("HEAD", &path(set, "blobs", &blob.digest)).gives(200);
        reply.with("Docker-Content-Digest", &blob.digest).with_length(blob.bytes.len());
    }
}

/// Pulls all of a set. Clients that offer to take compressed bytes unpack what comes so, which then has another digest.
fn pull(registry: &Registry, set: &DataSet) {
    let get = |kind: &str, reference: &str| ask(registry, "GET", &path(set, kind, reference)).header("Accept-Encoding", "zstd, gzip");
    for (reference, manifest) in set.references() {
        let reply = get("manifests", reference).gives(200);
        check(reply.without("Content-Encoding"), manifest).bytes(&manifest.bytes);
    }
    for blob in &set.blobs {
        let reply = get("blobs", &blob.digest).gives(200).without("Content-Encoding");
        reply.with("Docker-Content-Digest", &blob.digest).bytes(&blob.bytes);
    }
}

fn referrers(registry: &Registry, set: &DataSet) {
    let subjects: BTreeSet<&str> = set.manifests.iter().filter_map(|manifest| manifest.subject.as_deref()).collect();
    for subject in subjects {
        let expected: Vec<&Value> =
            set.manifests.iter().filter(|manifest| manifest.subject.as_deref() == Some(subject)).map(|manifest| &manifest.listed).collect();
        let all = referrers_of(registry, set, subject, "");
        assert_eq!(by_digest(all.json()), by_digest(json!(expected)));
        all.without("OCI-Filters-Applied");
        let types = expected.iter().filter_map(|listed| listed["artifactType"].as_str());
        let types: BTreeSet<&str> = types.chain(["application/vnd.example.none"]).collect();
        for artifact_type in types {
            let encoded = artifact_type.replace('+', "%2B");
            let filtered = referrers_of(registry, set, subject, &format!("?artifactType={encoded}"));
            let expected: Vec<&Value> = expected.iter().filter(|listed| listed["artifactType"] == artifact_type).copied().collect();
            assert_eq!(by_digest(filtered.json()), by_digest(json!(expected)), "referrers of the type {artifact_type}");
            filtered.with("OCI-Filters-Applied", "artifactType");
        }
    }
    let unknown = referrers_of(registry, set, &Algorithm::Sha512.digest(b"nothing refers to this"), "");
    assert_eq!(by_digest(unknown.json()), Vec::<Value>::new());
}

fn referrers_of(registry: &Registry, set: &DataSet, subject: &str, query: &str) -> Reply {
    let reply = registry.ask("GET", &path(set, "referrers", &format!("{subject}{query}"))).gives(200).with("Content-Type", INDEX);
    let index = reply.json();
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(INDEX)));
    reply
}

/// The descriptors of an index, or of a list, in an order that does not depend on the registry.
fn by_digest(mut index: Value) -> Vec<Value> {
    let listed = if index.is_array() { index } else { index["manifests"].take() };
    let mut listed = listed.as_array().expect("an index lists manifests").clone();
    listed.sort_by_key(|descriptor| data::digest_of(descriptor).to_owned());
    listed
}

/// Deletes all of a set; each thing is gone when its deletion is answered.
fn delete(registry: &Registry, set: &DataSet) {
    let gone = |target: String, code: &str| {
        registry.ask("DELETE", &target).gives(202);
        registry.ask("HEAD", &target).gives(404);
        registry.ask("GET", &target).refused(404, code);
        registry.ask("DELETE", &target).refused(404, code);
    };
    for (tag, digest) in &set.tags {
        gone(path(set, "manifests", tag), "MANIFEST_UNKNOWN");
        ask(registry, "HEAD", &path(set, "manifests", digest)).gives(200);
    }
    let tags = registry.ask("GET", &path(set, "tags", "list")).gives(200).json();
    assert_eq!(tags["tags"], json!([]), "the tags of a repository that has none any more");
    for manifest in set.manifests.iter().rev() {
        gone(path(set, "manifests", &manifest.digest), "MANIFEST_UNKNOWN");
        if let Some(subject) = &manifest.subject {
            let left = by_digest(referrers_of(registry, set, subject, "").json());
            assert!(!left.contains(&manifest.listed), "{} is deleted and still listed", manifest.digest);
        }
    }
    for blob in &set.blobs {
        gone(path(set, "blobs", &blob.digest), "BLOB_UNKNOWN");
    }
}
