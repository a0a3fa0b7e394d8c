//! Container tools that are not ours, as their users call them: skopeo, podman and docker.
//!
//! Not here: HTTP by hand; see [`crate::http`].

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::log::Log;
use crate::process::{Outcome, Running};
use crate::wait;

/// skopeo.
#[derive(Clone, Copy, Debug)]
pub struct Skopeo;

/// podman with its own storage, gone when dropped.
#[derive(Debug)]
pub struct Podman {
    home: TempDir,
}

/// A docker daemon of its own, stopped when dropped.
#[derive(Debug)]
pub struct Docker {
    daemon: Option<Running>,
    home: TempDir,
}

impl Skopeo {
    /// Pushes what `tag` names in the OCI layout `from`, all platforms, byte for byte, to `to` (host/repository:tag).
    pub fn push(from: &Path, tag: &str, to: &str, credentials: Option<&str>) -> Outcome {
        let mut command = Self::copy();
        command.args(["--all", "--preserve-digests", "--dest-tls-verify=false"]);
        match credentials {
            Some(credentials) => command.args(["--dest-creds", credentials]),
            None => command.arg("--dest-no-creds"),
        };
        Outcome::of(command.arg(format!("oci:{}:{tag}", from.display())).arg(format!("docker://{to}")))
    }

    /// Pulls `from` (host/repository:tag or @digest) into the OCI layout `to` as `tag`: this machine's platform.
    pub fn pull(from: &str, to: &Path, tag: &str, credentials: Option<&str>) -> Outcome {
        let mut command = Self::copy();
        command.args(["--preserve-digests", "--src-tls-verify=false"]);
        match credentials {
            Some(credentials) => command.args(["--src-creds", credentials]),
            None => command.arg("--src-no-creds"),
        };
        Outcome::of(command.arg(format!("docker://{from}")).arg(format!("oci:{}:{tag}", to.display())))
    }

    fn copy() -> Command {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet"]);
        command
    }
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
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.home.path().join("root")).arg("--runroot").arg(self.home.path().join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        command.arg("--tmpdir").arg(self.home.path().join("tmp")).env("REGISTRY_AUTH_FILE", self.home.path().join("auth.json"));
        Outcome::of(command.args(arguments))
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

impl Docker {
    /// Starts a daemon that makes no networks, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start() -> Self {
        let home = tempfile::Builder::new().prefix("hedgerow-docker-").tempdir().expect("a temporary folder can be made");
        let log = Log::at(home.path().join("dockerd.log"));
        let mut command = Command::new("dockerd");
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]);
        command.arg("--data-root").arg(home.path().join("data")).arg("--exec-root").arg(home.path().join("exec"));
        command.arg("--pidfile").arg(home.path().join("pid")).arg("--host").arg(socket(&home));
        let mut daemon = Running::start(&mut command, &log);
        let mut docker = Self { daemon: None, home };
        wait::until("dockerd to answer", || {
            assert!(daemon.is_running(), "dockerd ended:\n{}", log.tail());
            docker.run(&["version"]).code == Some(0)
        });
        docker.daemon = Some(daemon);
        docker
    }

    /// Runs `docker`.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("docker");
        command.arg("--config").arg(self.home.path().join("config")).arg("--host").arg(socket(&self.home));
        Outcome::of(command.args(arguments))
    }

    /// A place for files, gone with it.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Not killed at once: it has to end the containerd that it started.
        if let Some(mut daemon) = self.daemon.take() {
            daemon.terminate();
            let deadline = std::time::Instant::now() + wait::PATIENCE;
            while daemon.is_running() && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }
}

fn socket(home: &TempDir) -> String {
    format!("unix://{}", home.path().join("docker.sock").display())
}
