//! Both roles on one machine, for a first look: a seed, some devices, two versions, and what crossed the WAN.
//!
//! Nothing is simulated. The seed and the devices are processes of this program with data directories of their own; the
//! operator's steps are this program's commands; the image is pushed through `/v2/`. Only the seed's rate is set, so that
//! the loopback is as slow as a WAN.
//!
//! | module | holds |
//! |---|---|
//! | `image`, `layer` | an image out of files of this machine |
//! | `push` | how it gets into the registry |
//! | `processes` | starting, asking and stopping processes |
//! | `figures` | what they moved, how long it took, what is on disk |
//! | [`report`] | progress and result |
//!
//! Not here: measuring against other programs.

mod figures;
mod image;
mod layer;
mod processes;
mod push;
pub mod report;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;

use self::figures::{Moved, Sources};
use self::image::{Image, Release};
use self::processes::{Processes, Program, arguments};
use self::push::Registry;
use self::report::{DeviceReport, Progress, Report, VersionReport};
use crate::device::enroll::own_platform;
use crate::{files, telemetry};

/// The most devices: a site's neighbourhood, in which all are connected to each other.
pub const DEVICES_MAX: u64 = 64;
/// The smallest image that has more than 500 files.
pub const SIZE_MIN: u64 = 4 << 20;
/// The largest image: its largest layer is then below what the registry takes as one blob.
pub const SIZE_MAX: u64 = 64 << 30;

const ORG: &str = "demo";
const APP: &str = "demo/kiosk";
/// Devices that are enrolled at the same time; more would only wait for the processors.
const ENROLMENTS_AT_ONCE: usize = 4;
/// How long devices may take to find each other, which takes them two polls.
const PEERS_TIME: Duration = Duration::from_secs(15);
/// A device that is this long at its site takes part at once: the swarm's hold-off is over.
const SETTLED_TIME: Duration = Duration::from_millis(2_500);
/// How often devices are asked for their peers meanwhile.
const PEERS_INTERVAL: Duration = Duration::from_millis(100);
/// A rollout may take this long, and four times as long as the WAN needs to bring every device its own copy.
const ROLLOUT_TIME: Duration = Duration::from_secs(120);

/// What to show.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many devices, from 1 to [`DEVICES_MAX`].
    pub devices: u64,
    /// What a device needs of version 1, in bytes; from [`SIZE_MIN`] to [`SIZE_MAX`].
    pub size: u64,
    /// The rate of the seed's line to all devices.
    pub wan_mbit: u64,
    /// Where everything is left.
    pub keep: Option<PathBuf>,
}

/// Runs the demo; all its processes have ended afterwards.
///
/// # Errors
/// When a process fails or a version does not arrive, with the end of a log that tells why; when it is told to stop.
pub async fn run(settings: Settings, progress: Progress) -> anyhow::Result<Report> {
    let temporary = match &settings.keep {
        Some(dir) => {
            make_new(dir)?;
            None
        }
        None => Some(tempfile::Builder::new().prefix("hedgerow-demo-").tempdir().context("making a temporary folder")?),
    };
    let work = temporary.as_ref().map_or_else(|| settings.keep.clone().unwrap_or_default(), |dir| dir.path().to_owned());
    let work = work.canonicalize().with_context(|| format!("finding {}", work.display()))?;
    let mut processes = Processes::default();
    let outcome = tokio::select! {
        outcome = show(&settings, progress, &work, &mut processes) => outcome,
        () = telemetry::stop_signal() => Err(anyhow::anyhow!("the demo was told to stop before its end")),
    };
    processes.stop().await;
    if let Some(Err(error)) = temporary.map(tempfile::TempDir::close) {
        progress.say(format!("{} was not removed: {error}", work.display()));
    }
    outcome
}

fn make_new(dir: &Path) -> anyhow::Result<()> {
    files::create_private_dir(dir)?;
    if std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?.next().is_some() {
        bail!("--keep {} is not empty; name a new folder", dir.display());
    }
    Ok(())
}

async fn show(settings: &Settings, progress: Progress, work: &Path, processes: &mut Processes) -> anyhow::Result<Report> {
    let image = build_image(settings, progress, work).await?;
    let stage = Stage::set(settings, progress, work, processes).await?;
    let mut versions = Vec::new();
    let mut previous = None;
    for release in &image.releases {
        let version = stage.publish(release).await?;
        if previous.is_none() {
            stage.settle(processes).await?;
        }
        versions.push(stage.deliver(processes, version, release, previous).await?);
        previous = Some(release);
    }
    let rss_bytes = figures::memory(processes);
    processes.check()?;
    Ok(Report {
        devices: settings.devices,
        wan_mbit: settings.wan_mbit,
        files: image.tally.files,
        generated_bytes: image.tally.generated_bytes,
        versions,
        rss_bytes_max: rss_bytes.values().max().copied(),
        rss_bytes,
        kept: settings.keep.as_ref().map(|_| work.to_owned()),
    })
}

async fn build_image(settings: &Settings, progress: Progress, work: &Path) -> anyhow::Result<Image> {
    let (dir, size) = (work.join("image"), settings.size);
    let image = tokio::task::spawn_blocking(move || image::build(&dir, &own_platform()?, size)).await??;
    let [first, _] = &image.releases;
    progress.say(format!("image: {} files of this machine, {} bytes a device", image.tally.files, first.content_bytes()));
    if image.tally.generated_files > 0 {
        let (files, bytes) = (image.tally.generated_files, image.tally.generated_bytes);
        progress.say(format!("this machine has too few files that everybody may read: {files} files of {bytes} bytes are made up"));
    }
    Ok(image)
}

#[derive(Deserialize)]
struct SeedMade {
    access_key: String,
    url: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
struct Ready {
    metrics_url: String,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// A seed and devices that run, and the operator's ways to them.
struct Stage {
    settings: Settings,
    progress: Progress,
    work: PathBuf,
    program: Program,
    operator: Vec<(&'static str, OsString)>,
    registry: Registry,
    sources: Sources,
    ready_at: Instant,
}

impl Stage {
    /// Starts a seed and devices in `work`.
    async fn set(settings: &Settings, progress: Progress, work: &Path, processes: &mut Processes) -> anyhow::Result<Self> {
        let program = Program::this(work)?;
        let (data, keys) = (work.join("seed"), work.join("keys"));
        let loopback = "127.0.0.1:0";
        let init: [&dyn AsRef<std::ffi::OsStr>; 13] = [
            &"seed",
            &"init",
            &"--data",
            &data,
            &"--keys",
            &keys,
            &"--org",
            &ORG,
            &"--listen",
            &loopback,
            &"--device-listen",
            &loopback,
            &"--json",
        ];
        let made: SeedMade = program.ask(&arguments(&init), &[]).await?;
        let rate = settings.wan_mbit.to_string();
        let run = arguments(&[&"seed", &"run", &"--data", &data, &"--egress-mbit", &rate, &"--metrics-listen", &loopback, &"--json"]);
        let (seed, ready): (_, Ready) = program.start("seed", &run).await?;
        processes.seed = Some(seed);
        progress.say(format!("seed: {}, {} Mbit/s to its devices", made.url, settings.wan_mbit));

        let operator = vec![
            ("HEDGEROW_URL", OsString::from(&made.url)),
            ("HEDGEROW_ACCESS_KEY", OsString::from(&made.access_key)),
            ("HEDGEROW_KEYS", keys.into_os_string()),
        ];
        let device_metrics = start_devices(&program, &operator, work, settings.devices, processes).await?;
        progress.say(format!("devices: {} enrolled and running", settings.devices));
        let http =
            reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(10)).build().context("making the HTTP client")?;
        Ok(Self {
            settings: settings.clone(),
            progress,
            work: work.to_owned(),
            program,
            operator,
            registry: Registry {
                http: http.clone(),
                url: made.url.clone(),
                access_key: made.access_key.clone(),
                repository: APP.to_owned(),
            },
            sources: Sources {
                http,
                seed_metrics: ready.metrics_url,
                device_metrics,
                status: format!("{}/api/v1/orgs/{}/rollout", made.url, APP.replace('/', "/apps/")),
                access_key: made.access_key,
            },
            ready_at: Instant::now(),
        })
    }

    /// Pushes and signs a release; its version.
    async fn publish(&self, release: &Release) -> anyhow::Result<u64> {
        self.registry.push(release, &self.progress).await?;
        let image = format!("{APP}:{}", release.tag);
        let published: Version = self.program.ask(&arguments(&[&"app", &"publish", &image, &"--json"]), &self.operator).await?;
        self.progress.say(format!("version {}: pushed as {image}, signed and published", published.version));
        Ok(published.version)
    }

    /// Waits until the devices know each other and are no newcomers any more, so that version 1 shows the rule and not the start.
    async fn settle(&self, processes: &mut Processes) -> anyhow::Result<()> {
        let wanted = self.settings.devices - 1;
        let mut found = self.sources.fewest_peers().await?;
        while found < wanted && self.ready_at.elapsed() < PEERS_TIME {
            tokio::time::sleep(PEERS_INTERVAL).await;
            processes.check()?;
            found = self.sources.fewest_peers().await?;
        }
        if found < wanted {
            self.progress.say(format!("a device has {found} peers instead of {wanted} after {} s; going on", PEERS_TIME.as_secs()));
        }
        tokio::time::sleep(SETTLED_TIME.saturating_sub(self.ready_at.elapsed())).await;
        Ok(())
    }

    /// Rolls a version out to all devices; what that moved.
    async fn deliver(
        &self,
        processes: &mut Processes,
        version: u64,
        release: &Release,
        before: Option<&Release>,
    ) -> anyhow::Result<VersionReport> {
        let (devices, changed_bytes) = (self.settings.devices, release.changed_bytes(before));
        let one_copy = Duration::from_secs(changed_bytes * 8 / (self.settings.wan_mbit * 1_000_000));
        let time_max = ROLLOUT_TIME + one_copy * 4 * u32::try_from(devices)?;
        let number = version.to_string();
        let start = arguments(&[&"rollout", &"start", &APP, &"--version", &number, &"--group", &"all", &"--json"]);

        let bar = self.progress.bytes(&format!("version {version} over the WAN"), changed_bytes);
        let show = |bytes: u64, done: u64| {
            bar.set_position(bytes.min(changed_bytes));
            bar.set_prefix(format!("{done} of {devices} devices"));
        };
        let counters = self.sources.counters().await?;
        let started = Instant::now();
        let start = self.program.ask::<Version>(&start, &self.operator);
        let watch = self.sources.watch(processes, version, &counters, started, time_max, show);
        let (_, moved) = tokio::try_join!(start, watch)?;
        bar.finish_and_clear();
        let verified = self.verify(release).await?;
        self.progress.say(format!("version {version}: on {verified} of {devices} devices after {:.1} s", moved.total_seconds));
        Ok(self.report(version, release, changed_bytes, verified, moved))
    }

    /// How many devices really hold the release.
    async fn verify(&self, release: &Release) -> anyhow::Result<u64> {
        let check = |number| {
            let (data, content) = (self.work.join(device_name(number)), release.content.clone());
            tokio::task::spawn_blocking(move || figures::holds(&data, &content))
        };
        let mut verified = 0;
        for checked in join_all((1..=self.settings.devices).map(check)).await {
            verified += u64::from(checked?);
        }
        Ok(verified)
    }

    fn report(&self, version: u64, release: &Release, changed_bytes: u64, verified: u64, moved: Moved) -> VersionReport {
        let device = |(number, (wan_bytes, lan_bytes))| DeviceReport { device: device_name(number), wan_bytes, lan_bytes };
        VersionReport {
            version,
            content_bytes: release.content_bytes(),
            changed_bytes,
            wan_bytes: moved.wan_bytes,
            lan_bytes: moved.lan_bytes,
            wan_copies: moved.wan_bytes as f64 / changed_bytes as f64,
            seconds: moved.seconds,
            total_seconds: moved.total_seconds,
            verified,
            per_device: (1..).zip(moved.devices).map(device).collect(),
        }
    }
}

fn device_name(number: u64) -> String {
    format!("device-{number}")
}

/// Enrols and starts devices; where their metrics are.
async fn start_devices(
    program: &Program,
    operator: &[(&'static str, OsString)],
    work: &Path,
    devices: u64,
    processes: &mut Processes,
) -> anyhow::Result<Vec<String>> {
    let enrol = |number| async move {
        let name = device_name(number);
        let token: Token = program.ask(&arguments(&[&"fleet", &"token", &"--org", &ORG, &"--json"]), operator).await?;
        let enrol = arguments(&[&"device", &"enroll", &"--device", &name, &"--data", &work.join(&name), &"--json"]);
        program.ask::<serde_json::Value>(&enrol, &[("HEDGEROW_TOKEN", token.token.into())]).await
    };
    stream::iter(1..=devices).map(enrol).buffer_unordered(ENROLMENTS_AT_ONCE).try_collect::<Vec<_>>().await?;

    let start = |number| async move {
        let (name, loopback) = (device_name(number), "127.0.0.1:0");
        let data = work.join(&name);
        let mut run = arguments(&[&"device", &"run", &"--data", &data, &"--poll-seconds", &"1", &"--json"]);
        for flag in ["--endpoint-listen", "--swarm-listen", "--metrics-listen"] {
            run.extend([flag.into(), loopback.into()]);
        }
        program.start::<Ready>(&name, &run).await
    };
    let mut metrics = Vec::new();
    for started in join_all((1..=devices).map(start)).await {
        let (running, ready) = started?;
        processes.devices.push(running);
        metrics.push(ready.metrics_url);
    }
    Ok(metrics)
}
