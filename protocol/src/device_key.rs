//! Public keys of devices, ed25519 or P-256, and what they signed.
//!
//! Not here: certificates, which TLS checks.

use ed25519_dalek::Verifier as _;
use ed25519_dalek::pkcs8::DecodePublicKey as _;

/// The largest public key in DER, in bytes: a P-256 key takes 91.
pub const KEY_BYTES_MAX: usize = 512;

/// A device's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKey {
    /// Ed25519 (RFC 8410).
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
    /// ECDSA with P-256 and SHA-256 (RFC 5480).
    P256(Box<p256::ecdsa::VerifyingKey>),
}

/// A key of a kind that devices do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device's public key is neither ed25519 nor P-256")]
pub struct OtherKey;

impl DeviceKey {
    /// Reads a `SubjectPublicKeyInfo` in DER (RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    /// When it is no ed25519 or P-256 key.
    pub fn from_der(der: &[u8]) -> Result<Self, OtherKey> {
        if der.len() > KEY_BYTES_MAX {
            return Err(OtherKey);
        }
        if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_der(der) {
            return Ok(Self::Ed25519(Box::new(key)));
        }
        p256::ecdsa::VerifyingKey::from_public_key_der(der).map(|key| Self::P256(Box::new(key))).map_err(|_| OtherKey)
    }

    /// Whether it signed `message`. A P-256 signature is in DER (RFC 3279 §2.2.3).
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => {
                ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
            Self::P256(key) => p256::ecdsa::Signature::from_der(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Signer as _;
    use p256::pkcs8::EncodePublicKey as _;

    #[test]
    fn either_kind_of_key_knows_what_it_signed() {
        let edwards = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let der = ed25519_dalek::pkcs8::EncodePublicKey::to_public_key_der(&edwards.verifying_key()).unwrap();
        let key = DeviceKey::from_der(der.as_bytes()).unwrap();
        let signature = edwards.sign(b"status").to_bytes();
        assert!(key.signed(b"status", &signature) && !key.signed(b"other", &signature) && !key.signed(b"status", b"short"));

        let curve = p256::ecdsa::SigningKey::from_slice(&[3; 32]).unwrap();
        let key = DeviceKey::from_der(curve.verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap();
        let signature: p256::ecdsa::Signature = curve.sign(b"status");
        let signature = signature.to_der();
        assert!(key.signed(b"status", signature.as_bytes()) && !key.signed(b"other", signature.as_bytes()) && !key.signed(b"status", b""));
        assert_eq!(DeviceKey::from_der(b"no key"), Err(OtherKey));
    }
}
