//! The whole life of a seed process: open everything, say that it is ready, run, drain.
//!
//! Not here: the settings; see [`crate::config`].

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::metrics::SeedCollector;
use super::registry::RegistryState;
use super::repositories::expiry;
use super::{api, devices, init, registry, trust};
use crate::config::seed::SeedConfig;
use crate::store::lock::DataLock;
use crate::transport::ca::CertificateAuthority;
use crate::transport::meter::Meter;
use crate::transport::tls;
use crate::{listener, telemetry};

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
    let keys = config.data.join("keys");
    let authority = CertificateAuthority::load(&keys)?;
    let online_key = keys.join("online.pem");
    anyhow::ensure!(
        online_key.exists(),
        "{} is missing; devices believe no other key, so put it back from a backup before starting the seed",
        online_key.display()
    );
    let public_tls = match config.uses_tls() {
        true => Some(Arc::new(tls::public_listener(authority.issue_server(&config.certificate_hosts(config.listen))?)?)),
        false => None,
    };
    let device_certificate = authority.issue_server(&config.certificate_hosts(config.device_listen))?;
    let device_tls = Arc::new(tls::device_listener(device_certificate, authority.certificate())?);

    let public_listener = listener::bind(config.listen, "listen in seed.toml").await?;
    let device_listener = listener::bind(config.device_listen, "device_listen in seed.toml").await?;
    let metrics_listener = listener::bind(config.metrics_listen, "--metrics-listen").await?;
    let metrics_addr = metrics_listener.local_addr()?;
    let seed = Arc::new(init::open(&config, authority)?);

    let device_meter = Meter::new(config.egress_mbit.map(|mbit| mbit.saturating_mul(1_000_000) / 8));
    let public_meter = Meter::new(None);
    let collector =
        SeedCollector { metrics: seed.metrics.clone(), device_listener: device_meter.clone(), registry_listener: public_meter.clone() };
    let registry = registry::router(RegistryState::new(seed.store.clone(), seed.blobs.clone(), seed.gate.clone()));
    let public_router = registry.merge(api::router(seed.clone()));

    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    servers.spawn(listener::serve(public_listener, public_tls, public_meter, public_router, stopped.clone()));
    servers.spawn(listener::serve(device_listener, Some(device_tls), device_meter, devices::router(seed.clone()), stopped.clone()));
    servers.spawn(listener::serve(metrics_listener, None, Meter::new(None), metrics_router(collector), stopped));
    let mut renewal = tokio::spawn(trust::keep_fresh(seed.clone()));
    let mut retention = tokio::spawn(expiry::keep_tidy(seed));
    announce(&Ready { event: "ready", url: config.url(), device_url: config.device_url(), metrics_url: metrics_url(metrics_addr) });

    let ended = tokio::select! {
        () = telemetry::stop_signal() => None,
        _ = &mut renewal => Some("the renewal of metadata"),
        _ = &mut retention => Some("the removal of expired tags"),
        _ = servers.join_next() => Some("a listener"),
    };
    tracing::info!("stopping; requests that are under way may end");
    renewal.abort();
    retention.abort();
    let _ = stop.send(true);
    while servers.join_next().await.is_some() {}
    telemetry::ended_by_itself(ended)
}

fn metrics_url(address: SocketAddr) -> String {
    format!("http://{address}/metrics")
}

fn metrics_router(collector: SeedCollector) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let registry = Arc::new(registry);
    Router::new()
        .route("/metrics", get(move || async move { telemetry::metrics(&registry) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
}
