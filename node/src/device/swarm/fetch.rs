//! Bringing units from the seed or a peer: each is verified before it is written, and written before it counts. What has
//! arrived is verified and written in blocks on threads of their own while the next block fills: a few units at a time where
//! bytes come fast, each unit at once where they come slowly.
//!
//! Not here: which units, and from whom; [`protocol::swarm`] decides.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::Either;
use protocol::digest::Digest;
use protocol::swarm::{FetchEnd, FetchId, Input};
use protocol::verify::{BlobHasher, DigestMismatch, UnitProof, UnitRefused, UnitVerifier, VerifiedBlob, VerifiedUnit};
use protocol::wire::{Get, GetReply};
use quinn::Connection;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::Command;
use super::buffers::{BLOCK_BYTES, Block, Buffers};
use super::https;
use super::link::Link;
use crate::device::partial::Partial;
use crate::device::seed_client::{BlobError, SeedClient};
use crate::store::blobs::BlobStore;
use crate::transport::quic;

/// A block is written when it is full, or holds whole units and is older than this: a tree of peers is about four deep, so that
/// waiting for more adds little to what a site needs.
const BLOCK_TIME: Duration = Duration::from_millis(3);
/// The machine is told of progress without a whole unit this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// One fetch.
pub(super) struct Job {
    pub(super) fetch: FetchId,
    pub(super) blob: Digest,
    pub(super) units: Range<u32>,
    pub(super) partial: Partial,
    pub(super) verifier: Option<Arc<UnitVerifier>>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) buffers: Buffers,
    /// One permit for each block that may be verified and written at a time.
    pub(super) writers: Arc<Semaphore>,
}

/// A block that fills with units.
struct Filling {
    block: Block,
    /// The unit that the block starts with.
    first: u32,
    filled: usize,
    since: Instant,
}

/// The block before, on its way to the disk.
type Writing = Option<JoinHandle<Result<(), Interrupted>>>;

/// How much of a fetch arrived, and when the machine was told.
struct Received {
    bytes: u64,
    told: Instant,
}

/// Why a fetch ended early.
enum Interrupted {
    Refused(UnitRefused),
    Storage(std::io::Error),
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Interrupted {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

/// Fetches from the seed, over the WAN.
pub(super) async fn from_seed(job: Job, client: Arc<SeedClient>) {
    let range = job.partial.geometry().bytes_of(job.units.clone());
    let end = match client.blob_range(&job.blob, range).await {
        Ok(mut stream) => job.store(&mut stream).await,
        Err(BlobError::Missing) => {
            tracing::warn!(event = "blob_missing", blob = %job.blob, "the seed does not have a blob of a signed version; push it again");
            FetchEnd::NotHeld
        }
        Err(error) => {
            tracing::debug!(blob = %job.blob, error = format!("{error:#}"), "the seed did not send");
            FetchEnd::Failed
        }
    };
    job.end(end).await;
}

/// Fetches from a peer, over the LAN.
pub(super) async fn from_peer(job: Job, link: Link) {
    let bytes = job.partial.geometry().bytes_of(job.units.clone());
    let answer = match link {
        Link::Quic(connection) => request(&job, &connection).await.map(|(reply, stream)| (reply, Some(Either::Left(stream)))),
        Link::Https(link) => https::request(&link, &job.blob, bytes).await.map(|(reply, body)| (reply, body.map(Either::Right))),
    };
    let end = match answer {
        Ok((GetReply::Sending, Some(Either::Left(mut stream)))) => job.store(&mut stream).await,
        Ok((GetReply::Sending, Some(Either::Right(mut body)))) => job.store(&mut body).await,
        Ok((GetReply::NotHeld, _)) => FetchEnd::NotHeld,
        Ok((GetReply::Busy, _)) => FetchEnd::Busy,
        Ok((GetReply::Sending, None)) => FetchEnd::Failed,
        Err(error) => {
            tracing::debug!(blob = %job.blob, error = format!("{error:#}"), "a peer did not answer");
            FetchEnd::Failed
        }
    };
    job.end(end).await;
}

/// Fails a fetch from a peer that is gone.
pub(super) async fn fail(job: Job) {
    job.end(FetchEnd::Failed).await;
}

/// What the check of a whole blob came to.
pub(super) enum Checked {
    /// It is in the store.
    Kept(VerifiedBlob),
    /// Its units fit the hash list, but the whole does not fit the digest.
    Mismatched(DigestMismatch),
    /// What was stored of it has changed on the disk since.
    Rotten,
}

/// Checks the whole digest and, if it fits, hands the file to the store.
///
/// # Errors
/// When the disk fails.
pub(super) async fn verify_and_keep(partial: &Partial, verifier: Option<Arc<UnitVerifier>>, blobs: &BlobStore) -> anyhow::Result<Checked> {
    let checking = partial.clone();
    let checked = tokio::task::spawn_blocking(move || {
        let mismatch = match checking.verify_whole()? {
            Ok(proof) => return Ok(Checked::Kept(proof)),
            Err(mismatch) => mismatch,
        };
        let sound = verifier.map_or(Ok(true), |verifier| checking.is_sound(&verifier))?;
        std::io::Result::Ok(if sound { Checked::Mismatched(mismatch) } else { Checked::Rotten })
    });
    let checked = checked.await.context("hashing was interrupted")??;
    if let Checked::Kept(proof) = checked {
        blobs.adopt(proof, partial.content_path().to_owned()).await?;
    }
    Ok(checked)
}

async fn request(job: &Job, connection: &Connection) -> anyhow::Result<(GetReply, quinn::RecvStream)> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.set_priority(quic::CONTROL_PRIORITY)?;
    let get = Get { blob: job.blob, first_unit: job.units.start, units: job.units.end - job.units.start };
    quic::write_frame(&mut send, &get).await?;
    send.finish()?;
    Ok((quic::read_frame(&mut receive).await?, receive))
}

impl Job {
    async fn store(&self, stream: &mut (impl AsyncRead + Unpin)) -> FetchEnd {
        let outcome = match &self.verifier {
            Some(verifier) => self.store_units(stream, verifier).await,
            None => self.store_whole(stream).await,
        };
        match outcome {
            Ok(()) => FetchEnd::Complete,
            Err(Interrupted::Refused(refused)) => FetchEnd::Refused { unit: refused.unit },
            Err(Interrupted::Storage(error)) => {
                tracing::error!(event = "storage_failed", blob = %self.blob, %error, "what came cannot be stored; free disk space or check the disk");
                FetchEnd::StorageFailed
            }
            Err(Interrupted::Broken(error)) => {
                tracing::debug!(blob = %self.blob, error = format!("{error:#}"), "a fetch broke off");
                FetchEnd::Failed
            }
        }
    }

    async fn store_units(&self, stream: &mut (impl AsyncRead + Unpin), verifier: &Arc<UnitVerifier>) -> Result<(), Interrupted> {
        let mut received = Received { bytes: 0, told: Instant::now() };
        let mut filling = Filling { block: self.buffers.take(), first: self.units.start, filled: 0, since: Instant::now() };
        let mut writing: Writing = None;
        while filling.first < self.units.end {
            let (whole, bytes, limit) = self.whole_units(&filling);
            let is_full = filling.filled == limit;
            if whole > 0 && (is_full || filling.since.elapsed() >= BLOCK_TIME) {
                let (next, carried) = (self.buffers.take(), filling.filled - bytes);
                let full = std::mem::replace(&mut filling.block, next);
                filling.block.bytes_mut()[..carried].copy_from_slice(&full.bytes()[bytes..bytes + carried]);
                self.written(writing.take()).await?;
                writing = Some(self.write(full.freeze(bytes), filling.first, verifier).await?);
                (filling.first, filling.filled, filling.since) = (filling.first + whole, carried, Instant::now());
                continue;
            }
            let (start, due) = (filling.filled, filling.since + BLOCK_TIME);
            let read = stream.read(&mut filling.block.bytes_mut()[start..limit]);
            let count = if whole == 0 {
                read.await
            } else {
                match tokio::time::timeout_at(due.into(), read).await {
                    Ok(read) => read,
                    Err(_) => continue,
                }
            };
            filling.filled += self.count_read(count, &mut received).await?;
        }
        self.written(writing).await
    }

    /// How many whole units a block holds, their bytes, and how many bytes of this fetch the block can hold.
    fn whole_units(&self, filling: &Filling) -> (u32, usize, usize) {
        let geometry = self.partial.geometry();
        let left = geometry.bytes_of(filling.first..self.units.end);
        let left = usize::try_from(left.end - left.start).unwrap_or(usize::MAX);
        let unit = usize::try_from(geometry.unit_bytes()).unwrap_or(usize::MAX);
        let limit = left.min(BLOCK_BYTES);
        let whole = if filling.filled == left { left.div_ceil(unit) } else { filling.filled / unit };
        #[expect(clippy::cast_possible_truncation, reason = "a block holds few units")]
        (whole as u32, (whole * unit).min(filling.filled), limit)
    }

    /// Starts to verify and write a block on a thread of its own, which says what it stored.
    async fn write(
        &self,
        block: Bytes,
        first: u32,
        verifier: &Arc<UnitVerifier>,
    ) -> Result<JoinHandle<Result<(), Interrupted>>, Interrupted> {
        let permit = self.writers.clone().acquire_owned().await.context("writing has stopped")?;
        let (partial, verifier, commands, fetch) = (self.partial.clone(), verifier.clone(), self.commands.clone(), self.fetch);
        let unit_bytes = usize::try_from(partial.geometry().unit_bytes()).context("a unit fits memory")?;
        Ok(tokio::task::spawn_blocking(move || {
            let (mut units, mut refused): (Vec<VerifiedUnit>, _) = (Vec::with_capacity(block.len().div_ceil(unit_bytes)), None);
            for (unit, start) in (first..).zip((0..block.len()).step_by(unit_bytes)) {
                match verifier.verify(unit, block.slice(start..(start + unit_bytes).min(block.len()))) {
                    Ok(verified) => units.push(verified),
                    Err(wrong) => {
                        refused = Some(wrong);
                        break;
                    }
                }
            }
            let stored = partial.write(&units).map_err(Interrupted::Storage);
            drop(permit);
            stored?;
            let proofs = units.iter().map(VerifiedUnit::proof).collect();
            let _ = commands.blocking_send(Command::Stored { fetch, proofs });
            refused.map_or(Ok(()), |wrong| Err(Interrupted::Refused(wrong)))
        }))
    }

    /// Waits until a block is written.
    async fn written(&self, writing: Writing) -> Result<(), Interrupted> {
        match writing {
            Some(writing) => writing.await.context("storing units was interrupted")?,
            None => Ok(()),
        }
    }

    /// Counts what a read brought, and says now and then how far the fetch is: on a slow WAN a unit takes seconds.
    async fn count_read(&self, read: std::io::Result<usize>, received: &mut Received) -> Result<usize, Interrupted> {
        let count = read.context("the stream broke")?;
        if count == 0 {
            return Err(Interrupted::Broken(anyhow::anyhow!("the stream ended early")));
        }
        received.bytes += count as u64;
        if received.told.elapsed() >= PROGRESS_INTERVAL {
            received.told = Instant::now();
            self.tell(Input::Progressed { fetch: self.fetch, bytes: received.bytes }).await;
        }
        Ok(count)
    }

    /// Reads until `bytes` is full.
    async fn fill(&self, stream: &mut (impl AsyncRead + Unpin), bytes: &mut [u8], received: &mut Received) -> Result<(), Interrupted> {
        let mut filled = 0;
        while filled < bytes.len() {
            let read = stream.read(&mut bytes[filled..]).await;
            filled += self.count_read(read, received).await?;
        }
        Ok(())
    }

    /// Stores a blob that is a single unit because only its whole digest proves it.
    async fn store_whole(&self, stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Interrupted> {
        let size = self.partial.geometry().size();
        let mut hasher = BlobHasher::of(&self.blob);
        let mut received = Received { bytes: 0, told: Instant::now() };
        while hasher.size() < size {
            let length = usize::try_from(size - hasher.size()).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let mut block = self.buffers.take();
            self.fill(stream, &mut block.bytes_mut()[..length], &mut received).await?;
            let (partial, offset) = (self.partial.clone(), hasher.size());
            let written = tokio::task::spawn_blocking(move || {
                hasher.update(&block.bytes()[..length]);
                partial.write_unproven(offset, &block.bytes()[..length]).map(|()| hasher)
            });
            hasher = written.await.context("storing was interrupted")?.map_err(Interrupted::Storage)?;
        }
        let refused = |_| Interrupted::Refused(UnitRefused { blob: self.blob, unit: 0 });
        let proof = hasher.finish(self.blob).map_err(refused)?;
        let proofs: Vec<UnitProof> = vec![proof.sole_unit()];
        let _ = self.commands.send(Command::Stored { fetch: self.fetch, proofs }).await;
        Ok(())
    }

    async fn tell(&self, input: Input) {
        let _ = self.commands.send(Command::Happened(input)).await;
    }

    async fn end(&self, end: FetchEnd) {
        self.tell(Input::FetchEnded { fetch: self.fetch, end }).await;
    }
}
