//! TLS configurations. Resumption and 0-RTT are off everywhere that a client certificate matters, because a resumed
//! connection skips the verifier.
//!
//! Not here: who may do what over a connection; which certificates are good, see [`super::verifier`]; those of a device, see
//! [`super::credentials`].

use std::sync::{Arc, LazyLock};

use anyhow::Context;
use protocol::digest::Digest;
use protocol::identity::standing::Purpose;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ResolvesServerCert;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::admission::Admission;
use super::certificate::CurrentCertificate;
use super::verifier::{ClientVerifier, PinnedAuthority};

/// AES-128-GCM first, which is the cheapest on CPUs with AES instructions; ChaCha20 for those without.
pub(super) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites: suites, ..aws_lc_rs::default_provider() })
});

/// The seed's listener for devices: a client certificate is checked if one is given, and every route but enrolment demands
/// it. One that has expired is let in, since its device may renew it; each request looks at it anew.
///
/// # Errors
/// Never with the fixed protocol versions.
pub fn device_listener(certificate: Arc<dyn ResolvesServerCert>, admission: Arc<Admission>) -> anyhow::Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier { admission, org: None, purpose: Purpose::Renewal }))
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
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority(authority_sha256)))
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

pub(super) fn without_resumption(config: &mut ServerConfig) {
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}
