//! One session of the swarm over HTTPS: the messages that wait each way, and whether the other end is still there.
//!
//! Not here: the routes, and bytes of blobs; see [`super::https`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use protocol::name::NodeId;
use protocol::rate_limit::Bucket;
use protocol::swarm::{Input, pace};
use protocol::wire::Message;
use protocol::wire::codec;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Command;
use super::connections::CONTROL_QUEUE_MAX;
use super::https::url;
use crate::clock::Clock;

/// Bytes of messages in one request or answer.
pub(super) const MESSAGES_BYTES_MAX: usize = 1 << 20;
/// A request for messages is answered after this long, also with none: well under the time after which it would be given up.
const WAIT: Duration = Duration::from_secs(5);
/// A peer that dialled and does not ask for messages for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// A session ends after this long: the next dial tries QUIC first.
const SESSION_TIME: Duration = Duration::from_secs(600);

/// The way to a peer over HTTPS. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Https(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    id: usize,
    node: NodeId,
    address: SocketAddr,
    client: reqwest::Client,
    received: AtomicU64,
    sent: AtomicU64,
    closed: watch::Sender<bool>,
}

impl Https {
    pub(super) fn new(node: NodeId, address: SocketAddr, client: reqwest::Client) -> Self {
        /// Counted down, so that it is no number of a QUIC connection.
        static NEXT: AtomicUsize = AtomicUsize::new(usize::MAX);
        let id = NEXT.fetch_sub(1, Ordering::Relaxed);
        let (received, sent, closed) = (AtomicU64::new(0), AtomicU64::new(0), watch::Sender::new(false));
        Self(Arc::new(Peer { id, node, address, client, received, sent, closed }))
    }

    pub(super) fn id(&self) -> usize {
        self.0.id
    }

    pub(super) fn node(&self) -> NodeId {
        self.0.node
    }

    /// Where the peer takes connections.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(super) fn client(&self) -> &reqwest::Client {
        &self.0.client
    }

    pub(super) fn close(&self) {
        self.0.closed.send_replace(true);
    }

    fn is_open(&self) -> bool {
        !*self.0.closed.borrow()
    }

    async fn closed(&self) {
        let _ = self.0.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub(super) fn count_received(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, bytes: u64) {
        self.0.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Payload received and sent so far, in bytes.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.0.received.load(Ordering::Relaxed), self.0.sent.load(Ordering::Relaxed))
    }
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    link: Https,
    dialled: bool,
    queue: tokio::sync::Mutex<mpsc::Receiver<Message>>,
    heard_at: Mutex<Instant>,
    clock: Clock,
    bucket: Mutex<Bucket>,
}

impl Session {
    /// A session over `link`, and where its messages to the peer are put; `dialled` by this node or not.
    pub(super) fn new(link: Https, dialled: bool) -> (Self, mpsc::Sender<Message>) {
        let (outbox, queue) = mpsc::channel(CONTROL_QUEUE_MAX);
        let (queue, heard_at, bucket) = (tokio::sync::Mutex::new(queue), Mutex::new(Instant::now()), Mutex::default());
        (Self { link, dialled, queue, heard_at, clock: Clock::start(), bucket }, outbox)
    }

    pub(super) const fn link(&self) -> &Https {
        &self.link
    }

    pub(super) fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// Takes messages of the peer.
    pub(super) async fn hear(&self, body: &[u8], commands: &mpsc::Sender<Command>) -> anyhow::Result<()> {
        self.note_heard();
        for message in messages(body)? {
            while let Err(wait) = self.take_turn() {
                tokio::time::sleep(wait).await;
            }
            let _ = commands.send(Command::Happened(Input::Received { peer: self.link.node(), message })).await;
        }
        Ok(())
    }

    fn take_turn(&self) -> Result<(), Duration> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(self.clock.now(), pace::MESSAGES)
    }

    /// The messages to the peer as soon as there are some; none after a while.
    pub(super) async fn next_frames(&self) -> Vec<u8> {
        self.note_heard();
        let mut queue = self.queue.lock().await;
        let first = tokio::select! {
            first = timeout(WAIT, queue.recv()) => first.ok().flatten(),
            () = self.link.closed() => None,
        };
        self.note_heard();
        gather(first, &mut queue)
    }

    /// Lives until the peer is gone or the link closed, and says so.
    pub(super) async fn run(self: Arc<Self>, commands: mpsc::Sender<Command>) {
        let over = async {
            if self.dialled {
                tokio::select! {
                    error = self.send_messages() => error,
                    error = self.ask_for_messages(&commands) => error,
                }
            } else {
                self.wait_for_silence().await
            }
        };
        tokio::select! {
            error = over => tracing::debug!(node = %self.link.node(), error = format!("{error:#}"), "a session over HTTPS ended"),
            () = self.link.closed() => {}
            () = tokio::time::sleep(SESSION_TIME) => {}
        }
        self.link.close();
        let _ = commands.send(Command::Closed { peer: self.link.node(), connection: self.link.id() }).await;
    }

    async fn send_messages(&self) -> anyhow::Error {
        let mut queue = self.queue.lock().await;
        loop {
            let Some(first) = queue.recv().await else { return anyhow::anyhow!("nothing more is said") };
            let body = gather(Some(first), &mut queue);
            let sent = self.link.client().post(url(self.link.address(), "messages")).body(body).send().await;
            if let Err(error) = sent.and_then(reqwest::Response::error_for_status) {
                return error.into();
            }
        }
    }

    async fn ask_for_messages(&self, commands: &mpsc::Sender<Command>) -> anyhow::Error {
        let once = async || {
            let response = self.link.client().get(url(self.link.address(), "messages")).send().await?.error_for_status()?;
            let body = crate::device::seed_client::bounded(response, MESSAGES_BYTES_MAX).await?;
            self.hear(&body, commands).await
        };
        loop {
            if let Err(error) = once().await {
                return error;
            }
        }
    }

    async fn wait_for_silence(&self) -> anyhow::Error {
        loop {
            let until = *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) + SILENCE_MAX;
            if until <= Instant::now() {
                return anyhow::anyhow!("the peer asks for no messages any more");
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn note_heard(&self) {
        *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// `first` and what else waits, as frames.
fn gather(first: Option<Message>, queue: &mut mpsc::Receiver<Message>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut next = first;
    while let Some(message) = next {
        bytes.extend(codec::encode(&message));
        next = if bytes.len() < MESSAGES_BYTES_MAX / 2 { queue.try_recv().ok() } else { None };
    }
    bytes
}

/// Messages as frames, one after the other.
pub(super) fn frames(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(codec::encode).collect()
}

/// The messages of frames.
pub(super) fn messages(mut body: &[u8]) -> anyhow::Result<Vec<Message>> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let (prefix, rest) = body.split_first_chunk::<4>().context("a frame ends early")?;
        let length = codec::frame_length(*prefix)?;
        ensure!(rest.len() >= length, "a frame ends early");
        messages.push(codec::decode(&rest[..length])?);
        body = &rest[length..];
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::digest::Digest;

    #[test]
    fn frames_are_read_as_they_were_written_and_nothing_else_is() {
        let blob = Digest::sha256(b"blob");
        let said = [Message::Interest { blob }, Message::Claim { blob, span: 3 }];
        let bytes = frames(&said);
        assert_eq!(messages(&bytes).unwrap(), said);
        assert!(messages(&bytes[..bytes.len() - 1]).is_err());
        assert!(messages(&[0xff; 8]).is_err());
        assert_eq!(messages(&[]).unwrap(), []);
    }
}
