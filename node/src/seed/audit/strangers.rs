//! How many refused writes of strangers get a line of their own. Without a bound, whoever can reach the seed could push the
//! lines of others out of the files that are kept.
//!
//! Not here: those who have a key; each of their writes has a line, because they answer for it.

use std::time::Duration;

use protocol::time::Instant;

/// Lines in a row, after a quiet time.
const BURST: u32 = 60;
/// After those, one line in this time: some 60 MB a day at most.
const EVERY: Duration = Duration::from_secs(1);

/// The lines that are left.
#[derive(Debug)]
pub struct Strangers {
    left: u32,
    counted: Instant,
}

impl Strangers {
    /// All are left.
    pub const fn new(now: Instant) -> Self {
        Self { left: BURST, counted: now }
    }

    /// Whether a refused write at `now` gets a line.
    pub fn allow(&mut self, now: Instant) -> bool {
        let passed = now.since(self.counted).as_secs() / EVERY.as_secs();
        if passed > 0 {
            self.left = self.left.saturating_add(u32::try_from(passed).unwrap_or(BURST)).min(BURST);
            self.counted = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_a_line_a_second_after_the_first_ones() {
        let at = |millis: u64| Instant::from_micros(millis * 1000);
        let mut strangers = Strangers::new(at(0));
        let flood = |strangers: &mut Strangers, millis: u64| (0..1000).filter(|_| strangers.allow(at(millis))).count();
        assert_eq!(flood(&mut strangers, 0), 60);
        assert_eq!(flood(&mut strangers, 999), 0);
        assert_eq!(flood(&mut strangers, 1000), 1);
        assert_eq!(flood(&mut strangers, 4000), 3);
        assert_eq!(flood(&mut strangers, 1_000_000), 60);
    }
}
