//! The audit log through its thread, and what it says of lines that are missing.

use std::fs;

use serde_json::Value;

use super::chain::{Checker, Link};
use super::*;

const BOUNDS: Bounds = Bounds { file_bytes: 64 << 10, files_kept: 100 };

fn entry(path: &str, who: Option<&str>, outcome: Outcome) -> Entry {
    Entry {
        time: timestamp(),
        action: ActivityKind::TagDelete,
        outcome,
        status: Some(401),
        who: who.map(|key| Who { org: "acme".into(), key: Some(key.into()), label: String::new(), device: None }),
        from: Source { address: "192.0.2.1:5".parse().ok(), user_agent: "curl".into() },
        request: "r1".into(),
        method: "DELETE".into(),
        path: path.into(),
        target: Activity::in_repository(ActivityKind::TagDelete, &"acme/web".parse().unwrap()),
    }
}

/// All lines, after their chain was checked.
fn lines(data: &Path) -> Vec<Value> {
    let mut paths: Vec<_> = fs::read_dir(data.join(AUDIT)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut checker = Checker::after(Some(Link::start()));
    let mut lines = Vec::new();
    for path in paths {
        assert_eq!(files::check_file(&path, &mut checker).unwrap(), None);
        lines.extend(fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    assert_eq!(checker.broken(), None);
    lines
}

#[tokio::test]
async fn what_was_added_is_there_when_the_log_is_finished_and_after_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    for start in 0..2 {
        let (log, writer) = AuditLog::start(data.path(), BOUNDS, Arc::default()).unwrap();
        for n in 0..3 * QUEUE_LINES {
            log.add(entry(&format!("/v2/{start}/{n}"), Some("00ff"), Outcome::Done)).await;
        }
        log.add(entry("/v2/last", Some("00ff"), Outcome::Unknown)).await;
        writer.finish();
    }
    let lines = lines(data.path());
    let of_second_start = lines.iter().filter(|line| line["path"].as_str().unwrap().starts_with("/v2/1/")).count();
    assert_eq!(of_second_start, 3 * QUEUE_LINES);
    assert_eq!(lines.last().unwrap()["outcome"], "unknown");
    let first = &lines[lines.len() - 2];
    assert_eq!(first["v"], 1);
    assert_eq!(first["who"], serde_json::json!({ "org": "acme", "key": "00ff" }));
    assert_eq!(first["target"], serde_json::json!({ "repository": "acme/web" }));
    assert_eq!(first["from"], serde_json::json!({ "address": "192.0.2.1:5", "user_agent": "curl" }));
}

#[tokio::test]
async fn strangers_cannot_push_the_lines_of_others_out() {
    let data = tempfile::tempdir().unwrap();
    let metrics = Arc::new(LogMetrics::default());
    let (log, writer) = AuditLog::start(data.path(), BOUNDS, metrics.clone()).unwrap();
    for n in 0..2000 {
        let outcome = if n % 2 == 0 { Outcome::Refused } else { Outcome::Unknown };
        log.add(entry("/v2/acme/web/manifests/1.0", None, outcome)).await;
    }
    log.add(entry("/v2/acme/web/manifests/1.0", Some("00ff"), Outcome::Refused)).await;
    writer.finish();
    let lines = lines(data.path());
    let strangers = lines.iter().filter(|line| line["action"] == "tag.delete" && line["who"].is_null()).count() as u64;
    let counted: u64 = lines.iter().filter(|line| line["reason"] == "refused_strangers").map(|gap| gap["lines"].as_u64().unwrap()).sum();
    assert_eq!((strangers + counted, counted), (2000, metrics.audit_strangers.get()));
    assert!(counted > 0);
    assert_eq!(lines.iter().filter(|line| line["who"]["key"] == "00ff").count(), 1);
}

#[test]
fn lines_that_could_not_be_written_are_told_when_the_disk_is_back() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join(AUDIT);
    let every_line_in_a_file = Bounds { file_bytes: 1, files_kept: 10 };
    let metrics = Arc::new(LogMetrics::default());
    let mut writing = Writing::new(Files::open(&dir, every_line_in_a_file).unwrap(), metrics.clone());
    let mut add = |path: &str| {
        let entries = writing.take(&entry(path, Some("00ff"), Outcome::Done));
        writing.flush(entries);
    };
    add("/one");
    let away = data.path().join("away");
    fs::rename(&dir, &away).unwrap();
    add("/two");
    add("/three");
    fs::rename(&away, &dir).unwrap();
    add("/four");
    let lines = lines(data.path());
    assert_eq!((&lines[0]["path"], &lines[2]["path"]), (&"/one".into(), &"/four".into()));
    assert_eq!((&lines[1]["action"], &lines[1]["reason"], &lines[1]["lines"]), (&"audit.gap".into(), &"write_failed".into(), &2.into()));
    assert_eq!((lines.len(), metrics.audit_lost.get()), (3, 2));
}

#[tokio::test]
async fn a_line_that_cannot_wait_for_room_is_left_out_and_told() {
    let data = tempfile::tempdir().unwrap();
    let metrics = Arc::new(LogMetrics::default());
    let (log, writer) = AuditLog::start(data.path(), BOUNDS, metrics.clone()).unwrap();
    let full = log.fill();
    for _ in 0..3 {
        log.add_if_room(entry("/v2/left-out", Some("00ff"), Outcome::Unknown));
    }
    drop(full);
    log.add_if_room(entry("/v2/written", Some("00ff"), Outcome::Unknown));
    writer.finish();
    let lines = lines(data.path());
    assert_eq!((&lines[0]["reason"], &lines[0]["lines"]), (&"queue_full".into(), &3.into()));
    assert_eq!((lines.len(), &lines[1]["path"], metrics.audit_lost.get()), (2, &"/v2/written".into(), 3));
}

#[test]
fn a_flood_of_strangers_gets_a_line_a_second_after_the_first_ones() {
    let mut bucket = Bucket::default();
    let mut flood = |seconds: u64| {
        let now = protocol::time::Instant::from_micros(seconds * 1_000_000);
        (0..1000).filter(|_| bucket.take(now, STRANGERS).is_ok()).count()
    };
    assert_eq!([flood(1), flood(2), flood(5), flood(1000)], [60, 1, 3, 60]);
}
