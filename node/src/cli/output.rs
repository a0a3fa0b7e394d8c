//! Printing results: text for people, or one JSON object on one line.
//!
//! Not here: logs and progress, which go to stderr.

use std::io::Write as _;

use serde::Serialize;

use super::{Format, Output};

impl Output {
    /// For people.
    pub const fn text() -> Self {
        Self { json: false, output: Format::Text }
    }

    /// For programs.
    pub const fn json() -> Self {
        Self { json: true, output: Format::Json }
    }

    /// Whether the result is for programs.
    pub fn is_json(self) -> bool {
        self.json || self.output == Format::Json
    }

    /// Prints a result: `text` for people, `result` for programs.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn print(self, result: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let line = if self.is_json() { serde_json::to_string(result)? } else { text() };
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()?;
        Ok(())
    }
}

/// A state as JSON spells it, so that people and programs read the same word.
pub fn word(state: &impl Serialize) -> String {
    serde_json::to_string(state).unwrap_or_default().trim_matches('"').to_owned()
}
