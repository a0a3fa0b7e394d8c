//! Thresholds, duplicates, kinds of keys.

use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use protocol::digest::Digest;
use serde_json::{Value, json};

use super::super::super::metadata;
use super::simulator::{Client, Simulator, key, keyid, reason};

#[tokio::test]
async fn fewer_signatures_than_the_threshold_are_refused() {
    let mut repository = Simulator::new();
    let keys = [1, 2, 3];
    repository.set_keys("snapshot", &keys, 3);
    repository.signers.insert("snapshot".into(), keys.to_vec());
    repository.publish(&["root", "targets", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    client.refresh(&repository).await.unwrap();
    repository.signers.insert("snapshot".into(), vec![1, 2]);
    repository.publish(&["targets", "snapshot", "timestamp"]);
    assert_eq!(reason(client.refresh(&repository).await), "bad_signature");
    assert_eq!(client.version("snapshot"), Some(2));
}

#[tokio::test]
async fn a_threshold_above_the_number_of_keys_is_never_met() {
    let mut repository = Simulator::new();
    let keys = [1, 2, 3, 4, 5];
    repository.set_keys("snapshot", &keys, 6);
    repository.signers.insert("snapshot".into(), keys.to_vec());
    repository.publish(&["root", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    assert_eq!(reason(client.refresh(&repository).await), "bad_signature");
    assert_eq!(client.versions(), [Some(2), Some(2), None, None]);
}

#[tokio::test]
async fn a_threshold_of_zero_accepts_nothing() {
    let mut repository = Simulator::new();
    repository.set_keys("snapshot", &[1], 0);
    repository.signers.insert("snapshot".into(), Vec::new());
    repository.publish(&["root", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    assert_eq!(reason(client.refresh(&repository).await), "malformed");
}

#[tokio::test]
async fn one_key_signs_once_however_often_it_is_named() {
    let mut repository = Simulator::new();
    repository.set_keys("snapshot", &[1; 9], 6);
    repository.signers.insert("snapshot".into(), vec![1]);
    repository.publish(&["root", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    assert_eq!(reason(client.refresh(&repository).await), "bad_signature");
    let copied = |document: &mut Value| {
        let signature = document["signatures"][0].clone();
        document["signatures"].as_array_mut().unwrap().extend(std::iter::repeat_n(signature, 8));
    };
    repository.spoil("snapshot", copied);
    assert_eq!(reason(client.refresh(&repository).await), "bad_signature");
    assert_eq!(client.version("snapshot"), None);
}

#[tokio::test]
async fn a_signature_that_stands_twice_is_refused() {
    let mut repository = Simulator::new();
    let twice = |document: &mut Value| {
        let signature = document["signatures"][0].clone();
        document["signatures"].as_array_mut().unwrap().push(signature);
    };
    repository.spoil("snapshot", twice);
    let client = Client::of(&repository);
    assert_eq!(reason(client.refresh(&repository).await), "bad_signature");
    assert_eq!(client.version("snapshot"), None);
}

#[tokio::test]
async fn a_wrong_signature_beside_enough_right_ones_does_no_harm() {
    let mut repository = Simulator::new();
    let client = Client::of(&repository);
    let first = repository.signers["timestamp"][0];
    repository.set_keys("timestamp", &[first, 2], 1);
    repository.signers.insert("timestamp".into(), vec![first, 2]);
    repository.publish(&["root"]);
    for wrong in ["ab".repeat(64), String::new(), "not hex".to_owned()] {
        repository.publish(&["timestamp"]);
        repository.spoil("timestamp", |document| document["signatures"][0]["sig"] = json!(wrong));
        client.refresh(&repository).await.unwrap();
    }
}

/// A root that P-256 must sign too: with `sign`, its signature over the canonical content, in hex.
fn with_p256_key(repository: &mut Simulator, secret: &p256::ecdsa::SigningKey, sign: impl Fn(&[u8]) -> String) {
    let public = secret.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    let object = json!({"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": public}});
    let id = Digest::sha256(object.to_string().as_bytes()).hex();
    let own = repository.signers["root"][0];
    let root = repository.role("root");
    root["keys"][&id] = object;
    root["roles"]["root"] = json!({"keyids": [keyid(own), id], "threshold": 2});
    repository.publish(&["root"]);
    repository.spoil("root", |document| {
        let content = metadata::canonical(&document["signed"]);
        let signature = json!({"keyid": id, "sig": sign(&content)});
        document["signatures"].as_array_mut().unwrap().push(signature);
    });
}

#[tokio::test]
async fn a_key_may_be_p256_and_its_signature_must_be_right() {
    let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let sign = |content: &[u8]| {
        let signature: p256::ecdsa::Signature = secret.sign(content);
        hex::encode(signature.to_der().as_bytes())
    };
    let mut repository = Simulator::new();
    let client = Client::of(&repository);
    with_p256_key(&mut repository, &secret, sign);
    client.refresh(&repository).await.unwrap();
    assert_eq!(client.version("root"), Some(2));
    with_p256_key(&mut repository, &secret, |_| sign(b"something else"));
    assert_eq!(reason(client.refresh(&repository).await), "bad_signature");
    assert_eq!(client.version("root"), Some(2));
}

#[tokio::test]
async fn an_ed25519_signature_must_be_right() {
    let mut repository = Simulator::new();
    let client = Client::of(&repository);
    let own = repository.signers["root"][0];
    repository.set_keys("root", &[own, 2], 2);
    repository.signers.insert("root".into(), vec![own, 2]);
    repository.publish(&["root"]);
    client.refresh(&repository).await.unwrap();
    repository.publish(&["root"]);
    let other = hex::encode(ed25519_dalek::Signer::sign(&key(2), b"something else").to_bytes());
    repository.spoil("root", |document| document["signatures"][1]["sig"] = json!(other));
    assert_eq!(reason(client.refresh(&repository).await), "bad_signature");
    assert_eq!(client.version("root"), Some(2));
}
