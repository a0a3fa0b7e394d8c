//! The delay between seed and router, where the kernel has none: every datagram of the tunnel between the two waits, each way.
//!
//! The tunnel is VXLAN (RFC 7348), so that whole Ethernet frames pass, whatever is in them. One thread reads and one sends, so
//! that neither rate nor order changes: a datagram leaves when it has waited, however many wait behind it.
//!
//! Not here: rates, which the links beyond have.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The port of VXLAN at all ends.
pub(super) const PORT: u16 = 4789;
/// Before the frame in a datagram stands a header of so many bytes.
const VXLAN_BYTES: usize = 8;
const ETHERNET_BYTES: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The largest datagram of the tunnel fits.
const DATAGRAM_BYTES_MAX: usize = 2 << 10;
/// Asked of the kernel, so that a burst waits and is not lost.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Datagrams that wait, each way: 600 ms of a gigabit.
const WAITING_MAX: usize = 64 << 10;

/// What to relay.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The own address towards one end, and that end's
    #[arg(long, num_args = 2)]
    left: Vec<SocketAddr>,
    /// The same towards the other end
    #[arg(long, num_args = 2)]
    right: Vec<SocketAddr>,
    /// How long each datagram waits
    #[arg(long)]
    delay_us: u64,
}

/// Relays until it is killed.
pub(super) fn run(args: &Args) -> Result<()> {
    let open = |ends: &[SocketAddr]| -> Result<(UdpSocket, SocketAddr)> {
        let [own, other] = ends else { bail!("a side is two addresses: the own one and the other end's") };
        let socket = UdpSocket::bind(own).with_context(|| format!("taking {own}"))?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES)?;
        Ok((socket, *other))
    };
    let ((left, to_left), (right, to_right)) = (open(&args.left)?, open(&args.right)?);
    let delay = Duration::from_micros(args.delay_us);
    thread::scope(|scope| {
        scope.spawn(|| pass_on(&right, &left, to_left, delay));
        pass_on(&left, &right, to_right, delay)
    })
}

fn pass_on(from: &UdpSocket, to: &UdpSocket, end: SocketAddr, delay: Duration) -> Result<()> {
    let (wait, waiting) = mpsc::sync_channel::<(Instant, Vec<u8>)>(WAITING_MAX);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (due, datagram) in waiting {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                // A full queue beyond is a lost packet, as on any link.
                let _ = to.send_to(&datagram, end);
            }
        });
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let bytes = from.recv(&mut buffer).context("receiving")?;
            let mut datagram = buffer[..bytes].to_vec();
            if let Some(frame) = datagram.get_mut(VXLAN_BYTES..) {
                complete_checksum(frame);
            }
            let _ = wait.try_send((Instant::now() + delay, datagram));
        }
    })
}

/// Fills in the checksum of TCP or UDP over IPv4 (RFC 9293 §3.1, RFC 768), which virtual links leave to hardware that is not
/// there; whoever gets the frame from a socket would refuse it.
fn complete_checksum(frame: &mut [u8]) {
    if frame.get(12..14) != Some(&ETHERTYPE_IPV4) {
        return;
    }
    let packet = &mut frame[ETHERNET_BYTES..];
    if packet.len() < 20 {
        return;
    }
    let (header, total) = (usize::from(packet[0] & 0x0f) * 4, usize::from(u16::from_be_bytes([packet[2], packet[3]])));
    let (protocol, is_fragment) = (packet[9], (packet[6] & 0x3f, packet[7]) != (0, 0));
    let at = match protocol {
        TCP => header + 16,
        UDP => header + 6,
        _ => return,
    };
    if is_fragment || total > packet.len() || at + 2 > total {
        return;
    }
    packet[at..at + 2].fill(0);
    let length = u32::try_from(total - header).unwrap_or(0);
    let pseudo = sum(&packet[12..20]) + u32::from(protocol) + length;
    let sum = sum(&packet[header..total]) + pseudo;
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0);
    let checksum = if protocol == UDP && checksum == 0 { u16::MAX } else { checksum };
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The sum of 16-bit words, the last filled up with zero.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    bytes.chunks(2).map(word).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment (SYN) from 10.88.0.2 to 10.66.0.10, with the checksum that Linux gave it.
    fn syn(checksum: [u8; 2]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ETHERTYPE_IPV4);
        frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0, 10, 88, 0, 2, 10, 66, 0, 10]);
        frame.extend([0x1f, 0x90, 0xc3, 0x50, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, checksum[0], checksum[1], 0, 0]);
        frame
    }

    #[test]
    fn a_checksum_that_was_left_to_hardware_is_filled_in() {
        let mut frame = syn([0xab, 0xcd]);
        complete_checksum(&mut frame);
        let segment = &frame[ETHERNET_BYTES + 20..];
        let total = sum(segment) + sum(&frame[ETHERNET_BYTES + 12..ETHERNET_BYTES + 20]) + u32::from(TCP) + 20;
        assert_eq!((total & 0xffff) + (total >> 16), 0xffff, "a receiver's sum over it is all ones");
        let complete = frame.clone();
        complete_checksum(&mut frame);
        assert_eq!(frame, complete);
    }

    #[test]
    fn what_is_no_whole_tcp_or_udp_packet_stays_as_it_is() {
        let mut fragment = syn([1, 2]);
        fragment[ETHERNET_BYTES + 6] = 0x20;
        let mut short = syn([1, 2]);
        short.truncate(ETHERNET_BYTES + 30);
        let mut arp = syn([1, 2]);
        arp[13] = 0x06;
        for frame in [fragment, short, arp, Vec::new()] {
            let mut passed = frame.clone();
            complete_checksum(&mut passed);
            assert_eq!(passed, frame);
        }
    }

    #[test]
    fn datagrams_arrive_in_order_after_the_delay() {
        let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let [sender, relay, receiver] = [0, 1, 2].map(|at: usize| sockets[at].try_clone().unwrap());
        let (inside, outside) = (relay.local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let end = receiver.local_addr().unwrap();
        thread::spawn(move || pass_on(&relay, &outside, end, Duration::from_millis(30)));
        let started = Instant::now();
        for number in 0..50_u8 {
            sender.send_to(&[number], inside).unwrap();
        }
        let mut buffer = [0];
        for number in 0..50_u8 {
            receiver.recv(&mut buffer).unwrap();
            assert_eq!(buffer, [number]);
        }
        assert!(started.elapsed() >= Duration::from_millis(30));
    }
}
