//! Which certificates are good in a handshake: signed by a trusted authority, of the right organisation, not revoked, and
//! good enough for what they are shown for. A refusal is a TLS alert that says which of these it was (RFC 8446 §6.2).
//!
//! | verifier | used by | towards |
//! |---|---|---|
//! | [`ClientVerifier`] | seed, device | devices that connect |
//! | [`PeerVerifier`] | device | peers that it dials |
//! | [`SeedVerifier`] | device | its seed |
//! | [`PinnedAuthority`] | device that enrols | a seed of which it knows the CA's fingerprint |
//!
//! Not here: what is trusted and revoked at a moment, see [`super::admission`]; the rules about time, see
//! [`protocol::identity::standing`].

use std::sync::Arc;

use protocol::digest::Digest;
use protocol::identity::standing::Purpose;
use protocol::name::OrgName;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::admission::{Admission, Anchors};
use super::identity;
use super::tls::PROVIDER;

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

/// Lets in devices that connect.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) admission: Arc<Admission>,
    /// The only organisation that is let in; a seed has many.
    pub(super) org: Option<OrgName>,
    /// The least that a certificate must be good for.
    pub(super) purpose: Purpose,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.org.is_some()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let (leaf, at) = self.admission.leaf(end_entity)?;
        let verified = self.admission.anchors().clients.verify_client_cert(end_entity, intermediates, at)?;
        self.admission.check(&leaf, self.org.as_ref(), self.purpose)?;
        Ok(verified)
    }

    signatures_by_provider!();
}

/// Checks a peer that is dialled.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    pub(super) admission: Arc<Admission>,
    pub(super) org: OrgName,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (leaf, at) = self.admission.leaf(end_entity)?;
        let verified = self.admission.anchors().servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)?;
        self.admission.check(&leaf, Some(&self.org), Purpose::Blobs)?;
        Ok(verified)
    }

    signatures_by_provider!();
}

/// Checks the seed, and tells it which authorities are trusted, so that it can choose between certificates of two. At which
/// moment the certificate is judged, [`protocol::time::floor`] decides: the seed is where a device learns the time.
#[derive(Debug)]
pub(super) struct SeedVerifier {
    pub(super) admission: Arc<Admission>,
    pub(super) anchors: Arc<Anchors>,
}

impl ServerCertVerifier for SeedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (_, parsed) = x509_parser::parse_x509_certificate(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let now = self.admission.clock().seed_certificate_at(identity::validity(&parsed));
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_unix_seconds()));
        self.anchors.servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.anchors.subjects)
    }

    signatures_by_provider!();
}

/// Trusts the CA with a known fingerprint if the server sends it along.
#[derive(Debug)]
pub(super) struct PinnedAuthority(pub(super) Digest);

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
        let authority = intermediates.iter().find(|sent| Digest::sha256(sent) == self.0).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned()).map_err(|_| unknown())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), PROVIDER.clone()).build().map_err(|_| unknown())?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    signatures_by_provider!();
}
