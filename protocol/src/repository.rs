//! Settings of repositories: for which they are meant, and which hold where several match.
//!
//! An organisation keeps settings under patterns: a repository's own name, or `<org>/<path>/*` for everything below a path.
//! Of the patterns that match a repository, the longest that says something about a setting decides it.
//!
//! Not here: what repositories hold.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{NameRefused, OrgName, RepositoryName};

/// Stands at the end of a pattern for one or more further components.
const BELOW: &str = "/*";

/// Which repositories of an organisation are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RepositoryPattern {
    /// One repository.
    One(RepositoryName),
    /// All repositories of an organisation.
    All(OrgName),
    /// All repositories below a path, which is itself a repository's name.
    Below(RepositoryName),
}

/// What an organisation said about the repositories of a pattern; none stands for nothing said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// Whether everybody may pull, also without an access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
}

impl RepositoryPattern {
    /// The organisation whose repositories are meant.
    pub fn org(&self) -> OrgName {
        match self {
            Self::One(repository) | Self::Below(repository) => repository.org(),
            Self::All(org) => org.clone(),
        }
    }

    /// Whether `repository` is meant.
    pub fn matches(&self, repository: &RepositoryName) -> bool {
        let below = |path: &str| repository.as_str().strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        match self {
            Self::One(one) => one == repository,
            Self::All(org) => below(org.as_str()),
            Self::Below(path) => below(path.as_str()),
        }
    }

    /// How closely the pattern names its repositories: of two that match one repository, the closer has the higher value.
    fn closeness(&self) -> (bool, usize) {
        match self {
            Self::One(_) => (true, 0),
            Self::All(_) => (false, 0),
            Self::Below(path) => (false, path.as_str().len()),
        }
    }
}

impl FromStr for RepositoryPattern {
    type Err = NameRefused;

    fn from_str(text: &str) -> Result<Self, NameRefused> {
        match text.strip_suffix(BELOW) {
            None => text.parse().map(Self::One),
            Some(path) if path.contains('/') => path.parse().map(Self::Below),
            Some(org) => org.parse().map(Self::All),
        }
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(repository) => write!(f, "{repository}"),
            Self::All(org) => write!(f, "{org}{BELOW}"),
            Self::Below(path) => write!(f, "{path}{BELOW}"),
        }
    }
}

impl TryFrom<String> for RepositoryPattern {
    type Error = NameRefused;

    fn try_from(text: String) -> Result<Self, NameRefused> {
        text.parse()
    }
}

impl From<RepositoryPattern> for String {
    fn from(pattern: RepositoryPattern) -> Self {
        pattern.to_string()
    }
}

/// The settings in force for one repository, setting by setting from the closest pattern that says something about it.
pub fn in_force(settings: &BTreeMap<RepositoryPattern, RepositorySettings>, repository: &RepositoryName) -> RepositorySettings {
    let mut matching: Vec<_> = settings.iter().filter(|(pattern, _)| pattern.matches(repository)).collect();
    matching.sort_by_key(|(pattern, _)| pattern.closeness());
    let mut found = RepositorySettings::default();
    for (_, settings) in matching {
        found.public = settings.public.or(found.public);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_are_read_and_shown_the_same() {
        for text in ["acme/web", "acme/*", "acme/team/*", "acme/team/web"] {
            let pattern: RepositoryPattern = text.parse().unwrap();
            assert_eq!((pattern.to_string().as_str(), pattern.org().as_str()), (text, "acme"));
        }
        for text in ["", "*", "acme", "/*", "acme/**", "acme/*/web", "acme//*", "Acme/*"] {
            assert!(text.parse::<RepositoryPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_matches_whole_components_below_it() {
        let matches = |pattern: &str, repository| pattern.parse::<RepositoryPattern>().unwrap().matches(&name(repository));
        assert!(matches("acme/*", "acme/web") && matches("acme/*", "acme/team/web"));
        assert!(matches("acme/team/*", "acme/team/web") && !matches("acme/team/*", "acme/team"));
        assert!(!matches("acme/team/*", "acme/team2/web") && !matches("acme/*", "acme2/web") && !matches("acme/web", "acme/web/x"));
    }

    #[test]
    fn the_closest_pattern_that_says_something_decides() {
        let set = |public| RepositorySettings { public };
        let settings = [("acme/*", set(Some(true))), ("acme/team/*", set(Some(false))), ("acme/team/web", set(None))];
        let settings = settings.map(|(pattern, settings)| (pattern.parse().unwrap(), settings)).into();
        let public = |repository| in_force(&settings, &name(repository)).public;
        assert_eq!((public("acme/web"), public("acme/team/web"), public("other/web")), (Some(true), Some(false), None));
    }
}
