//! Places that organisations share: who gets one now, and who waits for what others give back.
//!
//! There is no fixed part for each organisation. What one may hold shrinks as places run out (a dynamic threshold, as switches
//! share their packet memory: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998): one alone gets nearly all,
//! and however many there are, something is left for who comes next.
//!
//! Not here: what a place is for, and how long somebody waits for it.

use std::collections::{BTreeMap, VecDeque};

use crate::name::OrgName;

/// An organisation may hold this many times the places that are left then. So one alone gets 7/8 of all, two get 7/15 each,
/// three 7/22 each, and at least one place is left for an organisation that has none.
pub const SHARE: usize = 7;

/// Wishes of one organisation that wait at the same time: more than its clients can wait for in the seconds that they do.
pub const WAITING_PER_ORG_MAX: usize = 1024;

/// What comes of the wish for places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They can be had.
    Granted,
    /// The organisation holds as much as it may while so little is left.
    HasItsShare,
    /// The organisation holds nothing, and yet there is not enough.
    NoRoom,
}

/// Whether an organisation that holds `held` places may have `wanted` more of the `free` ones.
pub const fn may_take(held: usize, wanted: usize, free: usize) -> Verdict {
    match free.checked_sub(wanted) {
        Some(_) if held == 0 => Verdict::Granted,
        Some(left) if held.saturating_add(wanted) <= SHARE.saturating_mul(left) => Verdict::Granted,
        None if held == 0 => Verdict::NoRoom,
        Some(_) | None => Verdict::HasItsShare,
    }
}

/// Names a wish that waits, or waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Too many wishes of the organisation wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING_PER_ORG_MAX} requests of this organisation wait already")]
pub struct TooManyWait;

/// Places, those who hold them, and those who wait.
///
/// The driver calls [`Self::ask`], [`Self::give_up`] and [`Self::give_back`], and after each of them takes
/// [`Self::poll_granted`] until it is empty.
#[derive(Debug)]
pub struct FairPlaces {
    all: usize,
    free: usize,
    held: BTreeMap<OrgName, usize>,
    waiting: BTreeMap<OrgName, VecDeque<Wish>>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wish {
    ticket: Ticket,
    wanted: usize,
}

impl FairPlaces {
    /// So many places, all of them free.
    pub const fn new(all: usize) -> Self {
        Self { all, free: all, held: BTreeMap::new(), waiting: BTreeMap::new(), next: 0 }
    }

    /// Wishes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Asks for `wanted` places, at most all of them: the ticket that [`Self::poll_granted`] will name.
    ///
    /// # Errors
    /// When too many of the organisation wait.
    pub fn ask(&mut self, org: &OrgName, wanted: usize) -> Result<Ticket, TooManyWait> {
        let queue = self.waiting.entry(org.clone()).or_default();
        if queue.len() >= WAITING_PER_ORG_MAX {
            return Err(TooManyWait);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        queue.push_back(Wish { ticket, wanted: wanted.min(self.all) });
        Ok(ticket)
    }

    /// Takes back a wish; false if it was granted already, so that its places must be given back.
    pub fn give_up(&mut self, org: &OrgName, ticket: Ticket) -> bool {
        let Some(queue) = self.waiting.get_mut(org) else { return false };
        let before = queue.len();
        queue.retain(|wish| wish.ticket != ticket);
        let waited = queue.len() < before;
        if queue.is_empty() {
            self.waiting.remove(org);
        }
        waited
    }

    /// Gives back places that were asked for as `wanted`.
    pub fn give_back(&mut self, org: &OrgName, wanted: usize) {
        let Some(held) = self.held.get_mut(org) else { return };
        let back = wanted.min(*held);
        *held -= back;
        self.free += back;
        if *held == 0 {
            self.held.remove(org);
        }
    }

    /// The next wish that has come true. Who holds the least is first, then who has waited the longest; nobody overtakes an
    /// organisation that holds nothing and waits for enough to become free.
    pub fn poll_granted(&mut self) -> Option<Ticket> {
        let heads = self.waiting.iter().filter_map(|(org, queue)| {
            let wish = *queue.front()?;
            Some((self.held.get(org).copied().unwrap_or(0), wish.ticket, wish.wanted, org))
        });
        let mut heads: Vec<_> = heads.collect();
        heads.sort_unstable();
        let first = heads.into_iter().find_map(|(held, _, wanted, org)| match may_take(held, wanted, self.free) {
            Verdict::Granted => Some(Some(org.clone())),
            Verdict::NoRoom => Some(None),
            Verdict::HasItsShare => None,
        });
        let org = first.flatten()?;
        let queue = self.waiting.get_mut(&org)?;
        let wish = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&org);
        }
        self.free -= wish.wanted;
        *self.held.entry(org).or_default() += wish.wanted;
        Some(wish.ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(name: &str) -> OrgName {
        name.parse().unwrap()
    }

    impl FairPlaces {
        /// Asks for one place after the other until one has to be waited for, and takes that wish back: how many there were.
        fn take_all(&mut self, name: &str) -> usize {
            let org = org(name);
            for taken in 0.. {
                let ticket = self.ask(&org, 1).unwrap();
                if self.poll_granted() != Some(ticket) {
                    assert!(self.give_up(&org, ticket));
                    return taken;
                }
            }
            unreachable!()
        }
    }

    #[test]
    fn one_organisation_alone_gets_nearly_all_places_and_leaves_some() {
        for (all, most) in [(1, 1), (2, 1), (3, 2), (8, 7), (48, 42), (512, 448)] {
            let mut places = FairPlaces::new(all);
            assert_eq!((places.take_all("acme"), places.free), (most, all - most), "of {all}");
        }
    }

    #[test]
    fn two_organisations_cannot_starve_a_third() {
        let mut places = FairPlaces::new(48);
        assert_eq!((places.take_all("acme"), places.take_all("other")), (42, 5));
        assert_eq!((places.take_all("third"), places.free), (1, 0));
        let third = org("third");
        let waits: Vec<Ticket> = (0..20).map(|_| places.ask(&third, 1).unwrap()).collect();
        places.ask(&org("acme"), 1).unwrap();
        assert_eq!(places.poll_granted(), None);
        for _ in 0..9 {
            places.give_back(&org("acme"), 1);
            let granted = places.poll_granted();
            assert!(granted.is_none_or(|granted| waits.contains(&granted)), "{granted:?}");
        }
        assert!(places.held[&third] > 5, "what one has too much of goes to who has less: {:?}", places.held);
    }

    #[test]
    fn shares_become_even_when_all_always_want_more() {
        let mut places = FairPlaces::new(48);
        let names = ["acme", "other", "third"];
        names.iter().for_each(|name| {
            places.take_all(name);
        });
        for _ in 0..200 {
            for name in names {
                while places.waiting.get(&org(name)).is_none_or(|queue| queue.len() < 50) {
                    places.ask(&org(name), 1).unwrap();
                }
                places.give_back(&org(name), 1);
                while places.poll_granted().is_some() {}
            }
        }
        let held: Vec<usize> = names.iter().map(|name| places.held[&org(name)]).collect();
        assert!(held.iter().all(|held| (14..=16).contains(held)), "{held:?}");
    }

    #[test]
    fn small_wishes_do_not_overtake_a_large_one_of_who_has_nothing() {
        let mut places = FairPlaces::new(100);
        let (acme, other) = (org("acme"), org("other"));
        let first = places.ask(&acme, 60).unwrap();
        assert_eq!(places.poll_granted(), Some(first));
        let large = places.ask(&other, 50).unwrap();
        let small = places.ask(&acme, 1).unwrap();
        let third = places.ask(&org("third"), 1).unwrap();
        assert_eq!(places.poll_granted(), None);
        places.give_back(&acme, 60);
        let granted: Vec<Ticket> = std::iter::from_fn(|| places.poll_granted()).collect();
        assert_eq!(granted, [large, small, third], "in the order in which they came");
    }

    #[test]
    fn who_has_his_share_does_not_keep_others_waiting() {
        let mut places = FairPlaces::new(10);
        assert_eq!(places.take_all("acme"), 8);
        let waits = places.ask(&org("acme"), 1).unwrap();
        let newcomer = places.ask(&org("other"), 1).unwrap();
        assert_eq!((places.poll_granted(), places.poll_granted()), (Some(newcomer), None));
        assert_eq!(places.waiting(), 1);
        assert!(places.give_up(&org("acme"), waits) && !places.give_up(&org("other"), newcomer));
        assert_eq!(places.waiting(), 0);
    }

    #[test]
    fn a_wish_for_more_than_there_is_means_all_and_waits_are_bounded() {
        let mut places = FairPlaces::new(3);
        let acme = org("acme");
        let all = places.ask(&acme, 100).unwrap();
        assert_eq!((places.poll_granted(), places.free), (Some(all), 0));
        for _ in 0..WAITING_PER_ORG_MAX {
            places.ask(&acme, 1).unwrap();
        }
        assert_eq!(places.ask(&acme, 1), Err(TooManyWait));
        places.ask(&org("other"), 1).unwrap();
        places.give_back(&acme, 100);
        assert_eq!(places.free, 3);
    }
}
