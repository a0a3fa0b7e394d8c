//! Small files that must not be lost or seen: keys, certificates, configuration and saved state.
//!
//! Not here: blobs; see [`crate::store::blobs`].

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, bail};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone (0600).
    Private,
    /// Everybody (0644).
    Public,
}

/// Writes a file that must not exist yet, durably.
///
/// # Errors
/// When it exists, or cannot be written.
pub fn write_new(path: &Path, content: &[u8], access: Access) -> anyhow::Result<()> {
    if path.exists() {
        bail!("{} exists already; it is not overwritten", path.display());
    }
    replace(path, content, access)
}

/// Writes or replaces a file durably: after a crash there is the old content or the new, never a part.
///
/// # Errors
/// When it cannot be written; the old content is then still there.
pub fn replace(path: &Path, content: &[u8], access: Access) -> anyhow::Result<()> {
    let parent = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    let mode = if access == Access::Private { 0o600 } else { 0o644 };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let attempt = || -> std::io::Result<()> {
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        File::open(parent)?.sync_all()
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}

/// Makes a folder, and those above it, that only its owner may enter (0700).
///
/// # Errors
/// When it cannot be made.
pub fn create_private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| format!("making the folder {}", path.display()))
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read, with its name.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn private_files_are_private_and_new_ones_do_not_overwrite() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"one", Access::Private).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_new(&path, b"two", Access::Private).unwrap_err().to_string().contains("exists already"));
        replace(&path, b"three", Access::Private).unwrap();
        assert_eq!(read_text(&path).unwrap(), "three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
