//! Certificates are renewed while a device runs, revoked keys stay out of seed and swarm, tokens do what they say and no more,
//! and a key in hardware never leaves it.
//!
//! Not here: keys in files, and tokens that are no good; see `enrolment`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::device::Device;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

/// A seed whose device certificates live for so many seconds.
fn seed_with_leaves_of(seconds: u64) -> Seed {
    let mut seed = Seed::init();
    let file = seed.data().join("seed.toml");
    let settings = fs::read_to_string(&file).expect("a seed has settings") + &format!("\n[identity]\nleaf_seconds = {seconds}\n");
    fs::write(&file, settings).expect("the settings can be written");
    seed.run(&[]);
    seed
}

fn revoke(seed: &Seed, device: &str) -> Value {
    seed.run_operator(&["fleet", "revoke", device, "--org", "acme", "--reason", "stolen", "--json"]).json()
}

fn token(seed: &Seed, flags: &[&str]) -> Value {
    seed.run_operator(&[&["fleet", "token", "--org", "acme", "--json"], flags].concat()).json()
}

#[test]
fn a_device_renews_its_certificate_while_it_runs_and_stays_connected() {
    let seed = seed_with_leaves_of(12);
    let [mut one, mut two] = ["one", "two"].map(|name| Device::enrol(&seed, &seed.org(), name));
    let first = fs::read(one.data().join("device.pem")).unwrap();
    one.run(&[]);
    two.run(&["--peer", one.swarm_addr()]);
    wait::until("two renewals of each", || [&one, &two].iter().all(|device| device.log.events("certificate_renewed").len() >= 2));
    assert_ne!(fs::read(one.data().join("device.pem")).unwrap(), first);
    wait::until("the devices to be connected", || one.peers() == 1 && two.peers() == 1);
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 1 << 20)])]);
    seed.publish("acme/web", &layout);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 2);
    for device in [&one, &two] {
        assert_eq!(device.log.events("renewal_failed"), Vec::<Value>::new());
    }
}

#[test]
fn a_device_that_was_away_for_longer_than_its_certificate_lives_renews_it_and_goes_on() {
    let seed = seed_with_leaves_of(10);
    let mut device = Device::start(&seed, "edge");
    assert!(device.stop().success());
    let pem = device.data().join("device.pem");
    wait::until("the certificate to expire", || {
        !Command::new("openssl").args(["x509", "-noout", "-checkend", "0", "-in"]).arg(&pem).output().unwrap().status.success()
    });
    let before = seed.metric("hedgerow_seed_polls_total");
    device.run(&[]);
    wait::until("the device to renew", || !device.log.events("certificate_renewed").is_empty());
    wait::until("the device to poll", || seed.metric("hedgerow_seed_polls_total") > before);
}

#[test]
fn a_revoked_device_is_cut_off_from_seed_and_peers_and_its_key_never_comes_back() {
    let seed = Seed::start();
    let mut stolen = Device::enrol(&seed, &seed.org(), "stolen");
    stolen.run(&[]);
    let mut own = Device::enrol(&seed, &seed.org(), "own");
    own.run(&["--peer", stolen.swarm_addr()]);
    wait::until("the devices to be connected", || own.peers() == 1 && stolen.peers() == 1);

    let revoked = revoke(&seed, "stolen");
    assert_eq!(revoked["device"], "stolen");
    wait::until("the peer to close the connection", || own.peers() == 0 && stolen.peers() == 0);
    wait::until("the seed to close its connection", || !seed.log.events("connection_closed").is_empty());
    wait::until("the seed to refuse it", || !seed.log.events("device_refused").is_empty());
    wait::until("the device to say why", || stolen.log.events("poll_failed").iter().any(|event| said(event, "revoked")));
    assert!(own.log.events("peer_refused").iter().any(|event| event["reason"] == "revoked"), "{}", own.log.tail());
    assert!(said(&seed.log.events("device_refused")[0], "stolen") && said(&seed.log.events("device_refused")[0], "revoked"));

    // The same key is of no use with any token, under any name.
    stolen.kill();
    fs::remove_file(stolen.data().join("device.json")).unwrap();
    for flags in [&["--device", "stolen", "--replace"][..], &[]] {
        let token = token(&seed, flags)["token"].as_str().unwrap().to_owned();
        let mut command = program::hedgerow();
        let name = if flags.is_empty() { "other" } else { "stolen" };
        command.args(["device", "enroll", "--device", name, "--token", &token, "--data"]).arg(stolen.data());
        let refused = Outcome::of(&mut command).failed();
        assert!(refused.contains("revoked"), "{refused}");
    }
    // The name comes back with a new key, and a token that says so.
    let fresh = Device::unknown("stolen");
    let plain = token(&seed, &[])["token"].as_str().unwrap().to_owned();
    let refused = Outcome::of(&mut fresh.enrol_command(&plain)).failed();
    assert!(refused.contains("--replace"), "{refused}");
    let replacing = token(&seed, &["--device", "stolen", "--replace"])["token"].as_str().unwrap().to_owned();
    Outcome::of(&mut fresh.enrol_command(&replacing)).json();
}

#[test]
fn a_revocation_holds_between_devices_that_have_lost_the_wan_since() {
    let mut seed = Seed::start();
    let [mut one, mut two, mut stolen] = ["one", "two", "stolen"].map(|name| Device::enrol(&seed, &seed.org(), name));
    stolen.run(&[]);
    one.run(&["--peer", stolen.swarm_addr()]);
    two.run(&["--peer", stolen.swarm_addr(), "--peer", one.swarm_addr()]);
    wait::until("all to be connected", || [&one, &two, &stolen].iter().all(|device| device.peers() == 2));
    revoke(&seed, "stolen");
    wait::until("both to take the list", || [&one, &two].iter().all(|device| !device.log.events("revocations").is_empty()));
    seed.kill();
    wait::until("the revoked device to be alone", || one.peers() == 1 && two.peers() == 1 && stolen.peers() == 0);

    // Nobody can be asked any more; a restart does not make a device forget.
    one.kill();
    one.run(&["--peer", two.swarm_addr()]);
    wait::until("the others to find each other", || one.peers() == 1 && two.peers() == 1);
    let refusals = one.log.events("device_refused").len();
    stolen.kill();
    stolen.run(&["--peer", one.swarm_addr(), "--peer", two.swarm_addr()]);
    wait::until("the restarted device to refuse it", || one.log.events("device_refused").len() > refusals);
    wait::until("the revoked device to be told", || stolen.log.events("peer_refused").iter().any(|event| said(event, "revoked")));
    assert_eq!((one.peers(), two.peers(), stolen.peers()), (1, 1, 0));
}

#[test]
fn a_revocation_counts_at_once_also_on_a_device_that_cannot_write_it_to_its_disk() {
    let seed = Seed::start();
    let [mut own, mut stolen] = ["own", "stolen"].map(|name| Device::enrol(&seed, &seed.org(), name));
    stolen.run(&[]);
    own.run(&["--peer", stolen.swarm_addr()]);
    wait::until("the devices to be connected", || own.peers() == 1 && stolen.peers() == 1);
    // Nothing can take the place of a folder, whoever writes.
    let unwritable = own.data().join("revoked.json");
    fs::create_dir(&unwritable).unwrap();
    revoke(&seed, "stolen");
    wait::until("the connection to be closed", || own.peers() == 0 && stolen.peers() == 0);
    wait::until("the device to say what it cannot keep", || !own.log.events("state_refused").is_empty());
    assert_eq!(own.log.events("revocations"), Vec::<Value>::new());
    fs::remove_dir(&unwritable).unwrap();
    wait::until("it to be kept with a later answer", || !own.log.events("revocations").is_empty());
}

#[test]
fn a_replaced_key_is_revoked() {
    let seed = Seed::start();
    let mut old = Device::start(&seed, "edge");
    let fresh = Device::unknown("edge");
    let replacing = token(&seed, &["--device", "edge", "--replace"])["token"].as_str().unwrap().to_owned();
    Outcome::of(&mut fresh.enrol_command(&replacing)).json();
    wait::until("the old key to be refused", || old.log.events("poll_failed").iter().any(|event| said(event, "revoked")));
    old.kill();
}

#[test]
fn tokens_enrol_as_many_devices_as_they_say() {
    let seed = Seed::start();
    let shared = token(&seed, &["--uses", "2"])["token"].as_str().unwrap().to_owned();
    for name in ["a", "b"] {
        Outcome::of(&mut Device::unknown(name).enrol_command(&shared)).json();
    }
    let refused = Outcome::of(&mut Device::unknown("c").enrol_command(&shared)).failed();
    assert!(refused.contains("as often as it allows"), "{refused}");

    let batch = token(&seed, &["--count", "3"]);
    let tokens: BTreeSet<&str> = batch["tokens"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(tokens.len(), 3, "{batch}");
    for (number, token) in tokens.into_iter().enumerate() {
        Outcome::of(&mut Device::unknown(&format!("batch-{number}")).enrol_command(token)).json();
    }
    let csv = seed.run_operator(&["fleet", "token", "--org", "acme", "--count", "2", "--output", "csv"]).succeeded().stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines[0], lines.len()), ("token,expires", 3), "{csv}");
    assert!(lines[1].starts_with("hgt1_") && lines[1].split(',').count() == 2, "{csv}");

    let named = token(&seed, &["--device", "kiosk"])["token"].as_str().unwrap().to_owned();
    let refused = Outcome::of(&mut Device::unknown("other").enrol_command(&named)).failed();
    assert!(refused.contains("kiosk"), "{refused}");
    Outcome::of(&mut Device::unknown("kiosk").enrol_command(&named)).json();
    for (flags, limit) in [(["--uses", "10001"], "10000"), (["--count", "1001"], "1000"), (["--lifetime-seconds", "2592001"], "2592000")] {
        let refused = seed.run_operator(&[&["fleet", "token", "--org", "acme"][..], &flags].concat()).failed();
        assert!(refused.contains(limit), "{refused}");
    }
}

#[test]
fn a_token_that_is_taken_back_enrols_nobody() {
    let seed = Seed::start();
    let (kept, lost) = (token(&seed, &["--uses", "2"]), token(&seed, &["--device", "kiosk"]));
    let listed = || seed.run_operator(&["fleet", "tokens", "list", "--org", "acme", "--json"]).json()["tokens"].as_array().unwrap().clone();
    assert_eq!(listed().len(), 2, "{:?}", listed());
    Outcome::of(&mut Device::unknown("a").enrol_command(kept["token"].as_str().unwrap())).json();
    let id = lost["id"].as_str().unwrap();
    seed.run_operator(&["fleet", "tokens", "revoke", id, "--org", "acme", "--json"]).json();
    let refused = Outcome::of(&mut Device::unknown("kiosk").enrol_command(lost["token"].as_str().unwrap())).failed();
    assert!(refused.contains("fleet token"), "{refused}");
    assert_eq!((listed().len(), &listed()[0]["id"], &listed()[0]["uses_left"]), (1, &kept["id"], &1.into()));
    let again = seed.run_operator(&["fleet", "tokens", "revoke", id, "--org", "acme"]).failed();
    assert!(again.contains(id), "{again}");
}

#[test]
fn devices_with_p256_keys_in_files_and_in_hardware_share_with_others() {
    if !program::is_there("softhsm2-util") {
        return;
    }
    let seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 1 << 20)])]);
    seed.publish("acme/web", &layout);
    let token = || seed.token(&seed.org());

    let mut file = Device::unknown("file");
    Outcome::of(file.enrol_command(&token()).args(["--key-type", "p256"])).json();
    file.run(&[]);

    let module = SoftHsm::start(&seed.scratch("hsm"));
    let mut hardware = Device::unknown("hardware");
    let place = ["--pkcs11", module.library, "--token-label", "edge", "--key-label", "device"];
    let enrol = || {
        let mut command = hardware.enrol_command(&token());
        command.args(place).env("SOFTHSM2_CONF", &module.settings);
        command
    };
    let no_pin = Outcome::of(&mut enrol()).failed();
    assert!(no_pin.contains("HEDGEROW_PKCS11_PIN"), "{no_pin}");
    let wrong = Outcome::of(enrol().env("HEDGEROW_PKCS11_PIN", "0000")).failed();
    assert!(wrong.contains("PIN"), "{wrong}");
    let pin_file = seed.scratch("pin");
    fs::write(&pin_file, "4321\n").unwrap();
    Outcome::of(enrol().arg("--pin-file").arg(&pin_file)).json();
    assert!(!hardware.data().join("device.key").exists(), "the key is in the module alone");

    let mut run = hardware.run_command(&["--peer", file.swarm_addr()]);
    run.env("SOFTHSM2_CONF", &module.settings);
    hardware.run_as(run);
    let mut plain = Device::enrol(&seed, &seed.org(), "plain");
    plain.run(&["--peer", hardware.swarm_addr()]);
    wait::until("all to be connected", || [&file, &hardware, &plain].iter().all(|device| device.peers() == 2));
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 3);
}

#[test]
fn a_certificate_authority_is_replaced_step_by_step_and_no_device_is_left_behind() {
    let mut seed = seed_with_leaves_of(90);
    let [mut one, mut two, mut cut_off] = ["one", "two", "cut-off"].map(|name| Device::enrol(&seed, &seed.org(), name));
    // It never hears of anything, and goes on with the certificate that it has.
    let enrolment = fs::read_to_string(cut_off.data().join("device.json")).unwrap();
    fs::write(cut_off.data().join("device.json"), enrolment.replace(seed.device_url(), "https://127.0.0.1:1")).unwrap();
    one.run(&[]);
    two.run(&["--peer", one.swarm_addr()]);
    cut_off.run(&["--peer", one.swarm_addr()]);

    let authorities = |data: &Path, verb: &str| {
        let mut command = program::hedgerow();
        command.args(["seed", "ca", verb, "--json", "--data"]).arg(data);
        Outcome::of(&mut command)
    };
    let in_use = authorities(&seed.data(), "rotate").failed();
    assert!(in_use.contains("in use"), "{in_use}");
    assert!(seed.stop().success());
    let rotated = authorities(&seed.data(), "rotate").json();
    let [old, new] = ["current", "next"].map(|name| rotated[name]["sha256"].as_str().expect("a fingerprint").to_owned());
    let early = authorities(&seed.data(), "retire").failed();
    assert!(early.contains("acme") && early.contains("does not name"), "{early}");
    seed.run(&[]);

    let skipped = seed.run_operator(&["trust", "set", "acme", "--authority", &new]).failed();
    assert!(skipped.contains("name both first"), "{skipped}");
    let both = seed.run_operator(&["trust", "set", "acme", "--authority", &old, "--authority", &new]).succeeded().stdout;
    assert!(both.contains(&format!("devices trust certificates of the authority {new} from now on")), "{both}");
    wait::until("both to renew early", || [&one, &two].iter().all(|device| !device.log.events("certificate_renewed").is_empty()));
    wait::until("all to be connected", || one.peers() == 2 && two.peers() >= 1 && cut_off.peers() >= 1);

    seed.run_operator(&["trust", "set", "acme", "--authority", &new]).succeeded();
    wait::until("the open connections to the old authority's device to be closed", || cut_off.peers() == 0);
    assert!([&one, &two].iter().any(|device| device.log.events("peer_refused").iter().any(|event| said(event, "unknownissuer"))));
    assert!(seed.stop().success());
    assert_eq!(authorities(&seed.data(), "retire").json()["current"]["sha256"], new.as_str());
    seed.run(&[]);

    let third = Device::start(&seed, "third");
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 1 << 20)])]);
    seed.publish("acme/web", &layout);
    seed.start_rollout("acme/web", 1);
    wait::until("the others to get on", || [&one, &two, &third].iter().all(|device| device.holds(&layout.images[0].blobs())));
    wait::until("the devices to be connected", || one.peers() >= 1 && two.peers() >= 1);
}

/// A software module that stands in for hardware, with one token.
struct SoftHsm {
    library: &'static str,
    settings: std::path::PathBuf,
}

impl SoftHsm {
    fn start(folder: &Path) -> Self {
        let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
        let library = places.into_iter().find(|path| Path::new(path).is_file()).expect("softhsm2 brings its module");
        let (tokens, settings) = (folder.join("tokens"), folder.join("softhsm2.conf"));
        fs::create_dir_all(&tokens).expect("a temporary folder can be made");
        fs::write(&settings, format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display()))
            .expect("a temporary file can be written");
        let mut command = Command::new("softhsm2-util");
        command.env("SOFTHSM2_CONF", &settings);
        Outcome::of(command.args(["--init-token", "--free", "--label", "edge", "--so-pin", "1234", "--pin", "4321"])).succeeded();
        Self { library, settings }
    }
}

fn said(event: &Value, word: &str) -> bool {
    event.to_string().to_lowercase().contains(word)
}
