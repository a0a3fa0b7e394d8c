//! Bringing units from the seed or a peer: each is verified before it is written, and written before it counts.
//!
//! Not here: which units, and from whom; [`protocol::swarm`] decides.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use protocol::digest::Digest;
use protocol::swarm::{FetchEnd, FetchId, Input};
use protocol::verify::{BlobHasher, DigestMismatch, UnitProof, UnitRefused, UnitVerifier, VerifiedBlob};
use protocol::wire::{Get, GetReply};
use quinn::Connection;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use super::Command;
use crate::device::partial::Partial;
use crate::device::seed_client::{BlobError, SeedClient};
use crate::store::blobs::BlobStore;
use crate::transport::quic;

/// Bytes read and hashed at a time where only the whole digest proves them.
const BLOCK_BYTES: usize = 64 << 10;
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
}

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
pub(super) async fn from_peer(job: Job, connection: Connection) {
    let end = match request(&job, &connection).await {
        Ok((GetReply::Sending, mut stream)) => job.store(&mut stream).await,
        Ok((GetReply::NotHeld, _)) => FetchEnd::NotHeld,
        Ok((GetReply::Busy, _)) => FetchEnd::Busy,
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

/// Checks the whole digest and, if it fits, hands the file to the store.
///
/// # Errors
/// The outer one when the disk fails, the inner one when the bytes are not the blob.
pub(super) async fn verify_and_keep(partial: &Partial, blobs: &BlobStore) -> anyhow::Result<Result<VerifiedBlob, DigestMismatch>> {
    let checked = partial.clone();
    let verified = tokio::task::spawn_blocking(move || checked.verify_whole()).await.context("hashing was interrupted")??;
    if let Ok(proof) = verified {
        blobs.adopt(proof, partial.content_path().to_owned()).await?;
    }
    Ok(verified)
}

async fn request(job: &Job, connection: &Connection) -> anyhow::Result<(GetReply, quinn::RecvStream)> {
    let (mut send, mut receive) = connection.open_bi().await?;
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
        for unit in self.units.clone() {
            let range = self.partial.geometry().bytes_of(unit..unit + 1);
            let mut bytes = vec![0; usize::try_from(range.end - range.start).context("a unit is at most 64 KiB")?];
            self.fill(stream, &mut bytes, &mut received).await?;
            let (partial, verifier) = (self.partial.clone(), verifier.clone());
            let stored = tokio::task::spawn_blocking(move || {
                let unit = verifier.verify(unit, Bytes::from(bytes)).map_err(Interrupted::Refused)?;
                partial.write(&unit).map_err(Interrupted::Storage)?;
                Ok::<_, Interrupted>(unit.proof())
            });
            let proof = stored.await.context("storing a unit was interrupted")??;
            self.tell_stored(proof).await;
        }
        Ok(())
    }

    /// Reads until `bytes` is full, and says now and then how far the fetch is: on a slow WAN a unit takes seconds.
    async fn fill(&self, stream: &mut (impl AsyncRead + Unpin), bytes: &mut [u8], received: &mut Received) -> Result<(), Interrupted> {
        let mut filled = 0;
        while filled < bytes.len() {
            let count = stream.read(&mut bytes[filled..]).await.context("the stream broke")?;
            if count == 0 {
                return Err(Interrupted::Broken(anyhow::anyhow!("the stream ended early")));
            }
            filled += count;
            received.bytes += count as u64;
            if received.told.elapsed() >= PROGRESS_INTERVAL {
                received.told = Instant::now();
                self.tell(Input::Progressed { fetch: self.fetch, bytes: received.bytes }).await;
            }
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
            let mut bytes = vec![0; length];
            self.fill(stream, &mut bytes, &mut received).await?;
            let (partial, offset) = (self.partial.clone(), hasher.size());
            let written = tokio::task::spawn_blocking(move || {
                hasher.update(&bytes);
                partial.write_unproven(offset, &bytes).map(|()| hasher)
            });
            hasher = written.await.context("storing was interrupted")?.map_err(Interrupted::Storage)?;
        }
        let refused = |_| Interrupted::Refused(UnitRefused { blob: self.blob, unit: 0 });
        let proof = hasher.finish(self.blob).map_err(refused)?;
        self.tell_stored(proof.sole_unit()).await;
        Ok(())
    }

    async fn tell_stored(&self, proof: UnitProof) {
        self.tell(Input::UnitStored { fetch: self.fetch, proof }).await;
    }

    async fn tell(&self, input: Input) {
        let _ = self.commands.send(Command::Happened(input)).await;
    }

    async fn end(&self, end: FetchEnd) {
        self.tell(Input::FetchEnded { fetch: self.fetch, end }).await;
    }
}
