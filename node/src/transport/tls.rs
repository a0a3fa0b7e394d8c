//! TLS configurations. Resumption and 0-RTT are off everywhere that a client certificate matters, because a resumed
//! connection skips the verifier.
//!
//! Not here: who may do what over a connection.

use std::sync::{Arc, LazyLock};

use anyhow::Context;
use protocol::digest::Digest;
use protocol::name::OrgName;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::ca::single_certificate;
use super::certificate::CurrentCertificate;
use super::identity::DeviceIdentity;

/// AES-128-GCM first, which is the cheapest on CPUs with AES instructions; ChaCha20 for those without.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites: suites, ..aws_lc_rs::default_provider() })
});

/// A device's certificate, key and the CA that it trusts.
pub struct DeviceCredentials {
    /// What the certificate says.
    pub identity: DeviceIdentity,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    authority: CertificateDer<'static>,
}

impl DeviceCredentials {
    /// Reads credentials from PEM texts.
    ///
    /// # Errors
    /// When one is broken, or the certificate names no device.
    pub fn from_pem(certificate: &str, key: &str, authority: &str) -> anyhow::Result<Self> {
        let certificate = single_certificate(certificate).context("the device certificate")?;
        let identity = DeviceIdentity::from_certificate(&certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("the device key cannot be read")?;
        Ok(Self { identity, certificate, key, authority: single_certificate(authority).context("the CA certificate")? })
    }

    fn roots(&self) -> anyhow::Result<Arc<RootCertStore>> {
        roots(&self.authority)
    }

    /// What a device uses towards its seed.
    ///
    /// # Errors
    /// When key and certificate do not fit together.
    pub fn seed_client(&self) -> anyhow::Result<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// What a device uses towards a peer that it dials.
    ///
    /// # Errors
    /// When key and certificate do not fit together.
    pub fn peer_client(&self, alpn: &[u8]) -> anyhow::Result<ClientConfig> {
        let inner = rustls::client::WebPkiServerVerifier::builder_with_provider(self.roots()?, PROVIDER.clone()).build()?;
        let verifier = SameOrg { org: self.identity.org.clone(), inner };
        let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    /// What a device uses towards peers that dial it.
    ///
    /// # Errors
    /// When key and certificate do not fit together.
    pub fn peer_server(&self, alpn: &[u8]) -> anyhow::Result<ServerConfig> {
        let inner = WebPkiClientVerifier::builder_with_provider(self.roots()?, PROVIDER.clone()).build()?;
        let verifier = SameOrg { org: self.identity.org.clone(), inner };
        let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        without_resumption(&mut config);
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

/// The seed's listener for devices: a client certificate of the device CA is checked if one is given, and every route but
/// enrolment demands it.
///
/// # Errors
/// When the CA's certificate cannot be trusted.
pub fn device_listener(certificate: Arc<CurrentCertificate>, authority: &CertificateDer<'static>) -> anyhow::Result<ServerConfig> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority)?, PROVIDER.clone()).allow_unauthenticated().build()?;
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    without_resumption(&mut config);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The seed's listener for registry and API. TLS 1.2 is on for clients of the field that lack 1.3.
///
/// # Errors
/// Never with the fixed protocol versions.
pub fn public_listener(certificate: Arc<CurrentCertificate>) -> anyhow::Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What a device uses towards a seed of which it knows only the CA's fingerprint, from its token.
///
/// # Errors
/// Never with the fixed protocol versions.
pub fn enrolling_client(authority_sha256: Digest) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority { authority_sha256 }))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What an operator's command uses towards a seed whose CA certificates, one or more, it was given.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn operator_client(authorities_pem: &str) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities_pem.as_bytes()) {
        roots.add(authority.context("the CA file is broken")?).context("the CA certificate cannot be trusted")?;
    }
    anyhow::ensure!(!roots.is_empty(), "the CA file holds no certificate; it must be PEM");
    let config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn roots(authority: &CertificateDer<'static>) -> anyhow::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).context("the CA certificate cannot be trusted")?;
    Ok(Arc::new(roots))
}

fn without_resumption(config: &mut ServerConfig) {
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

/// The signatures of a handshake are checked with our provider, whoever is on the other end.
macro_rules! signatures_by_provider {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &PROVIDER.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &PROVIDER.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            PROVIDER.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Lets in only devices of one organisation; the refusal is a TLS alert, before any stream exists.
#[derive(Debug)]
struct SameOrg<V: ?Sized> {
    org: OrgName,
    inner: Arc<V>,
}

impl<V: ?Sized> SameOrg<V> {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let identity = DeviceIdentity::from_certificate(certificate)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))?;
        if identity.org == self.org {
            Ok(())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }
}

impl ServerCertVerifier for SameOrg<rustls::client::WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.check(end_entity)?;
        Ok(verified)
    }

    signatures_by_provider!();
}

impl ClientCertVerifier for SameOrg<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        self.check(end_entity)?;
        Ok(verified)
    }

    signatures_by_provider!();
}

/// Trusts the CA with a known fingerprint if the server sends it along.
#[derive(Debug)]
struct PinnedAuthority {
    authority_sha256: Digest,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates.iter().find(|sent| Digest::sha256(sent) == self.authority_sha256).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned()).map_err(|_| unknown())?;
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone())
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    signatures_by_provider!();
}
