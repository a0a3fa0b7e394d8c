//! Starting, stopping and recovering, and errors that say what to do.
//!
//! Not here: faults in the middle of a download; see `faults`.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::device::Device;
use tests::http;
use tests::image::{Layer, Layout, digest};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

fn small_image(seed: &Seed, name: &str, tag: &str) -> Layout {
    Layout::write(&seed.scratch(name), tag, &[("amd64", &[&Layer::random(name.len() as u64, 150_000)])])
}

/// Every blob and manifest of the layout, asked for as `docker pull` would.
fn is_in_the_registry(seed: &Seed, repository: &str, layout: &Layout) {
    let authorization = format!("Bearer {}", seed.org().access_key);
    let get = |path: &str| http::get(&format!("{}/v2/{repository}/{path}", seed.url()), &[("Authorization", &authorization)]);
    for image in &layout.images {
        for blob in image.layers.iter().chain([&image.config]) {
            let answer = get(&format!("blobs/{blob}"));
            assert_eq!((answer.status, digest(&answer.body)), (200, blob.clone()));
        }
        assert_eq!(digest(&get(&format!("manifests/{}", image.manifest)).body), image.manifest);
    }
    assert_eq!(digest(&get(&format!("manifests/{}", layout.tag)).body), layout.digest);
}

#[test]
fn a_taken_port_is_an_error_that_names_the_flag_and_the_port() {
    let seed = Seed::start();
    let device = Device::enrol(&seed, &seed.org(), "kiosk");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = ((tcp.local_addr().unwrap().to_string(), tcp), (udp.local_addr().unwrap().to_string(), udp));
    for (flag, address) in [("--endpoint-listen", &tcp.0), ("--metrics-listen", &tcp.0), ("--swarm-listen", &udp.0)] {
        let refused = Outcome::of(&mut device.run_command(&[flag, address])).failed();
        assert!(refused.contains(flag) && refused.contains(address.as_str()), "{refused}");
    }
    let idle = Seed::init();
    let refused = Outcome::of(&mut idle.run_command(&["--metrics-listen", &tcp.0])).failed();
    assert!(refused.contains("--metrics-listen") && refused.contains(&tcp.0), "{refused}");
    for (url, setting) in [(idle.url(), "listen"), (idle.device_url(), "device_listen")] {
        let address = url.split_once("://").unwrap().1;
        let taken = TcpListener::bind(address).unwrap();
        let refused = Outcome::of(&mut idle.run_command(&[])).failed();
        assert!(refused.contains(setting) && refused.contains("seed.toml") && refused.contains(address), "{refused}");
        drop(taken);
    }
}

#[test]
fn a_second_process_on_a_data_directory_is_told_by_whom_it_is_used() {
    let mut seed = Seed::start();
    let mut device = Device::start(&seed, "kiosk");
    let seed_id = seed.process().id();
    let refused = Outcome::of(&mut seed.run_command(&[])).failed();
    assert!(refused.contains(&format!("process {seed_id}")) && refused.contains(&seed.data().display().to_string()), "{refused}");
    let device_id = device.process().id();
    let refused = Outcome::of(&mut device.run_command(&[])).failed();
    assert!(refused.contains(&format!("process {device_id}")), "{refused}");
    assert!(seed.process().is_running() && device.process().is_running());

    device.kill();
    device.run(&[]);
    assert!(device.stop().success());
}

#[test]
fn an_unknown_key_in_a_file_of_settings_is_refused_with_its_place() {
    let seed = Seed::init();
    let file = seed.data().join("seed.toml");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{settings}\n  egres_mbit = 5\n")).unwrap();
    let line = settings.lines().count() + 2;
    let refused = Outcome::of(&mut seed.run_command(&[])).failed();
    assert!(refused.contains(&format!("{}:{line}:3: ", file.display())) && refused.contains("egres_mbit"), "{refused}");

    fs::write(&file, settings).unwrap();
    let mut seed = seed;
    seed.run(&[]);
    let device = Device::enrol(&seed, &seed.org(), "kiosk");
    let file = device.data().join("config.toml");
    fs::write(&file, "site = \"roof\"\npol_seconds = 5\n").unwrap();
    let mut show = program::hedgerow();
    show.args(["config", "show", "--data"]).arg(device.data());
    for mut command in [device.run_command(&[]), show] {
        let refused = Outcome::of(&mut command).failed();
        assert!(refused.contains(&format!("{}:2:1: ", file.display())) && refused.contains("pol_seconds"), "{refused}");
    }
    fs::write(&file, "poll_seconds = \"often\"\n").unwrap();
    let refused = Outcome::of(&mut device.run_command(&[])).failed();
    assert!(refused.contains(&format!("{}:1:16: ", file.display())), "{refused}");
}

#[test]
fn an_empty_environment_variable_is_unset() {
    let mut seed = Seed::init();
    let empty = |mut command: Command, names: &[&str]| {
        for name in names.iter().chain(&["LOG", "LOG_FORMAT"]) {
            command.env(format!("HEDGEROW_{name}"), "");
        }
        command
    };
    let mut show = program::hedgerow();
    show.args(["config", "show", "--json", "--data"]).arg(seed.data());
    let mut show = empty(show, &["CONFIG", "EGRESS_MBIT", "METRICS_LISTEN"]);
    assert_eq!(Outcome::of(&mut show).json()["egress_mbit"], Value::Null);

    let run = empty(seed.run_command(&[]), &["CONFIG", "EGRESS_MBIT", "METRICS_LISTEN", "DATA"]);
    seed.run_as(run);
    let mut ask = program::hedgerow();
    ask.args(["app", "versions", "acme/web", "--json", "--url", seed.url(), "--access-key", &seed.org().access_key]);
    assert_eq!(Outcome::of(&mut empty(ask, &["CA_FILE", "URL", "ACCESS_KEY", "KEYS"])).json()["versions"], json!([]));

    let mut device = Device::enrol(&seed, &seed.org(), "kiosk");
    let names = ["CONFIG", "ENDPOINT_LISTEN", "SWARM_LISTEN", "METRICS_LISTEN", "PEERS", "POLL_SECONDS", "SITE", "DATA", "TOKEN"];
    let run = empty(device.run_command(&[]), &names);
    device.run_as(run);

    let mut missing = program::hedgerow();
    missing.args(["app", "versions", "acme/web"]);
    Outcome::of(&mut empty(missing, &["URL", "ACCESS_KEY"])).exited_with(2);
}

#[test]
fn output_for_programs_is_the_same_by_either_flag() {
    let seed = Seed::start();
    seed.publish("acme/web", &small_image(&seed, "first", "1.0"));
    let by = |flags: &[&str]| seed.run_operator(&[&["app", "versions", "acme/web"], flags].concat()).json();
    assert_eq!(by(&["--json"]), by(&["--output", "json"]));
    let text = seed.run_operator(&["app", "versions", "acme/web"]).succeeded().stdout;
    assert!(text.contains("linux-amd64") && serde_json::from_str::<Value>(&text).is_err(), "{text}");
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["nonsense"] as &[&str],
        &["seed", "init"],
        &["seed", "run", "--data", "x", "--no-such-flag"],
        &["device", "run"],
        &["rollout", "start", "acme/web", "--version", "one", "--group", "all"],
        &["app", "publish", "no-tag", "--url", "http://127.0.0.1:1", "--access-key", "x", "--keys", "y"],
        &["demo", "--devices", "0"],
    ] {
        let refused = Outcome::of(program::hedgerow().args(arguments)).exited_with(2);
        assert!(refused.stderr.contains("--help"), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stdout.is_empty(), "{arguments:?}: {}", refused.stdout);
    }
}

#[test]
fn a_seed_that_is_not_there_is_an_error_that_says_where_it_was_looked_for() {
    let mut seed = Seed::start();
    let token = seed.token(&seed.org());
    assert!(seed.stop().success());
    let refused = seed.run_operator(&["rollout", "status", "acme/web"]).failed();
    assert!(refused.contains(seed.url()), "{refused}");
    let refused = Outcome::of(&mut Device::unknown("kiosk").enrol_command(&token)).failed();
    assert!(refused.contains(seed.device_url()), "{refused}");
}

#[test]
fn a_number_that_is_taken_is_a_conflict_that_says_which_is_next() {
    let seed = Seed::start();
    seed.publish("acme/web", &small_image(&seed, "first", "1.0"));
    let second = small_image(&seed, "second", "2.0");
    seed.push(&seed.org(), "acme/web", &second);
    for number in ["1", "3", "0"] {
        let refused = seed.run_operator(&["app", "publish", "acme/web:2.0", "--number", number, "--json"]).failed();
        assert!(refused.contains("next") && refused.contains('2'), "--number {number}: {refused}");
    }
    let published = seed.run_operator(&["app", "publish", "acme/web:2.0", "--number", "2", "--json"]).json();
    assert_eq!(published["version"], 2);
    let versions = seed.run_operator(&["app", "versions", "acme/web", "--json"]).json();
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2), "{versions}");
}

#[test]
fn a_tag_that_names_another_digest_than_the_operator_states_is_not_signed() {
    let seed = Seed::start();
    seed.push(&seed.org(), "acme/web", &small_image(&seed, "first", "1.0"));
    let other = format!("sha256:{}", "0".repeat(64));
    let refused = seed.run_operator(&["app", "publish", &format!("acme/web:1.0@{other}")]).failed();
    assert!(refused.contains(&other) && refused.contains("nothing was signed"), "{refused}");
    let published = seed.run_operator(&["app", "publish", "acme/web:1.0", "--json"]).json();
    let digest = published["digest"].as_str().unwrap();
    let again = seed.run_operator(&["app", "publish", &format!("acme/web:1.0@{digest}"), "--json"]).json();
    assert_eq!((&again["version"], &again["digest"]), (&2.into(), &published["digest"]));
}

#[test]
fn what_does_not_exist_is_an_error_that_says_so() {
    let seed = Seed::start();
    seed.publish("acme/web", &small_image(&seed, "first", "1.0"));
    let fails = |arguments: &[&str]| seed.run_operator(arguments).failed();
    let start = |app: &str, version: &str, group: &str| fails(&["rollout", "start", app, "--version", version, "--group", group]);
    assert!(start("acme/web", "2", "all").contains("no version 2"));
    assert!(start("acme/nothing", "1", "all").contains("acme/nothing has no version 1"));
    assert!(start("acme/web", "1", "roof").contains("roof"));
    assert!(fails(&["rollout", "status", "acme/web"]).contains("no rollout"));
    assert!(fails(&["app", "publish", "acme/web:9.9"]).contains("acme/web:9.9"));
    assert!(fails(&["org", "create", "acme"]).contains("acme"));
}

#[test]
fn what_the_seed_acknowledged_survives_its_being_killed() {
    let mut seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 3 << 20), &Layer::random(2, 9_000)])]);
    seed.push(&seed.org(), "acme/web", &layout);
    seed.kill();
    seed.run(&[]);
    is_in_the_registry(&seed, "acme/web", &layout);

    let token = seed.token(&seed.org());
    assert_eq!(seed.run_operator(&["app", "publish", "acme/web:1.0", "--json"]).json()["version"], 1);
    seed.start_rollout("acme/web", 1);
    seed.kill();
    seed.run(&[]);
    assert_eq!(seed.rollout("acme/web")["version"], 1);
    let mut device = Device::unknown("kiosk");
    Outcome::of(&mut device.enrol_command(&token)).json();
    seed.kill();
    seed.run(&[]);
    device.run(&[]);
    seed.await_done("acme/web", 1);
}

#[test]
fn a_seed_whose_index_is_gone_knows_all_it_knew() {
    let mut seed = Seed::start();
    let first = small_image(&seed, "first", "1.0");
    seed.publish("acme/web", &first);
    let device = Device::start(&seed, "kiosk");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    let versions = seed.run_operator(&["app", "versions", "acme/web", "--json"]).json();
    let status = seed.rollout("acme/web");

    for stop in [true, false] {
        if stop {
            assert!(seed.stop().success());
        } else {
            seed.kill();
        }
        fs::remove_dir_all(seed.data().join("index")).unwrap();
        seed.run(&[]);
        is_in_the_registry(&seed, "acme/web", &first);
        assert_eq!(seed.run_operator(&["app", "versions", "acme/web", "--json"]).json(), versions);
        assert_eq!(seed.rollout("acme/web"), status);
    }
    assert!(seed.data().join("index").is_dir());

    assert_eq!(seed.publish("acme/web", &small_image(&seed, "second", "2.0")), 2);
    seed.start_rollout("acme/web", 2);
    seed.await_done("acme/web", 1);
    assert!(device.log.events("state_refused").is_empty());
}

#[test]
fn a_seed_that_is_told_to_stop_finishes_what_is_under_way() {
    let mut seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 32 << 20)])]);
    seed.push(&seed.org(), "acme/web", &layout);
    let layer = &layout.images[0].layers[0];
    let size = layout.blob(layer).len();
    let authorization = format!("Bearer {}", seed.org().access_key);
    let url = format!("{}/v2/acme/web/blobs/{layer}", seed.url());
    let mut answer = http::begin("GET", &url, &[("Authorization", &authorization)], &[]);
    assert_eq!(answer.status, 200);
    let mut content = vec![0; size];
    let (early, late) = content.split_at_mut(1 << 20);
    answer.body.read_exact(early).unwrap();

    seed.process().terminate();
    wait::until("the seed to take no more connections", || TcpStream::connect(seed.host()).is_err());
    thread::sleep(Duration::from_millis(500));
    assert!(seed.process().is_running(), "the seed did not wait for its client");
    answer.body.read_exact(late).unwrap();
    assert_eq!(digest(&content), *layer);
    assert!(seed.process().wait().success());
}

#[test]
fn an_idle_seed_and_an_idle_device_stop_at_once() {
    let mut seed = Seed::start();
    let mut device = Device::start(&seed, "kiosk");
    wait::until("the device to have asked the seed", || seed.metric("hedgerow_seed_polls_total") > 0);
    assert!(device.stop().success());
    assert!(seed.stop().success());
}

#[test]
fn every_node_says_that_it_is_healthy_apart_from_what_it_serves() {
    let seed = Seed::start();
    let device = Device::start(&seed, "kiosk");
    for (ready, served) in [(&seed.ready, seed.url()), (&device.ready, device.endpoint_url())] {
        let metrics = ready["metrics_url"].as_str().unwrap();
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(http::get(&metrics.replace("/metrics", path), &[]).status, 200, "{path}");
            assert_ne!(http::get(&format!("{served}{path}"), &[]).status, 200, "{path} on {served}");
        }
    }
}

#[test]
fn the_local_registry_answers_local_names_alone_and_takes_no_pushes() {
    let seed = Seed::start();
    let device = Device::start(&seed, "kiosk");
    let host = |name: &str| {
        let outcome = http::send_as("GET", device.endpoint_url(), &format!("{name}:8080"), "/v2/");
        (name.to_owned(), outcome.status)
    };
    for name in ["containers.local", "localhost", "127.0.0.1"] {
        assert_eq!(host(name), (name.to_owned(), 200));
    }
    assert_eq!(host("evil.example"), ("evil.example".to_owned(), 421));
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = http::send(method, &format!("{}/v2/acme/web/blobs/uploads/", device.endpoint_url()), &[], &[]);
        assert_eq!(answer.status, 405, "{method}");
    }
}
