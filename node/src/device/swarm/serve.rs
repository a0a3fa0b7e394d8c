//! Sending units to peers: the next block is read while one is sent, and a peer that reads too slowly is given up.
//!
//! Not here: whether and when a request is served; [`protocol::swarm`] decides.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use protocol::name::NodeId;
use protocol::swarm::{AskId, Input, pace};
use protocol::time::Instant;
use protocol::wire::{Get, GetReply};
use quinn::SendStream;
use tokio::sync::{mpsc, oneshot};

use super::buffers::{BLOCK_BYTES, Buffers};
use super::content::Reader;
use super::windows::Way;
use super::{Command, Driver};
use crate::transport::quic;

/// A reply is a few bytes.
const REPLY_TIME: Duration = Duration::from_secs(10);

/// A request of a peer.
pub(crate) struct Ask {
    pub(super) peer: NodeId,
    pub(super) get: Get,
    pub(super) reply: Reply,
}

/// Blocks of an answer over HTTPS, as they are read.
pub(super) type Blocks = mpsc::Receiver<std::io::Result<Bytes>>;

/// Where the answer goes.
pub(super) enum Reply {
    /// The request's own stream.
    Stream(SendStream),
    /// An answer over HTTPS: first the word, then the blocks.
    Http { word: Option<oneshot::Sender<(GetReply, Blocks)>>, blocks: mpsc::Sender<std::io::Result<Bytes>>, body: Option<Blocks> },
}

impl Reply {
    /// An answer over HTTPS, and where it appears.
    pub(super) fn http() -> (Self, oneshot::Receiver<(GetReply, Blocks)>) {
        let (word, answer) = oneshot::channel();
        let (blocks, body) = mpsc::channel(1);
        (Self::Http { word: Some(word), blocks, body: Some(body) }, answer)
    }

    async fn say(&mut self, reply: GetReply) -> anyhow::Result<()> {
        match self {
            Self::Stream(send) => {
                tokio::time::timeout(REPLY_TIME, quic::write_frame(send, &reply)).await.context(TooSlow)??;
            }
            Self::Http { word, body, .. } => {
                let (word, body) = word.take().zip(body.take()).context("the answer was given already")?;
                word.send((reply, body)).map_err(|_| anyhow::anyhow!("the peer went away"))?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, block: Bytes) -> anyhow::Result<()> {
        match self {
            Self::Stream(send) => Ok(send.write_chunk(block).await?),
            Self::Http { blocks, .. } => blocks.send(Ok(block)).await.context("the peer went away"),
        }
    }

    /// Lets the peer see that the answer is not whole.
    fn abort(&mut self) {
        match self {
            Self::Stream(send) => {
                let _ = send.reset(0u8.into());
            }
            Self::Http { blocks, .. } => {
                let _ = blocks.try_send(Err(std::io::ErrorKind::BrokenPipe.into()));
            }
        }
    }

    fn finish(mut self) {
        if let Self::Stream(send) = &mut self {
            let _ = send.finish();
        }
    }
}

/// What the machine decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Serve,
    NotHeld,
    Busy,
}

/// A peer did not read what it asked for.
#[derive(Debug, thiserror::Error)]
#[error("the peer reads too slowly")]
struct TooSlow;

/// Waits for the decision and carries it out; the peer may take `time_for` so many bytes to read them.
pub(super) fn start(
    id: AskId,
    mut ask: Ask,
    decision: oneshot::Receiver<Decision>,
    reader: Option<Reader>,
    buffers: Buffers,
    time_for: fn(u64) -> Duration,
    commands: mpsc::Sender<Command>,
) {
    tokio::spawn(async move {
        let (blob, peer) = (ask.get.blob, ask.peer);
        let served = match (decision.await, reader) {
            (Ok(Decision::Serve), Some(reader)) => serve(&mut ask, reader, buffers, time_for).await,
            (Ok(Decision::Busy), _) => ask.reply.say(GetReply::Busy).await,
            (Ok(Decision::NotHeld | Decision::Serve), _) => ask.reply.say(GetReply::NotHeld).await,
            (Err(_), _) => Ok(()),
        };
        let mut too_slow = false;
        if let Err(error) = served {
            too_slow = error.is::<TooSlow>();
            tracing::debug!(%blob, node = %peer, error = format!("{error:#}"), "a request was not served to the end");
            ask.reply.abort();
        }
        ask.reply.finish();
        let _ = commands.send(Command::Served { ask: id, too_slow }).await;
    });
}

async fn serve(ask: &mut Ask, reader: Reader, buffers: Buffers, time_for: fn(u64) -> Duration) -> anyhow::Result<()> {
    let range = reader.geometry.bytes_of(ask.get.first_unit..ask.get.first_unit + ask.get.units);
    let deadline = tokio::time::Instant::now() + time_for(range.end - range.start);
    let read = Arc::new(tokio::task::spawn_blocking(move || reader.open()).await.context("opening a blob was interrupted")??);
    let block = |offset: u64| {
        let length = usize::try_from(range.end.saturating_sub(offset)).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let (read, mut block) = (read.clone(), buffers.take());
        tokio::task::spawn_blocking(move || read(offset, &mut block.bytes_mut()[..length]).map(|()| block.freeze(length)))
    };
    let mut offset = range.start;
    let mut next = (offset < range.end).then(|| block(offset));
    ask.reply.say(GetReply::Sending).await?;
    while let Some(reading) = next {
        let bytes: Bytes = reading.await.context("reading was interrupted")?.context("reading a stored blob")?;
        offset += bytes.len() as u64;
        next = (offset < range.end).then(|| block(offset));
        tokio::time::timeout_at(deadline, ask.reply.send(bytes)).await.context(TooSlow)??;
    }
    Ok(())
}

impl Driver {
    pub(super) fn on_asked(&mut self, ask: Ask) {
        let id = AskId(self.next_ask);
        self.next_ask += 1;
        let units = ask.get.first_unit..ask.get.first_unit + ask.get.units;
        let (decide, decision) = oneshot::channel();
        let (peer, blob) = (ask.peer, ask.get.blob);
        self.asks.insert(id, (peer, decide));
        start(id, ask, decision, self.content.reader(&blob), self.buffers.clone(), pace::time_for, self.commands.clone());
        self.swarm.handle_input(self.clock.now(), Input::Asked { peer, ask: id, blob, units });
    }

    pub(super) fn decide(&mut self, ask: AskId, decision: Decision) {
        if let Some((peer, waiting)) = self.asks.remove(&ask) {
            if decision == Decision::Serve {
                self.serving.insert(ask, peer);
                self.windows.begin(peer, Way::Getting);
            }
            let _ = waiting.send(decision);
        }
    }

    pub(super) fn on_served(&mut self, ask: AskId, too_slow: bool) {
        let now = self.clock.now();
        if let Some(peer) = self.serving.remove(&ask) {
            self.windows.end(now, peer, Way::Getting);
            if too_slow {
                self.on_slow_read(now, peer);
            }
        }
        self.swarm.handle_input(now, Input::AskEnded { ask });
    }

    /// A peer did not read what it asked for in time: its place is free again, and after some times so is its connection.
    fn on_slow_read(&mut self, now: Instant, node: NodeId) {
        self.slow.retain(|node, (_, until)| self.peers.contains_key(node) || *until > now);
        let (count, until) = self.slow.entry(node).or_default();
        *count += 1;
        if *count >= pace::SLOW_READS_MAX {
            (*count, *until) = (0, now + pace::SLOW_PEER_PAUSE);
            if let Some(peer) = self.peers.get(&node) {
                tracing::warn!(event = "peer_too_slow", peer = %peer.device, "a peer does not read what it asks for; disconnecting it for a while");
                peer.link.close(5, "reads too slowly");
            }
            self.dialer.on_banned(node, now + pace::SLOW_PEER_PAUSE);
            self.on_peer_gone(node);
        }
    }
}
