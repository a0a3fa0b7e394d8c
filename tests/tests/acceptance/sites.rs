//! A LAN asks the seed once, whatever the number of its devices; LANs that look alike stay apart; a device that moves goes on.
//!
//! Not here: how devices find each other, see `discovery`; many devices, see `crowd`.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::device::Device;
use tests::image::{Layer, Layout};
use tests::lan::Lan;
use tests::nat::Twins;
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

const MIB: u64 = 1 << 20;

pub(crate) fn seed_at(address: &str) -> Seed {
    let mut seed = Seed::init_at("127.0.0.1:0", &format!("{address}:0"));
    seed.run(&[]);
    seed
}

/// What `device peers` says; it asks over the control socket, from wherever the device is.
fn peers_of(device: &Device) -> Vec<Value> {
    let shown = Outcome::of(program::hedgerow().args(["device", "peers", "--json", "--data"]).arg(device.data())).json();
    shown["peers"].as_array().expect("`device peers` lists peers").clone()
}

fn all_gossip(devices: &[Device]) -> bool {
    devices.iter().all(|device| {
        let peers = peers_of(device);
        peers.len() == devices.len() - 1 && peers.iter().all(|peer| peer["gossips"].is_string())
    })
}

fn sites_of(seed: &Seed) -> Vec<Value> {
    let shown = seed.run_operator(&["fleet", "sites", "--org", "acme", "--json"]).json();
    shown["sites"].as_array().expect("`fleet sites` lists sites").clone()
}

fn names_of(site: &Value) -> Vec<&str> {
    let devices = site["devices"].as_array().expect("a site has devices");
    devices.iter().filter_map(|device| device["device"].as_str()).collect()
}

fn layout(seed: &Seed, bytes: u64) -> Layout {
    let bytes = usize::try_from(bytes).expect("layers of tests fit memory");
    Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, bytes)])])
}

#[test]
fn a_site_asks_the_seed_once_an_interval_and_what_one_device_is_told_reaches_all() {
    const INTERVAL: u64 = 4;
    const INTERVALS: u64 = 6;
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let mut devices: Vec<Device> = (0..3).map(|n| Device::enrol(&seed, &seed.org(), &format!("d{n}"))).collect();
    for device in &mut devices {
        lan.plug().start(device, &["--discovery", "mdns", "--poll-seconds", &INTERVAL.to_string()]);
    }
    wait::until("all to gossip", || all_gossip(&devices));
    let polls = || seed.metric("hedgerow_seed_polls_total");
    let site_polls = || seed.metric("hedgerow_seed_site_polls_total");
    wait::until("one to poll for all", || site_polls() >= 2);

    let (before, began) = (polls(), Instant::now());
    seed.publish("acme/web", &layout(&seed, MIB));
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 3);
    thread::sleep(Duration::from_secs(INTERVAL * INTERVALS).saturating_sub(began.elapsed()));
    let (made, intervals) = (polls() - before, began.elapsed().as_secs().div_ceil(INTERVAL) + 1);
    assert!(made <= intervals + 2, "{made} polls of 3 devices in {intervals} intervals");
    for device in &devices {
        assert!(device.log.events("state_refused").is_empty(), "{}", device.log.tail());
    }

    let sites = sites_of(&seed);
    assert_eq!(sites.iter().map(names_of).collect::<Vec<_>>(), [["d0", "d1", "d2"]], "{sites:?}");
    let version = &sites[0]["versions"][0];
    assert_eq!((&version["app"], &version["version"], &version["devices"]), (&"web".into(), &1.into(), &3.into()), "{sites:?}");
    let copies = version["wan_copies"].as_f64().unwrap();
    assert!((0.9..2.0).contains(&copies), "{version}");
    let text = seed.run_operator(&["fleet", "sites", "--org", "acme"]).succeeded().stdout;
    assert!(text.contains("d2") && text.contains("copies over the WAN on 3 devices"), "{text}");
}

#[test]
fn the_place_of_the_device_that_asks_is_taken_when_it_dies() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let mut devices: Vec<Device> = (0..3).map(|n| Device::enrol(&seed, &seed.org(), &format!("d{n}"))).collect();
    for device in &mut devices {
        lan.plug().start(device, &["--discovery", "mdns"]);
    }
    wait::until("all to gossip", || all_gossip(&devices));
    seed.publish("acme/web", &layout(&seed, MIB));
    let mut version = 1;
    while let Some(mut last) = devices.pop() {
        last.kill();
        if devices.is_empty() {
            break;
        }
        seed.start_rollout("acme/web", version);
        let wanted = version;
        wait::until("the others to have the version", || {
            let has = |device: &Device| device.log.events("version_stored").iter().any(|event| event["version"] == wanted);
            devices.iter().all(has)
        });
        seed.run_operator(&["rollout", "abort", "acme/web", "--json"]).json();
        version = seed.publish(
            "acme/web",
            &Layout::write(&seed.scratch(&format!("v{version}")), "2.0", &[("amd64", &[&Layer::random(version, 1000)])]),
        );
    }
}

#[test]
fn a_new_label_takes_effect_on_a_device_for_which_another_asks() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let mut devices: Vec<Device> = (0..2).map(|n| Device::enrol(&seed, &seed.org(), &format!("d{n}"))).collect();
    for device in &mut devices {
        lan.plug().start(device, &["--discovery", "mdns"]);
    }
    wait::until("both to gossip", || all_gossip(&devices));
    wait::until("one to poll for both", || seed.metric("hedgerow_seed_site_polls_total") >= 3);
    seed.publish("acme/web", &layout(&seed, MIB));
    let group = ["fleet", "group", "create", "west", "--app", "acme/web", "--selector", "side=west", "--priority", "1", "--json"];
    seed.run_operator(&group).json();
    seed.run_operator(&["rollout", "start", "acme/web", "--version", "1", "--group", "west", "--json"]).json();
    for device in &devices {
        seed.run_operator(&["fleet", "label", &device.name, "side=west", "--org", "acme", "--json"]).json();
        wait::until("the device to have what its new group has", || !device.log.events("version_stored").is_empty());
    }
}

#[test]
fn sites_with_the_same_addresses_behind_one_public_address_never_exchange_a_byte() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let router = lan.router();
    let mut twins = Twins::behind(&mut lan, &router);
    let mut sites: [Vec<Device>; 2] = [Vec::new(), Vec::new()];
    for (site, devices) in sites.iter_mut().enumerate() {
        for name in ["x", "y"] {
            let mut device = Device::enrol(&seed, &seed.org(), &format!("{name}{site}"));
            twins.plug(site).start(&mut device, &[]);
            devices.push(device);
        }
    }
    let others = |site: usize| BTreeSet::from([format!("x{site}"), format!("y{site}")]);
    let connected = |site: usize| -> BTreeSet<String> {
        let peers = sites[site].iter().flat_map(peers_of);
        peers.filter_map(|peer| peer["device"].as_str().map(str::to_owned)).collect()
    };
    wait::until("the devices of each site to be connected", || (0..2).all(|site| connected(site) == others(site)));
    seed.publish("acme/web", &layout(&seed, 4 * MIB));
    let before = seed.blob_bytes();
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 4);
    let copies = seed.blob_bytes() - before;
    assert!(copies >= 2 * 4 * MIB, "{copies} bytes came to two sites that cannot share");
    wait::until("the seed to know both sites", || sites_of(&seed).len() == 2);
    let known = sites_of(&seed);
    assert_eq!(known.iter().map(names_of).collect::<Vec<_>>(), [["x0", "y0"], ["x1", "y1"]]);
    assert_eq!(known[0]["addresses"], known[1]["addresses"], "both are behind one address");
    assert_eq!(twins.strayed(), 0, "packets left a site for somebody else than the seed");
    assert!((0..2).all(|site| connected(site) == others(site)));
}

fn refused_and_not_called_at_speed(own: &Device, stranger: &Device) {
    let refusals = || own.log.events("peer_refused").len() + stranger.log.events("peer_refused").len();
    wait::until("one to refuse the other", || refusals() > 0);
    let before = refusals();
    wait::throughout(Duration::from_secs(12), "nobody is connected", || own.peers() == 0 && stranger.peers() == 0);
    // Each end calls once a minute at most, and both ends of a call say so.
    assert!(refusals() - before <= 4, "{} refusals in 12 s", refusals() - before);
}

#[test]
fn a_device_under_another_authority_is_refused_and_not_called_at_speed() {
    let mut lan = Lan::new();
    let [mut own, mut stranger] = ["own", "stranger"].map(|name| {
        let seed = seed_at(&lan.router());
        let device = Device::enrol(&seed, &seed.org(), name);
        (device, seed)
    });
    for (device, _) in [&mut own, &mut stranger] {
        lan.plug().start(device, &["--discovery", "mdns"]);
    }
    refused_and_not_called_at_speed(&own.0, &stranger.0);
}

#[test]
fn a_revoked_device_is_refused_and_not_called_at_speed() {
    let mut lan = Lan::new();
    let seed = seed_at(&lan.router());
    let [mut own, mut stolen] = ["own", "stolen"].map(|name| Device::enrol(&seed, &seed.org(), name));
    for device in [&mut own, &mut stolen] {
        lan.plug().start(device, &["--discovery", "mdns"]);
    }
    wait::until("both to be connected", || own.peers() == 1 && stolen.peers() == 1);
    seed.run_operator(&["fleet", "revoke", "stolen", "--org", "acme", "--json"]).json();
    wait::until("the connection to be closed", || own.peers() == 0 && stolen.peers() == 0);
    refused_and_not_called_at_speed(&own, &stolen);
}

#[test]
fn a_new_address_in_mid_transfer_costs_no_more_than_what_was_in_flight() {
    const BYTES: u64 = 32 * MIB;
    let mut lan = Lan::new();
    let mut seed = seed_at(&lan.router());
    let mut holder = Device::enrol(&seed, &seed.org(), "holder");
    let at_holder = lan.plug();
    at_holder.start(&mut holder, &["--discovery", "mdns"]);
    let layout = layout(&seed, BYTES);
    seed.publish("acme/web", &layout);
    seed.start_rollout("acme/web", 1);
    seed.await_done("acme/web", 1);
    // From now on the WAN brings next to nothing, and the LAN takes some seconds.
    assert!(seed.stop().success());
    seed.run(&["--egress-mbit", "2"]);
    at_holder.run(&["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "60mbit", "burst", "64kb", "latency", "100ms"]);
    let (mut moves, place) = (Device::enrol(&seed, &seed.org(), "moves"), lan.plug());
    place.start(&mut moves, &["--discovery", "mdns"]);
    let layer = &layout.images[0].layers[0];
    let verified = |device: &Device| device.verified_units(layer, BYTES);
    let count = |units: &[bool]| units.iter().filter(|unit| **unit).count() as u64 * tests::device::UNIT_BYTES;
    wait::until("a third of the layer to have come", || count(&verified(&moves)) >= BYTES / 3);

    let before = verified(&moves);
    let new = format!("{}.203", place.address.rsplit_once('.').expect("an IPv4 address").0);
    place.run(&["ip", "address", "del", &format!("{}/24", place.address), "dev", "eth0"]);
    place.run(&["ip", "address", "add", &format!("{new}/24"), "dev", "eth0"]);
    wait::until("the image to be there", || {
        let now = verified(&moves);
        assert!(before.iter().zip(&now).all(|(before, now)| *now || !*before), "a verified unit was lost");
        moves.holds(&layout.images[0].blobs())
    });
    let sent = holder.metric("hedgerow_device_lan_sent_bytes_total");
    let wan: u64 = moves.wan_bytes().values().sum();
    eprintln!("{BYTES} bytes: {} were there when the address changed, the holder sent {sent} in all, the seed {wan}", count(&before));
    // Headers of datagrams are 4 %; what one peer is asked for at a time is 4 MiB at most.
    assert!(sent + wan <= BYTES + BYTES / 20 + 4 * MIB, "{sent} bytes over the LAN and {wan} over the WAN for {BYTES}");
}
