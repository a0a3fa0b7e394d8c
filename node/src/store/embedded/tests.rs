//! What the store promises: preconditions, durability, and that nothing concurrent is lost.

mod fleet_records;
mod policy;

use std::sync::Arc;

use bytes::Bytes;
use std::collections::BTreeMap;

use protocol::digest::Digest;
use protocol::identity::enrolment::Admitted;
use protocol::label::Labels;
use protocol::name::{OrgName, Platform, RepositoryName, Tag};
use protocol::oci::route::Reference;
use protocol::repository::RepositorySettings;
use protocol::statement::desired::Counter;
use protocol::statement::version::HashListName;
use protocol::time::WallTime;

use super::*;
use crate::store::meta::{
    AccessKeyRecord, BlobLink, DeviceRecord, FleetStore as _, KeyStore as _, ManifestRecord, RepositoryStore as _, RevocationListRecord,
    RevokedKeyRecord, Scope, TokenRecord, TokenRefused, TrustStore as _, TufFile, VersionContent, VersionRecord,
};
use crate::store::records::{Range, Records as _, Table, under};

const NOW: WallTime = WallTime::from_unix_seconds(1_000);

fn org() -> OrgName {
    "acme".parse().unwrap()
}

fn repository() -> RepositoryName {
    "acme/web".parse().unwrap()
}

fn key_of(org: &OrgName) -> AccessKeyRecord {
    access_key(&format!("key-{org}"), org, &[Scope::Pull], None)
}

fn access_key(id: &str, org: &OrgName, scopes: &[Scope], expires: Option<WallTime>) -> AccessKeyRecord {
    let (scopes, secret_sha256) = (scopes.to_vec(), Digest::sha256(b"s"));
    AccessKeyRecord { id: id.into(), org: org.clone(), secret_sha256, scopes, label: String::new(), created: NOW, expires }
}

fn file(name: &str, content: &str) -> TufFile {
    TufFile { name: name.into(), content: content.into() }
}

fn timestamp(n: u64) -> TufFile {
    file("timestamp.json", &n.to_string())
}

/// A store with the organisation acme.
async fn store() -> (tempfile::TempDir, EmbeddedStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.create_org(&org(), key_of(&org()), vec![timestamp(0), file("1.root.json", "{}")]).await.unwrap();
    (dir, store)
}

const fn link(size: u64) -> BlobLink {
    BlobLink { size, used: NOW }
}

fn manifest(text: &str) -> ManifestRecord {
    ManifestRecord {
        digest: Digest::sha256(text.as_bytes()),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size: text.len() as u64,
        subject: None,
        artifact_type: None,
        pushed: NOW,
    }
}

fn version(number: u64) -> VersionRecord {
    let platform: Platform = "linux-amd64".parse().unwrap();
    let statement = Digest::sha256(number.to_string().as_bytes());
    VersionRecord {
        app: "web".parse().unwrap(),
        version: number,
        statements: [(platform, statement)].into(),
        published: NOW,
        retired: None,
    }
}

fn token(secret: &[u8]) -> TokenRecord {
    TokenRecord::single(Digest::sha256(secret), org(), NOW.plus_seconds(10))
}

fn device(id: &str, key: &[u8]) -> DeviceRecord {
    let platform = "linux-amd64".parse().unwrap();
    DeviceRecord {
        org: org(),
        id: id.parse().unwrap(),
        platform,
        key_sha256: Digest::sha256(key),
        enrolled: NOW,
        leaf_until: None,
        labels: Labels::new(),
        pins: BTreeMap::new(),
    }
}

fn all(store: &EmbeddedStore) -> Vec<String> {
    store.index.current().records().map(|record| serde_json::to_string(&record.unwrap()).unwrap()).collect()
}

fn is_conflict<T>(result: &Result<T, MetaError>) -> bool {
    matches!(result, Err(MetaError::Conflict(_)))
}

fn is_missing<T>(result: &Result<T, MetaError>) -> bool {
    matches!(result, Err(MetaError::Missing(_)))
}

#[tokio::test]
async fn an_organisation_is_made_once() {
    let (_dir, store) = store().await;
    let other: OrgName = "other".parse().unwrap();
    assert!(is_conflict(&store.create_org(&org(), key_of(&other), vec![]).await));
    assert!(is_conflict(&store.create_org(&other, key_of(&org()), vec![]).await), "a key of another organisation");
    assert_eq!(store.orgs().await.unwrap(), [org()]);
    assert_eq!(store.access_key("key-acme").await.unwrap(), Some(key_of(&org()).into()));
    assert_eq!(store.access_key("key-other").await.unwrap(), None);
    assert_eq!(store.tuf_file(&org(), "1.root.json").await.unwrap(), Some(file("1.root.json", "{}")));
}

#[tokio::test]
async fn access_keys_are_added_listed_and_revoked_for_good() {
    let (dir, store) = store().await;
    let [second, third] = ["2", "3"].map(|id| access_key(id, &org(), &[Scope::Admin], None));
    for key in [&third, &second] {
        store.add_access_key(key.clone()).await.unwrap();
    }
    assert!(is_conflict(&store.add_access_key(second.clone()).await), "the id is taken");
    assert!(is_missing(&store.add_access_key(access_key("4", &"other".parse().unwrap(), &[], None)).await));
    assert_eq!(store.access_keys(&org()).await.unwrap(), [second, third.clone(), key_of(&org())]);
    store.create_org(&"other".parse().unwrap(), key_of(&"other".parse().unwrap()), vec![]).await.unwrap();
    assert!(is_missing(&store.revoke_access_key(&"other".parse().unwrap(), "2", NOW).await), "it is of another organisation");
    store.revoke_access_key(&org(), "2", NOW).await.unwrap();
    assert!(is_missing(&store.revoke_access_key(&org(), "2", NOW).await));
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.access_key("2").await.unwrap(), None);
    assert_eq!(store.access_keys(&org()).await.unwrap(), [third, key_of(&org())]);
}

#[tokio::test]
async fn the_last_key_that_can_make_keys_or_organisations_stays() {
    let (_dir, store) = store().await;
    let other: OrgName = "other".parse().unwrap();
    store.create_org(&other, access_key("o", &other, &[Scope::Admin], None), vec![]).await.unwrap();
    let soon = Some(NOW.plus_seconds(10));
    store.add_access_key(access_key("1", &org(), &[Scope::Admin], None)).await.unwrap();
    store.add_access_key(access_key("2", &org(), &[Scope::Admin, Scope::Seed], soon)).await.unwrap();
    let revoke = async |id, now| store.revoke_access_key(&org(), id, now).await;
    assert!(is_conflict(&revoke("1", NOW.plus_seconds(10)).await), "the other one has expired");
    assert!(is_conflict(&revoke("2", NOW).await), "no other key has the scope seed");
    store.add_access_key(access_key("s", &other, &[Scope::Seed], None)).await.unwrap();
    revoke("2", NOW).await.unwrap();
    assert!(is_conflict(&revoke("1", NOW).await), "it is the last");
    assert!(is_conflict(&store.revoke_access_key(&other, "o", NOW).await), "a key with the scope seed makes no keys");
    revoke("key-acme", NOW).await.unwrap();
}

#[tokio::test]
async fn the_repositories_of_an_organisation_come_in_pages() {
    let (_dir, store) = store().await;
    for repository in ["acme/web", "acme/a/b", "acme-2/web", "acmf/web", "acme/b"] {
        store.link_blob(&repository.parse().unwrap(), &Digest::sha256(b"blob"), link(4)).await.unwrap();
    }
    let page = async |last, limit| {
        let found = store.repositories(&org(), last, limit).await.unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(page(None, 9).await, "acme/a/b acme/b acme/web");
    assert_eq!(page(None, 2).await, "acme/a/b acme/b");
    assert_eq!(page(Some("acme/b"), 2).await, "acme/web");
    assert_eq!(page(Some("acme/a/none"), 1).await, "acme/b");
    assert_eq!(page(Some("a"), 1).await, "acme/a/b");
    assert_eq!(page(Some("acmf/web"), 9).await, "");
}

#[tokio::test]
async fn a_repository_is_public_when_it_was_said_of_it_by_name() {
    let (_dir, store) = store().await;
    let say = async |pattern: &str, public| {
        let settings = RepositorySettings { public: Some(public), ..RepositorySettings::default() };
        store.put_repository_settings(&org(), &pattern.parse().unwrap(), Some(settings)).await.unwrap();
        store.is_public(&repository()).await.unwrap()
    };
    assert!(!store.is_public(&repository()).await.unwrap());
    assert!(!say("acme/*", true).await);
    assert!(say("acme/web", true).await);
    assert!(!say("acme/web", false).await);
}

#[tokio::test]
async fn blobs_belong_to_repositories_and_their_organisation() {
    let (_dir, store) = store().await;
    let (blob, other) = (Digest::sha256(b"blob"), "other".parse().unwrap());
    assert_eq!(store.repository_blob(&repository(), &blob).await.unwrap(), None);
    assert_eq!(store.tags(&repository(), None, 9).await.unwrap(), None);
    store.link_blob(&repository(), &blob, link(4)).await.unwrap();
    assert_eq!(store.repository_blob(&repository(), &blob).await.unwrap(), Some(link(4)));
    assert_eq!(store.tags(&repository(), None, 9).await.unwrap(), Some(vec![]));
    assert_eq!(store.org_blob(&org(), &blob).await.unwrap(), Some(4));
    assert_eq!(store.org_blob(&other, &blob).await.unwrap(), None);
    store.unlink_blob(&repository(), &blob).await.unwrap();
    assert!(is_missing(&store.unlink_blob(&repository(), &blob).await));
    assert_eq!(store.org_blob(&org(), &blob).await.unwrap(), None);
}

#[tokio::test]
async fn an_organisation_holds_the_lists_of_its_blobs_and_its_statements() {
    let (dir, store) = store().await;
    let blobs = BlobStore::open(dir.path()).unwrap();
    let (blob, other) = (Digest::sha256(b"blob"), "other".parse().unwrap());
    let list = blobs.put(None, Bytes::from_static(b"list")).await.unwrap();
    store.put_hash_list(&blob, HashListName { digest: list.blob(), size: 4 }).await.unwrap();
    assert_eq!(store.org_blob(&org(), &list.blob()).await.unwrap(), None, "nobody has the blob yet");
    store.link_blob(&repository(), &blob, link(100_000)).await.unwrap();
    assert_eq!(store.hash_list(&blob).await.unwrap().unwrap().digest, list.blob());
    assert_eq!(store.org_blob(&org(), &list.blob()).await.unwrap(), Some(4));
    assert_eq!(store.org_blob(&other, &list.blob()).await.unwrap(), None);
    let statement = blobs.put(None, Bytes::from_static(b"1")).await.unwrap();
    store.publish_version(&org(), version(1), VersionContent::default(), &timestamp(0), vec![]).await.unwrap();
    assert_eq!(store.org_blob(&org(), &statement.blob()).await.unwrap(), Some(1));
    assert_eq!(store.org_blob(&other, &statement.blob()).await.unwrap(), None);
}

#[tokio::test]
async fn tags_move_and_go_with_their_manifest() {
    let (_dir, store) = store().await;
    let [one, two] = ["one", "two"].map(manifest);
    let tags = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Tag>>();
    let tagged = |name: &str| Reference::Tag(name.parse().unwrap());
    store.put_manifest(&repository(), one.clone(), BTreeMap::new(), vec![], &tags(&["b", "a", "B"])).await.unwrap();
    store.put_manifest(&repository(), two.clone(), BTreeMap::new(), vec![], &tags(&["b"])).await.unwrap();
    assert_eq!(store.tags(&repository(), None, 9).await.unwrap().unwrap(), tags(&["B", "a", "b"]));
    assert_eq!(store.tags(&repository(), Some("B"), 1).await.unwrap().unwrap(), tags(&["a"]));
    assert_eq!(store.manifest(&repository(), &tagged("b")).await.unwrap(), Some(two.clone().into()));
    let b: Tag = "b".parse().unwrap();
    assert!(is_conflict(&store.delete_tag(&repository(), &b, Some(&one.digest)).await));
    store.delete_manifest(&repository(), &one.digest).await.unwrap();
    assert!(is_missing(&store.delete_manifest(&repository(), &one.digest).await));
    assert_eq!(store.tags(&repository(), None, 9).await.unwrap().unwrap(), tags(&["b"]));
    store.delete_tag(&repository(), &b, Some(&two.digest)).await.unwrap();
    assert!(is_missing(&store.delete_tag(&repository(), &b, None).await));
    assert_eq!(store.manifest(&repository(), &tagged("b")).await.unwrap(), None);
    assert_eq!(store.manifest(&repository(), &Reference::Digest(two.digest)).await.unwrap(), Some(two.into()));
}

#[tokio::test]
async fn referrers_are_found_by_their_subject() {
    let (_dir, store) = store().await;
    let subject = Digest::sha256(b"subject");
    let mut expected: Vec<_> = ["x", "y"].map(|text| ManifestRecord { subject: Some(subject), ..manifest(text) }).into();
    for referrer in &expected {
        store.put_manifest(&repository(), referrer.clone(), BTreeMap::new(), vec![], &[]).await.unwrap();
    }
    expected.sort_by_key(|referrer| referrer.digest);
    let listed = async |last: Option<&Digest>, limit| store.referrers(&repository(), &subject, last, limit).await.unwrap();
    assert_eq!(listed(None, 9).await, expected);
    assert_eq!(listed(None, 1).await, expected[..1]);
    assert_eq!(listed(Some(&expected[0].digest), 9).await, expected[1..]);
    store.delete_manifest(&repository(), &expected[0].digest).await.unwrap();
    assert_eq!(listed(None, 9).await, expected[1..]);
}

#[tokio::test]
async fn annotations_belong_to_a_manifest_that_refers_to_another_and_go_with_it() {
    let (_dir, store) = store().await;
    let annotations: BTreeMap<String, String> = [("a".into(), "b".into())].into();
    let referrer = ManifestRecord { subject: Some(Digest::sha256(b"subject")), ..manifest("x") };
    for manifest in [&referrer, &manifest("y")] {
        store.put_manifest(&repository(), manifest.clone(), annotations.clone(), vec![], &[]).await.unwrap();
    }
    assert_eq!(store.annotations(&repository(), &referrer.digest).await.unwrap(), annotations);
    assert!(store.annotations(&repository(), &manifest("y").digest).await.unwrap().is_empty());
    store.delete_manifest(&repository(), &referrer.digest).await.unwrap();
    assert!(store.annotations(&repository(), &referrer.digest).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_manifest_goes_with_more_tags_than_one_change_can_hold() {
    let (_dir, store) = store().await;
    let tags: Vec<Tag> = (0..70_000).map(|number| format!("{number:0>120}").parse().unwrap()).collect();
    for tags in tags.chunks(10_000) {
        store.put_manifest(&repository(), manifest("x"), BTreeMap::new(), vec![], tags).await.unwrap();
    }
    store.delete_manifest(&repository(), &manifest("x").digest).await.unwrap();
    assert_eq!(store.tags(&repository(), None, 1).await.unwrap().unwrap(), []);
    assert!(is_missing(&store.delete_manifest(&repository(), &manifest("x").digest).await));
}

#[tokio::test]
async fn a_version_number_is_published_once_and_in_order() {
    let (_dir, store) = store().await;
    assert!(
        is_conflict(&store.publish_version(&org(), version(2), VersionContent::default(), &timestamp(0), vec![]).await),
        "1 comes first"
    );
    assert!(is_conflict(&store.publish_version(&org(), version(0), VersionContent::default(), &timestamp(0), vec![]).await));
    store.publish_version(&org(), version(1), VersionContent::default(), &timestamp(0), vec![timestamp(1)]).await.unwrap();
    assert!(
        is_conflict(&store.publish_version(&org(), version(1), VersionContent::default(), &timestamp(1), vec![timestamp(9)]).await),
        "taken"
    );
    assert!(
        is_conflict(&store.publish_version(&org(), version(2), VersionContent::default(), &timestamp(0), vec![timestamp(9)]).await),
        "old timestamp"
    );
    assert_eq!(store.tuf_file(&org(), "timestamp.json").await.unwrap(), Some(timestamp(1)), "nothing of a conflict is kept");
    store.publish_version(&org(), version(2), VersionContent::default(), &timestamp(1), vec![timestamp(2)]).await.unwrap();
    assert_eq!(store.versions(&org(), &"web".parse().unwrap()).await.unwrap(), [version(1), version(2)]);
    assert!(is_conflict(&store.put_tuf_files(&org(), &timestamp(1), vec![timestamp(3)]).await));
    store.put_tuf_files(&org(), &timestamp(2), vec![timestamp(3)]).await.unwrap();
    let other = "other".parse().unwrap();
    assert!(is_missing(&store.publish_version(&other, version(1), VersionContent::default(), &timestamp(0), vec![]).await));
}

#[tokio::test]
async fn a_token_enrols_one_device_before_it_expires() {
    let (_dir, store) = store().await;
    let refused = |result: Result<_, MetaError>| match result {
        Err(MetaError::Token(reason)) => Some(reason),
        Ok(_) | Err(_) => None,
    };
    let [one, two] = [b"one", b"two"].map(|secret| Digest::sha256(secret));
    assert_eq!(refused(store.check_token(&one, NOW).await.map(|_| Admitted::New)), Some(TokenRefused::Unknown));
    store.add_token(token(b"one")).await.unwrap();
    store.add_token(token(b"two")).await.unwrap();
    assert!(is_conflict(&store.add_token(token(b"one")).await));
    assert_eq!(store.check_token(&one, NOW).await.unwrap(), token(b"one"));
    assert_eq!(refused(store.enroll(&one, device("d1", b"k"), NOW.plus_seconds(10)).await), Some(TokenRefused::Expired));
    let foreign = DeviceRecord { org: "other".parse().unwrap(), ..device("d1", b"k") };
    assert_eq!(refused(store.enroll(&one, foreign, NOW).await), Some(TokenRefused::Unknown));
    store.enroll(&one, device("d1", b"k"), NOW).await.unwrap();
    assert_eq!(refused(store.enroll(&one, device("d2", b"k"), NOW).await), Some(TokenRefused::Used));
    assert_eq!(refused(store.enroll(&one, device("d1", b"other"), NOW).await), Some(TokenRefused::Used));
    let again = NOW.plus_seconds(9);
    assert!(store.check_token(&one, again).await.is_ok(), "the answer to the first use may have been lost");
    assert_eq!(store.enroll(&one, device("d1", b"k"), again).await.unwrap(), Admitted::Again);
    let late = NOW.plus_seconds(10);
    assert_eq!(refused(store.check_token(&one, late).await.map(|_| Admitted::New)), Some(TokenRefused::Used));
    assert_eq!(refused(store.enroll(&one, device("d1", b"k"), late).await), Some(TokenRefused::Used));
    let taken = TokenRefused::Taken("d1".parse().unwrap());
    assert_eq!(refused(store.enroll(&two, device("d1", b"other"), NOW).await), Some(taken));
    assert!(store.check_token(&two, NOW).await.is_ok(), "a refusal does not use the token up");
    store.enroll(&two, device("d1", b"k"), NOW).await.unwrap();
    assert_eq!(store.devices_after(&org(), None, 10).await.unwrap(), [(device("d1", b"k"), None)]);
    assert_eq!(store.device(&org(), &"d2".parse().unwrap()).await.unwrap(), None);
}

#[test]
fn a_token_of_before_its_user_was_recorded_is_used_up() {
    let old = format!(r#"{{"secret_sha256":"{}","org":"acme","expires":{},"used":true}}"#, Digest::sha256(b"one"), u32::MAX);
    let token: TokenRecord = serde_json::from_str(&old).unwrap();
    assert_eq!(token.terms().uses_left, 0);
}

#[tokio::test]
async fn a_key_that_is_replaced_or_revoked_never_enrols_again() {
    let (_dir, store) = store().await;
    let replacing = TokenRecord { device: Some("d1".parse().unwrap()), replaces: true, uses_left: 3, ..token(b"one") };
    store.add_tokens(vec![replacing, TokenRecord { uses_left: 9, ..token(b"two") }]).await.unwrap();
    let [one, two] = [b"one", b"two"].map(|secret| Digest::sha256(secret));
    let enroll = async |secret: &Digest, id: &str, key: &[u8]| store.enroll(secret, device(id, key), NOW).await;
    assert_eq!(enroll(&one, "d1", b"old").await.unwrap(), Admitted::New);
    assert_eq!(enroll(&one, "d1", b"new").await.unwrap(), Admitted::Replacing);
    for (secret, id) in [(&one, "d1"), (&two, "d1"), (&two, "d2")] {
        assert!(matches!(enroll(secret, id, b"old").await, Err(MetaError::Token(TokenRefused::Revoked))), "{id}");
    }
    let lost = RevokedKeyRecord {
        key_sha256: Digest::sha256(b"new"),
        org: org(),
        device: Some("d1".parse().unwrap()),
        revoked: NOW,
        leaf_until: None,
        reason: Some("stolen".into()),
    };
    let until = [5, 90, 30].map(|days| NOW.plus_seconds(days * 86_400));
    for until in until {
        store.note_leaf(&org(), &"d1".parse().unwrap(), &lost.key_sha256, until).await.unwrap();
    }
    let of_another = store.note_leaf(&org(), &"d1".parse().unwrap(), &Digest::sha256(b"old"), until[0]).await;
    assert!(is_missing(&of_another));
    store.revoke_keys(vec![lost.clone()]).await.unwrap();
    store.revoke_keys(vec![RevokedKeyRecord { reason: None, ..lost.clone() }]).await.unwrap();
    let late = store.note_leaf(&org(), &"d1".parse().unwrap(), &lost.key_sha256, until[1]).await;
    assert!(matches!(late, Err(MetaError::Token(TokenRefused::Revoked))), "its last certificate is known when it is revoked");
    let lost = RevokedKeyRecord { leaf_until: Some(until[1]), ..lost };
    assert!(matches!(enroll(&one, "d1", b"new").await, Err(MetaError::Token(TokenRefused::Revoked))));
    let revoked = store.revoked_keys().await.unwrap();
    assert_eq!(revoked.len(), 2);
    assert!(revoked.contains(&lost), "the first reason stays");
}

#[tokio::test]
async fn a_revocation_list_is_replaced_by_a_newer_one_alone() {
    let (_dir, store) = store().await;
    let at = |n| Counter { epoch: 1, n };
    let list = |n| RevocationListRecord {
        counter: at(n),
        expires: NOW,
        keys: [Digest::sha256(b"k")].into(),
        digest: None,
        signed_by: String::new(),
        envelope: "{}".into(),
    };
    store.put_revocation_list(&org(), None, list(1)).await.unwrap();
    for (expected, n) in [(None, 2), (Some(at(2)), 3), (Some(at(1)), 1)] {
        assert!(is_conflict(&store.put_revocation_list(&org(), expected, list(n)).await), "{n}");
    }
    store.put_revocation_list(&org(), Some(at(1)), list(2)).await.unwrap();
    assert_eq!(store.revocation_list(&org()).await.unwrap(), Some(list(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_one_wins_and_nothing_is_lost() {
    let (dir, store) = store().await;
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..200_u64)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let tag = format!("t{n:03}").parse().unwrap();
                store.put_manifest(&repository(), manifest(&n.to_string()), BTreeMap::new(), vec![], &[tag]).await.unwrap();
                store.publish_version(&org(), version(1), VersionContent::default(), &timestamp(0), vec![timestamp(n + 1)]).await.is_ok()
            })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
    drop(Arc::into_inner(store));
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.tags(&repository(), None, 999).await.unwrap().unwrap().len(), 200);
}

#[tokio::test]
async fn all_of_it_comes_back_from_the_journal_alone() {
    let (dir, store) = store().await;
    store.put_manifest(&repository(), manifest("one"), BTreeMap::new(), vec![], &["1".parse().unwrap()]).await.unwrap();
    store.publish_version(&org(), version(1), VersionContent::default(), &timestamp(0), vec![timestamp(1)]).await.unwrap();
    let before = all(&store);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(all(&store), before);
    let tagged = Reference::Tag("1".parse().unwrap());
    assert_eq!(store.manifest(&repository(), &tagged).await.unwrap(), Some(manifest("one").into()));
    assert_eq!(store.orgs().await.unwrap(), [org()]);
}

/// Set for the process that a test kills: the data directory that it writes to.
const VICTIM_DIR: &str = "HEDGEROW_TEST_VICTIM_DIR";

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    if let Some(dir) = std::env::var_os(VICTIM_DIR) {
        return write_until_killed(Path::new(&dir)).await;
    }
    let (dir, store) = store().await;
    drop(store);
    let mut expected = 0;
    for round in 0..6 {
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "store::embedded::tests::what_was_acknowledged_survives_a_kill"])
            .env(VICTIM_DIR, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(victim.stdout.take().unwrap()));
        let acknowledged = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("kept ")?.parse::<usize>().ok());
        for (count, number) in acknowledged.enumerate() {
            assert_eq!(number, expected, "numbers go on without a gap");
            expected += 1;
            if count == 40 + 30 * round {
                victim.kill().unwrap();
            }
        }
        victim.wait().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        let tags = store.tags(&repository(), None, usize::MAX - 1).await.unwrap().unwrap();
        assert!(tags.len() == expected || tags.len() == expected + 1, "{} acknowledged, {} found", expected, tags.len());
        store.index.current().verify().unwrap();
        expected = tags.len();
    }
}

async fn write_until_killed(dir: &Path) {
    let store = EmbeddedStore::open(dir).unwrap();
    let start = store.tags(&repository(), None, 1_000_000).await.unwrap().map_or(0, |tags| tags.len());
    for number in start.. {
        let tag = format!("{number:06}").parse().unwrap();
        store.put_manifest(&repository(), manifest(&number.to_string()), BTreeMap::new(), vec![], &[tag]).await.unwrap();
        println!("kept {number}");
    }
}

#[tokio::test]
async fn an_operation_that_panics_takes_nobody_along() {
    let (_dir, store) = store().await;
    let panicked = store.write(|_| panic!("on purpose")).await;
    assert!(matches!(panicked, Err(MetaError::Failed(_))));
    store.link_blob(&repository(), &Digest::sha256(b"x"), link(1)).await.unwrap();
}

#[tokio::test]
async fn an_index_that_fails_while_running_is_built_again() {
    let (_dir, store) = store().await;
    let failing = store.index.current();
    store.writer.rebuild(Arc::clone(&failing)).await.unwrap();
    assert!(!Arc::ptr_eq(&failing, &store.index.current()));
    store.link_blob(&repository(), &Digest::sha256(b"x"), link(1)).await.unwrap();
    assert_eq!(store.orgs().await.unwrap(), [org()]);
    store.index.current().verify().unwrap();
}

#[tokio::test]
async fn an_index_that_cannot_be_built_stops_writes_until_it_can() {
    let (dir, store) = store().await;
    let obstacle = dir.path().join("index.broken");
    std::fs::write(&obstacle, b"no folder").unwrap();
    store.writer.rebuild(store.index.current()).await.unwrap_err();
    let (repository, blob) = (repository(), Digest::sha256(b"x"));
    let write = || store.link_blob(&repository, &blob, link(1));
    assert!(matches!(write().await, Err(MetaError::Failed(_))));
    assert_eq!(store.orgs().await.unwrap(), [org()], "what was there is read all the same");
    std::fs::remove_file(&obstacle).unwrap();
    write().await.unwrap();
    store.index.current().verify().unwrap();
}

#[tokio::test]
async fn an_operation_sees_the_first_records_of_many_as_they_are_after_earlier_changes() {
    let (_dir, store) = store().await;
    for tag in ["a", "b", "c", "d", "e"] {
        store.put_manifest(&repository(), manifest("m"), BTreeMap::new(), vec![], &[tag.parse().unwrap()]).await.unwrap();
    }
    store
        .write(|t| {
            let prefix = under(&[&repository()]);
            let first = |t: &Transaction<'_>, after: Option<&str>| {
                let found = t.raw_scan(Table::Tag, Range { prefix: &prefix, after, limit: 2 }).unwrap();
                found.into_iter().map(|(tag, _)| tag).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(first(t, None), "a b");
            t.delete(Table::Tag, format!("{prefix}a"))?;
            t.delete(Table::Tag, format!("{prefix}c"))?;
            t.put(Table::Tag, format!("{prefix}bb"), &1)?;
            assert_eq!((first(t, None), first(t, Some("bb")), first(t, Some("d"))), ("b bb".into(), "d e".into(), "e".into()));
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn tags_of_an_earlier_versions_store_are_found_by_their_manifest() {
    let (dir, store) = store().await;
    let tags: Vec<Tag> = ["a", "b", "c"].map(|tag| tag.parse().unwrap()).into();
    let kept = manifest("kept");
    store.put_manifest(&repository(), manifest("m"), BTreeMap::new(), vec![], &tags[..2]).await.unwrap();
    store.put_manifest(&repository(), kept.clone(), BTreeMap::new(), vec![], &tags[2..]).await.unwrap();
    store
        .write(|t| {
            let listed: Vec<(String, bool)> = t.scan(Table::TagOf, Range::all(""))?;
            assert_eq!(listed.len(), 3);
            listed.into_iter().try_for_each(|(key, _)| t.delete(Table::TagOf, key))
        })
        .await
        .unwrap();
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.delete_manifest(&repository(), &manifest("m").digest).await.unwrap();
    assert_eq!(store.tags(&repository(), None, 9).await.unwrap().unwrap(), tags[2..]);
    let changes = store.size().changes;
    drop(store);
    assert_eq!(EmbeddedStore::open(dir.path()).unwrap().size().changes, changes, "once is enough");
}
