//! Tokens, enrolment, and control of the fleet.
//!
//! | module | holds |
//! |---|---|
//! | [`assignments`] | what a device is told, and the epoch in which it is signed |
//! | [`groups`] | groups, labels and pins |
//! | [`rollouts`] | what operators do with rollouts |
//! | [`states`] | desired states: the next one, and renewal |
//! | [`watch`] | rollouts judged while they run |
//!
//! Not here: routes; see [`super::api`] and [`super::devices`]. Decisions; see `protocol`.

pub mod assignments;
pub mod groups;
pub mod rollouts;
pub mod states;
pub mod watch;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use protocol::label::{Labels, check_count};
use protocol::name::OrgName;

use super::Seed;
use super::api::Refused;
use crate::api::{EnrolRequest, Enrolled, NewToken, TokenMade};
use crate::clock::wall_time;
use crate::device::enroll::Token;
use crate::store::meta::{DeviceRecord, MetaError, TokenRecord};
use crate::transport::identity::DeviceIdentity;
use crate::trust::{RepositoryFiles, StoredMetadata};

/// The longest life of a token, in seconds: a token is a secret that lies around until it is used.
const TOKEN_SECONDS_MAX: u64 = 30 * 86_400;

impl Seed {
    /// Adds a token whose secret only the operator knows.
    ///
    /// # Errors
    /// When its life is longer than allowed.
    pub async fn add_token(&self, org: &OrgName, new: NewToken) -> Result<TokenMade, Refused> {
        if new.lifetime_seconds > TOKEN_SECONDS_MAX {
            let message = format!("a token lives at most {TOKEN_SECONDS_MAX} seconds, not {}", new.lifetime_seconds);
            return Err(Refused::new(StatusCode::BAD_REQUEST, "lifetime_too_long", message));
        }
        check_count(&new.labels).map_err(|refused| Refused::new(StatusCode::BAD_REQUEST, "too_many_labels", refused.to_string()))?;
        let expires = wall_time().plus_seconds(new.lifetime_seconds);
        let (secret_sha256, labels) = (new.secret_sha256, new.labels);
        let record = TokenRecord { secret_sha256, org: org.clone(), expires, used: false, used_by: None, labels };
        self.store.add_token(record).await?;
        Ok(TokenMade { expires })
    }

    /// Enrols a device: the token is used up and the device known, or neither. A device that did not get the answer asks
    /// again, with the same key.
    ///
    /// # Errors
    /// When the token or the certificate request is refused.
    pub async fn enroll(&self, request: EnrolRequest) -> Result<Enrolled, Refused> {
        let now = wall_time();
        let secret_sha256 = Token::secret_sha256(&request.secret);
        let org = self.store.check_token(&secret_sha256, now).await?.org;
        let leaf = self
            .authority
            .issue_leaf(&request.request, &org, &request.device)
            .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, "bad_request", format!("{error:#}")))?;
        let key_sha256 = protocol::digest::Digest::Sha256(leaf.identity.node.0);
        let record = DeviceRecord {
            org: org.clone(),
            id: request.device.clone(),
            platform: request.platform,
            key_sha256,
            enrolled: now,
            labels: Labels::new(),
            pins: BTreeMap::new(),
        };
        let root = self.current_root(&org).await.map_err(|error| Refused::failed(error.as_ref()))?;
        self.store.enroll(&secret_sha256, record, now).await?;
        self.metrics.count_enrolment();
        tracing::info!(event = "device_enrolled", %org, device = %request.device, "device enrolled");
        Ok(Enrolled { org, device: request.device, certificate: leaf.pem, authority: self.authority.pem().to_owned(), root })
    }

    /// Whether the store knows the device under the key that its certificate names.
    ///
    /// # Errors
    /// When it does not: the device has to enrol anew.
    pub async fn check_device(&self, identity: &DeviceIdentity) -> Result<DeviceRecord, Refused> {
        let known = self.store.device(&identity.org, &identity.device).await?;
        known.filter(|known| known.key_sha256.as_bytes() == identity.node.0).ok_or_else(|| {
            let message = "this device is not known to the seed; enrol it anew with a token from `hedgerow fleet token`";
            Refused::new(StatusCode::FORBIDDEN, "unknown_device", message)
        })
    }

    async fn current_root(&self, org: &OrgName) -> anyhow::Result<String> {
        let source = StoredMetadata { store: self.store.as_ref(), org };
        Ok(RepositoryFiles::load(&source, None).await?.root.content)
    }
}

impl From<MetaError> for Refused {
    fn from(error: MetaError) -> Self {
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
