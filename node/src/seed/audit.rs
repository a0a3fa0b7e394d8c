//! The audit log: who changed what, when and from where, in `DIR/audit/`. Always on.
//!
//! | module | holds |
//! |---|---|
//! | [`chain`] | how each line is bound to the one before |
//! | [`files`] | the files, their rotation and repair |
//! | [`strangers`] | how much those may write who have no key |
//!
//! A line is one JSON object, format `"v":1`; fields that do not apply are left out:
//!
//! | field | meaning |
//! |---|---|
//! | `v` | 1 |
//! | `previous` | SHA-256 of the line before, without its line feed; 64 zeros in the first |
//! | `time` | when the request arrived, UTC |
//! | `action` | see [`ActivityKind`]; `audit.gap` stands for lines that are missing, with their number in `lines` and why in `reason` |
//! | `outcome` | `done`, `refused`, `failed` (the seed failed; look whether it was carried out) or `unknown` (the client went away before the answer; it may have been carried out) |
//! | `status` | HTTP status of the answer |
//! | `who` | `org` with `key` (the id of an access key, never its secret) and its `label`, or with `device`; left out for strangers |
//! | `from` | `address` of the client's socket, `user_agent` |
//! | `request` | its id, as in the access log and in the answer's `x-request-id` |
//! | `method`, `path` | as asked |
//! | `target` | `org`, `repository`, `from_repository`, `tags`, `digest`, `size`, `media_type`, `name` |
//!
//! *What survives.* A request's line is queued before its answer is sent and handed to the system some milliseconds later; it
//! is fsynced within [`SYNC_EVERY`], and when the seed stops. So `kill -9` can lose lines of the last milliseconds, and power
//! loss those of the last second, although the change itself is durable. A queue that is full makes writes wait; lines that
//! cannot be written, on a full disk, are lost, counted, and told by an `audit.gap` afterwards.
//!
//! Not here: who may do what; see [`super::registry::auth`].

pub mod chain;
pub mod files;
pub mod strangers;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;

use super::activity::{Activity, ActivityKind, Outcome};
use super::log_metrics::LogMetrics;
use crate::clock::{Clock, timestamp};
use files::{Bounds, Files};
use strangers::Strangers;

/// The folder in the data directory.
pub const FOLDER: &str = "audit";
/// The longest that a line is not durable.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The most lines that wait; further writes wait with them.
const QUEUE_LINES: usize = 1024;

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
pub struct From {
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
    pub from: From,
    /// Id of the request.
    pub request: String,
    /// Method.
    pub method: String,
    /// Path without query, in printable ASCII.
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
    Queued(Box<Entry>),
    /// A line that could not wait for one.
    Urgent(Box<Entry>),
    Finish,
}

/// Where lines go. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    lines: Sender<Message>,
    places: Arc<Semaphore>,
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
        let files = Files::open(&data.join(FOLDER), bounds)?;
        let (lines, queue) = channel();
        let places = Arc::new(Semaphore::new(QUEUE_LINES));
        let clock = Clock::start();
        let writing = Writing {
            files,
            metrics: metrics.clone(),
            clock,
            strangers: Strangers::new(clock.now()),
            missing: Missing::default(),
            told: Missing::default(),
            failing: false,
        };
        let freed = places.clone();
        let thread = std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || writing.run(&queue, &freed))?;
        Ok((Self { lines: lines.clone(), places, metrics }, AuditWriter { lines, thread }))
    }

    /// Adds a line; waits if too many wait already.
    pub async fn add(&self, entry: Entry) {
        if let Ok(place) = self.places.acquire().await {
            place.forget();
        }
        self.send(Message::Queued(Box::new(entry)));
    }

    /// Adds a line at once, for those who cannot wait: of each connection there is one at most.
    pub fn add_now(&self, entry: Entry) {
        self.send(Message::Urgent(Box::new(entry)));
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
    strangers: u64,
}

struct Writing {
    files: Files,
    metrics: Arc<LogMetrics>,
    clock: Clock,
    strangers: Strangers,
    /// Not told in the log yet.
    missing: Missing,
    /// Told by lines that are not written yet.
    told: Missing,
    failing: bool,
}

impl Writing {
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
                    Message::Queued(entry) => {
                        freed += 1;
                        entries += self.take(&entry);
                    }
                    Message::Urgent(entry) => entries += self.take(&entry),
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
        if stranger && !self.strangers.allow(self.clock.now()) {
            self.metrics.audit_strangers.inc();
            self.missing.strangers += 1;
            return 0;
        }
        self.tell_missing();
        self.add(entry)
    }

    fn tell_missing(&mut self) {
        let Missing { lost, strangers } = std::mem::take(&mut self.missing);
        for (reason, lines) in [("write_failed", lost), ("refused_strangers", strangers)] {
            if lines > 0 {
                self.add(&Gap { time: timestamp(), action: "audit.gap", reason, lines });
            }
        }
        self.told = Missing { lost: self.told.lost + lost, strangers: self.told.strangers + strangers };
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
            let missing = self.missing;
            self.missing = Missing { lost: missing.lost + told.lost + entries, strangers: missing.strangers + told.strangers };
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
