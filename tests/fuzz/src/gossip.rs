//! What devices of a site tell each other: what was read is within its limits, and can be written and read again; and no receipt
//! opens but the one that was ever signed.
//!
//! Not here: what a message does.

use std::fmt::Debug;
use std::sync::LazyLock;

use ed25519_dalek::{SigningKey, VerifyingKey};
use protocol::gossip::message::{Documents, GROUPS_MAX, Heads, Message, Said};
use protocol::statement::desired::OnlineKey;
use protocol::statement::receipt::PollReceipt;

/// What the only receipt that this key ever signed says; its mark and this are `corpus/gossip/receipt`.
const SIGNED: &str = r#"{"assignments":{"kiosk":{"epoch":1,"n":3}},"states":{"all":{"epoch":1,"n":5}},"timestamp":9}"#;
const SIGNED_AT_MS: u64 = 1_800_000_000_000;

static KEY: LazyLock<VerifyingKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]).verifying_key());

/// Reads each message, and a receipt: its mark, and below it what it is for.
pub fn run(data: &[u8]) {
    read::<Documents>(data);
    if let Some(heads) = read::<Heads>(data) {
        assert!(heads.states.len() <= GROUPS_MAX);
    }
    if let Some(receipt) = read::<Said>(data).and_then(|said| said.poll) {
        open(&receipt);
    }
    let receipt = super::first_line(data).and_then(|(mark, heads)| PollReceipt::of_mark(mark, std::str::from_utf8(heads).ok()?.to_owned()));
    if let Some(receipt) = receipt {
        open(&receipt);
    }
}

fn open(receipt: &PollReceipt) {
    let online = OnlineKey { org: "acme".parse().expect("a name"), epoch: 1, key: *KEY };
    match receipt.open(&online) {
        Ok(poll) => {
            assert_eq!(poll.at_ms, SIGNED_AT_MS);
            assert_eq!(serde_json::to_string(&poll.heads).expect("JSON"), SIGNED);
        }
        Err(refused) => super::assert_short(&refused, 0),
    }
}

fn read<T: Message + Debug + PartialEq>(data: &[u8]) -> Option<T> {
    let message = T::decode(data)?;
    let written = message.encode().expect("what was read is within its limits");
    assert_eq!(T::decode(&written).as_ref(), Some(&message));
    Some(message)
}
