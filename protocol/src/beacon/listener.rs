//! Which announced addresses are called, and when: of two devices that hear each other the one with the smaller tag calls
//! at once, the other only if that did not come to pass in a second. Who is heard over IPv4 is not called over IPv6 too, and
//! who is heard over IPv6 first is given a moment to be heard over IPv4.
//!
//! A beacon is believed to come from the address that it announces, and from nowhere else; one address is worth a few
//! devices, and all addresses together a bounded number, so that a flood of forged beacons costs little and lasts for as
//! long as it is kept up.
//!
//! Not here: whether an address is on-link, see [`crate::site`]; what becomes of a call, see [`crate::dialer`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::message::Announcement;
use super::{TICK, TICKS_MISSED_MAX, Tag};
use crate::dialer::ADDRESSES_MAX;
use crate::time::Instant;

/// Devices behind one address: several in network namespaces of one machine, or one that restarted often.
const PER_ADDRESS_MAX: usize = 4;
/// How long the device with the larger tag waits for the other's call.
const YIELD: Duration = Duration::from_secs(1);
/// How long a device that is heard over IPv6 is given to be heard over IPv4: it answers over both within a tenth of a second.
const OTHER_FAMILY: Duration = Duration::from_millis(300);

/// The machine.
#[derive(Debug)]
pub struct Listener {
    me: Tag,
    heard: BTreeMap<SocketAddr, Heard>,
}

#[derive(Debug)]
struct Heard {
    tag: Tag,
    at: Instant,
    /// When it is to be called; none while it is not.
    call: Option<Instant>,
}

impl Heard {
    fn is_fresh(&self, now: Instant) -> bool {
        now.since(self.at) < TICK * TICKS_MISSED_MAX
    }
}

impl Listener {
    /// The machine of the device that announces itself as `me`.
    pub const fn new(me: Tag) -> Self {
        Self { me, heard: BTreeMap::new() }
    }

    /// A datagram that came from `source` announced this; the port of `source` is that of multicast DNS.
    pub fn on_announcement(&mut self, now: Instant, source: SocketAddr, announced: &Announcement) {
        let mut address = source;
        address.set_port(announced.port);
        let tag = announced.tag;
        if tag == self.me || source.ip() != announced.address {
            return;
        }
        if announced.leaves {
            self.heard.remove(&address);
            return;
        }
        let also_v4 = |(known, heard): (&SocketAddr, &Heard)| known.is_ipv4() && heard.tag == tag && heard.is_fresh(now);
        if address.is_ipv6() && self.heard.iter().any(also_v4) {
            return;
        }
        if address.is_ipv4() {
            let not_called_v6 = |known: &SocketAddr, heard: &Heard| known.is_ipv6() && heard.tag == tag && heard.call.is_some();
            self.heard.retain(|known, heard| !not_called_v6(known, heard));
        }
        match self.heard.get_mut(&address) {
            Some(known) if known.tag == tag && known.is_fresh(now) => {
                known.at = now;
                known.call = known.call.or(Some(now));
            }
            known => {
                if known.is_none() && !self.has_room(now, address) {
                    return;
                }
                let call = if self.me < tag { now } else { now + YIELD };
                let call = if address.is_ipv6() { call + OTHER_FAMILY } else { call };
                self.heard.insert(address, Heard { tag, at: now, call: Some(call) });
            }
        }
    }

    /// The addresses that are to be called now.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<SocketAddr> {
        let due = self.heard.iter_mut().filter(|(_, heard)| heard.call.is_some_and(|call| call <= now));
        due.map(|(address, heard)| {
            heard.call = None;
            *address
        })
        .collect()
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.heard.values().filter_map(|heard| heard.call).min()
    }

    fn has_room(&mut self, now: Instant, address: SocketAddr) -> bool {
        let behind = self.heard.keys().filter(|known| known.ip() == address.ip()).count();
        if self.heard.len() < ADDRESSES_MAX && behind < PER_ADDRESS_MAX {
            return true;
        }
        self.heard.retain(|_, heard| heard.is_fresh(now));
        self.heard.len() < ADDRESSES_MAX && self.heard.keys().filter(|known| known.ip() == address.ip()).count() < PER_ADDRESS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Tag = Tag([5; 16]);

    fn hear(listener: &mut Listener, now: Instant, tag: u8, source: &str, announced: &str) -> Vec<SocketAddr> {
        let (source, address): (SocketAddr, SocketAddr) = (source.parse().unwrap(), announced.parse().unwrap());
        let announced = Announcement { tag: Tag([tag; 16]), address: address.ip(), port: address.port(), leaves: false };
        listener.on_announcement(now, source, &announced);
        listener.handle_timeout(now)
    }

    fn addresses<const N: usize>(texts: [&str; N]) -> [SocketAddr; N] {
        texts.map(|text| text.parse().unwrap())
    }

    #[test]
    fn the_smaller_tag_calls_at_once_and_the_larger_one_if_need_be() {
        let (mut listener, now) = (Listener::new(ME), Instant::ZERO);
        assert_eq!(hear(&mut listener, now, 9, "10.0.0.9:5353", "10.0.0.9:7446"), addresses(["10.0.0.9:7446"]));
        assert_eq!(hear(&mut listener, now, 1, "10.0.0.1:5353", "10.0.0.1:7446"), []);
        assert_eq!(listener.poll_timeout(), Some(now + YIELD));
        assert_eq!(listener.handle_timeout(now + YIELD), addresses(["10.0.0.1:7446"]));
        assert_eq!(listener.poll_timeout(), None);
        assert_eq!(hear(&mut listener, now, 5, "10.0.0.5:5353", "10.0.0.5:7446"), [], "that is me");
    }

    #[test]
    fn each_later_beacon_is_worth_another_call() {
        let (mut listener, now) = (Listener::new(ME), Instant::ZERO);
        hear(&mut listener, now, 1, "10.0.0.1:5353", "10.0.0.1:7446");
        listener.handle_timeout(now + YIELD);
        assert_eq!(hear(&mut listener, now + TICK, 1, "10.0.0.1:5353", "10.0.0.1:7446"), addresses(["10.0.0.1:7446"]));
    }

    #[test]
    fn a_device_is_called_over_one_family_and_at_its_new_address_at_once() {
        let (mut listener, now) = (Listener::new(ME), Instant::ZERO);
        assert_eq!(hear(&mut listener, now, 9, "10.0.0.9:5353", "10.0.0.9:7446").len(), 1);
        assert_eq!(hear(&mut listener, now, 9, "[fe80::9%2]:5353", "[fe80::9]:7446"), []);
        assert_eq!(hear(&mut listener, now, 9, "10.0.0.99:5353", "10.0.0.99:7446"), addresses(["10.0.0.99:7446"]));
        let later = now + TICK * TICKS_MISSED_MAX;
        assert_eq!(hear(&mut listener, later, 9, "[fe80::9%2]:5353", "[fe80::9]:7446"), []);
        assert_eq!(listener.handle_timeout(later + OTHER_FAMILY), addresses(["[fe80::9%2]:7446"]));
    }

    #[test]
    fn a_device_that_is_heard_over_ipv6_first_is_called_over_ipv4_alone() {
        let (mut listener, now) = (Listener::new(ME), Instant::ZERO);
        assert_eq!(hear(&mut listener, now, 9, "[fe80::9%2]:5353", "[fe80::9]:7446"), []);
        let soon = now + Duration::from_millis(100);
        assert_eq!(hear(&mut listener, soon, 9, "10.0.0.9:5353", "10.0.0.9:7446"), addresses(["10.0.0.9:7446"]));
        assert_eq!(listener.poll_timeout(), None);
    }

    #[test]
    fn forged_beacons_are_worth_a_bounded_number_of_calls() {
        let (mut listener, now) = (Listener::new(ME), Instant::ZERO);
        assert_eq!(hear(&mut listener, now, 9, "10.0.0.9:5353", "192.0.2.1:7446"), [], "announced for somebody else");
        let one: usize = (1..1000).map(|port| hear(&mut listener, now, 9, "10.0.0.9:5353", &format!("10.0.0.9:{port}")).len()).sum();
        assert_eq!(one, PER_ADDRESS_MAX);
        let calls = (0..10_000u32).map(|n| {
            let ip = format!("10.1.{}.{}", n >> 8, n & 255);
            hear(&mut listener, now, 9, &format!("{ip}:5353"), &format!("{ip}:7446")).len()
        });
        assert_eq!(calls.sum::<usize>(), ADDRESSES_MAX - PER_ADDRESS_MAX);
        assert_eq!(listener.heard.len(), ADDRESSES_MAX);
        let later = now + TICK * TICKS_MISSED_MAX;
        assert_eq!(hear(&mut listener, later, 9, "10.0.1.1:5353", "10.0.1.1:7446").len(), 1, "when the flood is over");
    }
}
