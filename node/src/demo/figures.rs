//! The demo's figures: counters read from the processes' metrics, a clock that samples them, and what is really on disk.
//!
//! Not here: how they are shown; see [`super::report`].

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use protocol::digest::Digest;
use protocol::rollout::DeviceState;
use reqwest::{Client, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::MissedTickBehavior;

use super::processes::Processes;
use crate::api::RolloutStatus;
use crate::device::seed_client::bounded;

/// Between two samples: what the figures in seconds may be wrong by.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
/// Samples between two looks at whether all processes still run.
const SAMPLES_PER_CHECK: u32 = 10;
/// The largest answer of a metrics listener: some tens of figures.
const METRICS_BYTES_MAX: usize = 256 << 10;
/// The largest answer about a rollout.
const STATUS_BYTES_MAX: usize = 64 << 10;
const HASH_BLOCK_BYTES: usize = 64 << 10;

const SEED_SENT: &str = "hedgerow_seed_device_listener_sent_bytes_total";
const SEED_BLOBS: &str = "hedgerow_seed_blob_bytes_total";
const DEVICE_LAN: &str = "hedgerow_device_lan_received_bytes_total";
const DEVICE_STORED_WAN: &str = "hedgerow_device_stored_wan_bytes_total";
const DEVICE_STORED_LAN: &str = "hedgerow_device_stored_lan_bytes_total";
const DEVICE_PEERS: &str = "hedgerow_device_peers";

/// Where the figures are.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    /// Makes requests.
    pub(super) http: Client,
    /// The seed's metrics.
    pub(super) seed_metrics: String,
    /// Each device's metrics.
    pub(super) device_metrics: Vec<String>,
    /// The rollout's status.
    pub(super) status: String,
    /// Who asks for it.
    pub(super) access_key: String,
}

/// Counters of all processes at one moment.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    sent: u64,
    blobs: u64,
    devices: Vec<DeviceCounters>,
}

#[derive(Clone, Copy, Debug)]
struct DeviceCounters {
    lan: u64,
    stored_wan: u64,
    stored_lan: u64,
}

/// What one rollout moved, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moved {
    /// Bytes that the seed wrote to sockets of its device listener.
    pub(super) wan_bytes: u64,
    /// Bytes of datagrams that devices received from each other.
    pub(super) lan_bytes: u64,
    /// From the first byte of a blob that the seed handed out to the last device.
    pub(super) seconds: f64,
    /// From the start of the rollout to the last device.
    pub(super) total_seconds: f64,
    /// For each device, bytes of its blobs from WAN and LAN.
    pub(super) devices: Vec<(u64, u64)>,
}

impl Sources {
    async fn metrics(&self, url: &str) -> anyhow::Result<String> {
        let attempt = async { bounded(self.http.get(url).send().await?.error_for_status()?, METRICS_BYTES_MAX).await };
        Ok(String::from_utf8(attempt.await.with_context(|| format!("reading {url}"))?)?)
    }

    /// The fewest peers that a device is connected to.
    pub(super) async fn fewest_peers(&self) -> anyhow::Result<u64> {
        let mut fewest = u64::MAX;
        for url in &self.device_metrics {
            fewest = fewest.min(figure(&self.metrics(url).await?, DEVICE_PEERS)?);
        }
        Ok(fewest)
    }

    async fn seed(&self) -> anyhow::Result<(u64, u64)> {
        let text = self.metrics(&self.seed_metrics).await?;
        Ok((figure(&text, SEED_SENT)?, figure(&text, SEED_BLOBS)?))
    }

    /// All counters of now, the seed's first.
    pub(super) async fn counters(&self) -> anyhow::Result<Counters> {
        let (sent, blobs) = self.seed().await?;
        let mut devices = Vec::new();
        for url in &self.device_metrics {
            let text = self.metrics(url).await?;
            let [lan, stored_wan, stored_lan] = [DEVICE_LAN, DEVICE_STORED_WAN, DEVICE_STORED_LAN].map(|name| figure(&text, name));
            devices.push(DeviceCounters { lan: lan?, stored_wan: stored_wan?, stored_lan: stored_lan? });
        }
        Ok(Counters { sent, blobs, devices })
    }

    /// The newest rollout, if there is one.
    async fn status(&self) -> anyhow::Result<Option<RolloutStatus>> {
        let response = self.http.get(&self.status).bearer_auth(&self.access_key).send().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = bounded(response.error_for_status()?, STATUS_BYTES_MAX).await?;
        Ok(Some(serde_json::from_slice(&body)?))
    }

    /// Samples from `started`, the moment of the counters `before`, until every device has stored `version`.
    ///
    /// `show` is told the bytes of blobs that the seed handed out and the devices that are done.
    pub(super) async fn watch(
        &self,
        processes: &mut Processes,
        version: u64,
        before: &Counters,
        started: Instant,
        time_max: Duration,
        show: impl Fn(u64, u64),
    ) -> anyhow::Result<Moved> {
        let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut first_byte, mut quiet, mut samples, mut done) = (None, started, 0, 0);
        loop {
            ticks.tick().await;
            let sampled = Instant::now();
            let (status, seed) = tokio::join!(self.status(), self.seed());
            let (_, blobs) = seed?;
            if blobs > before.blobs {
                first_byte.get_or_insert(quiet);
            }
            quiet = sampled;
            if let Some(status) = status.context("asking how the rollout is")?.filter(|status| status.version == version) {
                done = devices_done(&status)?;
            }
            show(blobs - before.blobs, done);
            if done == self.device_metrics.len() as u64 {
                break;
            }
            if started.elapsed() > time_max {
                let all = self.device_metrics.len();
                bail!("version {version} was stored by {done} of {all} devices after {} s\n{}", time_max.as_secs(), processes.tails());
            }
            samples += 1;
            if samples % SAMPLES_PER_CHECK == 0 {
                processes.check()?;
            }
        }
        let ended = Instant::now();
        let after = self.counters().await?;
        let (seconds, total_seconds) = (ended - first_byte.unwrap_or(started), ended - started);
        Ok(after.since(before, seconds.as_secs_f64(), total_seconds.as_secs_f64()))
    }
}

fn devices_done(status: &RolloutStatus) -> anyhow::Result<u64> {
    let count = |state| status.devices.get(&state).copied().unwrap_or(0);
    if count(DeviceState::Failed) > 0 {
        let reasons: Vec<&str> = status.failures.keys().map(String::as_str).collect();
        bail!("version {} failed on {} devices: {}", status.version, count(DeviceState::Failed), reasons.join("; "));
    }
    Ok(status.devices.iter().filter(|(state, _)| state.is_done()).map(|(_, count)| count).sum())
}

impl Counters {
    fn since(&self, before: &Self, seconds: f64, total_seconds: f64) -> Moved {
        let both = || self.devices.iter().zip(&before.devices);
        Moved {
            wan_bytes: self.sent - before.sent,
            lan_bytes: both().map(|(after, before)| after.lan.saturating_sub(before.lan)).sum(),
            seconds,
            total_seconds,
            devices: both().map(|(after, before)| (after.stored_wan - before.stored_wan, after.stored_lan - before.stored_lan)).collect(),
        }
    }
}

/// The value of the figure `name` without labels, in the OpenMetrics text format.
fn figure(text: &str, name: &str) -> anyhow::Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.split_whitespace().next());
    let value = value.with_context(|| format!("the figure {name} is missing"))?;
    value.parse().with_context(|| format!("the figure {name} is {value:?}, which is no whole number"))
}

/// Whether the blobs of `content` are all in the data directory `data`, and are what their names say.
pub(super) fn holds(data: &Path, content: &BTreeMap<Digest, u64>) -> bool {
    content.iter().all(|(digest, size)| {
        let path = data.join("blobs").join(digest.algorithm().name()).join(digest.hex());
        match hash(&path) {
            Ok(found) if found == (*digest, *size) => true,
            Ok((found, bytes)) => {
                tracing::error!(path = %path.display(), %found, bytes, "a blob is not what its name says");
                false
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a blob cannot be read");
                false
            }
        }
    })
}

fn hash(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut block = vec![0; HASH_BLOCK_BYTES];
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok((Digest::Sha256(hash.finalize().into()), size));
        }
        hash.update(&block[..count]);
        size += count as u64;
    }
}

/// The most memory that each process had in use, in bytes, where the system tells (`/proc/<pid>/status`, `VmHWM`).
pub(super) fn memory(processes: &Processes) -> BTreeMap<String, u64> {
    let others = processes.all().filter_map(|running| Some((running.name().to_owned(), running.id()?.to_string())));
    let all = others.chain([("demo".to_owned(), "self".to_owned())]);
    all.filter_map(|(name, id)| Some((name, peak_memory(&std::fs::read_to_string(format!("/proc/{id}/status")).ok()?)?))).collect()
}

fn peak_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_figure_of_exactly_that_name() {
        let text = "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\na_bytes_total 12\na_bytes_total_other 13\na 1 1700000000\nb -1\n# EOF\n";
        assert_eq!(figure(text, "a_bytes_total").unwrap(), 12);
        assert_eq!(figure(text, "a").unwrap(), 1);
        assert!(figure(text, "a_bytes").unwrap_err().to_string().contains("missing"));
        assert!(figure(text, "b").unwrap_err().to_string().contains("no whole number"));
    }

    #[test]
    fn reads_what_the_metrics_module_writes() {
        let metrics = std::sync::Arc::new(crate::device::metrics::DeviceMetrics::default());
        metrics.add_stored(3, 4);
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(crate::device::metrics::DeviceCollector(metrics)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let found = [DEVICE_STORED_WAN, DEVICE_STORED_LAN, DEVICE_LAN, DEVICE_PEERS].map(|name| figure(&text, name).unwrap());
        assert_eq!(found, [3, 4, 0, 0]);
    }

    #[test]
    fn peak_memory_is_in_bytes() {
        assert_eq!(peak_memory("Name:\tx\nVmHWM:\t   10240 kB\nVmRSS:\t 1 kB\n"), Some(10 << 20));
        assert_eq!(peak_memory("Name:\tx\n"), None);
    }

    #[test]
    fn a_blob_that_is_not_what_its_name_says_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let digest = Digest::sha256(b"good");
        let content = BTreeMap::from([(digest, 4)]);
        assert!(!holds(dir.path(), &content));
        std::fs::write(blobs.join(digest.hex()), b"good").unwrap();
        assert!(holds(dir.path(), &content));
        std::fs::write(blobs.join(digest.hex()), b"evil").unwrap();
        assert!(!holds(dir.path(), &content));
    }
}
