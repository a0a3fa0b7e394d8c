//! Settings: flag or environment, then file, then default; checked once, before anything is opened.
//!
//! Not here: flags themselves; see `cli`.

pub mod device;
pub mod identity;
pub mod limits;
pub mod logs;
pub mod seed;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::files;

/// Reads a TOML file; an unknown key or a wrong value is refused with file, line and column.
///
/// # Errors
/// When the file cannot be read or does not fit.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = files::read_text(path)?;
    toml::from_str(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = &text[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        anyhow::anyhow!("{}:{line}:{column}: {}", path.display(), error.message())
    })
}

/// Reads the file that was named, or the default one if it exists.
///
/// # Errors
/// When the named file is missing, or either does not fit.
pub fn read_optional<T: DeserializeOwned + Default>(named: Option<&Path>, default: &Path) -> anyhow::Result<T> {
    match named {
        Some(path) => read_toml(path),
        None if default.exists() => read_toml(default),
        None => Ok(T::default()),
    }
}

/// Reads `[listen address]:port`.
///
/// # Errors
/// When it is none.
pub fn address(text: &str, what: &str) -> anyhow::Result<SocketAddr> {
    text.parse().with_context(|| format!("{what} must be ADDRESS:PORT, for example 127.0.0.1:8080 or [::1]:8080, not {text:?}"))
}

/// Refuses an address that other machines can reach, for a listener that asks nobody who they are.
///
/// # Errors
/// When it is not a loopback address.
pub fn require_loopback(address: SocketAddr, what: &str) -> anyhow::Result<()> {
    if !address.ip().is_loopback() {
        bail!("{what} is {address}, which other machines can reach, but it asks nobody who they are; use a loopback address");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_file_line_and_column() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "poll_seconds = 5\n\n  pol_seconds = 6\n").unwrap();
        let error = read_toml::<device::DeviceFile>(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:3:3: unknown field `pol_seconds`", path.display())), "{error}");
    }
}
