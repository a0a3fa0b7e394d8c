//! Rollouts: step by step, paused, aborted, taken back; and what a device does when a version does not start.
//!
//! Not here: who is in which group; see `fleet`.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::device::Device;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

/// A seed with so many published versions of acme/web.
fn seed_with(versions: u64) -> (Seed, Vec<Layout>) {
    let seed = Seed::start();
    let publish = |number: u64| {
        let layout =
            Layout::write(&seed.scratch(&format!("image-{number}")), &number.to_string(), &[("amd64", &[&Layer::random(number, 9_000)])]);
        assert_eq!(seed.publish("acme/web", &layout), number);
        layout
    };
    let layouts = (1..=versions).map(publish).collect();
    (seed, layouts)
}

/// A device that starts versions by a hook: it notes each start in a file, and fails where this shell test holds.
struct Kiosk {
    device: Device,
    started: PathBuf,
    hook: String,
}

impl Kiosk {
    fn start(seed: &Seed, name: &str, fails: &str) -> Self {
        let started = seed.scratch(&format!("started-{name}"));
        let note = format!("echo $HEDGEROW_VERSION >> {}", started.display());
        let hook = format!("{note}; if {fails}; then echo the port is taken >&2; exit 1; fi; test -s \"$HEDGEROW_MANIFEST_PATH\"");
        let mut kiosk = Self { device: Device::enrol(seed, &seed.org(), name), started, hook };
        kiosk.run();
        kiosk
    }

    fn run(&mut self) {
        self.device.run(&["--activate-hook", &self.hook]);
    }

    fn starts(&self) -> Vec<String> {
        fs::read_to_string(&self.started).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn start(seed: &Seed, version: &str, flags: &[&str]) -> Value {
    let mut arguments = vec!["rollout", "start", "acme/web", "--version", version, "--group", "all", "--json"];
    arguments.extend(flags);
    seed.run_operator(&arguments).json()
}

fn await_devices(seed: &Seed, state: &str, count: u64) -> Value {
    wait::eventually(&format!("{count} devices to be {state}"), || {
        let status = seed.rollout("acme/web");
        (status["devices"][state] == count).then_some(status)
    })
}

fn await_state(seed: &Seed, state: &str) -> Value {
    wait::eventually(&format!("the rollout to be {state}"), || {
        let status = seed.rollout("acme/web");
        (status["state"] == state).then_some(status)
    })
}

#[test]
fn devices_fetch_at_once_and_start_step_by_step_and_a_pause_stops_the_clock() {
    let (seed, layouts) = seed_with(2);
    let kiosks = ["one", "two"].map(|name| Kiosk::start(&seed, name, "false"));
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 2);

    start(&seed, "2", &["--steps", "0%,4s,100%"]);
    let paused = seed.run_operator(&["rollout", "pause", "acme/web", "--json"]).json();
    assert_eq!(paused["state"], "paused", "{paused}");
    await_devices(&seed, "waiting", 2);
    assert!(kiosks.iter().all(|kiosk| kiosk.device.holds(&layouts[1].images[0].blobs())), "they fetched it already");
    let nobody_starts = || kiosks.iter().all(|kiosk| kiosk.starts() == ["1"]);
    wait::throughout(Duration::from_secs(6), "nobody starts during a pause", nobody_starts);

    let resumed = seed.run_operator(&["rollout", "resume", "acme/web", "--json"]).json();
    assert_eq!(resumed["state"], "running", "{resumed}");
    seed.await_done("acme/web", 2);
    assert!(kiosks.iter().all(|kiosk| kiosk.starts() == ["1", "2"]), "{:?}", kiosks.map(|kiosk| kiosk.starts()));
    let listed = seed.run_operator(&["rollout", "list", "acme/web", "--json"]).json();
    wait::until("the rollout to be done for good", || {
        let listed = seed.run_operator(&["rollout", "list", "acme/web", "--json"]).json();
        listed["rollouts"][1]["state"] == "done"
    });
    assert_eq!(listed["rollouts"][0]["version"], 1, "{listed}");
}

#[test]
fn a_grant_decides_on_a_device_that_cannot_ask_until_the_seed_is_heard_again() {
    let (mut seed, _layouts) = seed_with(2);
    let mut kiosk = Kiosk::start(&seed, "one", "false");
    for version in 1..=2 {
        seed.start_rollout("acme/web", version);
        seed.await_done("acme/web", 1);
        await_devices(&seed, "healthy", 1);
    }
    let grant = |device: &str, file: &str| {
        let file = seed.scratch(file);
        let arguments = ["app", "grant", "acme/web", "--version", "1", "--device", device, "--json", "--out"];
        seed.run_operator(&[&arguments[..], &[file.to_str().unwrap()]].concat()).json();
        file
    };
    let (older, newer, other) = (grant("one", "older"), grant("one", "newer"), grant("two", "other"));
    let data = kiosk.device.data();
    let apply = |file: &PathBuf| Outcome::of(program::hedgerow().args(["device", "grant", "--json", "--data"]).arg(&data).arg(file));
    assert!(apply(&newer).failed().contains("allows no grants"));
    seed.run_operator(&["trust", "set", "acme", "--grants", "allow", "--json"]).json();
    let root = data.join("trust/root.json");
    wait::until("the device to have the new root", || fs::read_to_string(&root).is_ok_and(|root| root.contains("\"grants\":true")));

    assert!(seed.stop().success());
    assert!(apply(&other).failed().contains("another device"));
    assert_eq!(apply(&newer).json()["version"], 1);
    wait::until("the granted version to start", || kiosk.starts() == ["1", "2", "1"]);
    assert!(apply(&older).failed().contains("accepted before"));
    assert!(kiosk.device.stop().success());
    kiosk.run();
    wait::throughout(Duration::from_secs(4), "it stays after a restart", || kiosk.starts() == ["1", "2", "1"]);

    seed.run(&[]);
    wait::until("the seed's word to count again", || kiosk.starts() == ["1", "2", "1", "2"]);
    assert_eq!(kiosk.device.log.events("grants_ended").len(), 1);
}

#[test]
fn failures_abort_a_rollout_and_the_devices_go_back_by_themselves() {
    let (seed, _layouts) = seed_with(3);
    let kiosks = ["one", "two"].map(|name| Kiosk::start(&seed, name, "[ $HEDGEROW_VERSION = 2 ]"));
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 2);

    start(&seed, "2", &["--max-failures", "20%"]);
    let aborted = await_state(&seed, "aborted");
    assert!(aborted["reason"].as_str().is_some_and(|reason| reason.contains("the port is taken")), "{aborted}");
    let back = await_devices(&seed, "rolled_back", 2);
    assert_eq!(back["failures"]["the port is taken"], 2, "{back}");
    let text = seed.run_operator(&["rollout", "status", "acme/web"]).succeeded().stdout;
    assert!(text.contains("aborted") && text.contains("the port is taken"), "{text}");
    for kiosk in &kiosks {
        assert_eq!(kiosk.starts(), ["1", "2", "1"], "the failed version is tried once");
    }
    let shown = seed.run_operator(&["fleet", "show", "one", "--org", "acme", "--json"]).json();
    assert_eq!((&shown["apps"]["web"]["running"], &shown["apps"]["web"]["state"]), (&1.into(), &"rolled_back".into()), "{shown}");

    start(&seed, "3", &[]);
    seed.await_done("acme/web", 2);
}

#[test]
fn a_second_rollout_of_an_app_is_refused_while_one_is_open_and_says_what_to_do() {
    let (seed, _layouts) = seed_with(3);
    let _kiosk = Kiosk::start(&seed, "one", "false");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    let first = start(&seed, "2", &["--steps", "0%,1h,100%"]);
    let again = start(&seed, "2", &["--steps", "0%,1h,100%"]);
    assert_eq!(first["rollout"], again["rollout"], "the same start again is the same rollout");
    let refused = seed.run_operator(&["rollout", "start", "acme/web", "--version", "3", "--group", "all"]).failed();
    assert!(refused.contains("hedgerow rollout abort acme/web --group all"), "{refused}");
    let aborted = seed.run_operator(&["rollout", "abort", "acme/web", "--reason", "wrong day", "--json"]).json();
    assert_eq!((&aborted["state"], &aborted["reason"]), (&"aborted".into(), &"wrong day".into()), "{aborted}");
    let refused = seed.run_operator(&["rollout", "resume", "acme/web"]).failed();
    assert!(refused.contains("aborted"), "{refused}");
    let third = start(&seed, "3", &[]);
    assert_eq!(third["before"], 1, "what was aborted is no version to go back to: {third}");
    seed.await_done("acme/web", 1);
}

#[test]
fn a_rollout_is_taken_back_to_the_version_before() {
    let (seed, _layouts) = seed_with(2);
    let kiosk = Kiosk::start(&seed, "one", "false");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    let refused = seed.run_operator(&["rollout", "rollback", "acme/web"]).failed();
    assert!(refused.contains("no version"), "{refused}");
    start(&seed, "2", &[]);
    seed.await_done("acme/web", 1);
    let back = seed.run_operator(&["rollout", "rollback", "acme/web", "--json"]).json();
    assert_eq!(back["version"], 1, "{back}");
    seed.await_done("acme/web", 1);
    assert_eq!(kiosk.starts(), ["1", "2", "1"]);
    let listed = seed.run_operator(&["rollout", "list", "acme/web", "--json"]).json();
    assert_eq!(listed["rollouts"][1]["state"], "rolled_back", "{listed}");
}

#[test]
fn what_is_only_fetched_starts_when_the_rollout_is_resumed() {
    let (seed, layouts) = seed_with(1);
    let kiosk = Kiosk::start(&seed, "one", "false");
    let pending = start(&seed, "1", &["--prefetch-only"]);
    assert_eq!(pending["state"], "pending", "{pending}");
    await_devices(&seed, "waiting", 1);
    assert!(kiosk.device.holds(&layouts[0].images[0].blobs()) && kiosk.starts().is_empty());
    seed.run_operator(&["rollout", "resume", "acme/web"]).succeeded();
    seed.await_done("acme/web", 1);
    assert_eq!(kiosk.starts(), ["1"]);
}

#[test]
fn silence_after_the_deadline_is_failure() {
    let (seed, _layouts) = seed_with(1);
    let _absent = Device::enrol(&seed, &seed.org(), "absent");
    start(&seed, "1", &["--silence", "1s", "--max-failures", "0%"]);
    let aborted = await_state(&seed, "aborted");
    assert!(aborted["reason"].as_str().is_some_and(|reason| reason.contains("no word")), "{aborted}");
}

#[test]
fn a_device_that_is_killed_while_a_version_starts_starts_it_again_or_goes_back() {
    let (mut seed, _layouts) = seed_with(2);
    let blocked = seed.scratch("blocked");
    let wait_there =
        format!("[ $HEDGEROW_VERSION = 2 ] && while [ -e {} ]; do sleep 0.05; done; [ $HEDGEROW_VERSION = 2 ]", blocked.display());
    let mut kiosk = Kiosk::start(&seed, "one", &wait_there);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);

    fs::write(&blocked, "").unwrap();
    start(&seed, "2", &[]);
    wait::until("version 2 to be starting", || kiosk.starts() == ["1", "2"]);
    kiosk.device.kill();
    // Without the seed the device knows what it was doing from its own disk.
    seed.kill();
    kiosk.run();
    wait::until("version 2 to be started again", || kiosk.starts() == ["1", "2", "2"]);
    kiosk.device.kill();
    fs::remove_file(&blocked).unwrap();
    kiosk.run();
    wait::until("the device to go back", || kiosk.starts() == ["1", "2", "2", "2", "1"]);
    seed.run(&[]);
    await_devices(&seed, "rolled_back", 1);
    kiosk.device.kill();
    kiosk.run();
    wait::throughout(Duration::from_secs(3), "nothing is started again", || kiosk.starts().len() == 5);
}

/// Whether the process is gone, or waits for somebody to take note of its end.
fn has_ended(process: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_device_that_is_killed_again_and_again_by_a_version_gives_it_up_and_leaves_nothing_of_it_running() {
    let (seed, _layouts) = seed_with(2);
    let pids = seed.scratch("pids");
    let mut kiosk = Kiosk::start(&seed, "one", "false");
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    kiosk.device.kill();
    let hang = format!("sh -c 'echo $$ >> {}; while echo waiting >&2; do sleep 0.1; done' & wait", pids.display());
    kiosk.hook = format!("echo $HEDGEROW_VERSION >> {}; [ $HEDGEROW_VERSION = 1 ] || {{ {hang}; }}", kiosk.started.display());
    kiosk.run();
    start(&seed, "2", &[]);
    let left = || fs::read_to_string(&pids).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    for tries in 1..=3 {
        wait::until("version 2 to be started", || kiosk.starts().len() == 1 + tries && left().len() == tries);
        let running = left();
        assert!(running[..tries - 1].iter().all(|process| has_ended(process)), "an earlier start still runs: {running:?}");
        assert!(!has_ended(&running[tries - 1]));
        kiosk.device.kill();
        wait::throughout(Duration::from_millis(500), "it outlives the device, also what it writes", || !has_ended(&running[tries - 1]));
        kiosk.run();
    }
    let back = await_devices(&seed, "rolled_back", 1);
    assert!(back["failures"].to_string().contains("stopped 3 times"), "{back}");
    assert_eq!(kiosk.starts(), ["1", "2", "2", "2", "1"]);
    assert!(left().iter().all(|process| has_ended(process)));
}

#[test]
fn a_device_that_is_told_to_stop_ends_the_start_under_way_with_all_that_it_started() {
    let (seed, _layouts) = seed_with(1);
    let pid = seed.scratch("pid");
    let mut device = Device::enrol(&seed, &seed.org(), "one");
    device.run(&["--activate-hook", &format!("sleep 1000 & echo $! > {}; wait", pid.display())]);
    seed.start_rollout("acme/web", 1);
    let started = wait::eventually("the start", || fs::read_to_string(&pid).ok().filter(|pid| pid.ends_with('\n')));
    assert!(device.stop().success());
    wait::until("what it started to end", || has_ended(started.trim()));
}

#[test]
fn a_floor_that_is_signed_while_a_device_waits_for_its_turn_keeps_it_from_starting_what_is_below() {
    let (seed, _layouts) = seed_with(2);
    let kiosk = Kiosk::start(&seed, "one", "false");
    start(&seed, "1", &["--steps", "0%,20s,100%"]);
    await_devices(&seed, "waiting", 1);
    seed.run_operator(&["trust", "renew", "acme", "app:web", "--floor", "2"]).succeeded();
    let failed = await_devices(&seed, "failed", 1);
    assert!(failed["failures"].to_string().contains("below the floor 2"), "{failed}");
    wait::throughout(Duration::from_secs(24), "its turn comes and goes", || kiosk.starts().is_empty());
    start_over(&seed, "2");
    wait::until("the version at the floor to be started", || kiosk.starts() == ["2"]);
}

/// Ends the open rollout and starts another.
fn start_over(seed: &Seed, version: &str) {
    seed.run_operator(&["rollout", "abort", "acme/web"]).succeeded();
    start(seed, version, &[]);
}

#[test]
fn versions_that_are_published_and_rolled_out_at_the_same_time_all_get_through() {
    let seed = Seed::start();
    let apps: Vec<String> = (1..=4).map(|number| format!("acme/app{number}")).collect();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 9_000)])]);
    for app in &apps {
        seed.push(&seed.org(), app, &layout);
    }
    let operator = &seed;
    let at_once = |commands: &[Vec<&str>]| -> Vec<Value> {
        thread::scope(|scope| {
            let running: Vec<_> = commands.iter().map(|command| scope.spawn(move || operator.run_operator(command).json())).collect();
            running.into_iter().map(|running| running.join().unwrap()).collect()
        })
    };
    let tags: Vec<String> = apps.iter().map(|app| format!("{app}:1.0")).collect();
    // Four apps that are new, and two versions of one of them.
    let published = at_once(&tags.iter().chain([&tags[0]]).map(|tag| vec!["app", "publish", tag, "--json"]).collect::<Vec<_>>());
    let mut versions: Vec<u64> = published.iter().map(|published| published["version"].as_u64().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, [1, 1, 1, 1, 2]);
    let start = |app| vec!["rollout", "start", app, "--version", "1", "--group", "all", "--json"];
    at_once(&apps.iter().map(|app| start(app.as_str())).collect::<Vec<_>>());
    for app in &apps {
        assert_eq!(seed.rollout(app)["version"], 1, "{app}");
    }
}
