//! Reports of devices: nothing but what the device's key signed is believed, however its envelope is changed; and the content
//! can be written and read again.
//!
//! Not here: replays, which the store refuses.

use protocol::digest::Digest;
use protocol::rollout::DeviceReport;
use protocol::rollout::signed;

use super::assert_short;

/// The only report that the key ever signed, in `corpus/device_report/signed`.
const SIGNED: &str = r#"{"counter":7,"apps":{}}"#;

/// The SHA-256 of that key.
const KEY: &str = "sha256:3774845b9147b50cf00771ca20eb29cc3043c078f79ee13ebd0c63062a133b4d";

/// Reads an envelope, and the same bytes as what stands in one.
pub fn run(data: &[u8]) {
    let key: Digest = KEY.parse().expect("a digest");
    match signed::open(data, &"acme".parse().expect("a name"), &"kiosk".parse().expect("a name"), &key) {
        Ok(report) => assert_eq!(serde_json::to_string(&report).expect("JSON"), SIGNED),
        Err(refused) => assert_short(&refused, data.len()),
    }
    if let Ok(report) = serde_json::from_slice::<DeviceReport>(data) {
        let written = serde_json::to_vec(&report).expect("JSON");
        assert_eq!(serde_json::from_slice::<DeviceReport>(&written).expect("what was written"), report);
    }
}
