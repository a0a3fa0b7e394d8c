//! Claims about what a seed puts in force and what it refuses.

use super::super::fixture::{Fixture, NOW};
use super::super::metadata::TARGETS_SECONDS;
use super::*;
use ed25519_dalek::SigningKey;
use serde_json::Value;

/// The uploaded app role with `change` made to it, signed again by the operator's app key.
fn resigned(fixture: &Fixture, publication: &Publication, change: impl FnOnce(&mut Value)) -> Publication {
    resigned_by(fixture.keys.secret("app").unwrap(), publication, change)
}

fn resigned_by(key: &SigningKey, publication: &Publication, change: impl FnOnce(&mut Value)) -> Publication {
    let mut publication = publication.clone();
    let mut document: Value = serde_json::from_str(&publication.app_role.content).unwrap();
    change(&mut document["signed"]);
    publication.app_role.content = metadata::sign(&document["signed"], &[key]);
    publication
}

async fn refused(fixture: &Fixture, publication: &Publication) -> &'static str {
    fixture.check(publication, NOW).await.unwrap_err().reason()
}

#[tokio::test]
async fn a_publication_travels_as_json_and_is_put_in_force() {
    let fixture = Fixture::new();
    let publication = fixture.prepare("web", 1, NOW).await.unwrap();
    let text = serde_json::to_string(&publication).unwrap();
    assert_eq!(serde_json::from_str::<Publication>(&text).unwrap(), publication);
    let checked = fixture.check(&publication, NOW).await.unwrap();
    let names: Vec<_> = checked.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["1.app-web.json", "2.targets.json", "2.snapshot.json", "timestamp.json"]);
    assert_eq!(checked.record.statements.len(), 2);
    assert_eq!(checked.statements.len(), 2);
}

#[tokio::test]
async fn a_known_app_needs_no_new_delegation() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let publication = fixture.prepare("web", 2, NOW).await.unwrap();
    assert_eq!(publication.targets, None);
    assert_eq!(fixture.check(&publication, NOW).await.unwrap().record.version, 2);
}

#[tokio::test]
async fn numbers_are_neither_taken_twice_nor_skipped() {
    let mut fixture = Fixture::new();
    let first = fixture.prepare("web", 1, NOW).await.unwrap();
    fixture.publish("web", 1).await;
    let conflict = fixture.check(&first, NOW).await.unwrap_err();
    assert!(conflict.is_conflict() && matches!(conflict, PublicationRefused::OtherNumber { asked: 1, next: 2 }));
    let skipped = fixture.prepare("web", 3, NOW).await.unwrap_err();
    assert!(matches!(skipped, PublicationRefused::OtherNumber { asked: 3, next: 2 }));
}

#[tokio::test]
async fn of_two_new_apps_at_once_one_is_told_to_publish_again() {
    let mut fixture = Fixture::new();
    let web = fixture.prepare("web", 1, NOW).await.unwrap();
    fixture.publish("api", 1).await;
    let conflict = fixture.check(&web, NOW).await.unwrap_err();
    assert!(conflict.is_conflict() && conflict.reason() == "stale");
    fixture.publish("web", 1).await;
}

#[tokio::test]
async fn another_key_cannot_publish() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let good = fixture.prepare("web", 2, NOW).await.unwrap();
    let forged = resigned_by(&SigningKey::from_bytes(&[9; 32]), &good, |_| ());
    assert_eq!(refused(&fixture, &forged).await, "bad_signature");
    let by_seed = resigned_by(&fixture.signer.key, &good, |_| ());
    assert_eq!(refused(&fixture, &by_seed).await, "bad_signature");
    let mut stranger = Fixture::new();
    stranger.served = fixture.served.clone();
    let view = fixture.open("operator");
    let name = VersionName { app: "web".parse().unwrap(), version: 2 };
    let prepared = prepare_version(&view, &stranger.keys, fixture.new_version(&name), NOW);
    assert_eq!(prepared.unwrap_err().reason(), "not_refreshed", "the role was not loaded");
}

#[tokio::test]
async fn published_targets_never_change() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let good = fixture.prepare("web", 2, NOW).await.unwrap();
    let changed = resigned(&fixture, &good, |signed| signed["targets"]["web/1/linux-amd64.json"]["length"] = json!(3));
    assert_eq!(refused(&fixture, &changed).await, "changed_target");
    let removed = resigned(&fixture, &good, |signed| {
        signed["targets"].as_object_mut().unwrap().remove("web/1/linux-amd64.json");
    });
    assert_eq!(refused(&fixture, &removed).await, "changed_target");
    assert!(fixture.check(&good, NOW).await.is_ok());
}

#[tokio::test]
async fn the_role_lists_exactly_the_statements() {
    let fixture = Fixture::new();
    let good = fixture.prepare("web", 1, NOW).await.unwrap();
    let extra = resigned(&fixture, &good, |signed| {
        signed["targets"]["web/2/linux-amd64.json"] = metadata::target_entry(b"later");
    });
    assert_eq!(refused(&fixture, &extra).await, "other_targets");
    let other = resigned(&fixture, &good, |signed| {
        signed["targets"]["web/1/linux-amd64.json"] = metadata::target_entry(b"other");
    });
    assert_eq!(refused(&fixture, &other).await, "other_targets");
    let deeper = resigned(&fixture, &good, |signed| signed["delegations"] = json!({ "keys": {}, "roles": [] }));
    assert_eq!(refused(&fixture, &deeper).await, "other_targets");
    let mut renamed = good.clone();
    renamed.app_role.name = "1.root.json".into();
    assert_eq!(refused(&fixture, &renamed).await, "other_name");
    let skipped = resigned(&fixture, &good, |signed| signed["version"] = json!(7));
    assert_eq!(refused(&fixture, &skipped).await, "stale");
    let expired = resigned(&fixture, &good, |signed| signed["expires"] = json!("2020-01-01T00:00:00Z"));
    assert_eq!(refused(&fixture, &expired).await, "expired");
}

#[tokio::test]
async fn statements_are_about_this_version() {
    let fixture = Fixture::new();
    let good = fixture.prepare("web", 1, NOW).await.unwrap();
    let mut swapped = good.clone();
    let text = swapped.statements.values().next().unwrap().clone();
    swapped.statements.values_mut().for_each(|statement| statement.clone_from(&text));
    assert_eq!(refused(&fixture, &swapped).await, "bad_statement");
    let mut none = good.clone();
    none.statements.clear();
    assert_eq!(refused(&fixture, &none).await, "other_platform_count");
    let mut undelegated = good;
    undelegated.targets = None;
    assert_eq!(refused(&fixture, &undelegated).await, "other_delegations");
}

#[tokio::test]
async fn new_top_level_targets_add_one_app_for_its_own_paths_and_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.publish("api", 1).await;
    let good = fixture.prepare("web", 1, NOW).await.unwrap();
    let with = |change: fn(&mut Value)| {
        let mut publication = good.clone();
        let targets = publication.targets.as_mut().unwrap();
        let mut document: Value = serde_json::from_str(&targets.content).unwrap();
        change(&mut document["signed"]);
        targets.content = metadata::sign(&document["signed"], &[fixture.keys.secret("targets").unwrap()]);
        publication
    };
    let wide = with(|signed| signed["delegations"]["roles"][1]["paths"] = json!(["*/*/*.json"]));
    assert_eq!(refused(&fixture, &wide).await, "other_delegations");
    let widened = with(|signed| signed["delegations"]["roles"][0]["paths"] = json!(["*/*/*.json"]));
    assert_eq!(refused(&fixture, &widened).await, "other_delegations");
    let own = with(|signed| signed["targets"]["web/1/linux-amd64.json"] = metadata::target_entry(b"x"));
    assert_eq!(refused(&fixture, &own).await, "other_delegations");
    let mut forged = good.clone();
    let targets = forged.targets.as_mut().unwrap();
    let document: Value = serde_json::from_str(&targets.content).unwrap();
    targets.content = metadata::sign(&document["signed"], &[fixture.keys.secret("app").unwrap()]);
    assert_eq!(refused(&fixture, &forged).await, "bad_signature");
    assert!(fixture.check(&good, NOW).await.is_ok());
}

#[tokio::test]
async fn publishing_renews_targets_that_are_due_even_if_they_have_expired() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    for age in [TARGETS_SECONDS / 2, TARGETS_SECONDS + 1] {
        let later = NOW.plus_seconds(age);
        let mut aged = Fixture::new();
        std::mem::swap(&mut aged, &mut fixture);
        let current = aged.files(None).await;
        let renewed = aged.signer.renew(&aged.org, &current, later).unwrap();
        aged.serve(renewed);
        let publication = aged.prepare("web", 2, later).await.unwrap();
        assert!(publication.targets.is_some());
        aged.check(&publication, later).await.unwrap();
        fixture = aged;
    }
}

#[tokio::test]
async fn versions_beyond_fifty_move_to_the_archive_save_those_that_devices_shall_have() {
    let mut fixture = Fixture::new();
    for version in 1..=51 {
        fixture.publish("web", version).await;
    }
    fixture.deployed = [2].into();
    let publication = fixture.prepare("web", 52, NOW).await.unwrap();
    assert_eq!(publication.archive_role, None, "1 was moved with 51, and 2 is wanted");
    fixture.deployed.clear();
    let publication = fixture.prepare("web", 52, NOW).await.unwrap();
    let archive = publication.archive_role.clone().unwrap();
    assert_eq!(archive.name, "2.archive-web.json");
    let paths = |content: &str| -> Vec<String> {
        let document: Value = serde_json::from_str(content).unwrap();
        document["signed"]["targets"].as_object().unwrap().keys().cloned().collect()
    };
    let archived = ["web/1/linux-amd64.json", "web/1/linux-arm64.json", "web/2/linux-amd64.json", "web/2/linux-arm64.json"];
    assert_eq!(paths(&archive.content), archived);
    assert_eq!(paths(&publication.app_role.content).len(), 100);
    fixture.check(&publication, NOW).await.unwrap();

    let changed = |change: fn(&mut Value)| {
        let mut publication = publication.clone();
        let archive = publication.archive_role.as_mut().unwrap();
        let mut document: Value = serde_json::from_str(&archive.content).unwrap();
        change(&mut document["signed"]);
        archive.content = metadata::sign(&document["signed"], &[fixture.keys.secret("app").unwrap()]);
        publication
    };
    let lost = changed(|signed| {
        signed["targets"].as_object_mut().unwrap().remove("web/1/linux-amd64.json");
    });
    assert_eq!(refused(&fixture, &lost).await, "changed_target");
    let never_moved = changed(|signed| {
        signed["targets"].as_object_mut().unwrap().remove("web/2/linux-amd64.json");
    });
    assert_eq!(refused(&fixture, &never_moved).await, "changed_target");
    let twice = changed(|signed| signed["targets"]["web/52/linux-amd64.json"] = metadata::target_entry(b"x"));
    assert_eq!(refused(&fixture, &twice).await, "other_targets");
    let deeper = changed(|signed| signed["delegations"] = json!({ "keys": {}, "roles": [] }));
    assert_eq!(refused(&fixture, &deeper).await, "other_targets");
    let wider = resigned(&fixture, &publication, |signed| signed["delegations"]["roles"][0]["paths"] = json!(["*/*/*.json"]));
    assert_eq!(refused(&fixture, &wider).await, "other_targets");
}

#[tokio::test]
async fn the_floor_goes_down_only_if_that_is_said() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    fixture.floor = Some(2);
    fixture.publish("web", 2).await;
    fixture.floor = Some(1);
    let lower = fixture.prepare("web", 3, NOW).await.unwrap();
    assert_eq!(refused(&fixture, &lower).await, "lowers_floor");
    fixture.lower_floor = true;
    let lower = fixture.prepare("web", 3, NOW).await.unwrap();
    fixture.check(&lower, NOW).await.unwrap();
    fixture.floor = Some(4);
    let above = fixture.prepare("web", 3, NOW).await.unwrap();
    assert_eq!(refused(&fixture, &above).await, "floor_above_versions");
}

/// What a device fetches for a new version of an app in an organisation of 1,000 apps, each with 100 versions of one platform:
/// timestamp, snapshot, the app's role and a statement. Two pins an app, its role and its archive, are most of it.
#[tokio::test]
async fn the_metadata_of_a_new_version_among_a_hundred_thousand_fits_into_ninety_six_kibibytes() {
    let mut fixture = Fixture::new();
    for version in 1..=51 {
        fixture.publish("app-0001", version).await;
    }
    let mut pins = fixture.files(None).await.pins().unwrap();
    for number in 1..=1000 {
        pins.insert(format!("app-app-{number:04}.json"), 100);
        pins.insert(format!("archive-app-{number:04}.json"), 50);
    }
    let [snapshot, timestamp] = fixture.signer.online_files((100_000, 100_000), &pins, NOW);
    let role: Value = serde_json::from_str(&fixture.served.files["51.app-app-0001.json"]).unwrap();
    assert_eq!(role["signed"]["targets"].as_object().unwrap().len(), 100, "50 versions of two platforms");
    let statement = fixture.served.targets.values().map(Vec::len).max().unwrap();
    let sizes = [timestamp.content.len(), snapshot.content.len(), role.to_string().len(), statement];
    println!("timestamp, snapshot, role, statement: {sizes:?} bytes, {} in all", sizes.iter().sum::<usize>());
    assert!(sizes.iter().sum::<usize>() <= 96 << 10, "{sizes:?}");
}
