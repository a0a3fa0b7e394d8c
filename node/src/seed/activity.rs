//! What a request did, said once by whoever did it.
//!
//! | module | holds |
//! |---|---|
//! | `attempted` | what a request that was refused or left tried to do, as far as its path tells |
//!
//! A route fills in the [`RequestRecord`] that came with its request; [`super::recorder`] makes access log, audit log and
//! webhook events of it. So routes know nothing of logs, and what a client does not wait for is recorded too.
//!
//! Not here: who gets to see it.

mod attempted;

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode};
use protocol::digest::Digest;
use protocol::name::{OrgName, RepositoryName, Tag};
use serde::Serialize;

use super::registry::auth::Principal;
pub use attempted::attempted;

/// A kind of activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ActivityKind {
    /// A blob was pushed.
    #[serde(rename = "blob.push")]
    BlobPush,
    /// A blob of one repository was made part of another.
    #[serde(rename = "blob.mount")]
    BlobMount,
    /// A blob was pulled, or a part of it.
    #[serde(rename = "blob.pull")]
    BlobPull,
    /// A blob was taken out of a repository.
    #[serde(rename = "blob.delete")]
    BlobDelete,
    /// A manifest was pushed, and with it tags were set.
    #[serde(rename = "manifest.push")]
    ManifestPush,
    /// A manifest was pulled.
    #[serde(rename = "manifest.pull")]
    ManifestPull,
    /// A manifest was deleted, and with it its tags.
    #[serde(rename = "manifest.delete")]
    ManifestDelete,
    /// A tag was deleted.
    #[serde(rename = "tag.delete")]
    TagDelete,
    /// A tag whose time was over was removed, by the seed itself.
    #[serde(rename = "tag.expire")]
    TagExpire,
    /// An organisation was created.
    #[serde(rename = "org.create")]
    OrgCreate,
    /// An access key was made.
    #[serde(rename = "key.create")]
    KeyCreate,
    /// An access key was revoked.
    #[serde(rename = "key.revoke")]
    KeyRevoke,
    /// Settings of repositories were changed.
    #[serde(rename = "settings.change")]
    SettingsChange,
    /// Settings of repositories were removed.
    #[serde(rename = "settings.clear")]
    SettingsClear,
    /// A version was published.
    #[serde(rename = "version.publish")]
    VersionPublish,
    /// It was changed who may sign what.
    #[serde(rename = "trust.change")]
    TrustChange,
    /// A version was retired.
    #[serde(rename = "version.retire")]
    VersionRetire,
    /// A rollout was started.
    #[serde(rename = "rollout.start")]
    RolloutStart,
    /// A rollout was paused.
    #[serde(rename = "rollout.pause")]
    RolloutPause,
    /// A rollout was resumed, or begun after its version was fetched.
    #[serde(rename = "rollout.resume")]
    RolloutResume,
    /// A rollout was aborted.
    #[serde(rename = "rollout.abort")]
    RolloutAbort,
    /// The version before a rollout was rolled out instead.
    #[serde(rename = "rollout.rollback")]
    RolloutRollback,
    /// A group was made.
    #[serde(rename = "group.create")]
    GroupCreate,
    /// A group was removed.
    #[serde(rename = "group.remove")]
    GroupRemove,
    /// Labels or pins of a device were changed.
    #[serde(rename = "device.change")]
    DeviceChange,
    /// An enrolment token was made.
    #[serde(rename = "token.create")]
    TokenCreate,
    /// An enrolment token was taken back.
    #[serde(rename = "token.revoke")]
    TokenRevoke,
    /// A device's key was revoked.
    #[serde(rename = "device.revoke")]
    DeviceRevoke,
    /// A device was enrolled.
    #[serde(rename = "device.enrol")]
    DeviceEnrol,
}

impl ActivityKind {
    /// Whether it changes something, and so is audited.
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::BlobPull | Self::ManifestPull)
    }
}

/// What was done, and to what. Fields that do not apply, or are not known of a refused request, are empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Activity {
    /// What was done.
    #[serde(skip)]
    pub action: ActivityKind,
    /// The organisation, if the repository does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<OrgName>,
    /// The repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// The repository that a blob was mounted from, if the request named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_repository: Option<RepositoryName>,
    /// The tags that were set or deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// The content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What is neither a repository nor content: an app with its version, a rollout, a device, a key with its label, a pattern
    /// of repositories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Activity {
    /// Something of which nothing else is known.
    pub const fn new(action: ActivityKind) -> Self {
        Self {
            action,
            org: None,
            repository: None,
            from_repository: None,
            tags: Vec::new(),
            digest: None,
            size: None,
            media_type: None,
            name: None,
        }
    }

    /// Something done to a repository.
    pub fn in_repository(action: ActivityKind, repository: &RepositoryName) -> Self {
        Self { repository: Some(repository.clone()), ..Self::new(action) }
    }

    /// Something done to what an organisation calls `name`.
    pub fn in_org(action: ActivityKind, org: &OrgName, name: Option<String>) -> Self {
        Self { org: Some(org.clone()), name, ..Self::new(action) }
    }

    /// The same, to this content.
    #[must_use]
    pub fn of_content(self, digest: Digest, size: u64) -> Self {
        Self { digest: Some(digest), size: Some(size), ..self }
    }
}

/// What a request turned out to be while it was answered. Clones share it; each part is said once.
#[derive(Clone, Debug, Default)]
pub struct RequestRecord(Arc<Slots>);

#[derive(Debug, Default)]
struct Slots {
    principal: OnceLock<Principal>,
    activity: OnceLock<Activity>,
}

impl RequestRecord {
    /// The record that came with a request; one that nobody reads if nobody listens.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// The request is from this holder of a key.
    pub fn is_from(&self, principal: &Principal) {
        let _ = self.0.principal.set(principal.clone());
    }

    /// The request did this, durably.
    pub fn did(&self, activity: Activity) {
        let _ = self.0.activity.set(activity);
    }

    /// Who the request is from, if it has a valid key.
    pub fn principal(&self) -> Option<&Principal> {
        self.0.principal.get()
    }

    /// What the request did.
    pub fn activity(&self) -> Option<&Activity> {
        self.0.activity.get()
    }
}

impl<S: Sync> FromRequestParts<S> for RequestRecord {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// It was not carried out, for a reason that is the client's.
    Refused,
    /// The seed failed; something may have been carried out.
    Failed,
    /// The seed stopped while it was carried out, or failed in a way that it does not foresee.
    Unknown,
}

impl Outcome {
    /// The outcome of a request that was answered with `status`, or was not; `did` if it said what it did.
    pub fn of(status: Option<StatusCode>, did: bool) -> Self {
        match status {
            None if did => Self::Done,
            None => Self::Unknown,
            Some(status) if status.is_server_error() => Self::Failed,
            Some(status) if status.is_client_error() => Self::Refused,
            Some(_) => Self::Done,
        }
    }
}
