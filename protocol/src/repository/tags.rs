//! Patterns of tags, and which tags stay where they are.
//!
//! An immutable tag keeps the manifest that it was first pushed with: a push of the same manifest is taken, because clients
//! repeat pushes; a push of another one is refused, and so is the deletion of the tag or of its manifest. Retention may
//! still remove it, when the organisation's settings say both: see [`super::retention`].
//!
//! Not here: who may push and delete at all.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{RepositoryPattern, RepositorySettings, Setting, decided_by, in_force};
use crate::digest::Digest;
use crate::name::{RepositoryName, Tag};

/// The tags that are exempt from immutability where nothing else is said. Tools name them after the digest of what they
/// are about, and write them again and again: cosign's `sha256-<hex>.sig`, `.att` and `.sbom`, and the list of referrers
/// that clients keep at registries without referrers (distribution-spec, "Referrers Tag Schema").
pub const MUTABLE_BY_DEFAULT: [&str; 2] = ["sha256-*", "sha512-*"];

/// The longest glob: that of a tag.
const GLOB_BYTES_MAX: usize = 128;

/// A pattern of tags: `*` stands for any text, also none; everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagGlob(String);

/// The text is no pattern of tags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pattern of tags: 1 to 128 of A-Z a-z 0-9 _ . -, and * for any text, for example v*")]
pub struct GlobRefused(String);

/// What was to be done with a tag that stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Point it at this manifest.
    MoveTo(Digest),
    /// Remove it.
    Delete,
    /// Remove this from the repository, which what it names leads to.
    DeletePart(Digest),
}

/// The tag stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tag {tag} of {repository} is immutable (setting of {pattern}): it names {current} and {}; use another tag, \
     or lift it with `hedgerow repo set {repository} --immutable off`, which \
     needs a key with scope admin",
    match attempt {
        Attempt::MoveTo(digest) => format!("cannot be moved to {digest}"),
        Attempt::Delete => "cannot be deleted".to_owned(),
        Attempt::DeletePart(digest) => format!("needs {digest}, which cannot be deleted"),
    }
)]
pub struct TagImmutable {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// What it names.
    pub current: Digest,
    /// What was to be done.
    pub attempt: Attempt,
    /// Where the setting comes from.
    pub pattern: RepositoryPattern,
}

impl TagGlob {
    /// Every tag.
    pub fn all() -> Self {
        Self("*".to_owned())
    }

    /// Whether `tag` is meant.
    pub fn matches(&self, tag: &Tag) -> bool {
        let tag = tag.as_str();
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == tag };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(between) = tag.strip_prefix(first).and_then(|tag| tag.strip_suffix(last)) else { return false };
        let mut left = Some(between);
        for part in middle.split('*') {
            left = left.and_then(|left| left.split_once(part)).map(|(_, after)| after);
        }
        left.is_some()
    }
}

impl FromStr for TagGlob {
    type Err = GlobRefused;

    fn from_str(text: &str) -> Result<Self, GlobRefused> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'*');
        if (1..=GLOB_BYTES_MAX).contains(&text.len()) && text.bytes().all(valid) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GlobRefused(text.chars().take(GLOB_BYTES_MAX).collect()))
        }
    }
}

impl TryFrom<String> for TagGlob {
    type Error = GlobRefused;

    fn try_from(text: String) -> Result<Self, GlobRefused> {
        text.parse()
    }
}

impl From<TagGlob> for String {
    fn from(glob: TagGlob) -> Self {
        glob.0
    }
}

impl fmt::Display for TagGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The manifest that a tag is about by its own name, `sha256-<hex>` with or without a `.suffix`: signatures, attestations,
/// SBOMs, lists of referrers.
pub fn subject_of(tag: &Tag) -> Option<Digest> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse().ok()
}

impl RepositorySettings {
    /// Whether `tag` stays where it was first pushed to.
    pub fn is_immutable(&self, tag: &Tag) -> bool {
        let is_in = |globs: &[TagGlob]| globs.iter().any(|glob| glob.matches(tag));
        let exempt = match &self.mutable {
            Some(globs) => is_in(globs),
            None => MUTABLE_BY_DEFAULT.iter().any(|glob| TagGlob((*glob).to_owned()).matches(tag)),
        };
        !exempt && self.immutable.as_deref().is_some_and(is_in)
    }
}

/// Checks that `attempt` may be made on a tag of `repository` that names `current`; `settings` are those of the
/// organisation, at least those that match the repository.
///
/// # Errors
/// When the tag stays where it is.
pub fn check_attempt(
    settings: &BTreeMap<RepositoryPattern, RepositorySettings>,
    repository: &RepositoryName,
    tag: &Tag,
    current: &Digest,
    attempt: Attempt,
) -> Result<(), Box<TagImmutable>> {
    if attempt == Attempt::MoveTo(*current) || !in_force(settings, repository).is_immutable(tag) {
        return Ok(());
    }
    let pattern = decided_by(settings, repository, Setting::Immutable).cloned();
    let pattern = pattern.unwrap_or_else(|| RepositoryPattern::One(repository.clone()));
    Err(Box::new(TagImmutable { repository: repository.clone(), tag: tag.clone(), current: *current, attempt, pattern }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    fn globs(texts: &[&str]) -> Option<Vec<TagGlob>> {
        Some(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn cosign(suffix: &str) -> Tag {
        tag(&format!("sha256-{}{suffix}", Digest::sha256(b"image").hex()))
    }

    #[test]
    fn a_glob_matches_the_whole_tag() {
        let cases = [
            ("v1", "v1 !v10 !v !xv1"),
            ("v*", "v v1 v1.0 !av1 !V1"),
            ("*", "a latest"),
            ("*-rc", "1-rc -rc !1-rc2"),
            ("v*.*.*", "v1.2.3 v1.2.3.4 v... !v1.2 !v12"),
            ("a*a", "aa aba !a !ab"),
            ("a**b", "ab axb !a"),
            ("*ab*ab*", "abab xabxabx !ab !aab"),
        ];
        for (glob, tags) in cases {
            let parsed: TagGlob = glob.parse().unwrap();
            for case in tags.split(' ') {
                let (text, expected) = case.strip_prefix('!').map_or((case, true), |text| (text, false));
                if let Ok(tag) = text.parse() {
                    assert_eq!(parsed.matches(&tag), expected, "{glob} {text}");
                }
            }
        }
        for bad in ["", "v?", "a/b", "ä*", "a b", &"x".repeat(129)] {
            assert!(bad.parse::<TagGlob>().is_err(), "{bad}");
        }
    }

    #[test]
    fn signatures_and_lists_of_referrers_are_exempt_unless_a_list_says_otherwise() {
        let all = RepositorySettings { immutable: globs(&["*"]), ..RepositorySettings::default() };
        assert!(all.is_immutable(&tag("v1")) && !RepositorySettings::default().is_immutable(&tag("v1")));
        for suffix in [".sig", ".att", ".sbom", ""] {
            assert!(!all.is_immutable(&cosign(suffix)), "{suffix}");
        }
        let strict = RepositorySettings { mutable: globs(&["latest"]), ..all };
        assert!(strict.is_immutable(&cosign(".sig")) && !strict.is_immutable(&tag("latest")));
        let versions = RepositorySettings { immutable: globs(&["v*", "1.*"]), ..RepositorySettings::default() };
        assert!(versions.is_immutable(&tag("v1")) && versions.is_immutable(&tag("1.0")) && !versions.is_immutable(&tag("edge")));
        let none = RepositorySettings { immutable: globs(&[]), ..RepositorySettings::default() };
        assert!(!none.is_immutable(&tag("v1")));
    }

    #[test]
    fn a_tag_that_is_named_after_a_digest_is_about_it() {
        for suffix in ["", ".sig", ".att.1"] {
            assert_eq!(subject_of(&cosign(suffix)), Some(Digest::sha256(b"image")), "{suffix}");
        }
        for other in ["v1", "sha256-00", "sha256-", "md5-d41d8cd98f00b204e9800998ecf8427e"] {
            assert_eq!(subject_of(&tag(other)), None, "{other}");
        }
    }

    #[test]
    fn an_immutable_tag_takes_its_own_digest_alone_and_the_refusal_says_what_to_do() {
        let (one, two, web) = (Digest::sha256(b"1"), Digest::sha256(b"2"), "acme/web".parse().unwrap());
        let all = RepositorySettings { immutable: globs(&["v*"]), ..RepositorySettings::default() };
        let settings = [("acme/*".parse().unwrap(), all)].into();
        let check = |name: &str, attempt| check_attempt(&settings, &web, &tag(name), &one, attempt);
        check("v1", Attempt::MoveTo(one)).unwrap();
        check("edge", Attempt::MoveTo(two)).unwrap();
        check("edge", Attempt::Delete).unwrap();
        let refused = check("v1", Attempt::MoveTo(two)).unwrap_err().to_string();
        for part in ["v1", "acme/*", &one.to_string(), &two.to_string(), "hedgerow repo set acme/web --immutable off"] {
            assert!(refused.contains(part), "{part} in {refused}");
        }
        assert!(check("v1", Attempt::Delete).unwrap_err().to_string().contains("deleted"));
    }
}
