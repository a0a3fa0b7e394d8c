//! Control of the fleet.
//!
//! | module | holds |
//! |---|---|
//! | [`assignments`] | what a device is told, and the epoch in which it is signed |
//! | [`groups`] | groups, labels and pins |
//! | [`rollouts`] | what operators do with rollouts |
//! | [`sites`] | which devices meet, and what they fetch |
//! | [`states`] | desired states: the next one, and renewal |
//! | [`watch`] | rollouts judged while they run |
//!
//! Not here: routes, see [`super::api`] and [`super::devices`]; who the devices are, see [`super::enrolment`]; decisions, see
//! `protocol`.

pub mod assignments;
pub mod groups;
pub mod rollouts;
pub mod sites;
pub mod states;
pub mod watch;

use axum::http::StatusCode;
use protocol::name::OrgName;

use super::Seed;
use super::api::Refused;
use crate::store::meta::MetaError;
use crate::trust::{RepositoryFiles, StoredMetadata};

impl Seed {
    /// The organisation's newest root metadata.
    ///
    /// # Errors
    /// When the store fails, or what it has is broken.
    pub(super) async fn current_root(&self, org: &OrgName) -> anyhow::Result<String> {
        let source = StoredMetadata { store: self.store.as_ref(), org };
        Ok(RepositoryFiles::load(&source, None).await?.root.content)
    }
}

impl From<MetaError> for Refused {
    fn from(error: MetaError) -> Self {
        if error.is_storage_full() {
            let message = "there is no room left on this seed's disk; ask its operator to make some, and try again";
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "storage_full", message);
        }
        let status = match &error {
            MetaError::Conflict(_) => StatusCode::CONFLICT,
            MetaError::Missing(_) => StatusCode::NOT_FOUND,
            MetaError::Retired(_) => StatusCode::GONE,
            MetaError::Immutable(_) | MetaError::Token(_) => StatusCode::FORBIDDEN,
            MetaError::Failed(_) => return Self::failed(&error),
        };
        let code = match &error {
            MetaError::Conflict(_) => "conflict",
            MetaError::Missing(_) => "missing",
            MetaError::Immutable(_) => "denied",
            MetaError::Retired(_) => "retired",
            MetaError::Token(_) => "token_refused",
            MetaError::Failed(_) => "failed",
        };
        Self::new(status, code, error.to_string())
    }
}
