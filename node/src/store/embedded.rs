//! The records of one data directory: [`MetaStore`] on journal and index.
//!
//! Writes go through the one thread of `writer`; reads are answered from memory, or go to the index on the
//! blocking pool. A read that finds the index broken has it built again and is repeated once.
//!
//! Not here: the rules of who may write what; see `seed`.

mod fleet;
mod garbage;
mod identity;
mod keys;
mod repositories;
mod trust;

use std::path::Path;

use async_trait::async_trait;

pub(super) use repositories::Size;
pub(super) use trust::STATEMENT_OF;

use super::blobs::{BlobStore, IngestError};
use super::index::{Index, View};
use super::meta::{BackupStore, JournalHold, MeasuredStore, MetaError, MetaStore, StoreSize};
use super::records::{Found, IndexError};
use super::writer::{SharedIndex, Transaction, Writer};

/// The records of one data directory.
#[derive(Debug)]
pub struct EmbeddedStore {
    writer: Writer,
    index: SharedIndex,
    blobs: BlobStore,
}

impl EmbeddedStore {
    /// Opens the records in the data directory `dir`, or starts with none. The caller holds the directory's lock. Blocks
    /// while the journal is read, and while the index is built again if it must be.
    ///
    /// # Errors
    /// When the journal is damaged or another file cannot be used.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let blobs = BlobStore::open(dir)?;
        let (writer, index) = Writer::start(dir)?;
        Ok(Self { writer, index, blobs })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&View<'_>) -> Result<T, IndexError> + Clone + Send + 'static,
    ) -> Result<T, MetaError> {
        let index = self.index.current();
        let found = match index.read_memory(&read) {
            Some(found) => found,
            None => read_from(index.clone(), read.clone()).await?,
        };
        match found {
            Ok(value) => return Ok(value),
            Err(error) => tracing::error!(%error, "the index failed"),
        }
        self.writer.rebuild(index).await?;
        Ok(read_from(self.index.current(), read).await??)
    }

    async fn write(&self, operation: impl FnOnce(&mut Transaction<'_>) -> Result<(), MetaError> + Send + 'static) -> Result<(), MetaError> {
        self.writer.write(Box::new(operation)).await
    }
}

impl MeasuredStore for EmbeddedStore {
    fn size(&self) -> StoreSize {
        let (changes, records) = self.index.current().size();
        StoreSize { changes, records }
    }
}

#[async_trait]
impl MetaStore for EmbeddedStore {
    async fn settle(&self) -> Result<(), MetaError> {
        let index = self.index.current();
        let flushed = tokio::task::spawn_blocking(move || index.flush()).await;
        Ok(flushed.map_err(|error| MetaError::Failed(error.into()))??)
    }
}

async fn read_from<T: Send + 'static>(
    index: std::sync::Arc<Index>,
    read: impl FnOnce(&View<'_>) -> Result<T, IndexError> + Send + 'static,
) -> Result<Result<T, IndexError>, MetaError> {
    tokio::task::spawn_blocking(move || index.read(read)).await.map_err(|error| MetaError::Failed(error.into()))
}

#[async_trait]
impl BackupStore for EmbeddedStore {
    async fn hold_journal(&self) -> Result<JournalHold, MetaError> {
        self.writer.hold().await
    }
}

impl From<IndexError> for MetaError {
    fn from(error: IndexError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<IngestError> for MetaError {
    fn from(error: IngestError) -> Self {
        Self::Failed(error.into())
    }
}

/// The number as a part of a key, so that keys are in the order of their numbers.
struct Number(u64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}", self.0)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands at the end of reads, which may fail before it")]
fn values<T>(found: Vec<(String, T)>) -> Result<Vec<T>, IndexError> {
    Ok(found.into_iter().map(|(_, value)| value).collect())
}

fn names<T: std::str::FromStr<Err: std::fmt::Display>>(found: &[Found]) -> Result<Vec<T>, IndexError> {
    found.iter().map(|(text, _)| name(text)).collect()
}

fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, IndexError> {
    text.parse().map_err(|error: T::Err| IndexError(format!("holds an unreadable name: {error}")))
}

#[cfg(test)]
mod tests;
