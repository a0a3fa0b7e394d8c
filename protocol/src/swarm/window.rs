//! How many spans the site fetches over the WAN at a time: twice what fills the pipe, bandwidth times delay, as this node
//! sees both. While requests wait in line at a narrow link their delay grows, but by less than the window that caused it, so
//! the window falls back by itself.
//!
//! Not here: who fetches which of them; see [`super::wan`].

use std::time::Duration;

use super::parameters::Parameters;
use crate::geometry::SPAN_BYTES;
use crate::time::Instant;

/// The window, and what was measured for it.
#[derive(Clone, Debug)]
pub(super) struct Window {
    spans: usize,
    since: Instant,
    bytes: u64,
    first_byte: Duration,
}

impl Window {
    pub(super) const fn new(now: Instant, parameters: &Parameters) -> Self {
        Self { spans: parameters.window_spans, since: now, bytes: 0, first_byte: Duration::ZERO }
    }

    /// Spans fetched at a time.
    pub(super) const fn spans(&self) -> usize {
        self.spans
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
        let spans = usize::try_from((2 * in_pipe).div_ceil(u128::from(SPAN_BYTES))).unwrap_or(usize::MAX);
        self.spans = spans.max(self.spans - 1).clamp(parameters.window_spans, parameters.window_spans_max);
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
        let (mut now, mut window) = (Instant::ZERO, Window::new(Instant::ZERO, &parameters));
        for _ in 0..60 {
            let in_flight = window.spans() as u64 * SPAN_BYTES;
            let brought = rate.min(in_flight * 1_000_000 / (delay.as_micros() as u64 + in_flight * 1_000_000 / rate));
            let queued = Duration::from_micros(window.spans() as u64 * 65_536 * 1_000_000 / rate);
            window.note_first_byte(delay + queued);
            window.note_bytes(brought);
            now = now + SECOND;
            window.handle_timeout(now, &parameters);
        }
        window.spans()
    }

    #[test]
    fn it_covers_a_fast_and_distant_seed_and_stays_small_on_a_slow_link() {
        assert_eq!(settled(1_000_000, 20 * SECOND / 1000), Parameters::default().window_spans);
        let pipe_spans = 12_500_000 * 6 / 10 / SPAN_BYTES as usize;
        assert!((pipe_spans..=4 * pipe_spans).contains(&settled(12_500_000, 600 * SECOND / 1000)));
        assert_eq!(settled(1_000_000_000, SECOND), Parameters::default().window_spans_max);
    }
}
