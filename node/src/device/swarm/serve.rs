//! Sending units to peers, in blocks, with a deadline on each.
//!
//! Not here: whether and when a request is served; [`protocol::swarm`] decides.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use protocol::name::NodeId;
use protocol::swarm::{AskId, Input};
use protocol::wire::{Get, GetReply};
use quinn::SendStream;
use tokio::sync::{mpsc, oneshot};

use super::Command;
use super::content::Reader;
use crate::transport::quic;

/// Read and sent at a time.
const BLOCK_BYTES: u64 = 128 << 10;
/// A peer that takes longer for a block is too slow to be worth a place.
const BLOCK_TIME: Duration = Duration::from_secs(10);

/// A request of a peer.
pub(crate) struct Ask {
    pub(super) peer: NodeId,
    pub(super) get: Get,
    pub(super) send: SendStream,
}

/// What the machine decided about a request.
pub(super) enum Decision {
    Serve,
    NotHeld,
    Busy,
}

/// Waits for the decision and carries it out.
pub(super) fn start(
    id: AskId,
    mut ask: Ask,
    decision: oneshot::Receiver<Decision>,
    reader: Option<Reader>,
    commands: mpsc::Sender<Command>,
) {
    tokio::spawn(async move {
        let served = match (decision.await, reader) {
            (Ok(Decision::Serve), Some(reader)) => serve(&mut ask, reader).await,
            (Ok(Decision::Busy), _) => reply(&mut ask.send, GetReply::Busy).await,
            (Ok(Decision::NotHeld | Decision::Serve), _) => reply(&mut ask.send, GetReply::NotHeld).await,
            (Err(_), _) => Ok(()),
        };
        if let Err(error) = served {
            tracing::debug!(blob = %ask.get.blob, error = format!("{error:#}"), "a request was not served to the end");
            let _ = ask.send.reset(0u8.into());
        }
        let _ = ask.send.finish();
        let _ = commands.send(Command::Happened(Input::AskEnded { ask: id })).await;
    });
}

async fn reply(send: &mut SendStream, reply: GetReply) -> anyhow::Result<()> {
    tokio::time::timeout(BLOCK_TIME, quic::write_frame(send, &reply)).await.context("the peer does not read")??;
    Ok(())
}

async fn serve(ask: &mut Ask, reader: Reader) -> anyhow::Result<()> {
    let range = reader.geometry.bytes_of(ask.get.first_unit..ask.get.first_unit + ask.get.units);
    let read = Arc::new(tokio::task::spawn_blocking(move || reader.open()).await.context("opening a blob was interrupted")??);
    reply(&mut ask.send, GetReply::Sending).await?;
    let mut offset = range.start;
    while offset < range.end {
        let length = usize::try_from((range.end - offset).min(BLOCK_BYTES)).context("a block fits memory")?;
        let read = read.clone();
        let block = tokio::task::spawn_blocking(move || {
            let mut block = vec![0; length];
            read(offset, &mut block).map(|()| Bytes::from(block))
        });
        let block = block.await.context("reading was interrupted")?.context("reading a stored blob")?;
        offset += block.len() as u64;
        tokio::time::timeout(BLOCK_TIME, ask.send.write_chunk(block)).await.context("the peer reads too slowly")??;
    }
    Ok(())
}
