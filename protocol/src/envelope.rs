//! Signed documents as Dead Simple Signing Envelopes (DSSE v1): the exact bytes that were signed travel, so that nothing
//! is ever re-serialised before it is checked.
//!
//! Not here: TUF metadata, which has its own wire format; what a document means; see [`crate::statement`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

/// The largest envelope, in bytes: a desired state with a thousand apps of four platforms each takes half of it.
pub const ENVELOPE_BYTES_MAX: usize = 1 << 20;

/// The most signatures an envelope may carry: one a key of any sensible threshold.
pub const SIGNATURES_MAX: usize = 16;

/// A document and its signatures (DSSE v1, "Envelope").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The document's exact bytes, in base64.
    pub payload: String,
    /// Who signed it.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature of an [`Envelope`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    /// The key's identity: a hint, never trusted.
    pub keyid: String,
    /// The signature over the pre-authentication encoding, in base64: ed25519, or ECDSA in DER of a device's P-256 key.
    pub sig: String,
}

/// Why an envelope's document is not to be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeRefused {
    /// The bytes are no envelope, or too many.
    #[error("the bytes are not a signed envelope")]
    Malformed,
    /// The document is of another kind.
    #[error("the document is of another type than {0}")]
    OtherType(&'static str),
    /// No signature of the trusted key fits the document.
    #[error("no signature of the trusted key fits the document")]
    BadSignature,
}

impl Envelope {
    /// Puts `payload` and its signatures together; `sign` gives the signature over the bytes it is handed.
    pub fn seal(payload_type: &str, payload: &[u8], keyid: &str, sign: impl FnOnce(&[u8]) -> Signature) -> Self {
        let signature = sign(&pre_authentication_encoding(payload_type, payload));
        Self::of(payload_type, payload, keyid, &signature.to_bytes())
    }

    /// The same for a key that may fail to sign, whose signature has a form of its own.
    ///
    /// # Errors
    /// When it does.
    pub fn try_seal<E>(payload_type: &str, payload: &[u8], keyid: &str, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<Self, E> {
        let signature = sign(&pre_authentication_encoding(payload_type, payload))?;
        Ok(Self::of(payload_type, payload, keyid, &signature))
    }

    fn of(payload_type: &str, payload: &[u8], keyid: &str, signature: &[u8]) -> Self {
        Self {
            payload_type: payload_type.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: vec![EnvelopeSignature { keyid: keyid.to_owned(), sig: STANDARD.encode(signature) }],
        }
    }

    /// The document's bytes, if `key` signed them as `payload_type`.
    ///
    /// # Errors
    /// When it did not, or the bytes are no envelope at all.
    pub fn open(bytes: &[u8], payload_type: &'static str, key: &VerifyingKey) -> Result<Vec<u8>, EnvelopeRefused> {
        Self::open_by(bytes, payload_type, |_, signed, raw| {
            Signature::from_slice(raw).is_ok_and(|signature| key.verify_strict(signed, &signature).is_ok())
        })
    }

    /// The same for any kind of key: `fits(keyid, signed, signature)` says whether a signature is one that counts.
    ///
    /// # Errors
    /// When none does, or the bytes are no envelope at all.
    pub fn open_by(
        bytes: &[u8],
        payload_type: &'static str,
        fits: impl Fn(&str, &[u8], &[u8]) -> bool,
    ) -> Result<Vec<u8>, EnvelopeRefused> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeRefused::Malformed);
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(|_| EnvelopeRefused::Malformed)?;
        if envelope.payload_type != payload_type {
            return Err(EnvelopeRefused::OtherType(payload_type));
        }
        if envelope.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeRefused::Malformed);
        }
        let payload = STANDARD.decode(&envelope.payload).map_err(|_| EnvelopeRefused::Malformed)?;
        let signed = pre_authentication_encoding(payload_type, &payload);
        let signed_by_it = envelope.signatures.iter().any(|signature| {
            let Ok(raw) = STANDARD.decode(&signature.sig) else { return false };
            fits(&signature.keyid, &signed, &raw)
        });
        if signed_by_it { Ok(payload) } else { Err(EnvelopeRefused::BadSignature) }
    }
}

/// DSSE v1, "Signature Definition": what is signed instead of the payload, so that type and length cannot be shifted.
pub(crate) fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut encoded = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    encoded.extend_from_slice(payload);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    const TYPE: &str = "application/vnd.hedgerow.test+json";

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn only_the_trusted_key_and_the_exact_bytes_open_it() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let envelope = Envelope::seal(TYPE, b"{}", "k", |bytes| key.sign(bytes));
        let bytes = serde_json::to_vec(&envelope).unwrap();
        assert_eq!(Envelope::open(&bytes, TYPE, &key.verifying_key()), Ok(b"{}".to_vec()));
        let other = SigningKey::from_bytes(&[2; 32]).verifying_key();
        assert_eq!(Envelope::open(&bytes, TYPE, &other), Err(EnvelopeRefused::BadSignature));
        assert_eq!(Envelope::open(&bytes, "other", &key.verifying_key()), Err(EnvelopeRefused::OtherType("other")));
        let changed = serde_json::to_vec(&Envelope { payload: STANDARD.encode("[]"), ..envelope }).unwrap();
        assert_eq!(Envelope::open(&changed, TYPE, &key.verifying_key()), Err(EnvelopeRefused::BadSignature));
        assert_eq!(Envelope::open(b"{", TYPE, &key.verifying_key()), Err(EnvelopeRefused::Malformed));
    }
}
