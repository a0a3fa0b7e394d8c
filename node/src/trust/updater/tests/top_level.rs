//! Root, timestamp, snapshot and targets: order of requests, signatures, names, hashes, what is missing.

use serde_json::{Value, json};

use super::simulator::{Client, NOW, Simulator, keyid, reason};

const ALL: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

#[tokio::test]
async fn a_refresh_asks_in_the_order_of_the_workflow_and_keeps_exact_bytes() {
    let mut repository = Simulator::new();
    repository.served.get_mut("timestamp.json").unwrap().push(' ');
    let client = Client::of(&repository);
    client.refresh(&repository).await.unwrap();
    assert_eq!(repository.take_requests(), ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]);
    for (kept, served) in [("timestamp.json", "timestamp.json"), ("snapshot.json", "1.snapshot.json"), ("targets.json", "1.targets.json")] {
        assert_eq!(client.text(kept).as_ref(), repository.served.get(served), "{kept}");
    }
    client.refresh(&repository).await.unwrap();
    assert_eq!(repository.take_requests(), ["2.root.json", "timestamp.json"]);
}

#[test]
fn a_first_root_without_version_or_signature_is_none() {
    let root: Value = serde_json::from_str(&Simulator::new().served["1.root.json"]).unwrap();
    let (mut unversioned, mut unsigned) = (root.clone(), root);
    unversioned["signed"].as_object_mut().unwrap().remove("version");
    assert_eq!(reason(Client::with_root(unversioned.to_string()).open()), "malformed");
    unsigned["signatures"][0]["sig"] = json!("ab".repeat(64));
    assert_eq!(reason(Client::with_root(unsigned.to_string()).open()), "bad_signature");
}

#[tokio::test]
async fn what_is_not_signed_is_refused_and_what_stands_above_it_is_taken() {
    for (role, kept) in [
        ("root", [None, None, None, None]),
        ("timestamp", [Some(2), None, None, None]),
        ("snapshot", [Some(2), Some(2), None, None]),
        ("targets", [Some(2), Some(2), Some(2), None]),
    ] {
        let mut repository = Simulator::new();
        repository.signers.insert(role.into(), Vec::new());
        repository.publish(&ALL);
        let client = Client::of(&repository);
        assert_eq!(reason(client.refresh(&repository).await), "bad_signature", "{role}");
        assert_eq!(client.versions(), kept, "{role}");
    }
}

#[tokio::test]
async fn a_version_other_than_the_one_asked_for_is_refused() {
    for (role, kept) in
        [("root", [None, None, None, None]), ("snapshot", [Some(2), Some(2), None, None]), ("targets", [Some(2), Some(2), Some(2), None])]
    {
        let mut repository = Simulator::new();
        repository.role(role)["version"] = json!(2);
        repository.publish(&ALL);
        let client = Client::of(&repository);
        // The pins name version 3, the files are called 2; a root is asked for as 2.
        let refused = reason(client.refresh(&repository).await);
        assert!(["mismatch", "unavailable"].contains(&refused), "{role}: {refused}");
        assert_eq!(client.versions(), kept, "{role}");
    }
}

#[tokio::test]
async fn another_timestamp_of_the_same_version_is_left_aside() {
    let mut repository = Simulator::new();
    let client = Client::of(&repository);
    client.refresh(&repository).await.unwrap();
    let before = client.text("timestamp.json");
    repository.restart("timestamp");
    repository.role("timestamp")["meta"]["snapshot.json"]["version"] = json!(100);
    repository.publish(&["timestamp"]);
    repository.take_requests();
    client.refresh(&repository).await.unwrap();
    assert_eq!(repository.take_requests().last().unwrap(), "timestamp.json");
    assert_eq!(client.text("timestamp.json"), before);
}

#[tokio::test]
async fn metadata_must_have_the_hashes_that_its_parent_names() {
    let mut repository = Simulator::new();
    repository.with_hashes = true;
    repository.publish(&["targets", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    client.refresh(&repository).await.unwrap();
    repository.publish(&["targets"]);
    repository.role("snapshot")["meta"]["targets.json"]["hashes"]["sha256"] = json!("0".repeat(64));
    repository.publish(&["snapshot", "timestamp"]);
    assert_eq!(reason(client.refresh(&repository).await), "mismatch");
    assert_eq!(client.versions(), [None, Some(3), Some(3), Some(2)]);

    repository.publish(&["targets", "snapshot"]);
    repository.role("timestamp")["meta"]["snapshot.json"]["hashes"]["sha256"] = json!("0".repeat(64));
    repository.publish(&["timestamp"]);
    assert_eq!(reason(client.refresh(&repository).await), "mismatch");
    assert_eq!(client.versions(), [None, Some(4), Some(3), Some(2)]);
}

#[tokio::test]
async fn members_that_nobody_knows_are_signed_for_and_do_no_harm() {
    let mut repository = Simulator::new();
    let client = Client::of(&repository);
    client.refresh(&repository).await.unwrap();
    let snapshot_key = keyid(repository.signers["snapshot"][0]);
    let root = repository.role("root");
    root["custom-field"] = json!("value");
    root["roles"]["root"]["another-field"] = json!({"a": 1, "b": 2});
    root["keys"][snapshot_key]["keyid_hash_algorithms"] = json!("md5");
    repository.publish(&["root", "snapshot", "timestamp"]);
    client.refresh(&repository).await.unwrap();
    assert_eq!(client.versions(), [Some(2), Some(2), Some(2), Some(1)]);
}

#[tokio::test]
async fn a_file_that_is_missing_leaves_what_was_found_before_it() {
    let prepared = || async {
        let repository = Simulator::new();
        let client = Client::of(&repository);
        client.refresh(&repository).await.unwrap();
        repository.take_requests();
        (repository, client)
    };
    let (mut repository, client) = prepared().await;
    repository.served.remove("timestamp.json");
    assert_eq!(reason(client.refresh(&repository).await), "unavailable");
    assert_eq!(repository.take_requests().last().unwrap(), "timestamp.json");

    let (mut repository, client) = prepared().await;
    repository.role("timestamp")["meta"]["snapshot.json"]["version"] = json!(2);
    repository.publish(&["timestamp"]);
    assert_eq!(reason(client.refresh(&repository).await), "unavailable");
    assert_eq!(repository.take_requests().last().unwrap(), "2.snapshot.json");
    assert_eq!(client.versions(), [None, Some(2), Some(1), Some(1)]);

    let (mut repository, client) = prepared().await;
    repository.role("snapshot")["meta"]["targets.json"]["version"] = json!(2);
    repository.publish(&["snapshot", "timestamp"]);
    assert_eq!(reason(client.refresh(&repository).await), "unavailable");
    assert_eq!(repository.take_requests().last().unwrap(), "2.targets.json");
    assert_eq!(client.versions(), [None, Some(2), Some(2), Some(1)]);
}

#[tokio::test]
async fn a_snapshot_is_no_timestamp_whoever_signed_it() {
    let mut repository = Simulator::new();
    let client = Client::of(&repository);
    let keys = [repository.signers["snapshot"][0], repository.signers["timestamp"][0]];
    repository.set_keys("snapshot", &keys, 1);
    repository.signers.insert("snapshot".into(), keys.to_vec());
    repository.role("snapshot")["meta"] = json!({"snapshot.json": {"version": 1}});
    repository.publish(&["root", "snapshot"]);
    let disguised = repository.served.remove("2.snapshot.json").unwrap();
    repository.served.insert("timestamp.json".into(), disguised);
    assert_eq!(reason(client.refresh(&repository).await), "malformed");
    assert_eq!(client.versions(), [Some(2), None, None, None]);
}

#[tokio::test]
async fn more_bytes_than_a_role_may_have_are_refused() {
    let mut repository = Simulator::new();
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json", "2.root.json"] {
        let before = repository.served.get(file).cloned();
        repository.served.insert(file.into(), " ".repeat(11 << 20));
        let client = Client::of(&repository);
        assert_eq!(reason(client.open().unwrap().refresh(NOW, &repository, None).await), "too_large", "{file}");
        match before {
            Some(content) => repository.served.insert(file.into(), content),
            None => repository.served.remove(file),
        };
    }
}
