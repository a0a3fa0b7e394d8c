//! Who holds which keys, and which tokens enrol a device.
//!
//! Not here: what an enrolled device may do; see `swarm`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use tests::device::Device;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;

const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";
/// The last bytes of an ed25519 key in PKCS#8 are the secret itself.
const SECRET_BYTES: usize = 32;

fn files_below(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.is_file() {
            let content = fs::read(&path).expect("the file can be read");
            found.insert(path, content);
        }
    }
    found
}

fn contains(content: &[u8], wanted: &[u8]) -> bool {
    content.windows(wanted.len()).any(|window| window == wanted)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
}

#[test]
fn no_key_of_an_operator_is_below_the_data_directory_of_the_seed() {
    let mut seed = Seed::start();
    let other = seed.create_org("other");
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 100_000)])]);
    seed.publish("acme/web", &layout);
    seed.token(&other);
    assert!(seed.stop().success());

    let stored = files_below(&seed.data());
    let keys = files_below(&seed.keys());
    let private: Vec<_> = keys.iter().filter(|(_, content)| contains(content, PRIVATE_KEY)).collect();
    assert_eq!(private.len(), 6, "root, targets and app key of two organisations: {:?}", keys.keys());
    for (path, pem) in private {
        assert_eq!(mode(path), 0o600, "{}", path.display());
        let pem = String::from_utf8(pem.clone()).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(&body).unwrap();
        let secret = &der[der.len() - SECRET_BYTES..];
        for form in [body.as_bytes(), secret, hex::encode(secret).as_bytes(), STANDARD.encode(secret).trim_end_matches('=').as_bytes()] {
            let found = stored.iter().find(|(_, content)| contains(content, form));
            assert!(found.is_none(), "{} is in {}", path.display(), found.unwrap().0.display());
        }
    }

    let own: Vec<_> = stored.iter().filter(|(_, content)| contains(content, PRIVATE_KEY)).map(|(path, _)| path).collect();
    assert_eq!(own.len(), 2, "the seed's own keys are those of its CA and of its desired states: {own:?}");
    for path in own {
        assert_eq!((path.parent(), mode(path)), (Some(seed.data().join("keys").as_path()), 0o600), "{}", path.display());
    }
    for secret in [&seed.org().access_key, &other.access_key] {
        let found = stored.iter().find(|(_, content)| contains(content, secret.as_bytes()));
        assert!(found.is_none(), "an access key is in {}", found.unwrap().0.display());
        assert!(!seed.log.text().contains(secret.as_str()), "an access key is in the log");
    }
    assert_eq!((mode(&seed.data()), mode(&seed.keys())), (0o700, 0o700));
}

#[test]
fn a_seed_is_not_made_with_the_keys_below_its_data_directory() {
    let home = tempfile::tempdir().unwrap();
    let (data, link) = (home.path().join("data"), home.path().join("link"));
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink(&data, &link).unwrap();
    for keys in [data.clone(), data.join("operator"), data.join("a/../b"), link.join("operator")] {
        let mut command = program::hedgerow();
        command.args(["seed", "init", "--org", "acme", "--listen", "127.0.0.1:0", "--device-listen", "127.0.0.1:0", "--json"]);
        let refused = Outcome::of(command.arg("--data").arg(&data).arg("--keys").arg(&keys)).failed();
        assert!(refused.contains("--keys") && refused.contains("--data"), "{refused}");
        let left = files_below(&data);
        assert!(left.values().all(|content| !contains(content, PRIVATE_KEY)), "keys were made: {:?}", left.keys());
        assert!(!data.join("seed.toml").exists());
    }
}

#[test]
fn the_key_of_a_device_is_made_on_it_and_only_its_owner_may_read_it() {
    let seed = Seed::start();
    let device = Device::enrol(&seed, &seed.org(), "kiosk");
    let private: Vec<_> = files_below(&device.data()).into_iter().filter(|(_, content)| contains(content, PRIVATE_KEY)).collect();
    let [(path, pem)] = private.as_slice() else { panic!("a device has one private key: {private:?}") };
    assert_eq!((mode(path), mode(&device.data())), (0o600, 0o700));
    let body = pem.split(|byte| *byte == b'\n').nth(1).unwrap();
    assert!(files_below(&seed.data()).values().all(|content| !contains(content, body)), "the seed has the device's key");
}

#[test]
fn a_token_enrols_one_device_once() {
    let seed = Seed::start();
    let token = seed.token(&seed.org());
    let first = Device::unknown("first");
    Outcome::of(&mut first.enrol_command(&token)).json();

    let second = Device::unknown("second");
    let refused = Outcome::of(&mut second.enrol_command(&token)).failed();
    assert!(refused.contains("token") && refused.contains("used"), "{refused}");
    let not_enrolled = Outcome::of(&mut second.run_command(&[])).failed();
    assert!(not_enrolled.contains("device enroll"), "{not_enrolled}");

    let again = Outcome::of(&mut first.enrol_command(&seed.token(&seed.org()))).failed();
    assert!(again.contains("already"), "{again}");
    assert_eq!(seed.metric("hedgerow_seed_enrolments_total"), 1);
}

#[test]
fn an_expired_token_enrols_nobody() {
    let seed = Seed::start();
    let made = seed.run_operator(&["fleet", "token", "--org", "acme", "--lifetime-seconds", "1", "--json"]).json();
    thread::sleep(Duration::from_secs(2));
    let refused = Outcome::of(&mut Device::unknown("late").enrol_command(made["token"].as_str().unwrap())).failed();
    assert!(refused.contains("expired"), "{refused}");
}

#[test]
fn a_text_that_is_no_token_enrols_nobody_and_is_not_repeated_in_the_error() {
    let seed = Seed::start();
    let token = seed.token(&seed.org());
    for wrong in ["secret-text", "hgt1_", "hgt1_c2VjcmV0LXRleHQ", &token[..token.len() - 8], &token[1..]] {
        let refused = Outcome::of(&mut Device::unknown("kiosk").enrol_command(wrong)).failed();
        assert!(refused.contains("token"), "{wrong}: {refused}");
        assert!(!refused.contains(wrong), "{refused}");
    }
    let mut forged = decode(&token);
    forged["secret"] = "00".repeat(32).into();
    let refused = Outcome::of(&mut Device::unknown("kiosk").enrol_command(&encode(&forged))).failed();
    assert!(refused.contains("token"), "{refused}");
    assert_eq!(seed.metric("hedgerow_seed_enrolments_total"), 0);
}

#[test]
fn a_device_refuses_a_seed_whose_root_or_ca_is_not_the_one_in_its_token() {
    let seed = Seed::start();
    for (field, reason) in [("root_sha256", "root of trust"), ("ca_sha256", "")] {
        let mut forged = decode(&seed.token(&seed.org()));
        assert!(forged[field].is_string(), "{forged}");
        forged[field] = format!("sha256:{}", "0".repeat(64)).into();
        let device = Device::unknown("wary");
        let refused = Outcome::of(&mut device.enrol_command(&encode(&forged))).failed();
        assert!(refused.contains(reason), "{field}: {refused}");
        let not_enrolled = Outcome::of(&mut device.run_command(&[])).failed();
        assert!(not_enrolled.contains("device enroll"), "{not_enrolled}");
    }
}

#[test]
fn a_token_that_is_older_than_the_newest_root_enrols_a_device_that_begins_with_that_one() {
    let seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 1_000)])]);
    seed.publish("acme/web", &layout);
    let token = seed.token(&seed.org());
    seed.run_operator(&["trust", "rotate", "acme", "root", "--json"]).json();
    seed.run_operator(&["trust", "set", "acme", "--raise-epoch", "--json"]).json();
    let mut device = Device::unknown("late");
    Outcome::of(device.enrol_command(&token).args(["--platform", "linux-amd64"])).json();
    let kept: Value = serde_json::from_slice(&fs::read(device.data().join("root.json")).unwrap()).unwrap();
    assert_eq!((&kept["signed"]["version"], &kept["signed"]["x-hedgerow"]["online"]["epoch"]), (&3.into(), &2.into()));
    device.run(&[]);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
}

fn decode(token: &str) -> Value {
    let encoded = token.strip_prefix("hgt1_").expect("a token begins so");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).expect("a token is base64")).expect("a token is JSON")
}

fn encode(token: &Value) -> String {
    format!("hgt1_{}", URL_SAFE_NO_PAD.encode(token.to_string()))
}
