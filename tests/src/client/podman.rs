//! podman: an engine without a daemon.
//!
//! Not here: running containers.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Outcome;

/// podman with its own storage, gone when dropped.
#[derive(Debug)]
pub struct Podman {
    home: TempDir,
}

impl Podman {
    /// A podman that has nothing yet.
    ///
    /// # Panics
    /// When it has no place on the disk.
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("hedgerow-podman-").tempdir().expect("a temporary folder can be made");
        std::fs::write(home.path().join("auth.json"), "{}").expect("a temporary file can be written");
        Self { home }
    }

    /// Runs `podman`.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command().args(arguments))
    }

    /// Runs `podman` where the CA in the file `ca` is the only one that the machine trusts, for what has no `--cert-dir`.
    #[track_caller]
    pub fn run_trusting(&self, ca: &Path, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command().env("SSL_CERT_FILE", ca).args(arguments))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.home.path().join("root")).arg("--runroot").arg(self.home.path().join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        command.arg("--tmpdir").arg(self.home.path().join("tmp")).env("REGISTRY_AUTH_FILE", self.home.path().join("auth.json"));
        command
    }

    /// A place for files, gone with it.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}
