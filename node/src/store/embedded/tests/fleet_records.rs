//! What records of the fleet promise: reports and counters do not go back, one rollout of an app is open in a group, and a
//! device that enrols again keeps what its operator gave it.

use protocol::group::Group;
use protocol::name::{DeviceId, GroupName};
use protocol::rollout::{DeviceReport, Plan, Rollout, RolloutState};
use protocol::statement::desired::Counter;

use super::*;
use crate::store::meta::{AssignmentRecord, DesiredStateRecord, DeviceChange, NextDesired, ReportRecord, Retirement};

fn report(counter: u64) -> DeviceReport {
    DeviceReport { counter, apps: BTreeMap::new(), labels: Labels::new(), refused: BTreeMap::new(), stale: false }
}

fn at(n: u64) -> Counter {
    Counter { epoch: 1, n }
}

fn state(group: &str, n: u64) -> DesiredStateRecord {
    DesiredStateRecord { group: group.parse().unwrap(), counter: at(n), expires: NOW, signed_by: String::new(), envelope: n.to_string() }
}

fn rollout(id: &str, group: &str) -> Rollout {
    let app = ("web".parse().unwrap(), 1);
    Rollout::start(id.parse().unwrap(), app, group.parse().unwrap(), Plan::default(), None, NOW)
}

async fn enrolled(id: &str) -> (tempfile::TempDir, EmbeddedStore) {
    let (dir, store) = store().await;
    store.add_token(TokenRecord { labels: labels("site", "north"), ..token(b"one") }).await.unwrap();
    store.enroll(&Digest::sha256(b"one"), device(id, b"k"), NOW).await.unwrap();
    (dir, store)
}

fn labels(key: &str, value: &str) -> Labels {
    [(key.parse().unwrap(), value.parse().unwrap())].into()
}

#[tokio::test]
async fn an_older_report_is_refused() {
    let (_dir, store) = enrolled("d1").await;
    let (id, other) = ("d1".parse().unwrap(), "d2".parse().unwrap());
    assert!(is_missing(&store.put_report(&org(), &other, report(1), NOW).await));
    store.put_report(&org(), &id, report(5), NOW).await.unwrap();
    assert!(is_conflict(&store.put_report(&org(), &id, report(5), NOW).await));
    assert!(is_conflict(&store.put_report(&org(), &id, report(4), NOW).await));
    store.put_report(&org(), &id, report(6), NOW).await.unwrap();
    let kept = ReportRecord { received: NOW, report: report(6) };
    let listed = store.devices_after(&org(), None, 10).await.unwrap();
    assert_eq!(listed.into_iter().map(|(device, report)| (device.id, report)).collect::<Vec<_>>(), [(id.clone(), Some(kept.clone()))]);
    assert_eq!(store.report(&org(), &id).await.unwrap(), Some(kept));
    let old: ReportRecord = serde_json::from_str(r#"{"counter":7,"apps":{}}"#).unwrap();
    assert_eq!(old.report, report(7), "a report that a program of before kept");
}

#[tokio::test]
async fn a_desired_state_is_replaced_by_who_saw_it() {
    let (_dir, store) = store().await;
    let (all, put) = (GroupName::all(), async |expected, n| store.put_desired_state(&org(), expected, state("all", n), vec![]).await);
    assert!(is_conflict(&put(Some(at(0)), 1).await));
    put(None, 1).await.unwrap();
    assert!(is_conflict(&put(None, 2).await));
    assert!(is_conflict(&put(Some(at(1)), 1).await), "the counter must go up");
    put(Some(at(1)), 2).await.unwrap();
    assert_eq!(store.desired_state(&org(), &all).await.unwrap(), Some(state("all", 2)));
    assert_eq!(store.desired_state(&org(), &"west".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn one_rollout_of_an_app_is_open_in_a_group() {
    let (_dir, store) = store().await;
    let (web, west) = ("web".parse().unwrap(), "west".parse().unwrap());
    store.put_desired_state(&org(), None, state("all", 1), vec![rollout("r-1", "all")]).await.unwrap();
    let second = store.put_desired_state(&org(), Some(at(1)), state("all", 2), vec![rollout("r-2", "all")]).await;
    assert!(is_conflict(&second));
    assert_eq!(store.desired_state(&org(), &GroupName::all()).await.unwrap(), Some(state("all", 1)), "nothing of a conflict is kept");
    store.put_desired_state(&org(), None, state("west", 1), vec![rollout("r-3", "west")]).await.unwrap();
    assert_eq!(store.open_rollouts(&org()).await.unwrap(), [rollout("r-1", "all"), rollout("r-3", "west")]);
    assert_eq!(store.rollout(&org(), &web, None).await.unwrap(), Some(rollout("r-3", "west")));
    assert_eq!(store.rollout(&org(), &web, Some(&GroupName::all())).await.unwrap(), Some(rollout("r-1", "all")));

    let ended = Rollout { state: RolloutState::RolledBack, ..rollout("r-1", "all") };
    let both = vec![ended.clone(), rollout("r-2", "all")];
    store.put_desired_state(&org(), Some(at(1)), state("all", 2), both).await.unwrap();
    assert_eq!(store.open_rollouts(&org()).await.unwrap(), [rollout("r-2", "all"), rollout("r-3", "west")]);
    assert_eq!(store.rollouts(&org(), &web).await.unwrap(), [ended, rollout("r-3", "west"), rollout("r-2", "all")]);
    assert_eq!(store.rollout(&org(), &web, Some(&west)).await.unwrap(), Some(rollout("r-3", "west")));
}

#[tokio::test]
async fn groups_do_not_tie_and_stay_while_a_rollout_is_open() {
    let (_dir, store) = store().await;
    let group = |name: &str, priority| Group {
        name: name.parse().unwrap(),
        app: "web".parse().unwrap(),
        selector: "site=north".parse().unwrap(),
        priority,
    };
    let next = |group: &str, expected: u64, n| NextDesired { expected: (expected > 0).then(|| at(expected)), state: state(group, n) };
    store.add_group(&org(), group("west", 1), next("west", 0, 1)).await.unwrap();
    assert!(is_conflict(&store.add_group(&org(), group("east", 1), next("east", 0, 1)).await));
    assert_eq!(store.desired_state(&org(), &"east".parse().unwrap()).await.unwrap(), None);
    assert!(is_conflict(&store.add_group(&org(), group("east", 2), next("east", 7, 8)).await));
    assert_eq!(store.groups(&org()).await.unwrap(), [group("west", 1)], "neither or both");
    store.add_group(&org(), group("east", 2), next("east", 0, 1)).await.unwrap();
    assert_eq!(store.groups(&org()).await.unwrap(), [group("east", 2), group("west", 1)]);
    store.put_desired_state(&org(), Some(at(1)), state("west", 2), vec![rollout("r-1", "west")]).await.unwrap();
    let (web, west) = ("web".parse().unwrap(), "west".parse().unwrap());
    let refused = store.remove_group(&org(), &web, &west, next("west", 2, 3)).await;
    assert!(is_conflict(&refused) && refused.unwrap_err().to_string().contains("hedgerow rollout abort acme/web --group west"));
    let ended = Rollout { state: RolloutState::Aborted, ..rollout("r-1", "west") };
    store.put_desired_state(&org(), Some(at(2)), state("west", 3), vec![ended]).await.unwrap();
    assert!(is_conflict(&store.remove_group(&org(), &web, &west, next("west", 1, 4)).await));
    assert_eq!(store.groups(&org()).await.unwrap().len(), 2, "neither or both");
    store.remove_group(&org(), &web, &west, next("west", 3, 4)).await.unwrap();
    assert!(is_missing(&store.remove_group(&org(), &web, &west, next("west", 4, 5)).await));
}

#[tokio::test]
async fn a_device_keeps_what_its_operator_gave_it_when_it_enrols_again() {
    let (_dir, store) = enrolled("d1").await;
    let (id, web): (_, protocol::name::AppName) = ("d1".parse().unwrap(), "web".parse().unwrap());
    assert_eq!(store.device(&org(), &id).await.unwrap().unwrap().labels, labels("site", "north"), "those of the token");
    store.publish_version(&org(), version(1), VersionContent::default(), &timestamp(0), vec![]).await.unwrap();
    let change = DeviceChange { set_labels: labels("class", "lab"), pins: [(web.clone(), Some(1))].into(), ..DeviceChange::default() };
    let changed = store.change_device(&org(), &id, change).await.unwrap();
    assert_eq!((changed.labels.len(), changed.pins[&web]), (2, 1));
    store.add_token(token(b"two")).await.unwrap();
    store.enroll(&Digest::sha256(b"two"), device("d1", b"k"), NOW).await.unwrap();
    assert_eq!(store.device(&org(), &id).await.unwrap(), Some(changed));
    let view = store.device_view(&org(), &id).await.unwrap().unwrap();
    assert_eq!((view.own_labels, view.assignment, view.groups), (Labels::new(), None, vec![]));
}

#[tokio::test]
async fn a_pinned_version_is_not_retired_and_a_retired_one_not_pinned() {
    let (_dir, store) = enrolled("d1").await;
    let (id, web): (_, protocol::name::AppName) = ("d1".parse().unwrap(), "web".parse().unwrap());
    store.publish_version(&org(), version(1), VersionContent::default(), &timestamp(0), vec![]).await.unwrap();
    let pin = async |version: Option<u64>| {
        let change = DeviceChange { pins: [(web.clone(), version)].into(), ..DeviceChange::default() };
        store.change_device(&org(), &id, change).await
    };
    assert!(is_missing(&pin(Some(2)).await));
    pin(Some(1)).await.unwrap();
    assert_eq!(store.pinned_versions(&org()).await.unwrap(), [(web.clone(), 1)]);
    let retire = async || store.retire_version(&org(), &web, 1, Retirement { at: NOW, reason: None }).await;
    let refused = retire().await;
    assert!(is_conflict(&refused) && refused.unwrap_err().to_string().contains("hedgerow fleet unpin d1 --app acme/web"));
    pin(None).await.unwrap();
    assert!(store.pinned_versions(&org()).await.unwrap().is_empty());
    retire().await.unwrap();
    assert!(matches!(pin(Some(1)).await, Err(MetaError::Retired(_))));
}

#[tokio::test]
async fn an_assignment_is_replaced_by_who_saw_it() {
    let (_dir, store) = enrolled("d1").await;
    let id = "d1".parse().unwrap();
    let record =
        |n| AssignmentRecord { counter: at(n), expires: NOW, apps: BTreeMap::new(), signed_by: String::new(), envelope: n.to_string() };
    assert!(is_conflict(&store.put_assignment(&org(), &id, Some(at(1)), record(2)).await));
    store.put_assignment(&org(), &id, None, record(1)).await.unwrap();
    assert!(is_conflict(&store.put_assignment(&org(), &id, None, record(2)).await));
    assert!(is_conflict(&store.put_assignment(&org(), &id, Some(at(1)), record(1)).await));
    store.put_assignment(&org(), &id, Some(at(1)), record(2)).await.unwrap();
    assert_eq!(store.device_view(&org(), &id).await.unwrap().unwrap().assignment, Some(record(2)));
    assert!(is_missing(&store.put_assignment(&org(), &"d2".parse().unwrap(), None, record(1)).await));
}

#[tokio::test]
async fn devices_are_read_page_by_page() {
    let (_dir, store) = store().await;
    store.add_token(TokenRecord { uses_left: 5, ..token(b"five") }).await.unwrap();
    for id in ["a", "b", "c", "d", "e"] {
        store.enroll(&Digest::sha256(b"five"), device(id, id.as_bytes()), NOW).await.unwrap();
    }
    let mut pages = Vec::new();
    let mut last: Option<DeviceId> = None;
    loop {
        let page = store.devices_after(&org(), last.as_ref(), 2).await.unwrap();
        let names: Vec<String> = page.iter().map(|(device, _)| device.id.to_string()).collect();
        last = page.last().map(|(device, _)| device.id.clone());
        if page.is_empty() {
            break;
        }
        pages.push(names);
    }
    assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
}

#[tokio::test]
async fn a_key_that_takes_the_place_of_another_is_heard_whatever_that_one_said() {
    let (_dir, store) = enrolled("d1").await;
    let id = "d1".parse().unwrap();
    store.put_report(&org(), &id, report(u64::MAX), NOW).await.unwrap();
    let replacing = TokenRecord { device: Some("d1".parse().unwrap()), replaces: true, ..token(b"two") };
    store.add_token(replacing).await.unwrap();
    assert_eq!(store.enroll(&Digest::sha256(b"two"), device("d1", b"new"), NOW).await.unwrap(), Admitted::Replacing);
    assert_eq!(store.report(&org(), &id).await.unwrap(), None);
    store.put_report(&org(), &id, report(1), NOW).await.unwrap();
}

#[tokio::test]
async fn a_device_that_asks_again_with_its_token_keeps_the_labels_that_the_operator_gave_it_since() {
    let (_dir, store) = enrolled("d1").await;
    let id = "d1".parse().unwrap();
    let change = DeviceChange { set_labels: labels("site", "south"), ..DeviceChange::default() };
    store.change_device(&org(), &id, change).await.unwrap();
    assert_eq!(store.enroll(&Digest::sha256(b"one"), device("d1", b"k"), NOW).await.unwrap(), Admitted::Again);
    assert_eq!(store.device(&org(), &id).await.unwrap().unwrap().labels, labels("site", "south"));
}
