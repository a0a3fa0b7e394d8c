//! A device.
//!
//! Not here: seeds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::image;
use crate::log::Log;
use crate::process::{Outcome, Running};
use crate::program;
use crate::seed::{Organisation, Seed};

/// Bytes of the unit by which devices verify.
pub const UNIT_BYTES: u64 = 64 << 10;

/// An enrolled device in its own directory.
#[derive(Debug)]
pub struct Device {
    process: Option<Running>,
    /// Its name.
    pub name: String,
    /// Its log.
    pub log: Log,
    /// What it printed when it was ready.
    pub ready: Value,
    home: TempDir,
}

impl Device {
    /// Enrols a device of the seed's first organisation and runs it.
    #[track_caller]
    pub fn start(seed: &Seed, name: &str) -> Self {
        let mut device = Self::enrol(seed, &seed.org(), name);
        device.run(&[]);
        device
    }

    /// Enrols a device.
    #[track_caller]
    pub fn enrol(seed: &Seed, org: &Organisation, name: &str) -> Self {
        Self::enrol_for(seed, org, name, "linux-amd64")
    }

    /// Enrols a device that can run images for `platform`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn enrol_for(seed: &Seed, org: &Organisation, name: &str, platform: &str) -> Self {
        let device = Self::unknown(name);
        let enrolled = Outcome::of(device.enrol_command(&seed.token(org)).args(["--platform", platform])).json();
        assert_eq!((&enrolled["org"], &enrolled["device"]), (&org.name.as_str().into(), &name.into()), "{enrolled}");
        device
    }

    /// A device that is not enrolled yet.
    ///
    /// # Panics
    /// When it has no place on the disk.
    pub fn unknown(name: &str) -> Self {
        let home = tempfile::Builder::new().prefix("hedgerow-device-").tempdir().expect("a temporary folder can be made");
        Self { process: None, name: name.to_owned(), log: Log::at(home.path().join(format!("{name}.log"))), ready: Value::Null, home }
    }

    /// The command that enrols it.
    pub fn enrol_command(&self, token: &str) -> Command {
        let mut command = program::hedgerow();
        command.args(["device", "enroll", "--json", "--device", &self.name, "--token", token, "--data"]).arg(self.data());
        command
    }

    /// The command that runs it, asking the seed every second unless `flags` say otherwise.
    pub fn run_command(&self, flags: &[&str]) -> Command {
        let mut command = program::hedgerow();
        command.args(["--log", "json", "device", "run", "--json", "--data"]).arg(self.data());
        for (flag, value) in [("--poll-seconds", "1"), ("--endpoint-listen", "127.0.0.1:0"), ("--swarm-listen", "127.0.0.1:0")] {
            if !flags.contains(&flag) {
                command.args([flag, value]);
            }
        }
        command.args(flags);
        command
    }

    /// Runs it, and waits until it is ready.
    #[track_caller]
    pub fn run(&mut self, flags: &[&str]) {
        self.run_as(self.run_command(flags));
    }

    /// Runs it by this command, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn run_as(&mut self, mut command: Command) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let (process, ready) = Running::start_node(&mut command, &self.log);
        assert_eq!(ready["device"], self.name.as_str(), "{ready}");
        (self.process, self.ready) = (Some(process), ready);
    }

    /// The process.
    ///
    /// # Panics
    /// When it was stopped.
    #[track_caller]
    pub fn process(&mut self) -> &mut Running {
        self.process.as_mut().expect("the device runs")
    }

    /// Tells it to stop, and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("the device runs").stop()
    }

    /// Kills it.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.take().expect("the device runs").kill();
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Its local registry.
    ///
    /// # Panics
    /// When it never ran.
    #[track_caller]
    pub fn endpoint_url(&self) -> &str {
        self.ready["endpoint_url"].as_str().expect("a device that is ready prints endpoint_url")
    }

    /// Its local registry without the scheme, as container tools want it.
    #[track_caller]
    pub fn endpoint(&self) -> &str {
        self.endpoint_url().trim_start_matches("http://")
    }

    /// Where its peers connect.
    ///
    /// # Panics
    /// When it never ran.
    #[track_caller]
    pub fn swarm_addr(&self) -> &str {
        self.ready["swarm_addr"].as_str().expect("a device that is ready prints swarm_addr")
    }

    /// The value of one of its metrics.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        http::metric(self.ready["metrics_url"].as_str().expect("a device that is ready prints metrics_url"), name)
    }

    /// How many peers it is connected with.
    #[track_caller]
    pub fn peers(&self) -> u64 {
        self.metric("hedgerow_device_peers")
    }

    /// Where it keeps a whole blob.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        image::blob_path(&self.data(), digest)
    }

    /// A whole blob that it keeps.
    #[track_caller]
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        image::blob_in(&self.data(), digest)
    }

    /// Whether it has all of these blobs, whole.
    pub fn holds<'a>(&self, blobs: impl IntoIterator<Item = &'a String>) -> bool {
        blobs.into_iter().all(|blob| self.blob_path(blob).is_file())
    }

    /// Which units of a blob it has verified: all of a whole blob, none if it has not begun.
    pub fn verified_units(&self, digest: &str, size: u64) -> Vec<bool> {
        let units = usize::try_from(size.div_ceil(UNIT_BYTES)).expect("blobs of tests fit memory");
        let map = self.data().join("partial").join(format!("{}.units", digest.replace(':', "-")));
        let marks = fs::read(map).unwrap_or_default();
        // The map goes after the whole blob has come.
        if self.blob_path(digest).is_file() {
            return vec![true; units];
        }
        (0..units).map(|unit| marks.get(unit) == Some(&1)).collect()
    }

    /// The bytes of whole blobs that its log says came over the WAN, by blob, in all its runs.
    pub fn wan_bytes(&self) -> BTreeMap<String, u64> {
        let stored = self.log.events("blob_stored").into_iter();
        stored.filter_map(|event| Some((event["blob"].as_str()?.to_owned(), event["wan_bytes"].as_u64()?))).collect()
    }
}
