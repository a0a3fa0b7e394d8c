//! What must hold in every run. It keeps its own books, apart from those of the site, and ends the run when they disagree.
//!
//! Verified:
//! - every device that survives completes, within the run's limit of virtual time;
//! - a device says that it is complete only when every unit was brought to it, and its count of bytes is the blob's size;
//! - a unit comes only from a fetch that was asked for and is neither over nor stopped, in order, within what was asked;
//! - a device serves only what it has stored, and a request only once;
//! - fetches over the WAN, requests to peers and requests served stay within twice `window_spans_max`, `pulls_max` and `uploads_max`;
//! - units of those who lie, and of nobody else, are refused, and they alone are banned; nothing starts over.
//!
//! Counted, not judged: WAN payload (bytes that came, not bytes that were planned), units stored twice, time over the bound.
//!
//! Not verified: content (there is none), fairness between devices, what is on a disk after a crash, the rules of claims one
//! by one.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use protocol::bits::Bits;
use protocol::geometry::Geometry;
use protocol::sorted_map::SortedMap;
use protocol::swarm::parameters::Parameters;
use protocol::swarm::{AskId, Event, FetchId, Source};

use crate::node_ids::ShortId;

/// A rule that did not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The site.
    pub site: u32,
    /// The virtual time, in microseconds.
    pub at_us: u64,
    /// What happened.
    pub what: String,
    /// The command that does it again.
    pub command: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { site, at_us, what, command } = self;
        write!(f, "site {site}, {}.{:06} s: {what}; to see it again: {command}", at_us / 1_000_000, at_us % 1_000_000)
    }
}

impl std::error::Error for Violation {}

#[derive(Debug)]
struct Books {
    stored: Bits,
    /// What is still to come of each fetch, and whether it is over the WAN.
    fetches: SortedMap<FetchId, (bool, Range<u32>)>,
    served: SortedMap<AskId, ()>,
    /// Bytes that it had stored when it was switched on last.
    kept: u64,
}

/// The books of a site.
#[derive(Debug)]
pub(crate) struct Checker {
    geometry: Geometry,
    limits: Parameters,
    devices: Vec<Books>,
    stored_twice: u64,
    liars: BTreeSet<u32>,
}

type Verdict = Result<(), String>;

impl Checker {
    /// The books of a site of `devices`, of which `liars` send wrong bytes.
    pub(crate) fn new(devices: usize, liars: BTreeSet<u32>, geometry: Geometry, limits: Parameters) -> Self {
        let books = || Books { stored: Bits::new(geometry.units()), fetches: SortedMap::new(), served: SortedMap::new(), kept: 0 };
        Self { geometry, limits, devices: std::iter::repeat_with(books).take(devices).collect(), stored_twice: 0, liars }
    }

    /// Units that a device stored although it had them.
    pub(crate) const fn stored_twice(&self) -> u64 {
        self.stored_twice
    }

    pub(crate) fn fetch_asked(&mut self, device: u32, fetch: FetchId, source: Source<ShortId>, units: Range<u32>) -> Verdict {
        let books = &mut self.devices[device as usize];
        if units.is_empty() || units.end > self.geometry.units() {
            return Err(format!("device {device} asks for units {units:?} of {}", self.geometry.units()));
        }
        if books.fetches.insert(fetch, (source == Source::Wan, units)).is_some() {
            return Err(format!("device {device} uses the name of {fetch:?} twice"));
        }
        let wan = books.fetches.values().filter(|(is_over_wan, _)| *is_over_wan).count();
        let lan = books.fetches.len() - wan;
        within(device, "fetches over the WAN", wan, 2 * self.limits.window_spans_max)?;
        within(device, "requests to peers", lan, self.limits.pulls_max)
    }

    /// A device is switched on again; the units that it had stored.
    pub(crate) fn switched_on(&mut self, device: u32) -> Bits {
        let bytes = |units: Range<u32>| self.geometry.bytes_of(units);
        let books = &mut self.devices[device as usize];
        books.fetches.clear();
        books.served.clear();
        books.kept = books.stored.ranges().map(bytes).map(|bytes| bytes.end - bytes.start).sum();
        books.stored.clone()
    }

    /// A fetch ended or was stopped.
    pub(crate) fn fetch_over(&mut self, device: u32, fetch: FetchId) {
        self.devices[device as usize].fetches.remove(&fetch);
    }

    pub(crate) fn unit_arrived(&mut self, device: u32, fetch: FetchId, unit: u32) -> Verdict {
        let books = &mut self.devices[device as usize];
        let expected = books.fetches.get_mut(&fetch).and_then(|(_, to_come)| to_come.next());
        if expected != Some(unit) {
            return Err(format!("unit {unit} came to device {device} from {fetch:?}, which was to bring {expected:?}"));
        }
        self.stored_twice += u64::from(!books.stored.insert(unit));
        Ok(())
    }

    pub(crate) fn serving(&mut self, device: u32, ask: AskId, units: Range<u32>) -> Verdict {
        let books = &mut self.devices[device as usize];
        if !books.stored.contains_all(units.clone()) {
            return Err(format!("device {device} serves units {units:?}, not all of which it has stored"));
        }
        if books.served.insert(ask, ()).is_some() {
            return Err(format!("device {device} serves {ask:?} twice"));
        }
        within(device, "requests served", books.served.len(), self.limits.uploads_max)
    }

    /// A request is over, whether it was served or not.
    pub(crate) fn ask_over(&mut self, device: u32, ask: AskId) {
        self.devices[device as usize].served.remove(&ask);
    }

    /// Whether the news that a device gives its owner is news of an honest site.
    pub(crate) fn told(&self, device: u32, event: &Event<ShortId>) -> Verdict {
        let (wan_bytes, lan_bytes) = match event {
            Event::BlobComplete { wan_bytes, lan_bytes, .. } => (wan_bytes, lan_bytes),
            Event::UnitRefused { source: Source::Peer(peer), .. } | Event::PeerBanned { peer, .. } if self.lies(*peer) => return Ok(()),
            _ => return Err(format!("device {device} reports {event:?}, though nobody lied")),
        };
        let stored = &self.devices[device as usize].stored;
        if !stored.is_full() {
            return Err(format!("device {device} is complete with {} of {} units", stored.count(), stored.length()));
        }
        let to_come = self.geometry.size() - self.devices[device as usize].kept;
        if wan_bytes + lan_bytes == to_come {
            Ok(())
        } else {
            Err(format!("device {device} counts {wan_bytes} + {lan_bytes} bytes of {to_come}"))
        }
    }

    fn lies(&self, peer: ShortId) -> bool {
        self.liars.contains(&peer.index())
    }

    /// How much of the blob a device has, in words.
    pub(crate) fn progress(&self, device: u32) -> String {
        let stored = &self.devices[device as usize].stored;
        format!("device {device} has {} of {} units", stored.count(), stored.length())
    }
}

fn within(device: u32, what: &str, count: usize, limit: usize) -> Verdict {
    if count <= limit { Ok(()) } else { Err(format!("device {device} has {count} {what}, more than {limit}")) }
}

#[cfg(test)]
mod tests {
    use protocol::digest::Digest;

    use super::*;

    fn checker() -> Checker {
        Checker::new(2, BTreeSet::new(), Geometry::listed(1 << 20), Parameters::default())
    }

    #[test]
    fn a_unit_that_was_not_asked_for_or_comes_out_of_order_is_seen() {
        let mut checker = checker();
        assert!(checker.unit_arrived(0, FetchId(0), 0).is_err());
        assert_eq!(checker.fetch_asked(0, FetchId(0), Source::Wan, 0..2), Ok(()));
        assert_eq!(checker.unit_arrived(0, FetchId(0), 0), Ok(()));
        assert!(checker.unit_arrived(0, FetchId(0), 0).is_err());
        checker.fetch_over(0, FetchId(0));
        assert!(checker.unit_arrived(0, FetchId(0), 1).is_err());
    }

    #[test]
    fn serving_what_is_not_stored_and_completing_early_are_seen() {
        let mut checker = checker();
        assert!(checker.serving(1, AskId(0), 0..1).is_err());
        let event = Event::BlobComplete { blob: Digest::sha256(b""), wan_bytes: 1 << 20, lan_bytes: 0 };
        assert!(checker.told(0, &event).is_err());
        assert_eq!(checker.fetch_asked(0, FetchId(0), Source::Wan, 0..16), Ok(()));
        for unit in 0..16 {
            assert_eq!(checker.unit_arrived(0, FetchId(0), unit), Ok(()));
        }
        assert_eq!(checker.told(0, &event), Ok(()));
        assert_eq!(checker.serving(0, AskId(0), 3..16), Ok(()));
        assert!(checker.serving(0, AskId(0), 3..16).is_err());
    }

    #[test]
    fn more_fetches_than_the_parameters_allow_are_seen() {
        let mut checker = checker();
        let most = 2 * Parameters::default().window_spans_max as u64;
        for fetch in 0..most {
            assert_eq!(checker.fetch_asked(0, FetchId(fetch), Source::Wan, 0..1), Ok(()));
        }
        assert!(checker.fetch_asked(0, FetchId(most), Source::Wan, 0..1).is_err());
    }
}
