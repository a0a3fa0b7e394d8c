//! The simulation makes the same decisions from the same seed, and those that a real device made.
//!
//! Not here: whether the decisions are good; the crate `simulation` tests that.

use serde_json::Value;
use tests::device::Device;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

fn run(seed: &str, threads: &str, more: &[&str]) -> Value {
    let mut command = program::simulation();
    command.args(["run", "--devices", "60", "--sites", "6", "--pieces", "64", "--seed", seed, "--threads", threads, "--json"]);
    Outcome::of(command.args(more)).json()
}

fn decisions(report: &Value) -> &str {
    report["digest"].as_str().filter(|digest| digest.len() >= 32).unwrap_or_else(|| panic!("a report names its decisions: {report}"))
}

#[test]
fn the_same_seed_gives_the_same_decisions_on_one_thread_and_on_two() {
    let first = run("7", "1", &[]);
    assert_eq!((&first["devices"], &first["sites"], &first["pieces"]), (&60.into(), &6.into(), &64.into()), "{first}");
    assert!(first["wan_copies"]["max"].as_f64().is_some_and(|copies| copies >= 1.0), "{first}");
    assert!(first["events"].as_u64().is_some_and(|events| events > 0), "{first}");
    for threads in ["1", "2"] {
        assert_eq!(decisions(&run("7", threads, &[])), decisions(&first), "on {threads} threads");
    }
}

#[test]
fn another_seed_and_a_killed_device_give_other_decisions() {
    let first = run("7", "2", &[]);
    assert_ne!(decisions(&run("8", "2", &[])), decisions(&first));
    assert_ne!(decisions(&run("7", "2", &["--kill", "0:1@1500"])), decisions(&first));
}

#[test]
fn a_simulation_with_nonsense_for_numbers_is_wrong_usage() {
    Outcome::of(program::simulation().args(["run", "--devices", "many"])).exited_with(2);
}

#[test]
fn what_devices_decided_is_decided_again_when_their_recordings_are_replayed() {
    let seed = Seed::start();
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 4 << 20)])]);
    seed.publish("acme/web", &layout);
    let recordings = seed.scratch("recordings");
    std::fs::create_dir_all(&recordings).unwrap();
    let [first, second] = ["first", "second"].map(|name| recordings.join(name));
    let [mut one, mut two] = ["one", "two"].map(|name| Device::enrol(&seed, &seed.org(), name));
    one.run(&["--record", first.to_str().unwrap()]);
    two.run(&["--peer", one.swarm_addr(), "--record", second.to_str().unwrap()]);
    wait::until("the devices to be connected", || one.peers() == 1 && two.peers() == 1);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 2);
    assert!(one.stop().success());
    two.kill();
    for (recording, was_killed) in [(&first, false), (&second, true)] {
        let replayed = Outcome::of(program::simulation().args(["replay", "--json"]).arg(recording)).json();
        let count = |key: &str| replayed[key].as_u64().unwrap();
        assert!(count("inputs") > 64 && count("effects") > 20 && count("timeouts") > 0, "{replayed}");
        assert!(was_killed || replayed["cut"] == false, "{replayed}");
    }
    let cut = std::fs::read(&first).unwrap();
    std::fs::write(&first, &cut[1..]).unwrap();
    Outcome::of(program::simulation().arg("replay").arg(&first)).exited_with(1);
}
