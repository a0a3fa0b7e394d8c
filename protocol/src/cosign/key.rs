//! A public key of cosign, as `cosign.pub` holds it.
//!
//! Not here: what it signed; see [`super`].

use std::fmt;
use std::str::FromStr;

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The most keys that one policy names: each is tried on each signature.
pub const KEYS_MAX: usize = 8;

/// The largest key file, in bytes: a P-256 key has 178.
const PEM_BYTES_MAX: usize = 1024;

/// A P-256 public key; as text, a `SubjectPublicKeyInfo` in PEM form (RFC 7468 §13).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CosignKey {
    key: VerifyingKey,
    /// What was read of it once, so that showing it cannot fail.
    pem: String,
    /// SHA-256 of its DER form.
    fingerprint: Digest,
}

/// Why a text is no key of cosign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no P-256 public key in PEM form; give the file cosign.pub, or what `cosign public-key` prints")]
pub struct KeyRefused;

impl CosignKey {
    /// The SHA-256 of the key in DER form, which tells keys apart.
    pub const fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Whether it made this ECDSA signature, in DER (RFC 3279 §2.2.3), of the SHA-256 of `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
    }
}

impl FromStr for CosignKey {
    type Err = KeyRefused;

    fn from_str(text: &str) -> Result<Self, KeyRefused> {
        if text.len() > PEM_BYTES_MAX {
            return Err(KeyRefused);
        }
        let key = VerifyingKey::from_public_key_pem(text.trim()).map_err(|_| KeyRefused)?;
        let pem = key.to_public_key_pem(LineEnding::LF).map_err(|_| KeyRefused)?;
        let der = key.to_public_key_der().map_err(|_| KeyRefused)?;
        Ok(Self { key, pem, fingerprint: Digest::sha256(der.as_bytes()) })
    }
}

impl TryFrom<String> for CosignKey {
    type Error = KeyRefused;

    fn try_from(text: String) -> Result<Self, KeyRefused> {
        text.parse()
    }
}

impl From<CosignKey> for String {
    fn from(key: CosignKey) -> Self {
        key.pem
    }
}

impl fmt::Display for CosignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fingerprint)
    }
}

impl fmt::Debug for CosignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignKey({})", self.fingerprint)
    }
}
