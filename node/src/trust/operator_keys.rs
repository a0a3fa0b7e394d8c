//! The keys that stay with people, and their trust anchor: `DIR/<org>/NAME.pem`, each with its public half in `NAME.pub`,
//! and `DIR/<org>/root.json`. A directory need not have every key: one who signs versions needs no root key.
//!
//! Not here: the seed's online key, see [`super::online_key`]; one key file, see [`super::key_file`].

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use protocol::envelope::Envelope;
use protocol::name::OrgName;
use serde_json::Value;

use super::key_file::{self, KeyError};
use super::{metadata, passphrase};
use crate::files::{self, Access};

/// The key that signs roots, by the name of its file.
pub const ROOT_KEY: &str = "root";
/// The key that signs the top-level targets.
pub const TARGETS_KEY: &str = "targets";
/// The key that signs versions.
pub const APP_KEY: &str = "app";

const TRUSTED_ROOT: &str = "root.json";
const KEY_EXTENSION: &str = "pem";
/// Where keys go that were replaced: they are needed to sign the step away from them.
const RETIRED: &str = "retired";

/// A key file; what is sealed is opened when it has to sign.
struct OperatorKey {
    name: String,
    path: PathBuf,
    public: VerifyingKey,
    secret: OnceLock<SigningKey>,
}

/// An organisation's offline keys, as far as they are here. Whoever holds them decides what its devices run.
pub struct OperatorKeys {
    dir: PathBuf,
    org: OrgName,
    keys: Vec<OperatorKey>,
    passphrase: OnceLock<String>,
}

impl std::fmt::Debug for OperatorKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorKeys").field("dir", &self.dir).field("org", &self.org).finish_non_exhaustive()
    }
}

impl OperatorKeys {
    /// Makes new root, targets and app keys for `org` in `dir/<org>`, sealed if there is a passphrase: all of them become
    /// visible at once, or none.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when `dir/<org>` exists; otherwise when the disk or the random source fails.
    pub fn generate(dir: &Path, org: &OrgName, passphrase: Option<&str>) -> Result<Self, KeyError> {
        Self::generate_named(dir, org, &[ROOT_KEY, TARGETS_KEY, APP_KEY], passphrase)
    }

    /// The same for keys of these names alone: for one of several people who hold a role together.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_named(dir: &Path, org: &OrgName, names: &[&str], passphrase: Option<&str>) -> Result<Self, KeyError> {
        let home = dir.join(org.as_str());
        if home.symlink_metadata().is_ok() {
            return Err(KeyError::Exists(home));
        }
        files::create_private_dir(dir).map_err(|error| KeyError::io(dir, error.source))?;
        let staged = tempfile::Builder::new()
            .prefix(".new-keys-")
            .permissions(Permissions::from_mode(files::PRIVATE_DIR_MODE))
            .tempdir_in(dir)
            .map_err(|error| KeyError::io(dir, error))?;
        for name in names {
            key_file::create_with_public(&staged.path().join(name).with_extension(KEY_EXTENSION), &key_file::generate()?, passphrase)?;
        }
        std::fs::rename(staged.path(), &home).map_err(|error| match error.kind() {
            std::io::ErrorKind::DirectoryNotEmpty => KeyError::Exists(home.clone()),
            _ => KeyError::io(&home, error),
        })?;
        let _ = staged.keep();
        files::sync_dir(dir).map_err(|error| KeyError::io(dir, error))?;
        let made = Self::load(dir, org)?;
        Ok(match passphrase {
            Some(passphrase) => Self { passphrase: passphrase.to_owned().into(), ..made },
            None => made,
        })
    }

    /// Finds the keys of `org` in `dir/<org>`.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when there is no such directory, [`KeyError::Unreadable`] with the name of a broken key.
    pub fn load(dir: &Path, org: &OrgName) -> Result<Self, KeyError> {
        let home = dir.join(org.as_str());
        let mut paths = key_files(&home)?;
        let retired = home.join(RETIRED);
        if retired.is_dir() {
            paths.extend(key_files(&retired)?);
        }
        let mut found = Self { dir: home, org: org.clone(), keys: Vec::new(), passphrase: OnceLock::new() };
        for path in paths {
            let key = found.read(path)?;
            found.keys.push(key);
        }
        Ok(found)
    }

    /// The organisation that the keys belong to.
    pub const fn org(&self) -> &OrgName {
        &self.org
    }

    /// The directory of the keys, `DIR/<org>`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root metadata that the operator trusts and enrolment tokens carry the SHA-256 of.
    ///
    /// # Errors
    /// [`KeyError::Missing`] before [`Self::store_trusted_root`].
    pub fn trusted_root(&self) -> Result<Vec<u8>, KeyError> {
        let path = self.dir.join(TRUSTED_ROOT);
        std::fs::read(&path).map_err(|error| KeyError::io(&path, error))
    }

    /// Makes `root` the root metadata that the operator trusts, durably. The caller made or verified it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn store_trusted_root(&self, root: &[u8]) -> Result<(), KeyError> {
        let path = self.dir.join(TRUSTED_ROOT);
        files::replace(&path, root, Access::Public).map_err(|error| KeyError::io(&path, error.source))
    }

    /// The public half of the key with this name.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when it is not here.
    pub fn public(&self, name: &str) -> Result<VerifyingKey, KeyError> {
        Ok(self.named(name)?.public)
    }

    /// The identity of the key with this name.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when it is not here.
    pub fn keyid(&self, name: &str) -> Result<String, KeyError> {
        Ok(metadata::keyid(&self.named(name)?.public))
    }

    /// The name of the key with this identity, if it is here.
    pub fn name_of(&self, keyid: &str) -> Option<&str> {
        self.keys.iter().find(|key| metadata::keyid(&key.public) == keyid).map(|key| key.name.as_str())
    }

    /// The key with this name, opened.
    ///
    /// # Errors
    /// When it is not here or cannot be opened.
    #[cfg(test)]
    pub(super) fn secret(&self, name: &str) -> Result<&SigningKey, KeyError> {
        self.open(self.named(name)?)
    }

    /// The metadata file of `signed`, signed by each key that is here and among `keyids`.
    pub(super) fn sign(&self, signed: &Value, keyids: &[String]) -> Result<String, KeyError> {
        let may = self.keys.iter().filter(|key| keyids.contains(&metadata::keyid(&key.public)));
        let secrets = may.map(|key| self.open(key)).collect::<Result<Vec<_>, _>>()?;
        Ok(metadata::sign(signed, &secrets))
    }

    /// The envelope of `payload`, signed by the key with this name.
    ///
    /// # Errors
    /// When it is not here or cannot be opened.
    pub fn seal_envelope(&self, name: &str, payload_type: &str, payload: &[u8]) -> Result<Envelope, KeyError> {
        let key = self.named(name)?;
        let secret = self.open(key)?;
        Ok(Envelope::seal(payload_type, payload, &metadata::keyid(&key.public), |bytes| secret.sign(bytes)))
    }

    /// Whether one of `keyids` is here.
    pub(super) fn holds_one_of(&self, keyids: &[String]) -> bool {
        keyids.iter().any(|keyid| self.name_of(keyid).is_some())
    }

    /// Replaces the key `name` by a new one; the old one is moved aside and still signs, because the step away from it
    /// needs its signature.
    ///
    /// # Errors
    /// When it is not here, or the disk or the random source fails.
    pub fn replace(&mut self, name: &str, passphrase: Option<&str>) -> Result<VerifyingKey, KeyError> {
        let old = self.named(name)?.path.clone();
        let retired = self.dir.join(RETIRED);
        files::create_private_dir(&retired).map_err(|error| KeyError::io(&retired, error.source))?;
        let label = metadata::keyid(&self.named(name)?.public);
        for extension in [KEY_EXTENSION, "pub"] {
            let from = old.with_extension(extension);
            let to = retired.join(format!("{name}-{}.{extension}", label.get(..8).unwrap_or_default()));
            if from.is_file() {
                std::fs::rename(&from, &to).map_err(|error| KeyError::io(&from, error))?;
            }
            if let Some(key) = self.keys.iter_mut().find(|key| key.path == from) {
                (key.name, key.path) = (format!("{RETIRED}/{name}-{}", label.get(..8).unwrap_or_default()), to);
            }
        }
        key_file::create_with_public(&old, &key_file::generate()?, passphrase)?;
        files::sync_dir(&self.dir).map_err(|error| KeyError::io(&self.dir, error))?;
        let key = self.read(old)?;
        let public = key.public;
        self.keys.push(key);
        Ok(public)
    }

    /// Seals every key that is not sealed; the number of them.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn seal(&self, passphrase: &str) -> Result<usize, KeyError> {
        let mut sealed = 0;
        for key in &self.keys {
            if !key_file::is_sealed(&key.path)? {
                key_file::seal(&key.path, self.open(key)?, passphrase)?;
                sealed += 1;
            }
        }
        Ok(sealed)
    }

    /// What to tell an operator whose keys are not all sealed; none if they are.
    pub fn unsealed_warning(&self) -> Option<String> {
        let unsealed = self.keys.iter().any(|key| !key_file::is_sealed(&key.path).unwrap_or(false));
        unsealed.then(|| {
            format!(
                "the private keys in {} are not sealed with a passphrase; whoever reads them can ship code to every device of {}: \
                 seal them with `hedgerow trust seal {}`, keep the directory on a machine that only you use, and back it up",
                self.dir.display(),
                self.org,
                self.org
            )
        })
    }

    fn named(&self, name: &str) -> Result<&OperatorKey, KeyError> {
        let missing = || KeyError::Missing(self.dir.join(name).with_extension(KEY_EXTENSION));
        self.keys.iter().find(|key| key.name == name).ok_or_else(missing)
    }

    fn read(&self, path: PathBuf) -> Result<OperatorKey, KeyError> {
        let secret = OnceLock::new();
        let public = if key_file::is_sealed(&path)? {
            match key_file::public_beside(&path)? {
                Some(public) => public,
                None => {
                    let key = key_file::unseal(&path, self.passphrase_of(&path)?)?;
                    secret.get_or_init(|| key).verifying_key()
                }
            }
        } else {
            let key = key_file::load(&path)?;
            secret.get_or_init(|| key).verifying_key()
        };
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_retired = path.parent().is_some_and(|parent| parent.ends_with(RETIRED));
        let name = if is_retired { format!("{RETIRED}/{stem}") } else { stem.to_owned() };
        Ok(OperatorKey { name, path, public, secret })
    }

    fn open<'a>(&self, key: &'a OperatorKey) -> Result<&'a SigningKey, KeyError> {
        if let Some(secret) = key.secret.get() {
            return Ok(secret);
        }
        let secret = key_file::unseal(&key.path, self.passphrase_of(&key.path)?)?;
        if secret.verifying_key() != key.public {
            let detail = "the public key beside it belongs to another key".to_owned();
            return Err(KeyError::Unreadable { path: key.path.clone(), detail });
        }
        Ok(key.secret.get_or_init(|| secret))
    }

    /// The passphrase, asked for once.
    fn passphrase_of(&self, path: &Path) -> Result<&str, KeyError> {
        if let Some(passphrase) = self.passphrase.get() {
            return Ok(passphrase);
        }
        let asked = passphrase::for_existing(path)?;
        Ok(self.passphrase.get_or_init(|| asked))
    }
}

/// The private key files in `dir`, in order.
fn key_files(dir: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let entries = std::fs::read_dir(dir).map_err(|error| KeyError::io(dir, error))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == KEY_EXTENSION));
    paths.sort_unstable();
    Ok(paths)
}

/// The public key in the PEM file `path`, of somebody else.
///
/// # Errors
/// When it is no ed25519 public key.
pub fn read_public(path: &Path) -> Result<VerifyingKey, KeyError> {
    key_file::read_public(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_once_privately_and_read_back() {
        let home = tempfile::tempdir().unwrap();
        let org: OrgName = "acme".parse().unwrap();
        let dir = home.path().join("keys");
        let made = OperatorKeys::generate(&dir, &org, None).unwrap();
        let read = OperatorKeys::load(&dir, &org).unwrap();
        assert!(matches!(OperatorKeys::generate(&dir, &org, None), Err(KeyError::Exists(_))));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(made.dir()), 0o700);
        for name in [ROOT_KEY, TARGETS_KEY, APP_KEY] {
            assert_eq!(made.secret(name).unwrap(), read.secret(name).unwrap());
            assert_eq!(mode(&made.dir().join(name).with_extension("pem")), 0o600);
        }
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no staging directory is left");
        assert!(!format!("{made:?}").contains("root"));
        assert!(made.unsealed_warning().is_some());
    }

    #[test]
    fn sealed_keys_are_opened_only_to_sign() {
        let home = tempfile::tempdir().unwrap();
        let org: OrgName = "acme".parse().unwrap();
        let made = OperatorKeys::generate(home.path(), &org, Some("correct horse")).unwrap();
        assert!(made.unsealed_warning().is_none());
        let read = OperatorKeys::load(home.path(), &org).unwrap();
        assert_eq!(read.public(APP_KEY).unwrap(), made.public(APP_KEY).unwrap());
        read.passphrase.set("wrong horse".to_owned()).unwrap();
        assert!(matches!(read.secret(APP_KEY), Err(KeyError::WrongPassphrase(_))));
        made.secret(APP_KEY).unwrap();
    }

    #[test]
    fn a_key_that_was_replaced_still_signs_the_step_away_from_it() {
        let home = tempfile::tempdir().unwrap();
        let org: OrgName = "acme".parse().unwrap();
        let mut keys = OperatorKeys::generate(home.path(), &org, None).unwrap();
        let old = metadata::keyid(&keys.public(ROOT_KEY).unwrap());
        let new = metadata::keyid(&keys.replace(ROOT_KEY, None).unwrap());
        assert_ne!(old, new);
        let signed = keys.sign(&serde_json::json!({"a": 1}), &[old.clone(), new.clone()]).unwrap();
        assert!(signed.contains(&old) && signed.contains(&new));
        let read = OperatorKeys::load(home.path(), &org).unwrap();
        assert_eq!(read.name_of(&new), Some(ROOT_KEY));
        assert!(read.name_of(&old).unwrap().starts_with("retired/root-"), "until the step is in force, the old one is wanted");
    }

    #[test]
    fn missing_and_broken_keys_are_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let org: OrgName = "acme".parse().unwrap();
        assert!(matches!(OperatorKeys::load(home.path(), &org), Err(KeyError::Missing(_))));
        let keys = OperatorKeys::generate(home.path(), &org, None).unwrap();
        assert!(matches!(keys.trusted_root(), Err(KeyError::Missing(_))));
        assert!(matches!(keys.public("other"), Err(KeyError::Missing(_))));
        std::fs::write(keys.dir().join("app.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
        assert!(matches!(OperatorKeys::load(home.path(), &org), Err(KeyError::Unreadable { .. })));
    }

    #[test]
    fn the_trusted_root_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let keys = OperatorKeys::generate(home.path(), &"acme".parse().unwrap(), None).unwrap();
        keys.store_trusted_root(b"{}").unwrap();
        assert_eq!(keys.trusted_root().unwrap(), b"{}");
    }
}
