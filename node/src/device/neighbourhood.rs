//! The device among its neighbours: the interfaces are followed, peers are found, and what they are told is told.
//!
//! Not here: the swarm, see [`super::swarm`]; each of the parts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use protocol::beacon::Tag;
use protocol::gossip::message::Documents;
use protocol::name::NodeId;
use protocol::site::Surroundings;
use protocol::statement::receipt::SitePoll;
use quinn::{Connecting, Endpoint};
use rcgen::PublicKeyData as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::gossip::documents::Shared;
use super::gossip::{self, Gossiping};
use super::identity::Identity;
use super::neighbours::{Neighbour, Neighbours};
use super::swarm::SwarmHandle;
use crate::config::device::DeviceConfig;
use crate::transport::discovery::fixed::Fixed;
use crate::transport::discovery::hints::{self, Hinter};
use crate::transport::discovery::mdns::Mdns;
use crate::transport::discovery::{self, Reason, Source};
use crate::transport::{control, interfaces, quic};

/// Addresses that may wait for the swarm.
const FOUND_MAX: usize = 64;
/// Connections for gossip that may wait to be looked at; a peer that is not taken comes again.
const INCOMING_MAX: usize = 16;
/// Documents of neighbours that may wait to be checked.
const HEARD_MAX: usize = 4;
/// Polls of neighbours that may wait to be judged.
const POLLED_MAX: usize = 4;

/// What other parts of the device may look at.
pub struct View {
    /// Where this device is.
    pub surroundings: watch::Receiver<Surroundings>,
    /// The peers that are connected.
    pub neighbours: watch::Receiver<BTreeMap<NodeId, Neighbour>>,
    /// Which of them gossip with this device.
    pub gossiping: watch::Receiver<BTreeMap<NodeId, String>>,
}

/// The ends of what is gossiped.
pub struct Gossip {
    /// Where the documents in force go in.
    pub shared: watch::Sender<Arc<Shared>>,
    /// Where those of neighbours come out.
    pub heard: mpsc::Receiver<Documents>,
    /// Where their polls for the site come out.
    pub polled: mpsc::Receiver<SitePoll>,
}

/// What runs beside the swarm; it ends when this is dropped.
pub struct Neighbourhood {
    /// Where this device is.
    pub surroundings: Arc<watch::Sender<Surroundings>>,
    /// The peers that are connected.
    pub neighbours: Neighbours,
    /// Which of them gossip.
    pub gossiping: Gossiping,
    /// Takes the seed's hints, if they are followed.
    pub hinter: Option<Hinter>,
    /// Datagrams of others that came by multicast.
    pub multicast_seen: Arc<AtomicU64>,
    /// Takes the connections of peers that want to gossip.
    pub others: mpsc::Sender<Connecting>,
    incoming: Option<mpsc::Receiver<Connecting>>,
    sources: Vec<Box<dyn Source>>,
    tasks: JoinSet<()>,
}

impl Neighbourhood {
    /// Reads the interfaces, and makes the sources that `config` wants, for a device that takes connections at `listens_on`.
    ///
    /// # Errors
    /// When the system tells neither interfaces nor randomness.
    pub fn enter(config: &DeviceConfig, listens_on: SocketAddr) -> anyhow::Result<Self> {
        let interfaces = interfaces::read().context("reading the interfaces of this machine")?;
        let surroundings = Arc::new(watch::Sender::new(Surroundings { interfaces, site: config.site.clone() }));
        let multicast_seen = Arc::default();
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        let mut hinter = None;
        if config.discovery.peers {
            sources.push(Box::new(Fixed(config.peers.clone())));
        }
        if config.discovery.seed {
            let (taker, source) = hints::source();
            hinter = Some(taker);
            sources.push(Box::new(source));
        }
        if config.discovery.mdns {
            let mut tag = [0; 16];
            getrandom::fill(&mut tag).context("drawing a name for the beacons")?;
            let (surroundings, seen) = (surroundings.subscribe(), Arc::clone(&multicast_seen));
            sources.push(Box::new(Mdns { tag: Tag(tag), listens_on, surroundings, seen }));
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(interfaces::follow(surroundings.clone()));
        let (neighbours, gossiping) = (watch::Sender::new(BTreeMap::new()), watch::Sender::new(BTreeMap::new()));
        let (others, incoming) = mpsc::channel(INCOMING_MAX);
        let incoming = config.libp2p.then_some(incoming);
        Ok(Self { surroundings, neighbours, gossiping, hinter, multicast_seen, others, incoming, sources, tasks })
    }

    /// What is known of it, as it changes.
    pub fn view(&self) -> View {
        let (surroundings, neighbours) = (self.surroundings.subscribe(), self.neighbours.subscribe());
        View { surroundings, neighbours, gossiping: self.gossiping.subscribe() }
    }

    /// Finds peers for `swarm`, and starts gossip, if it is wanted.
    ///
    /// # Errors
    /// When gossip does not start.
    pub fn start(&mut self, endpoint: &Endpoint, swarm: SwarmHandle, identity: &Identity) -> anyhow::Result<Gossip> {
        let (sender, mut found) = mpsc::channel(FOUND_MAX);
        self.tasks.spawn(discovery::run(std::mem::take(&mut self.sources), self.surroundings.subscribe(), sender));
        self.tasks.spawn(async move {
            while let Some(proposal) = found.recv().await {
                swarm.learned(proposal.addresses, proposal.reason == Reason::Configured).await;
            }
        });
        let (shared, documents) = watch::channel(Arc::default());
        let (sender, heard) = mpsc::channel(HEARD_MAX);
        let (teller, polled) = mpsc::channel(POLLED_MAX);
        if let Some(incoming) = self.incoming.take() {
            let (me, seed) = identity.node();
            let parts = gossip::Parts {
                endpoint: endpoint.clone(),
                client: quic::client(&identity.credentials, control::ALPN)?,
                incoming,
                key: control::public_key(identity.credentials.key().der_bytes())?,
                me,
                seed,
                neighbours: self.neighbours.subscribe(),
                shared: documents,
                heard: sender,
                polled: teller,
                gossiping: self.gossiping.clone(),
            };
            self.tasks.spawn(gossip::start(parts)?);
        }
        Ok(Gossip { shared, heard, polled })
    }
}
