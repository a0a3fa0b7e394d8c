//! The shape of every signed document: its type stands on the envelope, its format is read before the rest.
//!
//! Not here: whose signature counts, and what the documents mean.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A kind of document.
pub(crate) trait Format: DeserializeOwned {
    /// The newest format that is read; all from 1 on are.
    const FORMAT: u32;
}

/// Why a document that is signed as it should be cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not JSON of the expected shape.
    Malformed(String),
    /// It has a format that this program does not know.
    OtherFormat {
        /// What the document says.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
}

/// The rest may look different in another format.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// The document in bytes whose signature was checked.
pub(crate) fn read<D: Format>(bytes: &[u8]) -> Result<D, Unreadable> {
    let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
    let Head { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    if !(1..=D::FORMAT).contains(&format) {
        return Err(Unreadable::OtherFormat { found: format, known: D::FORMAT });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}
