//! The certificate authorities that an organisation's root names, at `/signed/x-hedgerow/authorities`: whose certificates its
//! devices trust.
//!
//! Not here: which may be named, see [`protocol::identity::authorities`]; what they sign, see `transport::authorities`.

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use super::metadata::MEMBER;
use super::refused::TrustRefused;
use crate::store::meta::TufFile;

/// The most authorities that a root may name: two rotations at a time are one too many already.
const NAMED_MAX: usize = 4;

/// The authorities that root metadata names, if it names any; the root has been verified.
///
/// # Errors
/// When the list is empty or too long, or an entry is no certificate in base64.
pub fn named_authorities(root: &[u8]) -> anyhow::Result<Option<Vec<CertificateDer<'static>>>> {
    let root: serde_json::Value = serde_json::from_slice(root).context("the root metadata is broken")?;
    let Some(named) = root["signed"][MEMBER].get("authorities") else { return Ok(None) };
    let named = named.as_array().context("the root's authorities are no list")?;
    ensure!((1..=NAMED_MAX).contains(&named.len()), "the root names {} authorities, not 1 to {NAMED_MAX}", named.len());
    let certificate = |entry: &serde_json::Value| {
        let der = STANDARD.decode(entry.as_str().context("it is no text")?).context("it is no base64")?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).context("it is no certificate")?;
        ensure!(certificate.is_ca(), "it is no certificate of an authority");
        anyhow::Ok(CertificateDer::from(der))
    };
    named.iter().map(certificate).collect::<Result<Vec<_>, _>>().map(Some).context("an authority of the root cannot be read")
}

/// The same, of a root in a file.
///
/// # Errors
/// Likewise.
pub(super) fn named_in(root: &TufFile) -> Result<Option<Vec<CertificateDer<'static>>>, TrustRefused> {
    named_authorities(root.content.as_bytes())
        .map_err(|error| TrustRefused::Malformed { file: root.name.clone(), detail: format!("{error:#}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::authorities::{Authorities, named};
    use serde_json::json;

    #[test]
    fn a_list_of_authorities_that_cannot_be_believed_is_refused_as_a_whole() {
        let root = |authorities: &serde_json::Value| json!({"signed": {MEMBER: {"authorities": authorities}}}).to_string().into_bytes();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authorities::load_or_create(dir.path()).unwrap();
        let own = named(authority.current());
        let server = STANDARD.encode(&authority.current().issue_server(&["seed.example".to_owned()]).unwrap().chain[0]);
        assert_eq!(named_authorities(b"{}").unwrap(), None);
        assert_eq!(named_authorities(&root(&json!([own]))).unwrap().unwrap().len(), 1);
        for wrong in
            [json!([]), json!("x"), json!([1]), json!(["!"]), json!([own, "AAAA"]), json!([server]), json!(vec![own; NAMED_MAX + 1])]
        {
            assert!(named_authorities(&root(&wrong)).is_err(), "{wrong}");
        }
    }
}
