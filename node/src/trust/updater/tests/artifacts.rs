//! Targets and their hashes.

use super::simulator::{Client, NOW, Simulator, reason};

#[tokio::test]
async fn a_target_is_fetched_by_its_hash_and_checked() {
    for path in ["file.txt", "path/to/a/file.txt"] {
        let mut repository = Simulator::new();
        repository.add_artifact("targets", path, b"content", &["sha256"]);
        repository.publish(&["targets", "snapshot", "timestamp"]);
        let client = Client::of(&repository);
        assert_eq!(client.fetch(&repository, path).await.unwrap(), b"content");
        for bytes in repository.artifacts.values_mut() {
            *bytes = b"malicious data".to_vec();
        }
        assert_eq!(reason(client.fetch(&repository, path).await), "too_large");
        for bytes in repository.artifacts.values_mut() {
            *bytes = b"CONTENT".to_vec();
        }
        assert_eq!(reason(client.fetch(&repository, path).await), "mismatch");
        assert_eq!(reason(client.fetch(&repository, "other").await), "not_published");
    }
}

#[tokio::test]
async fn a_target_that_changes_is_the_one_that_the_newest_metadata_lists() {
    let mut repository = Simulator::new();
    let client = Client::of(&repository);
    for number in 0..10 {
        let content = format!("content {number}");
        repository.add_artifact("targets", "file", content.as_bytes(), &["sha256"]);
        repository.publish(&["targets", "snapshot", "timestamp"]);
        if number % 5 == 0 {
            assert_eq!(client.fetch(&repository, "file").await.unwrap(), content.as_bytes());
        }
    }
}

#[tokio::test]
async fn sha_256_and_sha_512_are_understood_and_nothing_else_is_enough() {
    for (kinds, expected) in [
        (["sha256"].as_slice(), "accepted"),
        (&["sha512"], "accepted"),
        (&["sha256", "sha512"], "accepted"),
        (&["sha256", "unknown"], "accepted"),
        (&["unknown"], "malformed"),
    ] {
        let mut repository = Simulator::new();
        repository.add_artifact("targets", "file", b"content", kinds);
        repository.publish(&["targets", "snapshot", "timestamp"]);
        assert_eq!(reason(Client::of(&repository).fetch(&repository, "file").await), expected, "{kinds:?}");
    }
    let mut repository = Simulator::new();
    repository.add_artifact("targets", "file", b"content", &["sha256", "sha512"]);
    repository.role("targets")["targets"]["file"]["hashes"]["sha512"] = serde_json::json!("0".repeat(128));
    repository.publish(&["targets", "snapshot", "timestamp"]);
    assert_eq!(reason(Client::of(&repository).fetch(&repository, "file").await), "mismatch", "one right hash is not enough");
}

#[tokio::test]
async fn a_target_beyond_the_callers_limit_is_not_fetched() {
    let mut repository = Simulator::new();
    repository.add_artifact("targets", "file", b"content", &["sha256"]);
    repository.publish(&["targets", "snapshot", "timestamp"]);
    let mut updater = Client::of(&repository).open().unwrap();
    updater.refresh(NOW, &repository, None).await.unwrap();
    let target = updater.find("file", NOW, &repository).await.unwrap().unwrap().target;
    repository.take_requests();
    assert_eq!(reason(updater.download("file", &target, 6, &repository).await), "too_large");
    assert!(repository.take_requests().is_empty());
}
