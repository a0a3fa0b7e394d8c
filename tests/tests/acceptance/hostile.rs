//! A seed that was taken over, with its records and its online key, against a real device: it makes the device run nothing that
//! nobody signed, and a new root ends what it did. A seed whose clock was wrong, and one from yesterday's backup, are put right in
//! the same way.
//!
//! Not here: metadata that is forged without any key; see the tests beside `node::trust`.

use std::fs;

use serde_json::{Value, json};
use tests::calendar;
use tests::device::Device;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::seed::{ORG, Seed};
use tests::taken::Taken;
use tests::wait;

fn layout(seed: &Seed, number: u64) -> Layout {
    Layout::write(&seed.scratch(&format!("image-{number}")), &format!("{number}.0"), &[("amd64", &[&Layer::random(number, 9_000)])])
}

/// A seed with version 1 of acme/web on one device.
fn seed_and_device() -> (Seed, Device, Layout) {
    let seed = Seed::start();
    let first = layout(&seed, 1);
    assert_eq!(seed.publish("acme/web", &first), 1);
    let device = Device::start(&seed, "kiosk");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    // Until it notes that, the seed signs what the rollout wants, over what somebody else signed.
    wait::until("the seed to note it", || !seed.log.events("rollout_ended").is_empty());
    (seed, device, first)
}

/// Takes the seed over, and runs it again after `change`.
fn take_over(seed: &mut Seed, change: impl FnOnce(&Taken)) {
    assert!(seed.stop().success());
    change(&Taken::of(seed));
    seed.run(&[]);
}

fn await_refusal(device: &Device, event: &str, reason: &str) -> Value {
    wait::eventually(&format!("{} to refuse with {reason}", device.name), || {
        device.log.events(event).into_iter().find(|event| event["reason"] == reason)
    })
}

fn show(seed: &Seed, device: &str) -> Value {
    seed.run_operator(&["fleet", "show", device, "--org", ORG, "--json"]).json()
}

/// The device gets another version: it goes on.
fn goes_on(seed: &Seed, number: u64, version: u64, devices: u64) {
    assert_eq!(seed.publish("acme/web", &layout(seed, number)), version);
    seed.start_rollout("acme/web", version);
    seed.await_done("acme/web", devices);
}

#[test]
fn software_that_nobody_signed_is_refused_and_what_was_there_stays() {
    let (mut seed, device, first) = seed_and_device();
    take_over(&mut seed, |taken| {
        let evil = b"{}";
        let digest = tests::image::digest(evil);
        let mut role = taken.signed("1.app-web.json");
        role["version"] = json!(2);
        role["targets"]["web/2/linux-amd64.json"] = json!({ "length": evil.len(), "hashes": { "sha256": &digest["sha256:".len()..] } });
        taken.serve(&[("2.app-web.json", taken.sign(&role))]);
        taken.pin(0, |pins| pins["app-web.json"]["version"] = json!(2));
        taken.desire(0, |state| {
            state["apps"]["web"]["version"] = json!(2);
            state["apps"]["web"]["statements"] = json!({ "linux-amd64": digest });
        });
    });
    await_refusal(&device, "statement_refused", "bad_signature");
    wait::until("the seed to be told", || show(&seed, "kiosk")["refused"]["statement/bad_signature"].as_u64() >= Some(1));
    assert!(device.holds(&first.images[0].layers));
    assert_eq!(device.log.events("version_stored").len(), 1);
}

#[test]
fn roles_of_different_times_and_roles_under_another_version_are_refused() {
    let (mut seed, device, _) = seed_and_device();
    goes_on(&seed, 2, 2, 1);
    take_over(&mut seed, |taken| taken.pin(0, |pins| pins["app-web.json"]["version"] = json!(1)));
    await_refusal(&device, "state_refused", "rolled_back");
    take_over(&mut seed, |taken| {
        taken.serve(&[("3.app-web.json", taken.content("1.app-web.json"))]);
        taken.pin(0, |pins| pins["app-web.json"]["version"] = json!(3));
    });
    let new = Device::start(&seed, "new");
    await_refusal(&new, "statement_refused", "mismatch");
    assert!(new.log.events("version_stored").is_empty());
}

#[test]
fn a_version_below_the_floor_that_its_owner_signed_is_not_started_whatever_the_seed_wants() {
    let seed = Seed::start();
    seed.publish("acme/web", &layout(&seed, 1));
    seed.start_rollout("acme/web", 1);
    seed.push(&seed.org(), "acme/web", &layout(&seed, 2));
    seed.run_operator(&["app", "publish", "acme/web:2.0", "--floor", "2", "--json"]).json();
    let device = Device::start(&seed, "kiosk");
    await_refusal(&device, "statement_refused", "below_floor");
    assert!(device.log.events("version_stored").is_empty());
}

#[test]
fn data_without_end_is_not_read_to_its_end() {
    let (mut seed, _device, _) = seed_and_device();
    take_over(&mut seed, |taken| {
        taken.serve(&[("2.app-web.json", " ".repeat(11 << 20))]);
        taken.pin(0, |pins| pins["app-web.json"]["version"] = json!(2));
    });
    let new = Device::start(&seed, "new");
    let refused = await_refusal(&new, "statement_refused", "unavailable");
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("more than 10485760 bytes")), "{refused}");
}

#[test]
fn after_a_fast_forward_a_new_root_with_another_online_key_lets_every_device_go_on() {
    let (mut seed, device, _) = seed_and_device();
    take_over(&mut seed, |taken| {
        taken.pin(u64::MAX, |_| {});
        taken.desire(u64::MAX, |_| {});
    });
    let forwarded = |file: &str| fs::read_to_string(device.data().join(file)).is_ok_and(|text| text.contains(&u64::MAX.to_string()));
    wait::until("the device to take what is signed", || {
        ["trust/timestamp.json", "trust/snapshot.json", "progress.json"].into_iter().all(forwarded)
    });

    assert!(seed.stop().success());
    let mut command = program::hedgerow();
    let made = Outcome::of(command.args(["seed", "new-online-key", "--json", "--data"]).arg(seed.data())).json();
    assert_ne!(made["keyid"], made["retired"]);
    seed.run(&[]);
    let rotated = seed.run_operator(&["trust", "rotate", ORG, "online", "--json"]).json();
    assert!(rotated["changes"].to_string().contains("from 1 to 2"), "{rotated}");
    goes_on(&seed, 2, 2, 1);
}

#[test]
fn yesterdays_backup_is_restored_and_with_a_raised_epoch_every_device_goes_on_and_the_seed_learns_again_whom_it_revoked() {
    let (mut seed, one, _) = seed_and_device();
    let [two, mut stolen] = ["two", "stolen"].map(|name| Device::start(&seed, name));
    seed.await_done("acme/web", 3);
    let backup = seed.scratch("backup");
    assert!(seed.stop().success());
    Seed::copy_directory(&seed.data(), &backup);
    seed.run(&[]);
    goes_on(&seed, 2, 2, 3);
    seed.run_operator(&["fleet", "revoke", "stolen", "--org", ORG, "--json"]).json();
    wait::until("both to take the list", || [&one, &two].iter().all(|device| !device.log.events("revocations").is_empty()));
    assert!(stolen.stop().success());

    assert!(seed.stop().success());
    fs::remove_dir_all(seed.data()).unwrap();
    Seed::copy_directory(&backup, &seed.data());
    seed.run(&[]);
    for device in [&one, &two] {
        wait::until("the old documents to be refused", || !device.log.events("state_refused").is_empty());
    }
    wait::until("the seed to be given back its list", || !seed.log.events("revocations_taken_back").is_empty());
    stolen.run(&[]);
    wait::until("the seed to refuse the revoked key again", || {
        stolen.log.events("poll_failed").iter().any(|event| event["error"].as_str().is_some_and(|error| error.contains("evoked")))
    });
    let raised = seed.run_operator(&["trust", "set", ORG, "--raise-epoch", "--json"]).json();
    assert!(raised["changes"].to_string().contains("from 1 to 2"), "{raised}");
    assert_eq!(seed.publish("acme/web", &layout(&seed, 3)), 2, "the number of a version that the backup does not know");
    seed.start_rollout("acme/web", 2);
    for device in ["kiosk", "two"] {
        wait::until("the device to have the new version 2", || {
            let app = show(&seed, device)["apps"]["web"].clone();
            app["version"] == 2 && app["state"] == "stored"
        });
        wait::until("the seed to be told of what it forgot", || {
            let refused = show(&seed, device)["refused"].clone();
            refused.as_object().is_some_and(|refused| !refused.is_empty())
        });
    }
    let third = layout(&seed, 3);
    wait::until("both to hold it", || [&one, &two].iter().all(|device| device.holds(&third.images[0].layers)));
    for device in [&one, &two] {
        let held: Value = serde_json::from_slice(&fs::read(device.data().join("revoked.json")).unwrap()).unwrap();
        assert_eq!(held["keys"].as_array().map_or(0, Vec::len) + held["earlier"].as_object().map_or(0, serde_json::Map::len), 1, "{held}");
    }
}

#[test]
fn a_seed_whose_clock_was_weeks_ahead_is_reached_again_and_a_raised_epoch_puts_the_devices_right() {
    let (mut seed, mut device, _) = seed_and_device();
    assert!(seed.stop().success());
    let mut ahead = seed.run_command(&[]);
    if !calendar::later(&mut ahead, 25) {
        return;
    }
    seed.run_as(ahead);
    wait::until("the device to mistrust its clock", || device.metric("hedgerow_device_clock_trusted") == 0);
    let file = device.data().join("time.json");
    let floor = || -> u64 {
        let kept = fs::read(&file).unwrap_or_default();
        serde_json::from_slice::<Value>(&kept).ok().and_then(|kept| kept["floor"].as_u64()).unwrap_or_default()
    };
    wait::until("the floor to be raised", || floor() > now() + 20 * 86_400);
    // A device looks at its calendar when it starts: by its floor the certificate is due.
    assert!(device.stop().success());
    device.run(&[]);
    wait::until("the device to get a certificate of that time", || !device.log.events("certificate_renewed").is_empty());

    assert!(seed.stop().success());
    seed.run(&[]);
    let renewed = device.log.events("certificate_renewed").len();
    wait::until("the seed to be reached, and a certificate of today", || device.log.events("certificate_renewed").len() > renewed);
    await_refusal(&device, "state_refused", "expired");
    assert_eq!(device.metric("hedgerow_device_clock_trusted"), 0, "nothing staged starts by it");
    seed.run_operator(&["trust", "set", ORG, "--raise-epoch", "--json"]).json();
    goes_on(&seed, 2, 2, 1);
    assert_eq!(device.metric("hedgerow_device_clock_trusted"), 1);
    assert!(floor() < now() + 86_400);
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[test]
fn a_freeze_is_bounded_and_shows_after_a_week() {
    let (mut seed, mut device, _) = seed_and_device();
    let shown = seed.run_operator(&["trust", "show", ORG, "--json"]).json();
    let app = shown["roles"].as_array().unwrap().iter().find(|role| role["role"] == "app-web").unwrap();
    assert!(shown["freeze_until"].as_str() <= app["expires"].as_str() && shown["freeze_until"].is_string(), "{shown}");
    assert_eq!((device.metric("hedgerow_device_stale"), &show(&seed, "kiosk")["stale"]), (0, &false.into()));

    assert!(seed.stop().success() && device.stop().success());
    let mut later = device.run_command(&[]);
    if !calendar::later(&mut later, 8) {
        return;
    }
    device.run_as(later);
    wait::until("the device to be stale", || device.metric("hedgerow_device_stale") == 1);
    seed.run(&[]);
    wait::until("the seed to be told", || show(&seed, "kiosk")["stale"] == true);
    assert!(seed.metric("hedgerow_seed_reports_stale_total") >= 1);
    let listed = seed.run_operator(&["fleet", "list", "--org", ORG]).succeeded().stdout;
    assert!(listed.contains("STALE"), "{listed}");
    assert!(device.stop().success());
    device.run(&[]);
    wait::until("the device to be fresh again", || show(&seed, "kiosk")["stale"] == false);
}
