//! Correctness mode: runs hold, come out the same however they are run, and each bug that is put in is found.

use std::num::NonZeroUsize;
use std::process::Command;

use simulation::correctness::batch::{Batch, check};
use simulation::correctness::{SeededBug, run};

/// More than the goal asks for is never looked at.
const SEEDS_MAX: u64 = 10_000;

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("more than none")
}

fn batch(seeds: std::ops::Range<u64>, on: usize) -> Batch {
    check(seeds, None, threads(on), false, &|_| {})
}

#[test]
fn the_same_seeds_give_the_same_decisions_in_every_run_and_on_any_number_of_threads() {
    let digests: Vec<String> = [1, 2, 8, 1].map(|on| batch(100..140, on).digest).into();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    assert_ne!(digests[0], batch(101..141, 2).digest);
}

#[test]
fn each_bug_that_is_put_in_is_found_and_the_same_seed_holds_without_it() {
    for bug in SeededBug::ALL {
        let found = check(0..SEEDS_MAX, Some(bug), threads(2), true, &|_| {});
        let violation = found.violations.first().unwrap_or_else(|| panic!("{bug} is not found"));
        println!("{bug}: {violation}");
        assert!(run(violation.seed, None, false).is_ok(), "{bug}");
        let again = run(violation.seed, Some(bug), true).expect_err("the same seed fails again");
        assert_eq!((again.at_us, &again.what), (violation.at_us, &violation.what));
    }
}

fn hedgerow_sim(flags: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hedgerow-sim")).arg("check").args(flags).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_run_that_fails_says_how_to_see_it_again_and_that_command_does() {
    let (code, _, errors) = hedgerow_sim(&["--seeds", "0..1000", "--bug", "skip-unit-check", "--threads", "1"]);
    assert_eq!(code, Some(1), "{errors}");
    let line = errors.lines().find_map(|line| line.trim().strip_prefix("to see it again: hedgerow-sim check ")).expect("the command");
    let what = errors.lines().next().expect("what failed");
    let (code, trace, errors) = hedgerow_sim(&line.split(' ').collect::<Vec<_>>());
    assert_eq!(code, Some(1));
    assert!(errors.contains(what) && trace.lines().count() > 5, "{errors}");
}

#[test]
fn a_report_is_one_json_object_and_wrong_flags_are_refused() {
    let (code, report, _) = hedgerow_sim(&["--seeds", "7..9", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).expect("one object");
    assert_eq!((code, report["passed"].as_u64(), report["digest"].as_str().map(str::len)), (Some(0), Some(2), Some(64)));
    for flags in [&["--seeds", "9..9"][..], &["--bug", "none"], &["--seed", "1", "--seeds", "1..2"], &["--trace"]] {
        assert_eq!(hedgerow_sim(flags).0, Some(2), "{flags:?}");
    }
}
