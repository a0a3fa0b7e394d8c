//! Fifty devices on one LAN, which takes longer than `check` may.
//!
//! Not here: a few of them; see `discovery` and `sites`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::device::Device;
use tests::lan::{Lan, Place};
use tests::process::Outcome;
use tests::wait;

use super::sites::seed_at;

/// When each device had connected with all others, in seconds since midnight.
fn connected_at(devices: &[Device]) -> Option<Vec<f64>> {
    let all = devices.iter().map(|device| {
        let mut first: BTreeMap<String, f64> = BTreeMap::new();
        for event in device.log.messages("peer connected") {
            let (peer, at) = (event["peer"].as_str()?.to_owned(), seconds_of_day(event["timestamp"].as_str()?)?);
            first.entry(peer).or_insert(at);
        }
        (first.len() == devices.len() - 1).then(|| first.into_values().fold(0.0, f64::max))
    });
    all.collect()
}

/// The time in a timestamp of RFC 3339, in seconds since midnight.
fn seconds_of_day(timestamp: &str) -> Option<f64> {
    let (_, time) = timestamp.trim_end_matches('Z').split_once('T')?;
    let parts: Vec<f64> = time.split(':').filter_map(|part| part.parse().ok()).collect();
    let [hours, minutes, seconds] = parts[..] else { return None };
    Some(hours * 3_600.0 + minutes * 60.0 + seconds)
}

/// Packets that went out of and came into the device's interface so far.
fn packets(place: &Place) -> [u64; 2] {
    ["tx", "rx"].map(|way| {
        let shown = place.run(&["cat", &format!("/sys/class/net/eth0/statistics/{way}_packets")]).stdout;
        shown.trim().parse().expect("it is a number")
    })
}

/// The kernel has one table of neighbours for all namespaces of a family, with room for 1,024: fifty devices that know each other
/// take five times as much. It is as it was when this is dropped.
struct NeighbourTables(Vec<(PathBuf, String)>);

impl NeighbourTables {
    /// Room for so many.
    fn of(entries: usize) -> Self {
        let names = ["ipv4", "ipv6"].into_iter().flat_map(|family| {
            // The largest first: none may be above it.
            ["gc_thresh3", "gc_thresh2", "gc_thresh1"].map(|name| PathBuf::from(format!("/proc/sys/net/{family}/neigh/default/{name}")))
        });
        let raised = names.map(|path| {
            let before = fs::read_to_string(&path).expect("the kernel has tables of neighbours");
            fs::write(&path, entries.to_string()).expect("root may make them larger");
            (path, before)
        });
        Self(raised.collect())
    }
}

impl Drop for NeighbourTables {
    fn drop(&mut self) {
        for (path, before) in self.0.iter().rev() {
            let _ = fs::write(path, before);
        }
    }
}

#[test]
#[ignore = "soak: fifty devices, measured for most of a minute at rest"]
fn fifty_devices_find_each_other_and_are_quiet_at_rest() {
    const DEVICES: usize = 50;
    const SETTLE: Duration = Duration::from_secs(15);
    const REST: Duration = Duration::from_secs(40);
    let _tables = NeighbourTables::of(4 * DEVICES * DEVICES);
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let tokens = ["fleet", "token", "--org", "acme", "--uses", &DEVICES.to_string(), "--json"];
    let token = seed.run_operator(&tokens).json()["token"].as_str().expect("fleet token prints a token").to_owned();
    let mut devices: Vec<(Device, Place)> = (0..DEVICES)
        .map(|n| {
            let device = Device::unknown(&format!("d{n}"));
            Outcome::of(&mut device.enrol_command(&token)).succeeded();
            (device, lan.plug())
        })
        .collect();
    // The cables are plugged in when all run, so that the figure is about finding each other.
    lan.unplug_all();
    for (device, place) in &mut devices {
        place.start(device, &["--discovery", "mdns", "--poll-seconds", "300"]);
    }
    let plugged = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs_f64() % 86_400.0;
    lan.plug_all();
    let (devices, places): (Vec<Device>, Vec<Place>) = devices.into_iter().unzip();
    thread::sleep(Duration::from_secs(10));
    let connected = wait::eventually("all pairs to be connected", || connected_at(&devices));
    let seconds = |at: &f64| at - plugged;
    let (first, last) = (connected.iter().map(seconds).fold(f64::MAX, f64::min), connected.iter().map(seconds).fold(0.0, f64::max));
    eprintln!("{DEVICES} devices: the first had all others {first:.2} s after the cables were plugged in, the last {last:.2} s");

    thread::sleep(SETTLE);
    let before: Vec<[u64; 2]> = places.iter().map(packets).collect();
    thread::sleep(REST);
    let after: Vec<[u64; 2]> = places.iter().map(packets).collect();
    let rates =
        |way: usize| -> Vec<u64> { before.iter().zip(&after).map(|(before, after)| (after[way] - before[way]) / REST.as_secs()).collect() };
    let (sent, received) = (rates(0), rates(1));
    eprintln!(
        "packets a second at rest: sent {:?} to {:?}, received {:?} to {:?}",
        sent.iter().min(),
        sent.iter().max(),
        received.iter().min(),
        received.iter().max()
    );
    assert!(sent.iter().all(|rate| *rate < 20), "a device sends 20 packets a second or more: {sent:?}");
    let memory = devices.into_iter().map(|mut device| resident_kib(&mut device)).max();
    eprintln!("the most memory of a device: {memory:?} KiB");
}

fn resident_kib(device: &mut Device) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", device.process().id())).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says how much memory it has");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}
