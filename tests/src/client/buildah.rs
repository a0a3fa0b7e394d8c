//! buildah: makes images without an engine.
//!
//! Not here: running commands in them.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::process::Outcome;

/// buildah with its own storage, gone when dropped.
#[derive(Debug)]
pub struct Buildah {
    home: TempDir,
}

impl Buildah {
    /// A buildah that has nothing yet.
    ///
    /// # Panics
    /// When it has no place on the disk.
    pub fn new() -> Self {
        Self { home: tempfile::Builder::new().prefix("hedgerow-buildah-").tempdir().expect("a temporary folder can be made") }
    }

    /// Runs `buildah`.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.home.path().join("root")).arg("--runroot").arg(self.home.path().join("run"));
        command.args(["--storage-driver", "vfs"]).env("REGISTRY_AUTH_FILE", self.home.path().join("auth.json"));
        Outcome::of(command.args(arguments))
    }

    /// A place for files, gone with it.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Default for Buildah {
    fn default() -> Self {
        Self::new()
    }
}
