//! Who a request is from, and whom the registry lets in.
//!
//! An access key `hgk_<id>_<secret>` comes as the password of HTTP Basic with any user name, because that is what container
//! tools can send, or as `Authorization: Bearer`. What is stored is the SHA-256 of its secret: 256 random bits need no slow
//! hash. Most tools get a short-lived token for it first, which opens the registry alone.
//!
//! | module | holds |
//! |---|---|
//! | [`gate`] | who a request to the registry is from: a key, a token, or nobody |
//! | [`token`] | the signed tokens |
//! | `challenge` | what somebody who is not let in is told to do |
//! | `issue` | `/auth/token` |
//!
//! Not here: how keys and headers are written, see [`protocol::oci::credentials`]; who may do what to a repository, see
//! [`protocol::oci::access`]; device certificates.

mod challenge;
pub mod gate;
pub(super) mod issue;
pub mod token;

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use protocol::name::OrgName;
use protocol::oci::access::{Denied, Holder};
use protocol::oci::credentials::{AccessKey, Authorization, KEY_ID_BYTES, KEY_SECRET_BYTES};
use protocol::oci::scope::Action;
use protocol::time::WallTime;

use crate::clock::wall_time;
use crate::store::meta::{AccessKeyRecord, MetaError, MetaStore, Scope};

pub(super) use challenge::challenged;

/// Who a request is from, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    record: Arc<AccessKeyRecord>,
    /// What its scopes mean for repositories.
    actions: Vec<Action>,
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
    /// Its token was not made here, was changed, or is over.
    #[error("the token is not valid here, or no longer; get another one")]
    InvalidToken,
    /// Its access key has expired.
    #[error("the access key has expired; ask for another one, made with `hedgerow key create`")]
    Expired,
    /// Its token does not allow that.
    #[error("the token does not cover this; get one for the scope that the challenge names")]
    Token,
    /// Its key may not do that.
    #[error("the access key does not have the scope {0}; use one that has it")]
    Scope(Scope),
    /// The keys cannot be read.
    #[error("access keys cannot be read: {0}")]
    Failed(#[from] MetaError),
}

impl From<Denied> for AuthError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoCredentials => Self::Missing,
            Denied::Token => Self::Token,
            Denied::Key(action) => Self::Scope(action.into()),
        }
    }
}

/// Makes a key: the text that its owner keeps, and the record that is stored.
///
/// # Errors
/// When the system has no random numbers.
pub fn generate_key(org: &OrgName, scopes: Vec<Scope>) -> Result<(String, AccessKeyRecord), getrandom::Error> {
    let (mut id, mut secret) = ([0; KEY_ID_BYTES], [0; KEY_SECRET_BYTES]);
    getrandom::fill(&mut id)?;
    getrandom::fill(&mut secret)?;
    let key = AccessKey::new(id, secret);
    let (org, secret_sha256) = (org.clone(), key.secret_sha256());
    let record = AccessKeyRecord { id: key.id(), org, secret_sha256, scopes, label: String::new(), created: wall_time(), expires: None };
    Ok((key.expose(), record))
}

impl Principal {
    /// The public part of the access key that it acts by.
    pub fn key(&self) -> &str {
        &self.record.id
    }

    /// What its owner calls that key; may be empty.
    pub fn label(&self) -> &str {
        &self.record.label
    }

    /// Somebody of an organisation, for tests.
    #[cfg(test)]
    pub(crate) fn fake(org: &str, key: &str) -> Self {
        let (_, record) = generate_key(&org.parse().unwrap(), Vec::new()).unwrap();
        Self { record: Arc::new(AccessKeyRecord { id: key.to_owned(), ..record }), actions: Vec::new() }
    }

    /// The organisation that the request is from.
    pub fn org(&self) -> OrgName {
        self.record.org.clone()
    }

    /// The same, as the rules about repositories see it.
    pub(super) fn holder(&self) -> Holder<'_> {
        Holder { org: &self.record.org, actions: &self.actions }
    }

    /// When its key ends, if ever.
    pub fn expires(&self) -> Option<WallTime> {
        self.record.expires
    }

    /// What the request may do.
    pub fn scopes(&self) -> &[Scope] {
        &self.record.scopes
    }

    /// Checks that the request may do what needs `scope`; nothing needs none.
    ///
    /// # Errors
    /// When it may not.
    pub fn require(&self, scope: impl Into<Option<Scope>>) -> Result<(), AuthError> {
        match scope.into() {
            Some(scope) if !self.scopes().contains(&scope) => Err(AuthError::Scope(scope)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whose access key a request has.
///
/// # Errors
/// When it has no valid one, or when the keys cannot be read.
pub async fn authenticate(headers: &HeaderMap, store: &dyn MetaStore) -> Result<Principal, AuthError> {
    let key = authorization(headers)?.access_key().map_err(|_| AuthError::Invalid)?;
    owner(&key, store).await
}

/// What the one `Authorization` header says.
fn authorization(headers: &HeaderMap) -> Result<Authorization, AuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(AuthError::Invalid);
    }
    value.to_str().ok().and_then(|text| text.parse().ok()).ok_or(AuthError::Invalid)
}

async fn owner(key: &AccessKey, store: &dyn MetaStore) -> Result<Principal, AuthError> {
    let record = store.access_key(&key.id()).await?.filter(|record| key.matches(&record.id, &record.secret_sha256));
    in_force(record)
}

/// Who acts by a key that is on record, if it has not expired.
fn in_force(record: Option<Arc<AccessKeyRecord>>) -> Result<Principal, AuthError> {
    let record = record.ok_or(AuthError::Invalid)?;
    if record.has_expired(wall_time()) {
        return Err(AuthError::Expired);
    }
    let actions = Action::ALL.into_iter().filter(|action| record.scopes.contains(&(*action).into())).collect();
    Ok(Principal { record, actions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_matches_its_record_alone() {
        let org = "acme".parse().unwrap();
        let (text, record) = generate_key(&org, vec![Scope::Pull]).unwrap();
        let (other, other_record) = generate_key(&org, vec![]).unwrap();
        assert_eq!((text.len(), record.id.len()), (3 + 1 + 16 + 1 + 64, 16));
        let matches = |text: &str, record: &AccessKeyRecord| text.parse::<AccessKey>().unwrap().matches(&record.id, &record.secret_sha256);
        assert!(matches(&text, &record) && !matches(&text, &other_record));
        assert!(!matches(&format!("hgk_{}_{}", record.id, &other[21..]), &record));
    }
}
