//! The only parser of content names: `sha256:<hex>` and `sha512:<hex>` (OCI image-spec, "Digests").
//!
//! Not here: hashing whole blobs as they stream; see [`crate::verify::BlobHasher`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256, Sha512};

/// A hash algorithm that blobs are named by (OCI image-spec, "Registered Algorithms").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256, the canonical one.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// The name of a blob: a hash algorithm and its value over all bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// SHA-256, the canonical algorithm.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestRefused {
    /// There is no colon between algorithm and value.
    #[error("a digest is written algorithm:hex, for example sha256:e3b0…")]
    NoSeparator,
    /// The algorithm is neither sha256 nor sha512.
    #[error("the digest algorithm {0:?} is not supported; use sha256 or sha512")]
    UnknownAlgorithm(String),
    /// The value is not lower-case hex of the algorithm's length.
    #[error("the value of a {0} digest must be lower-case hex of its full length")]
    BadValue(&'static str),
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Its name, as it stands before the colon of a digest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestRefused;

    fn from_str(text: &str) -> Result<Self, DigestRefused> {
        let unknown = || DigestRefused::UnknownAlgorithm(text.chars().take(32).collect());
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == text).ok_or_else(unknown)
    }
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(bytes).into())
    }

    /// The SHA-512 digest of `bytes`.
    pub fn sha512(bytes: &[u8]) -> Self {
        Self::Sha512(Sha512::digest(bytes).into())
    }

    /// The digest of `bytes` under this digest's algorithm.
    #[must_use]
    pub fn same_algorithm(&self, bytes: &[u8]) -> Self {
        match self {
            Self::Sha256(_) => Self::sha256(bytes),
            Self::Sha512(_) => Self::sha512(bytes),
        }
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The value as lower-case hex, as it stands after the colon.
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// The raw value.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(value) => value,
            Self::Sha512(value) => value,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0; 2 * 64];
        let hex = &mut hex[..2 * self.as_bytes().len()];
        hex::encode_to_slice(self.as_bytes(), hex).map_err(|_| fmt::Error)?;
        f.write_str(self.algorithm().name())?;
        f.write_str(":")?;
        f.write_str(std::str::from_utf8(hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestRefused;

    fn from_str(text: &str) -> Result<Self, DigestRefused> {
        let (algorithm, value) = text.split_once(':').ok_or(DigestRefused::NoSeparator)?;
        let algorithm: Algorithm = algorithm.parse()?;
        let digest = match algorithm {
            Algorithm::Sha256 => decode(value).map(Self::Sha256),
            Algorithm::Sha512 => decode(value).map(Self::Sha512),
        };
        digest.ok_or(DigestRefused::BadValue(algorithm.name()))
    }
}

fn decode<const N: usize>(value: &str) -> Option<[u8; N]> {
    if value.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut raw = [0; N];
    hex::decode_to_slice(value, &mut raw).ok()?;
    Some(raw)
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(self.as_bytes()) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            return text.parse().map_err(de::Error::custom);
        }
        let raw = <&'de [u8]>::deserialize(deserializer)?;
        match raw.len() {
            32 => Ok(Self::Sha256(raw.try_into().map_err(de::Error::custom)?)),
            64 => Ok(Self::Sha512(raw.try_into().map_err(de::Error::custom)?)),
            other => Err(de::Error::invalid_length(other, &"32 or 64 bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for digest in [Digest::sha256(b"hedge"), Digest::sha512(b"row")] {
            assert_eq!(digest.to_string().parse(), Ok(digest));
        }
    }

    #[test]
    fn an_algorithm_is_read_by_the_name_that_its_digests_have() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
        }
        assert_eq!((Digest::sha256(b"").algorithm(), Digest::sha512(b"").algorithm()), (Algorithm::Sha256, Algorithm::Sha512));
        for name in ["", "SHA256", "sha1"] {
            assert_eq!(name.parse::<Algorithm>(), Err(DigestRefused::UnknownAlgorithm(name.into())));
        }
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let upper = Digest::sha256(b"").to_string().to_uppercase().replace("SHA256", "sha256");
        assert_eq!("abc".parse::<Digest>(), Err(DigestRefused::NoSeparator));
        assert_eq!("md5:00".parse::<Digest>(), Err(DigestRefused::UnknownAlgorithm("md5".into())));
        assert_eq!("sha256:baddigeststring".parse::<Digest>(), Err(DigestRefused::BadValue("sha256")));
        assert_eq!(upper.parse::<Digest>(), Err(DigestRefused::BadValue("sha256")));
    }
}
