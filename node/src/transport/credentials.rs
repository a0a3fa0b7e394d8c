//! A device's certificate and key, and the TLS configurations that show them. The certificate is replaced while the device
//! runs: handshakes after that show the new one, open connections go on.
//!
//! Not here: when it is replaced, see `device::renewal`; which certificates of others are good, see [`super::verifier`].

use std::sync::Arc;

use anyhow::{Context, ensure};
use protocol::identity::standing::{Purpose, Validity};
use rustls::client::Resumption;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;

use super::admission::{Admission, Anchors};
use super::ca::single_certificate;
use super::certificate::CurrentCertificate;
use super::device_key::DeviceKey;
use super::identity::DeviceIdentity;
use super::tls::{PROVIDER, without_resumption};
use super::verifier::{ClientVerifier, PeerVerifier, SeedVerifier};

/// A device's certificate and key, and whom it trusts.
#[derive(Debug)]
pub struct DeviceCredentials {
    /// What the certificate says.
    pub identity: DeviceIdentity,
    key: DeviceKey,
    leaf: Arc<CurrentCertificate>,
    admission: Arc<Admission>,
}

impl DeviceCredentials {
    /// The certificate in the PEM text `certificate`, whose key is `key`.
    ///
    /// # Errors
    /// When the text is broken, the certificate names no device, or the key is not its own.
    pub fn new(certificate: &str, key: DeviceKey, admission: Arc<Admission>) -> anyhow::Result<Self> {
        let certificate = single_certificate(certificate).context("the device certificate")?;
        let identity = DeviceIdentity::from_certificate(&certificate)?;
        ensure!(identity.node == key.node_id(), "the device certificate is of another key");
        let leaf = Arc::new(CurrentCertificate::signed_by(vec![certificate], key.tls())?);
        Ok(Self { identity, key, leaf, admission })
    }

    /// The key.
    pub const fn key(&self) -> &DeviceKey {
        &self.key
    }

    /// Whom the device trusts.
    pub const fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// When the certificate is valid.
    pub fn validity(&self) -> Validity {
        self.leaf.validity()
    }

    /// Whether the authority that was made last, of those that are trusted, signed the certificate; or cannot be looked at.
    pub fn is_of_newest_authority(&self) -> bool {
        let anchors = self.admission.anchors();
        let newest = anchors.newest().and_then(|newest| Anchors::new(vec![newest.clone()]).ok());
        let shown = self.leaf.shown();
        let Some((newest, leaf)) = newest.zip(shown.cert.first()) else { return true };
        self.admission.leaf(leaf).is_ok_and(|(_, at)| newest.clients.verify_client_cert(leaf, &[], at).is_ok())
    }

    /// Shows the certificate in the PEM text `certificate` from now on.
    ///
    /// # Errors
    /// As [`Self::check`]; then the one before is still shown.
    pub fn replace(&self, certificate: &str) -> anyhow::Result<()> {
        self.leaf.replace_chain(vec![self.check(certificate)?])
    }

    /// The certificate in the PEM text `certificate`, if this device can show it.
    ///
    /// # Errors
    /// When it is of another device or key, or not signed by an authority that this device trusts.
    pub fn check(&self, certificate: &str) -> anyhow::Result<CertificateDer<'static>> {
        let certificate = single_certificate(certificate).context("the new device certificate")?;
        ensure!(DeviceIdentity::from_certificate(&certificate)? == self.identity, "the new certificate is of another device or key");
        let (_, at) = self.admission.leaf(&certificate)?;
        let signed = self.admission.anchors().clients.verify_client_cert(&certificate, &[], at);
        signed.context("the new certificate is not signed by an authority that this device trusts")?;
        Ok(certificate)
    }

    /// What a device uses towards its seed.
    ///
    /// # Errors
    /// Never with the fixed protocol versions.
    pub fn seed_client(&self) -> anyhow::Result<ClientConfig> {
        let verifier = SeedVerifier { admission: self.admission.clone(), anchors: self.admission.anchors() };
        let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.leaf.clone());
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// What a device uses towards a peer that it dials.
    ///
    /// # Errors
    /// Never with the fixed protocol versions.
    pub fn peer_client(&self, alpn: &[u8]) -> anyhow::Result<ClientConfig> {
        let verifier = PeerVerifier { admission: self.admission.clone(), org: self.identity.org.clone() };
        let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.leaf.clone());
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    /// What a device uses towards peers that dial it and speak one of `protocols` (RFC 7301).
    ///
    /// # Errors
    /// Never with the fixed protocol versions.
    pub fn peer_server(&self, protocols: &[&[u8]]) -> anyhow::Result<ServerConfig> {
        let (admission, org) = (self.admission.clone(), Some(self.identity.org.clone()));
        let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(ClientVerifier { admission, org, purpose: Purpose::Blobs }))
            .with_cert_resolver(self.leaf.clone());
        without_resumption(&mut config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}
