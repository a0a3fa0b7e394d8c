//! The one thread that writes records: it checks what operations depend on, writes them to the journal in groups, and
//! then to the index.
//!
//! Operations that wait while a record is being fsynced become the next record together; each sees the changes of those
//! before it. An operation is answered when its record is durable and in the index, so that readers, who read the index,
//! never see what a crash could take back.
//!
//! Not here: what operations do; see [`super::embedded`].

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::sync::{mpsc, oneshot};

use super::index::Index;
use super::journal::{Journal, JournalError};
use super::meta::{JournalHold, MetaError};
use super::records::{Change, Found, IndexError, Range, Records, Table};
use super::upgrade;

/// Operations that may wait; further callers wait to be let in.
const WAITING_MAX: usize = 1024;

/// When a group has this many bytes, the operations after it wait for the next one.
const GROUP_BYTES: usize = 1 << 20;

/// The most bytes that one operation may change: twice the largest manifest that an operator may allow, within what a record
/// of the journal holds.
const OPERATION_BYTES_MAX: usize = 15 << 20;

/// Checks the state, and says what changes.
pub(super) type Operation = Box<dyn FnOnce(&mut Transaction<'_>) -> Result<(), MetaError> + Send>;

type Reply = oneshot::Sender<Result<(), MetaError>>;

enum Job {
    Write(Operation, Reply),
    Rebuild(Arc<Index>, Reply),
    Hold(oneshot::Sender<Result<JournalHold, MetaError>>),
}

/// The index that readers use, which the writer replaces when it had to be built again.
#[derive(Clone, Debug)]
pub(super) struct SharedIndex(Arc<RwLock<Arc<Index>>>);

impl SharedIndex {
    /// The index as of now.
    pub(super) fn current(&self) -> Arc<Index> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, index: Index) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(index);
    }
}

/// A handle to the thread. Dropping it ends the thread after the operations that were let in.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Opens journal and index of the data directory `dir` and starts the thread.
    pub(super) fn start(dir: &Path) -> anyhow::Result<(Self, SharedIndex)> {
        let mut journal = Journal::open(&dir.join("journal"))?;
        let index = Index::open(dir, &journal)?;
        upgrade::list_tags(&mut journal, &index)?;
        let index = SharedIndex(Arc::new(RwLock::new(Arc::new(index))));
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        let mut engine = Engine { dir: dir.to_owned(), journal, index: index.clone(), broken: None, held: Arc::default() };
        let thread = thread::Builder::new().name("records".into()).spawn(move || engine.run(queue))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, index))
    }

    /// Carries out an operation, durably. If the caller stops waiting, it is carried out all the same.
    pub(super) async fn write(&self, operation: Operation) -> Result<(), MetaError> {
        self.ask(|reply| Job::Write(operation, reply)).await
    }

    /// Builds the index again, if it still is the one that failed.
    pub(super) async fn rebuild(&self, failed: Arc<Index>) -> Result<(), MetaError> {
        self.ask(|reply| Job::Rebuild(failed, reply)).await
    }

    /// Keeps the journal's files as they are now, by letting checkpoints wait.
    pub(super) async fn hold(&self) -> Result<JournalHold, MetaError> {
        let stopped = || MetaError::Failed(anyhow::anyhow!("the thread that writes records has ended; restart this node"));
        let (reply, answer) = oneshot::channel();
        self.jobs.as_ref().ok_or_else(stopped)?.send(Job::Hold(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    async fn ask(&self, job: impl FnOnce(Reply) -> Job) -> Result<(), MetaError> {
        let stopped = || MetaError::Failed(anyhow::anyhow!("the thread that writes records has ended; restart this node"));
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes records panicked");
        }
    }
}

struct Engine {
    dir: PathBuf,
    journal: Journal,
    index: SharedIndex,
    broken: Option<String>,
    /// Shared with those who need the journal's files to stay.
    held: Arc<()>,
}

impl Engine {
    fn run(&mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            if self.broken.is_some() {
                drop(self.rebuild());
            }
            let index = self.index.current();
            let mut group = Group::new(&index);
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Write(operation, reply) => group.run(operation, reply),
                    Job::Rebuild(failed, reply) => {
                        group.index_failed |= Arc::ptr_eq(&failed, &index);
                        group.replies.push((reply, Ok(())));
                    }
                    Job::Hold(reply) => {
                        let hold = self.journal.extent().map(|extent| JournalHold { extent, _held: Arc::clone(&self.held) });
                        drop(reply.send(hold.map_err(|error| MetaError::Failed(error.into()))));
                    }
                }
                if group.bytes < GROUP_BYTES && group.replies.len() < WAITING_MAX {
                    next = queue.try_recv().ok();
                }
            }
            let Group { changes, replies, index_failed, .. } = group;
            let committed = self.commit(&index, &changes, index_failed);
            drop(index);
            for (reply, result) in replies {
                let result = committed.clone().map_err(|failure| MetaError::Failed(failure.into_error())).and(result);
                drop(reply.send(result));
            }
            if self.broken.is_none() && Arc::strong_count(&self.held) == 1 && self.journal.checkpoint_due() {
                self.checkpoint();
            }
        }
        if let Err(error) = self.index.current().flush() {
            tracing::warn!(%error, "the index was not flushed");
        }
    }

    fn commit(&mut self, index: &Index, changes: &[Change], index_failed: bool) -> Result<(), Failure> {
        if let Some(reason) = &self.broken {
            return Err(Failure::Broken(reason.clone()));
        }
        let mut failed = index_failed;
        if !changes.is_empty() {
            let position = self.journal.append(changes)?;
            if let Err(error) = index.apply(Some(position), changes) {
                tracing::error!(%error, "the index failed");
                failed = true;
            }
        }
        if failed { self.rebuild() } else { Ok(()) }
    }

    /// Builds the index again. If that fails, nothing is written until it succeeds, because what operations would check
    /// their preconditions on is not what the journal says.
    fn rebuild(&mut self) -> Result<(), Failure> {
        match Index::rebuild(&self.dir, &self.journal) {
            Ok(index) => {
                self.index.replace(index);
                self.broken = None;
            }
            Err(error) => {
                tracing::error!(%error, "the index cannot be built");
                self.broken = Some(error.to_string());
                return Err(Failure::Broken(error.to_string()));
            }
        }
        Ok(())
    }

    /// Writes a checkpoint, if the index proves to be whole; else builds it again, and tries later.
    fn checkpoint(&mut self) {
        let index = self.index.current();
        let written = index.verify().map_err(Into::into).and_then(|()| self.journal.checkpoint(index.records()));
        if let Err(error) = written {
            tracing::error!(%error, "no checkpoint of the journal was written; a later change tries again");
            if index.verify().is_err() {
                drop(self.rebuild());
            }
        }
    }
}

/// Why a group of operations was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the index cannot be built from the journal: {0}; check the disk")]
    Broken(String),
}

impl Failure {
    /// The error by itself, by which [`MetaError::is_storage_full`] tells what it is.
    fn into_error(self) -> anyhow::Error {
        match self {
            Self::Journal(error) => error.into(),
            broken @ Self::Broken(_) => broken.into(),
        }
    }
}

struct Group<'a> {
    index: &'a Index,
    newest: Newest,
    changes: Vec<Change>,
    bytes: usize,
    replies: Vec<(Reply, Result<(), MetaError>)>,
    index_failed: bool,
}

type Newest = BTreeMap<(Table, String), Option<Vec<u8>>>;

impl<'a> Group<'a> {
    const fn new(index: &'a Index) -> Self {
        Self { index, newest: Newest::new(), changes: Vec::new(), bytes: 0, replies: Vec::new(), index_failed: false }
    }

    fn run(&mut self, operation: Operation, reply: Reply) {
        let mut transaction =
            Transaction { index: self.index, earlier: &self.newest, newest: Newest::new(), changes: Vec::new(), bytes: 0 };
        let panicked = |_| Err(MetaError::Failed(anyhow::anyhow!("the operation panicked; nothing of it was kept")));
        let result = catch_unwind(AssertUnwindSafe(|| operation(&mut transaction))).unwrap_or_else(panicked);
        let Transaction { newest, changes, bytes, .. } = transaction;
        match &result {
            Ok(()) => {
                self.newest.extend(newest);
                self.changes.extend(changes);
                self.bytes += bytes;
            }
            Err(MetaError::Failed(error)) => self.index_failed |= error.is::<IndexError>(),
            Err(MetaError::Conflict(_) | MetaError::Missing(_) | MetaError::Immutable(_) | MetaError::Retired(_) | MetaError::Token(_)) => {
            }
        }
        self.replies.push((reply, result));
    }
}

/// The state as one operation sees it, and what it changes.
pub(super) struct Transaction<'a> {
    index: &'a Index,
    earlier: &'a Newest,
    newest: Newest,
    changes: Vec<Change>,
    bytes: usize,
}

impl Transaction<'_> {
    /// Sets a record. JSON's null cannot be a value, because it stands for none.
    pub(super) fn put<T: Serialize>(&mut self, table: Table, key: String, value: &T) -> Result<(), MetaError> {
        let value = to_raw_value(value).map_err(|error| MetaError::Failed(error.into()))?;
        if value.get() == "null" {
            return Err(MetaError::Failed(anyhow::anyhow!("{} {key} has no value", table.name())));
        }
        self.newest.insert((table, key.clone()), Some(value.get().as_bytes().to_vec()));
        self.push(Change(table, key, Some(value)))
    }

    /// Removes a record.
    pub(super) fn delete(&mut self, table: Table, key: String) -> Result<(), MetaError> {
        self.newest.insert((table, key.clone()), None);
        self.push(Change(table, key, None))
    }

    fn push(&mut self, change: Change) -> Result<(), MetaError> {
        self.bytes += change.bytes();
        self.changes.push(change);
        if self.bytes > OPERATION_BYTES_MAX {
            let reason = format!("one operation may change at most {OPERATION_BYTES_MAX} bytes of records; split it");
            return Err(MetaError::Failed(anyhow::anyhow!(reason)));
        }
        Ok(())
    }
}

impl Records for Transaction<'_> {
    fn raw(&self, table: Table, key: &str) -> Result<Option<Bytes>, IndexError> {
        let name = (table, key.to_owned());
        match self.newest.get(&name).or_else(|| self.earlier.get(&name)) {
            Some(changed) => Ok(changed.as_deref().map(Bytes::copy_from_slice)),
            None => self.index.raw(table, key),
        }
    }

    fn raw_scan(&self, table: Table, range: Range<'_>) -> Result<Vec<Found>, IndexError> {
        let mut changed: BTreeMap<&str, Option<&[u8]>> = BTreeMap::new();
        for newest in [self.earlier, &self.newest] {
            let from = (table, range.prefix.to_owned());
            for ((other, key), value) in newest.range(from..) {
                let Some(rest) = key.strip_prefix(range.prefix).filter(|_| *other == table) else { break };
                if range.after.is_none_or(|after| rest > after) {
                    changed.insert(rest, value.as_deref());
                }
            }
        }
        // Each of these may hide one that is stored; more than that need not be read.
        let hidden = changed.values().filter(|value| value.is_none()).count();
        let stored = self.index.raw_scan(table, Range { limit: range.limit.saturating_add(hidden), ..range })?;
        let mut found: BTreeMap<String, Vec<u8>> = stored.into_iter().collect();
        for (rest, value) in changed {
            match value {
                Some(value) => found.insert(rest.to_owned(), value.to_vec()),
                None => found.remove(rest),
            };
        }
        Ok(found.into_iter().take(range.limit).collect())
    }
}
