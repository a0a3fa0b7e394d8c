//! Devices of a LAN find each other, and nobody else: real interfaces, multicast and firewalls, in network namespaces.
//!
//! Not here: devices on one machine that are told of each other; see `swarm`.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use tests::device::Device;
use tests::image::{Layer, Layout};
use tests::lan::{Lan, Place};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

/// Drops multicast on its way in and out.
const NO_MULTICAST: &str = "table inet t {\n \
     chain i { type filter hook input priority 0; ip daddr 224.0.0.0/4 drop; ip6 daddr ff02::fb drop; }\n \
     chain o { type filter hook output priority 0; ip daddr 224.0.0.0/4 drop; ip6 daddr ff02::fb drop; }\n }";

fn seed_at(address: &str) -> Seed {
    let mut seed = Seed::init_at("127.0.0.1:0", &format!("{address}:0"));
    seed.run(&[]);
    seed
}

fn plugged<const N: usize>(seed: &Seed, lan: &mut Lan, flags: &[&str]) -> [(Device, Place); N] {
    std::array::from_fn(|n| {
        let (mut device, place) = (Device::enrol(seed, &seed.org(), &format!("d{n}")), lan.plug());
        place.start(&mut device, flags);
        (device, place)
    })
}

fn peers_of(device: &Device) -> Vec<serde_json::Value> {
    let shown = Outcome::of(program::hedgerow().args(["device", "peers", "--json", "--data"]).arg(device.data())).json();
    shown["peers"].as_array().expect("`device peers` lists peers").clone()
}

fn announced(device: &Device) -> Vec<String> {
    let events = device.log.messages("announced on this LAN").into_iter();
    events.filter_map(|event| event["address"].as_str().map(str::to_owned)).collect()
}

#[test]
fn devices_on_a_lan_find_each_other_with_nothing_configured_and_fetch_one_copy() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let devices: [_; 3] = plugged(&seed, &mut lan, &["--discovery", "mdns"]);
    wait::until("all to be connected", || devices.iter().all(|(device, _)| device.peers() == 2));
    wait::until("all to gossip", || devices.iter().all(|(device, _)| peers_of(device).iter().all(|peer| peer["gossips"].is_string())));

    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 8 << 20)])]);
    seed.publish("acme/web", &layout);
    let before = seed.blob_bytes();
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 3);
    let (copy, fetched) = (8u64 << 20, seed.blob_bytes() - before);
    assert!(fetched < copy * 102 / 100 + (64 << 10), "{fetched} bytes came over the WAN for a copy of {copy}");
}

#[test]
fn the_swarm_works_without_libp2p() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let with: [_; 1] = plugged(&seed, &mut lan, &["--discovery", "mdns"]);
    let (mut without, place) = (Device::enrol(&seed, &seed.org(), "without"), lan.plug());
    place.start(&mut without, &["--discovery", "mdns", "--libp2p", "off"]);
    wait::until("both to be connected", || with[0].0.peers() == 1 && without.peers() == 1);
    assert!(peers_of(&without)[0]["gossips"].is_null());
}

#[test]
fn a_lan_without_multicast_works_by_the_seeds_hints() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let devices: [_; 2] = std::array::from_fn(|n| {
        let (mut device, place) = (Device::enrol(&seed, &seed.org(), &format!("d{n}")), lan.plug());
        place.run(&["nft", NO_MULTICAST]);
        place.start(&mut device, &["--discovery", "mdns,seed", "--site", "roof"]);
        (device, place)
    });
    wait::until("both to be connected", || devices.iter().all(|(device, _)| device.peers() == 1));
}

#[test]
fn a_site_with_ipv6_alone_works() {
    let mut lan = Lan::new();
    let router = lan.add_ipv6();
    let seed = seed_at(&format!("[{router}]"));
    let devices: [_; 2] = std::array::from_fn(|n| {
        let (mut device, place) = (Device::enrol(&seed, &seed.org(), &format!("d{n}")), lan.plug_ipv6());
        place.start(&mut device, &["--discovery", "mdns"]);
        device
    });
    wait::until("both to be connected", || devices.iter().all(|device| peers_of(device).len() == 1));
    assert!(peers_of(&devices[0])[0]["address"].as_str().is_some_and(|address| address.starts_with("[fe80")));
}

#[test]
fn a_device_of_another_organisation_is_refused_and_not_called_at_speed() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let other = seed.create_org("other");
    let own: [_; 1] = plugged(&seed, &mut lan, &["--discovery", "mdns"]);
    let (mut stranger, place) = (Device::enrol(&seed, &other, "stranger"), lan.plug());
    place.start(&mut stranger, &["--discovery", "mdns"]);
    let refusals = || own[0].0.log.events("peer_refused").len() + stranger.log.events("peer_refused").len();
    wait::until("one to refuse the other", || refusals() > 0);
    wait::throughout(Duration::from_secs(12), "nobody is connected", || own[0].0.peers() == 0 && stranger.peers() == 0);
    // Each end calls once, and both ends of a call say so; a beacon a tick calls nobody again within a minute.
    assert!(refusals() <= 4, "{} refusals in 12 s", refusals());
}

#[test]
fn networks_of_containers_and_vpns_are_not_announced() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let (mut laptop, place) = (Device::enrol(&seed, &seed.org(), "laptop"), lan.plug());
    for command in [
        "ip link add docker0 type bridge",
        "ip address add 172.17.0.1/16 dev docker0",
        "ip link add veth1 type veth peer name veth2",
        "ip link set veth1 master docker0 up",
        "ip link set veth2 up",
        "ip link set docker0 up",
        "ip tuntap add dev work0 mode tun",
        "ip address add 10.255.0.2/24 dev work0",
        "ip link set work0 up",
    ] {
        place.run(&command.split(' ').collect::<Vec<_>>());
    }
    place.start(&mut laptop, &["--discovery", "mdns"]);
    wait::until("the LAN's addresses to be announced", || announced(&laptop).len() >= 2);
    place.run(&["ip", "address", "add", "10.99.0.2/24", "dev", "eth0"]);
    wait::until("an address that came later to be announced", || announced(&laptop).contains(&"10.99.0.2".to_owned()));
    let others: Vec<String> = announced(&laptop).into_iter().filter(|address| !address.starts_with("fe80")).collect();
    assert_eq!(others, [place.address.as_str(), "10.99.0.2"]);
}

#[test]
fn a_pause_reaches_a_device_that_only_hears_its_neighbours() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let [(_near, _), (cut_off, place)] = plugged(&seed, &mut lan, &["--discovery", "mdns"]);
    let layout = Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 1 << 20)])]);
    seed.publish("acme/web", &layout);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 2);
    wait::until("both to gossip", || peers_of(&cut_off).iter().any(|peer| peer["gossips"].is_string()));
    let cut = format!("table inet t {{\n chain o {{ type filter hook output priority 0; ip daddr {} drop; }}\n }}", lan.router());
    place.run(&["nft", &cut]);
    let before = cut_off.log.events("heard").len();
    seed.run_operator(&["rollout", "pause", "acme/web", "--json"]).json();
    wait::until("the device without a WAN to hear of the pause", || cut_off.log.events("heard").len() > before);
}

#[test]
fn a_new_address_is_followed() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let [(stays, _), (moves, place)] = plugged(&seed, &mut lan, &["--discovery", "mdns"]);
    wait::until("both to be connected", || stays.peers() == 1);
    let (network, _) = place.address.rsplit_once('.').expect("an IPv4 address");
    let new = format!("{network}.203");
    place.run(&["ip", "address", "del", &format!("{}/24", place.address), "dev", "eth0"]);
    place.run(&["ip", "address", "add", &format!("{new}/24"), "dev", "eth0"]);
    let at = format!("{new}:7446");
    wait::until("the peer to be connected at its new address", || peers_of(&stays).iter().any(|peer| peer["address"] == at.as_str()));
    assert_eq!(peers_of(&moves).len(), 1);
}

#[test]
fn a_peer_that_is_gone_is_dropped_within_three_missed_ticks_and_found_again_when_its_interface_is_back() {
    const THREE_TICKS: Duration = Duration::from_secs(30);
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let [(stays, _), (mut goes, place)] = plugged(&seed, &mut lan, &["--discovery", "mdns"]);
    wait::until("both to be connected", || stays.peers() == 1 && goes.peers() == 1);
    let is_dropped = |why: &str| {
        let began = Instant::now();
        wait::until("the peer to be dropped", || stays.peers() == 0);
        eprintln!("a peer {why} is dropped after {:.1} s", began.elapsed().as_secs_f64());
        assert!(began.elapsed() < THREE_TICKS, "dropped after {:?}", began.elapsed());
    };
    place.run(&["ip", "link", "set", "eth0", "down"]);
    is_dropped("whose interface went down");
    place.run(&["ip", "link", "set", "eth0", "up"]);
    wait::until("both to be connected again", || stays.peers() == 1 && goes.peers() == 1);
    goes.kill();
    is_dropped("that was killed");
}

#[test]
fn a_flood_of_forged_beacons_costs_little_memory_and_time() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let [(mut device, _)] = plugged(&seed, &mut lan, &["--discovery", "mdns", "--poll-seconds", "300"]);
    wait::until("the device to be announced", || !announced(&device).is_empty());
    let socket = UdpSocket::bind((lan.router().parse::<Ipv4Addr>().unwrap(), 0)).unwrap();
    let rss = |device: &mut Device| -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", device.process().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let (before, cpu_before, began) = (rss(&mut device), cpu_time(&mut device), Instant::now());
    for n in 0..10_000u32 {
        let forged = forged(n, &lan.router());
        socket.send_to(&forged, (Ipv4Addr::new(224, 0, 0, 251), 5353)).unwrap();
    }
    thread::sleep(Duration::from_secs(3));
    assert_eq!(device.peers(), 0);
    let after = rss(&mut device);
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    let share = (cpu_time(&mut device) - cpu_before).as_secs_f64() / began.elapsed().as_secs_f64();
    eprintln!("10,000 forged beacons: {} KiB, {:.1} % of a core", after.saturating_sub(before), share * 100.0);
    assert!(share < 0.05, "{:.1} % of a core", share * 100.0);
}

/// The time that a device has run on any processor (`proc_pid_stat(5)`, fields 14 and 15), in clock ticks of 10 ms.
fn cpu_time(device: &mut Device) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", device.process().id())).expect("the process is there");
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("it is a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// A beacon with a new name and a new port at the address of the sender.
fn forged(n: u32, address: &str) -> Vec<u8> {
    let tag = format!("{n:032x}");
    let name = |labels: &[&str]| -> Vec<u8> {
        let labels = labels.iter().flat_map(|label| [&[u8::try_from(label.len()).expect("labels are short")], label.as_bytes()].concat());
        labels.chain([0]).collect()
    };
    let record = |labels: &[&str], kind: u8, data: &[u8]| {
        let length = u16::try_from(data.len()).expect("records are short").to_be_bytes();
        [&name(labels), &[0, kind, 0, 1, 0, 0, 0, 30][..], &length, data].concat()
    };
    let port = u16::try_from(1 + n % 65_000).expect("it is a port").to_be_bytes();
    let service = record(&[&tag, "_hedgerow", "_udp", "local"], 33, &[&[0, 0, 0, 0], &port[..], &name(&[&tag, "local"])].concat());
    let host = record(&[&tag, "local"], 1, &address.parse::<Ipv4Addr>().expect("it is an address").octets());
    [&[0, 0, 0x84, 0, 0, 0, 0, 2, 0, 0, 0, 0][..], &service, &host].concat()
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let [(alone, place)] = plugged(&seed, &mut lan, &[]);
    let mut doctor = program::hedgerow();
    doctor.args(["device", "doctor", "--json", "--data"]).arg(alone.data());
    let outcome = Outcome::of(&mut place.inside(&doctor)).exited_with(1);
    let told: serde_json::Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
    let finding = |check: &str| told["findings"].as_array().unwrap().iter().find(|found| found["check"] == check).unwrap().clone();
    for good in ["process", "ports", "lans", "seed", "clock"] {
        assert_eq!(finding(good)["ok"], true, "{told}");
    }
    for bad in ["multicast", "peers"] {
        assert!(finding(bad)["next"].is_string(), "{told}");
    }
}
