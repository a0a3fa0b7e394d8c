//! The identity in a device certificate: SAN URI `spiffe://hedgerow/org/<org>/device/<id>` and one DNS name common to all
//! leaves, which TLS libraries can check (SPIFFE X.509-SVID §2).
//!
//! Not here: whether the certificate is signed by the right CA; TLS checks that first.

use protocol::digest::Digest;
use protocol::identity::standing::Validity;
use protocol::name::{DeviceId, NodeId, OrgName};
use protocol::time::WallTime;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The DNS name that every device leaf carries.
pub const DEVICE_DNS_NAME: &str = "device.hedgerow.internal";

const URI_PREFIX: &str = "spiffe://hedgerow/org/";

/// A device as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceIdentity {
    /// Its organisation.
    pub org: OrgName,
    /// Its name.
    pub device: DeviceId,
    /// Its place in the swarm: the SHA-256 of its public key.
    pub node: NodeId,
}

/// What a device's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLeaf {
    /// Whose it is.
    pub identity: DeviceIdentity,
    /// When it is valid.
    pub validity: Validity,
    /// The certificate itself: what is believed of it may change while a connection is open.
    pub certificate: CertificateDer<'static>,
}

/// Why a certificate names no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityRefused {
    /// The bytes are no X.509 certificate.
    #[error("the peer's certificate cannot be read")]
    Malformed,
    /// There is not exactly one device URI in it.
    #[error("the peer's certificate names no device")]
    NoDevice,
}

impl DeviceLeaf {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When the bytes are no certificate, or it names no device.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityRefused> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityRefused::Malformed)?;
        let shown = CertificateDer::from(der.to_vec());
        Ok(Self { identity: DeviceIdentity::of(&certificate)?, validity: validity(&certificate), certificate: shown })
    }
}

impl DeviceIdentity {
    /// Reads the identity from a certificate in DER.
    ///
    /// # Errors
    /// When the bytes are no certificate, or it names no device.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityRefused> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityRefused::Malformed)?;
        Self::of(&certificate)
    }

    fn of(certificate: &X509Certificate<'_>) -> Result<Self, IdentityRefused> {
        let names = certificate.subject_alternative_name().map_err(|_| IdentityRefused::Malformed)?.ok_or(IdentityRefused::NoDevice)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(IdentityRefused::NoDevice) };
        let (org, device) = uri.strip_prefix(URI_PREFIX).and_then(|rest| rest.split_once("/device/")).ok_or(IdentityRefused::NoDevice)?;
        Ok(Self {
            org: org.parse().map_err(|_| IdentityRefused::NoDevice)?,
            device: device.parse().map_err(|_| IdentityRefused::NoDevice)?,
            node: node_id(certificate.public_key().raw),
        })
    }

    /// The SAN URI of this identity.
    pub fn uri(org: &OrgName, device: &DeviceId) -> String {
        format!("{URI_PREFIX}{org}/device/{device}")
    }
}

/// When a certificate is valid.
pub(super) fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let moment = |time: x509_parser::time::ASN1Time| WallTime::from_unix_seconds(u64::try_from(time.timestamp()).unwrap_or(0));
    Validity { from: moment(certificate.validity().not_before), until: moment(certificate.validity().not_after) }
}

/// The swarm identity of a public key, given as SubjectPublicKeyInfo in DER.
pub fn node_id(public_key: &[u8]) -> NodeId {
    let mut id = [0; 32];
    id.copy_from_slice(Digest::sha256(public_key).as_bytes());
    NodeId(id)
}
