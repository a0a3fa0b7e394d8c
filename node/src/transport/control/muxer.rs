//! A QUIC connection as libp2p's stream muxer: each of its streams is one of QUIC, and nothing lies between.
//!
//! Not here: how the connection came about; see [`super`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::futures::{AsyncRead, AsyncWrite};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

type Opening = BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>;

/// A connection.
pub struct Muxer {
    connection: Connection,
    inbound: Option<Opening>,
    outbound: Option<Opening>,
}

impl Muxer {
    /// The streams of `connection`.
    pub(super) const fn new(connection: Connection) -> Self {
        Self { connection, inbound: None, outbound: None }
    }
}

impl std::fmt::Debug for Muxer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Muxer").field("remote", &self.connection.remote_address()).finish_non_exhaustive()
    }
}

fn poll_opening(
    slot: &mut Option<Opening>,
    open: impl FnOnce() -> Opening,
    context: &mut Context<'_>,
) -> Poll<Result<Substream, ConnectionError>> {
    let opened = ready!(slot.get_or_insert_with(open).as_mut().poll(context));
    *slot = None;
    Poll::Ready(opened.map(|(send, receive)| Substream { send, receive, closed: false }))
}

impl StreamMuxer for Muxer {
    type Substream = Substream;
    type Error = ConnectionError;

    fn poll_inbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Substream, ConnectionError>> {
        let this = self.get_mut();
        let connection = this.connection.clone();
        poll_opening(&mut this.inbound, || Box::pin(async move { connection.accept_bi().await }), context)
    }

    fn poll_outbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Substream, ConnectionError>> {
        let this = self.get_mut();
        let connection = this.connection.clone();
        poll_opening(&mut this.outbound, || Box::pin(async move { connection.open_bi().await }), context)
    }

    /// Abrupt: what was not acknowledged is lost. Gossip is said again.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.connection.close(0u8.into(), b"bye");
        Poll::Ready(Ok(()))
    }

    /// Addresses do not change under a connection: migration is off.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        Poll::Pending
    }
}

/// A stream.
#[derive(Debug)]
pub struct Substream {
    send: SendStream,
    receive: RecvStream,
    closed: bool,
}

impl AsyncRead for Substream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<std::io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), context, buffer)
    }
}

impl AsyncWrite for Substream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), context)
    }

    /// libp2p closes some streams twice.
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if !self.closed {
            ready!(AsyncWrite::poll_close(Pin::new(&mut self.send), context))?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }
}
