//! A device's key: ed25519 or P-256, in a file or in a PKCS#11 module. One key is the certificate, the identity in the swarm and
//! the signature of reports.
//!
//! Not here: what a module does, see [`super::pkcs11`]; what is signed.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use protocol::name::NodeId;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SignatureAlgorithm};
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::identity::node_id;
use super::tls::PROVIDER;
use crate::files;

/// The file of a key in a device's data directory.
pub const KEY_FILE: &str = "device.key";

/// A kind of key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyType {
    /// Ed25519 (RFC 8032).
    #[default]
    Ed25519,
    /// ECDSA with P-256 and SHA-256 (FIPS 186-5).
    P256,
}

impl KeyType {
    const fn scheme(self) -> SignatureScheme {
        match self {
            Self::Ed25519 => SignatureScheme::ED25519,
            Self::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        }
    }

    const fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::Ed25519 => &PKCS_ED25519,
            Self::P256 => &PKCS_ECDSA_P256_SHA256,
        }
    }

    /// Bytes of the bare public key, which end its SubjectPublicKeyInfo (RFC 8410 §4, RFC 5480 §2.2).
    const fn point_bytes(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::P256 => 65,
        }
    }
}

/// A device's private key, or the way to it.
#[derive(Clone, Debug)]
pub struct DeviceKey {
    kind: KeyType,
    signing: Arc<dyn SigningKey>,
    public: Vec<u8>,
}

impl DeviceKey {
    /// The key whose public part is `public`, as SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// When that is too short.
    pub(super) fn new(kind: KeyType, signing: Arc<dyn SigningKey>, public: Vec<u8>) -> anyhow::Result<Self> {
        if public.len() <= kind.point_bytes() {
            bail!("the public key has {} bytes, too few", public.len());
        }
        Ok(Self { kind, signing, public })
    }

    /// The key in the PEM file `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is of another kind.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let pem = files::read_text(path)?;
        let pair = KeyPair::from_pem(&pem).with_context(|| format!("{} is broken", path.display()))?;
        let kind = [KeyType::Ed25519, KeyType::P256].into_iter().find(|kind| pair.is_compatible(kind.algorithm()));
        let kind = kind.with_context(|| format!("{} is neither an ed25519 nor a P-256 key", path.display()))?;
        let signing = PROVIDER.key_provider.load_private_key(PrivateKeyDer::from_pem_slice(pem.as_bytes())?)?;
        Self::new(kind, signing, pair.subject_public_key_info())
    }

    /// A new key of this kind in the new file `path`, mode 0600.
    ///
    /// # Errors
    /// When there is such a file, or it cannot be written.
    pub fn create(path: &Path, kind: KeyType) -> anyhow::Result<Self> {
        let pair = KeyPair::generate_for(kind.algorithm()).context("making the device key")?;
        files::write_new(path, pair.serialize_pem().as_bytes(), files::Access::Private)?;
        Self::load(path)
    }

    /// The device's place in the swarm.
    pub fn node_id(&self) -> NodeId {
        node_id(&self.public)
    }

    /// Signs `message`: an ed25519 signature of 64 bytes, or an ECDSA signature over its SHA-256 in DER.
    ///
    /// It may take long when hardware signs; where that happens, the async runtime is told.
    ///
    /// # Errors
    /// When the module that has the key does not answer.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let signer = self.signing.choose_scheme(&[self.kind.scheme()]).context("the device key cannot sign")?;
        signer.sign(message).map_err(|error| anyhow!("the device key did not sign: {error}"))
    }

    /// What signs in TLS handshakes.
    pub(super) fn tls(&self) -> Arc<dyn SigningKey> {
        self.signing.clone()
    }
}

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public[self.public.len() - self.kind.point_bytes()..]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.kind.algorithm()
    }
}

impl rcgen::SigningKey for DeviceKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ca::{CertificateAuthority, certificate_request};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_of_both_kinds_are_private_files_and_sign_requests() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::create(dir.path(), "ca").unwrap();
        for (kind, file) in [(KeyType::Ed25519, "a.key"), (KeyType::P256, "b.key")] {
            let path = dir.path().join(file);
            let key = DeviceKey::create(&path, kind).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(DeviceKey::load(&path).unwrap().node_id(), key.node_id());
            assert!(DeviceKey::create(&path, kind).is_err(), "keys are never overwritten");
            let request = certificate_request(&key).unwrap();
            let issued = ca.issue_leaf(&request, &"acme".parse().unwrap(), &"d1".parse().unwrap(), 60).unwrap();
            assert_eq!(issued.leaf.identity.node, key.node_id());
        }
    }
}
