//! Where devices were seen when they polled. Kept in memory only: after a start of the seed it is known again when each site has
//! polled, and each of several seeds knows what it was asked.
//!
//! Not here: who is named to whom, and for how long; [`protocol::site::places`] decides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use protocol::name::{DeviceId, OrgName};
use protocol::site::places::{Places, Polled, Seen};
use protocol::time::Instant;

use crate::clock::Clock;

/// Where devices were seen.
#[derive(Debug)]
pub struct Sites {
    clock: Clock,
    places: Mutex<Places>,
}

impl Sites {
    /// Nobody was seen yet.
    pub fn start() -> Self {
        Self { clock: Clock::start(), places: Mutex::default() }
    }

    /// A device polled; the answer names others of its place.
    pub fn on_polled(&self, org: &OrgName, device: &DeviceId, polled: Polled) -> Vec<SocketAddr> {
        self.places().on_polled(self.clock.now(), org, device, polled)
    }

    /// Where each device of the organisation was seen that is not silent, and what time that is told in.
    pub fn devices(&self, org: &OrgName) -> (BTreeMap<DeviceId, Seen>, Instant) {
        let now = self.clock.now();
        (self.places().devices(now, org), now)
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
