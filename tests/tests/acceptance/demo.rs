//! The whole path in one command, and what it costs.
//!
//! Not here: how long it takes, which is the machine's matter as much as ours.

use serde_json::Value;
use tests::process::Outcome;
use tests::program;

const DEVICES: u64 = 6;
const SIZE: u64 = 64 << 20;
const RSS_BYTES_MAX: u64 = 64 << 20;

#[test]
fn six_devices_take_one_copy_over_the_wan_in_little_memory() {
    let mut command = program::hedgerow();
    command.args(["demo", "--wan-mbit", "100", "--json", "--devices", &DEVICES.to_string(), "--size", &SIZE.to_string()]);
    let outcome = Outcome::of(&mut command).succeeded();
    let report: Value = serde_json::from_str(outcome.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(report["devices"], DEVICES, "{report}");
    let versions = report["versions"].as_array().unwrap();
    let figure = |version: &Value, name: &str| version[name].as_u64().unwrap_or_else(|| panic!("no {name} in {version}"));
    assert_eq!(versions.len(), 2, "{report}");
    for version in versions {
        assert_eq!(figure(version, "verified"), DEVICES, "{version}");
    }

    let (first, second) = (&versions[0], &versions[1]);
    let content = figure(first, "content_bytes");
    assert!(content.abs_diff(SIZE) * 50 <= SIZE, "--size is met within 2 %: {content}");
    assert_eq!(figure(first, "changed_bytes"), content);
    assert!(first["wan_copies"].as_f64().unwrap() <= 1.05, "{first}");
    assert!(figure(first, "wan_bytes") * 100 <= content * 105, "{first}");

    let changed = figure(second, "changed_bytes");
    assert!(changed > 0 && changed < figure(second, "content_bytes") / 2, "a small layer changes: {second}");
    assert!(figure(second, "wan_bytes") * 100 <= changed * 105 + 100 * ((64 << 10) + (16 << 10) * DEVICES), "{second}");

    if let Some(most) = report["rss_bytes_max"].as_u64() {
        assert!(most <= RSS_BYTES_MAX, "a process had {most} bytes of memory: {}", report["rss_bytes"]);
    }
}
