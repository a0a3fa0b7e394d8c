//! The driver of [`protocol::gossip`], over libp2p: gossipsub carries what is told to all, a request what is asked of one,
//! identify what program the other end runs. Without it the device works as before; it hears less from its neighbours.
//!
//! | module | holds |
//! |---|---|
//! | [`documents`] | signed documents on their way between devices |
//!
//! A peer is gossiped with only while the swarm is connected with it: whoever is revoked or banned there is dropped here.
//!
//! Not here: connections, see [`crate::transport::control`]; what is believed of a document, see `device::agent`.

pub mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::identity::PublicKey;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Swarm, Transport as _, identify};
use protocol::gossip::message::{Documents, Heads, Message as _, Said};
use protocol::gossip::{self, Effect, Gossip};
use protocol::name::NodeId;
use protocol::statement::receipt::SitePoll;
use quinn::{ClientConfig, Connecting, Endpoint};
use tokio::sync::{mpsc, watch};

use super::neighbours::Neighbour;
use crate::clock::Clock;
use crate::transport::control::{ControlTransport, peer_id, to_multiaddr};
use crate::transport::quic;
use documents::{DOCUMENTS_PROTOCOL, DocumentsCodec, Shared};

/// Connections that a device has for gossip: it makes a few, and the largest of a site takes one of each of some dozens.
const CONNECTIONS_MAX: u32 = 64;
/// Handshakes for gossip at a time.
const PENDING_MAX: u32 = 16;
/// Neighbours are compared with gossip's connections this often, besides at every change.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// A neighbour that could not be called for gossip is called again after this long: it may run without.
const CALL_AGAIN: Duration = Duration::from_secs(60);
/// Connections are dropped when the swarm drops the peer, not when nothing was said for a while.
const NEVER_IDLE: Duration = Duration::from_secs(365 * 86_400);
/// Devices of a site are few: the defaults are for meshes of thousands, and never satisfied here.
const MESH: usize = 4;
const MESH_LOW: usize = 2;
const MESH_HIGH: usize = 8;
/// Bytes of the name of another end's program that are kept.
const AGENT_BYTES_MAX: usize = 64;

/// Which neighbours gossip with this device, and what program each says it runs.
pub type Gossiping = watch::Sender<BTreeMap<NodeId, String>>;

/// What the driver works with.
pub struct Parts {
    /// The device's endpoint.
    pub endpoint: Endpoint,
    /// How peers are dialled.
    pub client: ClientConfig,
    /// Connections that peers dialled.
    pub incoming: mpsc::Receiver<Connecting>,
    /// The device's public key.
    pub key: PublicKey,
    /// This node.
    pub me: NodeId,
    /// Makes random choices reproducible.
    pub seed: u64,
    /// The peers that the swarm is connected with.
    pub neighbours: watch::Receiver<BTreeMap<NodeId, Neighbour>>,
    /// The documents in force.
    pub shared: watch::Receiver<Arc<Shared>>,
    /// Takes documents of peers.
    pub heard: mpsc::Sender<Documents>,
    /// Takes what is said of polls that peers made for the site.
    pub polled: mpsc::Sender<SitePoll>,
    /// Is told who gossips.
    pub gossiping: Gossiping,
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct Behaviour {
    limits: connection_limits::Behaviour,
    gossip: gossipsub::Behaviour,
    documents: request_response::Behaviour<DocumentsCodec>,
    identify: identify::Behaviour,
}

impl Behaviour {
    fn new(key: PublicKey) -> anyhow::Result<Self> {
        let limits = ConnectionLimits::default()
            .with_max_established(Some(CONNECTIONS_MAX))
            .with_max_established_per_peer(Some(1))
            .with_max_pending_incoming(Some(PENDING_MAX))
            .with_max_pending_outgoing(Some(PENDING_MAX));
        let config = gossipsub::ConfigBuilder::default()
            .mesh_n(MESH)
            .mesh_n_low(MESH_LOW)
            .mesh_n_high(MESH_HIGH)
            .mesh_outbound_min(1)
            .max_transmit_size(Said::BYTES_MAX + (4 << 10))
            .validation_mode(ValidationMode::Permissive)
            .build()?;
        // Who sent a message is proven by the connection it came over; what it says is checked by asking. So a key in hardware
        // need not sign each of them.
        let author = MessageAuthenticity::Author(key.to_peer_id());
        let gossip = gossipsub::Behaviour::new(author, config).map_err(|error| anyhow::anyhow!("gossipsub: {error}"))?;
        let identify = identify::Config::new("hedgerow/1".to_owned(), key)
            .with_agent_version(concat!("hedgerow/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_hide_listen_addrs(true);
        let documents = request_response::Config::default().with_request_timeout(documents::ANSWER_TIME);
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            gossip,
            documents: request_response::Behaviour::new([(DOCUMENTS_PROTOCOL, ProtocolSupport::Full)], documents),
            identify: identify::Behaviour::new(identify),
        })
    }
}

/// Starts the driver, which runs until it is aborted.
///
/// # Errors
/// When libp2p does not take its settings.
pub fn start(parts: Parts) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let listens_on = parts.endpoint.local_addr().context("the swarm's address")?;
    let transport = ControlTransport::new(parts.endpoint, parts.client, parts.incoming)
        .map(|(peer, muxer), _| (peer, libp2p::core::muxing::StreamMuxerBox::new(muxer)))
        .boxed();
    let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(NEVER_IDLE);
    let peer = parts.key.to_peer_id();
    let mut swarm = Swarm::new(transport, Behaviour::new(parts.key)?, peer, config);
    swarm.listen_on(to_multiaddr(listens_on)).context("libp2p does not listen")?;
    let topic = IdentTopic::new("hedgerow-site/2");
    swarm.behaviour_mut().gossip.subscribe(&topic).context("libp2p does not subscribe")?;
    let clock = Clock::start();
    let driver = Driver {
        swarm,
        topic,
        clock,
        machine: Gossip::new(clock.now(), parts.seed),
        polled_ms: None,
        me: parts.me,
        nodes: BTreeMap::new(),
        strangers: BTreeSet::new(),
        failed: BTreeMap::new(),
        neighbours: parts.neighbours,
        shared: parts.shared,
        heard: parts.heard,
        polled: parts.polled,
        gossiping: parts.gossiping,
    };
    Ok(driver.run())
}

struct Driver {
    swarm: Swarm<Behaviour>,
    topic: IdentTopic,
    clock: Clock,
    machine: Gossip,
    /// The poll for the site that the machine was told of last.
    polled_ms: Option<u64>,
    me: NodeId,
    /// The neighbours in both words.
    nodes: BTreeMap<PeerId, NodeId>,
    /// Who was connected here at the last comparison, but not with the swarm.
    strangers: BTreeSet<PeerId>,
    /// Neighbours that could not be called, and when.
    failed: BTreeMap<NodeId, tokio::time::Instant>,
    neighbours: watch::Receiver<BTreeMap<NodeId, Neighbour>>,
    shared: watch::Receiver<Arc<Shared>>,
    heard: mpsc::Sender<Documents>,
    polled: mpsc::Sender<SitePoll>,
    gossiping: Gossiping,
}

impl Driver {
    async fn run(mut self) {
        let mut compare = tokio::time::interval(COMPARE_EVERY);
        self.take_shared();
        loop {
            let timer = tokio::time::sleep_until(self.clock.to_tokio(self.machine.poll_timeout()));
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                Ok(()) = self.neighbours.changed() => self.compare(false),
                _ = compare.tick() => self.compare(true),
                Ok(()) = self.shared.changed() => self.take_shared(),
                () = timer => self.machine.handle_timeout(self.clock.now()),
            }
            while let Some(effect) = self.machine.poll_effect() {
                self.carry_out(effect);
            }
        }
    }

    /// Tells the machine what is in force, and of a poll that it was not told of yet.
    fn take_shared(&mut self) {
        let (shared, now) = (self.shared.borrow_and_update().clone(), self.clock.now());
        self.machine.on_own(now, shared.heads.clone());
        if let Some(online) = &shared.online {
            self.machine.on_online(online.clone());
        }
        if let Some(receipt) = shared.polled.clone().filter(|receipt| self.polled_ms != Some(receipt.at_ms)) {
            self.polled_ms = Some(receipt.at_ms);
            self.machine.on_polled(now, receipt);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Tell(said) => {
                let Some(bytes) = said.encode() else { return };
                if let Err(error) = self.swarm.behaviour_mut().gossip.publish(self.topic.clone(), bytes) {
                    tracing::debug!(%error, "nobody was told of the documents in force");
                }
            }
            Effect::SitePolled(poll) => {
                // If the agent is behind, it asks the seed itself before long.
                let _ = self.polled.try_send(poll);
            }
            Effect::Ask(node, heads) => {
                let peer = self.nodes.iter().find(|(_, known)| **known == node).map(|(peer, _)| *peer);
                if let Some(peer) = peer.filter(|peer| self.swarm.is_connected(peer)) {
                    self.swarm.behaviour_mut().documents.send_request(&peer, heads);
                }
            }
        }
    }

    /// Compares gossip's connections with the swarm's: calls who is missing, drops who does not belong.
    fn compare(&mut self, periodically: bool) {
        let neighbours = self.neighbours.borrow_and_update().clone();
        let named = neighbours.iter().filter_map(|(node, neighbour)| {
            let certificate = quic::certificate(neighbour.connection.as_ref()?).ok()?;
            Some((peer_id(&certificate).ok()?, *node))
        });
        let before = std::mem::replace(&mut self.nodes, named.collect());
        for (peer, node) in before {
            if !self.nodes.contains_key(&peer) {
                self.machine.on_left(node);
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
        if periodically {
            let connected = self.swarm.connected_peers().filter(|peer| !self.nodes.contains_key(peer)).copied();
            let strangers: BTreeSet<PeerId> = connected.collect();
            for stranger in strangers.intersection(&self.strangers) {
                let _ = self.swarm.disconnect_peer_id(*stranger);
            }
            self.strangers = strangers;
        }
        self.failed.retain(|node, at| at.elapsed() < CALL_AGAIN && neighbours.contains_key(node));
        for node in gossip::calls(&self.me, neighbours.keys()) {
            let peer = self.nodes.iter().find(|(_, known)| **known == node).map(|(peer, _)| *peer);
            let (Some(peer), Some(neighbour)) = (peer, neighbours.get(&node)) else { continue };
            if self.failed.contains_key(&node) || self.swarm.is_connected(&peer) {
                continue;
            }
            let call = DialOpts::peer_id(peer)
                .addresses(vec![to_multiaddr(neighbour.listens_on)])
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            if let Err(error) = self.swarm.dial(call) {
                tracing::debug!(%error, "a neighbour was not called for gossip");
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { .. } => self.machine.on_joined(self.clock.now()),
            SwarmEvent::ConnectionClosed { peer_id, .. } => {
                if let Some(node) = self.nodes.get(&peer_id) {
                    self.machine.on_left(*node);
                    self.gossiping.send_modify(|known| drop(known.remove(node)));
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%error, "a neighbour does not gossip");
                if let Some(node) = self.nodes.get(&peer) {
                    self.failed.insert(*node, tokio::time::Instant::now());
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => tracing::debug!(%error, "somebody was not let in to gossip"),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message, .. })) => {
                self.on_heard(&propagation_source, &message.data);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                if let Some(node) = self.nodes.get(&peer_id) {
                    let agent: String = info.agent_version.chars().filter(char::is_ascii_graphic).take(AGENT_BYTES_MAX).collect();
                    self.gossiping.send_modify(|known| drop(known.insert(*node, agent)));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Documents(request_response::Event::Message { message, .. })) => {
                self.on_documents(message);
            }
            _ => {}
        }
    }

    fn on_heard(&mut self, from: &PeerId, bytes: &[u8]) {
        let Some(node) = self.nodes.get(from) else { return };
        match Said::decode(bytes) {
            Some(said) => self.machine.on_heard(self.clock.now(), *node, &said),
            None => tracing::debug!(%node, "a neighbour gossiped what is no message"),
        }
    }

    fn on_documents(&mut self, message: request_response::Message<Heads, Documents>) {
        match message {
            request_response::Message::Request { request, channel, .. } => {
                let newer = self.shared.borrow().newer_than(&request);
                let _ = self.swarm.behaviour_mut().documents.send_response(channel, newer);
            }
            request_response::Message::Response { response, .. } => {
                // If the last ones are still being checked, these are asked for again.
                let _ = self.heard.try_send(response);
            }
        }
    }
}
