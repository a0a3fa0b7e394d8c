//! A wanted blob's way through this device's disk: opening its files, counting what is stored, checking the whole, and finding
//! rot.
//!
//! Not here: which bytes are where, see [`super::content`]; verifying and writing units, see [`super::fetch`].

use protocol::digest::Digest;
use protocol::rollout::Fetched;
use protocol::swarm::{FetchId, Input};
use protocol::verify::UnitProof;

use super::content::{self, Held};
use super::fetch::{self, Checked};
use super::{Command, Driver, Fetch, News, OPEN_RETRY, Want};

impl Driver {
    pub(super) fn open(&mut self, blob: Digest) {
        let Some(Want { number, size, proof }) = self.wants.get(&blob).cloned() else { return };
        let opening = self.content.open(blob, size, proof);
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let opened = opening.await.map_err(|error| format!("{error:#}"));
            let _ = commands.send(Command::Opened { blob, want: number, opened }).await;
        });
    }

    pub(super) fn on_opened(&mut self, blob: Digest, want: u64, opened: Result<content::Opened, String>) {
        let now = self.clock.now();
        if self.wants.get(&blob).is_none_or(|known| known.number != want) {
            if let Ok(content::Opened::Partial { partial, .. }) = opened
                && !self.wants.contains_key(&blob)
            {
                partial.discard();
            }
            return;
        }
        match opened {
            Ok(content::Opened::Whole { proof, geometry }) => {
                self.stored.extend(self.wants.remove_entry(&blob));
                self.content.insert(blob, Held::Whole { geometry });
                self.swarm.handle_input(now, Input::Held { blob: proof, geometry });
                self.tell_agent(News::Stored(blob, Fetched::default()));
            }
            Ok(content::Opened::Partial { partial, verifier, held }) => {
                let geometry = partial.geometry();
                self.content.insert(blob, Held::Partial { partial, verifier });
                self.swarm.handle_input(now, Input::Wanted { blob, geometry, held });
            }
            Ok(content::Opened::ListUnusable { list }) => self.tell_agent(News::ListUnusable(list)),
            Err(error) => {
                tracing::error!(event = "storage_failed", %blob, error, "a wanted blob cannot be stored; free disk space or check the disk");
                let commands = self.commands.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(OPEN_RETRY).await;
                    let _ = commands.send(Command::TryAgain { blob, want }).await;
                });
            }
        }
    }

    pub(super) fn on_stored(&mut self, fetch: FetchId, proofs: Vec<UnitProof>) {
        if let Some(Fetch { source, blob, .. }) = self.fetches.get(&fetch)
            && let Some(geometry) = self.content.get(blob).map(Held::geometry)
        {
            let bytes = |proof: &UnitProof| geometry.bytes_of(proof.unit()..proof.unit() + 1);
            let bytes: u64 = proofs.iter().map(bytes).map(|range| range.end - range.start).sum();
            *self.sources.entry(*blob).or_default().entry(*source).or_default() += bytes;
        }
        for proof in proofs {
            self.swarm.handle_input(self.clock.now(), Input::UnitStored { fetch, proof });
        }
    }

    pub(super) fn verify(&mut self, blob: Digest) {
        let Some(Held::Partial { partial, verifier }) = self.content.get(&blob).cloned() else { return };
        let (commands, blobs) = (self.commands.clone(), self.content.store().clone());
        self.verifying.spawn(async move {
            match fetch::verify_and_keep(&partial, verifier, &blobs).await {
                Ok(Checked::Kept(proof)) => {
                    let _ = commands.send(Command::Happened(Input::BlobVerified { blob: proof })).await;
                }
                Ok(Checked::Mismatched(mismatch)) => {
                    tracing::warn!(%blob, found = %mismatch.found, "the units fit the hash list, but the blob does not fit its digest");
                    let _ = commands.send(Command::Happened(Input::BlobMismatched { blob })).await;
                }
                Ok(Checked::Rotten) => {
                    let _ = commands.send(Command::Rechecked { blob, sound: Ok(false) }).await;
                }
                Err(error) => {
                    tracing::error!(event = "storage_failed", %blob, error = format!("{error:#}"), "the blob cannot be stored; free disk space or check the disk");
                    let _ = commands.send(Command::Happened(Input::VerifyFailed { blob })).await;
                }
            }
        });
    }

    pub(super) fn recheck(&self, blob: Digest) {
        let (checking, commands) = (self.content.recheck(blob), self.commands.clone());
        tokio::spawn(async move {
            let sound = checking.await.map_err(|error| format!("{error:#}"));
            let _ = commands.send(Command::Rechecked { blob, sound }).await;
        });
    }

    pub(super) fn on_rechecked(&mut self, blob: Digest, sound: Result<bool, String>) {
        match sound {
            Ok(true) => tracing::info!(%blob, "a peer got a wrong unit of a blob that is sound here"),
            Ok(false) => {
                if let Some(Held::Partial { .. }) = self.content.get(&blob) {
                    tracing::error!(event = "storage_fault", %blob, "what was stored of a blob has rotted; it is fetched again");
                }
                self.content.forget(&blob);
                self.swarm.handle_input(self.clock.now(), Input::Rotten { blob });
                if let Some(Want { size, proof, .. }) = self.stored.remove(&blob).or_else(|| self.wants.get(&blob).cloned()) {
                    self.on_command(Command::Want { blob, size, proof });
                }
            }
            Err(error) => tracing::error!(event = "storage_failed", %blob, error, "a stored blob cannot be read; check the disk"),
        }
    }
}
