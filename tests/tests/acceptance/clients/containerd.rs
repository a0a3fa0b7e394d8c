//! containerd ≥ 2, as request sequences: also nerdctl, Kubernetes, `BuildKit`, and docker ≥ 29, which push and pull with it.
//!
//! Not here: how it gets tokens; see [`super::tokens`].

use std::io::Read as _;

use serde_json::json;
use tests::http::escaped;
use tests::image::digest;
use tests::registry::Registry;
use tests::seed::Seed;

use super::artifact::{Content, MANIFEST, push_artifact, push_manifest, push_whole, with_token};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What it accepts when it resolves a reference.
const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// A config, a layer of this size, and their manifest.
fn image(layer_bytes: usize) -> (Content, Content, Content) {
    let config = Content::new(CONFIG, json!({"architecture": "amd64", "os": "linux", "config": {}}).to_string());
    let layer = Content::random(LAYER, 1, layer_bytes);
    let manifest = Content::manifest(&config, &[&layer], &json!({}));
    (config, layer, manifest)
}

/// A seed with an image at `acme/web:1.0`, and a client that may pull and push it.
fn pushed(layer_bytes: usize) -> (Seed, Registry, Content, Content) {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/web:pull,push"]);
    let (config, layer, manifest) = image(layer_bytes);
    push_artifact(&registry, "acme/web", "1.0", &[&config, &layer], &manifest);
    (seed, registry, layer, manifest)
}

/// Quirks 8, 9 and 10: HEAD, POST and one PUT with its length; both PUTs answered with the digest; uploads at a relative
/// Location. A second push finds everything and uploads nothing.
#[test]
fn containerd_pushes_each_blob_in_one_request_and_is_told_its_digest() {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/web:pull,push"]);
    let (config, layer, manifest) = image(300_000);
    registry.ask("HEAD", "/v2/acme/web/manifests/1.0").header("Accept", format!("{MANIFEST}, */*")).gives(404);
    for blob in [&layer, &config] {
        push_whole(&registry, "acme/web", blob);
    }
    push_manifest(&registry, "acme/web", "1.0", &manifest);
    for blob in [&layer, &config] {
        let head = registry.ask("HEAD", &format!("/v2/acme/web/blobs/{}", blob.digest));
        head.gives(200).with_length(blob.bytes.len()).with("Docker-Content-Digest", &blob.digest);
    }
    let head = registry.ask("HEAD", "/v2/acme/web/manifests/1.0").header("Accept", format!("{MANIFEST}, */*"));
    head.gives(200).with("Docker-Content-Digest", &manifest.digest).with_length(manifest.bytes.len());
}

/// Quirks 8 and 18: a mount asks for a token with a scope of each repository; the answer is 201 with the digest, or 202
/// and an upload when there is nothing to mount.
#[test]
fn containerd_mounts_blobs_of_another_repository_with_a_token_for_both() {
    let (seed, _, layer, _) = pushed(300_000);
    let both = with_token(&seed, &["repository:acme/mobile:pull,push", "repository:acme/web:pull"]);
    let uploads = |blob: &str| format!("/v2/acme/mobile/blobs/uploads/?mount={blob}&from={}", escaped("acme/web"));
    both.ask("HEAD", &format!("/v2/acme/mobile/blobs/{}", layer.digest)).gives(404);
    both.ask("POST", &uploads(&layer.digest)).gives(201).with("Docker-Content-Digest", &layer.digest);
    both.ask("GET", &format!("/v2/acme/mobile/blobs/{}", layer.digest)).gives(200).bytes(&layer.bytes);

    let missing = Content::random(LAYER, 2, 1000);
    let location = both.ask("POST", &uploads(&missing.digest)).gives(202).location();
    let end = super::artifact::end(&location, &missing);
    both.ask("PUT", &end).octets(&missing.bytes).gives(201).with("Docker-Content-Digest", &missing.digest);
}

/// Quirk 11: one HEAD resolves a tag, because it has type, digest and length; what is not found by digest among the
/// manifests is looked for among the blobs. By digest the answer is the same.
#[test]
fn containerd_resolves_a_tag_or_a_digest_with_one_head() {
    let (_seed, registry, layer, manifest) = pushed(5_000);
    for reference in ["1.0", &manifest.digest] {
        let head = registry.ask("HEAD", &format!("/v2/acme/web/manifests/{reference}")).header("Accept", ACCEPT).gives(200);
        head.with("Content-Type", MANIFEST).with("Docker-Content-Digest", &manifest.digest).with_length(manifest.bytes.len());
        let get = registry.ask("GET", &format!("/v2/acme/web/manifests/{reference}")).header("Accept", ACCEPT);
        get.gives(200).bytes(&manifest.bytes);
    }
    registry.ask("HEAD", &format!("/v2/acme/web/manifests/{}", layer.digest)).header("Accept", ACCEPT).gives(404);
    let head = registry.ask("HEAD", &format!("/v2/acme/web/blobs/{}", layer.digest)).header("Accept", ACCEPT).gives(200);
    head.with("Docker-Content-Digest", &layer.digest).with_length(layer.bytes.len());
}

/// Quirks 12 and 13: as a mirror the seed is asked with the name of the host that it stands in for, its port escaped; what
/// the seed does not have is 404, and containerd goes on to the next mirror.
#[test]
fn containerd_pulls_from_the_seed_as_the_mirror_of_another_host() {
    let (_seed, registry, layer, manifest) = pushed(5_000);
    let ns = escaped("registry.example:5000");
    for method in ["HEAD", "GET"] {
        let tag = registry.ask(method, &format!("/v2/acme/web/manifests/1.0?ns={ns}")).header("Accept", ACCEPT).gives(200);
        tag.with("Docker-Content-Digest", &manifest.digest);
        registry.ask(method, &format!("/v2/acme/web/manifests/{}?ns={ns}", manifest.digest)).header("Accept", ACCEPT).gives(200);
        registry.ask(method, &format!("/v2/acme/web/blobs/{}?ns={ns}", layer.digest)).gives(200).with_length(layer.bytes.len());
        registry.ask(method, &format!("/v2/acme/web/manifests/2.0?ns={ns}")).header("Accept", ACCEPT).gives(404);
    }
}

/// Quirk 14: it offers to decode what it fetches, and would, so that nothing may be encoded: neither what is compressed
/// already nor what compresses well.
#[test]
fn containerd_is_sent_the_bytes_as_they_are_although_it_could_decode_others() {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/web:pull,push"]);
    let config = Content::new(CONFIG, json!({"architecture": "amd64", "os": "linux"}).to_string());
    let layer = Content::new("application/vnd.oci.image.layer.v1.tar", vec![0; 200_000]);
    let manifest = Content::manifest(&config, &[&layer], &json!({"annotations": {"text": "a".repeat(50_000)}}));
    push_artifact(&registry, "acme/web", "1.0", &[&config, &layer], &manifest);
    for (path, content) in [("blobs", &config), ("blobs", &layer), ("manifests", &manifest)] {
        let get = registry.ask("GET", &format!("/v2/acme/web/{path}/{}", content.digest)).header("Accept", "*/*");
        let whole = get.header("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5").gives(200);
        whole.without("Content-Encoding").without("Transfer-Encoding").bytes(&content.bytes);
    }
}

/// Quirk 15: parallel fetches ask for everything from some byte on, check status and Content-Range, and close when they have
/// enough. The connections that break off do no harm: the whole blob is there afterwards, and from its last byte on too.
#[test]
fn containerd_fetches_a_layer_in_open_ended_ranges_that_it_closes_early() {
    const PARTS: usize = 8;
    const PART_BYTES: usize = 1 << 20;
    let (_seed, registry, layer, _) = pushed(PARTS * PART_BYTES);
    let path = format!("/v2/acme/web/blobs/{}", layer.digest);
    let size = layer.bytes.len();
    let fetch = |part: usize| {
        let start = part * PART_BYTES;
        let get = registry.ask("GET", &path).header("Range", format!("bytes={start}-")).header("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8");
        let mut answer = get.begin();
        assert_eq!((answer.status, answer.header("Content-Encoding")), (206, None));
        assert_eq!(answer.header("Content-Range"), Some(format!("bytes {start}-{}/{size}", size - 1).as_str()));
        let mut bytes = vec![0; PART_BYTES];
        answer.body.read_exact(&mut bytes).expect("the part arrives");
        bytes
    };
    let parts: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..PARTS).map(|part| scope.spawn(move || fetch(part))).collect();
        fetches.into_iter().map(|fetch| fetch.join().expect("the part was fetched")).collect()
    });
    assert_eq!(digest(&parts.concat()), layer.digest);
    registry.ask("GET", &path).gives(200).bytes(&layer.bytes);
    let last = registry.ask("GET", &path).header("Range", format!("bytes={}-", size - 1)).gives(206);
    last.bytes(&layer.bytes[size - 1..]);
    registry.ask("GET", &path).header("Range", format!("bytes={size}-")).gives(416);
}
