//! Signatures of images as cosign makes them with a key, and whether one of them is of a key that a policy names.
//!
//! | form | where | what is signed |
//! |---|---|---|
//! | tag | layers of the manifest at the tag [`signature_tag`] | the layer, a [`SIMPLE_SIGNING`] payload; the signature is the layer's annotation |
//! | referrer, OCI 1.1 | the same layers in a manifest of type [`SIGNATURE_ARTIFACT`] that refers to the image | the same |
//! | bundle | the layer of a manifest of type [`BUNDLE`] that refers to the image | an in-toto statement in a DSSE envelope, in a sigstore bundle v0.3, as cosign 3 writes it |
//!
//! Only keys count, P-256 with SHA-256, the kind that `cosign generate-key-pair` makes: certificates, logs and time stamps
//! that a signature may carry besides are not looked at.
//!
//! Not here: fetching what is named; which repositories need signatures, see [`crate::repository`].

mod key;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

pub use key::{CosignKey, KEYS_MAX, KeyRefused};

use crate::digest::Digest;
use crate::envelope::{SIGNATURES_MAX, pre_authentication_encoding};
use crate::name::Tag;
use crate::oci::manifest::Manifest;

/// The media type of a payload in the "simple signing" format.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The artifact type of a manifest of such payloads that refers to the image.
pub const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// The media type of a sigstore bundle, and the artifact type of the manifest that holds one.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The most signatures of one manifest that are looked at: one a key, and again for each time that it was signed anew.
pub const CANDIDATES_MAX: usize = 64;
/// The largest payload or bundle, in bytes: they have a few KiB.
pub const DOCUMENT_BYTES_MAX: u64 = 1 << 20;

/// The annotation of a layer that holds the signature of its content, in base64.
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// `critical.type` of a payload.
const PAYLOAD_KIND: &str = "cosign container image signature";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// The predicate type of a bundle that signs an image; other predicates attest something else about it.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// What may hold a signature, to be fetched and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The document's digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// A payload, and the text of its signature.
    Payload(String),
    Bundle,
}

/// Why a document is no signature that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefused {
    /// It is not what its media type says.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// None of the keys made it.
    #[error("it is not of a key that the policy names")]
    OtherKey,
    /// A right key signed another image.
    #[error("it is for another image: {0}")]
    OtherImage(String),
    /// A right key signed something else about the image.
    #[error("it attests {0:?}, which is no signature of the image")]
    OtherKind(String),
}

/// The tag of the manifest whose layers are the signatures of `image`; none for a digest that is too long for a tag.
pub fn signature_tag(image: &Digest) -> Option<Tag> {
    format!("{}-{}.sig", image.algorithm().name(), image.hex()).parse().ok()
}

/// Whether a manifest of this artifact type that refers to an image may hold its signature.
pub fn may_sign(artifact_type: &str) -> bool {
    [SIGNATURE_ARTIFACT, SIMPLE_SIGNING, BUNDLE].contains(&artifact_type)
}

/// What may be a signature in a manifest at the tag or among the referrers, [`CANDIDATES_MAX`] at most.
pub fn candidates(manifest: &[u8]) -> Vec<Candidate> {
    #[derive(Deserialize)]
    struct Layers {
        #[serde(default)]
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer {
        #[serde(default)]
        media_type: String,
        digest: String,
        size: u64,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let Ok(Layers { layers }) = serde_json::from_slice(manifest) else { return Vec::new() };
    let candidate = |layer: Layer| {
        let form = match layer.media_type.as_str() {
            BUNDLE => Form::Bundle,
            SIMPLE_SIGNING => Form::Payload(layer.annotations?.remove(SIGNATURE_ANNOTATION)?),
            _ => return None,
        };
        let digest = layer.digest.parse().ok()?;
        (layer.size <= DOCUMENT_BYTES_MAX).then_some(Candidate { digest, size: layer.size, form })
    };
    layers.into_iter().filter_map(candidate).take(CANDIDATES_MAX).collect()
}

/// Whether a signature of `index`, an image index, also stands for the image `manifest`: it lists it.
pub fn index_lists(index: &[u8], manifest: &Digest) -> bool {
    Manifest::parse(index, None).is_ok_and(|index| index.named.iter().any(|named| named.may_be_manifest && named.digest == *manifest))
}

impl Candidate {
    /// Checks that `document` has the digest that was named, and that one of `keys` signed `image` in it.
    ///
    /// # Errors
    /// With why it does not count.
    pub fn check(&self, document: &[u8], image: &Digest, keys: &[CosignKey]) -> Result<(), SignatureRefused> {
        if self.digest.same_algorithm(document) != self.digest {
            return Err(malformed("its content has another digest"));
        }
        match &self.form {
            Form::Payload(signature) => check_payload(document, signature, image, keys),
            Form::Bundle => check_bundle(document, image, keys),
        }
    }
}

fn check_payload(payload: &[u8], signature: &str, image: &Digest, keys: &[CosignKey]) -> Result<(), SignatureRefused> {
    #[derive(Deserialize)]
    struct Payload {
        critical: Critical,
    }
    #[derive(Deserialize)]
    struct Critical {
        image: Signed,
        #[serde(rename = "type")]
        kind: String,
    }
    #[derive(Deserialize)]
    struct Signed {
        #[serde(rename = "docker-manifest-digest")]
        digest: String,
    }
    check_signature(payload, signature, keys)?;
    let Payload { critical } = serde_json::from_slice(payload).map_err(|error| malformed(&error.to_string()))?;
    if critical.kind != PAYLOAD_KIND {
        return Err(SignatureRefused::OtherKind(cut(&critical.kind)));
    }
    if critical.image.digest == image.to_string() { Ok(()) } else { Err(SignatureRefused::OtherImage(cut(&critical.image.digest))) }
}

fn check_bundle(bundle: &[u8], image: &Digest, keys: &[CosignKey]) -> Result<(), SignatureRefused> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bundle {
        media_type: String,
        dsse_envelope: Option<Dsse>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Dsse {
        payload: String,
        payload_type: String,
        signatures: Vec<DsseSignature>,
    }
    #[derive(Deserialize)]
    struct DsseSignature {
        sig: String,
    }
    let bundle: Bundle = serde_json::from_slice(bundle).map_err(|error| malformed(&error.to_string()))?;
    if bundle.media_type != BUNDLE {
        return Err(malformed("it is no sigstore bundle v0.3"));
    }
    let Some(envelope) = bundle.dsse_envelope else { return Err(SignatureRefused::OtherKind("a blob".to_owned())) };
    if envelope.payload_type != IN_TOTO || envelope.signatures.len() > SIGNATURES_MAX {
        return Err(malformed("its envelope holds no in-toto statement, or too many signatures"));
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|error| malformed(&error.to_string()))?;
    let signed = pre_authentication_encoding(&envelope.payload_type, &payload);
    let checked: Vec<_> = envelope.signatures.iter().map(|signature| check_signature(&signed, &signature.sig, keys)).collect();
    if !checked.iter().any(Result::is_ok) {
        return Err(checked.into_iter().find_map(Result::err).unwrap_or(SignatureRefused::OtherKey));
    }
    check_statement(&payload, image)
}

fn check_statement(payload: &[u8], image: &Digest) -> Result<(), SignatureRefused> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        #[serde(rename = "_type")]
        kind: String,
        predicate_type: String,
        subject: Vec<Subject>,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: BTreeMap<String, String>,
    }
    let statement: Statement = serde_json::from_slice(payload).map_err(|error| malformed(&error.to_string()))?;
    if !STATEMENTS.contains(&statement.kind.as_str()) {
        return Err(malformed("it is no in-toto statement v1"));
    }
    if statement.predicate_type != SIGN_PREDICATE {
        return Err(SignatureRefused::OtherKind(cut(&statement.predicate_type)));
    }
    let (algorithm, hex) = (image.algorithm().name(), image.hex());
    if statement.subject.iter().any(|subject| subject.digest.get(algorithm) == Some(&hex)) {
        return Ok(());
    }
    let named: Vec<&str> = statement.subject.iter().flat_map(|subject| subject.digest.values()).map(String::as_str).collect();
    Err(SignatureRefused::OtherImage(cut(&named.join(", "))))
}

fn check_signature(signed: &[u8], signature: &str, keys: &[CosignKey]) -> Result<(), SignatureRefused> {
    let signature = STANDARD.decode(signature.trim()).map_err(|error| malformed(&error.to_string()))?;
    if keys.iter().any(|key| key.signed(signed, &signature)) { Ok(()) } else { Err(SignatureRefused::OtherKey) }
}

fn malformed(detail: &str) -> SignatureRefused {
    SignatureRefused::Malformed(cut(detail))
}

/// As much of a foreign text as an error repeats.
fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests;
