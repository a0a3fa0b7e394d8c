//! The keys that stay with the operator, and the operator's trust anchor: `DIR/<org>/{root,targets,app}.pem` and
//! `DIR/<org>/root.json`.
//!
//! Not here: the seed's online key, see [`super::online_key`]; keys sealed under a passphrase, which are not read yet.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use protocol::name::OrgName;

use super::key_file::{self, KeyError};
use crate::files::{self, Access};

const ROOT_KEY: &str = "root.pem";
const TARGETS_KEY: &str = "targets.pem";
const APP_KEY: &str = "app.pem";
const TRUSTED_ROOT: &str = "root.json";

/// An organisation's offline keys. Whoever holds them decides what its devices run.
pub struct OperatorKeys {
    dir: PathBuf,
    org: OrgName,
    pub(super) root: SigningKey,
    pub(super) targets: SigningKey,
    pub(super) app: SigningKey,
}

impl std::fmt::Debug for OperatorKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorKeys").field("dir", &self.dir).field("org", &self.org).finish_non_exhaustive()
    }
}

impl OperatorKeys {
    /// Makes new keys for `org` in `dir/<org>`: all of them become visible at once, or none.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when `dir/<org>` exists; otherwise when the disk or the random source fails.
    pub fn generate(dir: &Path, org: &OrgName) -> Result<Self, KeyError> {
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
        let [root, targets, app] = [key_file::generate()?, key_file::generate()?, key_file::generate()?];
        for (name, key) in [(ROOT_KEY, &root), (TARGETS_KEY, &targets), (APP_KEY, &app)] {
            key_file::create(&staged.path().join(name), key)?;
        }
        std::fs::rename(staged.path(), &home).map_err(|error| match error.kind() {
            std::io::ErrorKind::DirectoryNotEmpty => KeyError::Exists(home.clone()),
            _ => KeyError::io(&home, error),
        })?;
        let _ = staged.keep();
        files::sync_dir(dir).map_err(|error| KeyError::io(dir, error))?;
        Ok(Self { dir: home, org: org.clone(), root, targets, app })
    }

    /// Reads the keys of `org` from `dir/<org>`.
    ///
    /// # Errors
    /// [`KeyError::Missing`] or [`KeyError::Unreadable`] with the file's name.
    pub fn load(dir: &Path, org: &OrgName) -> Result<Self, KeyError> {
        let home = dir.join(org.as_str());
        let key = |name: &str| key_file::load(&home.join(name));
        let [root, targets, app] = [key(ROOT_KEY)?, key(TARGETS_KEY)?, key(APP_KEY)?];
        Ok(Self { dir: home, org: org.clone(), root, targets, app })
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

    /// What to tell an operator whose keys were written or read unsealed.
    pub fn unsealed_warning(&self) -> String {
        format!(
            "the private keys in {} are not sealed with a passphrase; whoever reads them can ship code to every device of {}: keep the directory on a machine that only you use, and back it up",
            self.dir.display(),
            self.org
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_once_privately_and_read_back() {
        let home = tempfile::tempdir().unwrap();
        let org: OrgName = "acme".parse().unwrap();
        let dir = home.path().join("keys");
        let made = OperatorKeys::generate(&dir, &org).unwrap();
        let read = OperatorKeys::load(&dir, &org).unwrap();
        assert_eq!(made.root, read.root);
        assert_eq!(made.targets, read.targets);
        assert_eq!(made.app, read.app);
        assert!(matches!(OperatorKeys::generate(&dir, &org), Err(KeyError::Exists(_))));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(made.dir()), 0o700);
        for name in [ROOT_KEY, TARGETS_KEY, APP_KEY] {
            assert_eq!(mode(&made.dir().join(name)), 0o600);
        }
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no staging directory is left");
        assert!(!format!("{made:?}").contains("root"));
    }

    #[test]
    fn missing_and_broken_keys_are_told_apart() {
        let home = tempfile::tempdir().unwrap();
        let org: OrgName = "acme".parse().unwrap();
        assert!(matches!(OperatorKeys::load(home.path(), &org), Err(KeyError::Missing(_))));
        let keys = OperatorKeys::generate(home.path(), &org).unwrap();
        assert!(matches!(keys.trusted_root(), Err(KeyError::Missing(_))));
        std::fs::write(keys.dir().join(APP_KEY), "-----BEGIN PRIVATE KEY-----\n").unwrap();
        assert!(matches!(OperatorKeys::load(home.path(), &org), Err(KeyError::Unreadable { .. })));
    }

    #[test]
    fn the_trusted_root_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let keys = OperatorKeys::generate(home.path(), &"acme".parse().unwrap()).unwrap();
        keys.store_trusted_root(b"{}").unwrap();
        assert_eq!(keys.trusted_root().unwrap(), b"{}");
    }
}
