//! What is killed, stopped, taken over or restored from a backup does no harm.
//!
//! Not here: wrong bytes of peers; see `swarm`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use tests::device::{Device, UNIT_BYTES};
use tests::http;
use tests::image::{Layer, Layout, digest};
use tests::process::Outcome;
use tests::seed::Seed;
use tests::wait;

const MIB: u64 = 1 << 20;
/// What a device asks the seed for at a time, and how often at once.
const CLAIM_BYTES: u64 = 512 << 10;
const CLAIMS: u64 = 2;

/// A seed on a slow line, with version 1 of an app of `layers` MiB.
fn slow_seed(mbit: &str, layers: &[usize]) -> (Seed, Layout) {
    let seed = Seed::start_with(&["--egress-mbit", mbit]);
    let layers: Vec<Layer> = layers.iter().enumerate().map(|(n, mib)| Layer::random(n as u64, mib << 20)).collect();
    let layers: Vec<&Layer> = layers.iter().collect();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &layers)]);
    seed.publish("acme/web", &layout);
    (seed, layout)
}

fn content_bytes(layout: &Layout) -> u64 {
    layout.size(&layout.images[0].blobs())
}

/// The units that a device has verified, blob by blob.
fn verified(device: &Device, layout: &Layout) -> BTreeMap<String, Vec<bool>> {
    let layers = layout.images[0].layers.iter();
    layers.map(|layer| (layer.clone(), device.verified_units(layer, layout.blob(layer).len() as u64))).collect()
}

fn count(verified: &BTreeMap<String, Vec<bool>>) -> u64 {
    verified.values().flatten().filter(|unit| **unit).count() as u64
}

fn holds_the_right_bytes(device: &Device, layout: &Layout) {
    for blob in layout.images[0].blobs() {
        assert_eq!(digest(&device.blob(&blob)), blob, "{} keeps a wrong byte", device.name);
    }
}

fn await_blob_bytes(seed: &Seed, bytes: u64) {
    wait::until(&format!("{bytes} bytes to leave the seed"), || seed.blob_bytes() >= bytes);
}

#[test]
fn devices_finish_among_themselves_what_the_site_holds_when_the_seed_is_gone_and_go_on_when_it_is_back() {
    // Large enough that what is in flight when the seed is killed, at most 3 MiB, is well below a tenth.
    let (mut seed, layout) = slow_seed("40", &[15, 12, 9]);
    let devices = ["one", "two", "three"].map(|name| Device::start(&seed, name));
    wait::until("the devices to be connected", || devices.iter().all(|device| device.peers() == 2));
    seed.start_rollout("acme/web", 1);
    await_blob_bytes(&seed, 12 * MIB);
    let first_run = seed.blob_bytes();
    seed.kill();

    let maps = || devices.each_ref().map(|device| verified(device, &layout));
    let are_equal = || {
        let [one, two, three] = maps();
        one == two && two == three
    };
    wait::until("all devices to have the same units", are_equal);
    wait::throughout(Duration::from_millis(500), "all devices have the same units", are_equal);
    let [held, ..] = maps();
    let all = held.values().map(Vec::len).sum::<usize>() as u64;
    assert!((8 * MIB / UNIT_BYTES..all).contains(&count(&held)), "{} of {all} units", count(&held));

    seed.run(&["--egress-mbit", "40"]);
    seed.await_done("acme/web", 3);
    for device in &devices {
        holds_the_right_bytes(device, &layout);
    }
    let (sent, content) = (first_run + seed.blob_bytes(), content_bytes(&layout));
    let at_kill = format!("{first_run} before the kill, after which the site held {}", count(&held) * UNIT_BYTES);
    assert!(sent * 100 <= content * 110, "{sent} bytes were sent for {content}; {at_kill}");
}

#[test]
fn a_device_that_was_killed_goes_on_where_it_was() {
    let (seed, layout) = slow_seed("40", &[10, 4]);
    let mut device = Device::start(&seed, "kiosk");
    seed.start_rollout("acme/web", 1);
    await_blob_bytes(&seed, 5 * MIB);
    device.kill();
    let held = count(&verified(&device, &layout)) * UNIT_BYTES;
    assert!(held >= 3 * MIB, "{held} bytes were verified");

    device.run(&[]);
    seed.await_done("acme/web", 1);
    holds_the_right_bytes(&device, &layout);
    let (sent, content) = (seed.blob_bytes(), content_bytes(&layout));
    assert!(sent <= content + CLAIMS * CLAIM_BYTES + MIB, "{sent} bytes were sent for {content}");
}

#[test]
fn a_unit_that_was_marked_but_is_wrong_after_a_kill_is_fetched_again() {
    let (seed, layout) = slow_seed("40", &[8]);
    let mut device = Device::start(&seed, "kiosk");
    seed.start_rollout("acme/web", 1);
    await_blob_bytes(&seed, 4 * MIB);
    device.kill();
    let layer = &layout.images[0].layers[0];
    let marked: Vec<usize> = verified(&device, &layout)[layer].iter().enumerate().filter(|(_, marked)| **marked).map(|(n, _)| n).collect();
    let partial = device.data().join("partial").join(layer.replace(':', "-"));
    let file = fs::OpenOptions::new().read(true).write(true).open(partial).unwrap();
    for unit in [marked[0], marked[marked.len() / 2]] {
        let (offset, mut byte) = (unit as u64 * UNIT_BYTES + 1000, [0]);
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x80], offset).unwrap();
    }

    device.run(&[]);
    seed.await_done("acme/web", 1);
    holds_the_right_bytes(&device, &layout);
    assert!(device.log.events("unit_refused").is_empty() && device.log.events("peer_banned").is_empty(), "the seed was blamed");
}

#[test]
fn two_devices_complete_when_the_third_is_killed() {
    let (seed, layout) = slow_seed("24", &[8, 4]);
    let [one, two, mut third] = ["one", "two", "third"].map(|name| Device::start(&seed, name));
    wait::until("the devices to be connected", || [&one, &two, &third].iter().all(|device| device.peers() == 2));
    seed.start_rollout("acme/web", 1);
    await_blob_bytes(&seed, 4 * MIB);
    third.kill();
    let blobs = layout.images[0].blobs();
    wait::until("the others to complete", || one.holds(&blobs) && two.holds(&blobs));
    for device in [&one, &two] {
        holds_the_right_bytes(device, &layout);
    }
    let status = seed.rollout("acme/web");
    assert_eq!(status["state"], "running", "a device has not said that it is done: {status}");
}

/// What the app's tag names on the device.
fn tagged(device: &Device, tag: &str) -> (u16, String) {
    let answer = http::get(&format!("{}/v2/acme/web/manifests/{tag}", device.endpoint_url()), &[]);
    let named = answer.header("docker-content-digest").unwrap_or_default().to_owned();
    (answer.status, named)
}

#[test]
fn devices_keep_the_newer_version_when_the_seed_is_restored_from_an_old_backup() {
    let mut seed = Seed::start();
    let image = |name: &str, tag: &str, seed_of_bytes| {
        Layout::write(&seed.scratch(name), tag, &[("amd64", &[&Layer::random(seed_of_bytes, 200_000)])])
    };
    let (first, second) = (image("first", "1.0", 1), image("second", "2.0", 2));
    seed.publish("acme/web", &first);
    let mut devices = ["one", "two"].map(|name| Device::start(&seed, name));
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 2);

    let backup = seed.scratch("backup");
    assert!(seed.stop().success());
    Seed::copy_directory(&seed.data(), &backup);
    seed.run(&[]);
    assert_eq!(seed.publish("acme/web", &second), 2);
    seed.start_rollout("acme/web", 2);
    seed.await_done("acme/web", 2);

    assert!(seed.stop().success());
    fs::remove_dir_all(seed.data()).unwrap();
    Seed::copy_directory(&backup, &seed.data());
    seed.run(&[]);
    assert_eq!(seed.rollout("acme/web")["version"], 1);
    for device in &devices {
        wait::until("the old documents to be refused", || !device.log.events("state_refused").is_empty());
    }
    let keep_version_2 = || devices.iter().all(|device| tagged(device, "2.0") == (200, second.digest.clone()));
    wait::throughout(Duration::from_secs(2), "devices keep version 2", keep_version_2);
    for device in &mut devices {
        assert!(device.metric("hedgerow_device_documents_refused_total") >= 1);
        assert!(device.process().is_running(), "{} ended", device.name);
    }
}

/// Another seed takes the place of the device's: it has the addresses, the CA and the device's enrolment; not the keys of
/// the operator, so its organisation has others. Later it also gets the `stolen` keys of the device's seed.
fn cannot_ship_code(stolen: &[&str]) {
    let mut seed = Seed::start();
    let own = Layout::write(&seed.scratch("own"), "1.0", &[("amd64", &[&Layer::random(1, 200_000)])]);
    seed.publish("acme/web", &own);
    let device = Device::start(&seed, "kiosk");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    assert!(seed.stop().success());

    let listen = |url: &str| url.rsplit('/').next().expect("a URL has an address").to_owned();
    let mut hostile = Seed::init_at(&listen(seed.url()), &listen(seed.device_url()));
    let take = |hostile: &Seed, key: &str| {
        fs::copy(seed.data().join("keys").join(key), hostile.data().join("keys").join(key)).expect("the seed has this key");
    };
    take(&hostile, "ca.key");
    take(&hostile, "ca.pem");
    hostile.run(&[]);
    let twin = Device::unknown("kiosk");
    fs::create_dir(twin.data()).expect("the twin has a place");
    fs::copy(device.data().join("device.key"), twin.data().join("device.key")).expect("the device has a key");
    Outcome::of(&mut twin.enrol_command(&hostile.token(&hostile.org()))).json();
    let evil = Layout::write(&hostile.scratch("evil"), "1.0", &[("amd64", &[&Layer::random(666, 200_000)])]);
    assert_eq!(hostile.publish("acme/web", &evil), 1);
    hostile.start_rollout("acme/web", 1);
    if !stolen.is_empty() {
        assert!(hostile.stop().success());
        stolen.iter().for_each(|key| take(&hostile, key));
        hostile.run(&[]);
    }
    // Each is a new desired state, so that its counter is newer than the device's.
    hostile.start_rollout("acme/web", 1);
    hostile.start_rollout("acme/web", 1);

    let refused = device.log.events("state_refused").len();
    wait::until("the hostile seed to be refused, twice", || device.log.events("state_refused").len() > refused + 1);
    assert_eq!(tagged(&device, "1.0"), (200, own.digest));
    assert!(evil.images[0].layers.iter().all(|layer| !device.blob_path(layer).exists()), "the device fetched code of a stranger");
}

#[test]
fn who_has_the_ca_of_a_seed_cannot_ship_code() {
    cannot_ship_code(&[]);
}

#[test]
fn who_has_the_ca_and_the_online_key_of_a_seed_cannot_ship_code() {
    cannot_ship_code(&["online.pem"]);
}

#[test]
fn a_device_that_restarts_without_its_seed_serves_what_it_has() {
    let mut seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 2 << 20)])]);
    seed.publish("acme/web", &layout);
    let mut device = Device::start(&seed, "kiosk");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    assert!(seed.stop().success());
    assert!(device.stop().success());
    let (endpoint, swarm) = (device.endpoint().to_owned(), device.swarm_addr().to_owned());

    device.run(&[]);
    assert_eq!((device.endpoint(), device.swarm_addr()), (endpoint.as_str(), swarm.as_str()), "ports are kept");
    wait::until("the tag to be served", || tagged(&device, "1.0") == (200, layout.digest.clone()));
    for blob in layout.images[0].layers.iter().chain([&layout.images[0].config]) {
        let answer = http::get(&format!("{}/v2/acme/web/blobs/{blob}", device.endpoint_url()), &[]);
        assert_eq!((answer.status, digest(&answer.body)), (200, blob.clone()));
    }
}
