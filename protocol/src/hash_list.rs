//! The hash list of a blob: the SHA-256 of each unit, so that bytes from anyone can be checked 64 KiB at a time.
//!
//! A list is itself a blob. It is a transport aid: a lying list costs time, never integrity, because a blob is stored
//! under its digest only after its whole digest was checked.
//!
//! | bytes | meaning |
//! |--:|---|
//! | 4 | `HGHL` |
//! | 4 | format version, 1 (all integers big-endian) |
//! | 8 | size of the blob |
//! | 4 | bytes of a unit |
//! | 4 | bytes of a piece |
//! | 4 | bytes of the digest: 32 (SHA-256) or 64 (SHA-512) |
//! | 32 or 64 | digest of the blob |
//! | 32 × units | SHA-256 of each unit |
//!
//! Not here: who signs the list's digest; see [`crate::statement`].

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::geometry::{BLOB_BYTES_MAX, Geometry, UNIT_BYTES};

const MAGIC: &[u8; 4] = b"HGHL";
const FORMAT: u32 = 1;
/// Bytes before the blob's digest.
const HEADER_BYTES: u64 = 28;

/// How many bytes the hash list of `blob` has, which has `size` bytes.
pub const fn list_bytes(blob: &Digest, size: u64) -> u64 {
    HEADER_BYTES + blob.as_bytes().len() as u64 + 32 * Geometry::listed(size).units() as u64
}

/// A checked hash list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashList {
    blob: Digest,
    geometry: Geometry,
    units: Vec<[u8; 32]>,
}

/// Why bytes are not the hash list of the wanted blob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashListRefused {
    /// The bytes end early, go on too long, or do not start as a hash list.
    #[error("the bytes are not a hash list of format {FORMAT}")]
    Malformed,
    /// The list is of another blob, or of another size than was announced.
    #[error("the hash list is of another blob than the one wanted")]
    OtherBlob,
    /// Unit or piece size are not those that follow from the blob's size.
    #[error("the hash list cuts the blob otherwise than its size demands")]
    OtherGeometry,
    /// The blob is larger than any may be; its units could not be counted.
    #[error("a blob of {0} bytes is beyond the limit of {BLOB_BYTES_MAX}")]
    TooLarge(u64),
}

impl HashList {
    /// Reads a list and checks that it is the one of `blob`, which has `size` bytes.
    ///
    /// # Errors
    /// When it is not; the list is then not to be used.
    pub fn parse(bytes: &[u8], blob: Digest, size: u64) -> Result<Self, HashListRefused> {
        if size > BLOB_BYTES_MAX {
            return Err(HashListRefused::TooLarge(size));
        }
        let mut reader = Reader(bytes);
        let magic = reader.take(4)?;
        let (format, stated_size) = (reader.u32()?, reader.u64()?);
        let (unit_bytes, piece_bytes) = (reader.u32()?, reader.u32()?);
        let digest_bytes = reader.u32()?;
        if magic != MAGIC || format != FORMAT || !matches!(digest_bytes, 32 | 64) {
            return Err(HashListRefused::Malformed);
        }
        let stated_blob = reader.take(digest_bytes as usize)?;
        if stated_blob != blob.as_bytes() || stated_size != size {
            return Err(HashListRefused::OtherBlob);
        }
        let geometry = Geometry::listed(size);
        if u64::from(unit_bytes) != geometry.unit_bytes() || u64::from(piece_bytes) != geometry.piece_bytes() {
            return Err(HashListRefused::OtherGeometry);
        }
        let (units, rest) = reader.0.as_chunks::<32>();
        if units.len() != geometry.units() as usize || !rest.is_empty() {
            return Err(HashListRefused::Malformed);
        }
        Ok(Self { blob, geometry, units: units.to_vec() })
    }

    /// The list as it is stored and sent.
    #[expect(clippy::cast_possible_truncation, reason = "unit, piece and digest sizes are at most 4 MiB")]
    pub fn to_bytes(&self) -> Vec<u8> {
        let digest = self.blob.as_bytes();
        let length = list_bytes(&self.blob, self.geometry.size());
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&self.geometry.size().to_be_bytes());
        bytes.extend_from_slice(&(self.geometry.unit_bytes() as u32).to_be_bytes());
        bytes.extend_from_slice(&(self.geometry.piece_bytes() as u32).to_be_bytes());
        bytes.extend_from_slice(&(digest.len() as u32).to_be_bytes());
        bytes.extend_from_slice(digest);
        bytes.extend(self.units.iter().flatten());
        bytes
    }

    /// The blob that the list is of.
    pub const fn blob(&self) -> Digest {
        self.blob
    }

    /// How the blob is cut.
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether `bytes` are unit `index`.
    pub(crate) fn matches(&self, index: u32, bytes: &[u8]) -> bool {
        self.units.get(index as usize).is_some_and(|hash| Sha256::digest(bytes).as_slice() == hash)
    }
}

/// Makes a hash list while the blob arrives.
#[derive(Clone, Debug, Default)]
pub struct HashListBuilder {
    units: Vec<[u8; 32]>,
    open: Sha256,
    open_bytes: u64,
    size: u64,
}

impl HashListBuilder {
    /// A builder that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the blob.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = usize::try_from(UNIT_BYTES - self.open_bytes).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.update(now);
            self.open_bytes += now.len() as u64;
            if self.open_bytes == UNIT_BYTES {
                self.close_unit();
            }
            bytes = later;
        }
    }

    /// The list, when all bytes of `blob` were seen; none for a blob of one unit, which its digest proves alone.
    pub fn finish(mut self, blob: Digest) -> Option<HashList> {
        if self.open_bytes > 0 {
            self.close_unit();
        }
        (self.size > UNIT_BYTES).then(|| HashList { blob, geometry: Geometry::listed(self.size), units: self.units })
    }

    fn close_unit(&mut self) {
        self.units.push(self.open.finalize_reset().into());
        self.open_bytes = 0;
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HashListRefused> {
        let (now, later) = self.0.split_at_checked(count).ok_or(HashListRefused::Malformed)?;
        self.0 = later;
        Ok(now)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HashListRefused> {
        self.take(N)?.try_into().map_err(|_| HashListRefused::Malformed)
    }

    fn u32(&mut self) -> Result<u32, HashListRefused> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, HashListRefused> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list_of(bytes: &[u8], step: usize) -> Option<HashList> {
        let mut builder = HashListBuilder::new();
        for chunk in bytes.chunks(step) {
            builder.update(chunk);
        }
        builder.finish(Digest::sha256(bytes))
    }

    #[test]
    fn the_list_does_not_depend_on_how_the_bytes_arrive() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let list = list_of(&bytes, 1000).unwrap();
        assert_eq!(list, list_of(&bytes, 65_536).unwrap());
        assert_eq!(list, list_of(&bytes, 200_000).unwrap());
        assert_eq!(list.geometry().units(), 4);
        assert!(list.matches(3, &bytes[3 * 65_536..]));
        assert!(!list.matches(2, &bytes[3 * 65_536..]));
        assert!(!list.matches(4, &[]));
    }

    #[test]
    fn a_blob_of_one_unit_needs_no_list() {
        assert_eq!(list_of(&[7; 65_536], 100), None);
        assert!(list_of(&[7; 65_537], 100).is_some());
    }

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        let bytes = vec![3; 150_000];
        let (blob, size) = (Digest::sha256(&bytes), 150_000);
        let list = list_of(&bytes, 4096).unwrap();
        let wire = list.to_bytes();
        assert_eq!(list_bytes(&blob, size), wire.len() as u64);
        assert_eq!(list_bytes(&Digest::sha512(&bytes), size), 32 + wire.len() as u64);
        assert_eq!(HashList::parse(&wire, blob, size), Ok(list));
        assert_eq!(HashList::parse(&wire, Digest::sha256(b"x"), size), Err(HashListRefused::OtherBlob));
        assert_eq!(HashList::parse(&wire, blob, size + 1), Err(HashListRefused::OtherBlob));
        for cut in 0..wire.len() {
            assert!(HashList::parse(&wire[..cut], blob, size).is_err());
        }
        let mut other_cut = wire.clone();
        other_cut[23] ^= 1;
        assert_eq!(HashList::parse(&other_cut, blob, size), Err(HashListRefused::OtherGeometry));
        let beyond_32_bits = UNIT_BYTES << 32;
        assert_eq!(HashList::parse(&wire, blob, beyond_32_bits), Err(HashListRefused::TooLarge(beyond_32_bits)));
        let mut longer = wire;
        longer.push(0);
        assert_eq!(HashList::parse(&longer, blob, size), Err(HashListRefused::Malformed));
    }
}
