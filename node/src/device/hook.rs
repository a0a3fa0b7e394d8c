//! The command that starts a version: run with what it needs to know in its environment, and with a time limit. Exit code 0
//! means that the version is healthy, and what it left running goes on; otherwise the last line that it wrote to stderr is the
//! reason, and all that it started is ended, as it is when the device stops first.
//!
//! Nothing of it hangs on this process: `tail` reads its stderr, so that a device that is killed does not break what the
//! command writes. The next run of the device ends what is left of such a start before it begins another.
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
//! Not here: when it is run, and what follows; [`protocol::agent`] decides. The processes; see [`processes`].

mod processes;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use protocol::agent::Outcome;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName};
use protocol::statement::version::{AcceptedStatement, VersionName};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use processes::{Group, end_leftovers};

/// As much of the end of stderr is kept to find its last line.
const TAIL_BYTES: &str = "4096";

/// What a command started in another session may hold stderr open; it is waited for so long.
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
    /// Runs the command for a version. All that it started is ended if the future is dropped.
    pub async fn run(&self, version: &StartedVersion, previous: Option<u64>) -> Outcome {
        let (mut child, tail) = match self.spawn(version, previous) {
            Ok(spawned) => spawned,
            Err(error) => return Outcome::NotTried(format!("the activate hook cannot be run: {error}")),
        };
        let group = Group::of(&child);
        let exit = match timeout(self.limit, child.wait()).await {
            Err(_) => return Outcome::Failed(format!("the activate hook was ended after {} seconds", self.limit.as_secs())),
            Ok(Err(error)) => return Outcome::Failed(format!("the activate hook was lost: {error}")),
            Ok(Ok(exit)) if exit.success() => {
                group.let_go();
                return Outcome::Healthy;
            }
            Ok(Ok(exit)) => exit,
        };
        drop(group);
        let said = timeout(STDERR_TIME, tail.wait_with_output()).await;
        let said = said.ok().and_then(Result::ok).and_then(|said| last_line(&said.stdout));
        Outcome::Failed(said.unwrap_or_else(|| format!("the activate hook ended with {exit}")))
    }

    /// Ends what is left of a start by an earlier run of this device, which was killed.
    pub async fn end_leftovers(&self, name: VersionName) {
        let blobs = self.blobs.clone();
        let VersionName { app, version } = name.clone();
        match tokio::task::spawn_blocking(move || end_leftovers(&blobs, &app, version)).await {
            Ok(0) => {}
            Ok(processes) => {
                let VersionName { app, version } = name;
                tracing::warn!(event = "leftovers_ended", %app, version, processes, "a start that an earlier run of the device began was ended");
            }
            Err(error) => tracing::error!(%error, "what an earlier run of the device started was not looked for"),
        }
    }

    /// The command, and what keeps the end of its stderr.
    fn spawn(&self, version: &StartedVersion, previous: Option<u64>) -> std::io::Result<(Child, Child)> {
        let (read, write) = std::io::pipe()?;
        let tail = Command::new("tail")
            .args(["-c", TAIL_BYTES])
            .stdin(read)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok((self.command(version, previous).stderr(write).spawn()?, tail))
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
        is_gone(&pid).await;
    }

    async fn is_gone(pid: &std::path::Path) {
        let started = std::fs::read_to_string(pid).unwrap();
        let gone = || std::fs::read_to_string(format!("/proc/{}/stat", started.trim())).map_or(true, |stat| stat.contains(") Z "));
        while !gone() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn content(file: &std::path::Path) -> String {
        loop {
            match std::fs::read_to_string(file) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    #[tokio::test]
    async fn is_ended_with_all_it_started_when_the_device_stops_or_it_fails() {
        let home = tempfile::tempdir().unwrap();
        let pid = home.path().join("pid");
        let background = format!("sleep 1000 & echo $! > {}", pid.display());
        let running = hook(&format!("{background}; wait"));
        let start = tokio::spawn(async move { running.run(&version(), None).await });
        content(&pid).await;
        start.abort();
        is_gone(&pid).await;
        let failing = hook(&format!("{background}; echo broken >&2; exit 1"));
        assert_eq!(failing.run(&version(), None).await, Outcome::Failed("broken".into()));
        is_gone(&pid).await;
    }

    #[tokio::test]
    async fn what_a_killed_device_left_is_ended_and_nothing_of_others() {
        let home = tempfile::tempdir().unwrap();
        let [own, other] = ["own", "other"].map(|device| home.path().join(device).join("blobs"));
        let left = |name: &str, blobs: &std::path::Path, version: &str| {
            let pid = home.path().join(name);
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &format!("setsid sleep 1000 & echo $! > {}; wait", pid.display())]);
            command.env("HEDGEROW_BLOBS", blobs).env("HEDGEROW_APP", "web").env("HEDGEROW_VERSION", version);
            (command.spawn().unwrap(), pid)
        };
        let mut left = [left("own.pid", &own, "3"), left("version.pid", &own, "2"), left("device.pid", &other, "3")];
        for (_, pid) in &left {
            content(pid).await;
        }
        Hook { blobs: own.clone(), ..hook("") }.end_leftovers(VersionName { app: "web".parse().unwrap(), version: 3 }).await;
        is_gone(&left[0].1).await;
        for (child, _) in &mut left[1..] {
            assert_eq!(child.try_wait().unwrap(), None);
        }
        for version in [2, 3] {
            end_leftovers(&own, &"web".parse().unwrap(), version);
            end_leftovers(&other, &"web".parse().unwrap(), version);
        }
        left.iter_mut().for_each(|(child, _)| assert!(!child.wait().unwrap().success()));
    }

    #[tokio::test]
    async fn what_a_good_start_left_running_goes_on() {
        let home = tempfile::tempdir().unwrap();
        let (pid, proof) = (home.path().join("pid"), home.path().join("proof"));
        let service = format!("(sleep 1; echo talk >&2; echo alive > {}) & echo $! > {}", proof.display(), pid.display());
        assert_eq!(hook(&service).run(&version(), None).await, Outcome::Healthy);
        assert_eq!(content(&proof).await, "alive\n", "it is not ended, and what it writes to stderr does not end it");
    }
}
