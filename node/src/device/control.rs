//! What commands on the same machine ask of a running device, over its control socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /peers` | the connected peers |
//! | `GET /swarm` | what the swarm is doing now: a [`SwarmStatus`] |
//! | `POST /grant` | applies a grant: a [`GrantApplied`] |
//! | `GET /health` | what a running device knows of its surroundings, for `device doctor` |
//!
//! Not here: the socket, see [`crate::control`]; what is made of the answers, see `cli::device`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use protocol::name::DeviceId;
use protocol::site::Surroundings;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::agent::grants::{Apply, GrantApplied};
use super::gossip::Gossiping;
use super::identity::Identity;
use super::neighbourhood::Neighbourhood;
use super::neighbours::Neighbours;
use super::swarm::SwarmHandle;
use super::swarm::status::SwarmStatus;

/// A connected peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerShown {
    /// Its name.
    pub device: DeviceId,
    /// The begin of the SHA-256 of its key, hex.
    pub node: String,
    /// Where it takes connections.
    pub address: SocketAddr,
    /// How long it has been connected.
    pub seconds: u64,
    /// Round trip, in microseconds.
    pub rtt_us: u64,
    /// Bytes received from it over this connection, headers of UDP apart.
    pub received_bytes: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// What program it says it runs, if it gossips with this device.
    pub gossips: Option<String>,
}

/// What a running device knows of its surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Where it takes connections of peers.
    pub swarm_addr: SocketAddr,
    /// The interfaces on which it looks for peers, each with its addresses.
    pub lans: Vec<String>,
    /// Datagrams of others that came by multicast; none if it does not listen for them.
    pub multicast_seen: Option<u64>,
    /// Connected peers.
    pub peers: usize,
    /// Whether its clock is trusted.
    pub clock_trusted: bool,
}

/// What the answers are made of.
#[derive(Clone)]
pub struct Sources {
    neighbours: Neighbours,
    gossiping: Gossiping,
    surroundings: Arc<watch::Sender<Surroundings>>,
    multicast_seen: Option<Arc<AtomicU64>>,
    identity: Arc<Identity>,
    swarm_addr: SocketAddr,
}

impl Sources {
    /// What is known in `neighbourhood`; `listens` says whether beacons are listened for.
    pub fn of(neighbourhood: &Neighbourhood, identity: &Arc<Identity>, swarm_addr: SocketAddr, listens: bool) -> Self {
        Self {
            neighbours: neighbourhood.neighbours.clone(),
            gossiping: neighbourhood.gossiping.clone(),
            surroundings: neighbourhood.surroundings.clone(),
            multicast_seen: listens.then(|| neighbourhood.multicast_seen.clone()),
            identity: identity.clone(),
            swarm_addr,
        }
    }

    fn peers(&self) -> Vec<PeerShown> {
        let gossiping = self.gossiping.borrow();
        let neighbours = self.neighbours.borrow();
        let shown = neighbours.iter().map(|(node, neighbour)| {
            let stats = neighbour.connection.as_ref().map(quinn::Connection::stats).unwrap_or_default();
            PeerShown {
                device: neighbour.device.clone(),
                node: node.to_string(),
                address: neighbour.listens_on,
                seconds: neighbour.since.elapsed().as_secs(),
                rtt_us: u64::try_from(stats.path.rtt.as_micros()).unwrap_or(u64::MAX),
                received_bytes: stats.udp_rx.bytes,
                sent_bytes: stats.udp_tx.bytes,
                gossips: gossiping.get(node).cloned(),
            }
        });
        let mut shown: Vec<PeerShown> = shown.collect();
        shown.sort_unstable_by(|a, b| a.device.cmp(&b.device));
        shown
    }

    fn health(&self) -> Health {
        let surroundings = self.surroundings.borrow();
        let lans = surroundings.lans().map(|lan| {
            let addresses: Vec<String> = lan.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
            format!("{} {}", lan.name, addresses.join(" "))
        });
        Health {
            swarm_addr: self.swarm_addr,
            lans: lans.collect(),
            multicast_seen: self.multicast_seen.as_ref().map(|seen| seen.load(Ordering::Relaxed)),
            peers: self.neighbours.borrow().len(),
            clock_trusted: self.identity.time().trust.is_trusted(),
        }
    }
}

/// The routes.
pub fn router(sources: Sources, swarm: SwarmHandle, grants: mpsc::Sender<Apply>) -> Router {
    let swarm = Router::new().route("/swarm", get(swarm_status)).with_state(swarm);
    let grants = Router::new().route("/grant", post(apply_grant)).with_state(grants);
    Router::new()
        .route("/peers", get(|State(sources): State<Sources>| async move { Json(sources.peers()) }))
        .route("/health", get(|State(sources): State<Sources>| async move { Json(sources.health()) }))
        .with_state(sources)
        .merge(swarm)
        .merge(grants)
}

async fn apply_grant(State(grants): State<mpsc::Sender<Apply>>, envelope: String) -> Result<Json<GrantApplied>, (StatusCode, String)> {
    let stopping = || (StatusCode::SERVICE_UNAVAILABLE, "the device is stopping".to_owned());
    let (tell, told) = oneshot::channel();
    grants.send(Apply { envelope, tell }).await.map_err(|_| stopping())?;
    match told.await {
        Ok(Ok(applied)) => Ok(Json(applied)),
        Ok(Err(refused)) => Err((StatusCode::BAD_REQUEST, refused)),
        Err(_) => Err(stopping()),
    }
}

async fn swarm_status(State(swarm): State<SwarmHandle>) -> Result<Json<SwarmStatus>, StatusCode> {
    swarm.status().await.map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}
