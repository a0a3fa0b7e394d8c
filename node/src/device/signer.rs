//! The device's key as it signs what the device says of itself.
//!
//! Not here: where the key is, and which kinds there are; see [`crate::transport::device_key`].

use std::sync::Arc;

use protocol::envelope::Envelope;
use protocol::name::{DeviceId, OrgName};
use protocol::rollout::DeviceReport;
use protocol::rollout::signed;
use rcgen::PublicKeyData as _;

use super::state::Enrolment;
use crate::transport::credentials::DeviceCredentials;

/// Signs reports.
pub struct ReportSigner {
    org: OrgName,
    device: DeviceId,
    credentials: Arc<DeviceCredentials>,
}

impl ReportSigner {
    /// The signer of an enrolled device.
    pub fn new(enrolment: &Enrolment, credentials: Arc<DeviceCredentials>) -> Self {
        Self { org: enrolment.org.clone(), device: enrolment.device.clone(), credentials }
    }

    /// The signed envelope of a report.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn seal(&self, report: DeviceReport) -> anyhow::Result<Envelope> {
        let key = self.credentials.key();
        signed::seal(&self.org, &self.device, report, &key.subject_public_key_info(), |bytes| key.sign(bytes))
    }
}
