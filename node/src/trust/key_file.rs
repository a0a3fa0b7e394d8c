//! One ed25519 private key in one PKCS#8 PEM file (RFC 8410 §7, RFC 7468 §10).
//!
//! Not here: which keys there are; see [`super::operator_keys`] and [`super::online_key`].

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};

/// Why a key file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There are keys where new ones were to be written.
    #[error("{} exists already; keys are never overwritten: choose another --keys directory, or move the old keys away", .0.display())]
    Exists(PathBuf),
    /// There is no such file.
    #[error("there is no key file {}; give the --keys directory that was used when the organisation was created", .0.display())]
    Missing(PathBuf),
    /// The content is no ed25519 private key.
    #[error("{} is not an unsealed ed25519 private key in PKCS#8 PEM form: {detail}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file system refused.
    #[error("{} cannot be read or written: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system has no random bytes.
    #[error("the system's random source failed: {0}")]
    Random(String),
}

impl KeyError {
    /// `source`, met at `path`.
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing(path),
            std::io::ErrorKind::AlreadyExists => Self::Exists(path),
            _ => Self::Io { path, source },
        }
    }
}

/// A new key from the system's random source.
pub(crate) fn generate() -> Result<SigningKey, KeyError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Writes `key` to the new file `path`, durably, mode 0600. The form is version 1 of PKCS#8, which every tool reads.
pub(crate) fn create(path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    let pem = KeypairBytes { secret_key: key.to_bytes(), public_key: None }
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| KeyError::Unreadable { path: path.to_owned(), detail: error.to_string() })?;
    crate::files::write_new(path, pem.as_bytes(), crate::files::Access::Private).map_err(|error| KeyError::io(path, error.source))
}

/// Reads the key in `path`.
pub(super) fn load(path: &Path) -> Result<SigningKey, KeyError> {
    let pem = std::fs::read_to_string(path).map_err(|error| KeyError::io(path, error))?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|error| KeyError::Unreadable { path: path.to_owned(), detail: error.to_string() })
}
