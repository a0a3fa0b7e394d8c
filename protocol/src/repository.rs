//! Settings of repositories: for which they are meant, and which hold where several match.
//!
//! An organisation keeps settings under patterns: a repository's own name, or `<org>/<path>/*` for everything below a path.
//! Of the patterns that match a repository, the longest that says something about a setting decides it. Whether a
//! repository is public is said under its own name alone, so that nobody publishes what others push later.
//!
//! | module | decides |
//! |---|---|
//! | [`tags`] | which tags a pattern of tags means, and whether a tag may be moved or deleted |
//! | [`retention`] | which tags expire, and when |
//!
//! Not here: what repositories hold.

pub mod retention;
pub mod tags;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cosign::{CosignKey, KEYS_MAX};
use crate::name::{NameRefused, OrgName, RepositoryName};
use tags::TagGlob;

/// The most globs that one setting may list: each push that moves a tag tries all of them.
pub const GLOBS_MAX: usize = 64;

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
    /// Whether everybody may pull, also without an access key; only under a repository's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// The tags that cannot be moved or deleted; an empty list is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<Vec<TagGlob>>,
    /// The tags that are never immutable; where nothing is said, [`tags::MUTABLE_BY_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutable: Option<Vec<TagGlob>>,
    /// So many of the newest tags are kept; 0 is no such rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// Tags are kept for so many days after their last push; 0 is no such rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
    /// The tags that retention looks at; where nothing is said, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire: Option<Vec<TagGlob>>,
    /// An image is published as a version only with a cosign signature of one of these keys; an empty list asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Vec<CosignKey>>,
}

/// One of the [`RepositorySettings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named like the settings")]
pub enum Setting {
    Public,
    Immutable,
    Mutable,
    KeepLast,
    KeepDays,
    Expire,
    SignedBy,
}

/// Why settings are not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsRefused {
    /// A pattern that also means repositories which do not exist yet cannot be public.
    #[error("{0} means several repositories; whether one is public is set under its own name, one by one")]
    PublicPattern(RepositoryPattern),
    /// A list is too long.
    #[error("a setting lists at most {GLOBS_MAX} patterns of tags, not {0}")]
    TooManyGlobs(usize),
    /// A policy names too many keys.
    #[error("images can be asked to be signed by one of at most {KEYS_MAX} keys, not {0}")]
    TooManyKeys(usize),
}

impl Setting {
    /// Every setting, in the order in which they are shown.
    pub const ALL: [Self; 7] = [Self::Public, Self::Immutable, Self::Mutable, Self::KeepLast, Self::KeepDays, Self::Expire, Self::SignedBy];

    /// Whether `settings` say something about it.
    pub const fn is_said(self, settings: &RepositorySettings) -> bool {
        match self {
            Self::Public => settings.public.is_some(),
            Self::Immutable => settings.immutable.is_some(),
            Self::Mutable => settings.mutable.is_some(),
            Self::KeepLast => settings.keep_last.is_some(),
            Self::KeepDays => settings.keep_days.is_some(),
            Self::Expire => settings.expire.is_some(),
            Self::SignedBy => settings.signed_by.is_some(),
        }
    }
}

impl RepositorySettings {
    /// What is said here, and where nothing is, what `others` say.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            public: self.public.or(others.public),
            immutable: self.immutable.or_else(|| others.immutable.clone()),
            mutable: self.mutable.or_else(|| others.mutable.clone()),
            keep_last: self.keep_last.or(others.keep_last),
            keep_days: self.keep_days.or(others.keep_days),
            expire: self.expire.or_else(|| others.expire.clone()),
            signed_by: self.signed_by.or_else(|| others.signed_by.clone()),
        }
    }

    /// Checks that they may be kept under `pattern`.
    ///
    /// # Errors
    /// When they may not.
    pub fn check(&self, pattern: &RepositoryPattern) -> Result<(), SettingsRefused> {
        if self.public.is_some() && !matches!(pattern, RepositoryPattern::One(_)) {
            return Err(SettingsRefused::PublicPattern(pattern.clone()));
        }
        if let Some(keys) = self.signed_by.as_ref().map(Vec::len).filter(|keys| *keys > KEYS_MAX) {
            return Err(SettingsRefused::TooManyKeys(keys));
        }
        let longest = [&self.immutable, &self.mutable, &self.expire].into_iter().flatten().map(Vec::len).max();
        longest.filter(|globs| *globs > GLOBS_MAX).map_or(Ok(()), |globs| Err(SettingsRefused::TooManyGlobs(globs)))
    }
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

    /// Every pattern that matches `repository`, the closest first.
    pub fn matching(repository: &RepositoryName) -> Vec<Self> {
        let above = |path: &str| path.rfind('/').and_then(|end| path[..end].parse().ok());
        let paths = std::iter::successors(above(repository.as_str()), |path: &RepositoryName| above(path.as_str()));
        let below = paths.map(Self::Below);
        std::iter::once(Self::One(repository.clone())).chain(below).chain([Self::All(repository.org())]).collect()
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
    closest_first(settings, repository).fold(RepositorySettings::default(), |found, (pattern, settings)| {
        let public = found.public.or(settings.public.filter(|_| matches!(pattern, RepositoryPattern::One(_))));
        RepositorySettings { public, ..found.or(settings) }
    })
}

/// The pattern that decides `setting` for one repository, if anything is said about it.
pub fn decided_by<'a>(
    settings: &'a BTreeMap<RepositoryPattern, RepositorySettings>,
    repository: &RepositoryName,
    setting: Setting,
) -> Option<&'a RepositoryPattern> {
    let counts = |pattern: &RepositoryPattern| setting != Setting::Public || matches!(pattern, RepositoryPattern::One(_));
    closest_first(settings, repository).find(|(pattern, said)| setting.is_said(said) && counts(pattern)).map(|(pattern, _)| pattern)
}

fn closest_first<'a>(
    settings: &'a BTreeMap<RepositoryPattern, RepositorySettings>,
    repository: &RepositoryName,
) -> impl Iterator<Item = (&'a RepositoryPattern, &'a RepositorySettings)> {
    RepositoryPattern::matching(repository).into_iter().filter_map(|pattern| settings.get_key_value(&pattern))
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
    fn the_patterns_of_a_repository_are_those_that_match_it_closest_first() {
        let patterns = |text| RepositoryPattern::matching(&name(text));
        let shown: Vec<String> = patterns("acme/a/b/c").iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["acme/a/b/c", "acme/a/b/*", "acme/a/*", "acme/*"]);
        assert!(patterns("acme/a/b/c").iter().all(|pattern| pattern.matches(&name("acme/a/b/c"))));
        assert_eq!(patterns("acme/web").len(), 2);
    }

    #[test]
    fn the_closest_pattern_that_says_something_decides() {
        let keep = |keep_last, keep_days| RepositorySettings { keep_last, keep_days, ..RepositorySettings::default() };
        let settings = [("acme/*", keep(Some(1), Some(10))), ("acme/team/*", keep(Some(2), None)), ("acme/team/web", keep(None, Some(30)))];
        let settings = settings.map(|(pattern, settings)| (pattern.parse().unwrap(), settings)).into();
        let kept = |repository| {
            let found = in_force(&settings, &name(repository));
            (found.keep_last, found.keep_days)
        };
        assert_eq!(kept("acme/web"), (Some(1), Some(10)));
        assert_eq!(kept("acme/team/api"), (Some(2), Some(10)));
        assert_eq!(kept("acme/team/web"), (Some(2), Some(30)));
        assert_eq!(kept("other/web"), (None, None));
        let by = |setting| decided_by(&settings, &name("acme/team/web"), setting).map(ToString::to_string);
        assert_eq!(by(Setting::KeepLast).as_deref(), Some("acme/team/*"));
        assert_eq!((by(Setting::KeepDays).as_deref(), by(Setting::Immutable)), (Some("acme/team/web"), None));
    }

    #[test]
    fn a_repository_is_public_under_its_own_name_alone() {
        let public = |public| RepositorySettings { public, ..RepositorySettings::default() };
        let all: RepositoryPattern = "acme/*".parse().unwrap();
        assert_eq!(public(Some(true)).check(&all), Err(SettingsRefused::PublicPattern(all.clone())));
        let web: RepositoryPattern = "acme/web".parse().unwrap();
        public(Some(true)).check(&web).unwrap();
        let settings = [(all, public(Some(true))), (web.clone(), public(Some(true)))].into();
        let found = |repository| in_force(&settings, &name(repository)).public;
        assert_eq!((found("acme/web"), found("acme/api")), (Some(true), None), "also where such a record exists");
        assert_eq!(decided_by(&settings, &name("acme/api"), Setting::Public), None);
        assert_eq!(decided_by(&settings, &name("acme/web"), Setting::Public), Some(&web));
    }

    #[test]
    fn settings_read_what_they_print_and_name_every_setting() {
        let text = r#"{"public":true,"immutable":["v*"],"mutable":[],"keep_last":3,"keep_days":0,"expire":["pr-*"],"signed_by":[]}"#;
        let settings: RepositorySettings = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&settings).unwrap(), text);
        assert!(Setting::ALL.iter().all(|setting| setting.is_said(&settings) && !setting.is_said(&RepositorySettings::default())));
        let globs = Some(vec!["*".parse().unwrap(); GLOBS_MAX + 1]);
        let long = RepositorySettings { expire: globs, ..settings };
        assert_eq!(long.check(&"acme/web".parse().unwrap()), Err(SettingsRefused::TooManyGlobs(GLOBS_MAX + 1)));
    }
}
