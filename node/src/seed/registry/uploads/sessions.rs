//! The uploads under way in this process, bounded in number and time.
//!
//! Not here: what is sent, and how it is answered; see the parent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::name::RepositoryName;
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};

use super::super::error::Refused;
use super::super::place;
use crate::store::blobs::Ingest;

/// The most uploads under way; each may hold an open file, of which a process has 1024 by default.
const UPLOADS_MAX: usize = 512;

/// The most uploads of one organisation, so that none can take all places.
const UPLOADS_PER_ORG_MAX: usize = 128;

/// The most bodies that are taken in at the same time; each has up to 512 KiB in memory.
const BODIES_MAX: usize = 32;

/// After this time without a request an upload ends.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// How often an upload is looked at for that.
const IDLE_CHECK: Duration = Duration::from_secs(5 * 60);

/// Uploads by id.
#[derive(Debug)]
pub(in super::super) struct Uploads {
    by_id: Mutex<HashMap<String, Arc<Session>>>,
    bodies: Semaphore,
}

/// One upload.
#[derive(Debug)]
pub(super) struct Session {
    repository: RepositoryName,
    received: AtomicU64,
    last_used: Mutex<Instant>,
    ingest: Arc<tokio::sync::Mutex<Option<Ingest>>>,
}

/// The right to add to an upload. When it ends half-way, because the connection broke, what arrived is written out, so that
/// an upload that waits takes no memory.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    session: &'a Session,
    ingest: Option<OwnedMutexGuard<Option<Ingest>>>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { by_id: Mutex::default(), bodies: Semaphore::new(BODIES_MAX) }
    }
}

impl Uploads {
    /// Starts an upload into a repository and gives it an id that nobody can guess.
    pub(super) fn start(self: &Arc<Self>, repository: &RepositoryName, ingest: Ingest) -> Result<String, Refused> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Refused::Failed(error.into()))?;
        let id = hex::encode(id);
        let session = Session {
            repository: repository.clone(),
            received: AtomicU64::new(0),
            last_used: Mutex::new(Instant::now()),
            ingest: Arc::new(tokio::sync::Mutex::new(Some(ingest))),
        };
        let mut by_id = self.by_id();
        let org = repository.org();
        let of_org = by_id.values().filter(|session| session.repository.org() == org).count();
        if by_id.len() >= UPLOADS_MAX || of_org >= UPLOADS_PER_ORG_MAX {
            return Err(Refused::TooManyRequests("too many uploads are under way; try again when some have ended".into()));
        }
        by_id.insert(id.clone(), Arc::new(session));
        drop(by_id);
        self.end_when_idle(id.clone());
        Ok(id)
    }

    /// The upload with this id, if it goes into this repository.
    pub(super) fn find(&self, repository: &RepositoryName, id: &str) -> Result<Arc<Session>, Refused> {
        let session = self.by_id().get(id).filter(|session| session.repository == *repository).cloned();
        let session = session.ok_or(Refused::UploadUnknown)?;
        session.touch();
        Ok(session)
    }

    /// Ends an upload; what arrived is gone when nobody adds to it any more.
    pub(super) fn remove(&self, id: &str) {
        self.by_id().remove(id);
    }

    /// Waits for a place to take in a body.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, Refused> {
        place(self.bodies.acquire()).await
    }

    fn end_when_idle(self: &Arc<Self>, id: String) {
        let uploads = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE_CHECK).await;
                let Some(uploads) = uploads.upgrade() else { return };
                let Some(session) = uploads.by_id().get(&id).cloned() else { return };
                if session.is_idle() {
                    uploads.remove(&id);
                    return;
                }
            }
        });
    }

    fn by_id(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// How many bytes arrived, as of the last request that ended.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The right to add to the upload, when no other request does.
    pub(super) async fn lock(&self) -> Result<Upload<'_>, Refused> {
        let ingest = Arc::clone(&self.ingest).lock_owned().await;
        self.touch();
        Ok(Upload { session: self, ingest: Some(ingest) })
    }

    fn touch(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_idle(&self) -> bool {
        let unused = self.last_used.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        unused > IDLE_MAX && self.ingest.try_lock().is_ok()
    }
}

impl Upload<'_> {
    /// The blob on its way in; unknown when another request has just ended the upload.
    pub(super) fn ingest(&mut self) -> Result<&mut Ingest, Refused> {
        self.ingest.as_mut().and_then(|ingest| ingest.as_mut()).ok_or(Refused::UploadUnknown)
    }

    /// Takes the blob out of the upload, which ends it.
    pub(super) fn take(mut self) -> Result<Ingest, Refused> {
        self.ingest.as_mut().and_then(|ingest| ingest.take()).ok_or(Refused::UploadUnknown)
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        self.session.touch();
        let Some(mut guard) = self.ingest.take() else { return };
        let Some(ingest) = guard.as_mut() else { return };
        self.session.received.store(ingest.size(), Ordering::Relaxed);
        if !ingest.is_flushed() {
            tokio::spawn(async move {
                let Some(ingest) = guard.as_mut() else { return };
                if let Err(error) = ingest.flush().await {
                    tracing::warn!(%error, "an upload that broke off cannot go on");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::blobs::BlobStore;
    use bytes::Bytes;
    use protocol::digest::Algorithm;

    fn repository(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_upload_is_bound_to_its_repository_and_ends_once() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads) = (BlobStore::open(dir.path()).unwrap(), Arc::new(Uploads::default()));
        let id = uploads.start(&repository("acme/web"), store.begin(Algorithm::Sha256)).unwrap();
        assert!(matches!(uploads.find(&repository("acme/api"), &id), Err(Refused::UploadUnknown)));
        let session = uploads.find(&repository("acme/web"), &id).unwrap();
        session.lock().await.unwrap().take().unwrap();
        assert!(matches!(session.lock().await.unwrap().ingest(), Err(Refused::UploadUnknown)));
        uploads.remove(&id);
        assert!(matches!(uploads.find(&repository("acme/web"), &id), Err(Refused::UploadUnknown)));
    }

    #[tokio::test]
    async fn no_organisation_takes_all_places() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads) = (BlobStore::open(dir.path()).unwrap(), Arc::new(Uploads::default()));
        for _ in 0..UPLOADS_PER_ORG_MAX {
            uploads.start(&repository("acme/web"), store.begin(Algorithm::Sha256)).unwrap();
        }
        assert!(matches!(uploads.start(&repository("acme/api"), store.begin(Algorithm::Sha256)), Err(Refused::TooManyRequests(_))));
        uploads.start(&repository("other/web"), store.begin(Algorithm::Sha256)).unwrap();
    }

    #[tokio::test]
    async fn what_broke_off_is_written_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads) = (BlobStore::open(dir.path()).unwrap(), Arc::new(Uploads::default()));
        let id = uploads.start(&repository("acme/web"), store.begin(Algorithm::Sha256)).unwrap();
        let session = uploads.find(&repository("acme/web"), &id).unwrap();
        session.lock().await.unwrap().ingest().unwrap().write(Bytes::from_static(b"hedge")).await.unwrap();
        assert_eq!(session.received(), 5);
        assert!(session.lock().await.unwrap().ingest().unwrap().is_flushed());
        assert!(!session.is_idle());
    }
}
