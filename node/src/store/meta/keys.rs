//! Records of organisations and of the access keys that act for them.
//!
//! Not here: how a key is made, presented and checked; see `seed::registry::auth`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::OrgName;
use protocol::oci::scope::Action;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use super::{MetaError, TufFile};

/// What an access key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read repositories.
    Pull,
    /// Write repositories.
    Push,
    /// Delete from repositories.
    Delete,
    /// Publish versions.
    Publish,
    /// Manage devices, rollouts and keys of the organisation.
    Admin,
    /// Create organisations on this seed.
    Seed,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 6] = [Self::Pull, Self::Push, Self::Delete, Self::Publish, Self::Admin, Self::Seed];

    /// Its name, as it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Publish => "publish",
            Self::Admin => "admin",
            Self::Seed => "seed",
        }
    }
}

impl From<Action> for Scope {
    fn from(action: Action) -> Self {
        match action {
            Action::Pull => Self::Pull,
            Action::Push => Self::Push,
            Action::Delete => Self::Delete,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; the scopes are pull, push, delete, publish, admin and seed")]
pub struct ScopeRefused(String);

impl FromStr for Scope {
    type Err = ScopeRefused;

    fn from_str(text: &str) -> Result<Self, ScopeRefused> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| ScopeRefused(text.to_owned()))
    }
}

/// An access key; its secret is kept as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRecord {
    /// Public part of the key, by which it is found.
    pub id: String,
    /// The organisation it belongs to.
    pub org: OrgName,
    /// SHA-256 of the secret part (the secret is 256 random bits, so a plain hash is enough).
    pub secret_sha256: Digest,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// What its owner calls it; may be empty.
    pub label: String,
    /// When it was made.
    pub created: WallTime,
    /// From when on it is refused; none for never.
    pub expires: Option<WallTime>,
}

impl AccessKeyRecord {
    /// Whether the key is refused at `now`, because its time is over.
    pub fn has_expired(&self, now: WallTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Organisations and access keys.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Creates an organisation with its first access key and TUF files; a conflict if the name is taken.
    async fn create_org(&self, org: &OrgName, key: AccessKeyRecord, files: Vec<TufFile>) -> Result<(), MetaError>;
    /// The organisations, in order.
    async fn orgs(&self) -> Result<Vec<OrgName>, MetaError>;
    /// The access key with this public part.
    async fn access_key(&self, id: &str) -> Result<Option<Arc<AccessKeyRecord>>, MetaError>;
    /// The access keys of an organisation, in the order of their public parts, those that have expired too.
    async fn access_keys(&self, org: &OrgName) -> Result<Vec<AccessKeyRecord>, MetaError>;
    /// Adds an access key to its organisation; a conflict if its public part is taken.
    async fn add_access_key(&self, key: AccessKeyRecord) -> Result<(), MetaError>;
    /// Removes an access key of an organisation; missing if it has no such key. A conflict if at `now` no other key could do
    /// what only a key can give back: the organisation's last with [`Scope::Admin`], and the last of all with [`Scope::Seed`].
    async fn revoke_access_key(&self, org: &OrgName, id: &str, now: WallTime) -> Result<(), MetaError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_shown_and_stored_under_one_name() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        assert!("Pull".parse::<Scope>().is_err());
    }
}
