//! The way to a peer: a QUIC connection or, where no UDP comes through, HTTPS.
//!
//! Not here: what goes over it.

use std::time::Duration;

use protocol::swarm::memory::Windows;
use quinn::{Connection, VarInt};

use super::session::Https;

/// The way to a peer. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// A QUIC connection.
    Quic(Connection),
    /// Requests over TLS on TCP.
    Https(Https),
}

impl Link {
    /// A number that no other link of this process has while this one is open.
    pub(crate) fn id(&self) -> usize {
        match self {
            Self::Quic(connection) => connection.stable_id(),
            Self::Https(https) => https.id(),
        }
    }

    pub(super) fn close(&self, code: u8, reason: &str) {
        match self {
            Self::Quic(connection) => connection.close(code.into(), reason.as_bytes()),
            Self::Https(https) => https.close(),
        }
    }

    /// Bytes received and sent: of datagrams, or of blobs over HTTPS.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        match self {
            Self::Quic(connection) => {
                let stats = connection.stats();
                (stats.udp_rx.bytes, stats.udp_tx.bytes)
            }
            Self::Https(https) => https.traffic(),
        }
    }

    /// The round trip, where it is known.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        match self {
            Self::Quic(connection) => Some(connection.rtt()),
            Self::Https(_) => None,
        }
    }

    /// One word for how the bytes go.
    pub(super) const fn transport(&self) -> &'static str {
        match self {
            Self::Quic(_) => "quic",
            Self::Https(_) => "https",
        }
    }

    /// Sets flow control. TCP has its own, with buffers that the kernel bounds.
    pub(super) fn set_windows(&self, windows: Windows) {
        if let Self::Quic(connection) = self {
            connection.set_receive_window(VarInt::from_u64(windows.receive).unwrap_or(VarInt::MAX));
            connection.set_send_window(windows.send);
        }
    }
}
