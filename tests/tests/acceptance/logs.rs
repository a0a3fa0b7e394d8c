//! Who did what is written down: in the access log, in the audit log, and to receivers of webhooks.
//!
//! Not here: hostile text, receivers that fail and disks that are full, which the crate `node` tests.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tests::client::Skopeo;
use tests::http;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::receiver::Receiver;
use tests::seed::{Organisation, Seed};
use tests::wait;

/// After this a line of the audit log is durable, says its documentation.
const DURABLE_AFTER: Duration = Duration::from_millis(1100);

fn audit_text(seed: &Seed) -> String {
    fs::read_to_string(seed.data().join("audit/0000000001.jsonl")).expect("every seed has an audit log")
}

/// The lines of the audit log, each of which carries the hash of the one before.
fn audit(seed: &Seed) -> Vec<Value> {
    let mut previous = "0".repeat(64);
    let mut lines = Vec::new();
    for line in audit_text(seed).lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(value["previous"], previous.as_str(), "{line}");
        previous = hex::encode(Sha256::digest(line));
        lines.push(value);
    }
    lines
}

fn key_id(org: &Organisation) -> String {
    org.access_key.split('_').nth(1).expect("a key is hgk_ID_SECRET").to_owned()
}

fn image(seed: &Seed) -> Layout {
    Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 300_000)])])
}

fn add_settings(seed: &Seed, settings: &str) {
    let file = fs::OpenOptions::new().append(true).open(seed.data().join("seed.toml"));
    file.and_then(|mut file| file.write_all(settings.as_bytes())).expect("settings can be written");
}

#[test]
fn a_push_is_in_both_logs_and_told_to_receivers() {
    if !program::is_there("skopeo") {
        return;
    }
    let (mut seed, receiver) = (Seed::init(), Receiver::start());
    let access_log = seed.scratch("access.log");
    add_settings(&seed, &format!("[[webhooks]]\nurl = \"{}\"\nevents = [\"push\", \"pull\"]\n", receiver.url()));
    seed.run(&["--access-log", access_log.to_str().unwrap()]);
    let layout = image(&seed);
    let org = seed.org();
    let target = format!("{}/acme/web:1.0", seed.host());
    Skopeo::push(&layout.path, "1.0", &target, Some(&format!("anyone:{}", org.access_key))).succeeded();

    let is_push = |event: &Value| event["action"] == "push" && event["target"]["tag"] == "1.0";
    wait::until("the push of the manifest to be told", || receiver.events().iter().any(is_push));
    let events = receiver.events();
    let event = events.iter().find(|event| is_push(event)).unwrap();
    assert_eq!(event["target"]["digest"], layout.digest.as_str());
    assert_eq!(event["target"]["repository"], "acme/web");
    assert_eq!(event["target"]["url"], format!("{}/v2/acme/web/manifests/{}", seed.url(), layout.digest));
    assert_eq!(event["actor"]["name"], key_id(&org).as_str());
    assert_eq!(event["source"]["addr"], seed.host());
    let pushed = |digest: &str| events.iter().any(|event| event["action"] == "push" && event["target"]["digest"] == digest);
    assert!(layout.images[0].blobs().iter().all(|blob| pushed(blob)), "{events:#?}");

    let manifest =
        http::get(&format!("{}/v2/acme/web/manifests/1.0", seed.url()), &[("Authorization", &format!("Bearer {}", org.access_key))]);
    assert_eq!(manifest.status, 200);
    wait::until("the pull to be told", || receiver.events().iter().any(|event| event["action"] == "pull"));
    let pull = receiver.events().into_iter().find(|event| event["action"] == "pull").unwrap();
    assert_eq!(pull["target"]["size"], manifest.body.len());
    assert_eq!(pull["request"]["id"], manifest.header("x-request-id").unwrap());

    seed.stop();
    let lines = audit(&seed);
    let line = lines.iter().find(|line| line["request"] == event["request"]["id"]).unwrap_or_else(|| panic!("{lines:#?}"));
    assert_eq!((&line["action"], &line["outcome"], &line["status"]), (&"manifest.push".into(), &"done".into(), &201.into()));
    assert_eq!(line["who"], serde_json::json!({ "org": "acme", "key": key_id(&org) }));
    assert_eq!(line["target"]["tags"], serde_json::json!(["1.0"]));
    assert_eq!(lines.iter().filter(|line| line["action"] == "blob.push" && line["outcome"] == "done").count(), 2);

    let access = fs::read_to_string(&access_log).unwrap();
    let asked: Vec<Value> = access.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let put = asked.iter().find(|line| line["request"] == event["request"]["id"]).unwrap();
    assert_eq!((&put["method"], &put["status"], &put["key"]), (&"PUT".into(), &201.into(), &key_id(&org).as_str().into()));
    assert_eq!(put["user_agent"], event["request"]["useragent"]);
    let secret = org.access_key.rsplit('_').next().unwrap();
    for text in [access, audit_text(&seed), format!("{events:?}"), fs::read_to_string(seed.log.path()).unwrap()] {
        assert!(!text.contains(secret), "the secret of a key was written down");
    }
}

#[test]
fn a_refused_deletion_is_audited() {
    let mut seed = Seed::start();
    let other = seed.create_org("other");
    let url = format!("{}/v2/acme/web/manifests/1.0", seed.url());
    let stranger = http::send("DELETE", &url, &[("User-Agent", "mallory"), ("X-Request-Id", "trace-1")], &[]);
    assert_eq!((stranger.status, stranger.header("x-request-id")), (401, Some("trace-1")));
    let authorization = format!("Bearer {}", other.access_key);
    let neighbour = http::send("DELETE", &url, &[("Authorization", &authorization)], &[]);
    assert_eq!(neighbour.status, 404);
    seed.stop();
    let lines = audit(&seed);
    let of_request = |id: &str| lines.iter().find(|line| line["request"] == id).unwrap_or_else(|| panic!("{lines:#?}"));
    let line = of_request("trace-1");
    assert_eq!((&line["action"], &line["outcome"], &line["status"]), (&"tag.delete".into(), &"refused".into(), &401.into()));
    assert_eq!((&line["who"], &line["from"]["user_agent"]), (&Value::Null, &"mallory".into()));
    assert_eq!(line["target"], serde_json::json!({ "repository": "acme/web", "tags": ["1.0"] }));
    let line = of_request(neighbour.header("x-request-id").unwrap());
    assert_eq!(
        (&line["status"], &line["who"]["org"], &line["who"]["key"]),
        (&404.into(), &"other".into(), &key_id(&other).as_str().into())
    );
}

#[test]
fn every_change_of_an_operator_is_audited() {
    let mut seed = Seed::start();
    seed.create_org("other");
    let layout = image(&seed);
    seed.publish("acme/web", &layout);
    let device = tests::device::Device::start(&seed, "kiosk");
    seed.start_rollout("acme/web", 1);
    drop(device);
    let made = seed.run_operator(&["key", "create", "--org", "acme", "--scope", "pull,push", "--label", "ci", "--json"]).json();
    let ci = Organisation { name: "acme".to_owned(), access_key: made["access_key"].as_str().unwrap().to_owned() };
    seed.push(&ci, "acme/api", &layout);
    seed.run_operator(&["key", "revoke", &key_id(&ci), "--org", "acme", "--json"]).succeeded();
    seed.run_operator(&["repo", "set", "acme/*", "--immutable", "on", "--json"]).succeeded();
    let version_two = Layout::write(&seed.scratch("image-2"), "2.0", &[("amd64", &[&Layer::random(2, 100_000)])]);
    seed.publish("acme/other", &version_two);
    seed.run_operator(&["app", "retire", "acme/other", "--version", "1", "--json"]).succeeded();
    seed.stop();
    let lines = audit(&seed);
    for (action, org, name) in [
        ("org.create", "other", None),
        ("version.publish", "acme", Some("web v1")),
        ("token.create", "acme", None),
        ("device.enrol", "acme", Some("kiosk")),
        ("rollout.start", "acme", Some("web v1")),
        ("key.create", "acme", Some(format!("{} ci", key_id(&ci)).as_str())),
        ("key.revoke", "acme", Some(key_id(&ci).as_str())),
        ("settings.change", "acme", Some("acme/* {\"immutable\"")),
        ("version.retire", "acme", Some("other v1")),
    ] {
        let line = lines.iter().find(|line| line["action"] == action).unwrap_or_else(|| panic!("no {action}: {lines:#?}"));
        assert_eq!((&line["outcome"], &line["target"]["org"]), (&"done".into(), &org.into()), "{line}");
        let found = line["target"]["name"].as_str();
        assert!(name.is_none_or(|name: &str| found.is_some_and(|found| found.starts_with(name))), "{line}");
    }
    let of_ci = lines.iter().find(|line| line["target"]["repository"] == "acme/api").unwrap();
    assert_eq!(of_ci["who"], serde_json::json!({ "org": "acme", "key": key_id(&ci), "label": "ci" }));
}

#[test]
fn lines_survive_a_kill_and_the_chain_goes_on() {
    let mut seed = Seed::start();
    let layout = image(&seed);
    seed.push(&seed.org(), "acme/web", &layout);
    std::thread::sleep(DURABLE_AFTER);
    seed.kill();
    let before = audit(&seed);
    let pushed = |lines: &[Value], repository: &str| {
        lines.iter().any(|line| line["action"] == "manifest.push" && line["target"]["repository"] == repository)
    };
    assert!(pushed(&before, "acme/web"), "{before:#?}");
    let file = fs::OpenOptions::new().append(true).open(seed.data().join("audit/0000000001.jsonl"));
    file.unwrap().write_all(b"{\"v\":1,\"prev").unwrap();
    seed.run(&[]);
    seed.push(&seed.org(), "acme/api", &layout);
    seed.stop();
    let after = audit(&seed);
    assert_eq!(after[..before.len()], before);
    assert!(pushed(&after, "acme/api"));
}

#[test]
fn the_access_log_can_be_rotated() {
    let mut seed = Seed::init();
    let (path, old) = (seed.scratch("access.log"), seed.scratch("access.log.1"));
    seed.run(&["--access-log", path.to_str().unwrap()]);
    http::get(&format!("{}/before", seed.url()), &[]);
    wait::until("the first line", || fs::read_to_string(&path).unwrap().contains("/before"));
    fs::rename(&path, &old).unwrap();
    Outcome::of(Command::new("kill").args(["-HUP", &seed.process().id().to_string()])).succeeded();
    wait::until("the new file", || path.exists());
    http::get(&format!("{}/after", seed.url()), &[]);
    seed.stop();
    assert!(fs::read_to_string(&path).unwrap().contains("/after"));
    assert!(!fs::read_to_string(&old).unwrap().contains("/after"));
}

#[test]
fn the_settings_of_logs_are_shown_without_secrets() {
    let seed = Seed::init();
    add_settings(&seed, "[logs]\naccess = \"stderr\"\naccess_format = \"combined\"\naudit_files_kept = 3\n");
    add_settings(&seed, "[[webhooks]]\nurl = \"https://ci.example/hook?token=s3cret\"\nheaders = { Authorization = \"Bearer s3cret\" }\n");
    let show = |arguments: &[&str]| {
        let mut command = program::hedgerow();
        Outcome::of(command.args(["config", "show", "--data"]).arg(seed.data()).args(arguments)).succeeded().stdout
    };
    let json: Value = serde_json::from_str(&show(&["--json"])).unwrap();
    assert_eq!((&json["logs"]["access"], &json["logs"]["audit_files_kept"]), (&"stderr".into(), &3.into()));
    assert_eq!(json["webhooks"][0]["headers"]["Authorization"], "***");
    assert_eq!(json["webhooks"][0]["url"], "https://ci.example/hook?***");
    let text = show(&["--access-log", "off"]);
    assert!(text.contains("access = \"off\"") && !text.contains("s3cret"), "{text}");
}
