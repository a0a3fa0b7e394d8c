//! One ed25519 private key in one PKCS#8 PEM file (RFC 8410 §7, RFC 7468 §10), sealed with a passphrase or not.
//!
//! Sealed is an `EncryptedPrivateKeyInfo` (RFC 5958 §3) under scrypt and AES-256-CBC (RFC 7914, RFC 8018 §B.2.5), which
//! `openssl pkey` reads and writes too. Beside a sealed key lies its public key, so that it is unsealed only to sign.
//!
//! Not here: which keys there are, see [`super::operator_keys`] and [`super::online_key`]; where the passphrase comes
//! from, see [`super::passphrase`].

use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{SigningKey, VerifyingKey};
use pkcs8::pkcs5::pbes2;
use pkcs8::rand_core::{TryCryptoRng, TryRng};
use pkcs8::{DecodePublicKey as _, EncodePublicKey as _, PrivateKeyInfoRef};

use crate::files::{self, Access};

/// The label of a sealed key's PEM form (RFC 7468 §11).
const SEALED_LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// The extension of a file that holds a public key.
const PUBLIC_EXTENSION: &str = "pub";

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
    /// The key is sealed, and nobody said the passphrase.
    #[error(
        "{} is sealed and needs its passphrase; run the command on a terminal, or set HEDGEROW_KEYS_PASSPHRASE or \
         HEDGEROW_KEYS_PASSPHRASE_FILE", .0.display()
    )]
    NoPassphrase(PathBuf),
    /// The passphrase does not open the key.
    #[error("the passphrase does not open {}; try again, or look whether the file is damaged", .0.display())]
    WrongPassphrase(PathBuf),
    /// Two passphrases that should be the same are not.
    #[error("the two passphrases differ; try again")]
    PassphrasesDiffer,
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
    write_new(path, key, None)
}

/// Writes `key` to the new file `path` likewise, sealed if there is a passphrase, and its public key beside it.
pub(super) fn create_with_public(path: &Path, key: &SigningKey, passphrase: Option<&str>) -> Result<(), KeyError> {
    write_new(path, key, passphrase)?;
    write_public(path, &key.verifying_key())
}

/// Seals the key that stands unsealed in `path`.
pub(super) fn seal(path: &Path, key: &SigningKey, passphrase: &str) -> Result<(), KeyError> {
    write_public(path, &key.verifying_key())?;
    let pem = pem_of(path, key, Some(passphrase))?;
    files::replace(path, pem.as_bytes(), Access::Private).map_err(|error| KeyError::io(path, error.source))
}

/// Reads the unsealed key in `path`.
pub(super) fn load(path: &Path) -> Result<SigningKey, KeyError> {
    let pem = std::fs::read_to_string(path).map_err(|error| KeyError::io(path, error))?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|error| unreadable(path, &error))
}

/// Whether the key in `path` is sealed.
pub(super) fn is_sealed(path: &Path) -> Result<bool, KeyError> {
    let pem = std::fs::read_to_string(path).map_err(|error| KeyError::io(path, error))?;
    Ok(pem.contains(SEALED_LABEL))
}

/// Opens the sealed key in `path`.
pub(super) fn unseal(path: &Path, passphrase: &str) -> Result<SigningKey, KeyError> {
    let pem = std::fs::read_to_string(path).map_err(|error| KeyError::io(path, error))?;
    SigningKey::from_pkcs8_encrypted_pem(&pem, passphrase).map_err(|_| KeyError::WrongPassphrase(path.to_owned()))
}

/// The public key beside the key in `path`, if there is one.
pub(super) fn public_beside(path: &Path) -> Result<Option<VerifyingKey>, KeyError> {
    let path = path.with_extension(PUBLIC_EXTENSION);
    if path.is_file() { read_public(&path).map(Some) } else { Ok(None) }
}

/// The public key in the PEM file `path` (`SubjectPublicKeyInfo`, RFC 8410 §4).
pub(super) fn read_public(path: &Path) -> Result<VerifyingKey, KeyError> {
    let pem = std::fs::read_to_string(path).map_err(|error| KeyError::io(path, error))?;
    VerifyingKey::from_public_key_pem(&pem).map_err(|error| unreadable(path, &error))
}

fn write_new(path: &Path, key: &SigningKey, passphrase: Option<&str>) -> Result<(), KeyError> {
    let pem = pem_of(path, key, passphrase)?;
    files::write_new(path, pem.as_bytes(), Access::Private).map_err(|error| KeyError::io(path, error.source))
}

fn write_public(path: &Path, key: &VerifyingKey) -> Result<(), KeyError> {
    let path = path.with_extension(PUBLIC_EXTENSION);
    let pem = key.to_public_key_pem(LineEnding::LF).map_err(|error| unreadable(&path, &error))?;
    files::replace(&path, pem.as_bytes(), Access::Public).map_err(|error| KeyError::io(&path, error.source))
}

/// The PEM form of `key`, sealed if there is a passphrase. It stands in memory until the caller has written it.
fn pem_of(path: &Path, key: &SigningKey, passphrase: Option<&str>) -> Result<String, KeyError> {
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let Some(passphrase) = passphrase else {
        return pair.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).map_err(|error| unreadable(path, &error));
    };
    let der = pair.to_pkcs8_der().map_err(|error| unreadable(path, &error))?;
    let parameters = pbes2::Parameters::generate_scrypt(&mut SystemRandom).map_err(|error| KeyError::Random(error.to_string()))?;
    let plain = PrivateKeyInfoRef::try_from(der.as_bytes()).map_err(|error| unreadable(path, &error))?;
    let sealed = plain.encrypt_with_params(parameters, passphrase).map_err(|error| unreadable(path, &error))?;
    sealed.to_pem(SEALED_LABEL, LineEnding::LF).map(|pem| pem.to_string()).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &impl ToString) -> KeyError {
    KeyError::Unreadable { path: path.to_owned(), detail: error.to_string() }
}

/// The system's random source, as the sealing wants it.
struct SystemRandom;

impl TryRng for SystemRandom {
    type Error = getrandom::Error;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        getrandom::u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        getrandom::u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        getrandom::fill(bytes)
    }
}

impl TryCryptoRng for SystemRandom {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("root.pem");
        let key = generate().unwrap();
        create_with_public(&path, &key, Some("correct horse")).unwrap();
        assert!(is_sealed(&path).unwrap());
        assert!(matches!(load(&path), Err(KeyError::Unreadable { .. })));
        assert!(matches!(unseal(&path, "wrong horse"), Err(KeyError::WrongPassphrase(_))));
        assert_eq!(unseal(&path, "correct horse").unwrap(), key);
        assert_eq!(public_beside(&path).unwrap().unwrap(), key.verifying_key());
    }

    #[test]
    fn an_unsealed_key_is_sealed_in_place() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("root.pem");
        let key = generate().unwrap();
        create(&path, &key).unwrap();
        assert_eq!(load(&path).unwrap(), key);
        seal(&path, &key, "correct horse").unwrap();
        assert!(is_sealed(&path).unwrap());
        assert_eq!(unseal(&path, "correct horse").unwrap(), key);
    }
}
