//! The driver of [`protocol::swarm`] and [`protocol::dialer`]: it carries out what they decide, and tells them what happened.
//!
//! | module | holds |
//! |---|---|
//! | [`connections`] | dialling, accepting and greeting peers |
//! | [`content`] | which bytes are where on this device |
//! | [`storing`] | opening, checking and rechecking blobs |
//! | [`fetch`] | bringing units, verified before they are written |
//! | [`serve`] | sending units to peers |
//! | [`https`], [`session`] | the same over HTTPS, where no UDP comes through |
//! | [`link`] | the way to a peer, whichever it is |
//! | [`status`] | what is shown of all that |
//! | [`buffers`], [`windows`] | memory for bytes in flight |
//! | [`recorded`] | the machine, and a recording of what it hears and wants |
//!
//! Not here: decisions.

mod buffers;
mod connections;
mod content;
mod fetch;
mod https;
pub(crate) mod link;
pub mod recorded;
mod serve;
mod session;
pub mod status;
mod storing;
#[cfg(test)]
mod tests;
mod windows;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use protocol::agent::content::Proof;
use protocol::dialer::Dialer;
use protocol::digest::Digest;
use protocol::geometry::{Geometry, UNIT_BYTES};
use protocol::identity::standing::{Purpose, Standing};
use protocol::name::NodeId;
use protocol::rollout::Fetched;
use protocol::site::{Surroundings, is_link_local};
use protocol::swarm::{AskId, Effect, Event, FetchId, Input, Source, memory};
use protocol::time::Instant;
use protocol::verify::UnitProof;
use protocol::wire::Message;
use protocol::wire::limits::ADDRESSES_MAX;
use quinn::{Connecting, Endpoint};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::metrics::DeviceMetrics;
use super::neighbours::Neighbours;
use super::seed_client::SeedClient;
use crate::clock::Clock;
use crate::store::blobs::BlobStore;
use crate::transport::admission::Admission;
use crate::transport::credentials::DeviceCredentials;
use buffers::Buffers;
use connections::{Greeting, Peer};
use content::{Content, Held};
use https::Web;
use recorded::{Recorded, Recording};
use serve::{Ask, Decision};
use status::SwarmStatus;
use windows::{Way, Windows};

/// Inputs that may wait for the machine; whoever has one more waits itself.
const COMMANDS_MAX: usize = 256;
/// Inputs that are taken at a time: what they demand is carried out once.
const COMMANDS_AT_ONCE: usize = 32;
/// A blob whose files cannot be opened, because the disk failed or is full, is tried again after this long.
const OPEN_RETRY: Duration = Duration::from_secs(5);
/// Said to a peer whose key was revoked.
const REVOKED: &str = "revoked";
/// Open connections are looked at this often: the time of a certificate may have ended.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// News that may wait for the agent.
const NEWS_MAX: usize = 256;

/// What the swarm tells the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A wanted blob is stored and verified; what was fetched of it in this run.
    Stored(Digest, Fetched),
    /// A hash list that was stored cannot be used.
    ListUnusable(Digest),
}

/// What the swarm is told.
pub(crate) enum Command {
    /// The agent wants a blob.
    Want { blob: Digest, size: u64, proof: Proof },
    /// The agent does not want it any more.
    Unwant { blob: Digest },
    /// A peer may be found there.
    Learned { addresses: Vec<SocketAddr>, configured: bool },
    /// Something happened outside.
    Happened(Input),
    /// Units were verified and stored.
    Stored { fetch: FetchId, proofs: Vec<UnitProof> },
    /// A request of a peer is over.
    Served { ask: AskId, too_slow: bool },
    /// A blob's files are open, or could not be opened, for a want with this number.
    Opened { blob: Digest, want: u64, opened: Result<content::Opened, String> },
    /// A blob whose files could not be opened is to be tried again, if the want with this number still stands.
    TryAgain { blob: Digest, want: u64 },
    /// Somebody wants to know what the swarm is doing.
    Status(oneshot::Sender<SwarmStatus>),
    /// A peer greeted.
    Greeted(Box<Greeting>),
    /// Dialling failed.
    DialFailed { address: SocketAddr, refused: bool },
    /// A connection is gone.
    Closed { peer: NodeId, connection: usize },
    /// A peer asks for units.
    Asked(Ask),
    /// How is a blob cut, if this device holds some of it?
    Geometry { blob: Digest, tell: oneshot::Sender<Option<Geometry>> },
    /// What is stored of a blob was hashed again: whether it is sound, or the disk's error.
    Rechecked { blob: Digest, sound: Result<bool, String> },
}

/// The way to the driver from other parts of the device.
#[derive(Clone)]
pub struct SwarmHandle {
    commands: mpsc::Sender<Command>,
    web: Arc<Web>,
}

impl SwarmHandle {
    /// Wants a blob, or no longer.
    pub async fn want(&self, blob: Digest, size: u64, proof: Proof) {
        self.send(Command::Want { blob, size, proof }).await;
    }

    /// Does not want a blob any more.
    pub async fn unwant(&self, blob: Digest) {
        self.send(Command::Unwant { blob }).await;
    }

    /// Peers may be found at `addresses`.
    pub async fn learned(&self, addresses: Vec<SocketAddr>, configured: bool) {
        self.send(Command::Learned { addresses, configured }).await;
    }

    /// What the swarm is doing now; nothing if it has stopped.
    pub async fn status(&self) -> Option<SwarmStatus> {
        let (tell, told) = oneshot::channel();
        self.send(Command::Status(tell)).await;
        told.await.ok()
    }

    /// What peers ask for over HTTPS, on the TCP port with the endpoint's number.
    pub fn router(&self) -> Router {
        https::router(self.web.clone())
    }

    async fn send(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the swarm has stopped");
        }
    }
}

/// What the driver works with.
pub struct Parts {
    /// The QUIC endpoint.
    pub endpoint: Endpoint,
    /// This node.
    pub me: NodeId,
    /// Makes random choices reproducible.
    pub seed: u64,
    /// Who this device is, and whom it trusts.
    pub credentials: Arc<DeviceCredentials>,
    /// Requests to the seed.
    pub client: Arc<SeedClient>,
    /// Whole blobs.
    pub blobs: BlobStore,
    /// Where partial blobs are kept.
    pub partial_dir: std::path::PathBuf,
    /// Figures about this device.
    pub metrics: Arc<DeviceMetrics>,
    /// Where this device is.
    pub surroundings: watch::Receiver<Surroundings>,
    /// Is told of the peers that are connected.
    pub neighbours: Neighbours,
    /// Takes the connections of peers that speak another protocol than the swarm's.
    pub others: mpsc::Sender<Connecting>,
    /// Where the machine's life is recorded, if it is.
    pub recording: Option<Recording>,
}

/// Starts the driver, which runs until it is aborted.
pub fn start(parts: Parts) -> (SwarmHandle, mpsc::Receiver<News>, JoinHandle<()>) {
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let (news, agent) = mpsc::channel(NEWS_MAX);
    let clock = Clock::start();
    let port = parts.endpoint.local_addr().map_or(0, |address| address.port());
    let web = Arc::new(Web::new(parts.credentials.clone(), port, commands.clone()));
    let driver = Driver {
        swarm: Recorded::new(clock.now(), parts.me, parts.seed, parts.recording),
        dialer: Dialer::new(parts.me, parts.seed),
        clock,
        content: Content::new(parts.blobs.clone(), parts.partial_dir),
        commands: commands.clone(),
        peers: BTreeMap::new(),
        fetches: BTreeMap::new(),
        sources: BTreeMap::new(),
        asks: BTreeMap::new(),
        serving: BTreeMap::new(),
        next_ask: 0,
        slow: BTreeMap::new(),
        windows: Windows::default(),
        buffers: Buffers::default(),
        writers: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, Into::into))),
        wants: BTreeMap::new(),
        next_want: 0,
        stored: BTreeMap::new(),
        verifying: JoinSet::new(),
        news,
        endpoint: parts.endpoint,
        me: parts.me,
        admission: parts.credentials.admission().clone(),
        web: web.clone(),
        client: parts.client,
        metrics: parts.metrics,
        surroundings: parts.surroundings,
        neighbours: parts.neighbours,
    };
    tokio::spawn(connections::accept(driver.endpoint.clone(), driver.port(), commands.clone(), parts.others));
    let running = tokio::spawn(driver.run(inbox));
    (SwarmHandle { commands, web }, agent, running)
}

/// What the agent wants; the number tells a later want of the same blob from an earlier one.
#[derive(Clone)]
struct Want {
    number: u64,
    size: u64,
    proof: Proof,
}

/// A fetch under way.
struct Fetch {
    source: Source,
    blob: Digest,
    task: AbortHandle,
}

struct Driver {
    swarm: Recorded,
    dialer: Dialer,
    clock: Clock,
    content: Content,
    commands: mpsc::Sender<Command>,
    peers: BTreeMap<NodeId, Peer>,
    fetches: BTreeMap<FetchId, Fetch>,
    /// Who brought how many bytes of the blobs on their way.
    sources: BTreeMap<Digest, BTreeMap<Source, u64>>,
    asks: BTreeMap<AskId, (NodeId, oneshot::Sender<Decision>)>,
    /// Who gets bytes now.
    serving: BTreeMap<AskId, NodeId>,
    next_ask: u64,
    /// How often peers read too slowly, and until when they are not let in for it.
    slow: BTreeMap<NodeId, (u32, Instant)>,
    windows: Windows,
    buffers: Buffers,
    /// One permit for each processor: more threads that hash are not faster.
    writers: Arc<Semaphore>,
    wants: BTreeMap<Digest, Want>,
    next_want: u64,
    /// Stored blobs, as they were wanted: what has rotted is fetched again.
    stored: BTreeMap<Digest, Want>,
    verifying: JoinSet<()>,
    news: mpsc::Sender<News>,
    endpoint: Endpoint,
    me: NodeId,
    admission: Arc<Admission>,
    client: Arc<SeedClient>,
    web: Arc<Web>,
    metrics: Arc<DeviceMetrics>,
    surroundings: watch::Receiver<Surroundings>,
    neighbours: Neighbours,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut changes = self.admission.watch();
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let mut commands = Vec::with_capacity(COMMANDS_AT_ONCE);
        loop {
            let due = self.swarm.poll_timeout().into_iter().chain(self.dialer.poll_timeout()).chain(self.windows.poll_timeout()).min();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(self.clock.to_tokio(due)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = inbox.recv_many(&mut commands, COMMANDS_AT_ONCE) => if received == 0 {
                    return;
                },
                Ok(()) = changes.changed() => self.close_refused(),
                _ = looks.tick() => self.close_refused(),
                () = timer => {
                    self.swarm.handle_timeout(self.clock.now());
                    self.dialer.handle_timeout(self.clock.now());
                }
            }
            for command in commands.drain(..) {
                self.on_command(command);
            }
            self.carry_out().await;
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Want { blob, size, proof } => {
                self.next_want += 1;
                self.wants.insert(blob, Want { number: self.next_want, size, proof });
                self.open(blob);
            }
            Command::TryAgain { blob, want } if self.wants.get(&blob).is_some_and(|known| known.number == want) => self.open(blob),
            Command::TryAgain { .. } => {}
            Command::Unwant { blob } => {
                self.wants.remove(&blob);
                self.stored.remove(&blob);
                self.sources.remove(&blob);
                self.swarm.handle_input(now, Input::Dropped { blob });
                self.content.discard(&blob);
            }
            Command::Learned { addresses, configured } => {
                for address in addresses {
                    self.dialer.on_learned(now, address, configured);
                }
                self.dialer.handle_timeout(now);
            }
            Command::Happened(input) => self.on_happened(input),
            Command::Stored { fetch, proofs } => self.on_stored(fetch, proofs),
            Command::Status(tell) => {
                let _ = tell.send(self.status());
            }
            Command::Served { ask, too_slow } => self.on_served(ask, too_slow),
            Command::Opened { blob, want, opened } => self.on_opened(blob, want, opened),
            Command::Greeted(greeting) => self.on_greeted(*greeting),
            Command::DialFailed { address, refused } => self.dialer.on_failed(now, address, refused),
            Command::Closed { peer, connection } => self.on_closed(peer, connection),
            Command::Asked(ask) => self.on_asked(ask),
            Command::Geometry { blob, tell } => {
                let _ = tell.send(self.content.get(&blob).map(Held::geometry));
            }
            Command::Rechecked { blob, sound } => self.on_rechecked(blob, sound),
        }
    }

    fn on_happened(&mut self, input: Input) {
        if let Input::FetchEnded { fetch, end } = &input {
            if self.fetches.get(fetch).is_some_and(|known| known.source == Source::Wan) {
                tracing::debug!(event = "wan_fetch_ended", fetch = fetch.0, ?end, "a fetch over the WAN is over");
            }
            self.forget_fetch(*fetch);
        }
        if let Input::Received { peer, message: Message::Peers { addresses } } = &input
            && self.may_say_addresses(*peer)
        {
            for address in addresses.iter().filter(|address| self.surroundings.borrow().is_on_link(address.ip())) {
                self.dialer.on_learned(self.clock.now(), *address, false);
            }
        }
        self.swarm.handle_input(self.clock.now(), input);
    }

    fn on_greeted(&mut self, greeting: Greeting) {
        let (now, node) = (self.clock.now(), greeting.identity.node);
        let refusal = self.refusal(&greeting);
        if refusal.is_none() {
            // The dialler is not told: another of the peer's addresses would be dialled for nothing, and replace this one.
            self.forget(node);
        }
        self.dialer.on_connected(greeting.listens_on(), node);
        if let Some(until) = self.swarm.banned_until(now, node) {
            self.dialer.on_banned(node, until);
        }
        if let Some(reason) = refusal {
            greeting.close(reason);
            return;
        }
        tracing::info!(peer = %greeting.identity.device, address = %greeting.remote_address(), transport = greeting.link.transport(), "peer connected");
        let peer = connections::adopt(self.me, greeting, &self.commands);
        let others: Vec<SocketAddr> =
            self.peers.values().map(|peer| peer.listens_on).filter(|address| !is_link_local(address.ip())).take(ADDRESSES_MAX).collect();
        if !others.is_empty() {
            peer.send(Message::Peers { addresses: others });
        }
        self.metrics.peer_joined(&peer.link);
        self.neighbours.send_modify(|known| drop(known.insert(node, peer.neighbour())));
        self.peers.insert(node, peer);
        self.windows.peers_changed();
        self.swarm.handle_input(now, Input::PeerJoined { peer: node });
    }

    /// Closes connections to peers that would not be let in any more.
    fn close_refused(&mut self) {
        let refusal = |peer: &Peer| self.admission.still_admits(&peer.certificate, Purpose::Blobs).err();
        let refused = self.peers.iter().filter_map(|(node, peer)| Some((*node, refusal(peer)?.to_string())));
        for (node, reason) in refused.collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get(&node) {
                let reason = if self.admission.is_revoked(&node) { REVOKED } else { reason.as_str() };
                tracing::warn!(event = "peer_refused", peer = %peer.device, reason, "a peer is not trusted any more; its connection was closed");
                peer.link.close(4, reason);
            }
            self.on_peer_gone(node);
        }
    }

    /// Whether a peer's certificate is good enough for what it says of addresses.
    fn may_say_addresses(&self, node: NodeId) -> bool {
        let time = self.admission.clock().read();
        self.peers.get(&node).is_some_and(|peer| Standing::of(peer.validity, time).allows(Purpose::Addresses))
    }

    /// Why a connection is closed at once, if it is.
    fn refusal(&self, greeting: &Greeting) -> Option<&'static str> {
        let node = greeting.identity.node;
        if self.admission.is_revoked(&node) {
            return Some(REVOKED);
        }
        if node == self.me {
            return Some("this is myself");
        }
        let now = self.clock.now();
        if self.swarm.banned_until(now, node).is_some() {
            return Some("banned");
        }
        if self.slow.get(&node).is_some_and(|(_, until)| *until > now) {
            return Some("too slow");
        }
        if self.peers.len() >= memory::CONNECTIONS_MAX && !self.peers.contains_key(&node) {
            return Some("too many peers");
        }
        let known = self.peers.get(&node)?;
        (!connections::replaces(self.me, greeting, known)).then_some("connected already")
    }

    fn on_closed(&mut self, node: NodeId, connection: usize) {
        if self.peers.get(&node).is_some_and(|peer| peer.link.id() == connection) {
            self.on_peer_gone(node);
        }
    }

    fn on_peer_gone(&mut self, node: NodeId) {
        if self.peers.contains_key(&node) {
            self.forget(node);
            self.dialer.on_left(self.clock.now(), node);
        }
    }

    fn forget(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.remove(&node) {
            self.neighbours.send_modify(|known| drop(known.remove(&node)));
            tracing::info!(peer = %peer.device, "peer gone");
            self.metrics.peer_left(&peer.link);
            peer.link.close(0, "bye");
            self.windows.peers_changed();
            self.swarm.handle_input(self.clock.now(), Input::PeerLeft { peer: node });
        }
    }

    fn forget_fetch(&mut self, fetch: FetchId) -> Option<AbortHandle> {
        let Fetch { source, task, .. } = self.fetches.remove(&fetch)?;
        if let Source::Peer(peer) = source {
            self.windows.end(self.clock.now(), peer, Way::Bringing);
        }
        Some(task)
    }

    async fn carry_out(&mut self) {
        loop {
            while let Some(event) = self.swarm.poll_event() {
                self.on_event(&event);
            }
            while let Some(effect) = self.swarm.poll_effect() {
                self.on_effect(effect);
            }
            let Some(address) = self.dialer.poll_dial() else { break };
            tokio::spawn(connections::dial(self.endpoint.clone(), self.web.clone(), address, self.port(), self.commands.clone()));
        }
        while self.verifying.try_join_next().is_some() {}
        self.windows.apply(self.clock.now(), self.peers.iter().map(|(node, peer)| (*node, &peer.link)));
        tokio::task::yield_now().await;
    }

    fn send(&self, peer: &NodeId, message: Message) {
        if let Some(known) = self.peers.get(peer)
            && !known.send(message)
        {
            tracing::warn!(peer = %known.device, "the peer does not read its control messages; disconnecting it");
            known.link.close(1, "control messages not read");
        }
    }

    fn on_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { peer, message } => self.send(&peer, message),
            Effect::SendAll { peers, message } => {
                if let Message::Claim { blob, span } | Message::Release { blob, span } = &message {
                    let is_release = matches!(message, Message::Release { .. });
                    tracing::debug!(event = "claim", %blob, span, is_release, "peers are told of a claim");
                }
                for peer in peers {
                    self.send(&peer, message.clone());
                }
            }
            Effect::Fetch { fetch, source, blob, units } => self.start_fetch(fetch, source, blob, units),
            Effect::Cancel { fetch } => {
                if self.fetches.get(&fetch).is_some_and(|known| known.source == Source::Wan) {
                    tracing::debug!(event = "wan_fetch_cancelled", fetch = fetch.0, "a fetch over the WAN is stopped");
                }
                if let Some(task) = self.forget_fetch(fetch) {
                    task.abort();
                }
            }
            Effect::VerifyBlob { blob } => self.verify(blob),
            Effect::Recheck { blob } => self.recheck(blob),
            Effect::DiscardUnits { blob, geometry } => {
                if let Err(error) = self.content.start_over(&blob, geometry) {
                    tracing::error!(%blob, error = format!("{error:#}"), "the blob cannot be fetched anew");
                }
            }
            Effect::Serve { ask } => self.decide(ask, Decision::Serve),
            Effect::RefuseNotHeld { ask } => self.decide(ask, Decision::NotHeld),
            Effect::RefuseBusy { ask } => self.decide(ask, Decision::Busy),
            Effect::Disconnect { peer } => {
                if let Some(known) = self.peers.remove(&peer) {
                    self.metrics.peer_left(&known.link);
                    self.windows.peers_changed();
                    known.link.close(2, "banned");
                }
            }
        }
    }

    fn start_fetch(&mut self, fetch: FetchId, source: Source, blob: Digest, units: std::ops::Range<u32>) {
        let Some(Held::Partial { partial, verifier }) = self.content.get(&blob).cloned() else { return };
        let (commands, buffers, writers) = (self.commands.clone(), self.buffers.clone(), self.writers.clone());
        let job = fetch::Job { fetch, blob, units, partial, verifier, commands, buffers, writers };
        let task = match source {
            Source::Wan => {
                tracing::debug!(event = "wan_fetch", fetch = fetch.0, blob = %job.blob, units = ?job.units, "a fetch over the WAN begins");
                tokio::spawn(fetch::from_seed(job, self.client.clone()))
            }
            Source::Peer(peer) => match self.peers.get(&peer) {
                Some(peer) => tokio::spawn(fetch::from_peer(job, peer.link.clone())),
                None => tokio::spawn(fetch::fail(job)),
            },
        };
        if let Source::Peer(peer) = source {
            self.windows.begin(peer, Way::Bringing);
        }
        self.fetches.insert(fetch, Fetch { source, blob, task: task.abort_handle() });
    }

    fn on_event(&mut self, event: &Event) {
        match event {
            Event::BlobComplete { blob, wan_bytes, lan_bytes } => {
                let sources = self.sources_of(blob).into_iter().map(|(name, bytes)| format!("{name}={bytes}"));
                let sources = sources.collect::<Vec<_>>().join(" ");
                tracing::info!(event = "blob_stored", %blob, wan_bytes, lan_bytes, sources, "blob stored");
                self.sources.remove(blob);
                self.metrics.add_stored(*wan_bytes, *lan_bytes);
                self.stored.extend(self.wants.remove_entry(blob));
                if let Some(Held::Partial { partial, .. }) = self.content.get(blob) {
                    let geometry = partial.geometry();
                    partial.forget_map();
                    self.content.insert(*blob, Held::Whole { geometry });
                }
                self.tell_agent(News::Stored(*blob, Fetched { wan_bytes: *wan_bytes, lan_bytes: *lan_bytes }));
            }
            Event::UnitRefused { source, blob, unit } => {
                let peer = match source {
                    Source::Wan => "seed".to_owned(),
                    Source::Peer(node) => self.device_name(*node),
                };
                self.metrics.count_refused_unit();
                tracing::warn!(event = "unit_refused", peer, %blob, unit, "a unit does not match its hash; its sender is at fault");
            }
            Event::PeerBanned { peer, until } => {
                let seconds = until.since(self.clock.now()).as_secs();
                tracing::warn!(event = "peer_banned", peer = self.device_name(*peer), seconds, "peer banned");
                self.dialer.on_banned(*peer, *until);
            }
            Event::StorageFault { blob } => tracing::info!(%blob, "peers were told that the blob had rotted here"),
            Event::HashListLied { blob } => {
                tracing::error!(event = "hash_list_lied", %blob, "the hash list does not describe the blob; fetching it from the seed alone");
            }
        }
    }

    fn device_name(&self, node: NodeId) -> String {
        self.peers.get(&node).map_or_else(|| node.to_string(), |peer| peer.device.to_string())
    }

    /// The agent reads news at once, whatever the seed does, so its queue is hardly ever full.
    fn tell_agent(&self, news: News) {
        let sender = self.news.clone();
        if let Err(mpsc::error::TrySendError::Full(news)) = self.news.try_send(news) {
            tokio::spawn(async move { sender.send(news).await });
        }
    }

    fn port(&self) -> u16 {
        self.endpoint.local_addr().map_or(0, |address| address.port())
    }
}

/// How the units of a blob of `size` bytes are cut when only its digest proves them.
fn geometry_by_digest(size: u64) -> Geometry {
    if size <= UNIT_BYTES { Geometry::listed(size) } else { Geometry::unlisted(size) }
}
