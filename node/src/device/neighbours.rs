//! The peers that are connected, for the parts of the device that are not the swarm: who gossips with them, and who is asked
//! about them on this machine.
//!
//! Not here: how they came to be connected; see [`super::swarm`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use protocol::name::{DeviceId, NodeId};
use quinn::Connection;
use tokio::sync::watch;

/// A connected peer.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Its name.
    pub device: DeviceId,
    /// The connection; none where HTTPS is used.
    pub connection: Option<Connection>,
    /// Where it takes connections.
    pub listens_on: SocketAddr,
    /// When it was connected.
    pub since: Instant,
}

/// All of them; whoever subscribes is told of changes.
pub type Neighbours = watch::Sender<BTreeMap<NodeId, Neighbour>>;
