//! skopeo, as Debian has it.
//!
//! Not here: any user name, and keys that are wrong; see [`crate::registry`].

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::client::Skopeo;
use tests::image::{Layer, Layout, blob_in, blobs_in};
use tests::process::Outcome;
use tests::program;
use tests::registry::Registry;
use tests::seed::Seed;
use tests::wire::Wire;

use super::artifact::{Content, MANIFEST, push_artifact, with_token};

/// Bytes of a layer.
const LAYER_BYTES: u64 = 2_000_000;

/// skopeo with a login, and the CA that it trusts.
struct LoggedIn {
    certs: String,
    auth: String,
}

impl LoggedIn {
    #[track_caller]
    fn new(seed: &Seed, host: &str, key: &str) -> Self {
        let auth = seed.scratch(&format!("auth-{}.json", &key[..8])).display().to_string();
        let certs = seed.cert_dir();
        let login = ["login", "--cert-dir", &certs, "--authfile", &auth, "--username", "anyone", "--password", key, host];
        Skopeo::run(&login).succeeded();
        Self { certs, auth }
    }

    #[track_caller]
    fn push(&self, from: &Layout, to: &str) -> Outcome {
        let from = format!("oci:{}:{}", from.path.display(), from.tag);
        let with = ["--dest-cert-dir", &self.certs, "--authfile", &self.auth];
        Skopeo::run(&[&["copy", "--all", "--preserve-digests"][..], &with, &[&from, &format!("docker://{to}")]].concat())
    }

    #[track_caller]
    fn pull(&self, from: &str, to: &Path) -> Outcome {
        let to = format!("oci:{}:pulled", to.display());
        let with = ["--src-cert-dir", &self.certs, "--authfile", &self.auth];
        Skopeo::run(&[&["copy", "--all", "--preserve-digests"][..], &with, &[&format!("docker://{from}"), &to]].concat())
    }

    #[track_caller]
    fn run(&self, verb: &[&str], target: &str) -> Outcome {
        let with = ["--cert-dir", &self.certs, "--authfile", &self.auth, target];
        Skopeo::run(&[verb, &with].concat())
    }
}

fn index(seed: &Seed, name: &str) -> Layout {
    let [one, two] = [1, 2].map(|number| Layer::random(number, LAYER_BYTES as usize / 2));
    Layout::write(&seed.scratch(name), "1.0", &[("amd64", &[&one]), ("arm64", &[&two])])
}

/// Quirks 19 to 23: an index of two platforms goes up, is inspected and listed, mounted in another repository with almost
/// nothing sent, and comes back byte for byte.
#[test]
fn skopeo_copies_an_index_mounts_it_and_copies_it_back() {
    if !program::is_there("skopeo") {
        return;
    }
    let seed = Seed::start_with_tls();
    let wire = Wire::to(seed.host());
    let host = wire.host();
    let skopeo = LoggedIn::new(&seed, &host, &seed.org().access_key);
    let layout = index(&seed, "image");
    let first = wire.sent_during(|| drop(skopeo.push(&layout, &format!("{host}/acme/web:1.0")).succeeded()));
    assert!(first > LAYER_BYTES, "{first} bytes were sent");
    let second = wire.sent_during(|| drop(skopeo.push(&layout, &format!("{host}/acme/mobile:1.0")).succeeded()));
    assert!(second < LAYER_BYTES / 20, "{second} bytes were sent for layers that were mounted");
    skopeo.push(&layout, &format!("{host}/acme/web:1.1")).succeeded();

    let inspected: Value =
        serde_json::from_str(&skopeo.run(&["inspect"], &format!("docker://{host}/acme/web:1.0")).succeeded().stdout).unwrap();
    assert_eq!((&inspected["Digest"], &inspected["RepoTags"]), (&layout.digest.clone().into(), &json!(["1.0", "1.1"])), "{inspected}");
    let listed: Value = serde_json::from_str(&skopeo.run(&["list-tags"], &format!("docker://{host}/acme/web")).succeeded().stdout).unwrap();
    assert_eq!(listed["Tags"], json!(["1.0", "1.1"]));
    let raw = skopeo.run(&["inspect", "--raw"], &format!("docker://{host}/acme/mobile@{}", layout.digest)).succeeded();
    assert_eq!(raw.stdout.as_bytes(), layout.blob(&layout.digest));

    let back = seed.scratch("back");
    skopeo.pull(&format!("{host}/acme/mobile:1.0"), &back).succeeded();
    let pushed = blobs_in(&layout.path);
    assert_eq!(blobs_in(&back), pushed);
    for blob in pushed {
        assert_eq!(blob_in(&back, &blob), layout.blob(&blob));
    }
}

/// Quirk 22: `skopeo delete` of a tag deletes its manifest by digest, and the other tags of that manifest go with it. A key
/// without the scope cannot.
#[test]
fn skopeo_deletes_a_manifest_with_all_its_tags() {
    if !program::is_there("skopeo") {
        return;
    }
    let seed = Seed::start_with_tls();
    let host = seed.host();
    let skopeo = LoggedIn::new(&seed, host, &seed.org().access_key);
    let layout = index(&seed, "image");
    for tag in ["1.0", "latest"] {
        skopeo.push(&layout, &format!("{host}/acme/web:{tag}")).succeeded();
    }
    let made = seed.run_operator(&["key", "create", "--org", "acme", "--scope", "pull,push", "--json"]).json();
    let weaker = LoggedIn::new(&seed, host, made["access_key"].as_str().unwrap());
    let target = format!("docker://{host}/acme/web:1.0");
    assert_ne!(weaker.run(&["delete"], &target).code, Some(0), "deleted without the scope");
    weaker.run(&["inspect", "--raw"], &target).succeeded();

    skopeo.run(&["delete"], &target).succeeded();
    for tag in ["1.0", "latest"] {
        assert_ne!(skopeo.run(&["inspect", "--raw"], &format!("docker://{host}/acme/web:{tag}")).code, Some(0), "{tag} is still there");
    }
    let listed = Registry::new(&seed, &seed.org()).ask("GET", "/v2/acme/web/tags/list").gives(200).json();
    assert_eq!(listed["tags"], json!([]));
}

/// Quirk 21: skopeo remembers where on this host it saw a blob, and tries to mount it from there, also when that is another
/// organisation's repository: it is refused in a way that makes skopeo upload the blob.
#[test]
fn skopeo_uploads_a_blob_that_it_remembers_from_another_organisation() {
    if !program::is_there("skopeo") {
        return;
    }
    let seed = Seed::start_with_tls();
    let wire = Wire::to(seed.host());
    let host = wire.host();
    let other = seed.create_org("other");
    let layout = index(&seed, "image");
    LoggedIn::new(&seed, &host, &seed.org().access_key).push(&layout, &format!("{host}/acme/web:1.0")).succeeded();
    let skopeo = LoggedIn::new(&seed, &host, &other.access_key);
    let sent = wire.sent_during(|| drop(skopeo.push(&layout, &format!("{host}/other/web:1.0")).succeeded()));
    assert!(sent > LAYER_BYTES, "{sent} bytes were sent, so that something of another organisation was mounted");
    assert_ne!(skopeo.run(&["inspect", "--raw"], &format!("docker://{host}/acme/web:1.0")).code, Some(0), "read another organisation's");
    skopeo.run(&["inspect", "--raw"], &format!("docker://{host}/other/web:1.0")).succeeded();
}

/// A Helm chart is copied out of the registry byte for byte: media types that skopeo does not know are the registry's to keep.
#[test]
fn skopeo_copies_a_chart_that_helm_pushed() {
    if !program::is_there("skopeo") {
        return;
    }
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/charts/web:pull,push"]);
    let config = Content::new("application/vnd.cncf.helm.config.v1+json", json!({"name": "web", "version": "1.0.0"}).to_string());
    let chart = Content::random("application/vnd.cncf.helm.chart.content.v1.tar+gzip", 1, 20_000);
    let manifest = Content::manifest(&config, &[&chart], &json!({}));
    push_artifact(&registry, "acme/charts/web", "1.0.0", &[&config, &chart], &manifest);

    let skopeo = LoggedIn::new(&seed, seed.host(), &seed.org().access_key);
    let back = seed.scratch("back");
    skopeo.pull(&format!("{}/acme/charts/web:1.0.0", seed.host()), &back).succeeded();
    for part in [&config, &chart, &manifest] {
        assert_eq!(blob_in(&back, &part.digest), part.bytes);
    }
    let index: Value = serde_json::from_slice(&fs::read(back.join("index.json")).unwrap()).unwrap();
    assert_eq!((&index["manifests"][0]["mediaType"], &index["manifests"][0]["digest"]), (&MANIFEST.into(), &manifest.digest.into()));
}
