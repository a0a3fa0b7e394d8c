//! Desired states: nothing but the one that was ever signed is accepted, however its envelope is changed; and the content
//! can be written and read again.
//!
//! Not here: which of several is the newest.

use std::sync::LazyLock;

use ed25519_dalek::{SigningKey, VerifyingKey};
use protocol::envelope::Envelope;
use protocol::statement::desired::{AcceptedDesiredState, DesiredState, GROUP_ALL, OnlineKey, PAYLOAD_TYPE};
use protocol::time::WallTime;

/// The only document that this key ever signed, in `corpus/desired_state/signed`.
const SIGNED: &str = r#"{"format":1,"org":"acme","group":"all","counter":{"epoch":1,"n":5},"expires":2000,"apps":{}}"#;

static KEY: LazyLock<VerifyingKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]).verifying_key());

/// Reads an envelope, and the same bytes as what stands in one.
pub fn run(data: &[u8]) {
    if let Ok(payload) = Envelope::open(data, PAYLOAD_TYPE, &KEY) {
        assert_eq!(payload, SIGNED.as_bytes());
        let online = OnlineKey { org: "acme".parse().expect("a name"), epoch: 1, key: *KEY };
        let accepted = AcceptedDesiredState::accept(data, &online, GROUP_ALL, None, WallTime::from_unix_seconds(1_000));
        assert_eq!(accepted.map(|accepted| serde_json::to_string(accepted.state()).expect("JSON")), Ok(SIGNED.into()));
    }
    if let Ok(state) = serde_json::from_slice::<DesiredState>(data) {
        let written = serde_json::to_vec(&state).expect("JSON");
        assert_eq!(serde_json::from_slice::<DesiredState>(&written).expect("what was written"), state);
    }
}
