//! Places for what is taken in at the same time: bodies of blobs, and manifests in memory. No organisation has all of them.
//!
//! Not here: how many there are; see [`crate::config::limits`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use protocol::name::OrgName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::Refused;

/// How long a push may wait for a place: under the time after which clients give up by themselves.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Organisations that are remembered before those without a place are forgotten.
const ORGS_KEPT: usize = 1024;

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    per_org: usize,
    wait_max: Duration,
    of_orgs: Mutex<BTreeMap<OrgName, Weak<Semaphore>>>,
    waiting: AtomicU64,
}

/// One or more places, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_org: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(all: usize, per_org: usize) -> Self {
        let (of_orgs, waiting) = (Mutex::default(), AtomicU64::new(0));
        Self { all: Arc::new(Semaphore::new(all)), per_org: per_org.min(all), wait_max: WAIT_MAX, of_orgs, waiting }
    }

    /// Requests that wait for a place now.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for `count` places, but not for ever: those who hold them may be slow. Who waits for others of the same
    /// organisation takes nothing from the rest.
    pub(super) async fn take(&self, org: OrgName, count: u32) -> Result<Place, Refused> {
        let of_org = self.of_org(org);
        let _waiting = Waiting::new(&self.waiting);
        let both = async {
            let of_org = of_org.acquire_many_owned(count).await?;
            let of_all = self.all.clone().acquire_many_owned(count).await?;
            Ok(Place { _of_all: of_all, _of_org: of_org })
        };
        let taken: Result<Place, tokio::sync::AcquireError> = timeout(self.wait_max, both).await.map_err(|_| Refused::NoPlace)?;
        taken.map_err(|error| Refused::Failed(error.into()))
    }

    fn of_org(&self, org: OrgName) -> Arc<Semaphore> {
        let mut of_orgs = self.of_orgs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = of_orgs.get(&org).and_then(Weak::upgrade) {
            return found;
        }
        if of_orgs.len() >= ORGS_KEPT {
            of_orgs.retain(|_, places| places.strong_count() > 0);
        }
        let made = Arc::new(Semaphore::new(self.per_org));
        of_orgs.insert(org, Arc::downgrade(&made));
        made
    }
}

struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(name: &str) -> OrgName {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn an_organisation_waits_for_its_own_places_while_another_finds_one() {
        let places = Places { wait_max: Duration::from_millis(20), ..Places::new(3, 2) };
        let held = [places.take(org("acme"), 1).await.unwrap(), places.take(org("acme"), 1).await.unwrap()];
        assert!(matches!(places.take(org("acme"), 1).await, Err(Refused::NoPlace)));
        let _other = places.take(org("other"), 1).await.unwrap();
        assert!(matches!(places.take(org("third"), 1).await, Err(Refused::NoPlace)));
        drop(held);
        places.take(org("third"), 2).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_is_counted_and_served_when_a_place_is_free() {
        let places = Arc::new(Places::new(1, 1));
        let held = places.take(org("acme"), 1).await.unwrap();
        let waiter = tokio::spawn({
            let places = places.clone();
            async move { places.take(org("acme"), 1).await.is_ok() }
        });
        while places.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert!(waiter.await.unwrap());
        assert_eq!(places.waiting(), 0);
    }

    #[tokio::test]
    async fn organisations_without_a_place_are_forgotten() {
        let places = Places::new(2, 1);
        let held = places.take(org("acme"), 1).await.unwrap();
        for number in 0..ORGS_KEPT * 2 {
            places.take(org(&format!("org{number}")), 1).await.unwrap();
        }
        let mut of_orgs = places.of_orgs.lock().unwrap();
        assert!(of_orgs.len() <= ORGS_KEPT);
        assert!(of_orgs.remove(&org("acme")).and_then(|places| places.upgrade()).is_some());
        drop(held);
    }
}
