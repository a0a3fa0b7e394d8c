//! Why a version is not published, or a change of who may sign is not put in force.
//!
//! Not here: the checks; see [`super`].

use protocol::name::{AppName, Platform};
use protocol::statement::evidence::EvidenceRefused;
use protocol::statement::version::StatementRefused;

use super::super::key_file::KeyError;
use super::super::refused::TrustRefused;
use super::PLATFORMS_MAX;

/// Why a version is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublicationRefused {
    /// The number is taken, or would leave a gap. The seed answers 409.
    #[error("version {asked} cannot be published: the next version is {next}")]
    OtherNumber {
        /// The number asked for.
        asked: u64,
        /// The number that can be published.
        next: u64,
    },
    /// The metadata does not follow the one in force, because something was published in between. The seed answers 409.
    #[error("{file} should have version {wanted} and has {found}: the repository changed meanwhile, publish again")]
    Stale {
        /// The metadata file.
        file: String,
        /// The version that follows the one in force.
        wanted: u64,
        /// The version found.
        found: u64,
    },
    /// A published target was changed or removed.
    #[error("{0} is published already and must stay as it is")]
    ChangedTarget(String),
    /// The role lists something else than this version's statements.
    #[error("the app's role does not list exactly this version's statements: {0}")]
    OtherTargets(String),
    /// The top-level targets change more than the delegation of this app.
    #[error("the targets metadata may only add the delegation of {app}: {detail}")]
    OtherDelegations {
        /// The app.
        app: AppName,
        /// What differs.
        detail: String,
    },
    /// A file's name does not fit its content.
    #[error("the file {found} should be called {wanted}")]
    OtherName {
        /// The name given.
        found: String,
        /// The name that fits.
        wanted: String,
    },
    /// No statement, or too many.
    #[error("a version has 1 to {PLATFORMS_MAX} platforms, not {0}")]
    OtherPlatformCount(usize),
    /// A statement is not this version's.
    #[error("the statement for {platform} is refused: {refused}")]
    Statement {
        /// The platform.
        platform: Platform,
        /// Why.
        refused: StatementRefused,
    },
    /// The evidence is not one for each image.
    #[error("there is evidence for {found} images on {platform}, and not for {wanted}; publish with a newer hedgerow")]
    EvidenceCount {
        /// The platform.
        platform: Platform,
        /// For so many images.
        found: usize,
        /// The images of its statement.
        wanted: usize,
    },
    /// The evidence of an image is refused.
    #[error("the evidence for {platform} is refused: {refused}")]
    Evidence {
        /// The platform.
        platform: Platform,
        /// Why.
        refused: EvidenceRefused,
    },
    /// The least version that devices may start would go down, and nobody said that it shall.
    #[error(
        "the floor would go down from {from} to {to}, and devices could start versions again that were ruled out; if that is wanted, say --lower-floor"
    )]
    LowersFloor {
        /// The floor in force.
        from: u64,
        /// The floor asked for.
        to: u64,
    },
    /// The floor is above the newest version: devices could start none.
    #[error("the floor {floor} is above version {version}, the newest; devices could start none")]
    FloorAboveVersions {
        /// The floor asked for.
        floor: u64,
        /// The newest version.
        version: u64,
    },
    /// A change of who may sign does more than that, or would leave nobody who can.
    #[error("the change is refused: {0}")]
    Change(String),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The operator's key is not the one that the metadata in force names.
    #[error("the key in the --keys directory may not sign for {0}; use the keys that the organisation was created with")]
    ForeignKey(String),
    /// The uploaded metadata, or the operator's view, is refused.
    #[error(transparent)]
    Metadata(#[from] TrustRefused),
    /// The seed's own files are refused: not the operator's fault. The seed answers 500.
    #[error("the seed's own trust metadata is broken: {0}")]
    Repository(TrustRefused),
}

impl PublicationRefused {
    /// A short name of the reason, for metrics and answers.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::OtherNumber { .. } => "other_number",
            Self::Stale { .. } => "stale",
            Self::ChangedTarget(_) => "changed_target",
            Self::OtherTargets(_) => "other_targets",
            Self::OtherDelegations { .. } => "other_delegations",
            Self::OtherName { .. } => "other_name",
            Self::OtherPlatformCount(_) => "other_platform_count",
            Self::Statement { .. } => "bad_statement",
            Self::EvidenceCount { .. } | Self::Evidence { .. } => "bad_evidence",
            Self::LowersFloor { .. } => "lowers_floor",
            Self::FloorAboveVersions { .. } => "floor_above_versions",
            Self::Change(_) => "bad_change",
            Self::Key(_) => "key",
            Self::ForeignKey(_) => "foreign_key",
            Self::Metadata(refused) => refused.reason(),
            Self::Repository(_) => "broken_repository",
        }
    }

    /// Whether the request lost a race or asks for the wrong number: HTTP 409.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::OtherNumber { .. } | Self::Stale { .. })
    }
}
