//! cosign, as request sequences: signatures at tags named after what they sign, and bundles that refer to it.
//!
//! Not here: whether a signature is valid, which the registry does not know.

use serde_json::{Value, json};
use tests::registry::Registry;
use tests::seed::Seed;

use super::artifact::{Content, EMPTY, INDEX, MANIFEST, push_artifact, push_manifest, push_whole, referrers, with_token};
use super::crane;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json,application/vnd.oci.image.index.v1+json";

/// A seed with an image at `acme/web:1.0`.
fn signed_image() -> (Seed, Registry, Content) {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/web:pull,push"]);
    let config = Content::new(CONFIG, json!({"architecture": "amd64", "os": "linux"}).to_string());
    let layer = Content::random("application/vnd.oci.image.layer.v1.tar", 1, 5_000);
    let image = Content::manifest(&config, &[&layer], &json!({}));
    push_artifact(&registry, "acme/web", "1.0", &[&config, &layer], &image);
    (seed, registry, image)
}

/// Quirk 27, old format: each signature is one more layer of an image at the tag `sha256-HEX.sig`, which is written anew each
/// time, also where tags are immutable; attestations and SBOMs are alike. The signed tag itself stays.
#[test]
fn cosign_adds_signatures_at_a_tag_although_tags_are_immutable() {
    let (seed, registry, image) = signed_image();
    seed.run_operator(&["repo", "set", "acme/*", "--immutable", "on"]).succeeded();
    for (suffix, media_type) in
        [("sig", "application/vnd.dev.cosign.simplesigning.v1+json"), ("att", "application/vnd.dsse.envelope.v1+json")]
    {
        let tag = format!("{}.{suffix}", image.digest.replace(':', "-"));
        let path = format!("/v2/acme/web/manifests/{tag}");
        registry.ask("HEAD", "/v2/acme/web/manifests/1.0").header("Accept", ACCEPT).gives(200).with("Docker-Content-Digest", &image.digest);
        registry.ask("GET", &path).header("Accept", ACCEPT).refused(404, "MANIFEST_UNKNOWN");
        let mut layers: Vec<Content> = Vec::new();
        for signer in ["one", "two"] {
            let payload =
                json!({"critical": {"image": {"docker-manifest-digest": image.digest}}, "optional": {"signer": signer, "as": suffix}});
            let layer = Content::new(media_type, payload.to_string());
            let config =
                Content::new(CONFIG, json!({"architecture": "", "os": "", "config": {"signer": signer, "as": suffix}}).to_string());
            crane::push_blob(&registry, "acme/web", &layer);
            crane::push_blob(&registry, "acme/web", &config);
            layers.push(layer);
            let signatures = Content::manifest(&config, &layers.iter().collect::<Vec<_>>(), &json!({}));
            push_manifest(&registry, "acme/web", &tag, &signatures);
            registry.ask("GET", &path).header("Accept", ACCEPT).gives(200).bytes(&signatures.bytes);
        }
    }
    let other = Content::manifest(&Content::new(EMPTY, "{}"), &[], &json!({}));
    push_whole(&registry, "acme/web", &Content::new(EMPTY, "{}"));
    registry.ask("PUT", "/v2/acme/web/manifests/1.0").body(MANIFEST, &other.bytes).refused(403, "DENIED");
}

/// Quirk 27, new format: a bundle refers to the image by `subject`. The library then writes the fallback tag `sha256-HEX`
/// all the same, without artifactType and annotations: the list of referrers has each bundle once, with its type, before and
/// after; a second bundle is there at once (quirk 28), and the fallback index can be read back and written anew.
#[test]
fn cosign_attaches_bundles_and_its_fallback_tag_changes_nothing() {
    let (_seed, registry, image) = signed_image();
    let fallback = format!("/v2/acme/web/manifests/{}", image.digest.replace(':', "-"));
    push_whole(&registry, "acme/web", &Content::new(EMPTY, "{}"));
    let mut bundles: Vec<Value> = Vec::new();
    for number in 1..=2 {
        let layer = Content::random(BUNDLE, 10 + number, 4_000);
        push_whole(&registry, "acme/web", &layer);
        let more = json!({
            "artifactType": BUNDLE,
            "subject": image.descriptor(),
            "annotations": {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.number": number.to_string()},
        });
        let bundle = Content::manifest(&Content::new(EMPTY, "{}"), &[&layer], &more);
        push_manifest(&registry, "acme/web", &bundle.digest, &bundle).with("OCI-Subject", &image.digest);
        let mut listed = bundle.descriptor();
        (listed["artifactType"], listed["annotations"]) = (BUNDLE.into(), more["annotations"].clone());
        bundles.push(listed);
        let found = || {
            let mut found = referrers(&registry, "acme/web", &image.digest, Some(BUNDLE));
            found.sort_by_key(|bundle| bundle["annotations"]["dev.sigstore.bundle.number"].to_string());
            found
        };
        assert_eq!(found(), bundles);

        let status = registry.ask("GET", &fallback).header("Accept", INDEX).answer().status();
        assert_eq!(status, if number == 1 { 404 } else { 200 });
        let bare: Vec<Value> =
            bundles.iter().map(|bundle| json!({"mediaType": MANIFEST, "digest": bundle["digest"], "size": bundle["size"]})).collect();
        let index = Content::new(INDEX, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": bare}).to_string());
        registry.ask("PUT", &fallback).body(INDEX, &index.bytes).gives(201).with("Docker-Content-Digest", &index.digest);
        registry.ask("GET", &fallback).header("Accept", INDEX).gives(200).bytes(&index.bytes);
        assert_eq!(found(), bundles);
    }
}
