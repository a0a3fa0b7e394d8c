//! The index is rebuilt whenever it is missing, corrupt, behind or ahead.

use super::*;
use serde_json::value::to_raw_value;

fn put(key: &str, value: u32) -> Change {
    Change(Table::Tag, key.into(), Some(to_raw_value(&value).unwrap()))
}

fn journal(dir: &Path) -> Journal {
    Journal::open(&dir.join("journal")).unwrap()
}

/// A data directory with ten records in the journal and the index.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal(dir.path());
    let index = Index::open(dir.path(), &journal).unwrap();
    for n in 0..10 {
        let changes = [put(&format!("acme/web {n}"), n), put("acme/web last", n), Change(Table::Tag, "acme/web last".into(), None)];
        index.apply(Some(journal.append(&changes).unwrap()), &changes).unwrap();
    }
    index.verify().unwrap();
    dir
}

fn content(index: &Index) -> Vec<(String, String)> {
    index.verify().unwrap();
    index.records().map(|change| change.map(|change| (change.1, change.2.unwrap().get().to_owned())).unwrap()).collect()
}

fn open(dir: &Path) -> (Journal, Index) {
    let journal = journal(dir);
    let index = Index::open(dir, &journal).unwrap();
    assert_eq!(index.mark().position.unwrap_or_default(), journal.position());
    (journal, index)
}

#[test]
fn opens_as_it_was_closed() {
    let dir = filled();
    let (_, index) = open(dir.path());
    let expected: Vec<_> = (0..10).map(|n| (format!("acme/web {n}"), n.to_string())).collect();
    assert_eq!(content(&index), expected);
}

#[test]
fn catches_up_with_a_journal_that_went_on_without_it() {
    let dir = filled();
    let position = journal(dir.path()).append(&[put("acme/web 3", 33), Change(Table::Tag, "acme/web 4".into(), None)]).unwrap();
    let (_, index) = open(dir.path());
    assert_eq!(index.mark().position, Some(position));
    assert_eq!(Records::get::<u32>(&index, Table::Tag, "acme/web 3").unwrap(), Some(33));
    assert!(!index.contains(Table::Tag, "acme/web 4").unwrap());
    assert_eq!(content(&index).len(), 9);
}

#[test]
fn is_built_again_when_it_is_missing_or_corrupt() {
    let dir = filled();
    let expected = content(&open(dir.path()).1);
    let folder = dir.path().join(FOLDER);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(content(&open(dir.path()).1), expected);
    for (name, damage) in [("db", vec![0xff; 1 << 20]), ("db", Vec::new()), ("conf", b"rubbish".to_vec())] {
        fs::write(folder.join(name), damage).unwrap();
        assert_eq!(content(&open(dir.path()).1), expected);
    }
    assert!(!dir.path().join(BROKEN_FOLDER).exists());
}

#[test]
fn is_built_again_when_a_record_was_lost() {
    let dir = filled();
    let (journal, index) = open(dir.path());
    let expected = content(&index);
    index.db.remove(stored_key(Table::Tag, "acme/web 7")).unwrap();
    assert!(index.verify().is_err());
    drop(index);
    assert_eq!(content(&Index::open(dir.path(), &journal).unwrap()), expected);
}

#[test]
fn is_built_again_when_it_is_of_another_journal() {
    let dir = filled();
    let (journal, index) = open(dir.path());
    let expected = content(&index);
    drop((journal, index));
    let other = filled();
    fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
    fs::rename(other.path().join(FOLDER), dir.path().join(FOLDER)).unwrap();
    assert_eq!(content(&open(dir.path()).1), expected);
}

#[test]
fn a_build_that_was_killed_half_way_starts_over() {
    let dir = filled();
    let (journal, index) = open(dir.path());
    let expected = content(&index);
    index.apply(None, &[put("acme/web 99", 99)]).unwrap();
    drop(index);
    assert_eq!(content(&Index::open(dir.path(), &journal).unwrap()), expected);
}

#[test]
fn a_lost_journal_is_an_error_and_no_fresh_start() {
    let dir = filled();
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let journal = journal(dir.path());
    let error = Index::open(dir.path(), &journal).unwrap_err();
    assert!(matches!(error, OpenError::JournalLost { records: 10, .. }), "{error}");
}

#[test]
fn a_journal_that_ends_before_its_index_has_lost_what_was_acknowledged() {
    let dir = filled();
    let (journal, index) = open(dir.path());
    index.apply(Some(Position { sequence: 11, crc: 7 }), &[put("acme/web 11", 11)]).unwrap();
    drop(index);
    let error = Index::open(dir.path(), &journal).unwrap_err();
    assert!(matches!(error, OpenError::JournalLost { found: 10, records: 11, .. }), "{error}");
}

#[test]
fn scans_are_ordered_and_bounded() {
    let dir = filled();
    let (_, index) = open(dir.path());
    index.apply(None, &[put("acme/web2 0", 0), put("acme/we 0", 0)]).unwrap();
    let keys = |range| -> Vec<String> { index.raw_scan(Table::Tag, range).unwrap().into_iter().map(|(key, _)| key).collect() };
    assert_eq!(keys(Range::all("acme/web ")).len(), 10);
    assert_eq!(keys(Range { after: Some("7"), ..Range::all("acme/web ") }), ["8", "9"]);
    assert_eq!(keys(Range { after: Some("41"), limit: 2, ..Range::all("acme/web ") }), ["5", "6"]);
    assert!(keys(Range { limit: 0, ..Range::all("acme/web ") }).is_empty());
}
