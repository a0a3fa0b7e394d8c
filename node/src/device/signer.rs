//! The device's key as it signs what the device says of itself.
//!
//! Not here: TLS, which has the key for itself; see `transport::tls`.

use anyhow::Context;
use protocol::envelope::Envelope;
use protocol::name::{DeviceId, OrgName};
use protocol::rollout::DeviceReport;
use protocol::rollout::signed;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

use super::state::DeviceDir;
use crate::files;

/// Signs reports.
pub struct ReportSigner {
    org: OrgName,
    device: DeviceId,
    key: KeyPair,
    public_key: Vec<u8>,
}

impl ReportSigner {
    /// The signer of the device in `dir`.
    ///
    /// # Errors
    /// When its key cannot be read.
    pub fn open(dir: &DeviceDir, org: &OrgName, device: &DeviceId) -> anyhow::Result<Self> {
        let path = dir.join("device.key");
        let key = KeyPair::from_pem(&files::read_text(&path)?).with_context(|| format!("{} is broken", path.display()))?;
        let public_key = key.subject_public_key_info();
        Ok(Self { org: org.clone(), device: device.clone(), key, public_key })
    }

    /// The signed envelope of a report.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn seal(&self, report: DeviceReport) -> anyhow::Result<Envelope> {
        signed::seal(&self.org, &self.device, report, &self.public_key, |bytes| Ok::<_, anyhow::Error>(self.key.sign(bytes)?))
    }
}
