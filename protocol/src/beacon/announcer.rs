//! When a device is announced on one interface: at once and a second later, then every tick, and when somebody asks
//! (RFC 6762 §6, §8.3). Two announcements are at least a second apart, however often somebody asks.
//!
//! Not here: what is sent; see [`super::message`].

use std::time::Duration;

use super::TICK;
use crate::rendezvous;
use crate::time::Instant;

/// Between two announcements at least (RFC 6762 §6).
const APART: Duration = Duration::from_secs(1);
/// An answer comes after this and before [`ANSWER_LATEST`], so that the answers of a LAN do not collide.
const ANSWER_EARLIEST: Duration = Duration::from_millis(20);
const ANSWER_LATEST: Duration = Duration::from_millis(120);
/// Questions and announcements that are asked and made a second apart at the start, in case some are lost.
const INITIAL: u32 = 3;

/// The machine of one interface.
#[derive(Debug)]
pub struct Announcer {
    seed: u64,
    draws: u64,
    sent: u32,
    last: Option<Instant>,
    next: Instant,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The question too: others are not known yet.
    pub question: bool,
}

impl Announcer {
    /// An interface that came up at `now`; `seed` makes random choices reproducible.
    pub const fn new(now: Instant, seed: u64) -> Self {
        Self { seed, draws: 0, sent: 0, last: None, next: now }
    }

    /// Somebody asked.
    pub fn on_question(&mut self, now: Instant) {
        let spread = ANSWER_LATEST.saturating_sub(ANSWER_EARLIEST);
        let answer = now + ANSWER_EARLIEST + self.draw(spread);
        let earliest = self.last.map_or(answer, |last| answer.max(last + APART));
        self.next = self.next.min(earliest);
    }

    /// What is due, if anything is.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        if now < self.next {
            return None;
        }
        self.sent = self.sent.saturating_add(1);
        self.last = Some(now);
        let initial = self.sent < INITIAL;
        self.next = now + if initial { APART } else { TICK - TICK / 10 + self.draw(TICK / 10) };
        Some(Due { question: self.sent <= INITIAL })
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub const fn poll_timeout(&self) -> Instant {
        self.next
    }

    fn draw(&mut self, limit: Duration) -> Duration {
        self.draws += 1;
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        Duration::from_micros(rendezvous::draw(self.seed, self.draws) % micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcements(questions_ms: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut announcer = Announcer::new(Instant::ZERO, 7);
        let (mut questions, mut sent) = (questions_ms.peekable(), Vec::new());
        for ms in 0..60_000 {
            let now = Instant::ZERO + Duration::from_millis(ms);
            while questions.next_if_eq(&ms).is_some() {
                announcer.on_question(now);
            }
            sent.extend(announcer.handle_timeout(now).map(|_| ms));
        }
        sent
    }

    #[test]
    fn is_announced_at_once_again_soon_and_then_every_tick() {
        let sent = announcements(std::iter::empty());
        assert_eq!(sent[..3], [0, 1_000, 2_000]);
        assert!(sent[2..].windows(2).all(|pair| (9_000..=10_001).contains(&(pair[1] - pair[0]))), "{sent:?}");
    }

    #[test]
    fn who_asks_is_answered_soon() {
        let sent = announcements(std::iter::once(5_000));
        assert!(sent.iter().any(|ms| (5_020..=5_121).contains(ms)), "{sent:?}");
    }

    #[test]
    fn a_flood_of_questions_is_answered_once_a_second() {
        let sent = announcements(0..60_000);
        assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= 1_000) && sent.len() > 50, "{sent:?}");
    }
}
