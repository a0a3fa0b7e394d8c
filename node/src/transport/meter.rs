//! A socket whose bytes are counted, whose writing is slowed to a rate shared by all sockets of the same meter, and which
//! is given up when nothing moves.
//!
//! Not here: what the bytes mean. They are counted under TLS, as they go to the kernel. A socket that moves, but too slowly
//! for what is under way on it, is the business of [`crate::listener`].

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes that one write may reserve of the rate: small against a millisecond at gigabit speed, so that sockets take turns.
const SLICE_BYTES: usize = 16 << 10;

/// Idle time that a meter may make up for: about what a timer is late.
const BURST: Duration = Duration::from_millis(5);

/// How long a socket may stand still.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until its first byte.
    pub first: Duration,
    /// Between two bytes, in whichever direction.
    pub between: Duration,
}

/// Counts, and limits, the bytes of the sockets it is given to.
#[derive(Clone, Debug)]
pub struct Meter(Arc<State>);

#[derive(Debug)]
struct State {
    written: AtomicU64,
    read: AtomicU64,
    open: AtomicU64,
    refused: AtomicU64,
    too_slow: AtomicU64,
    bytes_per_second: Option<u64>,
    /// When the bytes reserved so far are paid for.
    free_at: Mutex<Instant>,
}

impl Meter {
    /// A meter that lets through at most `bytes_per_second` in writing, or as much as the socket takes.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self(Arc::new(State {
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
            open: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            bytes_per_second: bytes_per_second.filter(|rate| *rate > 0),
            free_at: Mutex::new(Instant::now()),
        }))
    }

    /// Whether it slows writing down.
    pub fn has_rate(&self) -> bool {
        self.0.bytes_per_second.is_some()
    }

    /// Bytes written to the sockets so far.
    pub fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// Bytes read from the sockets so far.
    pub fn read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Sockets that are open now.
    pub fn open(&self) -> u64 {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Sockets that were closed at once, because too many were open.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// A socket was closed at once.
    pub fn count_refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests and sockets that were given up, because the client was slower than the least rate.
    pub fn too_slow(&self) -> u64 {
        self.0.too_slow.load(Ordering::Relaxed)
    }

    /// A request or socket was given up.
    pub fn count_too_slow(&self) {
        self.0.too_slow.fetch_add(1, Ordering::Relaxed);
    }

    /// Reserves `bytes` of the rate at `now`; the moment from which they may be written.
    fn reserve(&self, now: Instant, bytes: usize) -> Option<Instant> {
        let rate = self.0.bytes_per_second?;
        let mut free_at = self.0.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*free_at).max(now.checked_sub(BURST).unwrap_or(now));
        *free_at = start + Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate);
        Some(start)
    }
}

/// A socket under a meter.
#[derive(Debug)]
pub struct Metered<S> {
    socket: S,
    meter: Meter,
    moved: Arc<AtomicU64>,
    reserved: usize,
    wait: Option<Pin<Box<Sleep>>>,
    stillness: Option<Stillness>,
}

#[derive(Debug)]
struct Stillness {
    patience: Patience,
    /// When the socket is given up if nothing moves until then.
    deadline: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Stillness {
    fn new(patience: Patience) -> Self {
        let deadline = Instant::now() + patience.first;
        Self { patience, deadline, alarm: Box::pin(tokio::time::sleep_until(deadline)) }
    }

    /// Ready when the deadline is over. Bytes only move the deadline; the alarm is set anew when it rings too early.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if self.deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(self.deadline);
        }
    }
}

impl<S> Metered<S> {
    /// Puts `socket` under `meter`.
    pub fn new(socket: S, meter: Meter) -> Self {
        meter.0.open.fetch_add(1, Ordering::Relaxed);
        Self { socket, meter, moved: Arc::default(), reserved: 0, wait: None, stillness: None }
    }

    /// The bytes that this socket moved so far, in both directions, as they go on counting.
    pub fn bytes_moved(&self) -> Arc<AtomicU64> {
        self.moved.clone()
    }

    /// Gives the socket up, with an error of kind `TimedOut`, when nothing moves for longer than `patience`, counted from
    /// now on. Waiting for the meter is not standing still.
    pub fn be_patient(&mut self, patience: Patience) {
        self.stillness = Some(Stillness::new(patience));
    }

    fn move_deadline(&mut self) {
        if let Some(stillness) = &mut self.stillness {
            stillness.deadline = Instant::now() + stillness.patience.between;
        }
    }

    /// What an operation that cannot go on comes to.
    fn poll_still<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match &mut self.stillness {
            Some(stillness) if self.wait.is_none() => {
                ready!(stillness.poll_over(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was read or written for too long")))
            }
            Some(_) | None => Poll::Pending,
        }
    }

    /// Ready when some of `wanted` bytes may be written: how many.
    fn poll_allowance(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        if self.meter.0.bytes_per_second.is_none() {
            return Poll::Ready(wanted);
        }
        if self.reserved == 0 {
            let slice = wanted.min(SLICE_BYTES);
            let now = Instant::now();
            if let Some(start) = self.meter.reserve(now, slice).filter(|start| *start > now) {
                self.wait = Some(Box::pin(tokio::time::sleep_until(start)));
            }
            self.reserved = slice;
        }
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
            self.move_deadline();
        }
        Poll::Ready(self.reserved.min(wanted))
    }
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        self.meter.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Poll::Ready(result) = Pin::new(&mut self.socket).poll_read(cx, buf) else {
            return self.poll_still(cx);
        };
        let read = buf.filled().len() - before;
        self.meter.0.read.fetch_add(read as u64, Ordering::Relaxed);
        if read > 0 {
            self.moved.fetch_add(read as u64, Ordering::Relaxed);
            self.move_deadline();
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    /// Writes what `write` takes of `wanted` bytes, and counts it.
    fn poll_counted(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>, usize) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let allowed = ready!(self.poll_allowance(cx, wanted));
        let Poll::Ready(written) = write(Pin::new(&mut self.socket), cx, allowed) else {
            return self.poll_still(cx);
        };
        let written = written?;
        self.reserved = self.reserved.saturating_sub(written);
        if written > 0 {
            self.moved.fetch_add(written as u64, Ordering::Relaxed);
            self.move_deadline();
        }
        self.meter.0.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_counted(cx, buf.len(), |socket, cx, allowed| socket.poll_write(cx, &buf[..allowed]))
    }

    /// Without it, every part of a message would be copied together or be written by a system call of its own.
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.meter.0.bytes_per_second.is_some() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_counted(cx, wanted, |socket, cx, _| socket.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => self.poll_still(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_shutdown(cx) {
            Poll::Ready(shut) => Poll::Ready(shut),
            Poll::Pending => self.poll_still(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn two_sockets_share_the_rate_and_idle_time_is_not_saved_up() {
        let meter = Meter::new(Some(1_000_000));
        let (one, other) = (meter.clone(), meter);
        let idle = Instant::now() + Duration::from_secs(60);
        let waits: Vec<Duration> =
            [&one, &other, &one, &other].iter().map(|meter| meter.reserve(idle, 10_000).unwrap().saturating_duration_since(idle)).collect();
        assert_eq!(waits, [0, 5, 15, 25].map(Duration::from_millis));
    }

    #[tokio::test]
    async fn every_byte_is_counted_once() {
        let meter = Meter::new(Some(1 << 30));
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let mut near = Metered::new(near, meter.clone());
        assert_eq!(meter.open(), 1);
        let send = async {
            near.write_all(&[0; 300_000]).await.unwrap();
            drop(near);
        };
        let mut received = Vec::new();
        let receive = far.read_to_end(&mut received);
        let ((), count) = tokio::join!(send, receive);
        assert_eq!((count.unwrap() as u64, meter.written(), meter.read(), meter.open()), (300_000, 300_000, 0, 0));
    }

    #[tokio::test]
    async fn parts_that_are_written_together_arrive_in_order_and_are_counted() {
        for rate in [None, Some(1 << 30)] {
            let meter = Meter::new(rate);
            let (near, mut far) = tokio::io::duplex(1 << 16);
            let mut near = Metered::new(near, meter.clone());
            let parts = [vec![], vec![1; 10], vec![2; 20_000], vec![3; 5]];
            let mut written = 0;
            let whole = parts.concat();
            while written < whole.len() {
                let (mut skip, mut slices) = (written, Vec::new());
                for part in &parts {
                    slices.push(io::IoSlice::new(&part[skip.min(part.len())..]));
                    skip = skip.saturating_sub(part.len());
                }
                written += near.write_vectored(&slices).await.unwrap();
            }
            drop(near);
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert!(received == whole);
            assert_eq!(meter.written(), whole.len() as u64);
        }
    }

    #[tokio::test]
    async fn a_socket_that_stands_still_is_given_up_and_a_slow_one_is_not() {
        let millis = Duration::from_millis;
        let patience = Patience { first: millis(50), between: millis(400) };
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut near = Metered::new(near, Meter::new(None));
        near.be_patient(patience);
        let started = Instant::now();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < millis(400), "the first byte has less time");

        near.be_patient(patience);
        let slow = async {
            for _ in 0..4 {
                far.write_u8(1).await.unwrap();
                tokio::time::sleep(millis(150)).await;
            }
        };
        let listen = async {
            let mut read = 0;
            let error = loop {
                match near.read_u8().await {
                    Ok(_) => read += 1,
                    Err(error) => break error,
                }
            };
            (read, error.kind())
        };
        let ((), outcome) = tokio::join!(slow, listen);
        assert_eq!(outcome, (4, io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn waiting_for_the_meter_is_not_standing_still() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut near = Metered::new(near, Meter::new(Some(100_000)));
        near.be_patient(Patience { first: Duration::from_millis(60), between: Duration::from_millis(60) });
        // 16 KiB take 160 ms at this rate.
        near.write_all(&[0; 40_000]).await.unwrap();
        drop(near);
        assert_eq!(far.read_to_end(&mut Vec::new()).await.unwrap(), 40_000);
    }

    #[tokio::test]
    async fn without_a_rate_nothing_waits() {
        let meter = Meter::new(None);
        let (near, _far) = tokio::io::duplex(1 << 20);
        Metered::new(near, meter.clone()).write_all(&[0; 1 << 20]).await.unwrap();
        assert_eq!((meter.written(), meter.read()), (1 << 20, 0));
    }
}
