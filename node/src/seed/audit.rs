//! The audit log: who changed what, when and from where, in `DIR/audit/`. Always on.
//!
//! | module | holds |
//! |---|---|
//! | [`chain`] | how each line is bound to the one before |
//! | [`files`] | the files, their rotation and repair |
//! | [`verify`] | checking all that there is |
//!
//! A line is one JSON object, format `"v":1`; fields that do not apply are left out:
//!
//! | field | meaning |
//! |---|---|
//! | `v` | 1 |
//! | `previous` | SHA-256 of the line before, without its line feed; 64 zeros in the first |
//! | `time` | when the request arrived, UTC |
//! | `action` | see [`ActivityKind`]; `audit.gap` stands for lines that are missing, with their number in `lines` and why in `reason` |
//! | `outcome` | `done`, `refused`, `failed` (the seed failed; look whether it was carried out) or `unknown` (the seed stopped or broke down in the middle of it; it may have been carried out) |
//! | `status` | HTTP status of the answer |
//! | `who` | `org` with `key` (the id of an access key, never its secret) and its `label`, or with `device`; with neither, and the `label` `seed`, for what the seed did by itself; left out for strangers |
//! | `from` | `address` of the client's socket, `user_agent` |
//! | `request` | its id, as in the access log and in the answer's `x-request-id` |
//! | `method`, `path` | as asked |
//! | `target` | `org`, `repository`, `from_repository`, `tags`, `digest`, `size`, `media_type`, `name` |
//!
//! *What survives.* A request's line is queued before its answer is sent and handed to the system some milliseconds later; it
//! is fsynced within [`SYNC_EVERY`], and when the seed stops. So `kill -9` can lose lines of the last milliseconds, and power
//! loss those of the last second, although the change itself is durable. Lines that cannot be written, on a full disk, are
//! lost, counted, and told by an `audit.gap` afterwards.
//!
//! *What waits.* [`QUEUE_LINES`] lines at most. While so many do, because the disk hangs, no write is begun: it is refused
//! with 503 after [`ROOM_WAIT`], and those that were under way wait with their answers. Only what cannot wait, because its
//! route failed by a fault of this program, is left out then, and told as a gap with the reason `queue_full`.
//!
//! *Strangers.* Of refused writes without a valid key some get a line of their own, see [`STRANGERS`]; the others are counted.
//! Who has a key has a line for each, because it answers for it.
//!
//! Not here: who may do what; see [`super::registry::auth`].

pub mod chain;
pub mod files;
pub mod verify;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use protocol::rate_limit::{Bucket, Rate};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::activity::{Activity, ActivityKind, Outcome};
use super::log_metrics::LogMetrics;
use crate::clock::{Clock, timestamp};
use crate::store::folders::AUDIT;
use files::{Bounds, Files};

/// The longest that a line is not durable.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The most lines that wait.
pub const QUEUE_LINES: usize = 1024;
/// How long a write waits for room in the queue before it is refused: long against a slow fsync, short against the patience
/// of clients.
pub const ROOM_WAIT: Duration = Duration::from_secs(5);
/// Lines about refused strangers: 60 after a quiet time, then one a second, some 60 MB a day at most. Without a bound, whoever
/// can reach the seed could push the lines of others out of the files that are kept.
pub const STRANGERS: Rate = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN.saturating_add(59) };

/// There is no room for the line of one more write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is not written fast enough, so no change is taken; ask the operator to look at the seed's disk, and try again")]
pub struct NoRoom;

/// Who changed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Who {
    /// The organisation.
    pub org: String,
    /// Id of the access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the key's owner calls it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// The device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// Where a request came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The client's socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// What it calls itself, in printable ASCII.
    pub user_agent: String,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When the request arrived.
    pub time: jiff::Timestamp,
    /// What it did, or tried.
    pub action: ActivityKind,
    /// How it ended.
    pub outcome: Outcome,
    /// Status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
    /// From where.
    pub from: Source,
    /// Id of the request; empty, as are method and path, for what the seed did by itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// Method.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Path without query, in printable ASCII.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// To what.
    pub target: Activity,
}

/// Lines that are missing.
#[derive(Debug, Serialize)]
struct Gap {
    time: jiff::Timestamp,
    action: &'static str,
    reason: &'static str,
    lines: u64,
}

enum Message {
    /// A line that holds a place in the queue.
    Line(Box<Entry>),
    Finish,
}

/// Where lines go. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    lines: Sender<Message>,
    places: Arc<Semaphore>,
    left_out: Arc<AtomicU64>,
    metrics: Arc<LogMetrics>,
}

/// The thread that writes; it ends with [`AuditWriter::finish`].
#[derive(Debug)]
pub struct AuditWriter {
    lines: Sender<Message>,
    thread: JoinHandle<()>,
}

impl AuditLog {
    /// Opens the log of the seed in `data` and starts its thread.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn start(data: &Path, bounds: Bounds, metrics: Arc<LogMetrics>) -> anyhow::Result<(Self, AuditWriter)> {
        let files = Files::open(&data.join(AUDIT), bounds)?;
        let (lines, queue) = channel();
        let places = Arc::new(Semaphore::new(QUEUE_LINES));
        let writing = Writing::new(files, metrics.clone());
        let left_out = writing.left_out.clone();
        let freed = places.clone();
        let thread = std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || writing.run(&queue, &freed))?;
        Ok((Self { lines: lines.clone(), places, left_out, metrics }, AuditWriter { lines, thread }))
    }

    /// Whether a write may begin: there is room for its line, or will be soon.
    ///
    /// # Errors
    /// When there is none for [`ROOM_WAIT`].
    pub async fn room(&self) -> Result<(), NoRoom> {
        match timeout(ROOM_WAIT, self.places.acquire()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(NoRoom),
        }
    }

    /// Adds a line; waits for room.
    pub async fn add(&self, entry: Entry) {
        if let Ok(place) = self.places.acquire().await {
            place.forget();
        }
        self.send(Message::Line(Box::new(entry)));
    }

    /// Adds a line for those who cannot wait, or leaves it out and counts it.
    pub fn add_if_room(&self, entry: Entry) {
        if let Ok(place) = self.places.try_acquire() {
            place.forget();
            self.send(Message::Line(Box::new(entry)));
        } else {
            self.metrics.audit_lost.inc();
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes all room away until the answer is dropped, as a disk does that hangs.
    #[cfg(test)]
    pub(super) fn fill(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.places.try_acquire_many(u32::try_from(QUEUE_LINES).unwrap()).unwrap()
    }

    fn send(&self, message: Message) {
        if self.lines.send(message).is_err() {
            self.metrics.audit_lost.inc();
        }
    }
}

impl AuditWriter {
    /// Writes what was added, makes it durable, and ends.
    pub fn finish(self) {
        let _ = self.lines.send(Message::Finish);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the audit log failed, which is a fault of this program");
        }
    }
}

/// Lines that are missing, by reason.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    lost: u64,
    left_out: u64,
    strangers: u64,
}

impl Missing {
    fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.left_out += other.left_out;
        self.strangers += other.strangers;
    }
}

struct Writing {
    files: Files,
    metrics: Arc<LogMetrics>,
    clock: Clock,
    strangers: Bucket,
    /// Lines for which there was no room, since this was last looked at.
    left_out: Arc<AtomicU64>,
    /// Not told in the log yet.
    missing: Missing,
    /// Told by lines that are not written yet.
    told: Missing,
    failing: bool,
}

impl Writing {
    fn new(files: Files, metrics: Arc<LogMetrics>) -> Self {
        let (clock, strangers, left_out) = (Clock::start(), Bucket::default(), Arc::default());
        let (missing, told) = (Missing::default(), Missing::default());
        Self { files, metrics, clock, strangers, left_out, missing, told, failing: false }
    }

    fn run(mut self, queue: &Receiver<Message>, places: &Semaphore) {
        let mut unsynced: Option<Instant> = None;
        let mut open = true;
        while open {
            let first = match unsynced {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => queue.recv_timeout(SYNC_EVERY.saturating_sub(since.elapsed())),
            };
            let mut next = match first {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::Finish),
            };
            let (mut freed, mut entries) = (0, 0);
            while let Some(message) = next.take() {
                match message {
                    Message::Finish => open = false,
                    Message::Line(entry) => {
                        freed += 1;
                        entries += self.take(&entry);
                    }
                }
                if freed < QUEUE_LINES {
                    next = queue.try_recv().ok();
                }
            }
            if !open {
                self.tell_missing();
            }
            self.flush(entries);
            places.add_permits(freed);
            let since = unsynced.get_or_insert_with(Instant::now);
            if !open || since.elapsed() >= SYNC_EVERY {
                unsynced = None;
                self.sync();
            }
        }
    }

    /// Adds an entry to the lines that are written next: how many it added.
    fn take(&mut self, entry: &Entry) -> u64 {
        let stranger = entry.who.is_none() && entry.outcome != Outcome::Done;
        if stranger && self.strangers.take(self.clock.now(), STRANGERS).is_err() {
            self.metrics.audit_strangers.inc();
            self.missing.strangers += 1;
            return 0;
        }
        self.tell_missing();
        self.add(entry)
    }

    fn tell_missing(&mut self) {
        self.missing.left_out += self.left_out.swap(0, Ordering::Relaxed);
        let missing = std::mem::take(&mut self.missing);
        let reasons = [("write_failed", missing.lost), ("queue_full", missing.left_out), ("refused_strangers", missing.strangers)];
        for (reason, lines) in reasons {
            if lines > 0 {
                self.add(&Gap { time: timestamp(), action: "audit.gap", reason, lines });
            }
        }
        self.told.add(missing);
    }

    fn add(&mut self, content: &impl Serialize) -> u64 {
        match self.files.add(content) {
            Ok(()) => 1,
            Err(error) => {
                tracing::error!(%error, "a line of the audit log cannot be made");
                self.metrics.audit_lost.inc();
                0
            }
        }
    }

    fn flush(&mut self, entries: u64) {
        let told = std::mem::take(&mut self.told);
        let flushed = self.files.flush();
        if let Err(error) = &flushed {
            self.metrics.audit_lost.inc_by(entries);
            self.missing.add(told);
            self.missing.lost += entries;
            if !self.failing {
                tracing::error!(%error, "the audit log cannot be written; its lines are lost until it can: make room on the disk");
            }
        }
        self.failing = flushed.is_err();
    }

    fn sync(&mut self) {
        if let Err(error) = self.files.sync() {
            tracing::error!(%error, "the audit log cannot be made durable; power loss would lose its newest lines");
        }
    }
}

#[cfg(test)]
mod tests;
