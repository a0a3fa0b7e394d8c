//! A socket that is read one TLS record at a time, so that what follows the head of an answer can be dropped without being
//! decrypted: decryption costs a client as much as encryption costs the server, and the client is not what is measured.
//!
//! Not here: the handshake and everything that is read; rustls does that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::client::forget;

/// Type, version and length (RFC 8446, section 5.1).
const HEADER_BYTES: usize = 5;
/// The type of a record that is encrypted (RFC 8446, section 5.2).
const APPLICATION_DATA: u8 = 23;
/// What a record has besides content: its true type and the tag of AES-GCM; nobody here pads.
const OVERHEAD_BYTES: u64 = 17;

/// A socket whose reads end where a record ends.
pub(super) struct Records {
    socket: TcpStream,
    header: [u8; HEADER_BYTES],
    arrived: usize,
    given: usize,
    left: usize,
}

impl Records {
    pub(super) const fn new(socket: TcpStream) -> Self {
        Self { socket, header: [0; HEADER_BYTES], arrived: 0, given: 0, left: 0 }
    }

    /// Drops whole records with this much content. What was read before must have ended with a record.
    pub(super) async fn forget(mut self, mut content: u64, scratch: &mut [u8]) -> Result<()> {
        if (self.arrived, self.left) != (0, 0) {
            bail!("a record was begun: {} of 5 bytes of its header, {} left", self.arrived, self.left);
        }
        while content > 0 {
            self.socket.read_exact(&mut self.header).await?;
            if self.header[0] != APPLICATION_DATA {
                bail!("a record of type {} in the middle of an answer", self.header[0]);
            }
            let mut left = u64::from(record_bytes(self.header));
            let Some(rest) = left.checked_sub(OVERHEAD_BYTES).and_then(|bytes| content.checked_sub(bytes)) else {
                bail!("a record of {left} B where {content} B were to come");
            };
            content = rest;
            while left > 0 {
                left -= forget(&self.socket, scratch, left).await?;
            }
        }
        Ok(())
    }
}

const fn record_bytes([_, _, _, high, low]: [u8; HEADER_BYTES]) -> u16 {
    u16::from_be_bytes([high, low])
}

impl AsyncRead for Records {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.arrived < HEADER_BYTES {
            let mut header = ReadBuf::new(&mut this.header[this.arrived..]);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut header))?;
            let bytes = header.filled().len();
            if bytes == 0 {
                return Poll::Ready(Ok(()));
            }
            this.arrived += bytes;
            this.left = record_bytes(this.header).into();
        }
        if this.given < HEADER_BYTES {
            let bytes = into.remaining().min(HEADER_BYTES - this.given);
            into.put_slice(&this.header[this.given..this.given + bytes]);
            this.given += bytes;
        } else {
            let most = into.remaining().min(this.left);
            let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut part))?;
            let bytes = part.filled().len();
            into.advance(bytes);
            this.left -= bytes;
        }
        if this.given == HEADER_BYTES && this.left == 0 {
            (this.arrived, this.given) = (0, 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Records {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
