//! The uploads under way in this process, bounded in number and time.
//!
//! Not here: what is sent, and how it is answered; see the parent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::name::{OrgName, RepositoryName};
use protocol::upload_places::{Full, Held, Place, UploadPlaces};
use tokio::sync::OwnedMutexGuard;

use super::super::auth::Principal;
use super::super::error::Refused;
use crate::store::blobs::Ingest;

/// After this time without a request an upload ends.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// How often an upload is looked at for that.
const IDLE_CHECK: Duration = Duration::from_secs(5 * 60);

/// Uploads by id.
#[derive(Debug)]
pub(in super::super) struct Uploads {
    by_id: Mutex<HashMap<String, Arc<Session>>>,
    places: UploadPlaces,
}

/// One upload.
#[derive(Debug)]
pub(super) struct Session {
    repository: RepositoryName,
    org: OrgName,
    key: String,
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

impl Uploads {
    /// No uploads yet, and as many as there are `places`.
    pub(in super::super) fn new(places: UploadPlaces) -> Self {
        Self { by_id: Mutex::default(), places }
    }

    /// How many are under way.
    pub(in super::super) fn count(&self) -> usize {
        self.by_id().len()
    }

    /// Starts an upload into a repository and gives it an id that nobody can guess. It may take the place of one that was
    /// left behind.
    pub(super) fn start(self: &Arc<Self>, repository: &RepositoryName, by: &Principal, ingest: Ingest) -> Result<String, Refused> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Refused::Failed(error.into()))?;
        let id = hex::encode(id);
        let session = Session {
            repository: repository.clone(),
            org: repository.org(),
            key: by.key().to_owned(),
            received: AtomicU64::new(0),
            last_used: Mutex::new(Instant::now()),
            ingest: Arc::new(tokio::sync::Mutex::new(Some(ingest))),
        };
        let mut by_id = self.by_id();
        if let Some(left_behind) = self.make_room(&by_id, &session)? {
            by_id.remove(&left_behind);
        }
        by_id.insert(id.clone(), Arc::new(session));
        drop(by_id);
        self.end_when_idle(id.clone());
        Ok(id)
    }

    /// The upload whose place `new` may have, if there is no free one.
    fn make_room(&self, by_id: &HashMap<String, Arc<Session>>, new: &Session) -> Result<Option<String>, Refused> {
        let (ids, held): (Vec<&String>, Vec<Held<'_>>) = by_id.iter().map(|(id, session)| (id, session.held())).unzip();
        match self.places.find(new.org.as_str(), &new.key, &held) {
            Place::Free => Ok(None),
            Place::Instead(index) => {
                let ended = held.get(index);
                tracing::info!(
                    org = ended.map(|held| held.org),
                    key = ended.map(|held| held.key),
                    "an upload that was left behind made room"
                );
                Ok(ids.get(index).map(|id| (*id).clone()))
            }
            Place::Full(full) => {
                let whose = match full {
                    Full::Key => "this access key",
                    Full::Org => "this organisation",
                    Full::Seed => "the whole registry",
                };
                Err(Refused::TooManyUploads(whose))
            }
        }
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

    /// How long nothing has been sent; none while something is.
    fn idle(&self) -> Option<Duration> {
        let unused = self.last_used.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        self.ingest.try_lock().is_ok().then_some(unused)
    }

    fn is_idle(&self) -> bool {
        self.idle().is_some_and(|unused| unused > IDLE_MAX)
    }

    fn held(&self) -> Held<'_> {
        Held { org: self.org.as_str(), key: &self.key, idle: self.idle() }
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
    use protocol::upload_places::IDLE_LEAST;

    fn repository(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn uploads() -> Arc<Uploads> {
        Arc::new(Uploads::new(UploadPlaces { all: 4, per_org: 3, per_key: 2 }))
    }

    #[tokio::test]
    async fn an_upload_is_bound_to_its_repository_and_ends_once() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads, ci) = (BlobStore::open(dir.path()).unwrap(), uploads(), Principal::fake("acme", "ci"));
        let id = uploads.start(&repository("acme/web"), &ci, store.begin(Algorithm::Sha256)).unwrap();
        assert!(matches!(uploads.find(&repository("acme/api"), &id), Err(Refused::UploadUnknown)));
        let session = uploads.find(&repository("acme/web"), &id).unwrap();
        session.lock().await.unwrap().take().unwrap();
        assert!(matches!(session.lock().await.unwrap().ingest(), Err(Refused::UploadUnknown)));
        uploads.remove(&id);
        assert!(matches!(uploads.find(&repository("acme/web"), &id), Err(Refused::UploadUnknown)));
    }

    #[tokio::test]
    async fn a_key_at_its_limit_gets_the_place_of_what_it_left_behind_and_of_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads, ci) = (BlobStore::open(dir.path()).unwrap(), uploads(), Principal::fake("acme", "ci"));
        let web = repository("acme/web");
        let start = |by: &Principal| uploads.start(&web, by, store.begin(Algorithm::Sha256));
        let [left_behind, used] = [start(&ci).unwrap(), start(&ci).unwrap()];
        assert!(matches!(start(&ci), Err(Refused::TooManyUploads(_))));
        start(&Principal::fake("acme", "laptop")).unwrap();

        let long_ago = Instant::now().checked_sub(IDLE_LEAST).unwrap();
        *uploads.by_id()[&left_behind].last_used.lock().unwrap() = long_ago;
        start(&ci).unwrap();
        assert!(matches!(uploads.find(&web, &left_behind), Err(Refused::UploadUnknown)));
        let session = uploads.find(&web, &used).unwrap();
        *session.last_used.lock().unwrap() = long_ago;
        let receiving = session.lock().await.unwrap();
        *session.last_used.lock().unwrap() = long_ago;
        assert!(matches!(start(&ci), Err(Refused::TooManyUploads(_))), "bytes are arriving");
        drop(receiving);
        assert_eq!(uploads.count(), 3);
    }

    #[tokio::test]
    async fn what_broke_off_is_written_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads, ci) = (BlobStore::open(dir.path()).unwrap(), uploads(), Principal::fake("acme", "ci"));
        let id = uploads.start(&repository("acme/web"), &ci, store.begin(Algorithm::Sha256)).unwrap();
        let session = uploads.find(&repository("acme/web"), &id).unwrap();
        session.lock().await.unwrap().ingest().unwrap().write(Bytes::from_static(b"hedge")).await.unwrap();
        assert_eq!(session.received(), 5);
        assert!(session.lock().await.unwrap().ingest().unwrap().is_flushed());
        assert!(!session.is_idle());
    }
}
