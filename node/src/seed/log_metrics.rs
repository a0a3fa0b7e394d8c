//! Figures about what the logs and webhooks lost or still owe.
//!
//! Not here: figures about requests; see [`super::metrics`].

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Labels: the receiver.
type Receiver = Vec<(&'static str, String)>;

/// Raised by access log, audit log and webhooks.
#[derive(Debug, Default)]
pub struct LogMetrics {
    /// Lines of the access log that found no room, or could not be written.
    pub access_dropped: Counter,
    /// Lines of the audit log that could not be written.
    pub audit_lost: Counter,
    /// Refused writes of strangers that the audit log only counts.
    pub audit_strangers: Counter,
    delivered: Family<Receiver, Counter>,
    failed: Family<Receiver, Counter>,
    dropped: Family<Receiver, Counter>,
    waiting: Family<Receiver, Gauge>,
}

/// Figures about one receiver of webhooks.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    /// Events that it took.
    pub delivered: Counter,
    /// Attempts that failed.
    pub failed: Counter,
    /// Events that it will never get.
    pub dropped: Counter,
    /// Events that wait for it.
    pub waiting: Gauge,
}

impl LogMetrics {
    /// The figures about a receiver.
    pub fn webhook(&self, name: &str) -> WebhookMetrics {
        let labels = vec![("receiver", name.to_owned())];
        WebhookMetrics {
            delivered: self.delivered.get_or_create_owned(&labels),
            failed: self.failed.get_or_create_owned(&labels),
            dropped: self.dropped.get_or_create_owned(&labels),
            waiting: self.waiting.get_or_create_owned(&labels),
        }
    }

    /// Offers the figures.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("hedgerow_seed_access_log_dropped_lines", "Lines of the access log that were dropped", &self.access_dropped),
            ("hedgerow_seed_audit_log_lost_lines", "Lines of the audit log that could not be written", &self.audit_lost),
            (
                "hedgerow_seed_audit_log_counted_strangers",
                "Refused writes without a valid key, beyond those with a line",
                &self.audit_strangers,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let families = [
            ("hedgerow_seed_webhook_delivered_events", "Events that a receiver took", &self.delivered),
            ("hedgerow_seed_webhook_failed_attempts", "Attempts to hand an event to a receiver that failed", &self.failed),
            ("hedgerow_seed_webhook_dropped_events", "Events that a receiver will never get", &self.dropped),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        registry.register("hedgerow_seed_webhook_waiting_events", "Events that wait for a receiver", self.waiting.clone());
    }
}
