//! Dialling, accepting and greeting peers. TLS has let in only devices of the same organisation.
//!
//! Not here: which addresses are dialled; [`protocol::dialer`] decides.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use protocol::dialer::{self, Way};
use protocol::identity::standing::Validity;
use protocol::name::{DeviceId, NodeId};
use protocol::rate_limit::Bucket;
use protocol::swarm::{Input, pace};
use protocol::wire::{ALPN, Get, Message, VERSION};
use quinn::{Connecting, Connection, Endpoint, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::sync::{Semaphore, mpsc};

use super::Command;
use super::https::{self, Web};
use super::link::Link;
use super::serve::{Ask, Reply};
use super::session::Session;
use crate::clock::Clock;
use crate::device::neighbours::Neighbour;
use crate::transport::identity::{DEVICE_DNS_NAME, DeviceIdentity, DeviceLeaf};
use crate::transport::quic;

/// From the first packet to the greeting; a LAN needs a few milliseconds.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// QUIC has this long to connect and greet before HTTPS is tried: three lost first packets at the longest round trips of a LAN.
const QUIC_TIME: Duration = Duration::from_secs(2);
/// A request's frame follows its stream at once.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Greetings at a time: a stranger can hold this many places for [`GREETING_TIME`] each.
const GREETINGS_MAX: usize = 64;
/// Control messages that may wait for a peer to read them.
pub(super) const CONTROL_QUEUE_MAX: usize = 512;

/// A peer that has greeted.
pub(super) struct Peer {
    pub(super) device: DeviceId,
    /// When its certificate is valid: one that has expired is good for blobs alone.
    pub(super) validity: Validity,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) link: Link,
    pub(super) listens_on: SocketAddr,
    dialler: NodeId,
    control: mpsc::Sender<Message>,
}

impl Peer {
    /// What other parts of the device may know of it.
    pub(super) fn neighbour(&self) -> Neighbour {
        let connection = match &self.link {
            Link::Quic(connection) => Some(connection.clone()),
            Link::Https(_) => None,
        };
        Neighbour { device: self.device.clone(), connection, listens_on: self.listens_on, since: std::time::Instant::now() }
    }

    /// Sends a control message; false if the peer does not read them.
    pub(super) fn send(&self, message: Message) -> bool {
        !matches!(self.control.try_send(message), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// A connection whose other end is known.
pub(crate) struct Greeting {
    pub(super) identity: DeviceIdentity,
    validity: Validity,
    certificate: CertificateDer<'static>,
    pub(super) link: Link,
    /// The address, if this node dialled.
    pub(super) dialled: Option<SocketAddr>,
    port: u16,
    control: Control,
}

/// How control messages go.
pub(super) enum Control {
    /// Over the control stream of a QUIC connection.
    Streams(Connection, SendStream, RecvStream),
    /// In requests over HTTPS.
    Session { outbox: mpsc::Sender<Message>, session: Arc<Session> },
}

impl Greeting {
    pub(super) fn new(leaf: DeviceLeaf, link: Link, dialled: Option<SocketAddr>, port: u16, control: Control) -> Self {
        let DeviceLeaf { identity, validity, certificate } = leaf;
        Self { identity, validity, certificate, link, dialled, port, control }
    }

    /// Greets over a new QUIC connection, on a stream that whoever dialled opens.
    async fn exchange(connection: Connection, dialled: Option<SocketAddr>, port: u16) -> anyhow::Result<Self> {
        let leaf = quic::identity(&connection)?;
        let (mut send, mut receive) = if dialled.is_some() { connection.open_bi().await? } else { connection.accept_bi().await? };
        let port = greet(&mut send, &mut receive, port).await?;
        Ok(Self::new(leaf, Link::Quic(connection.clone()), dialled, port, Control::Streams(connection, send, receive)))
    }

    pub(super) fn close(&self, reason: &str) {
        self.link.close(0, reason);
    }

    /// Where the other end is.
    pub(super) fn remote_address(&self) -> SocketAddr {
        match &self.link {
            Link::Quic(connection) => connection.remote_address(),
            Link::Https(https) => https.address(),
        }
    }

    /// Where the other end takes connections.
    pub(super) fn listens_on(&self) -> SocketAddr {
        self.dialled.unwrap_or_else(|| {
            let mut address = self.remote_address();
            address.set_port(self.port);
            match address.ip().to_canonical() {
                // A link-local address means something only with its interface, so that stays.
                IpAddr::V6(_) => address,
                v4 => SocketAddr::new(v4, self.port),
            }
        })
    }

    fn dialler(&self, me: NodeId) -> NodeId {
        if self.dialled.is_some() { me } else { self.identity.node }
    }
}

/// Accepts peers for as long as the endpoint is open. Whoever speaks another protocol than the swarm's is passed on to `others`
/// before its certificate is checked, so that a refusal is reported there; if that is full, the peer comes again.
pub(super) async fn accept(endpoint: Endpoint, port: u16, commands: mpsc::Sender<Command>, others: mpsc::Sender<Connecting>) {
    let places = Arc::new(Semaphore::new(GREETINGS_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(place) = places.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (commands, others) = (commands.clone(), others.clone());
        tokio::spawn(async move {
            let address = incoming.remote_address();
            let greeting = async {
                let mut connecting = incoming.accept()?;
                if quic::protocol(&mut connecting).await? != ALPN {
                    let _ = others.try_send(connecting);
                    return anyhow::Ok(None);
                }
                Ok(Some(Greeting::exchange(connecting.await?, None, port).await?))
            };
            match tokio::time::timeout(GREETING_TIME, greeting).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(greeting))) => {
                    let _ = commands.send(Command::Greeted(Box::new(greeting))).await;
                }
                Ok(Err(error)) if is_refusal(&error) => {
                    tracing::warn!(event = "peer_refused", %address, error = format!("{error:#}"), "a peer was not let in");
                }
                Ok(Err(error)) => tracing::debug!(%address, error = format!("{error:#}"), "a peer went away while greeting"),
                Err(_) => tracing::debug!(%address, "a peer did not greet in time"),
            }
            drop(place);
        });
    }
}

/// Whether a greeting failed because one end refused the other's certificate, and not because somebody went away: the alert
/// of TLS stands in the QUIC error code (RFC 9001 §4.8). Who dialled and is refused sees it only when it waits for the other's
/// greeting, as TLS 1.3 lets a client finish first: so it stands behind an error of a stream.
fn is_refusal(error: &anyhow::Error) -> bool {
    let code = match error.chain().find_map(|cause| cause.downcast_ref()) {
        Some(quinn::ConnectionError::TransportError(error)) => u64::from(error.code),
        Some(quinn::ConnectionError::ConnectionClosed(close)) => u64::from(close.error_code),
        _ => return false,
    };
    (0x100..0x200).contains(&code)
}

/// Dials an address and greets: over QUIC, or over HTTPS where QUIC does not come through in time.
pub(super) async fn dial(endpoint: Endpoint, web: Arc<Web>, address: SocketAddr, port: u16, commands: mpsc::Sender<Command>) {
    let over_quic = async { Greeting::exchange(endpoint.connect(address, DEVICE_DNS_NAME)?.await?, Some(address), port).await };
    let error = match tokio::time::timeout(QUIC_TIME, over_quic).await {
        Ok(Ok(greeting)) => return tell(&commands, Command::Greeted(Box::new(greeting))).await,
        Ok(Err(error)) if is_refusal(&error) => {
            let error = format!("{error:#}");
            tracing::warn!(event = "peer_refused", %address, error, "a peer did not let this node in, or was not trusted");
            return tell(&commands, Command::DialFailed { address, refused: true }).await;
        }
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "no answer in time".to_owned(),
    };
    let command = match tokio::time::timeout(GREETING_TIME, https::dial(&web, address)).await {
        Ok(Ok(greeting)) => {
            tracing::info!(event = "quic_blocked", %address, error, "a peer is not reached over QUIC; HTTPS on the same port is used");
            Command::Greeted(Box::new(greeting))
        }
        Ok(Err(over_https)) => {
            tracing::debug!(%address, error, over_https = format!("{over_https:#}"), "a peer could not be reached");
            Command::DialFailed { address, refused: false }
        }
        Err(_) => Command::DialFailed { address, refused: false },
    };
    tell(&commands, command).await;
}

async fn tell(commands: &mpsc::Sender<Command>, command: Command) {
    let _ = commands.send(command).await;
}

async fn greet(send: &mut SendStream, receive: &mut RecvStream, port: u16) -> anyhow::Result<u16> {
    quic::write_frame(send, &Message::Hello { version: VERSION, port }).await?;
    match quic::read_frame::<Message>(receive).await? {
        Message::Hello { version: VERSION, port } => Ok(port),
        Message::Hello { version, .. } => anyhow::bail!("the peer speaks version {version} of the swarm protocol, this node {VERSION}"),
        _ => anyhow::bail!("the peer did not greet first"),
    }
}

/// Whether a new connection takes the place of a known one to the same node.
pub(super) fn replaces(me: NodeId, new: &Greeting, known: &Peer) -> bool {
    let way = |dialler, link: &Link| Way { dialler, is_fallback: matches!(link, Link::Https(_)) };
    dialer::replaces([me, new.identity.node], way(new.dialler(me), &new.link), way(known.dialler, &known.link))
}

/// Starts what a connection needs: its control messages both ways, and its requests.
pub(super) fn adopt(me: NodeId, greeting: Greeting, commands: &mpsc::Sender<Command>) -> Peer {
    let node = greeting.identity.node;
    let (dialler, listens_on) = (greeting.dialler(me), greeting.listens_on());
    let Greeting { identity, validity, certificate, link, control, .. } = greeting;
    let control = match control {
        Control::Streams(connection, send, receive) => {
            if send.set_priority(quic::CONTROL_PRIORITY).is_err() {
                tracing::debug!(node = %node, "the control stream is closed already");
            }
            let (control, queue) = mpsc::channel(CONTROL_QUEUE_MAX);
            tokio::spawn(write_control(send, queue));
            tokio::spawn(read_control(node, connection.clone(), receive, commands.clone()));
            tokio::spawn(accept_requests(node, connection, commands.clone()));
            control
        }
        Control::Session { outbox, session } => {
            tokio::spawn(session.run(commands.clone()));
            outbox
        }
    };
    Peer { device: identity.device, validity, certificate, link, listens_on, dialler, control }
}

async fn write_control(mut send: SendStream, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        if quic::write_frame(&mut send, &message).await.is_err() {
            return;
        }
    }
}

async fn read_control(node: NodeId, connection: Connection, mut receive: RecvStream, commands: mpsc::Sender<Command>) {
    let (clock, mut bucket) = (Clock::start(), Bucket::default());
    loop {
        match quic::read_frame::<Message>(&mut receive).await {
            Ok(message) => {
                while let Err(wait) = bucket.take(clock.now(), pace::MESSAGES) {
                    tokio::time::sleep(wait).await;
                }
                if commands.send(Command::Happened(Input::Received { peer: node, message })).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if let quic::FrameError::Refused(refused) = &error {
                    tracing::warn!(event = "frame_refused", node = %node, %refused, "a peer sent what is no message; disconnecting it");
                }
                connection.close(3u8.into(), b"control stream ended");
                let _ = commands.send(Command::Closed { peer: node, connection: connection.stable_id() }).await;
                return;
            }
        }
    }
}

async fn accept_requests(node: NodeId, connection: Connection, commands: mpsc::Sender<Command>) {
    while let Ok((send, mut receive)) = connection.accept_bi().await {
        let commands = commands.clone();
        tokio::spawn(async move {
            if let Ok(Ok(get)) = tokio::time::timeout(REQUEST_TIME, quic::read_frame::<Get>(&mut receive)).await {
                // What a peer sends beyond its request is thrown away unread.
                let _ = receive.stop(0u8.into());
                let _ = commands.send(Command::Asked(Ask { peer: node, get, reply: Reply::Stream(send) })).await;
            }
        });
    }
}
