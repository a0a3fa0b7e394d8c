//! The peers that the operator configured: proposed once; they are dialled for ever.
//!
//! Not here: reading the configuration; see [`crate::config::device`].

use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Proposal, Reason, Source};

/// The source.
#[derive(Debug)]
pub struct Fixed(pub Vec<SocketAddr>);

impl Source for Fixed {
    fn run(self: Box<Self>, proposals: mpsc::Sender<Proposal>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let _ = proposals.send(Proposal { reason: Reason::Configured, addresses: self.0 }).await;
            proposals.closed().await;
        })
    }
}
