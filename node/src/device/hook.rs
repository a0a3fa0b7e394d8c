//! The command that starts a version: run with what it needs to know in its environment, and with a time limit. Exit code 0
//! means that the version is healthy; otherwise the last line that it wrote to stderr is the reason.
//!
//! | variable | value |
//! |---|---|
//! | `HEDGEROW_ORG`, `HEDGEROW_APP`, `HEDGEROW_VERSION` | the version to start |
//! | `HEDGEROW_PREVIOUS_VERSION` | the one that was healthy before, if another was |
//! | `HEDGEROW_MANIFEST`, `HEDGEROW_MANIFEST_PATH` | digest and file of the first image's manifest |
//! | `HEDGEROW_IMAGES` | a line for each image: `REPOSITORY:TAG DIGEST PATH` of its manifest |
//! | `HEDGEROW_BLOBS` | the folder with a file for each blob, by its SHA-256 in hex |
//! | `HEDGEROW_ENDPOINT_URL` | the local registry |
//!
//! Not here: when it is run, and what follows; [`protocol::agent`] decides.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::agent::Outcome;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName};
use protocol::statement::version::AcceptedStatement;
use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

/// As much of the end of stderr is kept to find its last line.
const TAIL_BYTES: usize = 4096;

/// What a command left behind may hold stderr open; what it still writes is waited for so long.
const STDERR_TIME: Duration = Duration::from_secs(1);

/// The command of a device.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Given to `sh -c`.
    pub command: String,
    /// How long it may take.
    pub limit: Duration,
    /// The organisation.
    pub org: OrgName,
    /// The folder with a file for each blob.
    pub blobs: PathBuf,
    /// The local registry.
    pub endpoint_url: String,
}

/// A version as the command gets to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedVersion {
    app: AppName,
    version: u64,
    /// `REPOSITORY:TAG` and manifest of each image.
    images: Vec<(String, Digest)>,
}

impl StartedVersion {
    /// What there is to know of an accepted version.
    pub fn of(statement: &AcceptedStatement) -> Self {
        let statement = statement.statement();
        let images = statement.images.iter().map(|image| (format!("{}:{}", image.repository, image.tag), image.manifest.digest));
        Self { app: statement.app.clone(), version: statement.version, images: images.collect() }
    }
}

impl Hook {
    /// Runs the command for a version.
    pub async fn run(&self, version: &StartedVersion, previous: Option<u64>) -> Outcome {
        let mut child = match self.command(version, previous).spawn() {
            Ok(child) => child,
            Err(error) => return Outcome::Failed(format!("the activate hook cannot be run: {error}")),
        };
        let group = child.id();
        let tail = Arc::new(Mutex::new(Vec::new()));
        let reader = child.stderr.take().map(|stderr| tokio::spawn(keep_tail(stderr, tail.clone())));
        let ended = timeout(self.limit, child.wait()).await;
        let exit = match ended {
            Err(_) => {
                end_group(group).await;
                let _ = child.kill().await;
                return Outcome::Failed(format!("the activate hook was ended after {} seconds", self.limit.as_secs()));
            }
            Ok(Err(error)) => return Outcome::Failed(format!("the activate hook was lost: {error}")),
            Ok(Ok(exit)) if exit.success() => return Outcome::Healthy,
            Ok(Ok(exit)) => exit,
        };
        if let Some(mut reader) = reader
            && timeout(STDERR_TIME, &mut reader).await.is_err()
        {
            reader.abort();
        }
        let said = last_line(&tail.lock().unwrap_or_else(PoisonError::into_inner));
        Outcome::Failed(said.unwrap_or_else(|| format!("the activate hook ended with {exit}")))
    }

    fn command(&self, version: &StartedVersion, previous: Option<u64>) -> Command {
        let path = |digest: &Digest| self.blobs.join(digest.hex());
        let image = |(name, manifest): &(String, Digest)| format!("{name} {manifest} {}", path(manifest).display());
        let images: Vec<String> = version.images.iter().map(image).collect();
        let mut command = Command::new("sh");
        for name in own_variables(std::env::vars_os().map(|(name, _)| name)) {
            command.env_remove(name);
        }
        command
            .args(["-c", &self.command])
            .env("HEDGEROW_ORG", self.org.as_str())
            .env("HEDGEROW_APP", version.app.as_str())
            .env("HEDGEROW_VERSION", version.version.to_string())
            .env("HEDGEROW_IMAGES", images.join("\n"))
            .env("HEDGEROW_BLOBS", &self.blobs)
            .env("HEDGEROW_ENDPOINT_URL", &self.endpoint_url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some((_, manifest)) = version.images.first() {
            command.env("HEDGEROW_MANIFEST", manifest.to_string()).env("HEDGEROW_MANIFEST_PATH", path(manifest));
        }
        if let Some(previous) = previous {
            command.env("HEDGEROW_PREVIOUS_VERSION", previous.to_string());
        }
        command
    }
}

/// Which variables are this program's: its settings, and the PIN of a key in hardware, are not for the hook.
fn own_variables(names: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    names.filter(|name| name.as_encoded_bytes().starts_with(b"HEDGEROW_"))
}

/// Kills all of the command, also what it started.
async fn end_group(leader: Option<u32>) {
    let Some(leader) = leader else { return };
    let killed = Command::new("sh").args(["-c", &format!("kill -9 -{leader}")]).stderr(Stdio::null()).status().await;
    if let Err(error) = killed {
        tracing::warn!(%error, "what the activate hook started cannot be ended");
    }
}

async fn keep_tail(mut stderr: ChildStderr, tail: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&chunk[..read]);
        let excess = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..excess);
    }
}

fn last_line(tail: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_for_this_program_is_not_for_the_hook() {
        let names = ["PATH", "HEDGEROW_PKCS11_PIN", "HEDGEROW_MANIFEST", "MY_HEDGEROW_"].map(OsString::from);
        let own: Vec<OsString> = own_variables(names.into_iter()).collect();
        assert_eq!(own, ["HEDGEROW_PKCS11_PIN", "HEDGEROW_MANIFEST"]);
    }

    fn hook(command: &str) -> Hook {
        Hook {
            command: command.to_owned(),
            limit: Duration::from_secs(60),
            org: "acme".parse().unwrap(),
            blobs: "/blobs".into(),
            endpoint_url: "http://127.0.0.1:8080".into(),
        }
    }

    fn version() -> StartedVersion {
        StartedVersion { app: "web".parse().unwrap(), version: 3, images: vec![("acme/web:1".into(), Digest::sha256(b"m"))] }
    }

    #[tokio::test]
    async fn is_told_what_to_start_and_says_how_it_went() {
        let expected = format!("acme web 3 2 {} /blobs/{}", Digest::sha256(b"m"), Digest::sha256(b"m").hex());
        let told =
            r#""$HEDGEROW_ORG $HEDGEROW_APP $HEDGEROW_VERSION $HEDGEROW_PREVIOUS_VERSION $HEDGEROW_MANIFEST $HEDGEROW_MANIFEST_PATH""#;
        let check = hook(&format!("test {told} = '{expected}'"));
        assert_eq!(check.run(&version(), Some(2)).await, Outcome::Healthy);
        let failing = hook("echo first >&2; echo the port is taken >&2; echo >&2; exit 3");
        assert_eq!(failing.run(&version(), None).await, Outcome::Failed("the port is taken".into()));
        let silent = hook("exit 3").run(&version(), None).await;
        assert!(matches!(&silent, Outcome::Failed(reason) if reason.contains('3')), "{silent:?}");
        let loud = hook("head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 1");
        assert_eq!(loud.run(&version(), None).await, Outcome::Failed("end".into()));
    }

    #[tokio::test]
    async fn is_ended_with_all_it_started_when_it_takes_too_long() {
        let home = tempfile::tempdir().unwrap();
        let pid = home.path().join("pid");
        let slow = Hook { limit: Duration::from_secs(1), ..hook(&format!("sleep 1000 & echo $! > {}; wait", pid.display())) };
        let outcome = slow.run(&version(), None).await;
        assert!(matches!(&outcome, Outcome::Failed(reason) if reason.contains("1 seconds")), "{outcome:?}");
        let started = std::fs::read_to_string(&pid).unwrap();
        let gone = || std::fs::read_to_string(format!("/proc/{}/stat", started.trim())).map_or(true, |stat| stat.contains(") Z "));
        for _ in 0..200 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("process {started} is still there");
    }
}
