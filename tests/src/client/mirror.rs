//! docker-registry as a pull-through mirror: a client of one registry, and a registry for others.
//!
//! Not here: mirrors of engines, which pass requests on.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::log::Log;
use crate::process::Running;
use crate::wait;

/// A docker-registry that fetches what it is asked for from another registry, and keeps it. Stopped when dropped.
#[derive(Debug)]
pub struct Mirror {
    host: String,
    _process: Running,
    _home: TempDir,
}

impl Mirror {
    /// Starts a mirror of the registry at `url`, whose CA is in the file `ca`, and waits until it listens. It pulls with
    /// `key`.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(url: &str, ca: &Path, key: &str) -> Self {
        let home = tempfile::Builder::new().prefix("hedgerow-mirror-").tempdir().expect("a temporary folder can be made");
        let settings = json!({
            "version": "0.1",
            "log": {"level": "info", "formatter": "json"},
            "storage": {"filesystem": {"rootdirectory": home.path().join("data")}},
            "http": {"addr": "127.0.0.1:0"},
            "proxy": {"remoteurl": url, "username": "anyone", "password": key},
        });
        // JSON is YAML.
        std::fs::write(home.path().join("config.yml"), settings.to_string()).expect("a temporary file can be written");
        let log = Log::at(home.path().join("mirror.log"));
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(home.path().join("config.yml")).env("SSL_CERT_FILE", ca);
        let mut process = Running::start(&mut command, &log);
        let host = wait::eventually("the mirror to listen", || {
            assert!(process.is_running(), "docker-registry ended:\n{}", log.tail());
            let text = log.text();
            let (host, _) = text.split_once("listening on ")?.1.split_once('"')?;
            Some(host.to_owned())
        });
        Self { host, _process: process, _home: home }
    }

    /// Its address, as container tools want it. It speaks plain HTTP and asks for no credentials.
    pub fn host(&self) -> &str {
        &self.host
    }
}
