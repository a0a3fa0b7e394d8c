//! Desired states: nothing but the one that was ever signed is accepted, however its envelope is changed; and the content, or
//! that of an assignment, can be written and read again.
//!
//! Not here: which of several is the newest.

use std::sync::LazyLock;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use protocol::envelope::Envelope;
use protocol::statement::assignment::{self, AcceptedAssignment, Assignment};
use protocol::statement::counters::Counters;
use protocol::statement::desired::{AcceptedDesiredState, DesiredState, OnlineKey, PAYLOAD_TYPE};
use protocol::time::WallTime;

/// The only desired state that this key ever signed, in `corpus/desired_state/signed`.
const SIGNED: &str = r#"{"format":1,"org":"acme","group":"all","counter":{"epoch":1,"n":5},"expires":2000,"apps":{}}"#;

/// What the device of these inputs is assigned to.
const ASSIGNMENT: &str = r#"{"format":1,"org":"acme","device":"kiosk","counter":{"epoch":1,"n":1},"expires":2000,"otherwise":"all"}"#;

const NOW: WallTime = WallTime::from_unix_seconds(1_000);

static KEY: LazyLock<VerifyingKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]).verifying_key());

static ASSIGNED: LazyLock<AcceptedAssignment> = LazyLock::new(|| {
    let key = SigningKey::from_bytes(&[7; 32]);
    let envelope = Envelope::seal(assignment::PAYLOAD_TYPE, ASSIGNMENT.as_bytes(), "online", |bytes| key.sign(bytes));
    let bytes = serde_json::to_vec(&envelope).expect("JSON");
    let device = "kiosk".parse().expect("a name");
    AcceptedAssignment::accept(&bytes, &online(), &device, &mut Counters::default(), NOW).expect("it fits")
});

fn online() -> OnlineKey {
    OnlineKey { org: "acme".parse().expect("a name"), epoch: 1, key: *KEY }
}

/// Reads an envelope, and the same bytes as what stands in one.
pub fn run(data: &[u8]) {
    if let Ok(payload) = Envelope::open(data, PAYLOAD_TYPE, &KEY) {
        assert_eq!(payload, SIGNED.as_bytes());
        let accepted = AcceptedDesiredState::accept(data, &online(), &ASSIGNED, &mut Counters::default(), NOW);
        assert_eq!(accepted.map(|accepted| serde_json::to_string(accepted.state()).expect("JSON")), Ok(SIGNED.into()));
    }
    if let Ok(state) = serde_json::from_slice::<DesiredState>(data) {
        let written = serde_json::to_vec(&state).expect("JSON");
        assert_eq!(serde_json::from_slice::<DesiredState>(&written).expect("what was written"), state);
    }
    if let Ok(assignment) = serde_json::from_slice::<Assignment>(data) {
        let written = serde_json::to_vec(&assignment).expect("JSON");
        assert_eq!(serde_json::from_slice::<Assignment>(&written).expect("what was written"), assignment);
    }
}
