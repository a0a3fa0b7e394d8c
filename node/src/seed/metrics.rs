//! Figures about one seed, for `/metrics`.
//!
//! Not here: figures about a device; see `device::metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::transport::meter::Meter;

/// Figures that routes raise.
#[derive(Debug, Default)]
pub struct SeedMetrics {
    blob_bytes: AtomicU64,
    polls: AtomicU64,
    reports: AtomicU64,
    enrolments: AtomicU64,
}

impl SeedMetrics {
    /// `bytes` of blobs were handed to a device's connection.
    pub fn add_blob_bytes(&self, bytes: u64) {
        self.blob_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A device polled.
    pub fn count_poll(&self) {
        self.polls.fetch_add(1, Ordering::Relaxed);
    }

    /// A device reported.
    pub fn count_report(&self) {
        self.reports.fetch_add(1, Ordering::Relaxed);
    }

    /// A device enrolled.
    pub fn count_enrolment(&self) {
        self.enrolments.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads the figures when they are asked for.
#[derive(Debug)]
pub struct SeedCollector {
    /// Raised by routes.
    pub metrics: Arc<SeedMetrics>,
    /// The device listener's sockets.
    pub device_listener: Meter,
    /// The sockets of registry and API.
    pub registry_listener: Meter,
}

impl Collector for SeedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = [
            ("hedgerow_seed_device_listener_sent_bytes", "Bytes written to sockets of the device listener", self.device_listener.written()),
            ("hedgerow_seed_device_listener_received_bytes", "Bytes read from sockets of the device listener", self.device_listener.read()),
            ("hedgerow_seed_registry_sent_bytes", "Bytes written to sockets of registry and API", self.registry_listener.written()),
            ("hedgerow_seed_registry_received_bytes", "Bytes read from sockets of registry and API", self.registry_listener.read()),
            ("hedgerow_seed_blob_bytes", "Bytes of blobs handed to connections of devices", get(&self.metrics.blob_bytes)),
            ("hedgerow_seed_polls", "Polls of devices", get(&self.metrics.polls)),
            ("hedgerow_seed_reports", "Reports of devices", get(&self.metrics.reports)),
            ("hedgerow_seed_enrolments", "Devices enrolled since the start", get(&self.metrics.enrolments)),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
