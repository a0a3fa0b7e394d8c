//! Claims about what metadata costs, in bytes and in time.

use std::time::Instant;

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

/// What a device that is up to date fetches for one new version, and what a new device fetches, in an organisation of 1,000
/// apps × 100 versions.
async fn measured(platforms: &[&str]) -> [(usize, usize); 2] {
    let (mut fixture, mut pins) = large(platforms).await;
    let name = |version| VersionName { app: "app-0001".parse().unwrap(), version };
    let platform = fixture.platforms[0].clone();
    let (source, mut device) = (Counted::new(&fixture.served), fixture.open("device"));
    device.refresh(NOW, &source, None).await.unwrap();
    device.statement(token(), &name(VERSIONS), &platform, NOW, &source).await.unwrap();
    let enrolment: Vec<String> = [vec!["1.root.json".to_owned()], source.take_names()].concat();
    println!("first enrolment, {platforms:?}:");
    let first = bytes(&fixture, &enrolment);

    let current = RepositoryFiles::load(&source, Some(&name(1).app)).await.unwrap();
    let mut view = fixture.open("operator");
    view.refresh(NOW, &source, None).await.unwrap();
    view.published(&name(1).app, &source).await.unwrap();
    let prepared = prepare_version(&view, &fixture.keys, fixture.new_version(&name(VERSIONS + 1)), NOW).unwrap();
    let checked = check_publication(&fixture.org, &current, &prepared, &fixture.signer, NOW).unwrap();
    pins.insert("app-app-0001.json".to_owned(), VERSIONS + 1);
    fixture.store(checked);
    put_in_force(&mut fixture, &pins, 1002);

    let source = Counted::new(&fixture.served);
    let timestamp = fixture.served.files["timestamp.json"].clone().into_bytes();
    let began = Instant::now();
    assert_eq!(device.refresh(NOW, &source, Some(&timestamp)).await.unwrap(), Refreshed::Updated);
    device.statement(token(), &name(VERSIONS + 1), &platform, NOW, &source).await.unwrap();
    println!("verified and kept in {:?} (goal: 5 ms)", began.elapsed());
    let took: Vec<String> = [vec!["timestamp.json".to_owned()], source.take_names()].concat();
    println!("one new version, {platforms:?}:");
    [first, bytes(&fixture, &took)]
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
