//! The events in a process's log, which is a file of one JSON object a line.
//!
//! Not here: what events mean.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Lines that a failed test shows of each log.
const SHOWN_LINES: usize = 60;

/// The log of a process, over all its runs.
#[derive(Clone, Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// The log in the file at `path`, which need not exist yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it, as written so far.
    pub fn text(&self) -> String {
        fs::read(&self.path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The events called `name`, oldest first.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.with("event", name)
    }

    /// The events that say just `message`, oldest first.
    pub fn messages(&self, message: &str) -> Vec<Value> {
        self.with("message", message)
    }

    fn with(&self, key: &str, value: &str) -> Vec<Value> {
        let text = self.text();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event[key] == value).collect()
    }

    /// Its last lines, to be shown when a test fails.
    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}
