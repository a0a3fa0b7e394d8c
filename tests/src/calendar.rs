//! Processes that believe that it is another day, by libfaketime.
//!
//! Not here: what they do then.

use std::path::PathBuf;
use std::process::Command;

use crate::program;

/// Lets the process of `command` believe that it is so many days later; `false` if that cannot be done and may be skipped.
///
/// # Panics
/// When the library is not where Debian puts it.
#[track_caller]
pub fn later(command: &mut Command, days: u64) -> bool {
    if !program::is_there("faketime") {
        return false;
    }
    let found = std::fs::read_dir("/usr/lib").expect("there are libraries").filter_map(|entry| Some(entry.ok()?.path()));
    let library = found.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file());
    let library: PathBuf = library.expect("faketime brings its library");
    command.env("LD_PRELOAD", library).env("FAKETIME", format!("+{days}d")).env("DONT_FAKE_MONOTONIC", "1");
    true
}
