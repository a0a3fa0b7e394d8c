//! Devices of another organisation and wrong bytes stay out of the swarm.
//!
//! Not here: processes that end; see `faults`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tests::device::{Device, UNIT_BYTES};
use tests::image::{Layer, Layout, digest};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

#[test]
fn devices_share_what_only_one_of_them_fetched() {
    let seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 4 << 20)])]);
    seed.publish("acme/web", &layout);
    let mut first = Device::start(&seed, "first");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    let before = seed.blob_bytes();

    let second = Device::start(&seed, "second");
    let third = Device::start(&seed, "third");
    wait::until("the others to have the image", || second.holds(&layout.images[0].blobs()) && third.holds(&layout.images[0].blobs()));
    wait::until("all to be connected", || [&first, &second, &third].iter().all(|device| device.peers() == 2));
    let after = seed.blob_bytes();
    assert!(after - before < 64 << 10, "{} bytes came over the WAN a second time", after - before);
    assert!(second.metric("hedgerow_device_stored_lan_bytes_total") > 4 << 20);
    assert!(first.stop().success());
}

#[test]
fn devices_that_found_each_other_stay_connected() {
    let seed = Seed::start();
    let [mut one, mut two] = ["one", "two"].map(|name| Device::enrol(&seed, &seed.org(), name));
    // Each learns the other's address from the seed, and both dial; the second one is told it twice.
    one.run(&[]);
    two.run(&["--peer", one.swarm_addr()]);
    wait::until("the devices to be connected", || one.peers() == 1 && two.peers() == 1);
    thread::sleep(Duration::from_secs(4));
    for device in [&one, &two] {
        assert_eq!(device.peers(), 1);
        let connected = device.log.messages("peer connected").len();
        assert!(connected <= 2, "{} connected {connected} times; two connections that cross are the most", device.name);
    }
}

#[test]
fn a_device_of_another_organisation_gets_nothing_from_a_device() {
    let seed = Seed::start();
    let other = seed.create_org("other");
    // The same bytes belong to both organisations, so that the stranger wants just what the device holds.
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 2 << 20)])]);
    seed.publish("acme/web", &layout);
    let device = Device::start(&seed, "own");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);

    let mut stranger = Device::enrol(&seed, &other, "stranger");
    stranger.run(&["--peer", device.swarm_addr()]);
    wait::until("the device to refuse the stranger", || !device.log.events("peer_refused").is_empty());
    seed.push(&other, "other/web", &layout);
    seed.operator(&other, &["app", "publish", "other/web:1.0", "--json"]).json();
    seed.operator(&other, &["rollout", "start", "other/web", "--version", "1", "--group", "all", "--json"]).json();
    wait::until("the stranger to have its own organisation's image", || stranger.holds(&layout.images[0].blobs()));

    wait::throughout(Duration::from_secs(1), "nobody is connected", || device.peers() == 0 && stranger.peers() == 0);
    assert_eq!(stranger.metric("hedgerow_device_stored_lan_bytes_total"), 0);
    assert!(stranger.metric("hedgerow_device_stored_wan_bytes_total") > 2 << 20);
    for event in device.log.events("peer_refused") {
        assert!(event["address"].as_str().is_some_and(|address| address.contains("127.0.0.1")), "{event}");
    }
}

#[test]
fn a_device_does_not_stay_connected_with_a_configured_peer_of_another_organisation() {
    let seed = Seed::start();
    let other = seed.create_org("other");
    let mut stranger = Device::enrol(&seed, &other, "stranger");
    stranger.run(&[]);
    let mut device = Device::enrol(&seed, &seed.org(), "own");
    device.run(&["--peer", stranger.swarm_addr()]);
    wait::until("the stranger to see the refusal", || !stranger.log.events("peer_refused").is_empty());
    wait::throughout(Duration::from_secs(1), "nobody is connected", || device.peers() == 0 && stranger.peers() == 0);
}

#[test]
fn the_seed_gives_a_device_nothing_of_another_organisation_and_a_stranger_nothing_at_all() {
    if !program::is_there("curl") {
        return;
    }
    let seed = Seed::start();
    let other = seed.create_org("other");
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 200_000)])]);
    seed.publish("acme/web", &layout);
    let (own, stranger) = (Device::enrol(&seed, &seed.org(), "own"), Device::enrol(&seed, &other, "stranger"));

    let keys: BTreeMap<String, PathBuf> = [&own, &stranger]
        .map(|device| (device.name.clone(), plain_key(&device.data().join("device.key"), &seed.scratch(&device.name))))
        .into();
    let status = |device: Option<&Device>, path: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"]).arg(own.data().join("ca.pem"));
        if let Some(device) = device {
            command.arg("--cert").arg(device.data().join("device.pem")).arg("--key").arg(&keys[&device.name]);
        }
        let outcome = Outcome::of(command.arg(format!("{}{path}", seed.device_url())));
        assert!(outcome.code == Some(0) || device.is_none(), "{outcome:?}");
        outcome.stdout
    };
    let image = &layout.images[0];
    let paths = image.blobs().into_iter().map(|blob| format!("/api/v1/device/blobs/{blob}"));
    for path in paths.chain(["/tuf/acme/timestamp.json".to_owned(), "/tuf/acme/1.root.json".to_owned()]) {
        assert_eq!(status(Some(&own), &path), "200", "{path}");
        let refused = status(Some(&stranger), &path);
        assert!(["403", "404"].contains(&refused.as_str()), "{path}: {refused}");
        let anonymous = status(None, &path);
        assert!(["000", "401"].contains(&anonymous.as_str()), "{path}: {anonymous}");
    }
    assert_eq!(status(None, "/api/v1/device/state"), "401");
    let missing = format!("/api/v1/device/blobs/{}", digest(b"nothing"));
    assert_eq!(status(Some(&stranger), &missing), status(Some(&stranger), &format!("/api/v1/device/blobs/{}", image.config)));
}

/// Writes the ed25519 key in `pem` to `to` in version 1 of PKCS#8, the only one that OpenSSL 3 reads.
pub(crate) fn plain_key(pem: &Path, to: &Path) -> PathBuf {
    let text = fs::read_to_string(pem).expect("the device has a key");
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).expect("the key is PEM");
    let at = der.windows(4).position(|window| window == [0x04, 0x22, 0x04, 0x20]).expect("the key is ed25519") + 4;
    let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let plain = STANDARD.encode([&head, &der[at..at + 32]].concat());
    fs::write(to, format!("-----BEGIN PRIVATE KEY-----\n{plain}\n-----END PRIVATE KEY-----\n")).expect("a file can be written");
    to.to_owned()
}

#[test]
fn a_peer_that_sends_a_wrong_byte_is_named_and_the_download_still_completes() {
    let seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 3 << 20), &Layer::random(2, 50_000)])]);
    seed.publish("acme/web", &layout);
    let liar = Device::start(&seed, "liar");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);

    let layer = &layout.images[0].layers[0];
    let middle = layout.blob(layer).len() as u64 / 2;
    let file = fs::OpenOptions::new().read(true).write(true).open(liar.blob_path(layer)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();

    let mut honest = Device::enrol(&seed, &seed.org(), "honest");
    honest.run(&["--peer", liar.swarm_addr()]);
    wait::until("the image to be there", || honest.holds(&layout.images[0].blobs()));
    for blob in layout.images[0].blobs() {
        assert_eq!(digest(&honest.blob(&blob)), blob, "a wrong byte was kept");
    }
    let refused = honest.log.events("unit_refused");
    assert!(!refused.is_empty(), "no unit was refused");
    for event in refused {
        assert_eq!((&event["peer"], &event["blob"]), (&"liar".into(), &layer.as_str().into()), "{event}");
        assert_eq!(event["unit"], middle / UNIT_BYTES, "{event}");
    }
    assert!(honest.metric("hedgerow_device_units_refused_total") >= 1);
    let mended = || fs::read(liar.blob_path(layer)).is_ok_and(|bytes| digest(&bytes) == *layer);
    wait::until("the device that was told of it to find its disk at fault and fetch the blob again", mended);
    assert_eq!(liar.log.events("storage_fault").len(), 1);
    seed.await_done("acme/web", 2);
}
