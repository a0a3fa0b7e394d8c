//! How many spans the site fetches over the WAN at a time: twice what fills the pipe, bandwidth times delay, as this node
//! sees both. While requests wait in line at a narrow link their delay grows, but by less than the window that caused it, so
//! the window falls back by itself.
//!
//! It is not smaller than what many devices with slow links of their own need to fill a fast WAN together, and on a slow WAN
//! not larger than what that brings in a moment: where many connections share it, each has a few packets in flight, and one
//! that loses them waits for its retransmission timeout.
//!
//! Not here: who fetches which of them; see [`super::wan`].

use std::time::Duration;

use super::parameters::Parameters;
use crate::geometry::SPAN_BYTES;
use crate::time::Instant;

/// The window, and what was measured for it.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Twice what is in the pipe, in spans.
    pipe_spans: usize,
    /// What the WAN brings in [`Parameters::span_time`], in spans.
    brought_spans: usize,
    since: Instant,
    bytes: u64,
    first_byte: Duration,
}

impl Window {
    pub(super) const fn new(now: Instant) -> Self {
        Self { pipe_spans: 1, brought_spans: 0, since: now, bytes: 0, first_byte: Duration::ZERO }
    }

    /// Spans that the site fetches at a time.
    pub(super) fn spans(&self, parameters: &Parameters) -> usize {
        let least = self.brought_spans.clamp(parameters.window_spans_min.min(parameters.window_spans), parameters.window_spans);
        self.pipe_spans.clamp(least, parameters.window_spans_max)
    }

    /// Of these, the spans of a node that shares them with `others`: what fills the pipe, and at least a second request under
    /// way before the first ends.
    pub(super) fn spans_of_one(&self, others: usize, parameters: &Parameters) -> usize {
        self.pipe_spans.min(parameters.window_spans_max).div_ceil(others + 1).max(parameters.claims_max)
    }

    /// Bytes are new on the site.
    pub(super) const fn note_bytes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// A fetch of this node over the WAN brought its first bytes after `delay`.
    pub(super) fn note_first_byte(&mut self, delay: Duration) {
        self.first_byte = if self.first_byte.is_zero() { delay } else { (self.first_byte * 3 + delay) / 4 };
    }

    /// Opens or closes the window, once in each interval.
    pub(super) fn handle_timeout(&mut self, now: Instant, parameters: &Parameters) {
        let elapsed = now.since(self.since);
        if elapsed < parameters.window_interval {
            return;
        }
        let in_pipe = u128::from(self.bytes) * self.first_byte.as_micros() / elapsed.as_micros().max(1);
        let spans = |bytes: u128| usize::try_from(bytes.div_ceil(u128::from(SPAN_BYTES))).unwrap_or(usize::MAX);
        self.pipe_spans = spans(2 * in_pipe).clamp(self.pipe_spans - 1, parameters.window_spans_max).max(1);
        let brought = u128::from(self.bytes) * parameters.span_time.as_micros() / elapsed.as_micros().max(1);
        self.brought_spans = spans(brought).clamp(self.brought_spans.saturating_sub(1), parameters.window_spans_max);
        (self.since, self.bytes) = (now, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The window after a minute on a link that brings `rate` bytes a second after `delay`.
    fn settled(rate: u64, delay: Duration) -> usize {
        let parameters = Parameters::default();
        let (mut now, mut window) = (Instant::ZERO, Window::new(Instant::ZERO));
        for _ in 0..60 {
            let in_flight = window.spans_of_one(0, &parameters) as u64 * SPAN_BYTES;
            let brought = rate.min(in_flight * 1_000_000 / (delay.as_micros() as u64 + in_flight * 1_000_000 / rate));
            let queued = Duration::from_micros(window.spans_of_one(0, &parameters) as u64 * 65_536 * 1_000_000 / rate);
            window.note_first_byte(delay + queued);
            window.note_bytes(brought);
            now = now + SECOND;
            window.handle_timeout(now, &parameters);
        }
        window.spans_of_one(0, &parameters)
    }

    #[test]
    fn many_devices_on_a_slow_wan_fetch_few_spans_at_a_time_and_on_a_fast_one_many() {
        let parameters = Parameters::default();
        let site = |rate: u64| {
            let (mut now, mut window) = (Instant::ZERO, Window::new(Instant::ZERO));
            for _ in 0..10 {
                window.note_first_byte(Duration::from_millis(100));
                window.note_bytes(rate);
                now = now + SECOND;
                window.handle_timeout(now, &parameters);
            }
            window.spans(&parameters)
        };
        assert_eq!(Window::new(Instant::ZERO).spans(&parameters), parameters.window_spans_min, "what the WAN brings is not known");
        assert_eq!(site(1_000_000), parameters.window_spans_min);
        assert_eq!(site(100_000_000 / 8), parameters.window_spans);
    }

    #[test]
    fn it_covers_a_fast_and_distant_seed_and_stays_small_on_a_slow_link() {
        assert_eq!(settled(1_000_000, 20 * SECOND / 1000), Parameters::default().claims_max);
        let pipe_spans = 12_500_000 * 6 / 10 / SPAN_BYTES as usize;
        assert!((pipe_spans..=4 * pipe_spans).contains(&settled(12_500_000, 600 * SECOND / 1000)));
        assert_eq!(settled(1_000_000_000, SECOND), Parameters::default().window_spans_max);
    }
}
