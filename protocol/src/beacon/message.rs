//! The datagrams: a question for `_hedgerow._udp.local`, and the answer with a device's PTR, SRV, TXT and address records
//! (RFC 1035 §4, RFC 6762 §18, RFC 6763 §4). One device is announced in one datagram.
//!
//! Not here: sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{TICK, TICKS_MISSED_MAX, Tag};

/// The port of multicast DNS (RFC 6762 §3).
pub const PORT: u16 = 5353;
/// The group for IPv4.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The group for IPv6.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Bytes of a datagram that is looked at: an Ethernet frame's; ours have about 250.
pub const BYTES_MAX: usize = 1472;

/// Records of one datagram that are looked at: ours have four.
const RECORDS_MAX: usize = 32;
/// Bytes of a name, with the length of each label (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Jumps that a compressed name may take.
const JUMPS_MAX: usize = 8;

const SERVICE: [&[u8]; 3] = [b"_hedgerow", b"_udp", b"local"];
const RESPONSE: u16 = 0x8400;
const IN: u16 = 1;
/// The record is the only one of its name and type (RFC 6762 §10.2).
const IN_FLUSH: u16 = 0x8001;
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const ANY: u16 = 255;

/// What a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beacon {
    /// Somebody asks who is there.
    Question,
    /// A device is there, or leaves.
    Announcement(Announcement),
}

/// That a device takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its name for now.
    pub tag: Tag,
    /// Its address on this LAN.
    pub address: IpAddr,
    /// The UDP port.
    pub port: u16,
    /// It leaves.
    pub leaves: bool,
}

/// The question who is there.
pub fn question() -> Vec<u8> {
    let mut bytes = header(0, 1, 0);
    write_name(&mut bytes, &SERVICE);
    write_all(&mut bytes, &[PTR, IN]);
    bytes
}

impl Announcement {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let tag = hex::encode(self.tag.0);
        let instance = [tag.as_bytes(), SERVICE[0], SERVICE[1], SERVICE[2]];
        let host = [tag.as_bytes(), SERVICE[2]];
        let ttl = if self.leaves { 0 } else { u32::try_from(TICK.as_secs()).unwrap_or(0) * TICKS_MISSED_MAX };
        let mut bytes = header(RESPONSE, 0, 4);
        write_record(&mut bytes, &SERVICE, PTR, IN, ttl, |data| write_name(data, &instance));
        write_record(&mut bytes, &instance, SRV, IN_FLUSH, ttl, |data| {
            write_all(data, &[0, 0, self.port]);
            write_name(data, &host);
        });
        write_record(&mut bytes, &instance, TXT, IN_FLUSH, ttl, |data| data.push(0));
        match self.address {
            IpAddr::V4(address) => write_record(&mut bytes, &host, A, IN_FLUSH, ttl, |data| data.extend(address.octets())),
            IpAddr::V6(address) => write_record(&mut bytes, &host, AAAA, IN_FLUSH, ttl, |data| data.extend(address.octets())),
        }
        bytes
    }
}

/// What a datagram says; none if it is none of ours.
pub fn read(datagram: &[u8]) -> Option<Beacon> {
    let mut reader = Reader { bytes: datagram.get(..datagram.len().min(BYTES_MAX))?, at: 0 };
    let [_id, flags, questions, answers, authorities, additionals] = reader.words()?;
    let is_question = flags & 0x8000 == 0;
    for _ in 0..usize::from(questions).min(RECORDS_MAX) {
        let name = reader.name()?;
        let [kind, _class] = reader.words()?;
        if is_question && name.is(&SERVICE) && matches!(kind, PTR | ANY) {
            return Some(Beacon::Question);
        }
    }
    let records = usize::from(answers) + usize::from(authorities) + usize::from(additionals);
    if is_question || records > RECORDS_MAX {
        return None;
    }
    let (mut service, mut host) = (None, None);
    for _ in 0..records {
        let record = reader.record()?;
        let mut data = Reader { bytes: datagram.get(..record.end)?, at: record.start };
        match record.kind {
            SRV => {
                let [_priority, _weight, port] = data.words()?;
                service = record.name.tag(&SERVICE).map(|tag| (tag, port, record.ttl == 0)).or(service);
            }
            A => host = record.name.tag(&SERVICE[2..]).zip(Some(IpAddr::from(data.array::<4>()?))).or(host),
            AAAA => host = record.name.tag(&SERVICE[2..]).zip(Some(IpAddr::from(data.array::<16>()?))).or(host),
            _ => {}
        }
    }
    let ((tag, port, leaves), (of, address)) = service.zip(host)?;
    (tag == of && port != 0).then_some(Beacon::Announcement(Announcement { tag, address, port, leaves }))
}

fn header(flags: u16, questions: u16, answers: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    write_all(&mut bytes, &[0, flags, questions, answers, 0, 0]);
    bytes
}

fn write_all(bytes: &mut Vec<u8>, words: &[u16]) {
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// Labels are constants and tags, all shorter than 64 bytes.
fn write_name(bytes: &mut Vec<u8>, labels: &[&[u8]]) {
    for label in labels {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
}

fn write_record(bytes: &mut Vec<u8>, name: &[&[u8]], kind: u16, class: u16, ttl: u32, data: impl FnOnce(&mut Vec<u8>)) {
    write_name(bytes, name);
    write_all(bytes, &[kind, class]);
    bytes.extend(ttl.to_be_bytes());
    let mut content = Vec::new();
    data(&mut content);
    write_all(bytes, &[u16::try_from(content.len()).unwrap_or(0)]);
    bytes.extend(content);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

struct Record {
    name: Name,
    kind: u16,
    ttl: u32,
    start: usize,
    end: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let array = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(array)
    }

    fn words<const N: usize>(&mut self) -> Option<[u16; N]> {
        let mut words = [0; N];
        for word in &mut words {
            *word = u16::from_be_bytes(self.array()?);
        }
        Some(words)
    }

    fn record(&mut self) -> Option<Record> {
        let name = self.name()?;
        let [kind, _class] = self.words()?;
        let ttl = u32::from_be_bytes(self.array()?);
        let [length] = self.words()?;
        let (start, end) = (self.at, self.at.checked_add(usize::from(length))?);
        if end > self.bytes.len() {
            return None;
        }
        self.at = end;
        Some(Record { name, kind, ttl, start, end })
    }

    /// A name, whose rest may stand further up (RFC 1035 §4.1.4).
    fn name(&mut self) -> Option<Name> {
        let mut name = Name::default();
        let (mut at, mut jumps, mut after) = (self.at, 0, None);
        loop {
            let length = *self.bytes.get(at)?;
            match length {
                0 => break,
                1..64 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
                    name.push(label)?;
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let target = usize::from(length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    jumps += 1;
                    if target >= at || jumps > JUMPS_MAX {
                        return None;
                    }
                    after.get_or_insert(at + 2);
                    at = target;
                }
                _ => return None,
            }
        }
        self.at = after.unwrap_or(at + 1);
        Some(name)
    }
}

/// A name's labels, lower case, each after its length.
#[derive(Default)]
struct Name(Vec<u8>);

impl Name {
    fn push(&mut self, label: &[u8]) -> Option<()> {
        if self.0.len() + 1 + label.len() > NAME_BYTES_MAX {
            return None;
        }
        self.0.push(u8::try_from(label.len()).ok()?);
        self.0.extend(label.iter().map(u8::to_ascii_lowercase));
        Some(())
    }

    fn is(&self, labels: &[&[u8]]) -> bool {
        let mut rest = self.0.as_slice();
        for label in labels {
            let Some((length, after)) = rest.split_first() else { return false };
            let Some(after) = after.strip_prefix(*label).filter(|_| usize::from(*length) == label.len()) else { return false };
            rest = after;
        }
        rest.is_empty()
    }

    /// The tag before the labels of `parent`.
    fn tag(&self, parent: &[&[u8]]) -> Option<Tag> {
        let (label, rest) = self.0.strip_prefix(&[32])?.split_at_checked(32)?;
        let mut tag = [0; 16];
        hex::decode_to_slice(label, &mut tag).ok()?;
        Self(rest.to_vec()).is(parent).then_some(Tag(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rendezvous;

    const HERE: Announcement =
        Announcement { tag: Tag([0xab; 16]), address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), port: 7446, leaves: false };

    #[test]
    fn what_is_written_is_read_for_both_families() {
        assert_eq!(read(&question()), Some(Beacon::Question));
        for announcement in [HERE, Announcement { address: "fe80::7".parse().unwrap(), ..HERE }, Announcement { leaves: true, ..HERE }] {
            assert_eq!(read(&announcement.encode()), Some(Beacon::Announcement(announcement)));
        }
    }

    #[test]
    fn a_beacon_says_nothing_but_a_random_name_an_address_and_a_port() {
        let one = HERE.encode();
        let other = Announcement { tag: Tag([0xcd; 16]), ..HERE }.encode();
        let masked = |bytes: &[u8], tag: &str| {
            let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            text.replace(tag, "T")
        };
        assert_eq!(masked(&one, &"ab".repeat(16)), masked(&other, &"cd".repeat(16)), "nothing else depends on the device");
        assert!(one.len() < 512, "{} bytes do not fit the least that DNS over UDP carries (RFC 1035 §4.2.1)", one.len());
    }

    #[test]
    fn names_may_be_compressed_and_in_capitals() {
        let mut bytes = header(RESPONSE, 0, 2);
        let instance = bytes.len();
        write_record(&mut bytes, &["AB".repeat(16).as_bytes(), b"_Hedgerow", b"_UDP", b"Local"], SRV, IN, 9, |data| {
            write_all(data, &[0, 0, 7446]);
            data.extend([0xc0, u8::try_from(instance).unwrap()]);
        });
        let local = instance + 33 + 10 + 5;
        bytes.push(32);
        bytes.extend("ab".repeat(16).as_bytes());
        bytes.extend([0xc0, u8::try_from(local).unwrap()]);
        write_all(&mut bytes, &[A, IN, 0, 9, 4]);
        bytes.extend([10, 0, 0, 7]);
        assert_eq!(read(&bytes), Some(Beacon::Announcement(HERE)));
    }

    #[test]
    fn other_services_loops_and_halves_are_ignored() {
        let whole = HERE.encode();
        assert!((0..whole.len()).all(|end| read(&whole[..end]).is_none()));
        let printer: Vec<u8> = String::from_utf8_lossy(&question()).replace("_hedgerow", "_printers").into_bytes();
        assert_eq!(read(&printer), None);
        let mut looping = header(0, 1, 0);
        looping.extend([0xc0, 12]);
        assert_eq!(read(&looping), None);
        assert_eq!(read(&Announcement { port: 0, ..HERE }.encode()), None);
    }

    #[test]
    fn no_datagram_is_too_strange_to_be_read() {
        let whole = HERE.encode();
        for round in 0..20_000 {
            let mut bytes = whole.clone();
            for change in 0..4 {
                let draw = rendezvous::draw(round, change);
                let at = usize::try_from(draw >> 8).unwrap() % bytes.len();
                bytes[at] = draw.to_le_bytes()[0];
            }
            let _ = read(&bytes);
        }
    }
}
