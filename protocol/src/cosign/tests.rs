//! Claims about what counts as a signature of an image. The first two vectors were made with openssl in cosign's form.

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

use super::*;

const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC2WcD5ipxFDfO+2GSk/A4GpW0fhj
nNhP4U2gsVEnH7+QJ8tjJjSLpo/TtS4tKE+6JMopzny5oeqgHf+Q3lJZ9Q==
-----END PUBLIC KEY-----
";
const IMAGE: &str = "sha256:cb8d2a7d3b0b0c0f0b9f0a1e1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f";
const PAYLOAD: &str = r#"{"critical":{"identity":{"docker-reference":"registry.example/acme/web"},"image":{"docker-manifest-digest":"sha256:cb8d2a7d3b0b0c0f0b9f0a1e1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f"},"type":"cosign container image signature"},"optional":null}"#;
const PAYLOAD_SIGNATURE: &str = "MEYCIQDwPLszy1mHJqIqRbQubuXPjXrFfHw3FN47iunbJgr56AIhAImiM7aJsi4zXDChkK97380cicrOxVi5JcaqzTLk5Bjn";
const STATEMENT: &str = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"cb8d2a7d3b0b0c0f0b9f0a1e1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}"#;
const STATEMENT_SIGNATURE: &str = "MEUCICGI4pJzNkLTyVHsM0mePE3RVG0lM1vG65cE0sUp4vsnAiEA+R5+eMLM4z1MYcS27ePVjirhlY2SFF/wDL6zHudsnRc=";

fn keys() -> Vec<CosignKey> {
    vec![KEY.parse().unwrap()]
}

fn image() -> Digest {
    IMAGE.parse().unwrap()
}

fn payload(text: &str, signature: &str) -> (Candidate, Vec<u8>) {
    (Candidate { digest: Digest::sha256(text.as_bytes()), size: text.len() as u64, form: Form::Payload(signature.into()) }, text.into())
}

fn bundle(statement: &str, signature: &str) -> (Candidate, Vec<u8>) {
    let bundle = json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "any"}, "tlogEntries": []},
        "dsseEnvelope": {"payload": STANDARD.encode(statement), "payloadType": IN_TOTO, "signatures": [{"sig": signature}]},
    });
    let bytes = bundle.to_string().into_bytes();
    (Candidate { digest: Digest::sha256(&bytes), size: bytes.len() as u64, form: Form::Bundle }, bytes)
}

fn check((candidate, document): &(Candidate, Vec<u8>), image: &Digest, keys: &[CosignKey]) -> Result<(), SignatureRefused> {
    candidate.check(document, image, keys)
}

/// A key of our own, for statements that openssl did not sign.
fn own() -> (SigningKey, Vec<CosignKey>) {
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    (key, vec![pem.parse().unwrap()])
}

fn sign(key: &SigningKey, bytes: &[u8]) -> String {
    let signature: p256::ecdsa::Signature = key.sign(bytes);
    STANDARD.encode(signature.to_der().as_bytes())
}

#[test]
fn what_openssl_signed_in_the_form_of_cosign_counts_for_its_image_and_key_alone() {
    let other_image = Digest::sha256(b"other");
    for signed in [payload(PAYLOAD, PAYLOAD_SIGNATURE), bundle(STATEMENT, STATEMENT_SIGNATURE)] {
        assert_eq!(check(&signed, &image(), &keys()), Ok(()));
        assert!(matches!(check(&signed, &other_image, &keys()), Err(SignatureRefused::OtherImage(_))));
        assert_eq!(check(&signed, &image(), &own().1), Err(SignatureRefused::OtherKey));
        assert_eq!(check(&signed, &image(), &[]), Err(SignatureRefused::OtherKey));
        let several = [own().1, keys()].concat();
        assert_eq!(check(&signed, &image(), &several), Ok(()), "one of the keys is enough");
    }
}

#[test]
fn content_that_differs_from_what_was_signed_or_named_is_refused() {
    let changed = PAYLOAD.replace("null", "{}");
    assert_eq!(check(&payload(&changed, PAYLOAD_SIGNATURE), &image(), &keys()), Err(SignatureRefused::OtherKey));
    let changed = STATEMENT.replace("{}}", "{ }}");
    assert_eq!(check(&bundle(&changed, STATEMENT_SIGNATURE), &image(), &keys()), Err(SignatureRefused::OtherKey));
    let (candidate, _) = payload(PAYLOAD, PAYLOAD_SIGNATURE);
    assert!(matches!(candidate.check(b"{}", &image(), &keys()), Err(SignatureRefused::Malformed(_))));
    for signature in ["", "no base64!", "AAAA"] {
        assert!(check(&payload(PAYLOAD, signature), &image(), &keys()).is_err());
    }
}

#[test]
fn a_right_key_that_signed_something_else_about_the_image_does_not_count() {
    let (key, keys) = own();
    let attestation = STATEMENT.replace("https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1");
    let signature = sign(&key, &pre_authentication_encoding(IN_TOTO, attestation.as_bytes()));
    assert!(matches!(check(&bundle(&attestation, &signature), &image(), &keys), Err(SignatureRefused::OtherKind(_))));
    let signature = sign(&key, &pre_authentication_encoding(IN_TOTO, STATEMENT.as_bytes()));
    assert_eq!(check(&bundle(STATEMENT, &signature), &image(), &keys), Ok(()), "the same envelope with the right predicate");
    let unencoded = sign(&key, STATEMENT.as_bytes());
    assert_eq!(check(&bundle(STATEMENT, &unencoded), &image(), &keys), Err(SignatureRefused::OtherKey));
    let other = PAYLOAD.replace("cosign container image signature", "atomic container signature");
    assert!(matches!(check(&payload(&other, &sign(&key, other.as_bytes())), &image(), &keys), Err(SignatureRefused::OtherKind(_))));
    let (mut candidate, _) = bundle(STATEMENT, STATEMENT_SIGNATURE);
    let blob = json!({"mediaType": BUNDLE, "messageSignature": {"signature": "AAAA"}}).to_string();
    candidate.digest = Digest::sha256(blob.as_bytes());
    assert!(matches!(candidate.check(blob.as_bytes(), &image(), &keys), Err(SignatureRefused::OtherKind(_))));
}

#[test]
fn candidates_are_the_layers_that_may_hold_a_signature() {
    let digest = Digest::sha256(b"x");
    let layer = |media_type: &str, size: u64, annotations: Value| json!({"mediaType": media_type, "digest": digest, "size": size, "annotations": annotations});
    let signed = json!({"dev.cosignproject.cosign/signature": "AAAA"});
    let manifest = json!({"layers": [
        layer(SIMPLE_SIGNING, 3, signed.clone()),
        layer(SIMPLE_SIGNING, 3, json!({})),
        layer(SIMPLE_SIGNING, DOCUMENT_BYTES_MAX + 1, signed.clone()),
        layer("application/vnd.oci.image.layer.v1.tar", 3, signed),
        layer(BUNDLE, 4, Value::Null),
    ]});
    let found = candidates(manifest.to_string().as_bytes());
    let forms: Vec<(u64, &Form)> = found.iter().map(|candidate| (candidate.size, &candidate.form)).collect();
    assert_eq!(forms, [(3, &Form::Payload("AAAA".into())), (4, &Form::Bundle)]);
    let many = json!({"layers": vec![layer(BUNDLE, 4, Value::Null); CANDIDATES_MAX + 1]});
    assert_eq!(candidates(many.to_string().as_bytes()).len(), CANDIDATES_MAX);
    for broken in ["", "[]", "{}", r#"{"layers":[{}]}"#] {
        assert!(candidates(broken.as_bytes()).is_empty(), "{broken}");
    }
}

#[test]
fn a_signature_stands_at_the_tag_named_after_the_image_and_an_index_speaks_for_what_it_lists() {
    assert_eq!(signature_tag(&image()).unwrap().as_str(), format!("{}.sig", IMAGE.replace(':', "-")));
    assert_eq!(signature_tag(&Digest::sha512(b"x")), None, "sha512- and 128 digits are no tag");
    let descriptor = |digest: &Digest| json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1});
    let (listed, config) = (Digest::sha256(b"listed"), Digest::sha256(b"config"));
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor(&listed)], "subject": descriptor(&image()), "config": descriptor(&config),
    });
    let index = index.to_string();
    assert!(index_lists(index.as_bytes(), &listed));
    assert!(!index_lists(index.as_bytes(), &image()) && !index_lists(index.as_bytes(), &config) && !index_lists(b"{}", &listed));
}

#[test]
fn a_key_is_read_as_cosign_writes_it_and_nothing_else_is_a_key() {
    let key: CosignKey = KEY.parse().unwrap();
    assert_eq!(serde_json::from_value::<CosignKey>(json!(KEY)).unwrap(), key);
    assert_eq!(String::from(key.clone()), KEY);
    assert_eq!(key.to_string(), key.fingerprint().to_string());
    let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    for wrong in ["", "cosign.pub", ed25519, &KEY.replace("PUBLIC", "PRIVATE"), &"x".repeat(2000)] {
        assert_eq!(wrong.parse::<CosignKey>(), Err(KeyRefused));
    }
}
