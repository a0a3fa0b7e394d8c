//! Why trust metadata or a statement is not believed.
//!
//! Not here: why an upload to the seed is refused; see [`super::publication`].

use std::path::PathBuf;

use protocol::name::OrgName;
use protocol::statement::version::StatementRefused;

/// Why metadata or a statement was refused. Whatever was verified before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum TrustRefused {
    /// Too few valid signatures of the keys that the parent names (TUF 1.0 §5.3.4, §5.4.2, §5.5.3, §5.6.3).
    #[error("{file} is not signed by the keys that may sign it ({detail}); it was forged or damaged, or belongs to another organisation")]
    BadSignature {
        /// The metadata file.
        file: String,
        /// What the check found.
        detail: String,
    },
    /// Its time is over (TUF 1.0 §5.3.10, §5.4.4, §5.5.6, §5.6.5).
    #[error("the {role} metadata expired at {expires}; check this machine's clock, then {}", whose_turn(role))]
    Expired {
        /// The role whose metadata expired.
        role: String,
        /// When it expired.
        expires: jiff::Timestamp,
    },
    /// Older than what was accepted before (TUF 1.0 §5.3.5, §5.4.3, §5.5.5).
    #[error(
        "{file} is older than what was accepted before ({detail}); somebody replays old metadata, or the seed was restored from a backup"
    )]
    RolledBack {
        /// The metadata file.
        file: String,
        /// Which version met which.
        detail: String,
    },
    /// Not metadata of the expected shape.
    #[error("{file} cannot be read: {detail}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Other version, length or hash than its parent names (TUF 1.0 §5.5.2, §5.5.4, §5.6.2, §5.6.4, §5.7.3).
    #[error("{file} is not the one that was signed for: {detail}")]
    Mismatch {
        /// The file.
        file: String,
        /// What differs.
        detail: String,
    },
    /// More bytes than the limit for such a file.
    #[error("{file} is larger than {bytes_max} bytes")]
    TooLarge {
        /// The file.
        file: String,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The root is another organisation's.
    #[error("the root metadata belongs to organisation {found}, not to {wanted}")]
    ForeignOrg {
        /// The organisation that the root names.
        found: OrgName,
        /// The organisation asked for.
        wanted: OrgName,
    },
    /// No role that may do so lists the statement.
    #[error("no version statement {0} is published")]
    NotPublished(String),
    /// A file could not be had.
    #[error("{name} cannot be fetched: {detail}; it is tried again with the next refresh")]
    Unavailable {
        /// The file.
        name: String,
        /// What the source said.
        detail: String,
    },
    /// The chain of metadata is not complete yet.
    #[error("the trust metadata is incomplete; a refresh must succeed first")]
    NotRefreshed,
    /// The statement is authentic, but not one to act on.
    #[error(transparent)]
    Statement(#[from] StatementRefused),
    /// Verified metadata could not be kept, so that it would not guard against rollback after a restart.
    #[error("{} cannot be written: {source}; free space or repair the data directory", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl TrustRefused {
    /// A short name of the reason, for metrics and reports.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::BadSignature { .. } => "bad_signature",
            Self::Expired { .. } => "expired",
            Self::RolledBack { .. } => "rolled_back",
            Self::Malformed { .. } => "malformed",
            Self::Mismatch { .. } => "mismatch",
            Self::TooLarge { .. } => "too_large",
            Self::ForeignOrg { .. } => "foreign_org",
            Self::NotPublished(_) => "not_published",
            Self::Unavailable { .. } => "unavailable",
            Self::NotRefreshed => "not_refreshed",
            Self::Statement(StatementRefused::BelowFloor { .. }) => "below_floor",
            Self::Statement(_) => "bad_statement",
            Self::Storage { .. } => "storage",
        }
    }

    /// What the TUF library says about `file`, in our words.
    pub(super) fn of(file: &str, error: sigstore_tuf::Error) -> Self {
        use sigstore_tuf::Error;
        let file = file.to_owned();
        match error {
            Error::ThresholdNotMet { .. } | Error::DuplicateSignature { .. } => Self::BadSignature { file, detail: error.to_string() },
            Error::Expired { role, expires } => Self::Expired { role, expires },
            Error::Rollback { .. } => Self::RolledBack { file, detail: error.to_string() },
            Error::BadRootVersion { .. } | Error::IntegrityMismatch(_) => Self::Mismatch { file, detail: error.to_string() },
            Error::NotRefreshed => Self::NotRefreshed,
            Error::Json(error) => Self::Malformed { file, detail: error.to_string() },
            error => Self::Malformed { file, detail: error.to_string() },
        }
    }
}

/// Who renews the metadata of `role`.
fn whose_turn(role: &str) -> &'static str {
    match role {
        "timestamp" | "snapshot" => "see whether the seed runs and can be reached",
        "root" => "let the operator sign a new root",
        _ => "let the operator publish again, which renews it",
    }
}
