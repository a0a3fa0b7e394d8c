//! docker-registry 2.8 as a pull-through mirror: a registry as the client of this one, over TLS, with a key for pulling.
//!
//! Not here: containerd's mirrors, which pass the client's request on; see [`super::containerd`].

use tests::client::{Mirror, Skopeo};
use tests::image::{Layer, Layout, blob_in, blobs_in};
use tests::program;
use tests::seed::Seed;

/// What is pulled through the mirror, by tag and by digest, is what was pushed; what the mirror has is pulled from it when the
/// seed is gone; a mirror with a wrong key gets nothing.
#[test]
fn docker_registry_mirrors_the_seed() {
    if !program::is_there("docker-registry") || !program::is_there("skopeo") {
        return;
    }
    let mut seed = Seed::start_with_tls();
    let ca = seed.ca_file().unwrap();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 1_000_000), &Layer::random(2, 20_000)])]);
    let certs = seed.cert_dir();
    let credentials = format!("anyone:{}", seed.org().access_key);
    let source = format!("oci:{}:1.0", layout.path.display());
    let target = format!("docker://{}/acme/web:1.0", seed.host());
    Skopeo::run(&["copy", "--preserve-digests", "--dest-cert-dir", &certs, "--dest-creds", &credentials, &source, &target]).succeeded();

    let refused = Mirror::start(seed.url(), &ca, "no-key");
    let nothing = Skopeo::pull(&format!("{}/acme/web:1.0", refused.host()), &seed.scratch("nothing"), "1.0", None);
    assert_ne!(nothing.code, Some(0), "the mirror has a wrong key");

    let made = seed.run_operator(&["key", "create", "--org", "acme", "--scope", "pull", "--json"]).json();
    let mirror = Mirror::start(seed.url(), &ca, made["access_key"].as_str().unwrap());
    let image = &layout.images[0];
    for (name, reference) in [("by-tag", ":1.0".to_owned()), ("by-digest", format!("@{}", image.manifest))] {
        let back = seed.scratch(name);
        Skopeo::pull(&format!("{}/acme/web{reference}", mirror.host()), &back, "1.0", None).succeeded();
        assert_eq!(blobs_in(&back), image.blobs());
        for blob in image.blobs() {
            assert_eq!(blob_in(&back, &blob), layout.blob(&blob));
        }
    }
    assert_ne!(Skopeo::pull(&format!("{}/acme/web:2.0", mirror.host()), &seed.scratch("absent"), "2.0", None).code, Some(0));

    assert!(seed.stop().success());
    let kept = seed.scratch("kept");
    Skopeo::pull(&format!("{}/acme/web@{}", mirror.host(), image.manifest), &kept, "1.0", None).succeeded();
    assert_eq!(blobs_in(&kept), image.blobs());
}
