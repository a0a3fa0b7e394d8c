//! The names of things, one type per kind, each parsed once at the border.
//!
//! Not here: content names; see [`crate::digest`].

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of an organisation, app or device, in bytes: fits a DNS label (RFC 1035 §2.3.4) and a path component.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is not a name of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {rule}")]
pub struct NameRefused {
    kind: &'static str,
    rule: &'static str,
    text: String,
}

impl NameRefused {
    fn new(kind: &'static str, rule: &'static str, text: &str) -> Self {
        Self { kind, rule, text: text.chars().take(80).collect() }
    }
}

/// What every checked text shares once its `FromStr` is written.
macro_rules! checked_text {
    ($type:ident) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameRefused;

            fn try_from(text: String) -> Result<Self, NameRefused> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl FromStr for $type {
            type Err = NameRefused;

            fn from_str(text: &str) -> Result<Self, NameRefused> {
                if is_component(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameRefused::new($kind, COMPONENT_RULE, text))
                }
            }
        }

        checked_text!($type);
    };
}

const COMPONENT_RULE: &str = "1 to 63 of a-z 0-9, with single . _ - (or __, or several -) only between them";

name!(
    /// An organisation: owner of apps, devices and keys; the first part of every repository name.
    OrgName,
    "organisation name"
);
name!(
    /// An app of an organisation.
    AppName,
    "app name"
);
name!(
    /// A device, unique within its organisation.
    DeviceId,
    "device name"
);
name!(
    /// A group of devices, as rollouts name it.
    GroupName,
    "group name"
);
name!(
    /// A rollout, unique on its seed.
    RolloutId,
    "rollout id"
);

impl GroupName {
    /// The group of every device that no other group takes: `all`.
    pub fn all() -> Self {
        Self("all".to_owned())
    }

    /// Whether it is [`Self::all`].
    pub fn is_all(&self) -> bool {
        self.0 == "all"
    }
}

/// One component of an OCI repository name (distribution-spec, "Pulling manifests"), not longer than [`NAME_BYTES_MAX`].
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= NAME_BYTES_MAX
        && alphanumeric(first)
        && alphanumeric(last)
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(is_separator)
}

fn is_separator(text: &str) -> bool {
    matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

/// A repository of the registry: `<org>/<path…>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

/// The longest repository name, in bytes (distribution-spec: host and name together at most 255).
pub const REPOSITORY_NAME_BYTES_MAX: usize = 200;

impl RepositoryName {
    /// The repository of an app's only image: `<org>/<app>`.
    pub fn of_app(org: &OrgName, app: &AppName) -> Self {
        Self(format!("{org}/{app}"))
    }

    /// Whether the organisation owns the repository.
    pub fn is_of(&self, org: &OrgName) -> bool {
        self.0.strip_prefix(org.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The organisation that owns the repository.
    ///
    /// # Panics
    /// Never: a repository name is only made with a valid first component.
    #[expect(clippy::unwrap_used, reason = "from_str checked the first component")]
    pub fn org(&self) -> OrgName {
        self.0.split('/').next().and_then(|org| org.parse().ok()).unwrap()
    }
}

impl FromStr for RepositoryName {
    type Err = NameRefused;

    fn from_str(text: &str) -> Result<Self, NameRefused> {
        let components = text.split('/').count();
        if (2..=16).contains(&components) && text.len() <= REPOSITORY_NAME_BYTES_MAX && text.split('/').all(is_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameRefused::new("repository name", "it must be <organisation>/<name>, each part of a-z 0-9 . _ -", text))
        }
    }
}

checked_text!(RepositoryName);

/// A tag of a repository (distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl FromStr for Tag {
    type Err = NameRefused;

    fn from_str(text: &str) -> Result<Self, NameRefused> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= 128
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameRefused::new("tag", "1 to 128 of A-Z a-z 0-9 _ . -, not starting with . or -", text))
        }
    }
}

checked_text!(Tag);

/// What a device can run: `<os>-<arch>[-<variant>]`, in the words of the OCI image-spec (`linux-arm64`, `linux-arm-v7`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform(String);

impl Platform {
    /// The platform of these OCI image-spec properties; the default variant `v8` of `arm64` is left out.
    ///
    /// # Errors
    /// When a part is empty or holds anything but a-z and 0-9.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self, NameRefused> {
        match variant.filter(|variant| !variant.is_empty() && (architecture, *variant) != ("arm64", "v8")) {
            Some(variant) => format!("{os}-{architecture}-{variant}").parse(),
            None => format!("{os}-{architecture}").parse(),
        }
    }
}

impl FromStr for Platform {
    type Err = NameRefused;

    fn from_str(text: &str) -> Result<Self, NameRefused> {
        let parts: Vec<&str> = text.split('-').collect();
        let word = |part: &&str| {
            !part.is_empty() && part.len() <= 16 && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if (2..=3).contains(&parts.len()) && parts.iter().all(word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameRefused::new("platform", "it must be <os>-<arch> or <os>-<arch>-<variant>, for example linux-arm64", text))
        }
    }
}

checked_text!(Platform);

/// A node in the swarm: the SHA-256 of its certificate's public key (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7), so that
/// nobody chooses its own place in the rendezvous order freely.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 32]);

/// What tells nodes apart to a machine that decides among them: their [`NodeId`], or a number that stands for one where many
/// machines run in one process and thirty-two bytes in every map are most of what they take.
pub trait Identity: Copy + Ord + fmt::Debug {
    /// What the node's places in rendezvous orders follow from; of two nodes it is hardly ever the same.
    fn lot(&self) -> u64;
}

impl Identity for NodeId {
    fn lot(&self) -> u64 {
        self.head()
    }
}

impl NodeId {
    fn head(&self) -> u64 {
        self.0.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
    }
}

/// The order of the bytes. The first eight tell nearly all identities apart, in one comparison: a machine looks its peers up
/// with every input.
impl Ord for NodeId {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.head().cmp(&other.head()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..8]))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_distribution_spec() {
        for good in ["a", "0123456789abcdef0123456789abcdef", "a.b", "a__b", "a---b"] {
            assert!(good.parse::<OrgName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "a..b", "a___b", "-a", "a-", "a/b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<OrgName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_repository_has_an_organisation() {
        let repository: RepositoryName = "acme/web/api".parse().unwrap();
        assert_eq!(repository.org().as_str(), "acme");
        for (org, owns) in [("acme", true), ("acm", false), ("acme2", false), ("web", false)] {
            assert_eq!(repository.is_of(&org.parse().unwrap()), owns, "{org}");
        }
        for bad in ["web", "/web", "acme/", "acme//web", "acme/../web"] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_variant_of_arm64_is_left_out() {
        assert_eq!(Platform::new("linux", "arm64", Some("v8")).unwrap().as_str(), "linux-arm64");
        assert_eq!(Platform::new("linux", "arm", Some("v7")).unwrap().as_str(), "linux-arm-v7");
        assert!(Platform::new("linux", "../x", None).is_err());
    }
}
