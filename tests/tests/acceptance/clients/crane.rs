//! crane, as request sequences: also ko, kaniko, tekton and others on the library go-containerregistry.
//!
//! Not here: cosign, which pushes with it too; see [`super::cosign`].

use serde_json::json;
use tests::http::escaped;
use tests::registry::Registry;
use tests::seed::Seed;

use super::artifact::{Content, INDEX, MANIFEST, end, push_manifest, with_token};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Pushes a blob: HEAD, POST, PATCH without a length, PUT without a body. Each Location is where the next one goes.
#[track_caller]
pub(super) fn push_blob(registry: &Registry, repository: &str, blob: &Content) {
    registry.ask("HEAD", &format!("/v2/{repository}/blobs/{}", blob.digest)).gives(404);
    let location = registry.ask("POST", &format!("/v2/{repository}/blobs/uploads/")).body("application/json", &[]).gives(202).location();
    let patched = registry.ask("PATCH", &location).streamed(&blob.bytes).gives(202);
    let range = format!("0-{}", blob.bytes.len().saturating_sub(1));
    let location = patched.with("Range", range).location();
    registry.ask("PUT", &end(&location, blob)).octets(&[]).gives(201).with("Docker-Content-Digest", &blob.digest);
}

/// Quirk 30: `crane push` of an index of two platforms, `crane ls`, `crane digest`, `crane pull`; then `crane copy` to another
/// repository mounts every blob (POST with mount and from is 201), and `crane delete` by tag and by digest.
#[test]
fn crane_pushes_an_index_copies_it_by_mounting_and_deletes_it() {
    let seed = Seed::start_with_tls();
    let both = ["repository:acme/web:pull,push,delete", "repository:acme/copy:pull,push,delete"];
    let registry = with_token(&seed, &both);
    registry.ask("GET", "/v2/").gives(200);
    let mut blobs = Vec::new();
    let mut images = Vec::new();
    let mut named = Vec::new();
    for (seed, architecture) in [(1, "amd64"), (2, "arm64")] {
        let config = Content::new(CONFIG, json!({"architecture": architecture, "os": "linux"}).to_string());
        let layer = Content::random(LAYER, seed, 40_000);
        let image = Content::manifest(&config, &[&layer], &json!({}));
        let mut descriptor = image.descriptor();
        descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
        named.push(descriptor);
        blobs.extend([layer, config]);
        images.push(image);
    }
    let index = Content::new(INDEX, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": named}).to_string());

    for blob in &blobs {
        push_blob(&registry, "acme/web", blob);
    }
    for image in &images {
        registry.ask("HEAD", &format!("/v2/acme/web/manifests/{}", image.digest)).header("Accept", MANIFEST).gives(404);
        push_manifest(&registry, "acme/web", &image.digest, image);
    }
    push_manifest(&registry, "acme/web", "1.0", &index);
    let accept = format!("{MANIFEST},{INDEX}");
    let head = registry.ask("HEAD", "/v2/acme/web/manifests/1.0").header("Accept", &accept).gives(200);
    head.with("Docker-Content-Digest", &index.digest).with("Content-Type", INDEX).with_length(index.bytes.len());
    registry.ask("GET", "/v2/acme/web/manifests/1.0").header("Accept", &accept).gives(200).bytes(&index.bytes);
    for image in &images {
        registry.ask("GET", &format!("/v2/acme/web/manifests/{}", image.digest)).header("Accept", MANIFEST).gives(200).bytes(&image.bytes);
    }
    assert_eq!(registry.ask("GET", "/v2/acme/web/tags/list?n=1000").gives(200).json()["tags"], json!(["1.0"]));

    for blob in &blobs {
        registry.ask("HEAD", &format!("/v2/acme/copy/blobs/{}", blob.digest)).gives(404);
        let mount = format!("/v2/acme/copy/blobs/uploads/?from={}&mount={}", escaped("acme/web"), escaped(&blob.digest));
        registry.ask("POST", &mount).body("application/json", &[]).gives(201).with("Docker-Content-Digest", &blob.digest);
        registry.ask("GET", &format!("/v2/acme/copy/blobs/{}", blob.digest)).gives(200).bytes(&blob.bytes);
    }
    for image in &images {
        push_manifest(&registry, "acme/copy", &image.digest, image);
    }
    push_manifest(&registry, "acme/copy", "latest", &index);

    registry.ask("DELETE", "/v2/acme/web/manifests/1.0").gives(202);
    registry.ask("GET", "/v2/acme/web/manifests/1.0").header("Accept", &accept).refused(404, "MANIFEST_UNKNOWN");
    registry.ask("DELETE", &format!("/v2/acme/copy/manifests/{}", index.digest)).gives(202);
    registry.ask("GET", "/v2/acme/copy/manifests/latest").header("Accept", &accept).refused(404, "MANIFEST_UNKNOWN");
}
