//! Requests that were answered before their bodies had come: what still comes is read and dropped, within bounds.
//!
//! To close a connection on which unread bytes arrive resets it, and the reset takes with it the answer that says why (RFC 9112,
//! section 9.6). Over HTTP/2 the stream would be reset, which some clients report in place of the answer.
//!
//! Not here: bodies that somebody waits for; see [`super::pace`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// How much may still come. What is on its way before a client hears of the answer is less, on any link; a client that sends on
/// all the same is cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes_max: u64,
    pub(super) time_max: Duration,
}

/// The body of a request; dropped before its end, it is read on in the background.
pub(super) struct Lingering<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> {
    /// Absent when nothing may come any more: it ended, it failed, or its client still waits to be asked for it.
    body: Option<B>,
    bounds: Bounds,
    /// The client sends nothing before somebody reads (RFC 9110, section 10.1.1).
    is_awaited: bool,
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> Lingering<B> {
    /// The body of a request with these headers.
    pub(super) fn new(body: B, headers: &HeaderMap, bounds: Bounds) -> Self {
        let is_awaited = headers.contains_key(header::EXPECT);
        Self { body: Some(body), bounds, is_awaited }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> HttpBody for Lingering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.is_awaited = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> Drop for Lingering<B> {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !self.is_awaited && !body.is_end_stream()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let bounds = self.bounds;
        runtime.spawn(tokio::time::timeout(bounds.time_max, async move {
            let mut left = bounds.bytes_max;
            while let Some(Ok(frame)) = body.frame().await {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(less) = left.checked_sub(bytes) else { return };
                left = less;
            }
        }));
    }
}
