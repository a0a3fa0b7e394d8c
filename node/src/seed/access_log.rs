//! The access log: a line for each request to registry and API, off by default.
//!
//! Lines are made by whoever answered the request and appended to a buffer; one thread writes the buffer out. A request never
//! waits for the log: lines for which there is no room are dropped and counted (`hedgerow_seed_access_log_dropped_lines`).
//! Nothing of it survives that the system has not written; it is no evidence, the audit log is.
//!
//! | form | a line |
//! |---|---|
//! | `json` | one object, see [`Entry`] |
//! | `combined` | as nginx and Apache write it, then request id and seconds |
//!
//! Not here: which requests, and how their bytes are counted; see [`super::recorder`].

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::log_metrics::LogMetrics;
use crate::config::logs::{AccessFormat, AccessSink};

/// The most bytes of lines that wait to be written, in bytes: a quarter of a second at 40,000 requests/s.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// The thread waits this long for more lines after the first, so that busy seeds write some hundred at a time.
const GATHER: Duration = Duration::from_millis(10);
/// The file is for its owner and group: it says who was here.
const FILE_MODE: u32 = 0o640;

/// One request, as a line of the access log. Texts are printable ASCII, see [`super::printable`].
#[derive(Clone, Debug, Serialize)]
pub struct Entry<'a> {
    /// When it arrived.
    pub time: jiff::Timestamp,
    /// Where from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Id of the access key, never its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<&'a str>,
    /// The key's organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<&'a str>,
    /// Method.
    pub method: &'a str,
    /// Path without query.
    pub path: &'a str,
    /// The protocol, for example `HTTP/1.1`.
    pub protocol: &'a str,
    /// Status of the answer; 499 if the client went away before it.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub bytes: u64,
    /// From its arrival to the end of the answer, in microseconds.
    pub duration_us: u64,
    /// What the client calls itself.
    pub user_agent: &'a str,
    /// Id of the request, which the client was told too.
    pub request: &'a str,
}

impl Entry<'_> {
    fn append_to(&self, lines: &mut Vec<u8>, format: AccessFormat) -> std::io::Result<()> {
        match format {
            AccessFormat::Json => {
                serde_json::to_writer(&mut *lines, self)?;
                lines.push(b'\n');
                Ok(())
            }
            AccessFormat::Combined => {
                let time = self.time.strftime("%d/%b/%Y:%H:%M:%S +0000");
                let (key, org) = (self.key.unwrap_or_default(), self.org.unwrap_or("-"));
                let slash = if key.is_empty() { "" } else { "/" };
                let seconds = format_args!("{}.{:06}", self.duration_us / 1_000_000, self.duration_us % 1_000_000);
                let client = self.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
                let Self { method, path, protocol, status, bytes, user_agent, request, .. } = self;
                writeln!(
                    lines,
                    "{client} - {org}{slash}{key} [{time}] \"{method} {path} {protocol}\" {status} {bytes} \"-\" \"{user_agent}\" {request} {seconds}"
                )
            }
        }
    }
}

/// Where lines go. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    format: AccessFormat,
}

/// The thread that writes; it ends with [`AccessWriter::finish`].
#[derive(Debug)]
pub struct AccessWriter {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    metrics: Arc<LogMetrics>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    reopen: bool,
    closing: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessLog {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn start(sink: &AccessSink, format: AccessFormat, metrics: Arc<LogMetrics>) -> anyhow::Result<(Self, AccessWriter)> {
        let output = Output::open(sink)?;
        let shared = Arc::new(Shared { waiting: Mutex::default(), changed: Condvar::new(), metrics });
        let writer = shared.clone();
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_out(&writer, output))?;
        Ok((Self { shared: shared.clone(), format }, AccessWriter { shared, thread }))
    }

    /// How lines look.
    pub const fn format(&self) -> AccessFormat {
        self.format
    }

    /// Adds a line, or drops it if there is no room.
    pub fn add(&self, entry: &Entry<'_>) {
        let mut waiting = self.shared.lock();
        let before = waiting.lines.len();
        if before >= BUFFER_BYTES_MAX || entry.append_to(&mut waiting.lines, self.format).is_err() {
            waiting.lines.truncate(before);
            self.shared.metrics.access_dropped.inc();
            return;
        }
        drop(waiting);
        if before == 0 {
            self.shared.changed.notify_one();
        }
    }

    /// Opens the file anew: it was renamed, to be rotated.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.changed.notify_one();
    }
}

impl AccessWriter {
    /// Writes what is there, and ends. Lines that come later are lost.
    pub fn finish(self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        let _ = self.thread.join();
    }
}

fn write_out(shared: &Shared, mut output: Output) {
    let mut spare = Vec::new();
    loop {
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.reopen && !waiting.closing;
        let waiting = shared.changed.wait_while(shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let closing = waiting.closing;
        drop(waiting);
        if !closing {
            std::thread::sleep(GATHER);
        }
        let mut waiting = shared.lock();
        let mut lines = std::mem::replace(&mut waiting.lines, spare);
        let reopen = std::mem::take(&mut waiting.reopen);
        drop(waiting);
        if !output.write(&lines) {
            shared.metrics.access_dropped.inc_by(lines.iter().filter(|byte| **byte == b'\n').count() as u64);
        }
        if reopen {
            output.reopen();
        }
        lines.clear();
        spare = lines;
        if closing {
            return;
        }
    }
}

#[derive(Debug)]
struct Output {
    /// None for stderr.
    file: Option<(PathBuf, File)>,
    failing: bool,
}

impl Output {
    fn open(sink: &AccessSink) -> anyhow::Result<Self> {
        let file = match sink {
            AccessSink::Stderr => None,
            AccessSink::File(path) => {
                let open =
                    open(path).with_context(|| format!("cannot open the access log {}; choose another with --access-log", path.display()));
                Some((path.clone(), open?))
            }
        };
        Ok(Self { file, failing: false })
    }

    fn write(&mut self, lines: &[u8]) -> bool {
        let written = match &mut self.file {
            Some((_, file)) => file.write_all(lines),
            None => std::io::stderr().lock().write_all(lines),
        };
        if let (Err(error), false) = (&written, self.failing) {
            tracing::error!(%error, "the access log cannot be written; its lines are lost until it can");
        }
        self.failing = written.is_err();
        !self.failing
    }

    fn reopen(&mut self) {
        if let Some((path, file)) = &mut self.file {
            match open(path) {
                Ok(opened) => *file = opened,
                Err(error) => tracing::error!(path = %path.display(), %error, "the access log cannot be opened anew; the old file goes on"),
            }
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(path: &'a str, user_agent: &'a str) -> Entry<'a> {
        Entry {
            time: "2026-11-21T10:00:00.5Z".parse().unwrap(),
            client: "192.0.2.1".parse().ok(),
            key: Some("00ff"),
            org: Some("acme"),
            method: "GET",
            path,
            protocol: "HTTP/1.1",
            status: 200,
            bytes: 12,
            duration_us: 1_500_000,
            user_agent,
            request: "r-1",
        }
    }

    fn log(path: &Path, format: AccessFormat) -> (AccessLog, AccessWriter, Arc<LogMetrics>) {
        let metrics = Arc::new(LogMetrics::default());
        let (log, writer) = AccessLog::start(&AccessSink::File(path.to_owned()), format, metrics.clone()).unwrap();
        (log, writer, metrics)
    }

    #[test]
    fn lines_are_json_or_what_web_servers_write() {
        let mut lines = Vec::new();
        entry("/v2/", "curl").append_to(&mut lines, AccessFormat::Json).unwrap();
        entry("/v2/", "curl").append_to(&mut lines, AccessFormat::Combined).unwrap();
        let stranger = Entry { key: None, org: None, ..entry("/v2/", "curl") };
        stranger.append_to(&mut lines, AccessFormat::Combined).unwrap();
        let text = String::from_utf8(lines).unwrap();
        let (json, rest) = text.split_once('\n').unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&json["key"], &json["duration_us"], &json["status"]), (&"00ff".into(), &1_500_000.into(), &200.into()));
        assert_eq!(
            rest,
            "192.0.2.1 - acme/00ff [21/Nov/2026:10:00:00 +0000] \"GET /v2/ HTTP/1.1\" 200 12 \"-\" \"curl\" r-1 1.500000\n\
             192.0.2.1 - - [21/Nov/2026:10:00:00 +0000] \"GET /v2/ HTTP/1.1\" 200 12 \"-\" \"curl\" r-1 1.500000\n"
        );
    }

    #[test]
    fn after_a_rotation_lines_go_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let (log, writer, _) = log(&path, AccessFormat::Json);
        log.add(&entry("/one", "curl"));
        while std::fs::read(&path).unwrap().is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &old).unwrap();
        log.reopen();
        while !path.exists() {
            std::thread::yield_now();
        }
        log.add(&entry("/two", "curl"));
        writer.finish();
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert!(read(&old).contains("/one") && !read(&old).contains("/two"));
        assert!(read(&path).contains("/two"));
    }

    #[test]
    fn lines_without_room_are_dropped_and_counted() {
        let metrics = Arc::new(LogMetrics::default());
        let shared = Arc::new(Shared { waiting: Mutex::default(), changed: Condvar::new(), metrics: metrics.clone() });
        let log = AccessLog { shared, format: AccessFormat::Json };
        let long = "x".repeat(10_000);
        let lines = BUFFER_BYTES_MAX / long.len() + 100;
        for _ in 0..lines {
            log.add(&entry(&long, "curl"));
        }
        let dropped = metrics.access_dropped.get();
        let waiting = log.shared.lock();
        let kept = waiting.lines.iter().filter(|byte| **byte == b'\n').count();
        assert!(dropped >= 100, "{dropped}");
        assert_eq!(dropped + kept as u64, lines as u64);
        assert!(waiting.lines.len() < BUFFER_BYTES_MAX + 2 * long.len());
        assert!(waiting.lines.ends_with(b"}\n"));
    }
}
