//! The certificate that a listener shows, which can be replaced while it listens: handshakes after that show the new one,
//! open connections go on.
//!
//! Not here: when it is replaced; see `seed::certificates`.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, bail};
use protocol::identity::standing::Validity;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::ca::ServerCertificate;
use super::identity;
use crate::config::seed::TlsFiles;
use crate::files;

/// The largest file of certificates or of a key, in bytes: a chain of RSA certificates has some 10 KiB.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The certificate that a listener shows.
#[derive(Debug)]
pub struct CurrentCertificate(RwLock<(Arc<CertifiedKey>, Validity)>);

impl CurrentCertificate {
    /// Shows `certificate`.
    ///
    /// # Errors
    /// When its key is of an unknown kind or does not fit it, or it cannot be parsed.
    pub fn new(certificate: ServerCertificate) -> anyhow::Result<Self> {
        Ok(Self(RwLock::new(prepared(certificate)?)))
    }

    /// Shows `chain`, whose key somebody else holds.
    ///
    /// # Errors
    /// When the key does not fit the chain, or it cannot be parsed.
    pub fn signed_by(chain: Vec<CertificateDer<'static>>, key: Arc<dyn SigningKey>) -> anyhow::Result<Self> {
        Ok(Self(RwLock::new(fitting(CertifiedKey::new(chain, key))?)))
    }

    /// Shows `chain` from now on, with the same key as before.
    ///
    /// # Errors
    /// As [`Self::signed_by`]; then the one before is still shown.
    pub fn replace_chain(&self, chain: Vec<CertificateDer<'static>>) -> anyhow::Result<()> {
        let key = self.shown().key.clone();
        let new = fitting(CertifiedKey::new(chain, key))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Shows `certificate` from now on.
    ///
    /// # Errors
    /// As [`Self::new`]; then the one before is still shown.
    pub fn replace(&self, certificate: ServerCertificate) -> anyhow::Result<()> {
        let new = prepared(certificate)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// What is shown.
    pub(super) fn shown(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// When what is shown is valid.
    pub fn validity(&self) -> Validity {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Whether a client that asked for `host`, a name or an address, takes what is shown for that host's.
    pub fn names(&self, host: &str) -> bool {
        let shown = self.shown();
        let leaf = shown.end_entity_cert().ok().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        match (leaf, ServerName::try_from(host)) {
            (Some(leaf), Ok(host)) => rustls::client::verify_server_name(&leaf, &host).is_ok(),
            _ => false,
        }
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }
}

impl ResolvesClientCert for CurrentCertificate {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ServerCertificate {
    /// Reads a chain and its key.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, or the key does not fit the certificate; with what to do.
    pub fn read(files: &TlsFiles) -> anyhow::Result<Self> {
        let (certificate, key) = (files.certificate.display(), files.key.display());
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&files::read_small(&files.certificate, PEM_BYTES_MAX)?).collect();
        let chain = chain.with_context(|| format!("{certificate} is no PEM file; convert it, for example with `openssl x509`"))?;
        if chain.is_empty() {
            bail!("{certificate} holds no certificate; it must be PEM: the server's certificate, then those between it and its CA");
        }
        let key = match PrivateKeyDer::from_pem_slice(&files::read_small(&files.key, PEM_BYTES_MAX)?) {
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) => {
                bail!("{key} holds no private key; it must be PEM (PKCS #8, SEC 1 or PKCS #1) without a passphrase")
            }
            Err(error) => bail!("{key} is no PEM file: {error}"),
        };
        let read = Self { chain, key };
        prepared(Self { chain: read.chain.clone(), key: read.key.clone_key() }).with_context(|| {
            format!(
                "{certificate} and {} do not fit together; both must come from the same issue, the server's certificate first",
                files.key.display()
            )
        })?;
        Ok(read)
    }
}

fn prepared(certificate: ServerCertificate) -> anyhow::Result<(Arc<CertifiedKey>, Validity)> {
    let leaf = certificate.chain.first().context("there is no certificate")?;
    let validity = validity(leaf)?;
    let key = CertifiedKey::from_der(certificate.chain, certificate.key, &aws_lc_rs::default_provider())?;
    Ok((Arc::new(key), validity))
}

fn fitting(certified: CertifiedKey) -> anyhow::Result<(Arc<CertifiedKey>, Validity)> {
    certified.keys_match().context("certificate and key do not fit together")?;
    let validity = validity(certified.end_entity_cert()?)?;
    Ok((Arc::new(certified), validity))
}

fn validity(certificate: &CertificateDer<'_>) -> anyhow::Result<Validity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).context("the certificate cannot be parsed")?;
    Ok(identity::validity(&parsed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::ca::CertificateAuthority;
    use rcgen::{CertificateParams, KeyPair};
    use std::path::Path;

    fn write(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn files_are_refused_with_the_one_that_is_wrong_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let [key, other] = [(); 2].map(|()| KeyPair::generate().unwrap());
        let certificate = CertificateParams::new(vec!["seed.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let good = write(dir.path(), "tls.pem", &certificate.pem());
        let good_key = write(dir.path(), "tls.key", &key.serialize_pem());
        let other_key = write(dir.path(), "other.key", &other.serialize_pem());
        let (empty, missing) = (write(dir.path(), "empty", ""), dir.path().join("missing"));
        let read = |certificate: &Path, key: &Path| ServerCertificate::read(&TlsFiles { certificate: certificate.into(), key: key.into() });

        let shown = CurrentCertificate::new(read(&good, &good_key).unwrap()).unwrap();
        assert!(shown.names("seed.example") && !shown.names("other.example") && !shown.names("10.0.0.1"));
        for (certificate, key, wrong, advice) in [
            (&good, &other_key, "other.key", "same issue"),
            (&good_key, &good_key, "tls.key", "holds no certificate"),
            (&good, &good, "tls.pem", "without a passphrase"),
            (&empty, &good_key, "empty", "must be PEM"),
            (&good, &missing, "missing", "No such file"),
        ] {
            let refused = format!("{:#}", read(certificate, key).unwrap_err());
            assert!(refused.contains(wrong) && refused.contains(advice), "{refused}");
        }
    }

    #[test]
    fn what_is_shown_is_replaced_and_its_validity_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::create(dir.path(), "ca").unwrap();
        let shown = CurrentCertificate::new(ca.issue_server(&["one.example".to_owned()]).unwrap()).unwrap();
        let lifetime = shown.validity().until.as_unix_seconds() - shown.validity().from.as_unix_seconds();
        assert_eq!(lifetime, (2 * 365 * 24 + 1) * 60 * 60);
        shown.replace(ca.issue_server(&["two.example".to_owned()]).unwrap()).unwrap();
        assert!(shown.names("two.example") && !shown.names("one.example"));
    }
}
