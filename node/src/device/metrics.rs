//! Figures about one device, for `/metrics`.
//!
//! Not here: figures about a seed; see `seed::metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::identity::Identity;
use super::swarm::link::Link;

/// What there is a sample of from the start, so that the first one that is refused shows as a change.
const EXPECTED_REFUSALS: [(&str, &str); 9] = [
    ("assignment", "bad_signature"),
    ("assignment", "expired"),
    ("assignment", "older_counter"),
    ("desired_state", "bad_signature"),
    ("desired_state", "expired"),
    ("desired_state", "older_counter"),
    ("revocations", "bad_signature"),
    ("revocations", "expired"),
    ("revocations", "older_counter"),
];

/// The figures.
#[derive(Debug, Default)]
pub struct DeviceMetrics {
    stored_from_wan: AtomicU64,
    stored_from_lan: AtomicU64,
    lan: Mutex<Lan>,
    refused_units: AtomicU64,
    stale: AtomicU64,
    refused_documents: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

/// What goes over connections to peers; counted by them, and read when somebody asks.
#[derive(Debug, Default)]
struct Lan {
    links: BTreeMap<usize, Link>,
    before: Traffic,
}

#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    received: u64,
    sent: u64,
}

impl Traffic {
    fn add(&mut self, link: &Link) {
        let (received, sent) = link.traffic();
        self.received += received;
        self.sent += sent;
    }
}

impl DeviceMetrics {
    /// A blob is whole: how many of its bytes came from where.
    pub fn add_stored(&self, wan_bytes: u64, lan_bytes: u64) {
        self.stored_from_wan.fetch_add(wan_bytes, Ordering::Relaxed);
        self.stored_from_lan.fetch_add(lan_bytes, Ordering::Relaxed);
    }

    /// A peer is connected.
    pub(crate) fn peer_joined(&self, link: &Link) {
        self.lan().links.insert(link.id(), link.clone());
    }

    /// A connection to a peer is gone.
    pub(crate) fn peer_left(&self, link: &Link) {
        let mut lan = self.lan();
        if lan.links.remove(&link.id()).is_some() {
            lan.before.add(link);
        }
    }

    /// How many peers are connected.
    pub fn peers(&self) -> usize {
        self.lan().links.len()
    }

    fn lan(&self) -> MutexGuard<'_, Lan> {
        self.lan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether for days nothing that the seed said could be accepted.
    pub fn set_stale(&self, is_stale: bool) {
        self.stale.store(u64::from(is_stale), Ordering::Relaxed);
    }

    /// A unit did not match its hash.
    pub fn count_refused_unit(&self) {
        self.refused_units.fetch_add(1, Ordering::Relaxed);
    }

    /// A signed document was refused: its kind and the reason, one word each.
    pub fn count_refused_document(&self, document: &'static str, reason: &'static str) {
        let mut refused = self.refused_documents.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry((document, reason)).or_default() += 1;
    }

    fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Reads the figures when they are asked for.
#[derive(Debug)]
pub struct DeviceCollector(pub std::sync::Arc<DeviceMetrics>);

impl Collector for DeviceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let metrics = &self.0;
        let (peers, lan) = {
            let lan = metrics.lan();
            let mut traffic = lan.before;
            lan.links.values().for_each(|link| traffic.add(link));
            (lan.links.len() as u64, traffic)
        };
        let mut refused: BTreeMap<_, _> = EXPECTED_REFUSALS.into_iter().map(|name| (name, 0)).collect();
        refused.extend(metrics.refused_documents.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let counters = [
            (
                "hedgerow_device_stored_wan_bytes",
                "Bytes of whole blobs that came over the WAN",
                DeviceMetrics::get(&metrics.stored_from_wan),
            ),
            ("hedgerow_device_stored_lan_bytes", "Bytes of whole blobs that came from peers", DeviceMetrics::get(&metrics.stored_from_lan)),
            ("hedgerow_device_lan_received_bytes", "Bytes of datagrams received from peers", lan.received),
            ("hedgerow_device_lan_sent_bytes", "Bytes of datagrams sent to peers", lan.sent),
            ("hedgerow_device_units_refused", "Units that did not match their hash", DeviceMetrics::get(&metrics.refused_units)),
            ("hedgerow_device_documents_refused", "Signed documents that were refused", refused.values().sum()),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let help = "Signed documents that were refused, by kind and reason";
        let mut refusals = encoder.encode_descriptor("hedgerow_device_refusals", help, None, MetricType::Counter)?;
        for ((document, reason), count) in refused {
            let labels = [("document", document), ("reason", reason)];
            ConstCounter::new(count).encode(refusals.encode_family(&labels)?)?;
        }
        let stale = ConstGauge::new(DeviceMetrics::get(&metrics.stale));
        let help = "1 if for 7 days nothing that the seed said could be accepted, else 0";
        stale.encode(encoder.encode_descriptor("hedgerow_device_stale", help, None, MetricType::Gauge)?)?;
        let peers = ConstGauge::new(peers);
        peers.encode(encoder.encode_descriptor("hedgerow_device_peers", "Peers connected", None, MetricType::Gauge)?)
    }
}

/// Reads when the certificate expires and whether the clock is trusted, when it is asked.
#[derive(Debug)]
pub struct IdentityCollector(pub std::sync::Arc<Identity>);

impl Collector for IdentityCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let expires = self.0.credentials.validity().until.as_unix_seconds();
        let is_trusted = self.0.time().trust.is_trusted();
        for (name, help, value) in [
            ("hedgerow_device_certificate_expires_seconds", "When the device's certificate expires, in seconds since 1970", expires),
            ("hedgerow_device_clock_trusted", "1 if the clock fits what was verified, else 0", u64::from(is_trusted)),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}
