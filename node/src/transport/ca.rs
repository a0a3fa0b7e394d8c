//! The certificate authority of a seed store: one P-256 key that signs the server certificates of both listeners and the
//! device leaves.
//!
//! Not here: who may get a leaf; see `seed::enrolment`.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail};
use protocol::name::{DeviceId, OrgName};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, SigningKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use super::identity::{DEVICE_DNS_NAME, DeviceIdentity, DeviceLeaf, node_id};
use crate::files;

/// The CA itself outlives every device in the field; it is replaced by rotation, not by expiry.
const CA_DAYS: i64 = 365 * 20;
/// Server certificates are made anew with every start of the seed.
const SERVER_DAYS: i64 = 365 * 2;
/// Certificates start this long before they are made, for clocks that are behind; shorter ones a part of their life.
const BACKDATE: Duration = Duration::hours(1);
const BACKDATE_PART: i32 = 24;

/// The CA with its key.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// The leaf, then the CA, so that a device that knows only the CA's fingerprint can check it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// A signed device leaf.
#[derive(Clone, Debug)]
pub struct IssuedLeaf {
    /// The certificate, PEM.
    pub pem: String,
    /// What it says.
    pub leaf: DeviceLeaf,
}

impl CertificateAuthority {
    /// Makes a new CA and keeps it in `dir` as `NAME.key` (0600) and `NAME.pem`. Its subject is like no other's, so that who
    /// knows several can say which it means.
    ///
    /// # Errors
    /// When there is one of that name already, or the files cannot be written.
    pub fn create(dir: &Path, file: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the CA key")?;
        let mut params = validity(CertificateParams::default(), Duration::days(CA_DAYS));
        params.distinguished_name = name(&format!("Hedgerow seed CA {}", key_node_id(&key)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let pem = params.self_signed(&key).context("signing the CA certificate")?.pem();
        files::write_new(&dir.join(format!("{file}.key")), key.serialize_pem().as_bytes(), files::Access::Private)?;
        files::write_new(&dir.join(format!("{file}.pem")), pem.as_bytes(), files::Access::Public)?;
        Self::load(dir, file)
    }

    /// Loads the CA that [`Self::create`] made in `dir`.
    ///
    /// # Errors
    /// When the files are missing or broken.
    pub fn load(dir: &Path, file: &str) -> anyhow::Result<Self> {
        let key = files::read_text(&dir.join(format!("{file}.key")))?;
        let pem = files::read_text(&dir.join(format!("{file}.pem")))?;
        let key = KeyPair::from_pem(&key).with_context(|| format!("reading the CA key in {}", dir.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).with_context(|| format!("reading the CA certificate in {}", dir.display()))?;
        let certificate = single_certificate(&pem)?;
        Ok(Self { issuer, certificate, pem })
    }

    /// The CA's certificate, DER.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The CA's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a server certificate for `hosts`, which are DNS names or IP addresses.
    ///
    /// # Errors
    /// When a host is neither.
    pub fn issue_server(&self, hosts: &[String]) -> anyhow::Result<ServerCertificate> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the server key")?;
        let mut params = validity(CertificateParams::default(), Duration::days(SERVER_DAYS));
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => {
                    SanType::DnsName(Ia5String::try_from(host.as_str()).with_context(|| format!("{host:?} cannot stand in a certificate"))?)
                }
            });
        }
        params.distinguished_name = name("Hedgerow seed");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).context("signing the server certificate")?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(ServerCertificate { chain: vec![leaf.der().clone(), self.certificate.clone()], key })
    }

    /// Signs the leaf of a device for `seconds`: its request proves that it has the key, everything else in it is ignored.
    ///
    /// # Errors
    /// When the request is broken, or not signed by its own key.
    pub fn issue_leaf(&self, request_pem: &str, org: &OrgName, device: &DeviceId, seconds: u64) -> anyhow::Result<IssuedLeaf> {
        let mut request = CertificateSigningRequestParams::from_pem(request_pem)
            .context("the certificate request cannot be read, or is not signed by its own key")?;
        let mut params = validity(CertificateParams::default(), Duration::seconds(i64::try_from(seconds)?));
        let uri = DeviceIdentity::uri(org, device);
        params.subject_alt_names = vec![
            SanType::URI(Ia5String::try_from(uri).context("device and organisation names are ASCII")?),
            SanType::DnsName(Ia5String::try_from(DEVICE_DNS_NAME).context("the common device name is ASCII")?),
        ];
        params.distinguished_name = name(device.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).context("no random bytes from the system")?;
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        request.params = params;
        let certificate = request.signed_by(&self.issuer).context("signing the device certificate")?;
        let leaf = DeviceLeaf::from_certificate(certificate.der())?;
        Ok(IssuedLeaf { pem: certificate.pem(), leaf })
    }
}

/// Makes a certificate request for `key`.
///
/// # Errors
/// When the key cannot sign.
pub fn certificate_request(key: &impl SigningKey) -> anyhow::Result<String> {
    let params = CertificateParams::default();
    params.serialize_request(key).and_then(|request| request.pem()).context("making the certificate request")
}

/// The swarm identity of a key pair.
pub fn key_node_id(key: &KeyPair) -> protocol::name::NodeId {
    use rcgen::PublicKeyData as _;
    node_id(&key.subject_public_key_info())
}

/// The one certificate in a PEM text.
///
/// # Errors
/// When there is none, or more than one.
pub fn single_certificate(pem: &str) -> anyhow::Result<CertificateDer<'static>> {
    use rustls_pki_types::pem::PemObject as _;
    let mut found = CertificateDer::pem_slice_iter(pem.as_bytes());
    let certificate = found.next().context("there is no certificate in the PEM text")?.context("the PEM text is broken")?;
    if found.next().is_some() {
        bail!("there is more than one certificate in the PEM text");
    }
    Ok(certificate)
}

fn validity(mut params: CertificateParams, life: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE.min(life / BACKDATE_PART);
    params.not_after = now + life;
    params.use_authority_key_identifier_extension = true;
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_names_the_device_and_not_what_the_request_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::create(dir.path(), "ca").unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(vec!["seed.example".to_owned()]).unwrap();
        params.is_ca = IsCa::NoCa;
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let leaf = ca.issue_leaf(&request, &"acme".parse().unwrap(), &"d1".parse().unwrap(), 60).unwrap();
        assert_eq!((leaf.leaf.identity.org.as_str(), leaf.leaf.identity.device.as_str()), ("acme", "d1"));
        assert_eq!(leaf.leaf.identity.node, key_node_id(&key));
        let der = single_certificate(&leaf.pem).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len();
        assert_eq!(names, 2);
    }

    #[test]
    fn a_second_ca_does_not_overwrite_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = CertificateAuthority::create(dir.path(), "ca").unwrap();
        assert!(CertificateAuthority::create(dir.path(), "ca").is_err());
        assert_eq!(CertificateAuthority::load(dir.path(), "ca").unwrap().pem(), first.pem());
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::create(dir.path(), "ca").unwrap();
        let issue = |request: &str| ca.issue_leaf(request, &"acme".parse().unwrap(), &"d1".parse().unwrap(), 60);
        assert!(issue("nonsense").is_err());
        for algorithm in [&rcgen::PKCS_ED25519, &PKCS_ECDSA_P256_SHA256] {
            let [key, other] = [(); 2].map(|()| KeyPair::generate_for(algorithm).unwrap());
            let [own, foreign] = [&key, &other].map(|key| pem_bytes(&certificate_request(key).unwrap()));
            issue(&certificate_request(&key).unwrap()).unwrap();
            // The request of one key with the signature of the other: both are as long as their encodings say.
            let mixed = [&own[..own.len() - 64], &foreign[foreign.len() - 64..]].concat();
            assert!(issue(&pem_text(&mixed)).is_err());
        }
    }

    fn pem_bytes(request: &str) -> Vec<u8> {
        use rustls_pki_types::CertificateSigningRequestDer;
        use rustls_pki_types::pem::PemObject as _;
        CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap().to_vec()
    }

    fn pem_text(der: &[u8]) -> String {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    }

    #[test]
    fn a_leaf_lives_for_as_long_as_it_is_said_to_and_begins_a_little_earlier() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::create(dir.path(), "ca").unwrap();
        let request = certificate_request(&KeyPair::generate().unwrap()).unwrap();
        let seconds =
            |life| ca.issue_leaf(&request, &"acme".parse().unwrap(), &"d1".parse().unwrap(), life).unwrap().leaf.validity.seconds();
        assert_eq!((seconds(240), seconds(30 * 86_400)), (250, 30 * 86_400 + 3_600));
    }
}
