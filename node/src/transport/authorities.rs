//! The authorities of a seed store: the one that signs, and during a rotation the one that comes next; and those that an
//! organisation's root names.
//!
//! A rotation, without a device left behind:
//!
//! 1. `seed ca rotate` makes the next authority. Certificates of both are accepted; the first still signs everything.
//! 2. The operator signs a root that names both, with `trust set --authority OLD --authority NEXT`, at
//!    `/signed/x-hedgerow/authorities`. The seed signs that organisation's device leaves with the next authority from then
//!    on; devices learn of it with the root, and renew early.
//! 3. To each device the seed shows a server certificate of the newest authority that the device says it trusts (RFC 8446
//!    §4.2.4), so that one that was away still finds its seed.
//! 4. `seed ca retire` ends the overlap: the next authority is the only one; and a root that names it alone takes the old one's
//!    rights on devices. A device that was never seen since step 2 has to enrol anew.
//!
//! Not here: how an authority signs; see [`super::ca`].

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::digest::Digest;
use protocol::identity::authorities::SeedAuthorities;
use rustls::DistinguishedName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::admission::Anchors;
use super::ca::CertificateAuthority;
use super::certificate::CurrentCertificate;
use crate::files;
use crate::trust::authorities::named_authorities;

/// The files of the authority that signs.
const CURRENT: &str = "ca";
/// The files of the one that comes next.
const NEXT: &str = "ca-next";
/// The files of the one that was retired; only kept to be looked at.
const RETIRED: &str = "ca-retired";

/// The authorities of a seed store.
pub struct Authorities {
    current: CertificateAuthority,
    next: Option<CertificateAuthority>,
}

impl Authorities {
    /// Makes the first authority, or loads what there is, in `dir`.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub fn load_or_create(dir: &Path) -> anyhow::Result<Self> {
        if !dir.join("ca.key").exists() {
            CertificateAuthority::create(dir, CURRENT)?;
        }
        Self::load(dir)
    }

    /// Loads the authorities in `dir`.
    ///
    /// # Errors
    /// When the files are missing or broken.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let next = dir.join(format!("{NEXT}.pem")).exists().then(|| CertificateAuthority::load(dir, NEXT)).transpose()?;
        Ok(Self { current: CertificateAuthority::load(dir, CURRENT)?, next })
    }

    /// Makes the next authority.
    ///
    /// # Errors
    /// When there is one already, or the files cannot be written.
    pub fn rotate(dir: &Path) -> anyhow::Result<Self> {
        if Self::load(dir)?.next.is_some() {
            bail!("a rotation is under way already; end it with `hedgerow seed ca retire` first");
        }
        CertificateAuthority::create(dir, NEXT)?;
        Self::load(dir)
    }

    /// Makes the next authority the only one. What the old one signed is not accepted any more.
    ///
    /// # Errors
    /// When no rotation is under way, or the files cannot be moved. It can be repeated when it was interrupted.
    pub fn retire(dir: &Path) -> anyhow::Result<Self> {
        let path = |name: &str, end: &str| dir.join(format!("{name}.{end}"));
        ensure!(path(NEXT, "pem").exists(), "no rotation is under way; begin one with `hedgerow seed ca rotate`");
        for end in ["key", "pem"] {
            if path(NEXT, end).exists() {
                if path(CURRENT, end).exists() {
                    std::fs::rename(path(CURRENT, end), path(RETIRED, end)).context("moving the old CA away")?;
                }
                std::fs::rename(path(NEXT, end), path(CURRENT, end)).context("moving the next CA to its place")?;
                files::sync_dir(dir)?;
            }
        }
        Self::load(dir)
    }

    /// The one that signs.
    pub const fn current(&self) -> &CertificateAuthority {
        &self.current
    }

    /// The one that comes next, during a rotation.
    pub const fn next(&self) -> Option<&CertificateAuthority> {
        self.next.as_ref()
    }

    /// All, the one that signs first.
    pub fn all(&self) -> impl Iterator<Item = &CertificateAuthority> {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten()
    }

    /// The fingerprints of the one that signs and the one that comes next.
    pub fn fingerprints(&self) -> SeedAuthorities {
        SeedAuthorities { current: fingerprint(&self.current), next: self.next.as_ref().map(fingerprint) }
    }

    /// All of them, to be trusted.
    ///
    /// # Errors
    /// When one is broken.
    pub fn anchors(&self) -> anyhow::Result<Anchors> {
        Anchors::new(self.all().map(|authority| authority.certificate().clone()).collect())
    }

    /// The one that signs a leaf of an organisation with the root metadata `root`: the next one as soon as the root names it
    /// and the device trusts it, which trusts `trusted`, or, if it is new, what the root says.
    ///
    /// # Errors
    /// When the root is broken.
    pub fn issuer(&self, root: &[u8], trusted: Option<&[Digest]>) -> anyhow::Result<&CertificateAuthority> {
        let Some(next) = &self.next else { return Ok(&self.current) };
        let named = named_authorities(root)?.unwrap_or_default();
        let is_trusted = trusted.is_none_or(|trusted| trusted.contains(&fingerprint(next)));
        Ok(if is_trusted && named.contains(next.certificate()) { next } else { &self.current })
    }
}

/// How an authority stands in a root: its certificate in base64, as in JOSE's `x5c` (RFC 7515 §4.1.6).
pub fn named(authority: &CertificateAuthority) -> String {
    STANDARD.encode(authority.certificate())
}

/// The fingerprint by which people and tokens name an authority.
pub fn fingerprint(authority: &CertificateAuthority) -> Digest {
    Digest::sha256(authority.certificate())
}

/// Shows each client a certificate of the newest authority that it says it trusts; of the oldest, if it says nothing.
#[derive(Debug)]
pub struct CertificatesByAuthority {
    /// Oldest first.
    certificates: Vec<(DistinguishedName, Arc<CurrentCertificate>)>,
}

impl CertificatesByAuthority {
    /// One certificate for each authority, oldest first.
    ///
    /// # Errors
    /// When an authority's certificate is broken.
    pub fn new<'a>(certificates: impl IntoIterator<Item = (&'a CertificateAuthority, Arc<CurrentCertificate>)>) -> anyhow::Result<Self> {
        let named = certificates.into_iter().map(|(authority, certificate)| {
            let subject = Anchors::new(vec![authority.certificate().clone()])?.subjects.remove(0);
            anyhow::Ok((subject, certificate))
        });
        Ok(Self { certificates: named.collect::<Result<_, _>>()? })
    }
}

impl ResolvesServerCert for CertificatesByAuthority {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let trusted = client_hello.certificate_authorities().unwrap_or_default();
        let newest = self.certificates.iter().rev().find(|(subject, _)| trusted.iter().any(|trusted| trusted.as_ref() == subject.as_ref()));
        newest.or(self.certificates.first()).map(|(_, certificate)| certificate.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn root(authorities: &serde_json::Value) -> Vec<u8> {
        json!({"signed": {"x-hedgerow": {"authorities": authorities}}}).to_string().into_bytes()
    }

    #[test]
    fn the_next_authority_signs_for_those_whose_root_names_it_until_it_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = fingerprint(Authorities::load_or_create(dir.path()).unwrap().current());
        assert!(Authorities::retire(dir.path()).is_err(), "no rotation is under way");
        let both = Authorities::rotate(dir.path()).unwrap();
        assert!(Authorities::rotate(dir.path()).is_err(), "one is under way");
        let next = both.next().unwrap();
        let issuer = |root: &[u8]| fingerprint(both.issuer(root, None).unwrap());
        assert_eq!(issuer(br#"{"signed":{}}"#), first);
        assert_eq!(issuer(&root(&json!([named(both.current())]))), first);
        let names_both = root(&json!([named(both.current()), named(next)]));
        assert_eq!(issuer(&names_both), fingerprint(next));
        let issuer_for = |trusted: &[Digest]| fingerprint(both.issuer(&names_both, Some(trusted)).unwrap());
        assert_eq!(issuer_for(&[first]), first, "a device that was away does not know the next one yet");
        assert_eq!(issuer_for(&[first, fingerprint(next)]), fingerprint(next));
        let last = Authorities::retire(dir.path()).unwrap();
        assert_eq!(fingerprint(last.current()), fingerprint(next));
        assert!(last.next().is_none());
    }

    #[test]
    fn a_retirement_that_was_interrupted_is_repeated() {
        let dir = tempfile::tempdir().unwrap();
        Authorities::load_or_create(dir.path()).unwrap();
        let next = fingerprint(Authorities::rotate(dir.path()).unwrap().next().unwrap());
        std::fs::rename(dir.path().join("ca.key"), dir.path().join("ca-retired.key")).unwrap();
        std::fs::rename(dir.path().join("ca-next.key"), dir.path().join("ca.key")).unwrap();
        assert_eq!(fingerprint(Authorities::retire(dir.path()).unwrap().current()), next);
    }
}
