//! Parts of files that go from the kernel's memory to a plain TCP socket, without a copy in this process (sendfile(2)).
//!
//! hyper writes bytes and knows no files. So the body of an answer hands the part of a file over to the connection's socket
//! and gives hyper a *stand-in* for it: `Bytes` of the same length, in a region of memory that nothing reads or writes. Where
//! the socket is told to write a stand-in, it sends the file. hyper does not copy the parts of a body over HTTP/1 to a socket
//! that can write several buffers at once; everybody else would, so only such connections have a [`Handover`].
//!
//! What a client gets is the file's bytes or a broken connection, never a stand-in's bytes and never less:
//! - In each write, the stand-ins are the parts that were handed over and not sent yet, in their order. If anything has copied,
//!   dropped or repeated one of them, the write fails.
//! - A part begins in the region where the one before had to end, so that a stand-in is known by its address; a part that was
//!   sent in half is met where that half ends.
//! - A file that ends early fails the write. One that is changed after it was sent would still change what is on its way: the
//!   files of blobs never change.
//!
//! Not here: which files, and whether the kernel has their pages in memory; see [`crate::store::blobs`].

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::sendfile;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes of one part: some times what a socket takes at once, and little enough that connections take turns.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// Parts of one connection that may wait to be sent. hyper asks for the next when it has sent most of what it had.
const PARTS_MAX: usize = 16;

/// All stand-ins are slices of it. Its pages are never touched, so that the system never finds memory for them.
static REGION: LazyLock<Bytes> = LazyLock::new(|| vec![0; PARTS_MAX * PART_BYTES_MAX].into());

/// Takes parts of files for one connection, in the order of its answers; an extension of requests that can use it.
#[derive(Clone, Debug, Default)]
pub struct Handover(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    waiting: VecDeque<Part>,
    /// Where in the region the next stand-in begins.
    next: usize,
}

/// What is left to be sent of a part.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    offset: u64,
    bytes: usize,
    /// Where in the region the rest of its stand-in begins.
    place: usize,
}

impl Handover {
    /// Hands over `bytes` bytes of `file` from `offset` on, at most [`PART_BYTES_MAX`]. What stands in for them must be the
    /// next that is sent on the connection. None if it has as many as it can take; then the bytes must be read.
    pub fn stand_in(&self, file: &Arc<File>, offset: u64, bytes: usize) -> Option<Bytes> {
        let mut parts = self.parts();
        if parts.waiting.len() >= PARTS_MAX || bytes > PART_BYTES_MAX {
            return None;
        }
        let place = parts.next;
        parts.next = (place + PART_BYTES_MAX) % REGION.len();
        parts.waiting.push_back(Part { file: Arc::clone(file), offset, bytes, place });
        Some(REGION.slice(place..place + bytes))
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    /// Fails unless the stand-ins among `bufs` are those of the waiting parts; the first of them.
    fn check(&self, bufs: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let stand_ins = bufs.iter().filter_map(|buf| Some((place(buf)?, buf.len())));
        if stand_ins.eq(self.waiting.iter().map(|part| (part.place, part.bytes))) {
            return Ok(bufs.iter().position(|buf| place(buf).is_some()));
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "what is to be sent is not what was handed over"))
    }
}

/// Where in the region a buffer lies, if it is a stand-in.
fn place(buf: &[u8]) -> Option<usize> {
    let place = buf.as_ptr().addr().checked_sub(REGION.as_ptr().addr())?;
    (place < REGION.len() && !buf.is_empty()).then_some(place)
}

/// A socket that sends the parts that were handed over where their stand-ins are written.
#[derive(Debug)]
pub(super) struct FileSocket {
    socket: TcpStream,
    handover: Handover,
}

impl FileSocket {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, handover: Handover::default() }
    }

    /// Where parts of files for this socket are handed over.
    pub(super) fn handover(&self) -> Handover {
        self.handover.clone()
    }
}

impl Part {
    /// Sends as much of the part as the socket takes.
    fn poll_send(&mut self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let mut offset = self.offset;
            let sent = socket.try_io(Interest::WRITABLE, || Ok(sendfile(socket, &*self.file, Some(&mut offset), self.bytes)?));
            match sent {
                Ok(0) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file ended before what was to be sent of it")));
                }
                Ok(sent) => {
                    (self.offset, self.bytes, self.place) = (offset, self.bytes - sent, self.place + sent);
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for FileSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for FileSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Self { socket, handover } = self.get_mut();
        let mut parts = handover.parts();
        let bytes = match parts.check(bufs)? {
            None => bufs,
            Some(first) => &bufs[..first],
        };
        let Some(part) = parts.waiting.front_mut().filter(|_| bytes.iter().all(|buf| buf.is_empty())) else {
            return Pin::new(socket).poll_write_vectored(cx, bytes);
        };
        let sent = ready!(part.poll_send(socket, cx))?;
        if part.bytes == 0 {
            parts.waiting.pop_front();
        }
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
