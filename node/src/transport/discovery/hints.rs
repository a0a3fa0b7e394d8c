//! What the seed says of other devices, passed on as often as it says something.
//!
//! Not here: asking the seed; see `device::agent`.

use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::{Proposal, Reason, Source};

/// The source. Of hints that come faster than they are taken, the last one counts.
#[derive(Debug)]
pub struct Hints(watch::Receiver<Vec<SocketAddr>>);

/// Where hints go in.
#[derive(Clone, Debug)]
pub struct Hinter(std::sync::Arc<watch::Sender<Vec<SocketAddr>>>);

/// A source, and where its hints go in.
pub fn source() -> (Hinter, Hints) {
    let (sender, hints) = watch::channel(Vec::new());
    (Hinter(std::sync::Arc::new(sender)), Hints(hints))
}

impl Hinter {
    /// The seed said that peers may be found at `addresses`.
    pub fn hint(&self, addresses: Vec<SocketAddr>) {
        self.0.send_replace(addresses);
    }
}

impl Source for Hints {
    fn run(mut self: Box<Self>, proposals: mpsc::Sender<Proposal>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            while self.0.changed().await.is_ok() {
                let addresses = self.0.borrow_and_update().clone();
                if proposals.send(Proposal { reason: Reason::Hinted, addresses }).await.is_err() {
                    return;
                }
            }
            proposals.closed().await;
        })
    }
}
