//! Grants: nothing but the one that was ever signed is accepted, however its envelope is changed; and the content can be written
//! and read again.
//!
//! Not here: which of several is the newest.

use std::sync::LazyLock;

use ed25519_dalek::{SigningKey, VerifyingKey};
use protocol::statement::grant::{AcceptedGrant, Grant, GrantAuthority, Holder, app_named};
use protocol::time::WallTime;

/// The only grant that this key ever signed, in `corpus/grant/signed`.
const SIGNED: &str = r#"{"format":1,"org":"acme","app":"web","version":3,"subject":{"device":"kiosk"},"counter":5,"not_after":2000}"#;

static KEY: LazyLock<VerifyingKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]).verifying_key());

/// Reads an envelope, and the same bytes as what stands in one.
pub fn run(data: &[u8]) {
    if let Err(refused) = app_named(data) {
        super::assert_short(&refused, data.len());
    }
    let (app, device) = ("web".parse().expect("a name"), "kiosk".parse().expect("a name"));
    let authority =
        GrantAuthority { org: "acme".parse().expect("a name"), app, is_allowed: true, keys: vec![*KEY], threshold: 1, floor: 0 };
    let holder = Holder { device: &device, group: None };
    match AcceptedGrant::accept(data, &authority, holder, None, WallTime::from_unix_seconds(1_000)) {
        Ok(accepted) => assert_eq!(serde_json::to_string(accepted.grant()).expect("JSON"), SIGNED),
        Err(refused) => super::assert_short(&refused, data.len()),
    }
    if let Ok(grant) = serde_json::from_slice::<Grant>(data) {
        let written = serde_json::to_vec(&grant).expect("JSON");
        assert_eq!(serde_json::from_slice::<Grant>(&written).expect("what was written"), grant);
    }
}
