//! The least rate at which a client must send a body that is waited for, and read the answers to its requests: a client that
//! moves a byte now and then would else keep its connection, and one of few places for bodies, for ever.
//!
//! Only the client's time counts: not while a request is being worked on, and not while an answer waits for the disk or, on a
//! device, for the WAN.
//!
//! Not here: sockets on which nothing moves at all; see [`crate::transport::meter`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::transport::meter::Meter;

/// A connection is looked at this often in a window.
const LOOKS: u32 = 4;

/// What a client must keep up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Over how much of the client's time its bytes are counted.
    pub(super) window: Duration,
    /// The bytes that must move in a window.
    pub(super) bytes_least: u64,
    /// How long a connection may have no request under way.
    pub(super) idle_max: Duration,
}

/// The body of a request, which must keep the pace while it is waited for.
pub(super) struct Paced<B> {
    body: B,
    pace: Pace,
    meter: Meter,
    waiting: Option<Waiting>,
}

/// How long a body has been waited for in this window, and what came.
struct Waiting {
    waited: Duration,
    bytes: u64,
    since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl<B> Paced<B> {
    pub(super) const fn new(body: B, pace: Pace, meter: Meter) -> Self {
        Self { body, pace, meter, waiting: None }
    }

    /// Begins to wait, or goes on; ready when a window is over in which too little came.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let window = self.pace.window;
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            waited: Duration::ZERO,
            bytes: 0,
            since: None,
            alarm: Box::pin(tokio::time::sleep_until(now + window)),
        });
        loop {
            let since = *waiting.since.get_or_insert(now);
            let deadline = since + window.saturating_sub(waiting.waited);
            if waiting.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if deadline > now {
                waiting.alarm.as_mut().reset(deadline);
            } else if waiting.bytes < self.pace.bytes_least {
                return Poll::Ready(());
            } else {
                (waiting.waited, waiting.bytes, waiting.since) = (Duration::ZERO, 0, None);
                waiting.alarm.as_mut().reset(now + window);
            }
        }
    }

    fn arrived(&mut self, bytes: usize) {
        if let Some(waiting) = &mut self.waiting {
            waiting.bytes += bytes as u64;
            waiting.waited += waiting.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        }
    }
}

impl<B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Unpin> HttpBody for Paced<B> {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.arrived(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending if self.poll_too_slow(cx).is_ready() => {
                self.meter.count_too_slow();
                let least = self.pace.bytes_least / self.pace.window.as_secs().max(1);
                let message = format!("the body came slower than {least} bytes a second");
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, message).into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is under way on one connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Requests whose answers have not been taken over whole.
    requests: AtomicUsize,
    /// Those of them that wait for this process and not for the client.
    ours: AtomicUsize,
}

impl Activity {
    /// A request has come; it is ours to answer.
    pub(super) fn begin(&self) -> UnderWay {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.ours.fetch_add(1, Ordering::Relaxed);
        UnderWay { activity: self.clone(), ours: true }
    }
}

/// One request under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    activity: Activity,
    ours: bool,
}

impl UnderWay {
    /// The answer has begun.
    pub(super) fn answered(&mut self) {
        self.set_ours(false);
    }

    fn set_ours(&mut self, ours: bool) {
        match (self.ours, ours) {
            (true, false) => self.activity.0.ours.fetch_sub(1, Ordering::Relaxed),
            (false, true) => self.activity.0.ours.fetch_add(1, Ordering::Relaxed),
            (true, true) | (false, false) => return,
        };
        self.ours = ours;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.set_ours(false);
        self.activity.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, which knows who waits for whom.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    under_way: UnderWay,
}

impl Answer {
    pub(super) const fn new(body: Body, under_way: UnderWay) -> Self {
        Self { body, under_way }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.under_way.set_ours(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its client reads too slowly.
    TooSlow,
    /// It has had no request for too long.
    Idle,
}

/// Looks at a connection from time to time.
#[derive(Debug)]
pub(super) struct Watch {
    pace: Pace,
    pub(super) activity: Activity,
    moved: Arc<AtomicU64>,
    /// Since when the client has been the one to act, and what had moved then.
    reading: Option<(Instant, u64)>,
    idle: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl Watch {
    /// Watches a connection that moves as many bytes as `moved` counts.
    pub(super) fn new(pace: Pace, activity: Activity, moved: Arc<AtomicU64>) -> Self {
        let alarm = Box::pin(tokio::time::sleep(pace.window / LOOKS));
        Self { pace, activity, moved, reading: None, idle: None, alarm }
    }

    /// Waits until there is something to be done about the connection.
    pub(super) async fn next(&mut self) -> Verdict {
        loop {
            self.alarm.as_mut().await;
            let now = Instant::now();
            self.alarm.as_mut().reset(now + self.pace.window / LOOKS);
            if let Some(verdict) = self.look(now) {
                return verdict;
            }
        }
    }

    fn look(&mut self, now: Instant) -> Option<Verdict> {
        let requests = self.activity.0.requests.load(Ordering::Relaxed);
        let ours = self.activity.0.ours.load(Ordering::Relaxed);
        let moved = self.moved.load(Ordering::Relaxed);
        if requests == 0 {
            self.reading = None;
            let since = *self.idle.get_or_insert(now);
            return (now - since >= self.pace.idle_max).then(|| {
                self.idle = None;
                Verdict::Idle
            });
        }
        self.idle = None;
        if ours > 0 {
            self.reading = None;
            return None;
        }
        let (since, before) = *self.reading.get_or_insert((now, moved));
        if now - since < self.pace.window {
            return None;
        }
        self.reading = Some((now, moved));
        (moved - before < self.pace.bytes_least).then_some(Verdict::TooSlow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { window: Duration::from_secs(60), bytes_least: 1000, idle_max: Duration::from_secs(600) };

    fn watch() -> Watch {
        Watch::new(PACE, Activity::default(), Arc::default())
    }

    /// What is said of a connection that moves `bytes` every quarter of a window, for `looks` of them.
    fn judge(watch: &mut Watch, from: Instant, looks: u32, bytes: u64) -> Vec<Verdict> {
        let look = |look| {
            watch.moved.fetch_add(bytes, Ordering::Relaxed);
            watch.look(from + PACE.window / LOOKS * look)
        };
        (0..looks).filter_map(look).collect()
    }

    #[tokio::test]
    async fn an_answer_that_is_read_too_slowly_is_given_up_and_one_at_the_least_rate_is_not() {
        let now = Instant::now();
        for (bytes, verdicts) in [(249, vec![Verdict::TooSlow]), (250, vec![])] {
            let mut watch = watch();
            let mut request = watch.activity.begin();
            request.answered();
            assert_eq!(judge(&mut watch, now, 5, bytes), verdicts);
        }
    }

    #[tokio::test]
    async fn what_waits_for_us_is_not_the_clients_fault() {
        let mut watch = watch();
        let mut request = watch.activity.begin();
        assert_eq!(judge(&mut watch, Instant::now(), 100, 0), [], "a request that is worked on");
        request.answered();
        let mut pending = Answer::new(Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>()), request);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut pending).poll_frame(&mut cx).is_pending());
        assert_eq!(judge(&mut watch, Instant::now(), 100, 0), [], "an answer that has nothing to send yet");
        drop(pending);
        assert_eq!(judge(&mut watch, Instant::now(), 10, 0), [], "a connection between two requests");
    }

    #[tokio::test]
    async fn a_connection_without_requests_is_idle_also_when_bytes_move() {
        let mut watch = watch();
        assert_eq!(judge(&mut watch, Instant::now(), 41, 1), [Verdict::Idle]);
    }
}
