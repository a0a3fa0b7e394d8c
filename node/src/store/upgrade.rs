//! Records that stores of earlier versions do not have yet.
//!
//! Not here: other formats of files; whoever reads a file says which it knows.

use super::index::Index;
use super::journal::Journal;
use super::meta::TagRecord;
use super::records::{Change, Range, Records as _, Table, key};

/// Changes that are written at once, below what one record of the journal holds.
const CHANGES_AT_ONCE: usize = 10_000;

/// Lists each tag under its manifest. The first tag is listed last, so that its listing says that all are.
pub(super) fn list_tags(journal: &mut Journal, index: &Index) -> anyhow::Result<()> {
    let listed = |tag: &str, record: &TagRecord| {
        let (repository, tag) = tag.split_once(' ').unwrap_or_default();
        key(&[&repository, &record.digest, &tag])
    };
    let first: Vec<(String, TagRecord)> = index.read(|view| view.scan(Table::Tag, Range { limit: 1, ..Range::all("") }))?;
    let Some((tag, record)) = first.first() else { return Ok(()) };
    if index.read(|view| view.contains(Table::TagOf, &listed(tag, record)))? {
        return Ok(());
    }
    let tags: Vec<(String, TagRecord)> = index.read(|view| view.scan(Table::Tag, Range::all("")))?;
    tracing::info!(tags = tags.len(), "the tags of an earlier version's store are listed by manifest");
    for part in tags.rchunks(CHANGES_AT_ONCE) {
        let listing = |(tag, record): &(String, TagRecord)| {
            let yes = serde_json::value::to_raw_value(&true)?;
            Ok(Change(Table::TagOf, listed(tag, record), Some(yes)))
        };
        let changes = part.iter().map(listing).collect::<serde_json::Result<Vec<_>>>()?;
        let position = journal.append(&changes)?;
        index.apply(Some(position), &changes)?;
    }
    Ok(())
}
