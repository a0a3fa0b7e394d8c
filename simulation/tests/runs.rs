//! Whole runs of small fleets, through the library and through the binary.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Output};

use simulation::Violation;
use simulation::fleet::{self, Workers};
use simulation::report::Report;
use simulation::scenario::{Choices, Kill, Scenario};

fn small() -> Choices {
    Choices { devices: Some(26), sites: Some(3), ..Choices::default() }
}

fn run(choices: Choices, threads: usize) -> Result<Report, Violation> {
    fleet::run(&Scenario::try_from(choices).unwrap(), NonZeroUsize::new(threads).unwrap(), &|_| {})
}

fn digest(choices: Choices) -> String {
    run(choices, 1).unwrap().digest
}

fn killing(site: u32, device: u32, at_ms: u64) -> Kill {
    Kill { site, device, at_ms }
}

#[test]
fn the_same_seed_gives_the_same_decisions_in_every_run_and_on_any_number_of_threads() {
    let (first, again, on_two) = (run(small(), 1).unwrap(), run(small(), 1).unwrap(), run(small(), 2).unwrap());
    let side_by_side = Workers { threads: NonZeroUsize::MIN, abreast: NonZeroUsize::new(3).unwrap() };
    assert_eq!(fleet::run(&Scenario::try_from(small()).unwrap(), side_by_side, &|_| {}).unwrap().digest, first.digest);
    assert_eq!(first.digest, again.digest);
    assert_eq!(first.digest, on_two.digest);
    assert_eq!((first.events, first.wan_copies, first.time_over_bound), (on_two.events, on_two.wan_copies, on_two.time_over_bound));
}

#[test]
fn another_seed_a_killed_device_and_a_changed_rule_each_give_other_decisions() {
    let mut changed_rule = small();
    changed_rule.parameters.window_spans = Some(4);
    let digests = [
        digest(small()),
        digest(Choices { seed: Some(2), ..small() }),
        digest(Choices { kill: vec![killing(1, 0, 3000)], ..small() }),
        digest(Choices { kill: vec![killing(1, 1, 3000)], ..small() }),
        digest(changed_rule),
    ];
    for (n, one) in digests.iter().enumerate() {
        assert!(digests[n + 1..].iter().all(|other| other != one), "{n}: {digests:?}");
    }
}

#[test]
fn what_a_site_decides_does_not_depend_on_the_others() {
    let one = run(Choices { devices: Some(9), sites: Some(1), ..Choices::default() }, 1).unwrap();
    let two = run(Choices { devices: Some(18), sites: Some(2), ..Choices::default() }, 1).unwrap();
    assert!(two.virtual_seconds.p50 == one.virtual_seconds.max || two.virtual_seconds.max == one.virtual_seconds.max);
}

#[test]
fn a_site_without_faults_fetches_one_copy_and_is_done_near_the_bound() {
    let report = run(Choices { devices: Some(60), sites: Some(3), ..Choices::default() }, 2).unwrap();
    assert!(report.wan_copies.p50 <= 1.02 && report.wan_copies.max <= 1.05, "{:?}", report.wan_copies);
    assert!(report.time_over_bound.p50 <= 1.15, "{:?}", report.time_over_bound);
    assert!(report.time_over_bound.p50 >= 1.0, "{:?}", report.time_over_bound);
    assert_eq!((report.complete, report.killed, report.units_stored_twice), (60, 0, 0));
    assert_eq!(report.lan_bytes, 57 * report.blob_bytes);
}

#[test]
fn the_survivors_of_killed_devices_complete() {
    let kill = vec![killing(0, 0, 2300), killing(0, 5, 2600), killing(1, 2, 500), killing(2, 7, 3500)];
    let report = run(Choices { kill, ..small() }, 2).unwrap();
    assert_eq!((report.complete, report.killed), (22, 4));
    assert!(report.wan_copies.max <= 1.2, "{:?}", report.wan_copies);
}

#[test]
fn devices_of_pieces_with_many_units_complete_too() {
    let report =
        run(Choices { devices: Some(4), sites: Some(1), pieces: Some(2048), wan_mbit: Some(500), ..Choices::default() }, 1).unwrap();
    assert_eq!((report.complete, report.units_stored_twice), (4, 0));
    assert!(report.wan_copies.max <= 1.02, "{:?}", report.wan_copies);
}

#[test]
fn a_run_that_is_not_done_in_time_fails_and_says_how_to_see_it_again() {
    let violation = run(Choices { limit_ms: Some(2500), ..small() }, 1).unwrap_err();
    assert_eq!(violation.site, 0);
    let text = violation.to_string();
    assert!(text.contains("not done after 2 s") && text.contains("hedgerow-sim run --devices 26 --sites 3 --seed 1"), "{text}");
}

fn hedgerow_sim(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hedgerow-sim")).arg("run").args(flags).output().unwrap()
}

fn scenario_file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_command_prints_one_json_object_on_one_line() {
    let output = hedgerow_sim(&["--devices", "8", "--sites", "2", "--seed", "5", "--threads", "2", "--pieces", "64", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((text.lines().count(), output.stderr.len()), (1, 0));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["digest"].as_str().unwrap().len(), 64);
    assert_eq!((report["devices"].as_u64(), report["sites"].as_u64(), report["pieces"].as_u64()), (Some(8), Some(2), Some(64)));
    assert!(report["seconds"].as_f64().unwrap() > 0.0 && report["events"].as_u64().unwrap() > 0);
    assert!(["p50", "p99", "max"].iter().all(|rank| report["wan_copies"][rank].as_f64().unwrap() >= 1.0));
    assert!(report["rss_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_scenario_file_says_the_same_as_flags() {
    let text = "devices = 8\nsites = 2\npieces = 64\n[[kill]]\nsite = 1\ndevice = 0\nat_ms = 2400\n[parameters]\nwindow_spans = 3\n";
    let file = scenario_file("same.toml", text);
    let digest = |flags: &[&str]| {
        let output = hedgerow_sim(flags);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["digest"].clone()
    };
    let flags = ["--json", "--devices", "8", "--sites", "2", "--pieces", "64", "--kill", "1:0@2400", "--window-spans", "3"];
    assert_eq!(digest(&["--json", "--scenario", file.to_str().unwrap()]), digest(&flags));
}

#[test]
fn a_scenario_file_that_is_wrong_is_refused_with_file_line_and_column() {
    for (name, text, place) in [
        ("key.toml", "devices = 8\n\n  divices = 9\n", "key.toml:3:3: unknown field `divices`"),
        ("rule.toml", "[parameters]\nwindow = 1\n", "rule.toml:2:1: unknown field `window`"),
        ("type.toml", "sites = 2\npieces = \"many\"\n", "type.toml:2:10: invalid type"),
        ("kill.toml", "[[kill]]\nsite = 0\ndevice = 0\nat = 4\n", "kill.toml:4:1: unknown field `at`"),
    ] {
        let output = hedgerow_sim(&["--scenario", scenario_file(name, text).to_str().unwrap()]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(place), "{error}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    }
}

#[test]
fn exit_codes_tell_a_failed_run_from_a_wrong_command() {
    assert_eq!(hedgerow_sim(&["--devices", "4", "--sites", "1", "--limit-ms", "2100"]).status.code(), Some(1));
    assert_eq!(hedgerow_sim(&["--devices", "4", "--sites", "5"]).status.code(), Some(2));
    assert_eq!(hedgerow_sim(&["--devices", "four"]).status.code(), Some(2));
    assert_eq!(hedgerow_sim(&["--scenario", "/nowhere.toml"]).status.code(), Some(2));
}

#[test]
fn settings_stand_between_flags_and_the_file() {
    let file = scenario_file("set.toml", "devices = 8\nsites = 2\npieces = 64\n");
    let output =
        hedgerow_sim(&["--json", "--scenario", file.to_str().unwrap(), "--set", "pieces=32", "--set", "devices=6", "--devices", "4"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["devices"].as_u64(), report["pieces"].as_u64()), (Some(4), Some(32)));
    let refused = hedgerow_sim(&["--set", "wan_mbitt=3"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && error.contains("--set wan_mbitt=3: unknown field"), "{error}");
}

#[test]
fn what_cannot_be_run_together_is_refused_with_the_line_and_what_is_allowed() {
    for (name, text, place) in [
        ("rate.toml", "devices = 8\nsites = 1\nwan_mbit = 0\n", "rate.toml:3: `wan_mbit` must be from 1 to"),
        ("many.toml", "pieces = 999_999_999\n", "many.toml:1: `pieces` must be from 1 to"),
        ("waves.toml", "[rollout]\nsteps = \"50%,1h,20%\"\n", "waves.toml:2:9: "),
        ("mute.toml", "[rollout]\nmute_percent = 2\n", "mute.toml:2: `mute_percent` needs `silence`"),
        ("churn.toml", "[faults]\nchurn_off_ms = 5\n", "churn.toml:2: `churn_off_ms` must be at least"),
    ] {
        let output = hedgerow_sim(&["--scenario", scenario_file(name, text).to_str().unwrap()]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(place), "{error}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn devices_that_are_switched_off_come_back_with_what_they_stored() {
    let mut choices = Choices { wan_mbit: Some(8), ..small() };
    choices.faults.churn_percent = Some(50);
    choices.faults.churn_within_ms = Some(12_000);
    choices.faults.churn_off_ms = Some(3_000);
    let report = run(choices, 2).unwrap();
    assert_eq!((report.complete, report.killed, report.units_stored_twice), (26, 0, 0));
    assert!(report.wan_copies.p50 <= 1.1, "{:?}", report.wan_copies);
}

#[test]
fn a_seed_narrower_than_its_sites_is_the_limit_and_is_used() {
    let choices = Choices { devices: Some(40), sites: Some(8), seed_mbit: Some(80), ..Choices::default() };
    let report = run(choices, 2).unwrap();
    assert!((0.97..1.2).contains(&report.time_over_bound.p50), "{:?}", report.time_over_bound);
    assert!(report.virtual_seconds.p50 > 13.0, "8 sites of 16 MiB over 80 Mbit/s: {:?}", report.virtual_seconds);
    let most = report.curves.seed_mbit.iter().map(|(_, mbit)| *mbit).fold(0.0, f64::max);
    assert!(most < 80.0 * 1.1, "{most}");
}

#[test]
fn sites_that_are_offline_at_first_are_done_later() {
    let mut choices = small();
    choices.faults.offline_percent = Some(100);
    choices.faults.offline_until_ms = Some(20_000);
    let report = run(choices, 1).unwrap();
    assert!(report.curves.devices_done[1].0 > 20.0 && report.complete == 26, "{:?}", report.curves.devices_done);
}

#[test]
fn a_run_that_is_stopped_says_that_it_is_partial() {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let scenario = Scenario::try_from(small()).unwrap();
    let report =
        fleet::run_until(&scenario, NonZeroUsize::MIN, &stop, &|_| stop.store(true, std::sync::atomic::Ordering::Relaxed)).unwrap();
    assert_eq!((report.partial, report.sites_done, report.sites), (true, 1, 3));
    assert!(report.to_string().contains("PARTIAL") && simulation::html::page(&report, "").contains("interrupted when 1 of 3 sites"));
    assert!(report.wan_copies.p50 >= 1.0, "figures are of the site that was done");
}

#[test]
fn a_page_has_its_plots_and_needs_nothing_else() {
    let page = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    let output =
        hedgerow_sim(&["--devices", "8", "--sites", "2", "--pieces", "64", "--compare", "--html", page.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.matches("<svg").count() == 4 && text.contains("one gateway") && !text.contains("http"), "{text}");
}

#[test]
fn a_sweep_gives_a_mean_and_an_interval_for_every_combination() {
    let flags = [
        "sweep",
        "--devices",
        "6",
        "--sites",
        "1",
        "--pieces",
        "32",
        "--set",
        "wan_mbit=10,20",
        "--set",
        "faults.late=0,1",
        "--seeds",
        "3",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_hedgerow-sim")).args(flags).args(["--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let points: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(points.len(), 4);
    assert!(points.iter().all(|point| point["time_over_bound"]["plus_minus"].as_f64().is_some() && point["seeds"] == 3), "{text}");
}
