//! Beacons: how devices of a LAN notice each other, as multicast DNS (RFC 6762) and DNS service discovery (RFC 6763).
//!
//! | module | decides |
//! |---|---|
//! | [`message`] | what a beacon looks like, byte by byte, and what of the LAN's other datagrams is ignored |
//! | [`announcer`] | when this device is announced |
//! | [`listener`] | which announced addresses are worth a call, and when |
//!
//! A beacon says that a device takes connections at an address, under a name that is drawn anew at every start: neither
//! organisation nor device, key, app, version or digest. Nobody vouches for it; who answers a call shows a certificate.
//!
//! Not here: sockets; whether an address is of this site, see [`crate::site`].

pub mod announcer;
pub mod listener;
pub mod message;

use std::time::Duration;

/// Between two announcements of a device that nobody asks for one.
pub const TICK: Duration = Duration::from_secs(10);

/// Who was not heard for this many ticks is gone.
pub const TICKS_MISSED_MAX: u32 = 3;

/// The name of a device until its process ends, random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub [u8; 16]);
