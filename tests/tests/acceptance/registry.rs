//! Container tools push to the seed and pull from devices, unmodified; a key sees what is its organisation's alone.
//!
//! Not here: the details of the distribution protocol, which the crate `node` tests.

use std::fs;

use tests::client::{Docker, Podman, Skopeo};
use tests::device::Device;
use tests::http::{self, Answer};
use tests::image::{Layer, Layout, blob_in, blobs_in};
use tests::process::Outcome;
use tests::program;
use tests::seed::{Organisation, Seed};

#[test]
fn skopeo_logs_in_with_any_user_name_and_the_key_as_its_password() {
    if !program::is_there("skopeo") {
        return;
    }
    let seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 300_000)])]);
    let target = format!("{}/acme/web:1.0", seed.host());
    let login = |user: &str, key: &str| {
        let mut command = std::process::Command::new("skopeo");
        command.args(["login", "--tls-verify=false", "--username", user, "--password", key]);
        Outcome::of(command.arg("--authfile").arg(seed.scratch("auth.json")).arg(seed.host()))
    };
    let key = seed.org().access_key;
    for user in ["anyone", "acme", "_"] {
        login(user, &key).succeeded();
    }
    let (head, last) = key.split_at(key.len() - 1);
    let other_key = format!("{head}{}", if last == "0" { "1" } else { "0" });
    assert_ne!(login("anyone", &other_key).code, Some(0));

    for credentials in [None, Some(format!("anyone:{other_key}")), Some("anyone:".to_owned())] {
        let refused = Skopeo::push(&layout.path, "1.0", &target, credentials.as_deref());
        assert_ne!(refused.code, Some(0), "pushed with {credentials:?}");
    }
    let credentials = format!("anyone:{key}");
    Skopeo::push(&layout.path, "1.0", &target, Some(&credentials)).succeeded();
    assert_ne!(Skopeo::pull(&target, &seed.scratch("anonymous"), "1.0", None).code, Some(0));
    let back = seed.scratch("back");
    Skopeo::pull(&target, &back, "1.0", Some(&credentials)).succeeded();
    let image = &layout.images[0];
    assert_eq!(blobs_in(&back), image.blobs());
    for blob in image.blobs() {
        assert_eq!(blob_in(&back, &blob), layout.blob(&blob));
    }
}

#[test]
fn nobody_reads_or_writes_anonymously() {
    let seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 10_000)])]);
    seed.push(&seed.org(), "acme/web", &layout);
    let asked = [
        ("GET", String::new()),
        ("GET", "acme/web/tags/list".to_owned()),
        ("GET", "acme/web/manifests/1.0".to_owned()),
        ("HEAD", "acme/web/manifests/1.0".to_owned()),
        ("GET", "acme/nothing/manifests/1.0".to_owned()),
        ("GET", format!("acme/web/blobs/{}", layout.images[0].layers[0])),
        ("POST", "acme/web/blobs/uploads/".to_owned()),
        ("PUT", "acme/web/manifests/1.0".to_owned()),
        ("DELETE", "acme/web/manifests/1.0".to_owned()),
    ];
    for (method, path) in asked {
        for credentials in [None, Some("Bearer nonsense"), Some("Basic bm9ib2R5Om5vdGhpbmc=")] {
            let headers: Vec<_> = credentials.map(|credentials| ("Authorization", credentials)).into_iter().collect();
            let answer = http::send(method, &format!("{}/v2/{path}", seed.url()), &headers, &[]);
            assert_eq!(answer.status, 401, "{method} {path} with {credentials:?}: {}", answer.text());
            assert!(answer.header("www-authenticate").is_some(), "{method} {path}");
        }
    }
    assert_eq!(http::get(&format!("{}/tuf/acme/timestamp.json", seed.url()), &[]).status, 401);
}

#[test]
fn a_key_of_another_organisation_cannot_tell_what_exists() {
    let seed = Seed::start();
    let other = seed.create_org("other");
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 10_000)])]);
    seed.push(&seed.org(), "acme/web", &layout);
    seed.run_operator(&["app", "publish", "acme/web:1.0", "--json"]).json();

    let layer = &layout.images[0].layers[0];
    let ask = |org: &Organisation, method: &str, path: &str| {
        let authorization = format!("Bearer {}", org.access_key);
        http::send(method, &format!("{}{path}", seed.url()), &[("Authorization", &authorization)], &[])
    };
    let paths = |org: &str, repository: &str| {
        [
            ("GET", format!("/v2/{org}/{repository}/tags/list")),
            ("GET", format!("/v2/{org}/{repository}/manifests/1.0")),
            ("GET", format!("/v2/{org}/{repository}/manifests/{}", layout.digest)),
            ("HEAD", format!("/v2/{org}/{repository}/manifests/1.0")),
            ("GET", format!("/v2/{org}/{repository}/blobs/{layer}")),
            ("HEAD", format!("/v2/{org}/{repository}/blobs/{layer}")),
            // What nothing refers to and what does not exist have the same empty list of referrers, says the protocol.
            ("GET", format!("/v2/{org}/{repository}/referrers/{}", layout.digest)),
            ("POST", format!("/v2/{org}/{repository}/blobs/uploads/")),
            ("PUT", format!("/v2/{org}/{repository}/manifests/1.0")),
            ("DELETE", format!("/v2/{org}/{repository}/manifests/1.0")),
            ("GET", format!("/api/v1/orgs/{org}/apps/{repository}/versions")),
            ("GET", format!("/api/v1/orgs/{org}/apps/{repository}/rollout")),
            ("GET", format!("/tuf/{org}/timestamp.json")),
        ]
    };
    assert_eq!(ask(&seed.org(), "GET", &format!("/v2/acme/web/blobs/{layer}")).status, 200);
    // Names of the same length, so that even lengths can be compared.
    let shape = |answer: &Answer, org: &str, repository: &str| {
        let (status, headers, text) = answer.shape();
        (status, headers.join("\n").replace(repository, "REPO").replace(org, "ORG"), text.replace(repository, "REPO").replace(org, "ORG"))
    };
    for ((method, existing), ((_, missing), (_, nowhere))) in
        paths("acme", "web").into_iter().zip(paths("acme", "wab").into_iter().zip(paths("acmo", "web")))
    {
        let (there, not_there, no_org) = (ask(&other, method, &existing), ask(&other, method, &missing), ask(&other, method, &nowhere));
        let is_refused = [401, 403, 404].contains(&there.status);
        assert!(is_refused || existing.contains("/referrers/"), "{method} {existing}: {} {}", there.status, there.text());
        assert_eq!(shape(&there, "acme", "web"), shape(&not_there, "acme", "wab"), "{method} {existing}");
        assert_eq!(shape(&there, "acme", "web"), shape(&no_org, "acmo", "web"), "{method} {existing}");
    }
    let mounted = ask(&other, "POST", &format!("/v2/other/app/blobs/uploads/?mount={layer}&from=acme/web"));
    assert_eq!(mounted.status, 202, "a blob of another organisation is not mounted, but has to be uploaded: {}", mounted.text());
    assert_eq!(ask(&other, "GET", &format!("/v2/other/app/blobs/{layer}")).status, 404);
}

/// From an engine's push over a rollout to the engine's pull from a device. `engine` gets the address to push to and to
/// pull from, one after the other.
fn through_an_engine(seed: &Seed, push: impl FnOnce(&str), pull: impl FnOnce(&str)) {
    push(&format!("{}/acme/web:1.0", seed.host()));
    let published = seed.run_operator(&["app", "publish", "acme/web:1.0", "--json"]).json();
    assert_eq!(published["version"], 1, "{published}");
    let device = Device::start(seed, "kiosk");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    pull(&format!("{}/acme/web:1.0", device.endpoint()));
}

#[test]
fn podman_pushes_to_the_seed_and_pulls_from_a_device() {
    if !program::is_there("podman") {
        return;
    }
    let (seed, podman, other) = (Seed::start(), Podman::new(), Podman::new());
    let root = podman.scratch("root.tar");
    fs::write(&root, Layer::random(1, 1_200_000).bytes()).unwrap();
    podman.run(&["import", root.to_str().unwrap(), "localhost/web:1.0"]).succeeded();
    let key = seed.org().access_key;
    let push = |target: &str| {
        podman.run(&["push", "--tls-verify=false", "localhost/web:1.0", target]).exited_with(125);
        podman.run(&["login", "--tls-verify=false", "--username", "anyone", "--password", &key, seed.host()]).succeeded();
        podman.run(&["push", "--tls-verify=false", "localhost/web:1.0", target]).succeeded();
    };
    through_an_engine(&seed, push, |source| {
        other.run(&["pull", "--tls-verify=false", source]).succeeded();
        let id = |podman: &Podman, image: &str| podman.run(&["image", "inspect", "--format", "{{.Id}}", image]).succeeded().stdout;
        assert_eq!(id(&podman, "localhost/web:1.0"), id(&other, source));
    });
}

#[test]
fn docker_pushes_to_the_seed_and_pulls_from_a_device() {
    if !program::is_there("dockerd") || !program::is_there("docker") {
        return;
    }
    let (seed, docker) = (Seed::start(), Docker::start());
    let root = docker.scratch("root.tar");
    fs::write(&root, Layer::random(1, 1_200_000).bytes()).unwrap();
    let push = |target: &str| {
        docker.run(&["import", root.to_str().unwrap(), target]).succeeded();
        assert_ne!(docker.run(&["push", target]).code, Some(0), "docker pushed without a key");
        docker.run(&["login", "--username", "anyone", "--password", &seed.org().access_key, seed.host()]).succeeded();
        docker.run(&["push", target]).succeeded();
    };
    let id = |image: &str| docker.run(&["image", "inspect", "--format", "{{.Id}}", image]).succeeded().stdout;
    let pushed = format!("{}/acme/web:1.0", seed.host());
    through_an_engine(&seed, push, |source| {
        let id_of_pushed = id(&pushed);
        docker.run(&["image", "rm", "--force", &pushed]).succeeded();
        docker.run(&["pull", source]).succeeded();
        assert_eq!(id(source), id_of_pushed);
    });
}
