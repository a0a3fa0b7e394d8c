//! Scenario files, and settings over them on the command line; what is refused is refused with its place.
//!
//! Not here: which keys there are; see [`super::Choices`].

use std::path::Path;

use anyhow::{Context, anyhow, bail};

use super::{Choices, Scenario};

impl Choices {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// When it cannot be read, or is not a scenario: with file, line and column.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = text_of(path)?;
        match toml::from_str(&text) {
            Ok(choices) => Ok(choices),
            Err(error) => {
                let (line, column) = line_and_column(&text, error.span().map_or(0, |span| span.start));
                bail!("{}:{line}:{column}: {}", path.display(), error.message())
            }
        }
    }

    /// Reads settings `key=value`, as a scenario file has them, a key of a table with a dot: `faults.liars=1`. A text needs no
    /// quotes. Of two of the same key the later one counts.
    ///
    /// # Errors
    /// When one is none: with the setting.
    pub fn from_settings(settings: &[impl AsRef<str>]) -> anyhow::Result<Self> {
        settings.iter().try_fold(Self::default(), |before, setting| {
            let setting = setting.as_ref();
            let (key, value) =
                setting.split_once('=').with_context(|| format!("--set {setting}: expected key=value, such as wan_mbit=20"))?;
            let quoted = toml::from_str(&format!("{key} = {value:?}"));
            let read: Result<Self, toml::de::Error> = toml::from_str(setting).or_else(|error| quoted.map_err(|_| error));
            read.map(|choices| choices.or(before)).map_err(|error| anyhow!("--set {setting}: {}", error.message()))
        })
    }
}

impl Scenario {
    /// The scenario of flags over settings over a file.
    ///
    /// # Errors
    /// When one of them is wrong, or they cannot be run together: with the place in the file, if it stands there.
    pub fn load(flags: Choices, settings: &[impl AsRef<str>], file: Option<&Path>) -> anyhow::Result<Self> {
        let from_file = file.map(Choices::read).transpose()?.unwrap_or_default();
        let choices = flags.or(Choices::from_settings(settings)?).or(from_file);
        Self::try_from(choices).map_err(|error| {
            let place = file.and_then(|file| {
                let line = line_of_key(&text_of(file).ok()?, &error.to_string())?;
                Some(format!("{}:{line}: ", file.display()))
            });
            anyhow!("{}{error:#}", place.unwrap_or_default())
        })
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read the scenario {}", path.display()))
}

/// The line that sets the key which an error names first, between backticks.
fn line_of_key(text: &str, error: &str) -> Option<usize> {
    let key = error.split('`').nth(1)?;
    let sets = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key) || line.trim() == format!("[[{key}]]");
    text.lines().position(sets).map(|line| line + 1)
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_a_file_is_and_the_last_one_counts() {
        let choices = Choices::from_settings(&["wan_mbit=5", "faults.liars=2", "sharing=equal", "wan_mbit=20"]).unwrap();
        assert_eq!((choices.wan_mbit, choices.faults.liars), (Some(20), Some(2)));
        assert_eq!(choices.sharing, Some(super::super::SharingKind::Equal));
        for (wrong, reason) in [("wan_mbit", "key=value"), ("wan_mbitt=3", "unknown field"), ("devices=many", "--set devices=many")] {
            let error = format!("{:#}", Choices::from_settings(&[wrong]).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_the_line_of_its_key() {
        assert_eq!(line_of_key("devices = 3\n\n[faults]\n  liars= 9\n", "`liars` and `withholders` leave no device"), Some(4));
        assert_eq!(line_of_key("[[kill]]\nsite = 3", "`kill` names site 3"), Some(1));
        assert_eq!(line_of_key("sites = 4", "`devices` is 3"), None);
    }
}
