//! The demo's processes: a seed and devices of the same program, and its operator's commands.
//!
//! Not here: what they are used for; see [`super`].

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// A process is ready within a second; a machine that is busy with others gets half a minute.
const READY_TIME: Duration = Duration::from_secs(30);
/// An operator's command takes well under a second.
const COMMAND_TIME: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL.
const STOP_TIME: Duration = Duration::from_secs(10);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 12;
/// Bytes at the end of a log that are read for them.
const TAIL_BYTES: u64 = 16 << 10;

/// How to start this program again.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    work: PathBuf,
}

/// A process that runs until it is told to stop.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    _stdout: Lines<BufReader<ChildStdout>>,
}

/// All of them, devices before the seed when they are stopped.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// The seed.
    pub(super) seed: Option<Running>,
    /// The devices.
    pub(super) devices: Vec<Running>,
}

impl Program {
    /// This program, with its logs in `work`.
    pub(super) fn this(work: &Path) -> anyhow::Result<Self> {
        let path = std::env::current_exe().context("finding this program's own file")?;
        Ok(Self { path, work: work.to_owned() })
    }

    /// The program with `arguments`; of this process's settings it gets the log filter alone, and no proxy.
    fn command(&self, arguments: &[OsString], settings: &[(&str, OsString)]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(["--log", "json"]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let ours = name.to_str().is_some_and(|name| name.starts_with("HEDGEROW_") && name != "HEDGEROW_LOG");
            if ours {
                command.env_remove(name);
            }
        }
        command.envs(["NO_PROXY", "no_proxy"].map(|name| (name, "127.0.0.1")));
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Carries out a command; its result.
    pub(super) async fn ask<T: DeserializeOwned>(&self, arguments: &[OsString], settings: &[(&str, OsString)]) -> anyhow::Result<T> {
        let line = shown(arguments);
        let output = timeout(COMMAND_TIME, self.command(arguments, settings).output()).await;
        let output = output.with_context(|| format!("`{line}` did not end within {} s", COMMAND_TIME.as_secs()))?;
        let output = output.with_context(|| format!("starting {}", self.path.display()))?;
        if !output.status.success() {
            bail!("`{line}` failed ({}):\n{}", output.status, last_lines(&String::from_utf8_lossy(&output.stderr)));
        }
        let stdout = String::from_utf8_lossy(&output.stdout);
        let last = stdout.trim_end().rsplit('\n').next().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("`{line}` printed something else than its result: {last:?}"))
    }

    /// Starts a process that logs to `<name>.log` and waits until it is ready; what it says of itself then.
    pub(super) async fn start<T: DeserializeOwned>(&self, name: &str, arguments: &[OsString]) -> anyhow::Result<(Running, T)> {
        let log = self.work.join(format!("{name}.log"));
        let stderr = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut command = self.command(arguments, &[]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(stderr).spawn().with_context(|| format!("starting {name}: {}", self.path.display()))?;
        let stdout = child.stdout.take().context("the process has no stdout")?;
        let mut running = Running { name: name.to_owned(), child, log, _stdout: BufReader::new(stdout).lines() };
        let line = timeout(READY_TIME, running._stdout.next_line()).await;
        let Ok(line) = line else { bail!(running.failure(&format!("was not ready within {} s", READY_TIME.as_secs()))) };
        let Some(line) = line? else { bail!(running.failure("ended before it was ready")) };
        match serde_json::from_str(&line) {
            Ok(ready) => Ok((running, ready)),
            Err(error) => bail!(running.failure(&format!("printed something else than that it is ready ({error}): {line}"))),
        }
    }
}

impl Running {
    /// The process's id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The process's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What happened to the process, with the end of its log.
    fn failure(&self, what: &str) -> String {
        format!("{} {what}; the end of its log:\n{}", self.name, tail(&self.log))
    }

    async fn stop(mut self) {
        let Some(id) = self.child.id() else { return };
        let told = Command::new("kill").args(["-TERM", &id.to_string()]).stdin(Stdio::null()).status().await;
        let told = told.is_ok_and(|status| status.success());
        if !told || timeout(STOP_TIME, self.child.wait()).await.is_err() {
            tracing::warn!(process = self.name, "the process did not stop when it was told to; it is killed");
            if let Err(error) = self.child.kill().await {
                tracing::error!(process = self.name, %error, "the process cannot be killed");
            }
        }
    }
}

impl Processes {
    /// All processes.
    pub(super) fn all(&self) -> impl Iterator<Item = &Running> {
        self.seed.iter().chain(&self.devices)
    }

    /// Fails if one of the processes has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for running in self.seed.iter_mut().chain(&mut self.devices) {
            if let Some(status) = running.child.try_wait()? {
                bail!(running.failure(&format!("ended by itself ({status})")));
            }
        }
        Ok(())
    }

    /// The ends of the logs of the seed and one device, for an error that does not tell whose fault it is.
    pub(super) fn tails(&self) -> String {
        let two = self.seed.iter().chain(self.devices.first());
        two.map(|running| format!("the end of the log of {}:\n{}", running.name, tail(&running.log))).collect::<Vec<_>>().join("\n")
    }

    /// Stops all processes, the seed last.
    pub(super) async fn stop(&mut self) {
        join_all(std::mem::take(&mut self.devices).into_iter().map(Running::stop)).await;
        if let Some(seed) = self.seed.take() {
            seed.stop().await;
        }
    }
}

/// Arguments from text and paths.
pub(super) fn arguments(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Vec<OsString> {
    arguments.iter().map(|argument| argument.as_ref().to_owned()).collect()
}

fn shown(arguments: &[OsString]) -> String {
    let words = arguments.iter().map(|argument| argument.to_string_lossy());
    std::iter::once("hedgerow".into()).chain(words).collect::<Vec<_>>().join(" ")
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => last_lines(&text),
        Err(error) => format!("  ({} cannot be read: {error})", log.display()),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if last.is_empty() { "  (nothing)".to_owned() } else { last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_the_end_of_a_log() {
        let text: String = (0..100).map(|line| format!("{line}\n")).collect();
        let shown = last_lines(&text);
        assert_eq!((shown.lines().count(), shown.lines().last()), (TAIL_LINES, Some("  99")));
        assert_eq!(last_lines("\n"), "  (nothing)");
    }
}
