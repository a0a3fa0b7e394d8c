//! The simulation makes the same decisions from the same seed.
//!
//! Not here: whether the decisions are good; the crate `simulation` tests that.

use serde_json::Value;
use tests::process::Outcome;
use tests::program;

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
