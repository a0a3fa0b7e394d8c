//! docker, with a daemon of its own that shares nothing with one of the machine.
//!
//! Not here: networks and running containers.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::log::Log;
use crate::process::{Outcome, Running};
use crate::wait;

/// A docker daemon of its own, stopped when dropped.
#[derive(Debug)]
pub struct Docker {
    daemon: Option<Running>,
    home: TempDir,
}

impl Docker {
    /// Starts a daemon that makes no networks, and waits until it answers. Its `/etc/docker` is its own.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start() -> Self {
        let home = tempfile::Builder::new().prefix("hedgerow-docker-").tempdir().expect("a temporary folder can be made");
        std::fs::create_dir(home.path().join("etc")).expect("a temporary folder can be made");
        let log = Log::at(home.path().join("dockerd.log"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(r#"mkdir -p /etc/docker && mount --bind "$0" /etc/docker && exec dockerd "$@""#).arg(home.path().join("etc"));
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]);
        command.arg("--data-root").arg(home.path().join("data")).arg("--exec-root").arg(home.path().join("exec"));
        command.arg("--pidfile").arg(home.path().join("pid")).arg("--host").arg(socket(&home));
        let mut docker = Self { daemon: Some(Running::start(&mut command, &log)), home };
        wait::until("dockerd to answer", || {
            assert!(docker.daemon.as_mut().is_some_and(Running::is_running), "dockerd ended:\n{}", log.tail());
            docker.run(&["version"]).code == Some(0)
        });
        docker
    }

    /// Makes the daemon trust a CA for one registry, as its users do: by a file in `certs.d`.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn trust(&self, host: &str, ca: &Path) {
        let folder = self.home.path().join("etc/certs.d").join(host);
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        std::fs::copy(ca, folder.join("ca.crt")).expect("the certificate can be copied");
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
