//! Proofs. Only checked bytes get one, and store and swarm take nothing else.
//!
//! Not here: signatures of documents; see [`crate::statement`].

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256, Sha512};

use crate::digest::{Algorithm, Digest};
use crate::geometry::{Geometry, UNIT_BYTES};
use crate::hash_list::HashList;

/// What proves the units of one blob.
#[derive(Clone, Debug)]
pub enum UnitVerifier {
    /// A hash list proves each unit.
    Listed(HashList),
    /// The blob is one unit of at most 64 KiB, and its digest proves it.
    Single {
        /// The blob.
        blob: Digest,
        /// Its size in bytes.
        size: u64,
    },
}

/// Bytes that are not the unit they were sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unit {unit} of {blob} does not match its hash")]
pub struct UnitRefused {
    /// The blob that the unit was said to be of.
    pub blob: Digest,
    /// The unit's index.
    pub unit: u32,
}

/// A unit with the bytes that were checked.
#[derive(Clone, Debug)]
pub struct VerifiedUnit {
    proof: UnitProof,
    offset: u64,
    bytes: Bytes,
}

/// That a unit was checked, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "simulated", derive(serde::Deserialize))]
pub struct UnitProof {
    blob: Digest,
    unit: u32,
}

/// That all bytes of a blob were hashed and gave its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "simulated", derive(serde::Deserialize))]
pub struct VerifiedBlob {
    blob: Digest,
    size: u64,
}

/// Bytes that are not the blob they were sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes have the digest {found}, not {wanted}")]
pub struct DigestMismatch {
    /// The digest that was asked for.
    pub wanted: Digest,
    /// The digest of the bytes.
    pub found: Digest,
}

impl UnitVerifier {
    /// The verifier of a blob of at most one unit; none for a larger one.
    pub const fn single(blob: Digest, size: u64) -> Option<Self> {
        if size <= UNIT_BYTES { Some(Self::Single { blob, size }) } else { None }
    }

    /// How the blob is cut.
    pub const fn geometry(&self) -> Geometry {
        match self {
            Self::Listed(list) => list.geometry(),
            Self::Single { size, .. } => Geometry::listed(*size),
        }
    }

    /// The blob.
    pub const fn blob(&self) -> Digest {
        match self {
            Self::Listed(list) => list.blob(),
            Self::Single { blob, .. } => *blob,
        }
    }

    /// Checks that `bytes` are unit `unit`.
    ///
    /// # Errors
    /// When they are not, in length or content: whoever sent them is at fault.
    pub fn verify(&self, unit: u32, bytes: Bytes) -> Result<VerifiedUnit, UnitRefused> {
        let blob = self.blob();
        let range = self.geometry().bytes_of(unit..unit.saturating_add(1));
        let matches = match self {
            Self::Listed(list) => list.matches(unit, &bytes),
            Self::Single { blob, .. } => unit == 0 && blob.same_algorithm(&bytes) == *blob,
        };
        if matches && range.end - range.start == bytes.len() as u64 {
            Ok(VerifiedUnit { proof: UnitProof { blob, unit }, offset: range.start, bytes })
        } else {
            Err(UnitRefused { blob, unit })
        }
    }
}

impl VerifiedUnit {
    /// The proof alone.
    pub const fn proof(&self) -> UnitProof {
        self.proof
    }

    /// Where in the blob the unit starts, in bytes.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The unit's bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl UnitProof {
    /// The blob that the unit is of.
    pub const fn blob(&self) -> Digest {
        self.blob
    }

    /// The unit's index.
    pub const fn unit(&self) -> u32 {
        self.unit
    }

    /// A proof without bytes, for a simulation that moves none.
    #[cfg(feature = "simulated")]
    pub const fn simulated(blob: Digest, unit: u32) -> Self {
        Self { blob, unit }
    }
}

impl VerifiedBlob {
    /// The blob.
    pub const fn blob(&self) -> Digest {
        self.blob
    }

    /// Its size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The proof of the only unit of a blob without a hash list ([`Geometry::unlisted`]).
    pub const fn sole_unit(&self) -> UnitProof {
        UnitProof { blob: self.blob, unit: 0 }
    }

    /// A proof without bytes, for a simulation that moves none.
    #[cfg(feature = "simulated")]
    pub const fn simulated(blob: Digest, size: u64) -> Self {
        Self { blob, size }
    }
}

/// Hashes a whole blob as it streams by.
#[derive(Clone, Debug)]
pub struct BlobHasher {
    hasher: Hasher,
    size: u64,
}

#[derive(Clone, Debug)]
enum Hasher {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl BlobHasher {
    /// A hasher with this algorithm.
    pub fn new(algorithm: Algorithm) -> Self {
        let hasher = match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Box::default()),
        };
        Self { hasher, size: 0 }
    }

    /// A hasher with the algorithm of `digest`.
    pub fn of(digest: &Digest) -> Self {
        Self::new(digest.algorithm())
    }

    /// A hasher with SHA-256, for bytes whose digest is not known yet.
    pub fn sha256() -> Self {
        Self::new(Algorithm::Sha256)
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self.hasher {
            Hasher::Sha256(_) => Algorithm::Sha256,
            Hasher::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// How many bytes were taken.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Names what was hashed by its own digest.
    pub fn name(self) -> VerifiedBlob {
        let blob = match self.hasher {
            Hasher::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Hasher::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        };
        VerifiedBlob { blob, size: self.size }
    }

    /// Checks that what was hashed is `wanted`.
    ///
    /// # Errors
    /// When it is not.
    pub fn finish(self, wanted: Digest) -> Result<VerifiedBlob, DigestMismatch> {
        let verified = self.name();
        if verified.blob == wanted { Ok(verified) } else { Err(DigestMismatch { wanted, found: verified.blob }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_list::HashListBuilder;

    #[test]
    fn a_unit_is_proven_by_its_list_and_place() {
        let bytes = Bytes::from(vec![9; 100_000]);
        let mut builder = HashListBuilder::new();
        builder.update(&bytes);
        let blob = Digest::sha256(&bytes);
        let verifier = UnitVerifier::Listed(builder.finish(blob).unwrap());
        let unit = verifier.verify(1, bytes.slice(65_536..)).unwrap();
        assert_eq!((unit.offset(), unit.proof()), (65_536, UnitProof { blob, unit: 1 }));
        assert_eq!(verifier.verify(0, bytes.slice(65_536..)).unwrap_err(), UnitRefused { blob, unit: 0 });
        assert_eq!(verifier.verify(2, Bytes::new()).unwrap_err(), UnitRefused { blob, unit: 2 });
    }

    #[test]
    fn a_small_blob_is_proven_by_its_digest() {
        let verifier = UnitVerifier::single(Digest::sha512(b"small"), 5).unwrap();
        assert!(verifier.verify(0, Bytes::from_static(b"small")).is_ok());
        assert!(verifier.verify(0, Bytes::from_static(b"smell")).is_err());
        assert!(verifier.verify(1, Bytes::from_static(b"small")).is_err());
        assert!(UnitVerifier::single(Digest::sha256(b""), UNIT_BYTES + 1).is_none());
    }

    #[test]
    fn a_blob_is_proven_by_its_whole_digest() {
        let mut hasher = BlobHasher::of(&Digest::sha256(b""));
        hasher.update(b"hedge");
        hasher.update(b"row");
        assert_eq!(hasher.clone().finish(Digest::sha256(b"hedgerow")).unwrap().size(), 8);
        assert_eq!(hasher.finish(Digest::sha256(b"")).unwrap_err().found, Digest::sha256(b"hedgerow"));
    }
}
