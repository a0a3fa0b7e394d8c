//! Webhooks: receivers that are told of pushes, mounts, deletions and, if they ask for it, pulls.
//!
//! | module | holds |
//! |---|---|
//! | [`event`] | what is sent |
//! | [`delivery`] | how it reaches one receiver |
//!
//! Each receiver has a queue of its own, and gets its events in the order in which they were answered. An event that it does not
//! take is sent again, after waits that double up to a minute, for as long as the seed runs; a receiver is never given up.
//! Events for which the queue has no room are dropped, counted and logged, and so are those that a receiver refuses for good
//! (400, 413, 422). Queues are in memory: what waits when the seed ends is lost after [`DRAIN_TIME`], with `kill -9` at once.
//! A receiver that must not miss anything reads the audit log too.
//!
//! Not here: what happened; see [`super::activity`].

pub mod delivery;
pub mod event;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::name::RepositoryName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::activity::Activity;
use super::log_metrics::{LogMetrics, WebhookMetrics};
use crate::config::logs::{EventKind, WebhookConfig};
use event::{Origin, Source};

/// When the seed stops, events that wait have this long to be taken.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The receivers of one seed.
#[derive(Debug)]
pub struct Webhooks {
    receivers: Vec<Receiver>,
    source: Source,
    /// Where the registry is found.
    url: String,
    wants_pulls: bool,
}

#[derive(Debug)]
struct Receiver {
    config: WebhookConfig,
    queue: mpsc::Sender<bytes::Bytes>,
    metrics: WebhookMetrics,
    overflowing: AtomicBool,
}

/// The tasks that hand events over.
#[derive(Debug)]
pub struct Deliveries {
    stop: watch::Sender<bool>,
    tasks: Vec<(String, WebhookMetrics, JoinHandle<()>)>,
}

impl Webhooks {
    /// Starts a queue and a task for each receiver. `url` is where the registry is found, `listen` its socket.
    ///
    /// # Errors
    /// When a CA file cannot be read, or the system has no random numbers.
    pub fn start(configs: Vec<WebhookConfig>, url: String, listen: String, metrics: &LogMetrics) -> anyhow::Result<(Self, Deliveries)> {
        let (stop, stopped) = watch::channel(false);
        let source = Source { addr: listen, instance: event::uuid()? };
        let wants_pulls = configs.iter().any(|config| config.file.events.contains(&EventKind::Pull));
        let (mut receivers, mut tasks) = (Vec::new(), Vec::new());
        for config in configs {
            let (queue, events) = mpsc::channel(config.file.queue_events);
            let (client, metrics) = (delivery::client(&config)?, metrics.webhook(&config.name()));
            let task = tokio::spawn(delivery::deliver(config.clone(), client, metrics.clone(), events, stopped.clone()));
            tasks.push((config.name(), metrics.clone(), task));
            receivers.push(Receiver { config, queue, metrics, overflowing: AtomicBool::new(false) });
        }
        Ok((Self { receivers, source, url, wants_pulls }, Deliveries { stop, tasks }))
    }

    /// Whether anybody wants to be told of pulls.
    pub const fn wants_pulls(&self) -> bool {
        self.wants_pulls
    }

    /// Whether somebody wants to be told of this.
    pub fn wants(&self, activity: &Activity) -> bool {
        self.receivers.iter().any(|receiver| receiver.wants(activity))
    }

    /// Tells those who want to know.
    pub fn tell(&self, activity: &Activity, time: jiff::Timestamp, actor: Option<&str>, request: &Origin) {
        match event::envelopes(activity, time, actor, request, &self.source, &self.url) {
            Ok(envelopes) => {
                for receiver in self.receivers.iter().filter(|receiver| receiver.wants(activity)) {
                    envelopes.iter().for_each(|envelope| receiver.add(envelope.clone()));
                }
            }
            Err(error) => tracing::error!(%error, "an event cannot be made"),
        }
    }
}

impl Receiver {
    fn wants(&self, activity: &Activity) -> bool {
        let kind = event::kind(activity.action).is_some_and(|kind| self.config.file.events.contains(&kind));
        let patterns = &self.config.file.repositories;
        let is_meant = |name: &RepositoryName| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name));
        kind && activity.repository.as_ref().is_some_and(is_meant)
    }

    fn add(&self, envelope: bytes::Bytes) {
        self.metrics.waiting.inc();
        if self.queue.try_send(envelope).is_ok() {
            if self.queue.capacity() > self.queue.max_capacity() / 2 {
                self.overflowing.store(false, Ordering::Relaxed);
            }
            return;
        }
        self.metrics.waiting.dec();
        self.metrics.dropped.inc();
        if !self.overflowing.swap(true, Ordering::Relaxed) {
            let (receiver, events) = (self.config.name(), self.queue.max_capacity());
            tracing::warn!(
                receiver,
                events,
                "too many events wait for a receiver of webhooks; further ones are dropped until it takes some"
            );
        }
    }
}

impl Deliveries {
    /// Gives the receivers a last chance to take what waits.
    pub async fn finish(self) {
        let _ = self.stop.send(true);
        let deadline = Instant::now() + DRAIN_TIME;
        for (receiver, metrics, mut task) in self.tasks {
            if timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
                let events = metrics.waiting.get();
                tracing::warn!(receiver, events, "the seed stops; these events were not taken and are lost");
            }
        }
    }
}

#[cfg(test)]
mod tests;
