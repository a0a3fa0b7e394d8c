//! The uploads under way in this process, bounded in number and time.
//!
//! Not here: what is sent, and how it is answered; see the parent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use protocol::name::{OrgName, RepositoryName};
use protocol::upload_places::{Admission, Full, OpenUpload, UploadPlaces};
use tokio::sync::OwnedMutexGuard;

use super::super::auth::Principal;
use super::super::error::Refused;
use crate::store::blobs::Ingest;

/// After this time without a request an upload ends.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// How often uploads are looked at for that, while there are any.
const IDLE_CHECK: Duration = Duration::from_secs(5 * 60);

/// Uploads by id.
#[derive(Debug)]
pub(in super::super) struct Uploads {
    open: Mutex<Open>,
    places: UploadPlaces,
}

#[derive(Debug, Default)]
struct Open {
    by_id: HashMap<String, Arc<Session>>,
    /// Whether a task looks for those that are idle; it ends when there are none.
    swept: bool,
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
/// of an upload that waits only its hash list is in memory: 32 bytes for each 64 KiB that arrived. An upload that lost bytes
/// ends with it.
#[derive(Debug)]
pub(super) struct Upload {
    uploads: Arc<Uploads>,
    id: String,
    session: Arc<Session>,
    ingest: Option<OwnedMutexGuard<Option<Ingest>>>,
}

impl Uploads {
    /// No uploads yet, and as many as there are `places`.
    pub(in super::super) fn new(places: UploadPlaces) -> Self {
        Self { open: Mutex::default(), places }
    }

    /// How many are under way.
    pub(in super::super) fn count(&self) -> usize {
        self.open().by_id.len()
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
        let mut open = self.open();
        if let Some(left_behind) = self.make_room(&open.by_id, &session)? {
            open.by_id.remove(&left_behind);
        }
        open.by_id.insert(id.clone(), Arc::new(session));
        if !std::mem::replace(&mut open.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
        Ok(id)
    }

    /// The upload whose place `new` may have, if there is no free one.
    fn make_room(&self, by_id: &HashMap<String, Arc<Session>>, new: &Session) -> Result<Option<String>, Refused> {
        let (ids, held): (Vec<&String>, Vec<OpenUpload<'_>>) = by_id.iter().map(|(id, session)| (id, session.as_open())).unzip();
        match self.places.find(new.org.as_str(), &new.key, &held) {
            Admission::Free => Ok(None),
            Admission::Instead(index) => {
                let ended = held.get(index);
                tracing::info!(
                    org = ended.map(|held| held.org),
                    key = ended.map(|held| held.key),
                    "an upload that was left behind made room"
                );
                Ok(ids.get(index).map(|id| (*id).clone()))
            }
            Admission::Full(full) => {
                let whose = match full {
                    Full::Key => "this access key",
                    Full::Org => "this organisation",
                    Full::Seed => "the whole registry",
                };
                Err(Refused::TooManyUploads(whose))
            }
        }
    }

    /// The upload with this id, if it goes into this repository. To look at it does not keep it alive.
    pub(super) fn find(&self, repository: &RepositoryName, id: &str) -> Result<Arc<Session>, Refused> {
        let session = self.open().by_id.get(id).filter(|session| session.repository == *repository).cloned();
        session.ok_or(Refused::UploadUnknown)
    }

    /// The right to add to an upload, when no other request does.
    pub(super) async fn lock(self: &Arc<Self>, repository: &RepositoryName, id: &str) -> Result<Upload, Refused> {
        let session = self.find(repository, id)?;
        let ingest = Arc::clone(&session.ingest).lock_owned().await;
        session.touch();
        Ok(Upload { uploads: Arc::clone(self), id: id.to_owned(), session, ingest: Some(ingest) })
    }

    /// Ends an upload; what arrived is gone when nobody adds to it any more.
    pub(super) fn remove(&self, id: &str) {
        self.open().by_id.remove(id);
    }

    /// Ends what is idle; false if nothing is left that could become so.
    fn end_idle(&self, now: Instant) -> bool {
        let mut open = self.open();
        open.by_id.retain(|_, session| session.idle(now).is_none_or(|unused| unused <= IDLE_MAX));
        open.swept = !open.by_id.is_empty();
        open.swept
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at all uploads from time to time, as long as there are any.
async fn sweep(uploads: Weak<Uploads>) {
    loop {
        tokio::time::sleep(IDLE_CHECK).await;
        if !uploads.upgrade().is_some_and(|uploads| uploads.end_idle(Instant::now())) {
            return;
        }
    }
}

impl Session {
    /// How many bytes arrived, as of the last request that ended.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing has been sent; none while something is.
    fn idle(&self, now: Instant) -> Option<Duration> {
        let unused = now.saturating_duration_since(*self.last_used.lock().unwrap_or_else(PoisonError::into_inner));
        self.ingest.try_lock().is_ok().then_some(unused)
    }

    /// Notes how far the upload is; ends it if that is nowhere.
    fn note(&self, ingest: &mut Option<Ingest>, uploads: &Uploads, id: &str) {
        *ingest = ingest.take().filter(|ingest| !ingest.is_broken());
        match ingest {
            Some(ingest) => self.received.store(ingest.size(), Ordering::Relaxed),
            None => uploads.remove(id),
        }
    }

    fn as_open(&self) -> OpenUpload<'_> {
        OpenUpload { org: self.org.as_str(), key: &self.key, idle: self.idle(Instant::now()) }
    }
}

impl Upload {
    /// The blob on its way in; unknown when another request has just ended the upload.
    pub(super) fn ingest(&mut self) -> Result<&mut Ingest, Refused> {
        self.ingest.as_mut().and_then(|ingest| ingest.as_mut()).ok_or(Refused::UploadUnknown)
    }

    /// Ends the upload, for its blob is a repository's.
    pub(super) fn end(mut self) {
        if let Some(ingest) = &mut self.ingest {
            **ingest = None;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.session.touch();
        let Some(mut guard) = self.ingest.take() else { return };
        self.session.note(&mut guard, &self.uploads, &self.id);
        if guard.as_ref().is_some_and(|ingest| !ingest.is_flushed()) {
            let (uploads, id, session) = (Arc::clone(&self.uploads), std::mem::take(&mut self.id), Arc::clone(&self.session));
            tokio::spawn(async move {
                let Some(ingest) = guard.as_mut() else { return };
                if let Err(error) = ingest.flush().await {
                    tracing::warn!(%error, "the end of an upload that broke off could not be written");
                }
                session.note(&mut guard, &uploads, &id);
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
        Arc::new(Uploads::new(UploadPlaces { all: 4, per_key: 2 }))
    }

    #[tokio::test]
    async fn an_upload_is_bound_to_its_repository_and_ends_once() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads, ci) = (BlobStore::open(dir.path()).unwrap(), uploads(), Principal::fake("acme", "ci"));
        let id = uploads.start(&repository("acme/web"), &ci, store.begin(Algorithm::Sha256)).unwrap();
        assert!(matches!(uploads.find(&repository("acme/api"), &id), Err(Refused::UploadUnknown)));
        let upload = uploads.lock(&repository("acme/web"), &id).await.unwrap();
        let web = repository("acme/web");
        let mut waiting = Box::pin(uploads.lock(&web, &id));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        upload.end();
        assert!(matches!(waiting.await.unwrap().ingest(), Err(Refused::UploadUnknown)));
        assert!(matches!(uploads.find(&web, &id), Err(Refused::UploadUnknown)));
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
        *uploads.open().by_id[&left_behind].last_used.lock().unwrap() = long_ago;
        start(&ci).unwrap();
        assert!(matches!(uploads.find(&web, &left_behind), Err(Refused::UploadUnknown)));
        let session = uploads.find(&web, &used).unwrap();
        *session.last_used.lock().unwrap() = long_ago;
        let receiving = uploads.lock(&web, &used).await.unwrap();
        *session.last_used.lock().unwrap() = long_ago;
        assert!(matches!(start(&ci), Err(Refused::TooManyUploads(_))), "bytes are arriving");
        drop(receiving);
        assert_eq!(uploads.count(), 3);
    }

    #[tokio::test]
    async fn asking_for_the_status_does_not_keep_an_upload_and_one_task_looks_at_all_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let uploads = Arc::new(Uploads::new(UploadPlaces { all: 512, per_key: 512 }));
        let (web, ci) = (repository("acme/web"), Principal::fake("acme", "ci"));
        let start = || uploads.start(&web, &ci, store.begin(Algorithm::Sha256)).unwrap();
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        for _ in 0..100 {
            uploads.remove(&start());
        }
        assert_eq!(tasks(), before + 1, "ended uploads leave no task behind");
        let id = start();
        let session = uploads.find(&web, &id).unwrap();
        let last_used = || *session.last_used.lock().unwrap();
        let started = last_used();
        uploads.find(&web, &id).unwrap();
        assert_eq!(last_used(), started);
        drop(uploads.lock(&web, &id).await.unwrap());
        assert!(last_used() > started);
        assert!(uploads.end_idle(last_used() + IDLE_MAX));
        assert!(!uploads.end_idle(last_used() + IDLE_MAX + Duration::from_secs(1)), "nothing is left to look at");
        assert!(uploads.find(&web, &id).is_err());
        start();
        assert_eq!(tasks(), before + 2, "the next upload is looked at again");
    }

    #[tokio::test]
    async fn what_broke_off_is_written_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads, ci) = (BlobStore::open(dir.path()).unwrap(), uploads(), Principal::fake("acme", "ci"));
        let id = uploads.start(&repository("acme/web"), &ci, store.begin(Algorithm::Sha256)).unwrap();
        let web = repository("acme/web");
        let session = uploads.find(&web, &id).unwrap();
        uploads.lock(&web, &id).await.unwrap().ingest().unwrap().write(Bytes::from_static(b"hedge")).await.unwrap();
        assert_eq!(session.received(), 5);
        assert!(uploads.lock(&web, &id).await.unwrap().ingest().unwrap().is_flushed());
        assert!(session.idle(Instant::now()).is_some_and(|unused| unused < IDLE_LEAST));
    }

    #[tokio::test]
    async fn an_upload_that_lost_bytes_ends_when_its_request_does() {
        let dir = tempfile::tempdir().unwrap();
        let (store, uploads, ci) = (BlobStore::open(dir.path()).unwrap(), uploads(), Principal::fake("acme", "ci"));
        let web = repository("acme/web");
        let [at_once, at_its_end] = [(); 2].map(|()| uploads.start(&web, &ci, store.begin(Algorithm::Sha256)).unwrap());
        std::fs::remove_dir(dir.path().join("uploads")).unwrap();
        for (id, flushes) in [(at_once, true), (at_its_end, false)] {
            let mut upload = uploads.lock(&web, &id).await.unwrap();
            upload.ingest().unwrap().write(Bytes::from_static(b"hedge")).await.unwrap();
            let session = Arc::clone(&upload.session);
            if flushes {
                upload.ingest().unwrap().flush().await.unwrap_err();
            }
            drop(upload);
            drop(session.ingest.lock().await);
            assert!(matches!(uploads.find(&web, &id), Err(Refused::UploadUnknown)));
        }
        assert_eq!(uploads.count(), 0, "their places are free");
    }
}
