//! Figures about one seed, for `/metrics`. Their names are a table in the README, which a test compares with the endpoint.
//!
//! Not here: requests, see [`super::recorder`]; figures about a device, see `device::metrics`.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Seed;
use super::recorder::figures::RequestFigures;
use super::registry::RegistryState;
use crate::transport::certificate::CurrentCertificate;
use crate::transport::meter::Meter;

/// Figures that routes raise.
#[derive(Debug, Default)]
pub struct SeedMetrics {
    blob_bytes: AtomicU64,
    polls: AtomicU64,
    site_polls: AtomicU64,
    reports: AtomicU64,
    refused_reports: AtomicU64,
    stale_reports: AtomicU64,
    enrolments: AtomicU64,
    garbage_runs: AtomicU64,
    garbage_files: AtomicU64,
    garbage_bytes: AtomicU64,
}

impl SeedMetrics {
    /// `bytes` of blobs were handed to a device's connection.
    pub fn add_blob_bytes(&self, bytes: u64) {
        self.blob_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A device polled, for itself alone or for others of its site too.
    pub fn count_poll(&self, for_others: bool) {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.site_polls.fetch_add(for_others.into(), Ordering::Relaxed);
    }

    /// A device reported.
    pub fn count_report(&self) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    /// A device reported that for days it could accept nothing.
    pub fn count_stale_report(&self) {
        self.stale_reports.fetch_add(1, Ordering::Relaxed);
    }

    /// A report was not signed by its device, not newer than the last one, or beyond a limit.
    pub fn count_refused_report(&self) {
        self.refused_reports.fetch_add(1, Ordering::Relaxed);
    }

    /// A run of garbage collection removed `files` files of `bytes` bytes.
    pub fn add_garbage(&self, files: u64, bytes: u64) {
        self.garbage_runs.fetch_add(1, Ordering::Relaxed);
        self.garbage_files.fetch_add(files, Ordering::Relaxed);
        self.garbage_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A device enrolled.
    pub fn count_enrolment(&self) {
        self.enrolments.fetch_add(1, Ordering::Relaxed);
    }
}

/// One of the two listeners.
#[derive(Clone, Debug)]
pub struct ListenerFigures {
    /// `registry` or `device`.
    pub name: &'static str,
    /// Its sockets.
    pub meter: Meter,
    /// Its certificate; none if it speaks plain HTTP.
    pub certificate: Option<Arc<CurrentCertificate>>,
}

/// Reads the figures when they are asked for.
pub struct SeedCollector {
    /// What routes raise, limits, and the store.
    pub seed: Arc<Seed>,
    /// Uploads and places.
    pub registry: RegistryState,
    /// Sockets and certificates.
    pub listeners: [ListenerFigures; 2],
}

impl std::fmt::Debug for SeedCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeedCollector").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// Everything that `/metrics` shows.
pub fn registry(collector: SeedCollector, requests: &RequestFigures) -> Registry {
    let mut registry = Registry::default();
    requests.register(&mut registry);
    registry.register_collector(Box::new(collector));
    registry
}

type Labelled = Vec<(&'static str, u64)>;

impl SeedCollector {
    fn of_listeners(&self, figure: impl Fn(&ListenerFigures) -> Option<u64>) -> Labelled {
        self.listeners.iter().filter_map(|listener| Some((listener.name, figure(listener)?))).collect()
    }

    fn bytes(&self) -> [(&'static str, &'static str, u64); 4] {
        let [registry, device] = &self.listeners;
        let (registry, device) = (&registry.meter, &device.meter);
        [
            ("hedgerow_seed_device_listener_sent_bytes", "Bytes written to sockets of the device listener", device.written()),
            ("hedgerow_seed_device_listener_received_bytes", "Bytes read from sockets of the device listener", device.read()),
            ("hedgerow_seed_registry_sent_bytes", "Bytes written to sockets of registry and API", registry.written()),
            ("hedgerow_seed_registry_received_bytes", "Bytes read from sockets of registry and API", registry.read()),
        ]
    }
}

impl Collector for SeedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let metrics = &self.seed.metrics;
        let counters = [
            ("hedgerow_seed_blob_bytes", "Bytes of blobs handed to connections of devices", get(&metrics.blob_bytes)),
            ("hedgerow_seed_polls", "Polls of devices", get(&metrics.polls)),
            ("hedgerow_seed_site_polls", "Those of them that a device made for others of its site too", get(&metrics.site_polls)),
            ("hedgerow_seed_reports", "Reports of devices", get(&metrics.reports)),
            ("hedgerow_seed_reports_refused", "Reports that were not signed by their device, or replayed", get(&metrics.refused_reports)),
            ("hedgerow_seed_reports_stale", "Reports of devices that could accept nothing for 7 days", get(&metrics.stale_reports)),
            ("hedgerow_seed_enrolments", "Devices enrolled since the start", get(&metrics.enrolments)),
            ("hedgerow_seed_garbage_runs", "Runs of garbage collection that ended well", get(&metrics.garbage_runs)),
            ("hedgerow_seed_garbage_files", "Files that garbage collection removed", get(&metrics.garbage_files)),
            ("hedgerow_seed_garbage_bytes", "Bytes of these files", get(&metrics.garbage_bytes)),
        ];
        for (name, help, value) in self.bytes().into_iter().chain(counters) {
            one(&mut encoder, (name, help), MetricType::Counter, &ConstCounter::new(value))?;
        }
        let size = self.seed.store.size();
        let gauges = [
            ("hedgerow_seed_uploads", "Uploads under way", self.registry.uploads_open() as u64),
            ("hedgerow_seed_bodies_waiting", "Pushes that wait for a place to be taken in", self.registry.bodies_waiting()),
            ("hedgerow_seed_journal_records", "Records in the journal since the store was made", size.changes),
            ("hedgerow_seed_records", "Records in force: tags, manifests, links, keys, devices and so on", size.records),
        ];
        for (name, help, value) in gauges {
            one(&mut encoder, (name, help), MetricType::Gauge, &ConstGauge::new(value))?;
        }
        let refused = ("hedgerow_seed_limit_refusals", "Requests refused because of a limit");
        labelled(&mut encoder, refused, "limit", MetricType::Counter, &self.seed.guard.refused())?;
        let connections = ("hedgerow_seed_connections", "Open connections");
        labelled(&mut encoder, connections, "listener", MetricType::Gauge, &self.of_listeners(|listener| Some(listener.meter.open())))?;
        let too_many = ("hedgerow_seed_connections_refused", "Connections closed at once, because too many were open");
        labelled(&mut encoder, too_many, "listener", MetricType::Counter, &self.of_listeners(|listener| Some(listener.meter.refused())))?;
        let too_slow = ("hedgerow_seed_slow_clients", "Requests and connections given up, because the client was too slow");
        labelled(&mut encoder, too_slow, "listener", MetricType::Counter, &self.of_listeners(|listener| Some(listener.meter.too_slow())))?;
        let expires = ("hedgerow_seed_certificate_expires_seconds", "When the TLS certificate expires, in seconds since 1970");
        let moments = self.of_listeners(|listener| Some(listener.certificate.as_ref()?.validity().until.as_unix_seconds()));
        labelled(&mut encoder, expires, "listener", MetricType::Gauge, &moments)
    }
}

type NameAndHelp<'a> = (&'a str, &'a str);

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): NameAndHelp<'_>,
    kind: MetricType,
    value: &dyn EncodeMetric,
) -> Result<(), Error> {
    value.encode(encoder.encode_descriptor(name, help, None, kind)?)
}

fn labelled(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): NameAndHelp<'_>,
    label: &str,
    kind: MetricType,
    values: &[(&'static str, u64)],
) -> Result<(), Error> {
    let mut descriptor = encoder.encode_descriptor(name, help, None, kind)?;
    for (of, value) in values {
        let labels = [(label, *of)];
        let encoder = descriptor.encode_family(&labels)?;
        match kind {
            MetricType::Counter => ConstCounter::new(*value).encode(encoder)?,
            _ => ConstGauge::new(*value).encode(encoder)?,
        }
    }
    Ok(())
}
