//! What goes back is refused; after a fast-forward, new keys begin anew.

use super::simulator::{Client, Simulator, reason};

#[tokio::test]
async fn no_role_goes_back_with_hashes_or_without() {
    for with_hashes in [false, true] {
        for role in ["timestamp", "snapshot", "targets"] {
            let mut repository = Simulator::new();
            repository.with_hashes = with_hashes;
            repository.publish(&["targets", "snapshot", "timestamp"]);
            let client = Client::of(&repository);
            client.refresh(&repository).await.unwrap();
            repository.restart(role);
            match role {
                "timestamp" => repository.publish(&["timestamp"]),
                "snapshot" => repository.publish(&["snapshot", "timestamp"]),
                _ => repository.publish(&["targets", "snapshot", "timestamp"]),
            }
            assert_eq!(reason(client.refresh(&repository).await), "rolled_back", "{role}");
            let timestamp = if role == "targets" { 3 } else { 2 };
            assert_eq!(client.versions(), [None, Some(timestamp), Some(2), Some(2)], "{role}");
        }
    }
}

#[tokio::test]
async fn no_role_vanishes_from_the_snapshot() {
    let mut repository = Simulator::new();
    repository.delegate("targets", "delegated", &["delegated/*"], false);
    repository.publish(&["delegated", "targets", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    client.refresh(&repository).await.unwrap();
    repository.role("snapshot")["meta"].as_object_mut().unwrap().remove("delegated.json");
    repository.publish(&["snapshot", "timestamp"]);
    assert_ne!(reason(client.refresh(&repository).await), "accepted");
    assert_eq!(client.version("snapshot"), Some(2));
}

#[tokio::test]
async fn after_a_fast_forward_new_keys_begin_anew() {
    for (role, rotated) in
        [("targets", ["snapshot"].as_slice()), ("snapshot", ["snapshot", "timestamp"].as_slice()), ("timestamp", ["timestamp"].as_slice())]
    {
        let mut repository = Simulator::new();
        repository.delegate("targets", "delegated", &["delegated/*"], false);
        repository.publish(&["delegated", "targets"]);
        for _ in 0..99 {
            repository.publish(&[role]);
        }
        repository.publish(&["snapshot", "timestamp"]);
        let client = Client::of(&repository);
        client.refresh(&repository).await.unwrap();
        assert!(client.version(role).unwrap() >= 100);

        repository.restart(role);
        for rotated in rotated {
            repository.rotate(rotated);
        }
        if role == "targets" {
            repository.role("snapshot")["meta"].as_object_mut().unwrap().remove("delegated.json");
        }
        repository.publish(&["root"]);
        repository.publish(match role {
            "timestamp" => &["timestamp"],
            _ => &["targets", "snapshot", "timestamp"],
        });
        client.refresh(&repository).await.unwrap_or_else(|refused| panic!("{role}: {refused}"));
        assert_eq!(client.version(role), Some(1), "{role}");
    }
}
