//! What has expired: refused when it is new, a floor when it is kept.

use protocol::time::WallTime;
use serde_json::json;

use super::simulator::{Client, DAY, NOW, Simulator, expiry, reason};

const PAST: &str = "2020-01-01T00:00:00Z";

#[tokio::test]
async fn a_new_role_that_has_expired_is_not_taken_save_the_root() {
    for (role, kept) in [
        ("root", [Some(2), Some(1), Some(1), Some(1)]),
        ("timestamp", [None, Some(1), Some(1), Some(1)]),
        ("snapshot", [None, Some(2), Some(1), Some(1)]),
        ("targets", [None, Some(2), Some(2), Some(1)]),
    ] {
        let mut repository = Simulator::new();
        let client = Client::of(&repository);
        client.refresh(&repository).await.unwrap();
        repository.role(role)["expires"] = json!(PAST);
        if role == "root" {
            repository.publish(&["root"]);
        }
        repository.publish(&["targets", "snapshot", "timestamp"]);
        assert_eq!(reason(client.refresh(&repository).await), "expired", "{role}");
        assert_eq!(client.versions(), kept, "{role}");
    }
}

#[tokio::test]
async fn the_clock_is_the_callers() {
    let mut repository = Simulator::new();
    repository.role("root")["expires"] = expiry(7);
    repository.publish(&["root"]);
    let client = Client::of(&repository);
    client.refresh_at(&repository, NOW.plus_seconds(7 * DAY - 1)).await.unwrap();
    assert_eq!(reason(client.refresh_at(&repository, NOW.plus_seconds(7 * DAY)).await), "expired");
    assert_eq!(reason(client.refresh_at(&repository, WallTime::from_unix_seconds(u64::MAX)).await), "expired");
}

#[tokio::test]
async fn a_client_whose_own_root_or_timestamp_has_expired_goes_on_to_newer_ones() {
    let mut repository = Simulator::new();
    repository.role("root")["expires"] = expiry(7);
    repository.role("timestamp")["expires"] = expiry(7);
    repository.publish(&["root", "timestamp"]);
    let client = Client::of(&repository);
    client.refresh(&repository).await.unwrap();
    repository.role("root")["expires"] = expiry(21);
    repository.role("timestamp")["expires"] = expiry(21);
    repository.publish(&["root", "targets", "snapshot", "timestamp"]);
    client.refresh_at(&repository, NOW.plus_seconds(18 * DAY)).await.unwrap();
    assert_eq!(client.versions(), [Some(3), Some(3), Some(2), Some(2)]);
}
