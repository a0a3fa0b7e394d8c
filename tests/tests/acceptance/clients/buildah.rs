//! buildah, as Debian has it.
//!
//! Not here: building in containers, which has nothing to do with a registry.

use std::fs;

use tests::client::Buildah;
use tests::image::Layer;
use tests::program;
use tests::seed::Seed;
use tests::wire::Wire;

/// Bytes of a file; random, so that compression on the way leaves them as many.
const FILE_BYTES: u64 = 2_000_000;

/// Quirks 19, 20 and 24: an image on nothing is committed, pushed with a digest that is known only at the end, pushed again to
/// another repository without its bytes, used from the registry as the base of the next one, and pulled.
#[test]
fn buildah_commits_pushes_mounts_and_builds_on_what_it_pushed() {
    if !program::is_there("buildah") {
        return;
    }
    let (seed, buildah, other) = (Seed::start_with_tls(), Buildah::new(), Buildah::new());
    let wire = Wire::to(seed.host());
    let (host, certs) = (wire.host(), seed.cert_dir());
    let file = buildah.scratch("file");
    fs::write(&file, Layer::random(1, FILE_BYTES as usize).bytes()).unwrap();
    let key = seed.org().access_key;
    let login = |buildah: &Buildah, key: &str| buildah.run(&["login", "--cert-dir", &certs, "--username", "_", "--password", key, &host]);
    assert_ne!(login(&buildah, "no-key").code, Some(0));
    login(&buildah, &key).succeeded();

    let container = buildah.run(&["from", "scratch"]).succeeded().stdout.trim().to_owned();
    buildah.run(&["copy", &container, file.to_str().unwrap(), "/file"]).succeeded();
    buildah.run(&["commit", &container, "localhost/base"]).succeeded();
    let push = |image: &str, app: &str| {
        let target = format!("docker://{host}/acme/{app}:1.0");
        wire.sent_during(|| drop(buildah.run(&["push", "--cert-dir", &certs, image, &target]).succeeded()))
    };
    let first = push("localhost/base", "base");
    assert!(first > FILE_BYTES, "{first} bytes were sent");
    let second = push("localhost/base", "copy");
    assert!(second < FILE_BYTES / 20, "{second} bytes were sent for a layer that was mounted");

    login(&other, &key).succeeded();
    let base = format!("{host}/acme/base:1.0");
    let container = other.run(&["from", "--cert-dir", &certs, &base]).succeeded().stdout.trim().to_owned();
    other.run(&["config", "--label", "next=1", &container]).succeeded();
    other.run(&["commit", &container, "localhost/next"]).succeeded();
    let target = format!("docker://{host}/acme/next:1.0");
    let sent = wire.sent_during(|| drop(other.run(&["push", "--cert-dir", &certs, "localhost/next", &target]).succeeded()));
    assert!(sent < FILE_BYTES / 20, "{sent} bytes were sent for a layer that came from the registry");

    buildah.run(&["pull", "--cert-dir", &certs, &format!("{host}/acme/next:1.0")]).succeeded();
    let id = |buildah: &Buildah, image: &str| {
        buildah.run(&["inspect", "--type", "image", "--format", "{{.FromImageID}}", image]).succeeded().stdout
    };
    assert_eq!(id(&buildah, &format!("{host}/acme/next:1.0")), id(&other, "localhost/next"));
}
