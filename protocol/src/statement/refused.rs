//! Why a document of the seed's online key is not acted on.
//!
//! Not here: version statements, which TUF carries; see [`super::version`].

use crate::envelope::EnvelopeRefused;
use crate::name::{DeviceId, GroupName, OrgName};
use crate::time::WallTime;

use super::desired::Counter;
use super::revocation::KEYS_MAX;
use super::signed::Unreadable;

/// Why a desired state, an assignment or a revocation list is not acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentRefused {
    /// The envelope is broken, of another type, or not signed by the online key.
    #[error(transparent)]
    Envelope(#[from] EnvelopeRefused),
    /// Signed, but not JSON of the expected shape.
    #[error("the document cannot be read: {0}")]
    Malformed(String),
    /// Written in a format this program does not know.
    #[error("the document has format {found}, this program reads up to {known}; update it")]
    OtherFormat {
        /// What the document says.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It belongs to another organisation.
    #[error("the document belongs to organisation {0}")]
    ForeignOrg(OrgName),
    /// It is for another device.
    #[error("the document is for device {0}")]
    OtherDevice(DeviceId),
    /// It is for a group that the device is not assigned to.
    #[error("the document is for group {0}, to which this device is not assigned")]
    OtherGroup(GroupName),
    /// Its epoch is not the one that the root delegates.
    #[error("the document has epoch {found}, the root delegates epoch {delegated}")]
    OtherEpoch {
        /// What the document says.
        found: u64,
        /// What the root says.
        delegated: u64,
    },
    /// It is older than one that was accepted before.
    #[error("the document has counter {}.{}, older than {}.{} accepted before", found.epoch, found.n, accepted.epoch, accepted.n)]
    OlderCounter {
        /// What the document says.
        found: Counter,
        /// The newest accepted before.
        accepted: Counter,
    },
    /// It says something else than the one that was accepted with this counter: two hands sign, or a backup was restored.
    #[error("the document has counter {}.{}, with which another one was accepted before", .0.epoch, .0.n)]
    OtherContent(Counter),
    /// Its time is over.
    #[error("the document expired at {0}")]
    Expired(WallTime),
    /// The device remembers counters of so many groups that it takes no further one.
    #[error("this device remembers the counters of {0} groups and takes no further one in this epoch")]
    TooManyGroups(usize),
    /// It names more keys than a revocation list may.
    #[error("the document names {0} keys, more than {KEYS_MAX}")]
    TooManyKeys(usize),
}

impl From<Unreadable> for DocumentRefused {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed(detail) => Self::Malformed(detail),
            Unreadable::OtherFormat { found, known } => Self::OtherFormat { found, known },
        }
    }
}

impl DocumentRefused {
    /// A short name of the reason, for metrics and reports.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Envelope(EnvelopeRefused::BadSignature) => "bad_signature",
            Self::Envelope(EnvelopeRefused::Malformed | EnvelopeRefused::OtherType(_)) | Self::Malformed(_) => "malformed",
            Self::OtherFormat { .. } => "other_format",
            Self::ForeignOrg(_) => "foreign_org",
            Self::OtherDevice(_) => "other_device",
            Self::OtherGroup(_) => "other_group",
            Self::OtherEpoch { .. } => "other_epoch",
            Self::OlderCounter { .. } => "older_counter",
            Self::OtherContent(_) => "other_content",
            Self::Expired(_) => "expired",
            Self::TooManyGroups(_) => "too_many_groups",
            Self::TooManyKeys(_) => "too_many_keys",
        }
    }
}
