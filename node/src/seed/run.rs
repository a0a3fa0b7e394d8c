//! The whole life of a seed process: open everything, say that it is ready, run, drain.
//!
//! When it is told to stop, `/readyz` says so, new connections are refused, and requests under way have
//! [`listener::DRAIN_TIME`]. An upload lives in this process and ends with it: its client is told that the upload is unknown
//! after the restart, and starts that blob again.
//!
//! Not here: the settings; see [`crate::config`].

use std::net::SocketAddr;
use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::garbage::Collector;
use super::log_metrics::LogMetrics;
use super::metrics::{self, ListenerFigures, SeedCollector};
use super::monitor::Monitor;
use super::recorder::figures::RequestFigures;
use super::recorder::{Recorder, record};
use super::registry::RegistryState;
use super::repositories::expiry;
use super::{api, devices, fleet, init, registry, trust};
use crate::config::seed::SeedConfig;
use crate::store::folders::KEYS;
use crate::store::lock::DataLock;
use crate::transport::authorities::{Authorities, CertificatesByAuthority};
use crate::transport::meter::Meter;
use crate::transport::tls;
use crate::{control, listener, telemetry};

/// Printed on one line when the seed accepts connections.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// Always `ready`.
    pub event: &'static str,
    /// Registry and API.
    pub url: String,
    /// Where devices connect.
    pub device_url: String,
    /// Metrics.
    pub metrics_url: String,
}

/// Runs the seed in `config.data` until the process is told to stop; then requests that are under way end.
///
/// # Errors
/// When something that it needs cannot be opened.
pub async fn run(config: SeedConfig, announce: impl FnOnce(&Ready)) -> anyhow::Result<()> {
    let _lock = DataLock::acquire(&config.data, "seed")?;
    let keys = config.data.join(KEYS);
    let authorities = Authorities::load(&keys)?;
    let online_key = keys.join("online.pem");
    anyhow::ensure!(
        online_key.exists(),
        "{} is missing; devices believe no other key, so put it back from a backup before starting the seed",
        online_key.display()
    );
    let certificates = Certificates::open(&config, &authorities)?;
    let public_tls = certificates.registry.clone().map(tls::public_listener).transpose()?.map(Arc::new);
    let shown = Arc::new(CertificatesByAuthority::new(authorities.all().zip(certificates.device.iter().cloned()))?);

    let public_listener = listener::bind(config.listen, "listen in seed.toml").await?;
    let device_listener = listener::bind(config.device_listen, "device_listen in seed.toml").await?;
    let metrics_listener = listener::bind(config.metrics_listen, "--metrics-listen").await?;
    let metrics_addr = metrics_listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let monitor = Monitor::new(stopped.clone());
    // It is told to stop by nobody: it answers until everything else has drained.
    let (_never, never) = watch::channel(false);
    let mut monitoring = tokio::spawn(listener::serve(metrics_listener, None, Meter::new(None), monitor.clone().router(), never));
    let settings = config.clone();
    let seed = Arc::new(tokio::task::spawn_blocking(move || init::open(&settings, authorities)).await??);
    seed.refuse_revoked().await?;
    let device_tls = Arc::new(tls::device_listener(shown, seed.admission.clone())?);

    let log_metrics = Arc::new(LogMetrics::default());
    let requests = RequestFigures::default();
    let (recorder, writers) = Recorder::start(&config, requests.clone(), &log_metrics)?;

    let device_meter = Meter::new(config.egress_mbit.map(|mbit| mbit.saturating_mul(1_000_000) / 8));
    let public_meter = Meter::new(None);
    let registry = RegistryState::new(seed.store.clone(), seed.blobs.clone(), seed.gate.clone(), seed.guard.clone());
    let listeners = [
        ListenerFigures { name: "registry", meter: public_meter.clone(), certificate: certificates.registry.clone() },
        ListenerFigures { name: "device", meter: device_meter.clone(), certificate: certificates.device.first().cloned() },
    ];
    let collector = SeedCollector { seed: seed.clone(), registry: registry.clone(), listeners };
    let mut figures = metrics::registry(collector, &requests);
    log_metrics.register(&mut figures);
    let public_router = registry::router(registry).merge(api::router(seed.clone())).layer(from_fn_with_state(recorder.clone(), record));
    let device_router = devices::router(seed.clone()).layer(from_fn_with_state(recorder.for_devices(), record));

    let mut servers = JoinSet::new();
    servers.spawn(listener::serve(public_listener, public_tls, public_meter, public_router, stopped.clone()));
    servers.spawn(listener::serve_devices(
        device_listener,
        device_tls,
        seed.admission.clone(),
        device_meter,
        device_router,
        stopped.clone(),
    ));
    let rotation = recorder.access_log().cloned().map(|log| tokio::spawn(telemetry::on_hangup(move || log.reopen())));
    let mut renewal = tokio::spawn(trust::keep_fresh(seed.clone()));
    let mut watch = tokio::spawn(fleet::watch::keep_watch(seed.clone()));
    let mut retention = tokio::spawn(expiry::keep_tidy(seed.clone(), recorder.audit_log().clone()));
    let garbage = Collector::new(seed.clone());
    let mut collection = tokio::spawn(garbage.clone().keep_clean());
    servers.spawn(control::serve_seed(config.data.clone(), garbage, stopped));
    let store = seed.store.clone();
    let mut keeping = tokio::spawn(async move { certificates.keep_current(&seed.authorities).await });
    monitor.ready(figures);
    let told_to_stop = telemetry::stop_signal();
    announce(&Ready { event: "ready", url: config.url(), device_url: config.device_url(), metrics_url: metrics_url(metrics_addr) });

    let ended = tokio::select! {
        () = told_to_stop => None,
        _ = &mut renewal => Some("the renewal of metadata"),
        _ = &mut watch => Some("the watch over rollouts"),
        _ = &mut retention => Some("the removal of expired tags"),
        _ = &mut keeping => Some("the renewal of certificates"),
        _ = &mut monitoring => Some("the listener for metrics"),
        _ = &mut collection => Some("the collection of garbage"),
        _ = servers.join_next() => Some("a listener"),
    };
    tracing::info!("stopping; requests that are under way may end");
    renewal.abort();
    watch.abort();
    retention.abort();
    keeping.abort();
    collection.abort();
    let _ = stop.send(true);
    while servers.join_next().await.is_some() {}
    writers.finish().await;
    if let Err(error) = store.settle().await {
        tracing::warn!(%error, "the next start has to catch up with the journal");
    }
    if let Some(rotation) = rotation {
        rotation.abort();
    }
    monitoring.abort();
    telemetry::ended_by_itself(ended)
}

fn metrics_url(address: SocketAddr) -> String {
    format!("http://{address}/metrics")
}
