//! A server under test: how it ends, and what it took of memory and processors.
//!
//! Not here: what it serves; see `servers`.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a server has to end after it was asked to.
const END_TIME: Duration = Duration::from_secs(30);

/// Ticks per second of the times in `/proc/<pid>/stat`: the same on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server; dropping it ends it.
pub(super) struct Process {
    child: Child,
    name: &'static str,
}

impl Process {
    /// Starts a server.
    pub(super) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}; `cargo tools setup` installs what the bench needs"))?;
        Ok(Self { child, name })
    }

    /// The started child, for its output.
    pub(super) const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Asks the server to end, and waits for it.
    pub(super) fn stop(mut self) -> Result<()> {
        self.end()
    }

    /// Fails if the server has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended by itself ({status}); its own output above says why", self.name),
            None => Ok(()),
        }
    }

    /// The most memory that the server had resident at a time, in bytes.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.with_context(|| format!("the system does not tell the memory of {}", self.name))? * 1024)
    }

    /// Bytes that the server gave the system to write to the disk so far.
    pub(super) fn written_bytes(&self) -> Result<u64> {
        let counters = fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let bytes = counters.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse::<u64>().ok());
        bytes.with_context(|| format!("the system does not tell what {} writes", self.name))
    }

    /// Processor time that the server and its workers took so far, in seconds.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = 0;
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
            let fields: Vec<u64> = rest.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
            let [_, parent, ..] = fields[..] else { continue };
            if pid == self.child.id() || parent == u64::from(self.child.id()) {
                ticks += fields.iter().skip(11).take(2).sum::<u64>();
            }
        }
        Ok(super::figures::float(ticks) / TICKS_PER_SECOND)
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let give_up = Instant::now() + END_TIME;
        while asked.as_ref().is_ok_and(std::process::ExitStatus::success) && Instant::now() < give_up {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("{} did not end within {} s and was killed", self.name, END_TIME.as_secs())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: {error:#}");
        }
    }
}
