//! Where the passphrase of sealed keys comes from: the environment (for machines that sign alone), a file that it names, or
//! the terminal.
//!
//! Not here: sealing; see [`super::key_file`].

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use super::key_file::KeyError;

/// Holds the passphrase itself.
pub const PASSPHRASE_VARIABLE: &str = "HEDGEROW_KEYS_PASSPHRASE";

/// Names a file whose first line is the passphrase.
pub const PASSPHRASE_FILE_VARIABLE: &str = "HEDGEROW_KEYS_PASSPHRASE_FILE";

/// The passphrase that opens the key in `path`.
///
/// # Errors
/// When neither environment nor terminal gives one.
pub(super) fn for_existing(path: &Path) -> Result<String, KeyError> {
    if let Some(passphrase) = from_environment()? {
        return Ok(passphrase);
    }
    if !is_interactive() {
        return Err(KeyError::NoPassphrase(path.to_owned()));
    }
    rpassword::prompt_password(format!("passphrase of {}: ", path.display())).map_err(|error| KeyError::io(path, error))
}

/// The passphrase for new keys; none if the environment has none and nobody sits at a terminal, or who sits there wants none.
///
/// # Errors
/// When the file cannot be read, or what was typed twice differs.
pub fn for_new() -> Result<Option<String>, KeyError> {
    let given = from_environment()?;
    if given.is_some() || !is_interactive() {
        return Ok(given);
    }
    let ask = |prompt: &str| rpassword::prompt_password(prompt).map_err(|error| KeyError::io(Path::new("the terminal"), error));
    let first = ask("passphrase for the new keys (empty: none): ")?;
    if first.is_empty() {
        return Ok(None);
    }
    if ask("again: ")? == first { Ok(Some(first)) } else { Err(KeyError::PassphrasesDiffer) }
}

fn from_environment() -> Result<Option<String>, KeyError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(passphrase) = variable(PASSPHRASE_VARIABLE) {
        return Ok(Some(passphrase));
    }
    let Some(path) = variable(PASSPHRASE_FILE_VARIABLE).map(PathBuf::from) else { return Ok(None) };
    let text = std::fs::read_to_string(&path).map_err(|error| KeyError::io(&path, error))?;
    Ok(text.lines().next().filter(|line| !line.is_empty()).map(str::to_owned))
}

fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
