//! What a node believes of certificates at a moment: the authorities that it trusts, the keys that are revoked, and the time.
//! All its TLS configurations share it, so that a change counts from the next handshake on; who has connections open is told
//! of new revocations.
//!
//! Not here: the checks of a handshake, see [`super::verifier`]; where revocations come from, see `seed::revocation` and
//! `device::identity`.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use protocol::digest::Digest;
use protocol::identity::standing::{Purpose, Standing};
use protocol::name::{NodeId, OrgName};
use rustls::client::WebPkiServerVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, DistinguishedName, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use super::identity::{DeviceIdentity, DeviceLeaf};
use super::tls::PROVIDER;
use crate::clock::TrustedClock;

/// The authorities that are trusted.
#[derive(Debug)]
pub struct Anchors {
    certificates: Vec<CertificateDer<'static>>,
    pub(super) subjects: Vec<DistinguishedName>,
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) servers: Arc<WebPkiServerVerifier>,
}

impl Anchors {
    /// These authorities and no others.
    ///
    /// # Errors
    /// When there is none, or one is no certificate of an authority.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> anyhow::Result<Self> {
        ensure!(!certificates.is_empty(), "there is no CA certificate to trust");
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).context("the CA certificate cannot be trusted")?;
        }
        let (subjects, roots) = (roots.subjects(), Arc::new(roots));
        Ok(Self {
            certificates,
            subjects,
            clients: WebPkiClientVerifier::builder_with_provider(roots.clone(), PROVIDER.clone()).build()?,
            servers: WebPkiServerVerifier::builder_with_provider(roots, PROVIDER.clone()).build()?,
        })
    }

    /// SHA-256 of each certificate.
    pub fn fingerprints(&self) -> Vec<Digest> {
        self.certificates.iter().map(|certificate| Digest::sha256(certificate)).collect()
    }

    /// The authority that was made last.
    pub fn newest(&self) -> Option<&CertificateDer<'static>> {
        let made = |certificate: &&CertificateDer<'static>| {
            x509_parser::parse_x509_certificate(certificate).ok().map(|(_, parsed)| parsed.validity().not_before.timestamp())
        };
        self.certificates.iter().max_by_key(made)
    }

    /// The authorities' certificates.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

/// What a node believes of certificates; see the module.
#[derive(Debug)]
pub struct Admission {
    anchors: RwLock<Arc<Anchors>>,
    revoked: RwLock<BTreeSet<NodeId>>,
    changed: watch::Sender<()>,
    clock: Arc<TrustedClock>,
}

impl Admission {
    /// Trusts `anchors`, by `clock`; nothing is revoked yet.
    pub fn new(anchors: Anchors, clock: Arc<TrustedClock>) -> Self {
        let changed = watch::Sender::new(());
        Self { anchors: RwLock::new(Arc::new(anchors)), revoked: RwLock::default(), changed, clock }
    }

    /// What is trusted now.
    pub fn anchors(&self) -> Arc<Anchors> {
        self.anchors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Trusts `anchors` instead of those before; whoever watches is told.
    pub fn trust(&self, anchors: Anchors) {
        *self.anchors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(anchors);
        self.changed.send_replace(());
    }

    /// The clock.
    pub const fn clock(&self) -> &Arc<TrustedClock> {
        &self.clock
    }

    /// Revokes `keys` and no others, each the SHA-256 of a device's key; whoever watches is told.
    pub fn revoke(&self, keys: impl IntoIterator<Item = Digest>) {
        let nodes = keys.into_iter().filter_map(|key| key.as_bytes().try_into().ok().map(NodeId)).collect();
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = nodes;
        self.changed.send_replace(());
    }

    /// Revokes one more key.
    pub fn revoke_also(&self, key: &Digest) {
        if let Ok(node) = key.as_bytes().try_into() {
            self.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(NodeId(node));
            self.changed.send_replace(());
        }
    }

    /// Whether the key of `node` is revoked.
    pub fn is_revoked(&self, node: &NodeId) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(node)
    }

    /// Ends when a device would not be let in any more that was let in under the authorities `vouched`: its key is revoked, or
    /// other authorities are trusted, none of which signed its certificate. That its time ends is looked at with each request.
    /// Which of the two it was, in a word.
    pub async fn exclusion_of(&self, leaf: &DeviceLeaf, mut vouched: Arc<Anchors>) -> &'static str {
        let mut changed = self.changed.subscribe();
        loop {
            let anchors = self.anchors();
            if self.is_revoked(&leaf.identity.node) {
                return "revoked";
            }
            if !Arc::ptr_eq(&anchors, &vouched) && !self.is_signed_by(&anchors, leaf) {
                return "authority_removed";
            }
            vouched = anchors;
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn is_signed_by(&self, anchors: &Anchors, leaf: &DeviceLeaf) -> bool {
        anchors.clients.verify_client_cert(&leaf.certificate, &[], self.moment(leaf)).is_ok()
    }

    /// Is told of every change of what is trusted and revoked.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Why a certificate is not good for `purpose` now, if it is not. Its signature has been checked.
    ///
    /// # Errors
    /// With the reason, which becomes an alert.
    pub fn refusal(&self, leaf: &DeviceLeaf, purpose: Purpose) -> Result<(), CertificateError> {
        if self.is_revoked(&leaf.identity.node) {
            return Err(CertificateError::Revoked);
        }
        match Standing::of(leaf.validity, self.clock.read()) {
            standing if standing.allows(purpose) => Ok(()),
            Standing::Early => Err(CertificateError::NotValidYet),
            Standing::Valid | Standing::Grace | Standing::Over => Err(CertificateError::Expired),
        }
    }

    /// Whether a device's certificate, which was accepted once, would still be accepted for `purpose`: its authority may have
    /// been removed, its key revoked, or its time have ended since.
    ///
    /// # Errors
    /// With the reason why it would not.
    pub fn still_admits(&self, certificate: &CertificateDer<'_>, purpose: Purpose) -> Result<(), rustls::Error> {
        let (leaf, at) = self.leaf(certificate)?;
        self.anchors().clients.verify_client_cert(certificate, &[], at)?;
        self.refusal(&leaf, purpose).map_err(rustls::Error::from)
    }

    /// Reads a leaf, and says at which moment its signatures are to be checked: now, or at the end of its life that is nearest
    /// to now. Whether it is still good for something is checked after.
    pub(super) fn leaf(&self, certificate: &CertificateDer<'_>) -> Result<(DeviceLeaf, UnixTime), rustls::Error> {
        let leaf = DeviceLeaf::from_certificate(certificate).map_err(|_| CertificateError::ApplicationVerificationFailure)?;
        let at = self.moment(&leaf);
        Ok((leaf, at))
    }

    fn moment(&self, leaf: &DeviceLeaf) -> UnixTime {
        let at = self.clock.read().now.min(leaf.validity.until).max(leaf.validity.from);
        UnixTime::since_unix_epoch(Duration::from_secs(at.as_unix_seconds()))
    }

    /// Refuses what is of another organisation, revoked, or not good for `purpose`; a refused device of the own organisation
    /// is logged, since its operator has to know.
    pub(super) fn check(&self, leaf: &DeviceLeaf, org: Option<&OrgName>, purpose: Purpose) -> Result<(), rustls::Error> {
        if org.is_some_and(|org| *org != leaf.identity.org) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        self.refusal(leaf, purpose).map_err(|reason| {
            let DeviceIdentity { org, device, node } = &leaf.identity;
            tracing::warn!(event = "device_refused", %org, %device, %node, ?reason, "the certificate of a device was refused");
            reason.into()
        })
    }
}
