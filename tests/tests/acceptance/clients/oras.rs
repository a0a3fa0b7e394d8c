//! oras, and what else attaches artifacts to others: notation, regclient, docker compose publish. As request sequences.
//!
//! Not here: signatures of cosign; see [`super::cosign`].

use serde_json::{Value, json};
use tests::seed::Seed;

use super::artifact::{Content, EMPTY, INDEX, MANIFEST, push_artifact, push_manifest, push_whole, referrers, with_token};

const SBOM: &str = "application/spdx+json";
const SIGNATURE: &str = "application/vnd.cncf.notary.signature";

/// An artifact on an empty config, as `oras attach` makes it.
fn attached(to: &Content, artifact_type: &str, file: &Content) -> (Content, Content) {
    let config = Content::new(EMPTY, "{}");
    let more = json!({
        "artifactType": artifact_type,
        "subject": to.descriptor(),
        "annotations": {"org.opencontainers.image.created": "2026-11-21T00:00:00Z"},
    });
    let manifest = Content::manifest(&config, &[file], &more);
    (config, manifest)
}

/// Quirk 26: before anything refers to anything, oras asks for the referrers of a digest of zeros, and takes 404 to mean that
/// the registry has no such API. It is 200 with an empty index, also in a repository that does not exist yet.
#[test]
fn oras_finds_that_there_is_a_referrers_api_by_asking_for_a_digest_of_zeros() {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/web:pull,push"]);
    let zeros = format!("sha256:{}", "0".repeat(64));
    assert_eq!(referrers(&registry, "acme/web", &zeros, None), Vec::<Value>::new());
    push_whole(&registry, "acme/web", &Content::new(EMPTY, "{}"));
    assert_eq!(referrers(&registry, "acme/web", &zeros, None), Vec::<Value>::new());
}

/// Quirks 26 and 28: `oras push`, `attach`, `discover` and `cp -r` of any artifact. The PUT of an artifact with a subject says
/// OCI-Subject, the list has it at once with type and annotations, a filter is applied and said to be, and deletion takes it
/// from the list at once. `oras attach` to what is not there is taken, with a warning that oras shows.
#[test]
fn oras_attaches_an_artifact_to_another_discovers_it_and_deletes_it() {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/models:pull,push,delete"]);
    let (config, file) = (Content::new(EMPTY, "{}"), Content::random("application/x-model", 1, 50_000));
    let model = Content::manifest(&config, &[&file], &json!({"artifactType": "application/x-model"}));
    let pushed = push_artifact(&registry, "acme/models", "v1", &[&config, &file], &model);
    pushed.without("OCI-Subject").without("Warning");

    let sbom = Content::new(SBOM, r#"{"spdxVersion": "SPDX-2.3"}"#);
    let (_, listed) = attached(&model, SBOM, &sbom);
    push_whole(&registry, "acme/models", &sbom);
    push_manifest(&registry, "acme/models", &listed.digest, &listed).with("OCI-Subject", &model.digest).without("Warning");
    let found = referrers(&registry, "acme/models", &model.digest, None);
    let annotations = json!({"org.opencontainers.image.created": "2026-11-21T00:00:00Z"});
    let mut descriptor = listed.descriptor();
    (descriptor["artifactType"], descriptor["annotations"]) = (SBOM.into(), annotations);
    assert_eq!(found, [descriptor]);
    assert_eq!(referrers(&registry, "acme/models", &model.digest, Some(SBOM)), found);
    assert_eq!(referrers(&registry, "acme/models", &model.digest, Some(SIGNATURE)), Vec::<Value>::new());
    registry.ask("GET", &format!("/v2/acme/models/manifests/{}", listed.digest)).header("Accept", MANIFEST).gives(200).bytes(&listed.bytes);

    let absent = Content::manifest(&config, &[&file], &json!({"artifactType": "application/x-absent"}));
    let (_, dangling) = attached(&absent, SBOM, &sbom);
    let warned = push_manifest(&registry, "acme/models", &dangling.digest, &dangling).with("OCI-Subject", &absent.digest);
    assert!(warned.header("Warning").is_some_and(|warning| warning.starts_with("299 - \"")), "{:?}", warned.header("Warning"));

    registry.ask("DELETE", &format!("/v2/acme/models/manifests/{}", listed.digest)).gives(202);
    assert_eq!(referrers(&registry, "acme/models", &model.digest, None), Vec::<Value>::new());
}

/// `oras manifest delete` resolves the tag with HEAD and deletes by digest; `oras blob delete` likewise; `oras repo tags`
/// follows Link from page to page.
#[test]
fn oras_lists_tags_page_by_page_and_deletes_what_it_resolved() {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/models:pull,push,delete"]);
    let (config, file) = (Content::new(EMPTY, "{}"), Content::random("application/x-model", 1, 5_000));
    let model = Content::manifest(&config, &[&file], &json!({"artifactType": "application/x-model"}));
    push_artifact(&registry, "acme/models", "v1", &[&config, &file], &model);
    for tag in ["v2", "v3", "v4", "v5"] {
        push_manifest(&registry, "acme/models", tag, &model);
    }
    let mut tags = Vec::new();
    let mut page = Some("/v2/acme/models/tags/list?n=2".to_owned());
    while let Some(path) = page {
        let listed = registry.ask("GET", &path).gives(200);
        tags.extend(listed.json()["tags"].as_array().expect("a list has tags").clone());
        page = listed.next();
    }
    assert_eq!(tags, ["v1", "v2", "v3", "v4", "v5"]);

    let head = registry.ask("HEAD", "/v2/acme/models/manifests/v3").header("Accept", format!("{MANIFEST}, {INDEX}")).gives(200);
    let resolved = head.header("Docker-Content-Digest").expect("oras deletes by digest").to_owned();
    registry.ask("DELETE", &format!("/v2/acme/models/manifests/{resolved}")).gives(202);
    registry.ask("GET", "/v2/acme/models/manifests/v1").gives(404);
    registry.ask("DELETE", &format!("/v2/acme/models/blobs/{}", file.digest)).gives(202);
    registry.ask("HEAD", &format!("/v2/acme/models/blobs/{}", file.digest)).gives(404);
}

/// Quirk 29: notation ≥ 1.2 and regclient sign an image in two steps, and verify it by the list of referrers with a filter;
/// each HEAD must have the digest.
#[test]
fn notation_signs_an_image_and_finds_the_signature() {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/web:pull,push"]);
    let config = Content::new("application/vnd.oci.image.config.v1+json", json!({"architecture": "amd64", "os": "linux"}).to_string());
    let layer = Content::random("application/vnd.oci.image.layer.v1.tar", 1, 5_000);
    let image = Content::manifest(&config, &[&layer], &json!({}));
    push_artifact(&registry, "acme/web", "1.0", &[&config, &layer], &image);

    let head = registry.ask("HEAD", "/v2/acme/web/manifests/1.0").header("Accept", format!("{MANIFEST}, {INDEX}")).gives(200);
    head.with("Docker-Content-Digest", &image.digest);
    let envelope = Content::random("application/jose+json", 2, 3_000);
    let config = Content::new(SIGNATURE, "{}");
    let signature = Content::manifest(&config, &[&envelope], &json!({"subject": image.descriptor()}));
    push_whole(&registry, "acme/web", &envelope);
    // Its type is that of its config, which has the bytes of every other empty one.
    push_whole(&registry, "acme/web", &config);
    push_manifest(&registry, "acme/web", &signature.digest, &signature).with("OCI-Subject", &image.digest);
    let found = referrers(&registry, "acme/web", &image.digest, Some(SIGNATURE));
    assert_eq!((found.len(), &found[0]["artifactType"], &found[0]["digest"]), (1, &SIGNATURE.into(), &signature.digest.into()));
    registry.ask("GET", &format!("/v2/acme/web/blobs/{}", envelope.digest)).gives(200).bytes(&envelope.bytes);
}

/// Quirk 31: `docker compose publish` pushes the project's files as the layers of an artifact, `docker compose -f oci://…`
/// pulls them back.
#[test]
fn compose_publishes_a_project_and_reads_it_back() {
    const PROJECT: &str = "application/vnd.docker.compose.project";
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/shop:pull,push"]);
    let config = Content::new(EMPTY, "{}");
    let compose = Content::new("application/vnd.docker.compose.file+yaml", "services:\n  web:\n    image: seed.example/acme/web:1.0\n");
    let environment = Content::new("application/vnd.docker.compose.envfile", "LOG=info\n");
    let manifest = Content::manifest(&config, &[&compose, &environment], &json!({"artifactType": PROJECT}));
    push_artifact(&registry, "acme/shop", "1.0", &[&config, &compose, &environment], &manifest);

    let get = registry.ask("GET", "/v2/acme/shop/manifests/1.0").header("Accept", MANIFEST).gives(200).with("Content-Type", MANIFEST);
    assert_eq!(get.json()["artifactType"], PROJECT);
    for layer in get.json()["layers"].as_array().expect("a manifest has layers") {
        let expected = [&compose, &environment].into_iter().find(|file| layer["digest"] == *file.digest).expect("one of ours");
        assert_eq!(layer["mediaType"], *expected.media_type);
        registry.ask("GET", &format!("/v2/acme/shop/blobs/{}", expected.digest)).gives(200).bytes(&expected.bytes);
    }
}
