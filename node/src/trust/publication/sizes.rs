//! Claims about what metadata costs, in bytes and in time.

use std::time::Instant;

use protocol::name::GroupName;
use protocol::statement::assignment::{self, AcceptedAssignment, Assignment};
use protocol::statement::counters::Counters;
use protocol::statement::desired::{self, AcceptedDesiredState, Activation, Counter, DesiredApp, DesiredState, OnlineKey};
use protocol::statement::version::AcceptedStatement;

use super::super::client::VerifiedRepository;
use super::super::fixture::{Counted, Fixture, NOW, token};
use super::super::updater::Refreshed;
use super::*;
use crate::gzip;

const APPS: u64 = 1000;
const VERSIONS: u64 = 100;

/// An organisation of 1,000 apps with 100 versions each. One of them is published version by version; the others stand in
/// the top-level targets and the snapshot, which is what devices see of them.
async fn large(platforms: &[&str]) -> (Fixture, BTreeMap<String, u64>) {
    let mut fixture = Fixture::new();
    fixture.platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
    for version in 1..=VERSIONS {
        fixture.publish("app-0001", version).await;
    }
    let mut pins = fixture.files(None).await.pins().unwrap();
    pins.extend((2..=APPS).map(|number| (format!("app-app-{number:04}.json"), VERSIONS)));
    let document: serde_json::Value = serde_json::from_str(&fixture.served.files["2.targets.json"]).unwrap();
    let mut signed = document["signed"].clone();
    let keyid = fixture.keys.keyid("app").unwrap();
    for number in 2..=APPS {
        let app = format!("app-{number:04}").parse().unwrap();
        let delegation = metadata::delegation(&metadata::role_name(&app), &app, std::slice::from_ref(&keyid), 1);
        signed["delegations"]["roles"].as_array_mut().unwrap().push(delegation);
    }
    let targets = metadata::next_targets(signed, 2, NOW);
    pins.insert("targets.json".to_owned(), 3);
    let content = metadata::sign(&targets, &[fixture.keys.secret("targets").unwrap()]);
    fixture.serve(vec![TufFile { name: "3.targets.json".to_owned(), content }]);
    put_in_force(&mut fixture, &pins, 1000);
    (fixture, pins)
}

fn put_in_force(fixture: &mut Fixture, pins: &BTreeMap<String, u64>, version: u64) {
    let online = fixture.signer.online_files((version, version), pins, NOW);
    fixture.serve(online.into());
}

/// The bytes of the files that `took` asked for, plain and compressed.
fn bytes(fixture: &Fixture, took: &[String]) -> (usize, usize) {
    let content = |name: &String| match name.strip_prefix("targets/") {
        Some(path) => fixture.served.targets[path].clone(),
        None => fixture.served.files.get(name).map(|content| content.clone().into_bytes()).unwrap_or_default(),
    };
    let sizes = took.iter().map(|name| (name, content(name))).map(|(name, content)| {
        let compressed = if name == "timestamp.json" { content.len() } else { gzip::compress(&content).unwrap().len() };
        println!("  {name}: {} bytes, {compressed} compressed", content.len());
        (content.len(), compressed)
    });
    sizes.fold((0, 0), |(plain, wire), (more, compressed)| (plain + more, wire + compressed))
}

/// Version [`VERSIONS`] + 1 of the first app is published.
async fn publish_another(fixture: &mut Fixture, pins: &mut BTreeMap<String, u64>) -> VersionName {
    let name = version(VERSIONS + 1);
    let source = Counted::new(&fixture.served);
    let current = RepositoryFiles::load(&source, Some(&name.app)).await.unwrap();
    let mut view = fixture.open("operator");
    view.refresh(NOW, &source, None).await.unwrap();
    view.published(&name.app, &source).await.unwrap();
    let prepared = prepare_version(&view, &fixture.keys, fixture.new_version(&name), NOW).unwrap();
    let checked = check_publication(&fixture.org, &current, &prepared, &fixture.signer, NOW).unwrap();
    pins.insert("app-app-0001.json".to_owned(), VERSIONS + 1);
    fixture.store(checked);
    put_in_force(fixture, pins, 1002);
    name
}

fn version(version: u64) -> VersionName {
    VersionName { app: "app-0001".parse().unwrap(), version }
}

/// A device that is up to date, and what it fetched for that.
async fn up_to_date(fixture: &Fixture, name: &str) -> (VerifiedRepository, Vec<String>) {
    let (source, mut device) = (Counted::new(&fixture.served), fixture.open(name));
    device.refresh(NOW, &source, None).await.unwrap();
    device.statement(token(), &version(VERSIONS), &fixture.platforms[0], NOW, &source).await.unwrap();
    (device, source.take_names())
}

/// A device takes what the seed has now.
async fn take(fixture: &Fixture, device: &mut VerifiedRepository, name: &VersionName, source: &Counted) -> AcceptedStatement {
    let timestamp = fixture.served.files["timestamp.json"].as_bytes();
    assert_eq!(device.refresh(NOW, source, Some(timestamp)).await.unwrap(), Refreshed::Updated);
    device.statement(token(), name, &fixture.platforms[0], NOW, source).await.unwrap()
}

/// What a device that is up to date fetches for one new version, and what a new device fetches, in an organisation of 1,000
/// apps × 100 versions.
async fn measured(platforms: &[&str]) -> [(usize, usize); 2] {
    let (mut fixture, mut pins) = large(platforms).await;
    let (mut device, took) = up_to_date(&fixture, "device").await;
    let enrolment: Vec<String> = [vec!["1.root.json".to_owned()], took].concat();
    println!("first enrolment, {platforms:?}:");
    let first = bytes(&fixture, &enrolment);

    let name = publish_another(&mut fixture, &mut pins).await;
    let source = Counted::new(&fixture.served);
    take(&fixture, &mut device, &name, &source).await;
    let took: Vec<String> = [vec!["timestamp.json".to_owned()], source.take_names()].concat();
    println!("one new version, {platforms:?}:");
    [first, bytes(&fixture, &took)]
}

/// From the seed's answer to what is acted on: metadata, statement, assignment and desired state.
#[tokio::test]
#[ignore = "a measurement: `cargo tools bench verification` runs it"]
async fn what_a_changed_state_costs_a_device_in_time() {
    const DEVICES: usize = 15;
    let (mut fixture, mut pins) = large(&["linux-amd64", "linux-arm64"]).await;
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        devices.push(up_to_date(&fixture, &format!("device-{number}")).await.0);
    }
    let name = publish_another(&mut fixture, &mut pins).await;
    let (source, documents) = (Counted::new(&fixture.served), Documents::of(&fixture, &name));
    let mut took = Vec::new();
    for mut device in devices {
        let began = Instant::now();
        let statement = take(&fixture, &mut device, &name, &source).await;
        let state = documents.accept(&device.online_key());
        took.push(began.elapsed());
        assert_eq!(state.state().apps[&name.app].statements[&fixture.platforms[0]], statement.digest());
    }
    took.sort_unstable();
    println!("verification: {}", json!({"median_ms": took[DEVICES / 2].as_secs_f64() * 1e3}));
}

/// What the seed says to a device of its own, as signed.
struct Documents {
    assignment: String,
    state: String,
}

const EXPIRES: WallTime = NOW.plus_seconds(86_400);

impl Documents {
    fn of(fixture: &Fixture, name: &VersionName) -> Self {
        let counter = Counter { epoch: 1, n: 1 };
        let assignment = Assignment {
            format: assignment::FORMAT,
            org: fixture.org.clone(),
            device: "kiosk".parse().unwrap(),
            counter,
            expires: EXPIRES,
            otherwise: GroupName::all(),
            apps: BTreeMap::new(),
        };
        let statements = fixture.new_version(name).statements.into_iter().map(|(platform, text)| (platform, Digest::sha256(&text)));
        let app = DesiredApp {
            version: name.version,
            rollout: "r-1".parse().unwrap(),
            statements: statements.collect(),
            activation: Activation::default(),
            before: None,
        };
        let (org, group, apps) = (fixture.org.clone(), GroupName::all(), [(name.app.clone(), app)].into());
        let state = DesiredState { format: desired::FORMAT, org, group, counter, expires: EXPIRES, apps };
        Self { assignment: fixture.signer.sign_assignment(&assignment), state: fixture.signer.sign_desired_state(&state) }
    }

    fn accept(&self, online: &OnlineKey) -> AcceptedDesiredState {
        let (device, mut counters) = ("kiosk".parse().unwrap(), Counters::default());
        let assigned = AcceptedAssignment::accept(self.assignment.as_bytes(), online, &device, &mut counters, NOW).unwrap();
        AcceptedDesiredState::accept(self.state.as_bytes(), online, &assigned, &mut counters, NOW).unwrap()
    }
}

#[tokio::test]
async fn the_metadata_of_a_new_version_among_a_hundred_thousand_fits_into_48_kib_plain_and_16_on_the_wire() {
    let [(enrolment, enrolment_wire), (plain, wire)] = measured(&["linux-amd64"]).await;
    println!("first enrolment {enrolment} bytes, {enrolment_wire} on the wire; new version {plain} bytes, {wire} on the wire");
    assert!(enrolment <= 512 << 10 && plain <= 48 << 10 && wire <= 16 << 10);
}

#[tokio::test]
async fn a_second_platform_costs_what_its_hashes_do() {
    let [(enrolment, _), (plain, wire)] = measured(&["linux-amd64", "linux-arm64"]).await;
    println!("new version {plain} bytes, {wire} on the wire");
    assert!(enrolment <= 512 << 10 && plain <= 56 << 10 && wire <= 16 << 10);
}
