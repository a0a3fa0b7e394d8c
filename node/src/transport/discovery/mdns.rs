//! Beacons by multicast DNS, on every LAN interface, IPv4 and IPv6 at once.
//!
//! libp2p's own mDNS is not used: it speaks IPv4 or IPv6 but not both, joins the IPv6 group on interface 0 alone, speaks on
//! every interface there is (VPNs and container bridges too), never announces by itself, so that a device with the larger
//! identity would wait five minutes for its first call, answers every question of every device with no limit, and remembers
//! every forged answer (its version 0.49, `behaviour.rs` and `iface.rs`). The socket API has all that is needed, and what is
//! decided stands in [`protocol::beacon`].
//!
//! A socket belongs to one address of one interface: what it sends comes from the address that it announces, and it hears
//! nothing from elsewhere. Sockets come and go with the addresses.
//!
//! Not here: which announced addresses are called, and when; [`protocol::beacon`] decides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket as StdSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use protocol::beacon::Tag;
use protocol::beacon::announcer::Announcer;
use protocol::beacon::listener::Listener;
use protocol::beacon::message::{self, Announcement, BYTES_MAX, Beacon, GROUP_V4, GROUP_V6, PORT};
use protocol::rendezvous;
use protocol::site::{Surroundings, is_link_local, takes};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{Proposal, Reason, Source};
use crate::clock::Clock;

/// Datagrams that a socket reads in a second: a site of a hundred devices sends a few dozen. What is above it, the kernel
/// throws away, so that a flood costs nothing.
const DATAGRAMS_PER_SECOND_MAX: u32 = 256;
/// What the kernel may hold for a socket: a second's worth.
const SOCKET_BUFFER_BYTES: usize = 128 << 10;
/// Announcements that may wait to be judged.
const HEARD_MAX: usize = 64;

/// The source.
#[derive(Debug)]
pub struct Mdns {
    /// The name in the beacons.
    pub tag: Tag,
    /// Where the device takes connections: at all addresses of an interface, if this one is unspecified.
    pub listens_on: SocketAddr,
    /// The interfaces.
    pub surroundings: watch::Receiver<Surroundings>,
    /// How many datagrams of others were read, for who asks whether multicast works.
    pub seen: Arc<std::sync::atomic::AtomicU64>,
}

/// An address that is announced, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    address: IpAddr,
    interface: u32,
}

/// The addresses to announce, on the interfaces that they belong to. An IPv6 multicast is sent from the link-local address,
/// so that one is announced.
fn places(surroundings: &Surroundings, listens_on: IpAddr) -> BTreeSet<Place> {
    let lans =
        surroundings.lans().flat_map(|lan| lan.addresses.iter().map(|(address, _)| Place { address: *address, interface: lan.index }));
    lans.filter(|place| takes(listens_on, place.address) && (place.address.is_ipv4() || is_link_local(place.address))).collect()
}

impl Source for Mdns {
    fn run(self: Box<Self>, proposals: mpsc::Sender<Proposal>) -> BoxFuture<'static, ()> {
        Box::pin(self.follow(proposals))
    }
}

impl Mdns {
    async fn follow(mut self: Box<Self>, proposals: mpsc::Sender<Proposal>) {
        let clock = Clock::start();
        let (sender, mut heard) = mpsc::channel(HEARD_MAX);
        let mut listener = Listener::new(self.tag);
        let (mut sockets, mut open): (JoinSet<()>, BTreeMap<Place, AbortHandle>) = (JoinSet::new(), BTreeMap::new());
        self.open(clock, &mut sockets, &mut open, &sender);
        loop {
            let due = listener.poll_timeout().map(|due| clock.to_tokio(due));
            tokio::select! {
                Ok(()) = self.surroundings.changed() => self.open(clock, &mut sockets, &mut open, &sender),
                Some((source, announced)) = heard.recv() => listener.on_announcement(clock.now(), source, &announced),
                Some(_) = sockets.join_next(), if !sockets.is_empty() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {}
                () = proposals.closed() => return,
            }
            let addresses = listener.handle_timeout(clock.now());
            if !addresses.is_empty() && proposals.send(Proposal { reason: Reason::Heard, addresses }).await.is_err() {
                return;
            }
        }
    }

    /// Opens sockets for new addresses, and for those whose socket failed; closes those of addresses that are gone.
    fn open(
        &mut self,
        clock: Clock,
        sockets: &mut JoinSet<()>,
        open: &mut BTreeMap<Place, AbortHandle>,
        heard: &mpsc::Sender<(SocketAddr, Announcement)>,
    ) {
        let wanted = places(&self.surroundings.borrow_and_update(), self.listens_on.ip());
        open.retain(|place, socket| {
            let stays = wanted.contains(place) && !socket.is_finished();
            if !stays {
                socket.abort();
            }
            stays
        });
        for place in wanted {
            if open.contains_key(&place) {
                continue;
            }
            match socket(place) {
                Ok(socket) => {
                    let announcement = Announcement { tag: self.tag, address: place.address, port: self.listens_on.port(), leaves: false };
                    let speaker = Speaker { clock, place, announcement, socket, heard: heard.clone(), seen: self.seen.clone() };
                    open.insert(place, sockets.spawn(speaker.run()));
                    tracing::info!(address = %place.address, interface = place.interface, "announced on this LAN");
                }
                Err(error) => {
                    tracing::warn!(address = %place.address, %error, "beacons cannot be sent here; is UDP port {PORT} taken for one process alone?");
                }
            }
        }
    }
}

/// One address of one interface.
struct Speaker {
    clock: Clock,
    place: Place,
    announcement: Announcement,
    socket: UdpSocket,
    heard: mpsc::Sender<(SocketAddr, Announcement)>,
    seen: Arc<std::sync::atomic::AtomicU64>,
}

/// Says that the device leaves, when its socket is closed.
impl Drop for Speaker {
    fn drop(&mut self) {
        let leaves = Announcement { leaves: true, ..self.announcement };
        let _ = self.socket.try_send_to(&leaves.encode(), group(self.place));
    }
}

impl Speaker {
    async fn run(self) {
        let tag = self.announcement.tag.0;
        let seed = tag.iter().fold(u64::from(self.place.interface), |seed, byte| rendezvous::draw(seed, u64::from(*byte)));
        let mut announcer = Announcer::new(self.clock.now(), seed);
        let (mut buffer, mut read) = ([0; BYTES_MAX + 1], Reading::start());
        loop {
            tokio::select! {
                received = async { read.permit().await; self.socket.recv_from(&mut buffer).await } => match received {
                    Ok((length, source)) => self.on_datagram(&buffer[..length], source, &mut announcer),
                    Err(error) => tracing::debug!(%error, "a beacon could not be read"),
                },
                () = tokio::time::sleep_until(self.clock.to_tokio(announcer.poll_timeout())) => {
                    if let Some(due) = announcer.handle_timeout(self.clock.now()) {
                        if due.question {
                            self.send(&message::question()).await;
                        }
                        self.send(&self.announcement.encode()).await;
                    }
                }
            }
        }
    }

    fn on_datagram(&self, datagram: &[u8], source: SocketAddr, announcer: &mut Announcer) {
        if source.ip() == self.place.address && source.port() != PORT {
            return;
        }
        if source.ip() != self.place.address {
            self.seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        match message::read(datagram) {
            Some(Beacon::Question) => announcer.on_question(self.clock.now()),
            Some(Beacon::Announcement(announced)) if announced.tag != self.announcement.tag => {
                // When the judge is behind, the next beacon of the same device will do.
                let _ = self.heard.try_send((source, announced));
            }
            Some(Beacon::Announcement(_)) | None => {}
        }
    }

    /// A LAN that is gone for a moment is tried again at the next tick.
    async fn send(&self, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, group(self.place)).await {
            tracing::debug!(address = %self.place.address, %error, "a beacon could not be sent");
        }
    }
}

/// How much of a socket is read.
struct Reading {
    second: tokio::time::Instant,
    datagrams: u32,
}

impl Reading {
    fn start() -> Self {
        Self { second: tokio::time::Instant::now(), datagrams: 0 }
    }

    /// Ends when one more datagram may be read.
    async fn permit(&mut self) {
        let next = self.second + Duration::from_secs(1);
        if self.datagrams >= DATAGRAMS_PER_SECOND_MAX {
            tokio::time::sleep_until(next).await;
        }
        let now = tokio::time::Instant::now();
        if now >= next {
            *self = Self { second: now, datagrams: 0 };
        }
        self.datagrams += 1;
    }
}

fn group(place: Place) -> SocketAddr {
    match place.address {
        IpAddr::V4(_) => SocketAddr::from((GROUP_V4, PORT)),
        IpAddr::V6(_) => SocketAddrV6::new(GROUP_V6, PORT, 0, place.interface).into(),
    }
}

/// A socket that hears the group on one interface only, though others on this machine have joined it elsewhere.
fn socket(place: Place) -> std::io::Result<UdpSocket> {
    let group = group(place);
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    match place.address {
        IpAddr::V4(address) => {
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_loop_v4(true)?;
            socket.set_multicast_ttl_v4(255)?;
            socket.set_multicast_if_v4(&address)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
            socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(place.interface))?;
        }
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_loop_v6(true)?;
            socket.set_multicast_hops_v6(255)?;
            socket.set_multicast_if_v6(place.interface)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
            socket.join_multicast_v6(&GROUP_V6, place.interface)?;
        }
    }
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(StdSocket::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::site::{Interface, Kind};

    #[test]
    fn a_wildcard_is_announced_as_each_address_of_each_lan_and_nothing_else() {
        let interface = |index, kind, addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| (address.parse().unwrap(), 24)).collect();
            Interface { name: String::new(), index, kind, addresses }
        };
        let here = Surroundings {
            interfaces: vec![
                interface(1, Kind::Loopback, &["127.0.0.1"]),
                interface(2, Kind::Lan, &["10.0.0.1", "fe80::1", "fd00::1"]),
                interface(3, Kind::Internal, &["172.17.0.1"]),
                interface(4, Kind::Tunnel, &["10.8.0.1"]),
                interface(5, Kind::Lan, &["192.168.1.1"]),
            ],
            site: None,
        };
        let announced = |listen: &str| -> Vec<String> {
            places(&here, listen.parse().unwrap()).iter().map(|place| format!("{} on {}", place.address, place.interface)).collect()
        };
        assert_eq!(announced("::"), ["10.0.0.1 on 2", "192.168.1.1 on 5", "fe80::1 on 2"]);
        assert_eq!(announced("0.0.0.0"), ["10.0.0.1 on 2", "192.168.1.1 on 5"]);
        assert_eq!(announced("192.168.1.1"), ["192.168.1.1 on 5"]);
        assert!(announced("127.0.0.1").is_empty());
    }
}
