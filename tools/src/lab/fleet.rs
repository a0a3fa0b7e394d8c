//! The lab's seed and devices: the shipped binary in its namespaces, set up by the commands that operators use.
//!
//! Not here: the network between them; see [`super::network`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::image::{Blob, Image, MANIFEST};
use super::interrupt;
use super::network::{Network, SEED_ADDRESS};
use super::process::{Process, ask, ask_json, command_in};
use super::scenario::{Hostile, Scenario, Settings};
use super::trial::Programs;

const ORG: &str = "lab";
const APP: &str = "lab/app";
const TAG: &str = "v1";
/// Where devices and hostile peers take connections: the default of a device.
const SWARM_PORT: u16 = 7446;
/// Devices ask this often, in seconds, so that all know of a rollout soon.
const POLL_SECONDS: &str = "1";
/// Devices that are enrolled at the same time; more would only wait for the processors.
const ENROLMENTS_AT_ONCE: usize = 4;
/// How long devices may take to know each other.
const PEERS_TIME: Duration = Duration::from_secs(30);
/// A device that is this long at its site takes part at once.
const SETTLED_TIME: Duration = Duration::from_secs(3);
const PEERS_INTERVAL: Duration = Duration::from_millis(250);

/// A seed and the devices of all sites.
pub(super) struct Fleet<'a> {
    network: &'a Network,
    programs: &'a Programs,
    work: &'a Path,
    rtt: Duration,
    /// How devices find each other, if that is not left to them.
    discovery: Option<String>,
    pub(super) seed: Seed,
    pub(super) devices: Vec<Device>,
    pub(super) hostile: Vec<(Hostile, Device)>,
}

/// The seed.
pub(super) struct Seed {
    pub(super) process: Option<Process>,
    pub(super) metrics: String,
    pub(super) peak_bytes: u64,
    url: String,
    access_key: String,
    ca_file: String,
    data: PathBuf,
    keys: PathBuf,
}

/// A device, or a hostile one with the same kind of identity.
pub(super) struct Device {
    pub(super) name: String,
    pub(super) site: u32,
    pub(super) index: u32,
    pub(super) data: PathBuf,
    pub(super) process: Option<Process>,
    /// Whether the scenario killed it.
    pub(super) is_killed: bool,
    metrics: String,
}

impl<'a> Fleet<'a> {
    /// Makes and starts a seed, publishes the image and enrols all devices; none runs yet.
    pub(super) fn set_up(
        scenario: &Scenario,
        settings: &Settings,
        programs: &'a Programs,
        network: &'a Network,
        work: &'a Path,
        image: &Image,
    ) -> Result<Self> {
        let (data, keys) = (work.join("seed"), work.join("keys"));
        let listen = format!("{SEED_ADDRESS}:0");
        let mut init = command_in(&network.seed(), &programs.hedgerow);
        init.args(["seed", "init", "--org", ORG, "--listen", &listen, "--device-listen", &listen, "--json"]);
        let made = ask_json(init.arg("--data").arg(&data).arg("--keys").arg(&keys))?;
        let text = |key: &str| made[key].as_str().map(str::to_owned).with_context(|| format!("`seed init` printed no {key}"));
        let (url, access_key, ca_file) = (text("url")?, text("access_key")?, text("ca_file")?);
        let seed = Seed { process: None, metrics: String::new(), peak_bytes: 0, url, access_key, ca_file, data, keys };
        let rtt = Duration::from_millis(settings.rtt_ms);
        let discovery = settings.discovery.clone();
        let mut fleet = Self { network, programs, work, rtt, discovery, seed, devices: Vec::new(), hostile: Vec::new() };
        fleet.start_seed()?;
        fleet.push(image)?;
        fleet.ask_operator(&["app", "publish", &format!("{APP}:{TAG}"), "--json"])?;
        fleet.enrol(scenario, settings)?;
        Ok(fleet)
    }

    /// Starts the seed, also again.
    pub(super) fn start_seed(&mut self) -> Result<()> {
        let mut run = command_in(&self.network.seed(), &self.programs.hedgerow);
        run.args(["--log", "json", "seed", "run", "--json", "--metrics-listen", "127.0.0.1:0", "--data"]).arg(&self.seed.data);
        let mut process = Process::start("seed", self.work, &mut run)?;
        let ready = process.ready()?;
        self.seed.metrics = listener(&ready)?;
        self.seed.process = Some(process);
        Ok(())
    }

    /// Kills the seed.
    pub(super) fn kill_seed(&mut self) -> Result<()> {
        let Some(mut process) = self.seed.process.take() else { return Ok(()) };
        process.kill()?;
        self.seed.peak_bytes = self.seed.peak_bytes.max(process.peak_bytes);
        Ok(())
    }

    fn ask_operator(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = command_in(&self.network.seed(), &self.programs.hedgerow);
        command.env("HEDGEROW_URL", &self.seed.url).env("HEDGEROW_ACCESS_KEY", &self.seed.access_key);
        command.env("HEDGEROW_CA_FILE", &self.seed.ca_file).env("HEDGEROW_KEYS", &self.seed.keys);
        ask_json(command.args(arguments))
    }

    /// `curl` as a client of the registry, in a namespace.
    pub(super) fn curl(&self, namespace: &str) -> Command {
        let mut curl = command_in(namespace, Path::new("curl"));
        curl.args(["--fail", "--silent", "--show-error", "--cacert", &self.seed.ca_file]);
        curl.args(["--user", &format!("lab:{}", self.seed.access_key)]);
        curl
    }

    /// Where the registry has a blob, or the manifest.
    pub(super) fn url_of(&self, image: &Image, blob: &Blob) -> String {
        let kind = if blob.digest == image.manifest.digest { "manifests" } else { "blobs" };
        format!("{}/v2/{APP}/{kind}/{}", self.seed.url, blob.digest)
    }

    fn push(&self, image: &Image) -> Result<()> {
        let registry = format!("{}/v2/{APP}", self.seed.url);
        let put = |method: &str, media_type: &str, blob: &Blob, url: &str| {
            let mut curl = self.curl(&self.network.seed());
            curl.args(["--request", method, "--header", &format!("content-type: {media_type}")]);
            ask(curl.args(["--data-binary", &format!("@{}", blob.path.display()), url])).map(drop)
        };
        for blob in &image.blobs {
            put("POST", "application/octet-stream", blob, &format!("{registry}/blobs/uploads/?digest={}", blob.digest))?;
        }
        put("PUT", MANIFEST, &image.manifest, &format!("{registry}/manifests/{TAG}"))
    }

    fn enrol(&mut self, scenario: &Scenario, settings: &Settings) -> Result<()> {
        let hostile = u32::try_from(scenario.hostile.len())?;
        if settings.devices <= hostile {
            bail!("the scenario {} needs more than {hostile} devices", scenario.name);
        }
        let places: Vec<(u32, u32)> =
            (0..settings.sites).flat_map(|site| (0..settings.devices).map(move |device| (site, device))).collect();
        let mut devices = Vec::new();
        for some in places.chunks(ENROLMENTS_AT_ONCE) {
            let fleet = &*self;
            devices.extend(std::thread::scope(|scope| {
                let started: Vec<_> = some.iter().map(|(site, index)| scope.spawn(move || fleet.enrol_one(*site, *index))).collect();
                started
                    .into_iter()
                    .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("an enrolment panicked"))?)
                    .collect::<Result<Vec<_>>>()
            })?);
            eprintln!("lab: {} of {} devices enrolled", devices.len(), places.len());
        }
        for device in devices {
            let from_last = settings.devices - 1 - device.index;
            match scenario.hostile.get(from_last as usize) {
                Some(hostile) => self.hostile.push((*hostile, device)),
                None => self.devices.push(device),
            }
        }
        Ok(())
    }

    fn enrol_one(&self, site: u32, index: u32) -> Result<Device> {
        let name = format!("s{}d{}", site + 1, index + 1);
        let data = self.work.join(&name);
        let token = self.ask_operator(&["fleet", "token", "--org", ORG, "--json"])?;
        let mut enrol = command_in(&self.network.device(site, index), &self.programs.hedgerow);
        enrol.env("HEDGEROW_TOKEN", token["token"].as_str().context("`fleet token` printed no token")?);
        ask_json(enrol.args(["device", "enroll", "--device", &name, "--json", "--data"]).arg(&data))?;
        Ok(Device { name, site, index, data, process: None, is_killed: false, metrics: String::new() })
    }

    /// Starts a device; its number is its place in `devices`.
    pub(super) fn start_device(&mut self, number: usize) -> Result<()> {
        let device = &mut self.devices[number];
        let mut run = command_in(&self.network.device(device.site, device.index), &self.programs.hedgerow);
        run.args(["--log", "json", "device", "run", "--json", "--poll-seconds", POLL_SECONDS]);
        run.args(["--endpoint-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
        run.args(["--swarm-listen", &format!("0.0.0.0:{SWARM_PORT}")]);
        match &self.discovery {
            Some(ways) => run.args(["--discovery", ways]),
            None => run.args(["--site", &format!("site{}", device.site + 1)]),
        };
        run.arg("--data").arg(&device.data);
        device.process = Some(Process::start(&device.name, self.work, &mut run)?);
        Ok(())
    }

    /// Starts hostile devices, which call all others of their site.
    pub(super) fn start_hostile(&mut self) -> Result<()> {
        for (kind, device) in &mut self.hostile {
            let mut run = command_in(&self.network.device(device.site, device.index), &self.programs.hostile);
            run.args(["--mode", if *kind == Hostile::Liar { "liar" } else { "withholder" }]);
            run.args(["--listen", &format!("0.0.0.0:{SWARM_PORT}"), "--data"]).arg(&device.data);
            for other in self.devices.iter().filter(|other| other.site == device.site) {
                run.args(["--peer", &format!("{}:{SWARM_PORT}", Network::device_address(other.site, other.index))]);
            }
            device.process = Some(Process::start(&device.name, self.work, &mut run)?);
        }
        Ok(())
    }

    /// Waits until all devices that run are ready.
    pub(super) fn await_ready(&mut self) -> Result<()> {
        for device in &mut self.devices {
            if let Some(process) = &mut device.process {
                device.metrics = listener(&process.ready()?)?;
            }
        }
        for (_, device) in &mut self.hostile {
            if let Some(process) = &mut device.process {
                process.first_line()?;
            }
        }
        Ok(())
    }

    /// Waits until devices that run know each other and are no newcomers any more.
    pub(super) fn settle(&self) -> Result<()> {
        let started = std::time::Instant::now();
        for device in self.devices.iter().filter(|device| device.process.is_some()) {
            let of_site = |other: &&Device| other.site == device.site && other.process.is_some();
            let hostile = self.hostile.iter().filter(|(_, other)| other.site == device.site).count();
            let wanted = self.devices.iter().filter(of_site).count() - 1 + hostile;
            let mut found = self.peers(device)?;
            while found < wanted {
                if started.elapsed() > PEERS_TIME {
                    bail!("{} knows {found} of {wanted} peers after {} s", device.name, PEERS_TIME.as_secs());
                }
                interrupt::sleep(PEERS_INTERVAL)?;
                found = self.peers(device)?;
            }
        }
        interrupt::sleep(SETTLED_TIME.saturating_sub(started.elapsed()) + self.rtt)
    }

    fn peers(&self, device: &Device) -> Result<usize> {
        let mut curl = command_in(&self.network.device(device.site, device.index), Path::new("curl"));
        let text = ask(curl.args(["--fail", "--silent", "--show-error", &format!("http://{}/metrics", device.metrics)]))?;
        let value = text.lines().find_map(|line| line.strip_prefix("hedgerow_device_peers ")?.trim().parse().ok());
        value.context("a device's metrics do not say how many peers it has")
    }

    /// Starts the rollout.
    pub(super) fn roll_out(&self) -> Result<()> {
        self.ask_operator(&["rollout", "start", APP, "--version", "1", "--group", "all", "--json"]).map(drop)
    }

    /// All processes.
    pub(super) fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let hostile = self.hostile.iter_mut().map(|(_, device)| device);
        self.seed.process.iter_mut().chain(self.devices.iter_mut().chain(hostile).filter_map(|device| device.process.as_mut()))
    }
}

impl Device {
    /// Kills it; it counts no longer.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.is_killed = true;
        self.process.as_mut().map_or(Ok(()), Process::kill)
    }
}

fn listener(ready: &Value) -> Result<String> {
    let url = ready["metrics_url"].as_str().context("a process that is ready says where its metrics are")?;
    let rest = url.trim_start_matches("http://");
    Ok(rest.split('/').next().unwrap_or(rest).to_owned())
}
