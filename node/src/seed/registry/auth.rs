//! Access keys `hgk_<id>_<secret>`, and who a request is from.
//!
//! A key comes as the password of HTTP Basic with any user name, because that is what container tools can send, or as
//! `Authorization: Bearer`. What is stored is the SHA-256 of its secret: 256 random bits need no slow hash.
//!
//! Not here: device certificates, and tokens made from keys.

use std::fmt;

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::digest::Digest;
use protocol::name::OrgName;

use crate::store::meta::{AccessKeyRecord, MetaError, MetaStore, Scope};

const PREFIX: &str = "hgk";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// The longest value of an `Authorization` header that is looked at, in bytes: a key with a long user name, in base64.
const CREDENTIALS_BYTES_MAX: usize = 1024;

/// An access key as a client holds it.
#[derive(Clone)]
pub struct AccessKey {
    id: String,
    secret: [u8; SECRET_BYTES],
}

/// Who a request is from, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    org: OrgName,
    scopes: Vec<Scope>,
}

/// Why a request is from nobody, or from somebody who may not do that.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It has no credentials.
    #[error("authentication is required; log in with an access key as the password")]
    Missing,
    /// Its credentials are not those of any key.
    #[error("the access key is not valid here; check it, and that it belongs to the organisation that is asked for")]
    Invalid,
    /// Its key may not do that.
    #[error("the access key does not have the scope {0:?}; use one that has it")]
    Scope(Scope),
    /// The keys cannot be read.
    #[error("access keys cannot be read: {0}")]
    Failed(#[from] MetaError),
}

impl AccessKey {
    /// Makes a key: the text that its owner keeps, and the record that is stored.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate(org: &OrgName, scopes: Vec<Scope>) -> Result<(String, AccessKeyRecord), getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let key = Self { id: hex::encode(id), secret };
        let record = AccessKeyRecord { id: key.id.clone(), org: org.clone(), secret_sha256: Digest::sha256(&secret), scopes };
        Ok((format!("{PREFIX}_{}_{}", key.id, hex::encode(secret)), record))
    }

    /// Reads a key; none if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
        let (mut id_bytes, mut secret_bytes) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        hex::decode_to_slice(id, &mut id_bytes).ok()?;
        hex::decode_to_slice(secret, &mut secret_bytes).ok()?;
        Some(Self { id: hex::encode(id_bytes), secret: secret_bytes })
    }

    /// The public part, by which the record is found.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the record is this key's; takes the same time wherever they differ.
    pub fn matches(&self, record: &AccessKeyRecord) -> bool {
        let found = Digest::sha256(&self.secret);
        let (found, wanted) = (found.as_bytes(), record.secret_sha256.as_bytes());
        let difference = found.iter().zip(wanted).fold(0, |difference, (found, wanted)| difference | (found ^ wanted));
        std::hint::black_box(difference) == 0 && found.len() == wanted.len() && record.id == self.id
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Principal {
    /// The organisation that the request is from.
    pub fn org(&self) -> OrgName {
        self.org.clone()
    }

    /// What the request may do.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Checks that the request may do what needs `scope`; nothing needs none.
    ///
    /// # Errors
    /// When it may not.
    pub fn require(&self, scope: impl Into<Option<Scope>>) -> Result<(), AuthError> {
        match scope.into() {
            Some(scope) if !self.scopes.contains(&scope) => Err(AuthError::Scope(scope)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Who a request with these headers is from.
///
/// # Errors
/// When it has no valid credentials, or when the keys cannot be read.
pub async fn authenticate(headers: &HeaderMap, store: &dyn MetaStore) -> Result<Principal, AuthError> {
    let credentials = headers.get(header::AUTHORIZATION).ok_or(AuthError::Missing)?;
    let text = credentials.to_str().ok().filter(|text| text.len() <= CREDENTIALS_BYTES_MAX).ok_or(AuthError::Invalid)?;
    let key = parse_credentials(text).ok_or(AuthError::Invalid)?;
    let record = store.access_key(key.id()).await?.filter(|record| key.matches(record)).ok_or(AuthError::Invalid)?;
    Ok(Principal { org: record.org, scopes: record.scopes })
}

fn parse_credentials(text: &str) -> Option<AccessKey> {
    let (scheme, rest) = text.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return AccessKey::parse(rest.trim());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    AccessKey::parse(pair.split_once(':')?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_matches_its_record_alone() {
        let org = "acme".parse().unwrap();
        let (text, record) = AccessKey::generate(&org, vec![Scope::Pull]).unwrap();
        let (other, other_record) = AccessKey::generate(&org, vec![]).unwrap();
        assert_eq!((text.len(), record.id.len()), (3 + 1 + 16 + 1 + 64, 16));
        let key = AccessKey::parse(&text).unwrap();
        assert!(key.matches(&record) && !key.matches(&other_record));
        let forged = format!("hgk_{}_{}", record.id, &other[21..]);
        assert!(!AccessKey::parse(&forged).unwrap().matches(&record));
        assert!(!format!("{key:?}").contains(&text[21..]));
    }

    #[test]
    fn refuses_what_is_no_key() {
        let good = format!("hgk_{}_{}", "0".repeat(16), "1".repeat(64));
        assert!(AccessKey::parse(&good).is_some());
        for bad in ["", "hgk_", "hgk_0_1", &good[1..], &good[..84], &format!("{good}0"), &good.replace('1', "x")] {
            assert!(AccessKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn reads_basic_with_any_user_and_bearer() {
        let key = format!("hgk_{}_{}", "0".repeat(16), "1".repeat(64));
        let basic = |pair: String| format!("Basic {}", STANDARD.encode(pair));
        for good in [basic(format!("anyone:{key}")), basic(format!(":{key}")), format!("Bearer {key}"), format!("bearer  {key}")] {
            assert!(parse_credentials(&good).is_some(), "{good}");
        }
        for bad in [key.clone(), basic(key.clone()), basic(format!("{key}:x")), "Basic %%".into(), format!("Digest {key}"), String::new()] {
            assert!(parse_credentials(&bad).is_none(), "{bad}");
        }
    }
}
