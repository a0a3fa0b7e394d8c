//! Revocation lists: nothing but the one that was ever signed is accepted, however its envelope is changed; and the content
//! can be written and read again.
//!
//! Not here: which of several is the newest.

use std::sync::LazyLock;

use ed25519_dalek::{SigningKey, VerifyingKey};
use protocol::statement::desired::OnlineKey;
use protocol::statement::revocation::{AcceptedRevocations, RevocationList, give_back};
use protocol::time::WallTime;

/// The only list that this key ever signed, in `corpus/revocations/signed`.
const SIGNED: &str = r#"{"format":1,"org":"acme","counter":{"epoch":1,"n":5},"expires":2000,"keys":["sha256:8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"]}"#;

static KEY: LazyLock<VerifyingKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]).verifying_key());

/// Reads an envelope, and the same bytes as what stands in one.
pub fn run(data: &[u8]) {
    let online = OnlineKey { org: "acme".parse().expect("a name"), epoch: 1, key: *KEY };
    match AcceptedRevocations::accept(data, &online, None, WallTime::from_unix_seconds(1_000)) {
        Ok(accepted) => assert_eq!(serde_json::to_string(accepted.list()).expect("JSON"), SIGNED),
        Err(refused) => super::assert_short(&refused, data.len()),
    }
    match give_back(data, &online, 0) {
        Ok(list) => assert_eq!(serde_json::to_string(&list).expect("JSON"), SIGNED),
        Err(refused) => super::assert_short(&refused, data.len()),
    }
    if let Ok(list) = serde_json::from_slice::<RevocationList>(data) {
        let written = serde_json::to_vec(&list).expect("JSON");
        assert_eq!(serde_json::from_slice::<RevocationList>(&written).expect("what was written"), list);
    }
}
