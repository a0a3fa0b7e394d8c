//! A device's report with the signature of its key, so that whoever carries or keeps it cannot change it.
//!
//! Not here: that its counter is newer than the last one, which the store checks in the same step as it keeps the report.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::report::{DeviceReport, ReportTooLarge};
use crate::device_key::{DeviceKey, KEY_BYTES_MAX};
use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeRefused};
use crate::name::{DeviceId, OrgName};
use crate::statement::signed::{self, Format, Unreadable};

/// The DSSE payload type of a report.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.device-report+json";

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// What a device signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    format: u32,
    org: OrgName,
    device: DeviceId,
    report: DeviceReport,
}

impl Format for Signed {
    const FORMAT: u32 = FORMAT;
}

/// Why a report is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefused {
    /// It is not signed by the device's key.
    #[error(transparent)]
    Envelope(#[from] EnvelopeRefused),
    /// Signed, but not JSON of the expected shape.
    #[error("the report cannot be read: {0}")]
    Malformed(String),
    /// Written in a format this program does not know.
    #[error("the report has format {0}, this program reads {FORMAT}; update it")]
    OtherFormat(u32),
    /// Another device signed it, or the same one for another organisation.
    #[error("the report is of device {device} of {org}")]
    OtherDevice {
        /// The organisation that it names.
        org: OrgName,
        /// The device that it names.
        device: DeviceId,
    },
    /// It is beyond a limit.
    #[error(transparent)]
    TooLarge(#[from] ReportTooLarge),
}

impl From<Unreadable> for ReportRefused {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed(detail) => Self::Malformed(detail),
            Unreadable::OtherFormat { found, .. } => Self::OtherFormat(found),
        }
    }
}

impl ReportRefused {
    /// A short name of the reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Envelope(EnvelopeRefused::BadSignature) => "bad_signature",
            Self::Envelope(_) | Self::Malformed(_) => "malformed",
            Self::OtherFormat(_) => "other_format",
            Self::OtherDevice { .. } => "other_device",
            Self::TooLarge(_) => "report_too_large",
        }
    }
}

/// The envelope of a device's report. `public_key` is the device's (`SubjectPublicKeyInfo` in DER), whose private half signs.
///
/// # Errors
/// When `sign` fails, or the report is no JSON, which does not happen.
pub fn seal<E: From<serde_json::Error>>(
    org: &OrgName,
    device: &DeviceId,
    report: DeviceReport,
    public_key: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Envelope, E> {
    let payload = serde_json::to_vec(&Signed { format: FORMAT, org: org.clone(), device: device.clone(), report })?;
    Envelope::try_seal(PAYLOAD_TYPE, &payload, &STANDARD.encode(public_key), sign)
}

/// The report in the envelope `bytes`, if the device signed it whose public key has the SHA-256 `key_sha256`. The key itself
/// stands in the envelope and counts only because of that.
///
/// # Errors
/// With the reason why it is not believed.
pub fn open(bytes: &[u8], org: &OrgName, device: &DeviceId, key_sha256: &Digest) -> Result<DeviceReport, ReportRefused> {
    let payload = Envelope::open_by(bytes, PAYLOAD_TYPE, |keyid, signed, signature| {
        if keyid.len() > 2 * KEY_BYTES_MAX {
            return false;
        }
        let Ok(key) = STANDARD.decode(keyid) else { return false };
        key_sha256.same_algorithm(&key) == *key_sha256 && DeviceKey::from_der(&key).is_ok_and(|key| key.signed(signed, signature))
    })?;
    let signed: Signed = signed::read(&payload)?;
    if signed.org != *org || signed.device != *device {
        return Err(ReportRefused::OtherDevice { org: signed.org, device: signed.device });
    }
    signed.report.check()?;
    Ok(signed.report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::pkcs8::EncodePublicKey as _;
    use ed25519_dalek::{Signer as _, SigningKey};
    use std::collections::BTreeMap;

    fn report() -> DeviceReport {
        DeviceReport { counter: 9, apps: BTreeMap::new(), labels: BTreeMap::new(), refused: BTreeMap::new(), stale: false }
    }

    fn sealed(device: &str, key: &SigningKey) -> (Vec<u8>, Digest) {
        let public = key.verifying_key().to_public_key_der().unwrap();
        let sign = |bytes: &[u8]| Ok::<_, serde_json::Error>(key.sign(bytes).to_bytes().to_vec());
        let envelope = seal(&"acme".parse().unwrap(), &device.parse().unwrap(), report(), public.as_bytes(), sign).unwrap();
        (serde_json::to_vec(&envelope).unwrap(), Digest::sha256(public.as_bytes()))
    }

    fn opened(bytes: &[u8], device: &str, key: &Digest) -> Result<DeviceReport, ReportRefused> {
        open(bytes, &"acme".parse().unwrap(), &device.parse().unwrap(), key)
    }

    #[test]
    fn only_the_devices_own_key_and_name_count() {
        let (bytes, key) = sealed("kiosk", &SigningKey::from_bytes(&[1; 32]));
        assert_eq!(opened(&bytes, "kiosk", &key), Ok(report()));
        assert!(matches!(opened(&bytes, "other", &key), Err(ReportRefused::OtherDevice { .. })));
        let (forged, other_key) = sealed("kiosk", &SigningKey::from_bytes(&[2; 32]));
        assert_eq!(opened(&forged, "kiosk", &key), Err(ReportRefused::Envelope(EnvelopeRefused::BadSignature)));
        assert_eq!(opened(&bytes, "kiosk", &other_key), Err(ReportRefused::Envelope(EnvelopeRefused::BadSignature)));
        let mut changed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let mut payload = STANDARD.decode(changed["payload"].as_str().unwrap()).unwrap();
        payload[0] ^= 1;
        changed["payload"] = STANDARD.encode(payload).into();
        let changed = serde_json::to_vec(&changed).unwrap();
        assert_eq!(opened(&changed, "kiosk", &key), Err(ReportRefused::Envelope(EnvelopeRefused::BadSignature)));
        assert!(opened(b"{}", "kiosk", &key).is_err());
    }

    #[test]
    fn a_key_in_hardware_signs_as_well() {
        let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let public = p256::pkcs8::EncodePublicKey::to_public_key_der(key.verifying_key()).unwrap();
        let sign = |bytes: &[u8]| {
            let signature: p256::ecdsa::Signature = key.sign(bytes);
            Ok::<_, serde_json::Error>(signature.to_der().as_bytes().to_vec())
        };
        let envelope = seal(&"acme".parse().unwrap(), &"kiosk".parse().unwrap(), report(), public.as_bytes(), sign).unwrap();
        let bytes = serde_json::to_vec(&envelope).unwrap();
        assert_eq!(opened(&bytes, "kiosk", &Digest::sha256(public.as_bytes())), Ok(report()));
    }
}
