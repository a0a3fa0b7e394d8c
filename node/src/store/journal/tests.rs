//! What the journal promises about crashes and damage.

use super::*;
use crate::store::records::{IndexError, Table};
use serde_json::value::to_raw_value;

fn change(name: &str, value: u32) -> Change {
    Change(Table::Tag, name.into(), Some(to_raw_value(&value).unwrap()))
}

fn journal_of(dir: &Path, records: u32) -> Journal {
    let mut journal = Journal::open(dir).unwrap();
    for record in 0..records {
        journal.append(&[change("a", record), change("b", record)]).unwrap();
    }
    journal
}

fn replayed(journal: &Journal, after: Option<Position>) -> Result<Vec<u32>, ReplayError> {
    let mut values = Vec::new();
    journal.replay(after, &mut |_, changes| {
        values.extend(changes.iter().filter(|c| c.1 == "a").map(|c| c.2.as_ref().unwrap().get().parse::<u32>().unwrap()));
        Ok(())
    })?;
    Ok(values)
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

#[test]
fn what_was_appended_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_of(dir.path(), 3);
    let (id, position) = (journal.id(), journal.position());
    drop(journal);
    let mut journal = Journal::open(dir.path()).unwrap();
    assert_eq!((journal.id(), journal.position(), position.sequence), (id, position, 3));
    journal.append(&[change("a", 3)]).unwrap();
    assert_eq!(replayed(&journal, None).unwrap(), [0, 1, 2, 3]);
    assert_eq!(replayed(&journal, Some(position)).unwrap(), [3]);
    assert!(replayed(&journal, Some(journal.position())).unwrap().is_empty());
}

#[test]
fn a_position_of_another_history_is_not_replayed_from() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal_of(dir.path(), 2);
    for other in [Position { sequence: 2, crc: journal.position().crc ^ 1 }, Position { sequence: 3, crc: 0 }] {
        assert!(matches!(replayed(&journal, Some(other)), Err(ReplayError::OtherHistory)));
    }
}

#[test]
fn a_torn_last_record_is_cut_off_wherever_it_tore() {
    let dir = tempfile::tempdir().unwrap();
    drop(journal_of(dir.path(), 2));
    let path = segment(dir.path(), 1);
    let two = fs::read(&path).unwrap();
    drop(journal_of(dir.path(), 1));
    let three = fs::read(&path).unwrap();
    for cut in two.len()..three.len() {
        let zeroed = [&three[..cut], &vec![0; three.len() - cut]].concat();
        let late_pages_only = [&two[..], &vec![0; cut - two.len()], &three[cut..]].concat();
        for torn in [&three[..cut], &zeroed, &late_pages_only] {
            fs::write(&path, torn).unwrap();
            let mut journal = Journal::open(dir.path()).unwrap();
            let whole = torn == three;
            assert_eq!(journal.position().sequence, if whole { 3 } else { 2 }, "{cut}");
            assert_eq!(fs::metadata(&path).unwrap().len(), if whole { three.len() } else { two.len() } as u64);
            journal.append(&[change("a", 9)]).unwrap();
            drop(journal);
            assert_eq!(replayed(&Journal::open(dir.path()).unwrap(), None).unwrap().last(), Some(&9));
        }
    }
}

#[test]
fn damage_before_the_last_record_is_an_error_that_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    drop(journal_of(dir.path(), 3));
    let path = segment(dir.path(), 1);
    let good = fs::read(&path).unwrap();
    let record = (good.len() - HEADER_BYTES) / 3;
    for byte in 0..HEADER_BYTES + 2 * record {
        let mut damaged = good.clone();
        damaged[byte] ^= 0x40;
        fs::write(&path, &damaged).unwrap();
        let error = Journal::open(dir.path()).unwrap_err();
        let JournalError::Damaged { path: ref named, offset, .. } = error else { panic!("{byte}: {error}") };
        let start = if byte < HEADER_BYTES { HEADER_BYTES } else { byte - (byte - HEADER_BYTES) % record };
        assert_eq!((named, offset), (&path, start as u64));
        assert!(error.to_string().contains("backup"));
        assert_eq!(fs::read(&path).unwrap(), damaged, "damage is left as it was found");
    }
}

#[test]
fn damage_at_the_end_of_an_older_segment_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal_of(dir.path(), 2);
    journal.roll().unwrap();
    journal.append(&[change("a", 2)]).unwrap();
    drop(journal);
    let path = segment(dir.path(), 1);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { .. })));
    fs::remove_file(&path).unwrap();
    let missing = Journal::open(dir.path()).unwrap_err();
    assert!(missing.to_string().contains("a file is missing"), "{missing}");
}

#[test]
fn a_checkpoint_replaces_older_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal_of(dir.path(), 5);
    let early = journal.position();
    journal.checkpoint((0..3000).map(|n| Ok(change("a", n)))).unwrap();
    assert!(!segment(dir.path(), 1).exists());
    journal.append(&[change("a", 7000)]).unwrap();
    let expected: Vec<u32> = (0..3000).chain([7000]).collect();
    assert_eq!(replayed(&journal, None).unwrap(), expected);
    drop(journal);
    let mut journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.position().sequence, 6);
    assert_eq!(replayed(&journal, None).unwrap(), expected);
    assert_eq!(replayed(&journal, Some(early)).unwrap(), [7000]);
    journal.checkpoint([Ok(change("a", 1))].into_iter()).unwrap();
    assert!(matches!(replayed(&journal, Some(early)), Err(ReplayError::OtherHistory)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_failed_checkpoint_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal_of(dir.path(), 3);
    let failed = journal.checkpoint([Ok(change("a", 1)), Err(IndexError("is gone".into()))].into_iter());
    assert!(matches!(failed, Err(ReplayError::Index(_))));
    drop(journal);
    assert_eq!(replayed(&Journal::open(dir.path()).unwrap(), None).unwrap(), [0, 1, 2]);
}

#[test]
fn a_damaged_checkpoint_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal_of(dir.path(), 2);
    journal.checkpoint((0..9).map(|n| Ok(change("a", n)))).unwrap();
    let path = journal.checkpoint.as_ref().unwrap().path.clone();
    drop(journal);
    let good = fs::read(&path).unwrap();
    for byte in 0..good.len() {
        let mut damaged = good.clone();
        damaged[byte] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { .. })), "{byte}");
        fs::write(&path, &good[..byte]).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { .. })), "{byte}");
    }
}

#[test]
fn a_write_that_fails_leaves_the_journal_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal_of(dir.path(), 1);
    let good = std::mem::replace(&mut journal.file, File::open(segment(dir.path(), 1)).unwrap());
    assert!(matches!(journal.append(&[change("a", 1)]), Err(JournalError::Io { action: "write to", .. })));
    assert!(matches!(journal.append(&[change("a", 1)]), Err(JournalError::Poisoned(_))), "it could not be cut either");
    journal.poisoned = None;
    journal.file = good;
    let huge = change(&"x".repeat(frame::PAYLOAD_BYTES_MAX), 1);
    assert!(matches!(journal.append(&[huge]), Err(JournalError::Unwritable(_))));
    journal.append(&[change("a", 2)]).unwrap();
    assert_eq!(replayed(&journal, None).unwrap(), [0, 2]);
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = journal_of(dir.path(), 1);
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let good = std::mem::replace(&mut journal.file, full);
    assert!(journal.append(&[change("a", 1)]).unwrap_err().is_storage_full());
    journal.poisoned = None;
    journal.file = good;
    journal.append(&[change("a", 2)]).unwrap();
    assert_eq!(replayed(&journal, None).unwrap(), [0, 2]);
}
