//! podman, as Debian has it.
//!
//! Not here: pulling from devices; see [`crate::registry`].

use std::fs;

use tests::client::Podman;
use tests::image::Layer;
use tests::program;
use tests::seed::Seed;
use tests::wire::Wire;

/// Bytes of a layer; random, so that compression on the way leaves them as many.
const LAYER_BYTES: u64 = 2_000_000;

/// Quirks 19 to 21 and 24: login, push with compression on the way, a list of the tags, a second push that mounts, pull.
#[test]
fn podman_logs_in_pushes_lists_mounts_and_pulls() {
    if !program::is_there("podman") {
        return;
    }
    let (seed, podman, other) = (Seed::start_with_tls(), Podman::new(), Podman::new());
    let wire = Wire::to(seed.host());
    let (host, certs) = (wire.host(), seed.cert_dir());
    let [web, mobile] = ["web", "mobile"].map(|app| format!("{host}/acme/{app}:1.0"));
    let root = podman.scratch("root.tar");
    fs::write(&root, Layer::random(1, LAYER_BYTES as usize).bytes()).unwrap();
    podman.run(&["import", root.to_str().unwrap(), "localhost/web:1.0"]).succeeded();
    let key = seed.org().access_key;
    let distrusted = podman.run(&["login", "--username", "anyone", "--password", &key, &host]);
    assert!(distrusted.code != Some(0) && distrusted.stderr.contains("certificate"), "{distrusted:?}");
    let login = |podman: &Podman, key: &str| podman.run(&["login", "--cert-dir", &certs, "--username", "anyone", "--password", key, &host]);
    assert_ne!(login(&podman, "no-key").code, Some(0));
    assert_ne!(podman.run(&["push", "--cert-dir", &certs, "localhost/web:1.0", &web]).code, Some(0), "pushed without a key");
    login(&podman, &key).succeeded();

    let push = |target: &str| drop(podman.run(&["push", "--cert-dir", &certs, "localhost/web:1.0", target]).succeeded());
    let first = wire.sent_during(|| push(&web));
    assert!(first > LAYER_BYTES, "{first} bytes were sent");
    let second = wire.sent_during(|| push(&mobile));
    assert!(second < LAYER_BYTES / 20, "{second} bytes were sent for a layer that was mounted");
    push(&format!("{host}/acme/web:1.1"));
    let list = ["search", "--list-tags", &format!("{host}/acme/web")];
    let listed = podman.run_trusting(&seed.ca_file().unwrap(), &list).succeeded().stdout;
    let tags: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(tags, ["1.0", "1.1"], "{listed}");

    login(&other, &key).succeeded();
    other.run(&["pull", "--cert-dir", &certs, &mobile]).succeeded();
    let id = |podman: &Podman, image: &str| podman.run(&["image", "inspect", "--format", "{{.Id}}", image]).succeeded().stdout;
    assert_eq!(id(&podman, "localhost/web:1.0"), id(&other, &mobile));
    other.run(&["logout", &host]).succeeded();
    assert_ne!(other.run(&["pull", "--cert-dir", &certs, &web]).code, Some(0), "pulled without a key");
}

/// `podman manifest`: an index of images for two architectures goes up with all of them, and each engine gets its own.
#[test]
fn podman_pushes_an_index_of_two_architectures() {
    if !program::is_there("podman") {
        return;
    }
    let (seed, podman, other) = (Seed::start_with_tls(), Podman::new(), Podman::new());
    let certs = seed.cert_dir();
    let credentials = format!("anyone:{}", seed.org().access_key);
    podman.run(&["manifest", "create", "localhost/list"]).succeeded();
    let mut ids = Vec::new();
    for (number, architecture) in [(1, "amd64"), (2, "arm64")] {
        let root = podman.scratch(architecture);
        fs::write(&root, Layer::random(number, 30_000).bytes()).unwrap();
        let name = format!("localhost/{architecture}:1.0");
        podman.run(&["import", "--os", "linux", "--arch", architecture, root.to_str().unwrap(), &name]).succeeded();
        podman.run(&["manifest", "add", "localhost/list", &format!("containers-storage:{name}")]).succeeded();
        ids.push(podman.run(&["image", "inspect", "--format", "{{.Id}}", &name]).succeeded().stdout);
    }
    let target = format!("{}/acme/web:1.0", seed.host());
    let with = ["--cert-dir", &certs, "--creds", &credentials];
    podman.run(&[&["manifest", "push", "--all"][..], &with, &["localhost/list", &format!("docker://{target}")]].concat()).succeeded();
    for (id, architecture) in ids.iter().zip(["amd64", "arm64"]) {
        other.run(&[&["pull", "--arch", architecture][..], &with, &[&target]].concat()).succeeded();
        assert_eq!(other.run(&["image", "inspect", "--format", "{{.Id}}", &target]).succeeded().stdout, *id, "{architecture}");
    }
}
