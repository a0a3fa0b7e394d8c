//! libp2p over the device's one QUIC endpoint, under the fleet's mutual TLS: its own transports cannot take a CA, a socket
//! or a cipher list (`hedgerow-ctl/1`; the blob protocol shares the endpoint, ALPN tells them apart).
//!
//! | module | holds |
//! |---|---|
//! | [`muxer`] | a QUIC connection as libp2p wants it |
//!
//! A peer's libp2p identity is the key in its verified certificate. It needs no private key: hardware keeps those.
//!
//! Not here: what is said, see `device::gossip`; which peers are dialled, see [`protocol::gossip`].

pub mod muxer;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use libp2p::core::multiaddr::Protocol;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::identity::{PublicKey, ecdsa, ed25519};
use libp2p::{Multiaddr, PeerId, Transport};
use quinn::{ClientConfig, Connecting, Endpoint};
use tokio::sync::mpsc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::identity::DEVICE_DNS_NAME;
use super::quic;
use muxer::Muxer;

/// The ALPN protocol name (RFC 7301) of libp2p here.
pub const ALPN: &[u8] = b"hedgerow-ctl/1";

/// From the first packet to a verified peer; a LAN needs a few milliseconds.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct ControlError(anyhow::Error);

type Upgrade = BoxFuture<'static, Result<(PeerId, Muxer), ControlError>>;

/// The transport: it dials over the shared endpoint, and is handed what that endpoint accepts for it.
#[derive(Debug)]
pub struct ControlTransport {
    endpoint: Endpoint,
    client: ClientConfig,
    incoming: mpsc::Receiver<Connecting>,
    listener: Option<(ListenerId, Multiaddr)>,
    events: VecDeque<TransportEvent<Upgrade, ControlError>>,
    waker: Option<Waker>,
}

impl ControlTransport {
    /// Connections over `endpoint`, dialled as `client` says; those that others dialled come by `incoming`.
    pub const fn new(endpoint: Endpoint, client: ClientConfig, incoming: mpsc::Receiver<Connecting>) -> Self {
        Self { endpoint, client, incoming, listener: None, events: VecDeque::new(), waker: None }
    }

    fn push(&mut self, event: TransportEvent<Upgrade, ControlError>) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Transport for ControlTransport {
    type Output = (PeerId, Muxer);
    type Error = ControlError;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<ControlError>> {
        if self.listener.is_some() || to_socket_address(&address).is_none() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.listener = Some((id, address.clone()));
        self.push(TransportEvent::NewAddress { listener_id: id, listen_addr: address });
        Ok(())
    }

    /// The endpoint stays open: it is not only ours.
    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let is_ours = self.listener.as_ref().is_some_and(|(known, _)| *known == id);
        if is_ours {
            self.listener = None;
            self.push(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        }
        is_ours
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Upgrade, TransportError<ControlError>> {
        let callable = to_socket_address(&address).filter(|socket| socket.port() != 0 && !socket.ip().is_unspecified());
        let Some(socket) = callable else { return Err(TransportError::MultiaddrNotSupported(address)) };
        let (endpoint, client) = (self.endpoint.clone(), self.client.clone());
        Ok(upgrade(async move { Ok(endpoint.connect_with(client, socket, DEVICE_DNS_NAME)?) }))
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TransportEvent<Upgrade, ControlError>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        while let Poll::Ready(Some(connecting)) = self.incoming.poll_recv(context) {
            let Some((listener_id, local_addr)) = self.listener.clone() else { continue };
            let send_back_addr = to_multiaddr(connecting.remote_address());
            let upgrade = upgrade(async { Ok(connecting) });
            return Poll::Ready(TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

fn upgrade(connecting: impl Future<Output = anyhow::Result<Connecting>> + Send + 'static) -> Upgrade {
    Box::pin(async move {
        let handshake = async {
            let connection = connecting.await?.await?;
            let peer = peer_id(&quic::certificate(&connection)?)?;
            anyhow::Ok((peer, Muxer::new(connection)))
        };
        let in_time = tokio::time::timeout(HANDSHAKE_TIME, handshake).await.context("the handshake took too long");
        in_time.flatten().map_err(ControlError)
    })
}

/// The libp2p identity of the key in a certificate in DER.
///
/// # Errors
/// When the certificate cannot be read, or its key is neither ed25519 nor P-256.
pub fn peer_id(certificate: &[u8]) -> anyhow::Result<PeerId> {
    let (_, certificate) = X509Certificate::from_der(certificate).context("the certificate cannot be read")?;
    let key = certificate.public_key();
    Ok(public_key(key.subject_public_key.as_ref())?.to_peer_id())
}

/// A bare public key, 32 bytes of ed25519 or a point of P-256, in libp2p's words.
///
/// # Errors
/// When it is neither.
pub fn public_key(bytes: &[u8]) -> anyhow::Result<PublicKey> {
    if let Ok(key) = ed25519::PublicKey::try_from_bytes(bytes) {
        return Ok(key.into());
    }
    Ok(ecdsa::PublicKey::try_from_bytes(bytes).context("the key is neither ed25519 nor P-256")?.into())
}

/// A socket address in libp2p's words.
pub fn to_multiaddr(address: SocketAddr) -> Multiaddr {
    let mut multiaddr = Multiaddr::empty();
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            multiaddr.push(Protocol::Ip6zone(v6.scope_id().to_string().into()));
            multiaddr.push(Protocol::Ip6(*v6.ip()));
        }
        _ => multiaddr.push(match address.ip() {
            IpAddr::V4(ip) => Protocol::Ip4(ip),
            IpAddr::V6(ip) => Protocol::Ip6(ip),
        }),
    }
    multiaddr.with(Protocol::Udp(address.port())).with(Protocol::QuicV1)
}

fn to_socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter().peekable();
    let zone = parts.next_if(|part| matches!(part, Protocol::Ip6zone(_)));
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let (Protocol::Udp(port), Protocol::QuicV1) = (parts.next()?, parts.next()?) else { return None };
    if !matches!(parts.next(), None | Some(Protocol::P2p(_))) || parts.next().is_some() {
        return None;
    }
    match (zone, ip) {
        (None, ip) => Some(SocketAddr::new(ip, port)),
        (Some(Protocol::Ip6zone(zone)), IpAddr::V6(ip)) => Some(SocketAddrV6::new(ip, port, 0, zone.parse().ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_same_in_both_words() {
        for text in ["10.0.0.1:7446", "[fd00::1]:7446", "[fe80::1%3]:7446"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(to_socket_address(&to_multiaddr(address)), Some(address));
        }
        for text in ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1/p2p-circuit", "/dns/a/udp/1/quic-v1"] {
            assert_eq!(to_socket_address(&text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn keys_of_both_kinds_have_an_identity() {
        use crate::transport::device_key::{DeviceKey, KeyType};
        use rcgen::PublicKeyData as _;
        let dir = tempfile::tempdir().unwrap();
        for (kind, file) in [(KeyType::Ed25519, "a"), (KeyType::P256, "b")] {
            let key = DeviceKey::create(&dir.path().join(file), kind).unwrap();
            public_key(key.der_bytes()).unwrap();
        }
        assert!(public_key(&[4; 33]).is_err());
    }
}
