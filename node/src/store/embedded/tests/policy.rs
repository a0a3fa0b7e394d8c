//! What settings promise: immutable tags stay, expired ones go unless they were pushed again, retired versions stay retired.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::name::GroupName;
use protocol::repository::{RepositoryPattern, RepositorySettings};
use protocol::rollout::{Plan, Rollout, RolloutState};
use protocol::statement::desired::{Activation, Counter, DesiredApp, DesiredState, FORMAT, PAYLOAD_TYPE};

use super::*;
use crate::store::meta::{DesiredStateRecord, Retirement, TagRecord};

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn pattern(text: &str) -> RepositoryPattern {
    text.parse().unwrap()
}

fn settings(json: serde_json::Value) -> RepositorySettings {
    serde_json::from_value(json).unwrap()
}

async fn set(store: &EmbeddedStore, on: &str, json: serde_json::Value) {
    store.put_repository_settings(&org(), &pattern(on), Some(settings(json))).await.unwrap();
}

fn is_immutable<T>(result: &Result<T, MetaError>) -> bool {
    matches!(result, Err(MetaError::Immutable(_)))
}

#[tokio::test]
async fn settings_are_changed_one_by_one_and_removed_together() {
    let (_dir, store) = store().await;
    set(&store, "acme/*", serde_json::json!({"keep_last": 3})).await;
    set(&store, "acme/*", serde_json::json!({"keep_days": 9})).await;
    set(&store, "acme/*", serde_json::json!({"keep_last": 5})).await;
    let expected = [(pattern("acme/*"), settings(serde_json::json!({"keep_last": 5, "keep_days": 9})))].into();
    assert_eq!(store.repository_settings(&org()).await.unwrap(), expected);
    store.put_repository_settings(&org(), &pattern("acme/*"), None).await.unwrap();
    assert!(store.repository_settings(&org()).await.unwrap().is_empty());
    let foreign = store.put_repository_settings(&org(), &pattern("other/*"), None).await;
    assert!(is_conflict(&foreign));
}

#[tokio::test]
async fn an_immutable_tag_is_neither_moved_nor_deleted_until_the_setting_is_lifted() {
    let (_dir, store) = store().await;
    let [one, two] = ["one", "two"].map(manifest);
    let signature = tag(&format!("sha256-{}.sig", one.digest.hex()));
    set(&store, "acme/*", serde_json::json!({"immutable": ["*"]})).await;
    let push = async |manifest: &ManifestRecord, tags: &[Tag]| {
        store.put_manifest(&repository(), manifest.clone(), BTreeMap::new(), vec![], tags).await
    };
    push(&one, &[tag("v1"), signature.clone()]).await.unwrap();
    push(&one, &[tag("v1")]).await.unwrap();
    assert!(is_immutable(&push(&two, &[tag("new"), tag("v1")]).await));
    assert_eq!(store.manifest(&repository(), &Reference::Digest(two.digest)).await.unwrap(), None, "all of it or nothing");
    assert_eq!(store.manifest(&repository(), &Reference::Tag(tag("new"))).await.unwrap(), None);
    push(&two, &[signature]).await.unwrap();
    assert!(is_immutable(&store.delete_tag(&repository(), &tag("v1"), None).await));
    assert!(is_immutable(&store.delete_manifest(&repository(), &one.digest).await));
    assert_eq!(store.manifest(&repository(), &Reference::Tag(tag("v1"))).await.unwrap(), Some(one.clone().into()));

    set(&store, "acme/web", serde_json::json!({"immutable": []})).await;
    push(&two, &[tag("v1")]).await.unwrap();
    store.delete_manifest(&repository(), &one.digest).await.unwrap();
    store.delete_tag(&repository(), &tag("v1"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_pushes_of_an_immutable_tag_one_wins() {
    let (_dir, store) = store().await;
    set(&store, "acme/web", serde_json::json!({"immutable": ["v*"]})).await;
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..50_u64)
        .map(|n| {
            let (store, manifest) = (Arc::clone(&store), manifest(&n.to_string()));
            tokio::spawn(async move {
                let pushed = store.put_manifest(&repository(), manifest.clone(), BTreeMap::new(), vec![], &[tag("v1")]).await;
                assert!(pushed.is_ok() || is_immutable(&pushed));
                pushed.is_ok().then_some(manifest)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        winners.extend(task.await.unwrap());
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.manifest(&repository(), &Reference::Tag(tag("v1"))).await.unwrap().as_deref(), winners.first());
}

#[tokio::test]
async fn a_tag_expires_only_as_it_was_seen_and_also_if_it_is_immutable() {
    let (_dir, store) = store().await;
    set(&store, "acme/*", serde_json::json!({"immutable": ["*"]})).await;
    let one = manifest("one");
    let later = ManifestRecord { pushed: NOW.plus_seconds(1), ..one.clone() };
    store.put_manifest(&repository(), one.clone(), BTreeMap::new(), vec![], &[tag("v1")]).await.unwrap();
    let seen = TagRecord { digest: one.digest, pushed: NOW };
    assert_eq!(store.tag_records(&repository(), None, usize::MAX).await.unwrap(), Some(vec![(tag("v1"), seen)]));
    store.put_manifest(&repository(), later, BTreeMap::new(), vec![], &[tag("v1")]).await.unwrap();
    assert!(is_conflict(&store.expire_tag(&repository(), &tag("v1"), seen).await), "the same digest, but pushed again");
    let seen = TagRecord { pushed: NOW.plus_seconds(1), ..seen };
    store.expire_tag(&repository(), &tag("v1"), seen).await.unwrap();
    assert!(is_missing(&store.expire_tag(&repository(), &tag("v1"), seen).await));
    assert!(store.manifest(&repository(), &Reference::Digest(one.digest)).await.unwrap().is_some(), "the manifest stays");
    assert_eq!(store.tag_records(&"acme/none".parse().unwrap(), None, usize::MAX).await.unwrap(), None);
}

#[tokio::test]
async fn repositories_are_listed_in_pages() {
    let (_dir, store) = store().await;
    for name in ["acme/b", "acme/a/x", "acme2/c", "acme/a"] {
        store.link_blob(&name.parse().unwrap(), &Digest::sha256(b"x"), link(1)).await.unwrap();
    }
    let page = async |last, limit| {
        let found = store.repositories(&org(), last, limit).await.unwrap();
        found.iter().map(RepositoryName::to_string).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 9).await, ["acme/a", "acme/a/x", "acme/b"]);
    assert_eq!(page(Some("acme/a"), 1).await, ["acme/a/x"]);
    assert!(page(Some("acme/b"), 9).await.is_empty());
}

/// A desired state that names version `number` of acme/web.
fn desired(number: u64) -> DesiredStateRecord {
    let counter = Counter { epoch: 1, n: number };
    let activation = Activation::default();
    let app = DesiredApp { version: number, rollout: "r".parse().unwrap(), statements: BTreeMap::new(), activation, before: None };
    let apps = [("web".parse().unwrap(), app)].into();
    let state = DesiredState { format: FORMAT, org: org(), group: GroupName::all(), counter, expires: NOW, apps };
    let payload = STANDARD.encode(serde_json::to_vec(&state).unwrap());
    let envelope = serde_json::json!({"payloadType": PAYLOAD_TYPE, "payload": payload, "signatures": []}).to_string();
    DesiredStateRecord { group: GroupName::all(), counter, expires: NOW, signed_by: String::new(), envelope }
}

#[tokio::test]
async fn a_version_is_retired_when_no_desired_state_names_it_and_not_rolled_out_again() {
    let (_dir, store) = store().await;
    let web = "web".parse().unwrap();
    for number in [1, 2] {
        store.publish_version(&org(), version(number), VersionContent::default(), &timestamp(0), vec![]).await.unwrap();
    }
    let retire = async |number, reason: &str| {
        let retirement = Retirement { at: NOW, reason: Some(reason.into()) };
        store.retire_version(&org(), &web, number, retirement).await
    };
    let rollout = |id: &str, version| {
        Rollout::start(id.parse().unwrap(), ("web".parse().unwrap(), version), GroupName::all(), Plan::default(), None, NOW)
    };
    let ended = Rollout { state: RolloutState::Done, ..rollout("r1", 1) };
    store.put_desired_state(&org(), None, desired(1), vec![ended]).await.unwrap();
    let refused = retire(1, "broken").await;
    assert!(is_conflict(&refused) && refused.unwrap_err().to_string().contains("hedgerow rollout start acme/web --version N --group all"));
    store.put_desired_state(&org(), Some(desired(1).counter), desired(2), vec![rollout("r2", 2)]).await.unwrap();
    retire(1, "broken").await.unwrap();
    retire(1, "again").await.unwrap();
    assert!(is_missing(&retire(3, "").await));

    let retired = store.version(&org(), &web, 1).await.unwrap().unwrap();
    assert_eq!(retired.retired, Some(Retirement { at: NOW, reason: Some("broken".into()) }));
    assert!(retired.why_retired(&org()).unwrap().contains("broken"));
    let versions = store.org_versions(&org()).await.unwrap();
    assert_eq!(versions, [retired.clone(), version(2)]);
    let again = DesiredStateRecord { counter: Counter { epoch: 1, n: 9 }, ..desired(1) };
    let ended = Rollout { state: RolloutState::Aborted, ..rollout("r2", 2) };
    let started = store.put_desired_state(&org(), Some(desired(2).counter), again, vec![ended, rollout("r3", 1)]).await;
    assert!(matches!(started, Err(MetaError::Retired(reason)) if reason.contains("broken")));
    assert_eq!(store.desired_state(&org(), &GroupName::all()).await.unwrap(), Some(desired(2)));
}

#[test]
fn a_version_of_before_there_were_retirements_is_not_retired() {
    let mut old = serde_json::to_value(version(1)).unwrap();
    assert!(old.as_object_mut().unwrap().remove("retired").is_none(), "nothing is stored where nothing is said");
    assert_eq!(serde_json::from_value::<VersionRecord>(old).unwrap(), version(1));
}
