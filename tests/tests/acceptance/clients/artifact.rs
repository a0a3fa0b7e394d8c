//! What the sequences push: blobs and manifests of any type, and the steps that several clients have in common.
//!
//! Not here: images as OCI layouts, which real clients push; see [`tests::image`].

use serde_json::{Value, json};
use tests::image::{digest, noise};
use tests::registry::{Registry, Reply};
use tests::seed::Seed;
use tests::token::{self, Challenge};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Bytes with a media type, as a blob or a manifest.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: String,
}

impl Content {
    pub(super) fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.to_owned(), digest: digest(&bytes), bytes }
    }

    /// Bytes that look random.
    pub(super) fn random(media_type: &str, seed: u64, bytes: usize) -> Self {
        Self::new(media_type, noise(seed, bytes))
    }

    /// A manifest with these fields beside `config` and `layers`.
    pub(super) fn manifest(config: &Self, layers: &[&Self], more: &Value) -> Self {
        let layers: Vec<Value> = layers.iter().map(|layer| layer.descriptor()).collect();
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": layers});
        for (field, value) in more.as_object().into_iter().flatten() {
            manifest[field] = value.clone();
        }
        Self::new(MANIFEST, manifest.to_string())
    }

    pub(super) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A registry as a client sees it that has a token for some scopes, which it got as most do: challenged at `/v2/`, by GET.
pub(super) fn with_token(seed: &Seed, scopes: &[&str]) -> Registry {
    let registry = Registry::new(seed, &seed.org());
    let challenge = Challenge::of(&registry.anonymous().ask("GET", "/v2/").answer());
    let who = registry.authorized_by(token::basic("anyone", &seed.org().access_key));
    registry.authorized_by(token::by_get(&who, &challenge, &[], scopes))
}

/// Where an upload is ended.
pub(super) fn end(location: &str, blob: &Content) -> String {
    format!("{location}{}digest={}", if location.contains('?') { '&' } else { '?' }, blob.digest)
}

/// Pushes a blob as the libraries of containerd and oras do: HEAD, POST, one PUT with all bytes. The answer must name the
/// digest, and the upload must stay on the registry's host, or these clients leave out their credentials.
#[track_caller]
pub(super) fn push_whole(registry: &Registry, repository: &str, blob: &Content) {
    let accept = format!("{}, */*", blob.media_type);
    registry.ask("HEAD", &format!("/v2/{repository}/blobs/{}", blob.digest)).header("Accept", accept).gives(404);
    let location = registry.ask("POST", &format!("/v2/{repository}/blobs/uploads/")).gives(202).location();
    assert!(location.starts_with("/v2/"), "another scheme or host behind a proxy: {location}");
    registry.ask("PUT", &end(&location, blob)).octets(&blob.bytes).gives(201).with("Docker-Content-Digest", &blob.digest);
}

/// Pushes a manifest to a tag or its digest, and gives the answer, which must name the digest.
#[track_caller]
pub(super) fn push_manifest(registry: &Registry, repository: &str, reference: &str, manifest: &Content) -> Reply {
    let request = registry.ask("PUT", &format!("/v2/{repository}/manifests/{reference}"));
    request.body(&manifest.media_type, &manifest.bytes).gives(201).with("Docker-Content-Digest", &manifest.digest)
}

/// Pushes an artifact's parts and its manifest.
#[track_caller]
pub(super) fn push_artifact(registry: &Registry, repository: &str, reference: &str, parts: &[&Content], manifest: &Content) -> Reply {
    for part in parts {
        push_whole(registry, repository, part);
    }
    push_manifest(registry, repository, reference, manifest)
}

/// The digests in a list of referrers, as it is found without a delay.
#[track_caller]
pub(super) fn referrers(registry: &Registry, repository: &str, subject: &str, artifact_type: Option<&str>) -> Vec<Value> {
    let filter = artifact_type.map(|wanted| format!("?artifactType={}", tests::http::escaped(wanted))).unwrap_or_default();
    let request = registry.ask("GET", &format!("/v2/{repository}/referrers/{subject}{filter}"));
    let listed = request.header("Accept", INDEX).gives(200).with("Content-Type", INDEX);
    if artifact_type.is_some() {
        assert_eq!(listed.list("OCI-Filters-Applied"), ["artifactType"]);
    }
    listed.json()["manifests"].as_array().expect("an index has manifests").clone()
}
