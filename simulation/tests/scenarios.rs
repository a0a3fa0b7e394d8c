//! The scenario files that come with the simulation, each at fewer sites, and what each is there to show.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

use simulation::fleet;
use simulation::report::Report;
use simulation::scenario::{Choices, Scenario};

/// A scenario at `sites` of its sites.
fn run(name: &str, sites: u32) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name).with_extension("toml");
    let file = Choices::read(&path).unwrap();
    let devices = file.devices.unwrap() / file.sites.unwrap() * sites;
    let flags = Choices { devices: Some(devices), sites: Some(sites), ..Choices::default() };
    let report = fleet::run(&Scenario::load(flags, &[""; 0], Some(&path)).unwrap(), NonZeroUsize::new(2).unwrap(), &|_| {}).unwrap();
    assert!(report.complete > 0 && report.units_stored_twice <= u64::from(report.complete), "{name}: {report}");
    report
}

#[test]
fn every_file_is_run_by_a_test_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    let mut run: Vec<&str> = STEADY
        .iter()
        .map(|(name, ..)| *name)
        .chain(["bad-version", "offline-sites", "seed-saturated", "slow-devices", "staged-rollout"])
        .collect();
    run.sort_unstable();
    assert_eq!(names, run);
}

/// Scenarios, the most that the median site may take of the bound, and the most copies over the WAN.
const STEADY: [(&str, f64, f64); 6] = [
    ("churn", 1.6, 1.05),
    ("flash-crowd", 1.25, 1.02),
    ("liars", 2.2, 1.3),
    ("rural", 1.1, 1.02),
    ("wan-cut", 1.1, 1.05),
    ("wifi", 1.6, 1.02),
];

#[test]
fn scenarios_end_with_one_copy_a_site_near_the_bound() {
    for (name, time, copies) in STEADY {
        let report = run(name, 2);
        assert!(report.time_over_bound.p50 <= time && report.wan_copies.p50 <= copies, "{name}: {report}");
    }
}

#[test]
fn a_narrow_seed_is_shared_and_offline_sites_come_later() {
    let report = run("seed-saturated", 100);
    assert!(report.time_over_bound.p50 <= 1.2 && report.wan_copies.p99 <= 1.02, "{report}");
    let last = |report: &Report| report.curves.devices_done.last().unwrap().0;
    assert!(last(&run("offline-sites", 30)) > 60.0);
}

#[test]
fn a_healthy_version_reaches_everybody_in_waves_and_nobody_starts_it_early() {
    let rollout = run("staged-rollout", 10).rollout.unwrap();
    let ended: u64 =
        rollout.devices.iter().filter(|(state, _)| ["healthy", "rolled_back"].contains(&state.as_str())).map(|(_, count)| count).sum();
    assert_eq!((ended, rollout.started, rollout.started_early), (200, 200, 0), "{rollout:?}");
    assert!(rollout.seconds > 4 * 3600 && rollout.seconds < 5 * 3600, "two hours of prefetch, waves for two and a half: {rollout:?}");
    let at_three: f64 =
        rollout.healthy.iter().filter(|(second, _)| *second <= 3.0 * 3600.0).map(|(_, healthy)| *healthy).fold(0.0, f64::max);
    assert!((10.0..=30.0).contains(&at_three), "a tenth: {at_three}");
}

#[test]
fn a_bad_version_is_aborted_after_the_first_wave_and_devices_go_back() {
    let rollout = run("bad-version", 40).rollout.unwrap();
    assert_eq!((rollout.state.as_str(), rollout.started_early), ("aborted", 0), "{rollout:?}");
    assert!(rollout.reason.contains("failed, more than 5%"), "{rollout:?}");
    assert!(rollout.started <= 100 && rollout.devices["rolled_back"] >= 5, "of 800 devices a wave of 5 %: {rollout:?}");
}

#[test]
fn a_version_follows_the_sun_to_sites_that_are_on_the_network_by_day() {
    let report = run("slow-devices", 24);
    assert!(report.wan_copies.p50 <= 1.02, "{report}");
    let rollout = report.rollout.unwrap();
    assert_eq!((rollout.state.as_str(), rollout.started, rollout.started_early), ("done", 96, 0), "{rollout:?}");
    assert!((11 * 3600..14 * 3600).contains(&rollout.seconds), "the last site opens twelve hours after the first: {rollout:?}");
}

#[test]
fn no_device_is_faster_than_its_disk_and_hashing_the_whole_comes_last() {
    let run = |more: &str| {
        let text = format!("devices = 10\nsites = 2\npieces = 64\n{more}");
        let scenario = Scenario::try_from(toml::from_str::<Choices>(&text).unwrap()).unwrap();
        fleet::run(&scenario, NonZeroUsize::new(2).unwrap(), &|_| {}).unwrap()
    };
    let copy_seconds = 64.0 * 65_536.0 * 8.0 / 10e6;
    let slow = run("[rates]\ndisk_mbit = 10");
    assert!(slow.virtual_seconds.p50 >= copy_seconds && slow.time_over_bound.p50 < 1.3, "{slow}");
    let hashing = run("[rates]\nverify_mbit = 20");
    assert!(hashing.virtual_seconds.p50 >= copy_seconds, "half of it as units come, half in the end: {hashing}");
    let cold = run("wan_rtt_ms = 200\n[rates]\nslow_start_kib = 14");
    assert_ne!(cold.digest, run("wan_rtt_ms = 200").digest);
}

#[test]
fn the_example_of_twenty_lines_runs() {
    let built = Path::new(env!("CARGO_BIN_EXE_hedgerow-sim")).parent().unwrap();
    let output = Command::new(built.join("examples/twenty_lines")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
}
