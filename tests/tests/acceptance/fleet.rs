//! Labels, groups and pins: which device gets what. And what a poll costs.
//!
//! Not here: how a rollout goes on; see `rollouts`.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use tests::device::Device;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

use crate::swarm::plain_key;

/// Besides TLS, request and answer of a poll that finds nothing new.
const UNCHANGED_POLL_BYTES_MAX: u64 = 1024;

fn seed_with_two_versions() -> Seed {
    let seed = Seed::start();
    for number in 1..=2 {
        let tag = number.to_string();
        let layout = Layout::write(&seed.scratch(&format!("image-{tag}")), &tag, &[("amd64", &[&Layer::random(number, 9_000)])]);
        assert_eq!(seed.publish("acme/web", &layout), number);
    }
    seed
}

/// A device that enrolled with a token with these labels, and says these of itself.
fn device(seed: &Seed, name: &str, operator: &[&str], own: &[&str]) -> Device {
    let mut arguments = vec!["fleet", "token", "--org", "acme", "--json"];
    arguments.extend(operator.iter().flat_map(|label| ["--label", label]));
    let token = seed.run_operator(&arguments).json()["token"].as_str().expect("a token").to_owned();
    let mut device = Device::unknown(name);
    Outcome::of(device.enrol_command(&token).args(["--platform", "linux-amd64"])).json();
    let own: Vec<&str> = own.iter().flat_map(|label| ["--label", label]).collect();
    device.run(&own);
    device
}

fn show(seed: &Seed, device: &str) -> Value {
    seed.run_operator(&["fleet", "show", device, "--org", "acme", "--json"]).json()
}

fn await_version(seed: &Seed, device: &str, version: u64) {
    wait::until(&format!("{device} to have version {version}"), || {
        let app = &show(seed, device)["apps"]["web"];
        app["version"] == version && app["state"] == "stored"
    });
}

#[test]
fn a_device_gets_what_its_group_gets_and_moves_with_its_labels() {
    let seed = seed_with_two_versions();
    let _north = device(&seed, "north", &["site=north"], &["site=south", "class=lab"]);
    let _south = device(&seed, "south", &[], &["site=south"]);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 2);
    assert_eq!(show(&seed, "north")["labels"], json!({"site": "north", "class": "lab"}), "the operator's wins");

    let create = |name: &str, selector: &str, priority: &str| {
        seed.run_operator(&[
            "fleet",
            "group",
            "create",
            name,
            "--app",
            "acme/web",
            "--selector",
            selector,
            "--priority",
            priority,
            "--json",
        ])
    };
    create("north", "site=north", "10").json();
    let tie = create("other", "site=south", "10").failed();
    assert!(tie.contains("priority 10") && tie.contains("north"), "{tie}");
    let listed = seed.run_operator(&["fleet", "list", "--org", "acme", "--group", "north", "--json"]).json();
    assert_eq!((listed["devices"].as_array().map(Vec::len), &listed["devices"][0]["device"]), (Some(1), &"north".into()), "{listed}");
    let labelled = seed.run_operator(&["fleet", "list", "--org", "acme", "--label", "site=south"]).succeeded().stdout;
    assert!(labelled.contains("south") && !labelled.contains("north"), "{labelled}");

    let started = seed.run_operator(&["rollout", "start", "acme/web", "--version", "2", "--group", "north", "--json"]).json();
    assert_eq!((&started["group"], &started["before"]), (&"north".into(), &1.into()), "a group begins with what all has: {started}");
    await_version(&seed, "north", 2);
    assert_eq!(show(&seed, "south")["apps"]["web"]["version"], 1);

    seed.run_operator(&["fleet", "label", "south", "site=north", "--org", "acme"]).succeeded();
    await_version(&seed, "south", 2);
    seed.run_operator(&["fleet", "label", "south", "site-", "--org", "acme"]).succeeded();
    await_version(&seed, "south", 1);
    wait::until("the rollout to end", || {
        let removed = seed.run_operator(&["fleet", "group", "remove", "north", "--app", "acme/web"]);
        removed.code == Some(0)
    });
    await_version(&seed, "north", 1);
}

#[test]
fn a_pinned_device_has_its_version_whatever_its_group_gets() {
    let seed = seed_with_two_versions();
    let _device = device(&seed, "kiosk", &[], &[]);
    seed.run_operator(&["fleet", "pin", "kiosk", "--app", "acme/web", "--version", "1"]).succeeded();
    await_version(&seed, "kiosk", 1);
    seed.start_rollout("acme/web", 2);
    let status = seed.rollout("acme/web");
    assert_eq!(status["devices"]["pending"], 0, "a pinned device is not counted: {status}");
    assert_eq!(show(&seed, "kiosk")["apps"]["web"]["version"], 1);
    seed.run_operator(&["fleet", "unpin", "kiosk", "--app", "acme/web"]).succeeded();
    await_version(&seed, "kiosk", 2);
}

#[test]
fn documents_of_a_restored_seed_are_refused_and_the_device_says_why() {
    let mut seed = seed_with_two_versions();
    let _device = device(&seed, "kiosk", &[], &[]);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    let backup = seed.scratch("backup");
    assert!(seed.stop().success());
    Seed::copy_directory(&seed.data(), &backup);
    seed.run(&[]);
    seed.start_rollout("acme/web", 2);
    seed.await_done("acme/web", 1);
    assert!(seed.stop().success());
    fs::remove_dir_all(seed.data()).unwrap();
    Seed::copy_directory(&backup, &seed.data());
    seed.run(&[]);
    let refused = wait::eventually("the device to say what it refused", || {
        let refused = show(&seed, "kiosk")["refused"].clone();
        refused["desired_state/older_counter"].as_u64().is_some().then_some(refused)
    });
    assert!(refused["desired_state/older_counter"].as_u64() >= Some(1), "{refused}");
    let app = show(&seed, "kiosk")["apps"]["web"].clone();
    assert_eq!((&app["version"], &app["running"]), (&2.into(), &2.into()), "it goes on with what it has: {app}");
}

#[test]
fn a_poll_that_finds_nothing_new_takes_at_most_a_kibibyte() {
    if !program::is_there("curl") {
        return;
    }
    let seed = seed_with_two_versions();
    let device = device(&seed, "kiosk", &[], &[]);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    let key = plain_key(&device.data().join("device.key"), &seed.scratch("kiosk.key"));
    let poll = |etag: &str| {
        let mut command = curl(&device, &key);
        command.args(["--header", &format!("If-None-Match: {etag}")]);
        command.args(["--write-out", "%{http_code} %{size_request} %{size_header} %{size_download} %header{etag}"]);
        let outcome = Outcome::of(command.arg(format!("{}/api/v1/device/state?port=7446", seed.device_url()))).succeeded();
        outcome.stdout.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let etag = wait::eventually("the state to settle", || {
        let answer = poll("\"none\"");
        assert_eq!(answer[0], "200", "{answer:?}");
        (poll(&answer[4])[0] == "304").then(|| answer[4].clone())
    });
    let [status, sent, headers, body, _] = poll(&etag).try_into().expect("five words");
    let bytes: u64 = [&sent, &headers, &body].iter().map(|bytes| bytes.parse::<u64>().expect("a number")).sum();
    assert_eq!(status, "304");
    assert!(bytes <= UNCHANGED_POLL_BYTES_MAX, "an unchanged poll took {bytes} bytes");
}

/// curl as the device, whose key in a form that curl reads is in the file `key`.
fn curl(device: &Device, key: &Path) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--http1.1", "--output", "/dev/null", "--cacert"]).arg(device.data().join("ca.pem"));
    command.arg("--cert").arg(device.data().join("device.pem")).arg("--key").arg(key);
    command
}

/// The envelope of a report of the device `kiosk` of acme, signed with its key.
fn report(key: &KeyPair, counter: u64) -> String {
    let app = json!({"version": 1, "rollout": "r-1", "state": "healthy", "running": 1});
    let report = json!({"counter": counter, "apps": {"web": app}, "labels": {"site": "north"}});
    let payload = json!({"format": 1, "org": "acme", "device": "kiosk", "report": report}).to_string();
    let kind = "application/vnd.hedgerow.device-report+json";
    let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let signature = key.sign(signed.as_bytes()).expect("the key signs");
    let signature = json!({"keyid": STANDARD.encode(key.subject_public_key_info()), "sig": STANDARD.encode(signature)});
    json!({"payloadType": kind, "payload": STANDARD.encode(payload), "signatures": [signature]}).to_string()
}

fn key_of(device: &Device) -> KeyPair {
    let pem = fs::read_to_string(device.data().join("device.key")).expect("the device has a key");
    KeyPair::from_pem(&pem).expect("the key can be read")
}

/// Sends a report over a connection of its own: the status of the answer.
fn send(seed: &Seed, device: &Device, key: &Path, report: &str) -> String {
    let mut command = curl(device, key);
    command.args(["--write-out", "%{http_code}", "--header", "Content-Type: application/json", "--data-binary", report]);
    Outcome::of(command.arg(format!("{}/api/v1/device/report", seed.device_url()))).succeeded().stdout
}

#[test]
fn a_report_is_believed_once_and_only_with_the_devices_signature() {
    if !program::is_there("curl") {
        return;
    }
    let seed = Seed::start();
    let device = Device::enrol(&seed, &seed.org(), "kiosk");
    let plain = plain_key(&device.data().join("device.key"), &seed.scratch("kiosk.key"));
    let (key, stranger) = (key_of(&device), KeyPair::generate().expect("a key can be made"));
    assert_eq!(send(&seed, &device, &plain, &report(&key, 5)), "204");
    assert_eq!(send(&seed, &device, &plain, &report(&key, 5)), "409", "a replay");
    assert_eq!(send(&seed, &device, &plain, &report(&key, 4)), "409");
    assert_eq!(send(&seed, &device, &plain, &report(&stranger, 6)), "400");
    assert_eq!(show(&seed, "kiosk")["apps"]["web"]["state"], "healthy");
    assert_eq!(seed.metric("hedgerow_seed_reports_refused_total"), 3);
}

#[test]
#[ignore = "soak: sends a thousand reports, each over a connection of its own"]
fn the_reports_of_a_thousand_devices_each_minute_take_the_seed_less_than_a_twentieth_of_a_core() {
    const REPORTS: u64 = 1000;
    const TICKS_PER_SECOND: f64 = 100.0;
    if !program::is_there("curl") {
        return;
    }
    let mut seed = Seed::start();
    let device = Device::enrol(&seed, &seed.org(), "kiosk");
    let plain = plain_key(&device.data().join("device.key"), &seed.scratch("kiosk.key"));
    let key = key_of(&device);
    let stat = format!("/proc/{}/stat", seed.process().id());
    let ticks = || -> f64 {
        let stat = fs::read_to_string(&stat).expect("the seed runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("the fields after the name").split(' ').collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("user and system time")).sum()
    };
    assert_eq!(send(&seed, &device, &plain, &report(&key, 1)), "204");
    let before = ticks();
    for counter in 2..2 + REPORTS {
        assert_eq!(send(&seed, &device, &plain, &report(&key, counter)), "204");
    }
    let seconds = (ticks() - before) / TICKS_PER_SECOND;
    println!("{REPORTS} reports took {seconds} s of the seed's processor time: {:.2} % of a core at one a minute", seconds / 60.0 * 100.0);
    assert!(seconds < 60.0 / 20.0, "{seconds} s in a minute");
}
