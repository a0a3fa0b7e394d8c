//! What clients may take of a seed: every limit of registry and control API that its operator can set, with its default and
//! the reason for it. They stand in the table `[limits]` of `seed.toml`.
//!
//! Not here: limits that protect connections, which nobody needs to set; see [`crate::listener`] and
//! [`crate::transport::meter`].

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use anyhow::{Context as _, bail};
use protocol::byte_size;
use protocol::geometry::BLOB_BYTES_MAX;
use protocol::oci::manifest::{MANIFEST_BYTES_LEAST, MANIFEST_BYTES_MOST};
use protocol::rate_limit::Rate;
use protocol::upload_places::UploadPlaces;
use serde::{Deserialize, Serialize};

/// Stands before the name of a limit, in capitals, in the environment: `HEDGEROW_LIMITS_BODIES_MAX`.
pub const VARIABLE_PREFIX: &str = "HEDGEROW_LIMITS_";

/// What clients may take of a seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest blob that is taken in, in bytes. 64 GiB: its hash list, which is made in memory, has 32 MiB then.
    #[serde(deserialize_with = "byte_size::deserialize")]
    pub blob_bytes_max: u64,
    /// The largest manifest that is taken in, in bytes: 4 MiB, which the specification wants, to 7 MiB. While one is parsed
    /// and recorded it takes some five times its size in memory.
    #[serde(deserialize_with = "byte_size::deserialize")]
    pub manifest_bytes_max: usize,
    /// Uploads under way at the same time. 512: each may hold an open file, of which a process has 1024 by default. Organisations
    /// share them, and the places for bodies, by what is left: see [`protocol::fair_places`].
    pub uploads_max: usize,
    /// Uploads of one access key. 128: a quarter of all, so that a pipeline that leaves its uploads behind does not stop the
    /// others. At each of these limits the upload that has been idle longest makes room, if it is idle for five minutes.
    pub uploads_per_key_max: usize,
    /// Bodies of blobs that are taken in at the same time. 48: each has up to 512 KiB in memory. Further ones wait for 10 s.
    pub bodies_max: usize,
    /// Requests per second of one access key, and of one address (IPv6: one /64) without a valid key; 0 is no limit. 0: a
    /// number that suits everybody does not exist, and a surprising 429 in a rollout is worse than a busy seed.
    pub requests_per_second_per_key: u32,
    /// Requests that may come at once after a pause. 200: what pulling an image of a few dozen layers takes.
    pub requests_burst: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            blob_bytes_max: 64 << 30,
            manifest_bytes_max: MANIFEST_BYTES_LEAST,
            uploads_max: 512,
            uploads_per_key_max: 128,
            bodies_max: 48,
            requests_per_second_per_key: 0,
            requests_burst: NonZeroU32::new(200).unwrap_or(NonZeroU32::MIN),
        }
    }
}

impl Limits {
    /// Whether nothing was set, so that a file of settings need not say it.
    pub fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// The same, with what the environment says instead: variables named [`VARIABLE_PREFIX`] and a limit.
    ///
    /// # Errors
    /// When one names no limit, or has no number.
    pub fn overridden(self, variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let mut limits = toml::Table::try_from(&self)?;
        for (variable, text) in variables {
            let name = variable.trim_start_matches(VARIABLE_PREFIX).to_ascii_lowercase();
            let Some(limit) = limits.get_mut(&name) else {
                let known: Vec<&str> = limits.keys().map(String::as_str).collect();
                bail!("{variable} names no limit; there are {}", known.join(", "));
            };
            *limit = if name.ends_with("_bytes_max") {
                text.as_str().into()
            } else {
                text.parse::<i64>().with_context(|| format!("{variable} must be a whole number, not {text:?}"))?.into()
            };
        }
        limits.try_into().context("the limits that the environment sets")
    }

    /// Itself, if each value can be kept.
    ///
    /// # Errors
    /// With the first value that cannot, and what would do.
    pub fn checked(self) -> anyhow::Result<Self> {
        if !(1..=BLOB_BYTES_MAX).contains(&self.blob_bytes_max) {
            bail!("limits.blob_bytes_max must be 1 to {BLOB_BYTES_MAX} bytes, the most that a blob may have anywhere");
        }
        if !(MANIFEST_BYTES_LEAST..=MANIFEST_BYTES_MOST).contains(&self.manifest_bytes_max) {
            bail!("limits.manifest_bytes_max must be {MANIFEST_BYTES_LEAST} (what every registry takes) to {MANIFEST_BYTES_MOST} bytes");
        }
        let places =
            [("uploads_max", self.uploads_max), ("uploads_per_key_max", self.uploads_per_key_max), ("bodies_max", self.bodies_max)];
        for (name, value) in places {
            if !(1..=PLACES_MAX).contains(&value) {
                bail!("limits.{name} must be 1 to {PLACES_MAX}; to stop pushes altogether, revoke the keys that may push");
            }
        }
        Ok(self)
    }

    /// How many uploads there may be, and whose.
    pub const fn uploads(&self) -> UploadPlaces {
        UploadPlaces { all: self.uploads_max, per_key: self.uploads_per_key_max }
    }

    /// How often one client may ask; none if there is no limit.
    pub fn rate(&self) -> Option<Rate> {
        Some(Rate { per_second: NonZeroU32::new(self.requests_per_second_per_key)?, burst: self.requests_burst })
    }
}

/// More places than this cannot be meant: each costs a file and memory.
const PLACES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_kept_and_need_not_be_written_down() {
        let limits = Limits::default().checked().unwrap();
        assert!(limits.are_default() && limits.rate().is_none());
        assert_eq!(toml::from_str::<Limits>("").unwrap(), limits);
    }

    #[test]
    fn a_value_that_cannot_be_kept_is_refused_by_its_name() {
        for text in [
            "blob_bytes_max = 0",
            "blob_bytes_max = 2000000000000",
            "manifest_bytes_max = 1048576",
            "manifest_bytes_max = 8388608",
            "uploads_max = 0",
            "uploads_per_key_max = 0",
            "bodies_max = 100000",
        ] {
            let name = text.split(' ').next().unwrap();
            let refused = toml::from_str::<Limits>(text).unwrap().checked().unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
        assert!(toml::from_str::<Limits>("uploads = 1").is_err());
        assert!(toml::from_str::<Limits>("requests_burst = 0").is_err());
    }

    #[test]
    fn the_environment_overrides_any_limit_by_its_name_and_nothing_else() {
        let limits: Limits = toml::from_str("bodies_max = 7\nuploads_max = 9").unwrap();
        let with = |variable: &str, value: &str| limits.clone().overridden(&[(variable.to_owned(), value.to_owned())].into());
        assert_eq!(with("HEDGEROW_LIMITS_BODIES_MAX", "3").unwrap(), Limits { bodies_max: 3, ..limits.clone() });
        let rate = with("HEDGEROW_LIMITS_REQUESTS_PER_SECOND_PER_KEY", "5").unwrap().rate().unwrap();
        assert_eq!(rate.per_second.get(), 5);
        for (variable, value) in [
            ("HEDGEROW_LIMITS_BODIES", "3"),
            ("HEDGEROW_LIMITS_BODIES_MAX", "many"),
            ("HEDGEROW_LIMITS_BODIES_MAX", "-1"),
            ("HEDGEROW_LIMITS_REQUESTS_BURST", "0"),
        ] {
            let refused = format!("{:#}", with(variable, value).unwrap_err());
            assert!(refused.contains("LIMITS") || refused.contains("environment"), "{variable}={value}: {refused}");
        }
    }

    #[test]
    fn a_rate_is_in_force_when_it_is_set() {
        let limits: Limits = toml::from_str("requests_per_second_per_key = 5").unwrap();
        let rate = limits.rate().unwrap();
        assert_eq!((rate.per_second.get(), rate.burst.get()), (5, 200));
    }
}
