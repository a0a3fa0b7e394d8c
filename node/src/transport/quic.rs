//! The one QUIC endpoint of a device: mutual TLS under the device CA, and frames on its streams.
//!
//! Not here: which peers are dialled and what is said; see `device::swarm`.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use protocol::wire::ALPN;
use protocol::wire::codec::{self, FrameRefused, Framed};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connecting, Connection, Endpoint, EndpointConfig, IdleTimeout, RecvStream, SendStream, ServerConfig, TransportConfig,
    VarInt,
};
use rustls_pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};

use super::credentials::DeviceCredentials;
use super::identity::DeviceLeaf;

/// Asked of the kernel, which may grant less: with its default of 208 KiB, bursts of a fast LAN are lost.
pub const SOCKET_RECEIVE_BYTES: usize = 4 << 20;
/// What waits in the socket goes before everything said later: at a gigabit 512 KiB are 4 ms. Reckoned, not measured.
pub const SOCKET_SEND_BYTES: usize = 512 << 10;
/// Bytes in flight on one stream: the largest request, so that only the connection's window limits.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes in flight towards this node on a new connection; see `protocol::swarm::memory` for what is given to peers.
const RECEIVE_WINDOW_BYTES: u32 = 128 << 10;
/// Bytes unacknowledged on a new connection.
const SEND_WINDOW_BYTES: u64 = 64 << 10;
/// Streams that a peer may have open: its requests in flight and waiting, and the control stream.
const STREAMS_MAX: u32 = 40;
/// Control messages and requests go before the bytes of blobs, whose streams have priority 0.
pub const CONTROL_PRIORITY: i32 = 1;
/// After this long without a packet the end that dialled asks for one. Each of fifty devices at rest sends fewer than 20 packets a
/// second with it, and one that is lost is sent again for 7 s before the connection is given up.
const KEEP_ALIVE: Duration = Duration::from_secs(8);
/// A connection without a packet for this long is over: within three missed beacons (`protocol::beacon::TICK`).
const IDLE_MS: u32 = 15_000;
/// A datagram that fits an Ethernet frame; larger ones with segmentation offload can stall a path unnoticed.
const MTU_BYTES_MAX: u16 = 1452;

/// Opens the endpoint on `listen`, for peers that speak [`ALPN`], and `others` as well.
///
/// # Errors
/// When the address cannot be used, or the credentials do not fit together.
pub fn open(credentials: &DeviceCredentials, listen: SocketAddr, others: &[&[u8]]) -> anyhow::Result<Endpoint> {
    let protocols = [&[ALPN], others].concat();
    let crypto = QuicServerConfig::try_from(credentials.peer_server(&protocols)?).context("the QUIC server needs TLS 1.3 with AES-128")?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport())).migration(false);
    let socket = any_socket(listen)
        .with_context(|| format!("taking UDP port {listen} for the swarm; is another node running? choose another with --swarm-listen"))?;
    let runtime = quinn::default_runtime().context("QUIC needs the async runtime")?;
    let mut endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket, runtime).context("opening the QUIC endpoint")?;
    endpoint.set_default_client_config(client(credentials, ALPN)?);
    Ok(endpoint)
}

/// How a peer is dialled that speaks `protocol`.
///
/// # Errors
/// When the credentials do not fit together.
pub fn client(credentials: &DeviceCredentials, protocol: &[u8]) -> anyhow::Result<ClientConfig> {
    let crypto = QuicClientConfig::try_from(credentials.peer_client(protocol)?).context("the QUIC client needs TLS 1.3 with AES-128")?;
    let mut transport = transport();
    // Its packets keep both ends alive; if the other end sent some of its own, a site at rest would send twice as many.
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport));
    Ok(client)
}

/// Who is on the other end of a connection, from its certificate; TLS has checked the organisation already.
///
/// # Errors
/// When there is no certificate, which the handshake does not let happen.
pub fn identity(connection: &Connection) -> anyhow::Result<DeviceLeaf> {
    Ok(DeviceLeaf::from_certificate(&certificate(connection)?)?)
}

/// The certificate that the other end of a connection showed.
///
/// # Errors
/// When there is none, which the handshake does not let happen.
pub fn certificate(connection: &Connection) -> anyhow::Result<CertificateDer<'static>> {
    let chain = connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    chain.and_then(|chain| chain.into_iter().next()).context("the peer showed no certificate")
}

/// Which protocol the dialler of a connection that is being made wants to speak; its certificate may not be checked yet.
///
/// # Errors
/// When the handshake fails before that is known.
pub async fn protocol(connecting: &mut Connecting) -> anyhow::Result<Vec<u8>> {
    let data = connecting.handshake_data().await?.downcast::<HandshakeData>();
    data.ok().and_then(|data| data.protocol).context("the peer named no protocol")
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended or broke.
    #[error("the stream ended before a whole frame")]
    Stream(#[from] quinn::ReadExactError),
    /// The peer sent something that is no message.
    #[error(transparent)]
    Refused(#[from] FrameRefused),
}

/// Reads one frame.
///
/// # Errors
/// When the stream ends, or the frame is refused.
pub async fn read_frame<T: Framed>(stream: &mut RecvStream) -> Result<T, FrameError> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let mut body = vec![0; codec::frame_length(prefix)?];
    stream.read_exact(&mut body).await?;
    Ok(codec::decode(&body)?)
}

/// Writes one frame.
///
/// # Errors
/// When the stream broke.
pub async fn write_frame<T: Framed>(stream: &mut SendStream, message: &T) -> Result<(), quinn::WriteError> {
    stream.write_all(&codec::encode(message)).await
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        // One request after the other: what was asked for first is whole, and relayed, first.
        .send_fairness(false)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))));
    let mut discovery = quinn::MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_BYTES_MAX);
    transport.mtu_discovery_config(Some(discovery));
    transport
}

/// On a machine without IPv6, all interfaces are those of IPv4.
fn any_socket(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    match socket(listen) {
        Err(error) if listen.is_ipv6() && listen.ip().is_unspecified() && error.kind() != std::io::ErrorKind::AddrInUse => {
            socket(SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, listen.port())))
        }
        opened => opened,
    }
}

fn socket(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_RECEIVE_BYTES)?;
    socket.set_send_buffer_size(SOCKET_SEND_BYTES)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}
