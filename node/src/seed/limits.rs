//! The limits in force: who has to wait, and how much was refused.
//!
//! Not here: the values, and the reason for each; see [`crate::config::limits`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::rate_limit::{Bucket, Rate};

use super::registry::auth::Principal;
use crate::config::limits::Limits;
use crate::listener::Client;

/// Clients whose requests are counted one by one; those that rested are forgotten, and further ones share one bucket.
const CLIENTS_MAX: usize = 1 << 16;

/// How often buckets that are full again are looked for, once all are taken: looking at all of them takes a millisecond, and
/// everybody waits for it.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A limit of which `/metrics` says how often it refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests per second.
    Requests,
    /// Uploads under way.
    Uploads,
    /// Bodies that are taken in at the same time.
    Bodies,
    /// The size of a blob.
    BlobBytes,
    /// The size of a manifest.
    ManifestBytes,
}

impl Limit {
    /// All of them, in the order of their numbers.
    const ALL: [Self; 5] = [Self::Requests, Self::Uploads, Self::Bodies, Self::BlobBytes, Self::ManifestBytes];

    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Uploads => "uploads",
            Self::Bodies => "bodies",
            Self::BlobBytes => "blob_bytes",
            Self::ManifestBytes => "manifest_bytes",
        }
    }
}

/// A client asked more often than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; try again in {retry_after_seconds} s")]
pub struct TooOften {
    /// When there is a place again.
    pub retry_after_seconds: u64,
}

/// The limits in force.
#[derive(Debug, Default)]
pub struct Guard {
    limits: Limits,
    rates: Option<Rates>,
    refused: [AtomicU64; Limit::ALL.len()],
}

impl Guard {
    /// Puts limits in force.
    pub fn new(limits: Limits) -> Self {
        let rates = limits.rate().map(Rates::new);
        Self { limits, rates, refused: Default::default() }
    }

    /// Their values.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a request on the key that it came with, or on its address if it came with no valid one.
    ///
    /// # Errors
    /// When there were too many.
    pub fn admit(&self, principal: Option<&Principal>, client: Option<&Client>) -> Result<(), TooOften> {
        let Some(rates) = &self.rates else { return Ok(()) };
        let caller = match principal {
            Some(principal) => Caller::Key(principal.key().to_owned()),
            None => client.map_or(Caller::Others, |client| Caller::of(client.address.ip())),
        };
        rates.take(caller, rates.started.elapsed()).map_err(|wait| {
            self.count_refused(Limit::Requests);
            TooOften { retry_after_seconds: wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX) }
        })
    }

    /// Something was refused because of `limit`.
    pub fn count_refused(&self, limit: Limit) {
        self.refused[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each limit, by its name, refused something.
    pub fn refused(&self) -> [(&'static str, u64); Limit::ALL.len()] {
        Limit::ALL.map(|limit| (limit.name(), self.refused[limit as usize].load(Ordering::Relaxed)))
    }
}

/// Who counts as one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Key(String),
    Address(IpAddr),
    /// Everybody for whom there is no bucket.
    Others,
}

impl Caller {
    /// An IPv6 client has a whole /64 to choose its addresses from.
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::Address(address.into()),
            IpAddr::V6(address) => Self::Address(IpAddr::V6((address.to_bits() >> 64 << 64).into())),
        }
    }
}

#[derive(Debug)]
struct Rates {
    rate: Rate,
    started: Instant,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_caller: HashMap<Caller, Bucket>,
    swept: Option<Duration>,
}

impl Rates {
    fn new(rate: Rate) -> Self {
        Self { rate, started: Instant::now(), buckets: Mutex::default() }
    }

    fn take(&self, caller: Caller, now: Duration) -> Result<(), Duration> {
        let moment = protocol::time::Instant::ZERO + now;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { by_caller, swept } = &mut *buckets;
        let has_place = |by_caller: &HashMap<_, _>| by_caller.len() < CLIENTS_MAX || by_caller.contains_key(&caller);
        if !has_place(by_caller) && swept.is_none_or(|swept| now.saturating_sub(swept) >= SWEEP_EVERY) {
            by_caller.retain(|_, bucket| !bucket.is_full(moment));
            *swept = Some(now);
        }
        let caller = if has_place(by_caller) { caller } else { Caller::Others };
        by_caller.entry(caller).or_default().take(moment, self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(text: &str) -> Guard {
        Guard::new(toml::from_str(text).unwrap())
    }

    fn stranger(address: &str) -> Client {
        Client { address: format!("{address}:1").parse().unwrap(), device: None }
    }

    #[test]
    fn strangers_are_counted_by_address_and_told_when_to_come_back() {
        let guard = guard("requests_per_second_per_key = 1\nrequests_burst = 2");
        let ask = |address: &str| guard.admit(None, Some(&stranger(address)));
        assert!(ask("192.0.2.1").is_ok() && ask("192.0.2.1").is_ok());
        assert_eq!(ask("192.0.2.1"), Err(TooOften { retry_after_seconds: 1 }));
        assert!(ask("192.0.2.2").is_ok());
        assert!(ask("[2001:db8::1]").is_ok() && ask("[2001:db8::2]").is_ok());
        assert!(ask("[2001:db8::3]").is_err() && ask("[2001:db8:0:1::3]").is_ok());
        assert_eq!(guard.refused()[0], ("requests", 2));
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let guard = guard("");
        assert!((0..10_000).all(|_| guard.admit(None, None).is_ok()));
    }

    #[test]
    fn so_many_clients_that_they_cannot_be_told_apart_share_what_is_left() {
        let rate = guard("requests_per_second_per_key = 1\nrequests_burst = 1").limits.rate().unwrap();
        let rates = Rates::new(rate);
        let caller = |number: usize| Caller::Key(number.to_string());
        for number in 0..CLIENTS_MAX {
            rates.take(caller(number), Duration::ZERO).unwrap();
        }
        rates.take(caller(CLIENTS_MAX), Duration::ZERO).unwrap();
        rates.take(caller(CLIENTS_MAX + 1), Duration::ZERO).unwrap_err();
        rates.take(caller(CLIENTS_MAX + 1), Duration::from_secs(2)).unwrap();
        assert!(rates.buckets.lock().unwrap().by_caller.len() < 3, "those that rested are forgotten");
    }
}
