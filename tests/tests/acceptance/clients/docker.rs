//! docker with dockerd's own image store, as Debian has it.
//!
//! Not here: docker ≥ 29, which pushes with containerd's library; see [`super::containerd`].

use std::fs;

use tests::client::Docker;
use tests::image::Layer;
use tests::program;
use tests::seed::Seed;
use tests::token::Challenge;
use tests::wire::Wire;

use super::artifact::{Content, end, with_token};

/// Bytes of a layer that, if it went over a connection, nobody would miss.
const LAYER_BYTES: u64 = 2_000_000;

/// Quirks 1 to 5 and 17: nothing goes without trust in the CA or without a key; `docker push` mounts the layer in another
/// repository, with almost nothing sent; what is pulled after both were removed is the same image.
#[test]
fn docker_logs_in_pushes_mounts_and_pulls() {
    if !program::is_there("dockerd") || !program::is_there("docker") {
        return;
    }
    let (seed, docker) = (Seed::start_with_tls(), Docker::start());
    let wire = Wire::to(seed.host());
    let host = wire.host();
    let [web, mobile] = ["web", "mobile"].map(|app| format!("{host}/acme/{app}:1.0"));
    let root = docker.scratch("root.tar");
    fs::write(&root, Layer::random(1, LAYER_BYTES as usize).bytes()).unwrap();
    docker.run(&["import", root.to_str().unwrap(), &web]).succeeded();
    let login = |key: &str| docker.run(&["login", "--username", "anyone", "--password", key, &host]);

    let key = seed.org().access_key;
    let distrusted = login(&key);
    let is_refused = distrusted.code != Some(0) && distrusted.stderr.contains("certificate");
    assert!(
        is_refused,
        "the CA is not trusted yet; if {host} is loopback, docker checks none, and needs a machine with a network: {distrusted:?}"
    );
    docker.trust(&host, &seed.ca_file().unwrap());
    assert_ne!(docker.run(&["push", &web]).code, Some(0), "pushed without a key");
    assert_ne!(login("no-key").code, Some(0));
    login(&key).succeeded();

    let first = wire.sent_during(|| drop(docker.run(&["push", &web]).succeeded()));
    assert!(first > LAYER_BYTES, "{first} bytes were sent");
    docker.run(&["tag", &web, &mobile]).succeeded();
    let mut said = String::new();
    let second = wire.sent_during(|| said = docker.run(&["push", &mobile]).succeeded().stdout);
    assert!(said.contains("Mounted from acme/web"), "{said}");
    assert!(second < LAYER_BYTES / 20, "{second} bytes were sent for a layer that was mounted");

    let id = |image: &str| docker.run(&["image", "inspect", "--format", "{{.Id}}", image]).succeeded().stdout;
    let pushed = id(&web);
    docker.run(&["image", "rm", "--force", &web, &mobile]).succeeded();
    docker.run(&["pull", &mobile]).succeeded();
    assert_eq!(id(&mobile), pushed);
    docker.run(&["logout", &host]).succeeded();
    docker.run(&["image", "rm", "--force", &mobile]).succeeded();
    assert_ne!(docker.run(&["pull", &mobile]).code, Some(0), "pulled without a key");
}

/// Quirks 1 to 4, where docker's outcome does not show them: the blob is there with its length right after the push; a PATCH
/// without bytes has a Range too; a mount without the right to pull is challenged with both scopes; the upload that is not
/// needed when a mount fails is ended with DELETE; what goes wrong is JSON.
#[test]
fn docker_reads_a_range_in_each_answer_and_ends_the_uploads_that_it_does_not_need() {
    let seed = Seed::start_with_tls();
    let registry = with_token(&seed, &["repository:acme/web:pull,push"]);
    let uploads = "/v2/acme/web/blobs/uploads/";
    let blob = Content::random("application/octet-stream", 1, 70_000);

    let location = registry.ask("POST", uploads).gives(202).location();
    let location = registry.ask("PATCH", &location).streamed(&blob.bytes).gives(202).with("Range", "0-69999").location();
    registry.ask("PUT", &end(&location, &blob)).octets(&[]).gives(201);
    let head = registry.ask("HEAD", &format!("/v2/acme/web/blobs/{}", blob.digest)).gives(200);
    head.with_length(blob.bytes.len()).with("Docker-Content-Digest", &blob.digest);

    let nothing = Content::new("application/octet-stream", "");
    let location = registry.ask("POST", uploads).gives(202).location();
    let location = registry.ask("PATCH", &location).streamed(&[]).gives(202).with("Range", "0-0").location();
    registry.ask("PUT", &end(&location, &nothing)).octets(&[]).gives(201);
    registry.ask("HEAD", &format!("/v2/acme/web/blobs/{}", nothing.digest)).gives(200).with_length(0);

    let mount = format!("{uploads}?from=acme%2Fmobile&mount={}", Content::random("application/octet-stream", 2, 10).digest);
    let challenge = Challenge::of(&registry.ask("POST", &mount).answer());
    let scopes = ["repository:acme/mobile:pull", "repository:acme/web:pull,push"];
    assert_eq!(
        challenge.scope.map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>()),
        Some(scopes.map(str::to_owned).to_vec())
    );
    let registry = with_token(&seed, &scopes);
    let location = registry.ask("POST", &mount).gives(202).location();
    registry.ask("DELETE", &location).gives(204);
    registry.ask("PATCH", &location).streamed(&blob.bytes).refused(404, "BLOB_UPLOAD_UNKNOWN");
    let location = registry.ask("POST", uploads).gives(202).location();
    registry.ask("PUT", &end(&location, &blob)).octets(b"other bytes").refused(400, "DIGEST_INVALID");
}
