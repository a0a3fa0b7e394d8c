//! The whole life of a device process: open everything, say that it is ready, run, stop in order.
//!
//! Not here: the settings; see [`crate::config`].

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use prometheus_client::registry::Registry;
use protocol::statement::TrustToken;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::agent::grants::Apply;
use super::endpoint::{Catalogue, EndpointState};
use super::hook::Hook;
use super::identity::Identity;
use super::metrics::{DeviceCollector, DeviceMetrics, IdentityCollector};
use super::neighbourhood::{Gossip, Neighbourhood};
use super::seed_client::SeedClient;
use super::signer::ReportSigner;
use super::state::{DeviceDir, Enrolment, Ports, Progress};
use super::swarm::recorded::Recording;
use super::{agent, control, endpoint, renewal, swarm};
use crate::config::device::DeviceConfig;
use crate::store::blobs::BlobStore;
use crate::store::lock::DataLock;
use crate::transport::control::ALPN as CONTROL_ALPN;
use crate::transport::meter::Meter;
use crate::transport::quic;
use crate::trust::VerifiedRepository;
use crate::{files, listener, telemetry};

/// The agent may take this long to note durably that a start was cut short.
const STOP_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// Printed on one line when the device accepts connections.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// Always `ready`.
    pub event: &'static str,
    /// The device's name.
    pub device: String,
    /// The local registry.
    pub endpoint_url: String,
    /// Where peers connect.
    pub swarm_addr: SocketAddr,
    /// Metrics.
    pub metrics_url: String,
}

impl Ready {
    fn of(config: &DeviceConfig, enrolment: &Enrolment, ports: Ports, swarm_addr: SocketAddr) -> Self {
        Self {
            event: "ready",
            device: enrolment.device.to_string(),
            endpoint_url: format!("http://{}", SocketAddr::new(config.endpoint_listen.ip(), ports.endpoint)),
            swarm_addr,
            metrics_url: format!("http://{}/metrics", SocketAddr::new(config.metrics_listen.ip(), ports.metrics)),
        }
    }
}

/// Runs the device in `config.data` until the process is told to stop.
///
/// # Errors
/// When something that it needs cannot be opened.
pub async fn run(mut config: DeviceConfig, token: TrustToken, announce: impl FnOnce(&Ready)) -> anyhow::Result<()> {
    let dir = DeviceDir::new(&config.data);
    let enrolment = dir.enrolment()?;
    let _lock = DataLock::acquire(&config.data, "device")?;
    let (mut progress, activation) = (dir.progress()?, dir.activation()?);
    let blobs = BlobStore::open(&config.data)?;
    let partial_dir = dir.join("partial");
    files::create_private_dir(&partial_dir)?;
    let repository = VerifiedRepository::open(&dir.join("trust"), &enrolment.org, files::read_text(&dir.join("root.json"))?.as_bytes())?;

    let identity = Arc::new(Identity::open(&dir, repository.root(), repository.timestamp_expires())?);
    let (me, seed) = identity.node();

    let Doors { quic_endpoint, registry_listener, metrics_listener, swarm_addr } =
        Doors::open(&mut config, &identity, &dir, &mut progress).await?;
    let client = Arc::new(SeedClient::new(identity.credentials.clone(), &enrolment.device_url)?);
    let metrics = Arc::new(DeviceMetrics::default());
    let catalogue = Arc::new(RwLock::new(Catalogue::default()));
    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    let offered = endpoint::router(EndpointState { catalogue: catalogue.clone(), blobs: blobs.clone() });
    servers.spawn(listener::serve(registry_listener, None, Meter::new(None), offered, stopped.clone()));
    servers.spawn(listener::serve(metrics_listener, None, Meter::new(None), metrics_router(&metrics, &identity), stopped.clone()));

    let mut neighbourhood = Neighbourhood::enter(&config, swarm_addr)?;
    let parts = swarm::Parts {
        endpoint: quic_endpoint.clone(),
        me,
        seed,
        credentials: identity.credentials.clone(),
        client: client.clone(),
        blobs: blobs.clone(),
        partial_dir,
        metrics: metrics.clone(),
        surroundings: neighbourhood.surroundings.subscribe(),
        neighbours: neighbourhood.neighbours.clone(),
        others: neighbourhood.others.clone(),
        recording: config.record.as_deref().and_then(Recording::begin),
    };
    let (handle, news, mut swarm) = swarm::start(parts);
    let grants = answer_commands(&config, &neighbourhood, &identity, swarm_addr, &handle, &mut servers, &stop);
    serve_https(&config, swarm_addr, &identity, &handle, &mut servers, &stop).await?;
    let Gossip { shared, heard, polled } = neighbourhood.start(&quic_endpoint, handle.clone(), &identity)?;
    let ready = Ready::of(&config, &enrolment, progress.ports, swarm_addr);
    let mut renewal = tokio::spawn(renewal::run(dir.clone(), identity.clone(), client.clone(), seed));
    let parts = agent::Parts {
        signer: ReportSigner::new(&enrolment, identity.credentials.clone()),
        hook: hook_of(&config, &enrolment, ready.endpoint_url.clone()),
        dir,
        identity,
        enrolment,
        progress,
        client,
        repository,
        token,
        blobs,
        swarm: handle,
        catalogue,
        metrics,
        interval: config.poll_interval,
        seed,
        port: swarm_addr.port(),
        listens_on: swarm_addr.ip(),
        site: config.site,
        neighbourhood: neighbourhood.view(),
        hinter: neighbourhood.hinter.clone(),
        shared,
        heard,
        grants,
        labels: config.labels,
        activation,
    };
    let mut agent = tokio::spawn(agent::run(parts, news, polled, stopped));
    let told_to_stop = telemetry::stop_signal();
    announce(&ready);

    let ended = tokio::select! {
        () = told_to_stop => None,
        _ = &mut agent => Some("the agent"),
        _ = &mut swarm => Some("the swarm"),
        _ = &mut renewal => Some("the renewal of the certificate"),
        _ = servers.join_next() => Some("a listener"),
    };
    tracing::info!("stopping");
    renewal.abort();
    let _ = stop.send(true);
    end(&mut agent).await;
    swarm.abort();
    drop(neighbourhood);
    quic_endpoint.close(0u8.into(), b"stopping");
    while servers.join_next().await.is_some() {}
    quic_endpoint.wait_idle().await;
    telemetry::ended_by_itself(ended)
}

/// Answers commands on this machine; the grants that they apply.
fn answer_commands(
    config: &DeviceConfig,
    neighbourhood: &Neighbourhood,
    identity: &Arc<Identity>,
    swarm_addr: SocketAddr,
    handle: &swarm::SwarmHandle,
    servers: &mut JoinSet<()>,
    stop: &watch::Sender<bool>,
) -> mpsc::Receiver<Apply> {
    let told = control::Sources::of(neighbourhood, identity, swarm_addr, config.discovery.mdns);
    let (grants_in, grants) = mpsc::channel(1);
    let router = control::router(told, handle.clone(), grants_in);
    servers.spawn(crate::control::serve(config.data.clone(), router, stop.subscribe()));
    grants
}

/// Serves peers that QUIC does not reach.
async fn serve_https(
    config: &DeviceConfig,
    swarm_addr: SocketAddr,
    identity: &Identity,
    handle: &swarm::SwarmHandle,
    servers: &mut JoinSet<()>,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<()> {
    let swarm_tcp = SocketAddr::new(config.swarm_listen.ip(), swarm_addr.port());
    match listener::bind(swarm_tcp, "--swarm-listen").await {
        Ok(tcp) => {
            let tls = Arc::new(identity.credentials.peer_server(&[b"http/1.1"])?);
            let admission = identity.admission().clone();
            servers.spawn(listener::serve_devices(tcp, tls, admission, Meter::new(None), handle.router(), stop.subscribe()));
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "peers that QUIC does not reach cannot fetch from this device over HTTPS");
        }
    }
    Ok(())
}

/// Where the device is reached.
struct Doors {
    quic_endpoint: quinn::Endpoint,
    registry_listener: TcpListener,
    metrics_listener: TcpListener,
    swarm_addr: SocketAddr,
}

impl Doors {
    /// Opens them at the ports of the last run, if `config` leaves the choice, and keeps new ones.
    async fn open(config: &mut DeviceConfig, identity: &Identity, dir: &DeviceDir, progress: &mut Progress) -> anyhow::Result<Self> {
        progress.ports.fill(config);
        let others: &[&[u8]] = if config.libp2p { &[CONTROL_ALPN] } else { &[] };
        let quic_endpoint = quic::open(&identity.credentials, config.swarm_listen, others)?;
        let registry_listener = listener::bind(config.endpoint_listen, "--endpoint-listen").await?;
        let metrics_listener = listener::bind(config.metrics_listen, "--metrics-listen").await?;
        let swarm_addr = quic_endpoint.local_addr().context("the swarm's address")?;
        let ports = Ports { endpoint: port(&registry_listener)?, swarm: swarm_addr.port(), metrics: port(&metrics_listener)? };
        if ports != progress.ports {
            progress.ports = ports;
            dir.keep_progress(progress)?;
        }
        Ok(Self { quic_endpoint, registry_listener, metrics_listener, swarm_addr })
    }
}

/// Waits until the agent, which has been told to stop, has; not for ever.
async fn end(agent: &mut JoinHandle<()>) {
    if !agent.is_finished() && tokio::time::timeout(STOP_TIME, &mut *agent).await.is_err() {
        agent.abort();
    }
}

fn hook_of(config: &DeviceConfig, enrolment: &Enrolment, endpoint_url: String) -> Option<Hook> {
    let command = config.activate_hook.clone()?;
    let blobs = config.data.join("blobs").join("sha256");
    let blobs = std::path::absolute(&blobs).unwrap_or(blobs);
    Some(Hook { command, limit: config.activate_time, org: enrolment.org.clone(), blobs, endpoint_url })
}

fn metrics_router(metrics: &Arc<DeviceMetrics>, identity: &Arc<Identity>) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(DeviceCollector(metrics.clone())));
    registry.register_collector(Box::new(IdentityCollector(identity.clone())));
    let registry = Arc::new(registry);
    Router::new()
        .route("/metrics", get(move || async move { telemetry::metrics(&registry) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
}

fn port(listener: &TcpListener) -> anyhow::Result<u16> {
    Ok(listener.local_addr().context("the listener's address")?.port())
}
