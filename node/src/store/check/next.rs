//! What is to be done about damage: said to people, and followed by a repair.
//!
//! Not here: doing it; see `repair`.

use std::fmt::{self, Display};

use serde::{Serialize, Serializer};

/// What to do about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Move a file aside; then, if records name its blob, bring that back.
    MoveAside(Option<Again>),
    /// Bring a blob back.
    Bring(Again),
    /// Delete what has another size than its record says, and push it again.
    Replace,
    /// Build the index again.
    BuildIndex,
    /// Go back to a backup.
    RestoreSeed,
    /// Look into a backup.
    CompareAudit,
}

/// How a blob comes back whose file is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is made from another: a hash list.
    Made,
    /// It is in a backup alone, because nobody pushes it: what a statement names.
    Restored,
    /// Whoever pushed it pushes it again.
    Pushed,
}

impl Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MoveAside(None) => f.write_str("move it aside with `hedgerow store check --repair` while the node is stopped"),
            Self::MoveAside(Some(again)) => {
                write!(f, "move it aside with `hedgerow store check --repair` while the seed is stopped, then {again}")
            }
            Self::Bring(again) => again.fmt(f),
            Self::Replace => f.write_str("delete it from its repositories, then push it again"),
            Self::BuildIndex => f.write_str("it is built again from the journal with --repair, or when the seed starts"),
            Self::RestoreSeed => {
                f.write_str("stop the seed, keep a copy of the data directory, and restore a backup with `hedgerow seed restore`")
            }
            Self::CompareAudit => f.write_str(
                "compare it with the audit log in a backup; what it said cannot be made again, and this stays found as long as the file \
                 is kept",
            ),
        }
    }
}

impl Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Made => "make it again with `hedgerow store check --repair` while the seed is stopped",
            Self::Restored => "bring it back with `hedgerow seed restore` from a backup",
            Self::Pushed => "push it again; it is answered as unknown until then",
        })
    }
}

impl Serialize for Next {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
