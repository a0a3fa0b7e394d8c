//! When a device asks for its next certificate: after two thirds of the present one's life, spread over the fleet, and again
//! until it has one. New certificate authorities are a reason to ask early; so is a seed that says that the certificate is not
//! valid at this time, whatever the device's own clock says: one of both clocks is wrong or was, and the seed's counts.
//!
//! Not here: the request and its answer; see `node::device::renewal`.

use std::time::Duration;

use super::standing::Validity;
use crate::rendezvous;
use crate::time::{Instant, WallTime};

/// After a failure it is asked again after about this long, and twice as long after each further one: a seed that restarts is
/// back by then.
const RETRY_MIN: Duration = Duration::from_secs(10);
/// It is never waited longer than this: a third of a certificate's life is some 240 attempts.
const RETRY_MAX: Duration = Duration::from_secs(3_600);
/// The calendar is looked at this often, since it may be set while a timer runs.
const LOOK: Duration = Duration::from_secs(600);
/// The part of a certificate's life over which a fleet that enrolled in one hour spreads its renewals: a thirtieth, one day
/// of thirty.
const SPREAD: u64 = 30;

/// The machine; [`Self::poll_renew`] is its only effect.
#[derive(Debug)]
pub struct Renewal {
    seed: u64,
    draws: u64,
    leaf: Validity,
    due: WallTime,
    /// When it is asked because of new authorities, if it is.
    early: Option<WallTime>,
    failures: u32,
    look_at: Instant,
    wanted: bool,
    asking: bool,
    is_refused: bool,
}

impl Renewal {
    /// The machine of a device that has the certificate `leaf`; `early` is what [`Self::early`] said in an earlier run, and
    /// `seed` makes its random choices reproducible.
    pub fn new(now: Instant, leaf: Validity, early: Option<WallTime>, seed: u64) -> Self {
        let mut machine = Self {
            seed,
            draws: 0,
            leaf,
            due: leaf.until,
            early,
            failures: 0,
            look_at: now,
            wanted: false,
            asking: false,
            is_refused: false,
        };
        machine.due = machine.regular();
        machine.due = early.map_or(machine.due, |early| early.min(machine.due));
        machine
    }

    /// The seed sent the next certificate, at `wall`. One that is due for renewal already, by a calendar that is ahead of the
    /// seed's, is no reason to ask again at once.
    pub fn on_renewed(&mut self, now: Instant, wall: WallTime, leaf: Validity) {
        (self.leaf, self.early) = (leaf, None);
        self.due = self.regular();
        if wall >= self.due {
            self.pause(now);
        } else {
            (self.failures, self.asking, self.look_at) = (0, false, now);
        }
    }

    /// The seed could not be asked, or refused.
    pub fn on_failed(&mut self, now: Instant) {
        self.pause(now);
    }

    /// The seed says that the certificate has expired, or is not valid yet.
    pub fn on_refused(&mut self, now: Instant) {
        if !self.asking && !self.is_refused {
            self.is_refused = true;
            if self.failures == 0 {
                self.look_at = self.look_at.min(now);
            }
        }
    }

    fn pause(&mut self, now: Instant) {
        let doubled = RETRY_MIN.saturating_mul(1 << self.failures.min(16));
        let part_of_life = Duration::from_secs((self.leaf.seconds() / SPREAD).max(1));
        let pause = u64::try_from(doubled.min(RETRY_MAX).min(part_of_life).as_micros()).unwrap_or(u64::MAX);
        self.failures = self.failures.saturating_add(1);
        self.asking = false;
        self.look_at = now + Duration::from_micros(pause / 2 + self.draw() % (pause / 2 + 1));
    }

    /// The organisation's root names other certificate authorities than before, at `wall`: the next certificate is asked for
    /// within two spreads, but not in the first, so that all devices that can be reached know the new authority by then.
    pub fn on_authorities_changed(&mut self, now: Instant, wall: WallTime) {
        let spread = self.leaf.seconds() / SPREAD;
        let early = wall.plus_seconds(spread + self.draw() % (spread + 1));
        self.early = Some(self.early.map_or(early, |before| before.min(early)));
        self.due = self.due.min(early);
        self.look_at = self.look_at.min(now);
    }

    /// Takes note that time has passed; `wall` is never before the floor.
    pub fn handle_timeout(&mut self, now: Instant, wall: WallTime) {
        if self.asking || now < self.look_at {
            return;
        }
        if wall >= self.due || std::mem::take(&mut self.is_refused) {
            (self.wanted, self.asking) = (true, true);
            return;
        }
        let left = Duration::from_secs(self.due.as_unix_seconds() - wall.as_unix_seconds());
        self.look_at = now + left.min(LOOK);
    }

    /// Whether the next certificate is to be asked for now; the driver then says [`Self::on_renewed`] or
    /// [`Self::on_failed`].
    pub fn poll_renew(&mut self) -> bool {
        std::mem::take(&mut self.wanted)
    }

    /// When to call [`Self::handle_timeout`]; never while the seed is being asked.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.asking).then_some(self.look_at)
    }

    /// When the next certificate is asked for, in seconds since 1970.
    pub const fn due(&self) -> WallTime {
        self.due
    }

    /// When it is asked because of new authorities, if it is: to be kept, or a device that restarts often would put it off for
    /// ever.
    pub const fn early(&self) -> Option<WallTime> {
        self.early
    }

    fn regular(&mut self) -> WallTime {
        let life = self.leaf.seconds();
        self.leaf.from.plus_seconds(life / 3 * 2 + self.draw() % (life / SPREAD + 1))
    }

    fn draw(&mut self) -> u64 {
        self.draws += 1;
        rendezvous::draw(self.seed, self.draws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const ISSUED: WallTime = WallTime::from_unix_seconds(1_000_000);
    const LEAF: Validity = Validity { from: ISSUED, until: ISSUED.plus_seconds(30 * DAY) };

    fn at(seconds: u64) -> (Instant, WallTime) {
        (Instant::from_micros(seconds * 1_000_000), ISSUED.plus_seconds(seconds))
    }

    /// Lets time pass until the machine asks, by its own timers, and says when.
    fn asked_at(machine: &mut Renewal, mut seconds: u64, until: u64) -> Option<u64> {
        while seconds <= until {
            let (now, wall) = at(seconds);
            machine.handle_timeout(now, wall);
            if machine.poll_renew() {
                return Some(seconds);
            }
            let next = machine.poll_timeout()?.as_micros().div_ceil(1_000_000);
            assert!(next > seconds, "a timer in the past at {seconds}");
            seconds = next;
        }
        None
    }

    #[test]
    fn it_asks_after_two_thirds_of_the_life_and_each_device_at_its_own_time() {
        let times: Vec<u64> = (0..100).map(|seed| asked_at(&mut Renewal::new(at(0).0, LEAF, None, seed), 0, 30 * DAY).unwrap()).collect();
        assert!(times.iter().all(|time| (20 * DAY..=21 * DAY).contains(time)), "{times:?}");
        let hours: std::collections::BTreeSet<u64> = times.iter().map(|time| time / 3_600).collect();
        assert!(hours.len() > 15, "spread over the day: {hours:?}");
    }

    #[test]
    fn it_asks_once_until_it_is_answered_and_then_after_the_new_certificates_two_thirds() {
        let mut machine = Renewal::new(at(0).0, LEAF, None, 1);
        let first = asked_at(&mut machine, 0, 30 * DAY).unwrap();
        machine.handle_timeout(at(first + DAY).0, at(first + DAY).1);
        assert!(!machine.poll_renew(), "the answer is still on its way");
        assert_eq!(machine.poll_timeout(), None);
        let next = Validity { from: ISSUED.plus_seconds(first), until: ISSUED.plus_seconds(first + 30 * DAY) };
        machine.on_renewed(at(first).0, at(first).1, next);
        let second = asked_at(&mut machine, first, first + 30 * DAY).unwrap();
        assert!((first + 20 * DAY..=first + 21 * DAY).contains(&second));
    }

    #[test]
    fn it_asks_again_after_longer_and_longer_pauses_and_never_gives_up() {
        let mut machine = Renewal::new(at(0).0, LEAF, None, 1);
        let mut time = asked_at(&mut machine, 0, 30 * DAY).unwrap();
        let mut pauses = Vec::new();
        while time <= 31 * DAY {
            machine.on_failed(at(time).0);
            let next = asked_at(&mut machine, time, u64::MAX).expect("it asks also when the certificate has expired");
            pauses.push(next - time);
            time = next;
        }
        assert!(pauses[0] <= 11 && pauses.iter().all(|pause| *pause <= 3_600), "{pauses:?}");
        assert!(pauses[20..].iter().all(|pause| *pause >= 1_800), "{pauses:?}");
    }

    #[test]
    fn a_short_life_makes_short_pauses() {
        let leaf = Validity { from: ISSUED, until: ISSUED.plus_seconds(30) };
        let mut machine = Renewal::new(at(0).0, leaf, None, 1);
        let mut time = asked_at(&mut machine, 0, 30).unwrap();
        for _ in 0..8 {
            machine.on_failed(at(time).0);
            time = asked_at(&mut machine, time, u64::MAX).unwrap();
        }
        assert!(time < 30, "{time}");
    }

    #[test]
    fn new_authorities_make_it_ask_early_but_not_at_once() {
        for seed in 0..50 {
            let mut machine = Renewal::new(at(0).0, LEAF, None, seed);
            assert_eq!(asked_at(&mut machine, 0, 3 * DAY), None);
            machine.on_authorities_changed(at(3 * DAY).0, at(3 * DAY).1);
            let asked = asked_at(&mut machine, 3 * DAY, 30 * DAY).unwrap();
            assert!((4 * DAY..=5 * DAY).contains(&asked), "{asked}");
        }
    }

    #[test]
    fn a_calendar_that_jumps_ahead_makes_it_ask_at_the_next_look() {
        let mut machine = Renewal::new(at(0).0, LEAF, None, 1);
        machine.handle_timeout(at(0).0, ISSUED);
        let look = machine.poll_timeout().unwrap();
        assert!(look <= at(600).0);
        machine.handle_timeout(look, ISSUED.plus_seconds(25 * DAY));
        assert!(machine.poll_renew());
    }

    #[test]
    fn a_device_that_restarts_every_hour_still_asks_early() {
        let mut machine = Renewal::new(at(0).0, LEAF, None, 7);
        machine.on_authorities_changed(at(0).0, ISSUED);
        let early = machine.early().unwrap();
        let restarted = |hour: u64| {
            let mut machine = Renewal::new(Instant::ZERO, LEAF, Some(early), 7);
            machine.handle_timeout(Instant::ZERO, ISSUED.plus_seconds(hour * 3_600));
            machine.poll_renew()
        };
        let asked = (0..72).find(|hour| restarted(*hour)).unwrap();
        assert!((24..=49).contains(&asked), "{asked}");
        machine.on_renewed(at(0).0, ISSUED, LEAF);
        assert_eq!(machine.early(), None);
    }

    #[test]
    fn a_seed_that_says_that_the_certificate_is_not_valid_is_asked_for_another_once_and_then_after_longer_pauses() {
        let mut machine = Renewal::new(at(0).0, LEAF, None, 1);
        assert_eq!(asked_at(&mut machine, 0, DAY), None);
        machine.on_refused(at(DAY).0);
        assert_eq!(asked_at(&mut machine, DAY, 2 * DAY), Some(DAY));
        machine.on_refused(at(DAY).0);
        machine.on_failed(at(DAY).0);
        machine.on_refused(at(DAY).0);
        let again = asked_at(&mut machine, DAY, 2 * DAY);
        assert!(again.is_some_and(|again| again > DAY), "{again:?}");
    }

    #[test]
    fn a_calendar_that_is_ahead_of_the_seeds_makes_it_ask_with_pauses_and_not_without_end() {
        let mut machine = Renewal::new(at(0).0, LEAF, None, 1);
        let ahead = ISSUED.plus_seconds(300 * DAY);
        let (mut asked, mut seconds) = (0, 0);
        while seconds < DAY {
            machine.handle_timeout(at(seconds).0, ahead);
            if machine.poll_renew() {
                asked += 1;
                machine.on_renewed(at(seconds).0, ahead, LEAF);
            }
            seconds = machine.poll_timeout().unwrap().as_micros().div_ceil(1_000_000).max(seconds + 1);
        }
        assert!((2..80).contains(&asked), "{asked}");
    }
}
