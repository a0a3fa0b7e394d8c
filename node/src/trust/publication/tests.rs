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
    assert_eq!(publication.archive, None, "1 was moved with 51, and 2 is wanted");
    fixture.deployed.clear();
    let publication = fixture.prepare("web", 52, NOW).await.unwrap();
    let archive: Value = serde_json::from_str(&publication.archive.as_ref().unwrap().content).unwrap();
    let archived: Vec<&String> = archive["targets"].as_object().unwrap().keys().collect();
    assert_eq!(archived, ["web/1/linux-amd64.json", "web/1/linux-arm64.json", "web/2/linux-amd64.json", "web/2/linux-arm64.json"]);
    let role: Value = serde_json::from_str(&publication.app_role.content).unwrap();
    assert_eq!(role["signed"]["targets"].as_object().unwrap().len(), 101, "50 versions for two platforms, and the archive");
    fixture.check(&publication, NOW).await.unwrap();

    // Another archive, which the app's key pins.
    let changed = |change: fn(&mut Value)| {
        let mut archive = archive.clone();
        change(&mut archive["targets"]);
        let content = archive.to_string();
        let pinned = metadata::target_entry(content.as_bytes());
        let mut publication = resigned(&fixture, &publication, |signed| signed["targets"]["web/archive/versions.json"] = pinned);
        let name = archive::file_name(&publication.app, &Digest::sha256(content.as_bytes()));
        publication.archive = Some(TufFile { name, content });
        publication
    };
    let lost = changed(|targets| drop(targets.as_object_mut().unwrap().remove("web/1/linux-amd64.json")));
    assert_eq!(refused(&fixture, &lost).await, "changed_target");
    let never_moved = changed(|targets| drop(targets.as_object_mut().unwrap().remove("web/2/linux-amd64.json")));
    assert_eq!(refused(&fixture, &never_moved).await, "changed_target");
    let twice = changed(|targets| targets["web/52/linux-amd64.json"] = metadata::target_entry(b"x"));
    assert_eq!(refused(&fixture, &twice).await, "other_targets");
    let extra = changed(|targets| targets["web/53/linux-amd64.json"] = metadata::target_entry(b"x"));
    assert_eq!(refused(&fixture, &extra).await, "other_targets");
    let mut unpinned = changed(|_| ());
    unpinned.archive.as_mut().unwrap().content.push(' ');
    assert_eq!(refused(&fixture, &unpinned).await, "other_name");
    unpinned.archive = None;
    assert_eq!(refused(&fixture, &unpinned).await, "mismatch", "the archive in force is not the one that the role pins");
    let dropped =
        resigned(&fixture, &publication, |signed| drop(signed["targets"].as_object_mut().unwrap().remove("web/archive/versions.json")));
    assert_eq!(refused(&fixture, &dropped).await, "changed_target");
}

#[tokio::test]
async fn a_version_comes_with_the_evidence_that_its_statements_say_signed_by_the_apps_key() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let good = fixture.prepare("web", 2, NOW).await.unwrap();
    let checked = fixture.check(&good, NOW).await.unwrap();
    let subjects: Vec<Digest> = checked.evidence.iter().map(|evidence| evidence.subject).collect();
    assert_eq!(
        subjects,
        ["linux-amd64", "linux-arm64"].map(|platform| Digest::sha256(platform.as_bytes())),
        "the manifests of the fixture"
    );

    let with = |evidence: &BTreeMap<Platform, Vec<String>>| Publication { evidence: evidence.clone(), ..good.clone() };
    assert_eq!(refused(&fixture, &with(&BTreeMap::new())).await, "bad_evidence");
    let mut swapped = good.evidence.clone();
    let first = swapped.values().next().unwrap().clone();
    swapped.values_mut().for_each(|envelopes| envelopes.clone_from(&first));
    assert_eq!(refused(&fixture, &with(&swapped)).await, "bad_evidence");
    let by_another = fixture.prepare("api", 1, NOW).await.unwrap().evidence;
    assert_eq!(refused(&fixture, &with(&by_another)).await, "bad_evidence", "of another app");
    let mut forged = good.evidence.clone();
    for text in forged.values_mut().flatten() {
        let envelope: Value = serde_json::from_str(text).unwrap();
        let payload = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, envelope["payload"].as_str().unwrap()).unwrap();
        let sealed = protocol::envelope::Envelope::seal("application/vnd.in-toto+json", &payload, fixture.signer.keyid(), |bytes| {
            ed25519_dalek::Signer::sign(&fixture.signer.key, bytes)
        });
        *text = serde_json::to_string(&sealed).unwrap();
    }
    assert_eq!(refused(&fixture, &with(&forged)).await, "bad_evidence", "the seed's online key signs none");
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
