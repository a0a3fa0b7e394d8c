//! Records of organisations and of the access keys that act for them.
//!
//! Not here: how a key is made, presented and checked; see `seed::registry::auth`.

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::OrgName;
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
}

/// Organisations and access keys.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Creates an organisation with its first access key and TUF files; a conflict if the name is taken.
    async fn create_org(&self, org: &OrgName, key: AccessKeyRecord, files: Vec<TufFile>) -> Result<(), MetaError>;
    /// The organisations, in order.
    async fn orgs(&self) -> Result<Vec<OrgName>, MetaError>;
    /// The access key with this public part.
    async fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, MetaError>;
}
