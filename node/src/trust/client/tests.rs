//! Claims about what a device or operator believes and what it refuses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::digest::Digest;
use serde_json::{Value, json};

use super::super::fixture::{Counted, Fixture, NOW, PLATFORMS, token};
use super::super::metadata::{SNAPSHOT_SECONDS, TARGETS_SECONDS, TIMESTAMP_SECONDS};
use super::super::online_key::OnlineSigner;
use super::super::repository::{new_repository, roots_from};
use super::*;

fn name(app: &str, version: u64) -> VersionName {
    VersionName { app: app.parse().unwrap(), version }
}

async fn statement(
    device: &mut VerifiedRepository,
    source: &Counted,
    app: &str,
    version: u64,
    now: WallTime,
) -> Result<AcceptedStatement, TrustRefused> {
    device.statement(token(), &name(app, version), &PLATFORMS[0].parse().unwrap(), now, source).await
}

fn reason<T>(result: Result<T, TrustRefused>) -> &'static str {
    result.err().map_or("accepted", |refused| refused.reason())
}

/// `file` as served, with `change` made to what is signed, signed again by the seed's online key.
fn forge(fixture: &mut Fixture, file: &str, new_name: &str, change: impl FnOnce(&mut Value)) {
    let mut document: Value = serde_json::from_str(&fixture.served.files[file]).unwrap();
    change(&mut document["signed"]);
    let content = metadata::sign(&document["signed"], &[&fixture.signer.key]);
    fixture.served.files.insert(new_name.to_owned(), content);
}

fn kept(fixture: &Fixture, file: &str) -> PathBuf {
    fixture.home.path().join("device").join(file)
}

#[tokio::test]
async fn a_device_accepts_what_was_published_and_asks_for_no_more_than_it_needs() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    assert_eq!(reason(statement(&mut device, &source, "web", 1, NOW).await), "not_refreshed");
    assert_eq!(device.refresh(NOW, &source, None).await.unwrap(), Refreshed::Updated);
    assert_eq!(source.take_requests(), 4, "next root, timestamp, snapshot, targets");
    for platform in PLATFORMS {
        let platform: Platform = platform.parse().unwrap();
        let accepted = device.statement(token(), &name("web", 1), &platform, NOW, &source).await.unwrap();
        assert_eq!(accepted.statement().platform, platform);
    }
    assert_eq!(source.take_requests(), 3, "the app's role once, and two statements");
    let timestamp = fixture.served.files["timestamp.json"].clone();
    assert_eq!(device.refresh(NOW, &source, Some(timestamp.as_bytes())).await.unwrap(), Refreshed::Unchanged);
    assert_eq!(source.take_requests(), 0);
    assert_eq!(device.refresh(NOW, &source, None).await.unwrap(), Refreshed::Unchanged);
    assert_eq!(source.take_requests(), 2, "next root and timestamp");

    fixture.publish("web", 2).await;
    let source = Counted::new(&fixture.served);
    let timestamp = fixture.served.files["timestamp.json"].clone();
    assert_eq!(device.refresh(NOW, &source, Some(timestamp.as_bytes())).await.unwrap(), Refreshed::Updated);
    assert_eq!(source.take_requests(), 3, "next root, snapshot, and the role of the app that is kept; the targets are as before");
    assert_eq!(statement(&mut device, &source, "web", 2, NOW).await.unwrap().statement().version, 2);
    assert_eq!(statement(&mut device, &source, "web", 1, NOW).await.unwrap().statement().version, 1);
    assert_eq!(source.take_requests(), 1, "one statement; the other is kept");
    assert_eq!(reason(statement(&mut device, &source, "web", 3, NOW).await), "not_published");
    assert_eq!(reason(statement(&mut device, &source, "api", 1, NOW).await), "not_published");
    assert_eq!(device.online_key().key, fixture.signer.public_key());
    assert_eq!(device.online_key().epoch, 1);
}

#[tokio::test]
async fn an_app_may_be_called_like_a_top_level_role() {
    let mut fixture = Fixture::new();
    for app in ["root", "timestamp"] {
        fixture.publish(app, 1).await;
    }
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    for app in ["root", "timestamp"] {
        assert_eq!(statement(&mut device, &source, app, 1, NOW).await.unwrap().statement().app.as_str(), app);
    }
    let mut device = fixture.open("device");
    assert_eq!(device.refresh(NOW, &source, None).await.unwrap(), Refreshed::Unchanged);
}

#[tokio::test]
async fn a_restarted_device_goes_on_without_a_request() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    statement(&mut device, &source, "web", 1, NOW).await.unwrap();
    let nothing = Counted::default();
    let mut device = fixture.open("device");
    statement(&mut device, &nothing, "web", 1, NOW).await.unwrap();
    assert_eq!(nothing.take_requests(), 0);
    let later = NOW.plus_seconds(10 * TARGETS_SECONDS);
    let mut device = fixture.open("device");
    assert_eq!(reason(statement(&mut device, &nothing, "web", 1, later).await), "expired");
    let amd64 = PLATFORMS[0].parse().unwrap();
    device.accepted_before(token(), &name("web", 1), &amd64).unwrap();
    assert_eq!(reason(device.accepted_before(token(), &name("web", 2), &amd64)), "not_published");
    std::fs::write(kept(&fixture, "targets/web/1/linux-amd64.json"), "{}").unwrap();
    assert_eq!(reason(device.accepted_before(token(), &name("web", 1), &amd64)), "mismatch");
}

#[tokio::test]
async fn every_expiry_on_the_way_counts() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    let last = NOW.plus_seconds(TIMESTAMP_SECONDS - 1);
    statement(&mut device, &source, "web", 1, last).await.unwrap();
    let over = NOW.plus_seconds(TIMESTAMP_SECONDS);
    let refused = statement(&mut device, &source, "web", 1, over).await.unwrap_err();
    assert!(matches!(refused, TrustRefused::Expired { role, .. } if role == "timestamp"));
    let timestamp = fixture.served.files["timestamp.json"].clone();
    assert_eq!(reason(device.refresh(over, &source, Some(timestamp.as_bytes())).await), "expired");

    for (age, role) in [(SNAPSHOT_SECONDS, "snapshot"), (TARGETS_SECONDS, "targets"), (metadata::ROOT_SECONDS, "root")] {
        let later = NOW.plus_seconds(age);
        let current = fixture.files(None).await;
        let (timestamp, snapshot) = current.online_versions().unwrap();
        let mut files = fixture.signer.online_files((timestamp + 1, snapshot + 1), &current.pins().unwrap(), later);
        if role == "snapshot" {
            files = fixture.signer.online_files((timestamp + 1, snapshot), &current.pins().unwrap(), later);
            files[0] = current.snapshot;
        }
        fixture.serve(files.into());
        let refused = device.refresh(later, &Counted::new(&fixture.served), None).await.unwrap_err();
        assert!(matches!(&refused, TrustRefused::Expired { role: found, .. } if found == role), "{role}: {refused}");
    }
}

#[tokio::test]
async fn an_expired_app_role_is_refused_while_the_rest_is_fresh() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let later = NOW.plus_seconds(TARGETS_SECONDS / 2 + 1);
    let current = fixture.files(None).await;
    let renewed = fixture.signer.renew(&fixture.org, &current, later).unwrap();
    fixture.serve(renewed);
    let publication = fixture.prepare("api", 1, later).await.unwrap();
    let checked = fixture.check(&publication, later).await.unwrap();
    fixture.store(checked);
    let end = NOW.plus_seconds(TARGETS_SECONDS);
    let current = fixture.files(None).await;
    let renewed = fixture.signer.renew(&fixture.org, &current, end).unwrap();
    fixture.serve(renewed);
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    device.refresh(end, &source, None).await.unwrap();
    statement(&mut device, &source, "api", 1, end).await.unwrap();
    let refused = statement(&mut device, &source, "web", 1, end).await.unwrap_err();
    assert!(matches!(refused, TrustRefused::Expired { role, .. } if role == "app-web"));
}

#[tokio::test]
async fn forged_metadata_is_refused_and_changes_nothing() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let stranger = Fixture::new();
    for file in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        let mut source = Counted::new(&fixture.served);
        let document: Value = serde_json::from_str(&source.served.files[file]).unwrap();
        let forged = metadata::sign(&document["signed"], &[&stranger.signer.key]);
        source.served.files.insert(file.to_owned(), forged);
        let mut device = fixture.open(&format!("device-{file}"));
        assert_eq!(reason(device.refresh(NOW, &source, None).await), "bad_signature", "{file}");
        device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    }
    let mut source = Counted::new(&fixture.served);
    let document: Value = serde_json::from_str(&source.served.files["1.app-web.json"]).unwrap();
    source.served.files.insert("1.app-web.json".into(), metadata::sign(&document["signed"], &[&fixture.signer.key]));
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    assert_eq!(reason(statement(&mut device, &source, "web", 1, NOW).await), "bad_signature");

    let mut source = Counted::new(&fixture.served);
    source.served.targets.values_mut().for_each(|bytes| bytes[20] ^= 1);
    assert_eq!(reason(statement(&mut device, &source, "web", 1, NOW).await), "mismatch");
    source.served.targets.values_mut().for_each(|bytes| bytes.extend([b' '; 9]));
    assert_eq!(reason(statement(&mut device, &source, "web", 1, NOW).await), "too_large");
    source.served.targets.clear();
    assert_eq!(reason(statement(&mut device, &source, "web", 1, NOW).await), "unavailable");
}

#[tokio::test]
async fn nothing_goes_back_not_even_after_a_restart_with_everything_expired() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let old = fixture.served.clone();
    fixture.publish("web", 2).await;
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    statement(&mut device, &source, "web", 2, NOW).await.unwrap();
    assert_eq!(reason(device.refresh(NOW, &Counted::new(&old), None).await), "rolled_back");
    assert_eq!(reason(fixture.open("device").refresh(NOW, &Counted::new(&old), None).await), "rolled_back");

    let later = NOW.plus_seconds(TARGETS_SECONDS / 2);
    let mut replayed = Fixture::new();
    std::mem::swap(&mut replayed.signer, &mut fixture.signer);
    let pins = BTreeMap::from([("targets.json".to_owned(), 2), ("app-web.json".to_owned(), 1)]);
    let lower_role = replayed.signer.online_files((90, 90), &pins, later);
    let lower_snapshot = replayed.signer.online_files((91, 1), &pins, later);
    std::mem::swap(&mut replayed.signer, &mut fixture.signer);
    for forged in [lower_role, lower_snapshot] {
        let mut device = fixture.open("device");
        let mut source = Counted::new(&fixture.served);
        source.served.files.extend(forged.into_iter().map(|file| (file.name, file.content)));
        assert_eq!(reason(device.refresh(later, &source, None).await), "rolled_back");
        assert_eq!(reason(fixture.open("device").refresh(later, &source, None).await), "rolled_back");
    }
}

#[tokio::test]
async fn a_refresh_that_broke_off_leaves_the_floor_of_the_roles() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    fixture.publish("web", 2).await;
    let mut device = fixture.open("device");
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    let pins = BTreeMap::from([("targets.json".to_owned(), 2), ("app-web.json".to_owned(), 1)]);
    let forged = fixture.signer.online_files((90, 90), &pins, NOW);
    let mut source = Counted::new(&fixture.served);
    source.served.files.insert(forged[1].name.clone(), forged[1].content.clone());
    assert_eq!(reason(device.refresh(NOW, &source, None).await), "unavailable");
    assert_eq!(reason(statement(&mut device, &source, "web", 2, NOW).await), "not_refreshed");
    source.served.files.insert(forged[0].name.clone(), forged[0].content.clone());
    assert_eq!(reason(fixture.open("device").refresh(NOW, &source, None).await), "rolled_back");
    assert_eq!(reason(device.refresh(NOW, &source, None).await), "rolled_back");
}

#[tokio::test]
async fn an_old_role_under_a_new_name_is_not_the_one_signed_for() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    fixture.publish("web", 2).await;
    let mut source = Counted::new(&fixture.served);
    let old = source.served.files["1.app-web.json"].clone();
    source.served.files.insert("2.app-web.json".into(), old);
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    assert_eq!(reason(statement(&mut device, &source, "web", 1, NOW).await), "mismatch");
}

#[tokio::test]
async fn the_role_of_one_app_cannot_speak_for_another() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    fixture.publish("api", 1).await;
    let mut document: Value = serde_json::from_str(&fixture.served.files["1.app-api.json"]).unwrap();
    document["signed"]["targets"]["web/2/linux-amd64.json"] = metadata::target_entry(b"{}");
    let content = metadata::sign(&document["signed"], &[fixture.keys.secret("app").unwrap()]);
    fixture.served.files.insert("1.app-api.json".into(), content);
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    assert_eq!(reason(statement(&mut device, &source, "web", 2, NOW).await), "not_published");
    assert_eq!(device.published(&"web".parse().unwrap(), &source).await.unwrap().len(), 1);
}

#[tokio::test]
async fn files_changed_on_disk_are_left_aside() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    statement(&mut device, &source, "web", 1, NOW).await.unwrap();
    for file in ["timestamp.json", "snapshot.json", "targets.json", "app-web.json"] {
        let before = std::fs::read_to_string(kept(&fixture, file)).unwrap();
        std::fs::write(kept(&fixture, file), before.replace("\"version\":", "\"version\":9")).unwrap();
        let mut device = fixture.open("device");
        let nothing = Counted::default();
        let refused = reason(statement(&mut device, &nothing, "web", 1, NOW).await);
        assert!(["not_refreshed", "unavailable"].contains(&refused), "{file}: {refused}");
        device.refresh(NOW, &source, None).await.unwrap();
        statement(&mut device, &source, "web", 1, NOW).await.unwrap();
        assert_eq!(std::fs::read_to_string(kept(&fixture, file)).unwrap(), before, "{file}");
    }
}

#[tokio::test]
async fn a_root_of_another_organisation_is_no_anchor() {
    let fixture = Fixture::new();
    let root = fixture.keys.trusted_root().unwrap();
    let dir = fixture.home.path().join("evil");
    assert_eq!(reason(VerifiedRepository::open(&dir, &"evil".parse().unwrap(), &root)), "foreign_org");
    let stranger = Fixture::new();
    let mut device = fixture.open("device");
    assert_eq!(reason(device.refresh(NOW, &Counted::new(&stranger.served), None).await), "bad_signature");
}

/// The next root of `fixture`, signed by its root key, with `change` made to it.
fn next_root(fixture: &Fixture, change: impl FnOnce(&mut Value)) -> String {
    let newest = (1..).map(|version| format!("{version}.root.json")).take_while(|name| fixture.served.files.contains_key(name)).last();
    let mut document: Value = serde_json::from_str(&fixture.served.files[&newest.unwrap()]).unwrap();
    let version = document["signed"]["version"].as_u64().unwrap();
    document["signed"]["version"] = json!(version + 1);
    change(&mut document["signed"]);
    metadata::sign(&document["signed"], &[fixture.keys.secret("root").unwrap()])
}

#[tokio::test]
async fn a_new_root_changes_the_online_key_for_ever() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let mut device = fixture.open("device");
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    let signer = OnlineSigner::load_or_generate(&fixture.home.path().join("second.pem")).unwrap();
    let key = signer.public_key();
    let root = next_root(&fixture, |signed| {
        let role = json!({ "keyids": [signer.keyid()], "threshold": 1 });
        signed["keys"][signer.keyid()] = metadata::key_object(&key);
        signed["roles"]["snapshot"] = role.clone();
        signed["roles"]["timestamp"] = role;
        signed["x-hedgerow"]["online"] = json!({ "keyid": signer.keyid(), "epoch": 2 });
    });
    let old_online = fixture.served.clone();
    fixture.served.files.insert("2.root.json".into(), root.clone());
    let current = fixture.files(None).await;
    let files = signer.online_files((1, 1), &current.pins().unwrap(), NOW);
    fixture.serve(files.into());
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    assert_eq!((device.online_key().key, device.online_key().epoch), (key, 2));
    let mut device = fixture.open("device");
    assert_eq!(device.online_key().epoch, 2);
    statement(&mut device, &Counted::new(&fixture.served), "web", 1, NOW).await.unwrap();
    assert_eq!(reason(device.refresh(NOW, &Counted::new(&old_online), None).await), "bad_signature");

    let lower = next_root(&fixture, |signed| signed["x-hedgerow"]["online"]["epoch"] = json!(1));
    let mut source = Counted::new(&fixture.served);
    source.served.files.insert("3.root.json".into(), lower);
    assert_eq!(reason(device.refresh(NOW, &source, None).await), "rolled_back");
    source.served.files.insert("3.root.json".into(), root);
    assert_eq!(reason(device.refresh(NOW, &source, None).await), "mismatch");
    let foreign = next_root(&fixture, |signed| signed["x-hedgerow"]["org"] = json!("evil"));
    source.served.files.insert("3.root.json".into(), foreign);
    assert_eq!(reason(device.refresh(NOW, &source, None).await), "foreign_org");
    let stranger = Fixture::new();
    let stolen = new_repository(&stranger.keys, &stranger.signer.public_key(), NOW).unwrap().remove(0).content;
    source.served.files.insert("3.root.json".into(), stolen.replace("\"version\":1", "\"version\":3"));
    assert_eq!(reason(device.refresh(NOW, &source, None).await), "bad_signature");
}

#[tokio::test]
async fn roots_count_only_if_each_follows_the_one_before_up_from_the_one_that_is_trusted() {
    let mut fixture = Fixture::new();
    for version in 2..=4 {
        let root = next_root(&fixture, |_| {});
        fixture.served.files.insert(format!("{version}.root.json"), root);
    }
    let roots: Vec<String> = (1..=4).map(|version| fixture.served.files[&format!("{version}.root.json")].clone()).collect();
    let source = Counted::new(&fixture.served);
    for (first, root) in roots.iter().enumerate() {
        let found = roots_from(&source, &Digest::sha256(root.as_bytes())).await.unwrap();
        assert_eq!(found, roots[first..]);
        assert_eq!(last_root(&fixture.org, root.as_bytes(), &found[1..]).unwrap(), roots[3].as_bytes());
    }
    assert_eq!(roots_from(&source, &Digest::sha256(b"unknown")).await.unwrap(), roots[3..]);

    let last = |later: &[String]| last_root(&fixture.org, roots[0].as_bytes(), later);
    assert_eq!(reason(last(&[roots[2].clone()])), "mismatch");
    let stranger = Fixture::new();
    let stolen = new_repository(&stranger.keys, &stranger.signer.public_key(), NOW).unwrap().remove(0).content;
    assert_eq!(reason(last(&[roots[1].clone(), stolen.replace("\"version\":1", "\"version\":3")])), "bad_signature");
}

#[tokio::test]
async fn with_a_raised_epoch_timestamp_and_snapshot_begin_anew_and_what_people_signed_does_not_go_back() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    fixture.floor = Some(2);
    fixture.publish("web", 2).await;
    let mut device = fixture.open("device");
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    statement(&mut device, &Counted::new(&fixture.served), "web", 2, NOW).await.unwrap();
    let pins = |targets: u64, web: u64| BTreeMap::from([("targets.json".to_owned(), targets), ("app-web.json".to_owned(), web)]);
    let forward = fixture.signer.online_files((u64::MAX, u64::MAX), &pins(2, 2), NOW);
    fixture.serve(forward.into());
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    let again = fixture.signer.online_files((3, 3), &pins(2, 2), NOW);
    let mut served = fixture.served.clone();
    served.files.extend(again.into_iter().map(|file| (file.name, file.content)));
    assert_eq!(reason(device.refresh(NOW, &Counted::new(&served), None).await), "rolled_back");

    let root = next_root(&fixture, |signed| signed["x-hedgerow"]["online"]["epoch"] = json!(2));
    fixture.served.files.insert("2.root.json".into(), root);
    let older_role = fixture.signer.online_files((1, 1), &pins(2, 1), NOW);
    fixture.serve(older_role.into());
    let source = Counted::new(&fixture.served);
    device.refresh(NOW, &source, None).await.unwrap();
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    assert_eq!(reason(statement(&mut device, &source, "web", 1, NOW).await), "below_floor");
    assert_eq!(device.floor(&"web".parse().unwrap()).unwrap(), 2, "an older role of the app lowers no floor");

    let older_targets = fixture.signer.online_files((2, 2), &BTreeMap::from([("targets.json".to_owned(), 1)]), NOW);
    fixture.serve(older_targets.into());
    assert_ne!(reason(device.refresh(NOW, &Counted::new(&fixture.served), None).await), "accepted");
    let root = next_root(&fixture, |signed| signed["x-hedgerow"]["online"]["epoch"] = json!(3));
    fixture.served.files.insert("3.root.json".into(), root);
    assert_eq!(reason(device.refresh(NOW, &Counted::new(&fixture.served), None).await), "rolled_back", "older targets neither");
}

#[tokio::test]
async fn after_a_restored_backup_a_version_that_is_signed_anew_takes_the_place_of_the_lost_one() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let backup = fixture.served.clone();
    fixture.publish("web", 2).await;
    let mut device = fixture.open("device");
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    let lost = statement(&mut device, &Counted::new(&fixture.served), "web", 2, NOW).await.unwrap();

    fixture.served = backup;
    let root = next_root(&fixture, |signed| signed["x-hedgerow"]["online"]["epoch"] = json!(2));
    fixture.served.files.insert("2.root.json".into(), root);
    let (pins, moment) = (fixture.files(None).await.pins().unwrap(), NOW.plus_seconds(1));
    let anew = fixture.signer.online_files((1, 1), &pins, moment);
    fixture.serve(anew.into());
    device.refresh(moment, &Counted::new(&fixture.served), None).await.unwrap();
    device.accepted_before(token(), &name("web", 1), &PLATFORMS[0].parse().unwrap()).unwrap_err();
    fixture.floor = Some(1);
    std::fs::remove_dir_all(fixture.home.path().join("operator")).unwrap();
    fixture.publish("web", 2).await;
    let source = Counted::new(&fixture.served);
    device.refresh(moment, &source, None).await.unwrap();
    assert_eq!(device.floor(&"web".parse().unwrap()).unwrap(), 1, "it is the new role of the same version");
    assert_eq!(statement(&mut device, &source, "web", 2, moment).await.unwrap().digest(), lost.digest());
}

#[tokio::test]
async fn a_taken_seed_cannot_name_new_content() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    forge(&mut fixture, "1.app-web.json", "2.app-web.json", |signed| {
        signed["version"] = json!(2);
        signed["targets"]["web/2/linux-amd64.json"] = metadata::target_entry(b"{}");
    });
    let pins = BTreeMap::from([("targets.json".to_owned(), 2), ("app-web.json".to_owned(), 2)]);
    let files = fixture.signer.online_files((90, 90), &pins, NOW);
    fixture.serve(files.into());
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    device.refresh(NOW, &source, None).await.unwrap();
    assert_eq!(reason(statement(&mut device, &source, "web", 2, NOW).await), "bad_signature");
}

#[tokio::test]
async fn a_refresh_can_run_on_any_thread() {
    let fixture = Fixture::new();
    let (mut device, source) = (fixture.open("device"), Counted::new(&fixture.served));
    tokio::spawn(async move { device.refresh(NOW, &source, None).await.map(|_| ()) }).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_disk_that_fails_is_reported_and_nothing_unkept_is_believed() {
    let fixture = Fixture::new();
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    std::fs::create_dir(kept(&fixture, "timestamp.json")).unwrap();
    assert_eq!(reason(device.refresh(NOW, &source, None).await), "storage");
    assert_eq!(device.timestamp(), None);
    std::fs::remove_dir(kept(&fixture, "timestamp.json")).unwrap();
    device.refresh(NOW, &source, None).await.unwrap();
    assert!(device.timestamp().is_some());
}

#[tokio::test]
async fn a_version_below_the_floor_is_refused_online_and_offline() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let mut device = fixture.open("device");
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    let accepted = statement(&mut device, &Counted::new(&fixture.served), "web", 1, NOW).await.unwrap();
    assert_eq!(accepted.floor(), 0);
    fixture.floor = Some(2);
    fixture.publish("web", 2).await;
    let source = Counted::new(&fixture.served);
    let mut device = fixture.open("device");
    let amd64 = PLATFORMS[0].parse().unwrap();
    device.accepted_before(token(), &name("web", 1), &amd64).unwrap();
    device.refresh(NOW, &source, None).await.unwrap();
    assert_eq!(device.floor(&"web".parse().unwrap()).unwrap(), 2);
    assert_eq!(reason(statement(&mut device, &source, "web", 1, NOW).await), "below_floor");
    assert_eq!(reason(device.accepted_before(token(), &name("web", 1), &amd64)), "below_floor");
    assert_eq!(reason(fixture.open("device").accepted_before(token(), &name("web", 1), &amd64)), "below_floor", "after a restart");
    assert_eq!(statement(&mut device, &source, "web", 2, NOW).await.unwrap().floor(), 2);

    fixture.floor = None;
    fixture.publish("web", 3).await;
    let source = Counted::new(&fixture.served);
    device.refresh(NOW, &source, None).await.unwrap();
    assert_eq!(device.floor(&"web".parse().unwrap()).unwrap(), 2, "it stays");
}

#[tokio::test]
async fn an_old_version_is_found_in_the_archive_and_stays_provable_offline() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let mut device = fixture.open("device");
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    statement(&mut device, &Counted::new(&fixture.served), "web", 1, NOW).await.unwrap();
    for version in 2..=52 {
        fixture.publish("web", version).await;
    }
    let source = Counted::new(&fixture.served);
    let mut other = fixture.open("other");
    other.refresh(NOW, &source, None).await.unwrap();
    source.take_requests();
    assert_eq!(statement(&mut other, &source, "web", 52, NOW).await.unwrap().statement().version, 52);
    assert_eq!(source.take_requests(), 2, "the app's role and a statement");
    assert_eq!(statement(&mut other, &source, "web", 2, NOW).await.unwrap().statement().version, 2);
    assert_eq!(source.take_requests(), 2, "the archive and a statement");
    assert_eq!(other.published(&"web".parse().unwrap(), &source).await.unwrap().len(), 52);

    device.refresh(NOW, &source, None).await.unwrap();
    let amd64 = PLATFORMS[0].parse().unwrap();
    fixture.open("device").accepted_before(token(), &name("web", 1), &amd64).unwrap();
}

#[tokio::test]
async fn roles_that_people_sign_are_named_sixty_days_before_they_expire() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let (source, mut view) = (Counted::new(&fixture.served), fixture.open("operator"));
    view.refresh(NOW, &source, None).await.unwrap();
    view.published(&"web".parse().unwrap(), &source).await.unwrap();
    let after = |days: u64| -> Vec<String> { view.expiring(NOW.plus_seconds(days * 86_400)).into_iter().map(|role| role.name).collect() };
    assert!(after(365 - 61).is_empty(), "also not the roles that the seed renews");
    assert_eq!(after(365 - 60), ["targets", "app-web"]);
    assert_eq!(after(5 * 365 - 60), ["root", "targets", "app-web"]);
}
