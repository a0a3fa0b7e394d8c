//! Beacons: no datagram is too strange to be read, and one that announces a device says the same when it is written and read
//! again.
//!
//! Not here: who is called because of one.

use protocol::beacon::message::{Beacon, read};

/// Reads a datagram.
pub fn run(data: &[u8]) {
    if let Some(Beacon::Announcement(announced)) = read(data) {
        assert_ne!(announced.port, 0);
        assert_eq!(read(&announced.encode()), Some(Beacon::Announcement(announced)));
    }
}
