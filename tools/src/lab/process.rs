//! Processes in the lab's namespaces: starting, asking, killing, and the memory they had.
//!
//! Not here: which processes there are; see [`super::fleet`].

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::interrupt;
use crate::cargo::line_of;

/// A process is ready within a second; on a busy machine that emulates a far seed it may take this long.
const READY_TIME: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of a log that an error shows.
const TAIL_LINES: usize = 12;

/// A running process; killed when dropped.
pub(super) struct Process {
    pub(super) name: String,
    child: Child,
    /// What it writes to stderr.
    pub(super) log: PathBuf,
    out: PathBuf,
    /// The most memory that it was seen to have resident, in bytes.
    pub(super) peak_bytes: u64,
}

/// A command in a namespace, without settings and proxies of whoever runs the lab.
pub(super) fn command_in(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program).stdin(Stdio::null());
    // Ctrl-C is for the lab alone, which then stops everything in order.
    command.process_group(0);
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let lower = name.to_ascii_lowercase();
        if (name.starts_with("HEDGEROW_") && name != "HEDGEROW_LOG") || lower.ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end, or until the lab is told to stop; what it wrote to stdout.
pub(super) fn ask(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let child = command.stdout(out.try_clone()?).stderr(err.try_clone()?).spawn();
    let mut child = child.with_context(|| format!("cannot start `{line}`"))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Err(told) = interrupt::sleep(LOOK_INTERVAL) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(told);
        }
    };
    if !status.success() {
        bail!("`{line}` failed ({status}):\n{}\n{}", whole(&mut err)?.trim_end(), whole(&mut out)?.trim_end());
    }
    whole(&mut out)
}

fn whole(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same for a command whose last line is its result.
pub(super) fn ask_json(command: &mut Command) -> Result<Value> {
    let line = line_of(command);
    let text = ask(command)?;
    let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("`{line}` printed something else than its result: {last:?}"))
}

impl Process {
    /// Starts a process with its output in `work`.
    pub(super) fn start(name: &str, work: &Path, command: &mut Command) -> Result<Self> {
        let (log, out) = (work.join(format!("{name}.log")), work.join(format!("{name}.out")));
        let open = |path: &Path| File::options().create(true).append(true).open(path).with_context(|| format!("making {}", path.display()));
        fs::write(&out, "").with_context(|| format!("making {}", out.display()))?;
        let child = command.stdout(open(&out)?).stderr(open(&log)?).spawn();
        let child = child.with_context(|| format!("starting {name}: `{}`", line_of(command)))?;
        Ok(Self { name: name.to_owned(), child, log, out, peak_bytes: 0 })
    }

    /// The first line that it writes, once it has.
    pub(super) fn first_line(&mut self) -> Result<String> {
        let give_up = Instant::now() + READY_TIME;
        loop {
            let text = fs::read_to_string(&self.out)?;
            if let Some((line, _)) = text.split_once('\n') {
                return Ok(line.to_owned());
            }
            self.check()?;
            if Instant::now() > give_up {
                bail!("{} was not ready within {} s; the end of its log:\n{}", self.name, READY_TIME.as_secs(), self.tail());
            }
            interrupt::sleep(LOOK_INTERVAL)?;
        }
    }

    /// What it has written to stdout so far.
    pub(super) fn written(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.out)?)
    }

    /// What it says of itself when it is ready.
    pub(super) fn ready(&mut self) -> Result<Value> {
        let line = self.first_line()?;
        serde_json::from_str(&line).with_context(|| format!("{} printed something else than that it is ready: {line:?}", self.name))
    }

    /// Fails if it has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended by itself ({status}); the end of its log:\n{}", self.name, self.tail()),
            None => Ok(()),
        }
    }

    /// Looks at how much memory it has.
    pub(super) fn sample(&mut self) {
        if let Ok(status) = fs::read_to_string(format!("/proc/{}/status", self.child.id())) {
            self.peak_bytes = self.peak_bytes.max(peak_bytes(&status).unwrap_or(0));
        }
    }

    /// Kills it.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.sample();
        self.child.kill().and_then(|()| self.child.wait()).with_context(|| format!("killing {}", self.name))?;
        Ok(())
    }

    /// Events of its log, by name.
    pub(super) fn events(&self, event: &str) -> Vec<Value> {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(|entry| entry.get("event").and_then(Value::as_str) == Some(event)).collect()
    }

    /// The end of its log.
    pub(super) fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most memory that a process had resident, as `/proc/<pid>/status` says.
fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_in_bytes() {
        assert_eq!(peak_bytes("Name:\tx\nVmHWM:\t   10240 kB\nVmRSS:\t 1 kB\n"), Some(10 << 20));
        assert_eq!(peak_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn what_a_command_wrote_is_its_answer_or_stands_in_the_error() {
        assert_eq!(ask(Command::new("sh").args(["-c", "echo fine; echo loud >&2"])).unwrap(), "fine\n");
        let error = ask(Command::new("sh").args(["-c", "echo broken >&2; exit 1"])).unwrap_err().to_string();
        assert!(error.contains("broken"), "{error}");
        assert_eq!(ask_json(Command::new("echo").arg("progress\n{\"a\":1}")).unwrap()["a"], 1);
        assert!(ask_json(&mut Command::new("true")).is_err());
    }

    #[test]
    fn a_process_that_ends_before_it_is_ready_is_a_failure_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start("sh", folder.path(), Command::new("sh").args(["-c", "echo no disk >&2; exit 3"])).unwrap();
        let error = process.first_line().unwrap_err().to_string();
        assert!(error.contains("ended by itself") && error.contains("no disk"), "{error}");
    }

    #[test]
    fn finds_events_among_lines_of_other_things() {
        let folder = tempfile::tempdir().unwrap();
        let script =
            r#"echo starting; echo '{"event":"unit_refused","peer":"d9"}' >&2; echo '{"event":"other"}' >&2; echo ready; sleep 60"#;
        let mut process = Process::start("sh", folder.path(), Command::new("sh").args(["-c", script])).unwrap();
        while process.written().unwrap().lines().count() < 2 {
            std::thread::sleep(LOOK_INTERVAL);
        }
        assert_eq!(process.first_line().unwrap(), "starting");
        let events = process.events("unit_refused");
        assert_eq!((events.len(), &events[0]["peer"]), (1, &Value::from("d9")));
        process.kill().unwrap();
    }
}
