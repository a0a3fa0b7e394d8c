//! Signatures of images: what was not signed is refused in short, and what is accepted is accepted for one image alone.
//!
//! Not here: manifests as a registry reads them; see [`super::manifest`].

use protocol::cosign::{BUNDLE, CANDIDATES_MAX, CosignKey, SIMPLE_SIGNING, candidates, index_lists};
use protocol::digest::Digest;
use serde_json::json;

use super::{assert_short, first_line};

/// The key of the signatures in the corpus, made with openssl.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC2WcD5ipxFDfO+2GSk/A4GpW0fhj
nNhP4U2gsVEnH7+QJ8tjJjSLpo/TtS4tKE+6JMopzny5oeqgHf+Q3lJZ9Q==
-----END PUBLIC KEY-----
";
/// The image that they sign.
const IMAGE: &str = "sha256:cb8d2a7d3b0b0c0f0b9f0a1e1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f";

/// Reads the document below the first line, as a payload whose signature stands in that line, as a bundle, and as a manifest.
pub fn run(data: &[u8]) {
    let Some((signature, document)) = first_line(data) else { return };
    assert!(candidates(document).len() <= CANDIDATES_MAX);
    let (Ok(key), Ok(image)) = (KEY.parse::<CosignKey>(), IMAGE.parse::<Digest>()) else { panic!("key and image are right") };
    if let Err(refused) = signature.parse::<CosignKey>() {
        assert_short(&refused, 0);
    }
    let (digest, other) = (Digest::sha256(document), Digest::sha256(b"other"));
    index_lists(document, &other);
    let layer = |media_type: &str| {
        let annotations = json!({"dev.cosignproject.cosign/signature": signature});
        json!({"mediaType": media_type, "digest": digest, "size": document.len(), "annotations": annotations})
    };
    let manifest = json!({"layers": [layer(SIMPLE_SIGNING), layer(BUNDLE)]}).to_string();
    for candidate in candidates(manifest.as_bytes()) {
        let keys = std::slice::from_ref(&key);
        assert!(candidate.check(document, &other, keys).is_err(), "another image");
        assert!(candidate.check(document, &image, &[]).is_err(), "no key");
        if let Err(refused) = candidate.check(document, &image, keys) {
            assert_short(&refused, 0);
        }
    }
}
