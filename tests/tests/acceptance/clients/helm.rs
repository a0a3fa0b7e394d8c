//! helm 3 and 4, as request sequences: charts are artifacts with types of their own, pushed with the library of oras.
//!
//! Not here: the token that helm 3.18 uses for too much; see [`super::tokens`].

use serde_json::json;
use tests::seed::Seed;

use super::artifact::{Content, MANIFEST, push_artifact, with_token};

const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";

/// Quirk 25: `helm push` asks for the config with its own type in Accept, uploads in one PUT each, and tags the manifest with
/// the chart's version, `+` as `_`; the registry keeps types that it does not know. `helm pull` resolves the tag with HEAD,
/// then gets manifest, config, chart and provenance. `helm show` after a second push sees the new one.
#[test]
fn helm_pushes_a_chart_with_its_provenance_and_pulls_it_back() {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/charts/web:pull,push"]);
    let config = Content::new(CONFIG, json!({"name": "web", "version": "1.0.0+build.7", "apiVersion": "v2"}).to_string());
    let (chart, provenance) = (Content::random(CHART, 1, 20_000), Content::random(PROVENANCE, 2, 900));
    let annotations =
        json!({"annotations": {"org.opencontainers.image.title": "web", "org.opencontainers.image.version": "1.0.0+build.7"}});
    let manifest = Content::manifest(&config, &[&chart, &provenance], &annotations);
    let tag = "/v2/acme/charts/web/manifests/1.0.0_build.7";
    registry.ask("HEAD", tag).header("Accept", format!("{MANIFEST}, */*")).gives(404);
    push_artifact(&registry, "acme/charts/web", "1.0.0_build.7", &[&config, &chart, &provenance], &manifest);

    let accept = format!("application/vnd.docker.distribution.manifest.v2+json, {MANIFEST}, */*");
    let head = registry.ask("HEAD", tag).header("Accept", &accept).gives(200);
    head.with("Content-Type", MANIFEST).with("Docker-Content-Digest", &manifest.digest).with_length(manifest.bytes.len());
    let by_digest = format!("/v2/acme/charts/web/manifests/{}", manifest.digest);
    registry.ask("GET", &by_digest).header("Accept", &accept).gives(200).with("Content-Type", MANIFEST).bytes(&manifest.bytes);
    for part in [&config, &chart, &provenance] {
        let get = registry.ask("GET", &format!("/v2/acme/charts/web/blobs/{}", part.digest));
        get.header("Accept", format!("{}, */*", part.media_type)).gives(200).bytes(&part.bytes);
    }
    let tags = registry.ask("GET", "/v2/acme/charts/web/tags/list").gives(200).json();
    assert_eq!(tags["tags"], json!(["1.0.0_build.7"]));

    let newer = Content::manifest(&config, &[&chart], &annotations);
    registry.ask("PUT", tag).body(MANIFEST, &newer.bytes).gives(201);
    registry.ask("HEAD", tag).header("Accept", &accept).gives(200).with("Docker-Content-Digest", &newer.digest);
}
