//! Places for what is taken in at the same time: bodies of blobs, and manifests in memory.
//!
//! Not here: who gets one, see [`protocol::fair_places`]; how many there are, see [`crate::config::limits`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::fair_places::{FairPlaces, Ticket};
use protocol::name::OrgName;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::Refused;

/// How long a push may wait for a place: under the time after which clients give up by themselves.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Places of one kind. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    shared: Arc<Mutex<Shared>>,
    wait_max: Duration,
}

#[derive(Debug)]
struct Shared {
    places: FairPlaces,
    /// Who is told that its wish has come true.
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

/// Places that were asked for: waited for until they are granted, held until dropped.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Mutex<Shared>>,
    org: OrgName,
    count: usize,
    ticket: Ticket,
}

impl Places {
    pub(super) fn new(all: usize) -> Self {
        let shared = Shared { places: FairPlaces::new(all), waiting: HashMap::new() };
        Self { shared: Arc::new(Mutex::new(shared)), wait_max: WAIT_MAX }
    }

    /// Requests that wait for a place now.
    pub(super) fn waiting(&self) -> u64 {
        lock(&self.shared).places.waiting() as u64
    }

    /// Waits for `count` places, but not for ever: those who hold them may be slow.
    pub(super) async fn take(&self, org: OrgName, count: usize) -> Result<Place, Refused> {
        let (tell, told) = oneshot::channel();
        let ticket = lock(&self.shared).ask(&org, count, tell)?;
        let place = Place { shared: self.shared.clone(), org, count, ticket };
        match timeout(self.wait_max, told).await {
            Ok(Ok(())) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Refused::NoPlace),
        }
    }
}

impl Shared {
    fn ask(&mut self, org: &OrgName, count: usize, tell: oneshot::Sender<()>) -> Result<Ticket, Refused> {
        let ticket = self.places.ask(org, count).map_err(|_| Refused::NoPlace)?;
        self.waiting.insert(ticket, tell);
        self.tell_granted();
        Ok(ticket)
    }

    fn tell_granted(&mut self) {
        while let Some(ticket) = self.places.poll_granted() {
            // Who went away meanwhile gives the place back when its `Place` is dropped.
            let _ = self.waiting.remove(&ticket).map(|tell| tell.send(()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        if shared.places.give_up(&self.org, self.ticket) {
            shared.waiting.remove(&self.ticket);
        } else {
            shared.places.give_back(&self.org, self.count);
        }
        shared.tell_granted();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(name: &str) -> OrgName {
        name.parse().unwrap()
    }

    fn impatient(all: usize) -> Places {
        Places { wait_max: Duration::from_millis(20), ..Places::new(all) }
    }

    #[tokio::test]
    async fn two_organisations_that_take_what_they_can_leave_a_place_to_a_third() {
        let places = impatient(48);
        let mut held = Vec::new();
        for name in ["acme", "other"] {
            while let Ok(place) = places.take(org(name), 1).await {
                held.push(place);
            }
        }
        assert_eq!(held.len(), 47);
        let third = places.take(org("third"), 1).await.unwrap();
        assert!(matches!(places.take(org("fourth"), 1).await, Err(Refused::NoPlace)));
        drop(third);
        places.take(org("fourth"), 1).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_is_counted_and_served_when_a_place_is_free() {
        let places = Places::new(1);
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
    async fn who_goes_away_while_waiting_or_holding_leaves_nothing_behind() {
        let places = impatient(1);
        let held = places.take(org("acme"), 1).await.unwrap();
        let waiter = tokio::spawn({
            let places = places.clone();
            async move { places.take(org("other"), 1).await.is_ok() }
        });
        while places.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        waiter.abort();
        assert!(waiter.await.is_err());
        assert_eq!((places.waiting(), lock(&places.shared).waiting.len()), (0, 0));
        assert!(matches!(places.take(org("other"), 1).await, Err(Refused::NoPlace)));
        assert_eq!((places.waiting(), lock(&places.shared).waiting.len()), (0, 0));
        drop(held);
        places.take(org("other"), 1).await.unwrap();
    }
}
