//! How long a seed's device certificates live: the table `[identity]` of `seed.toml`.
//!
//! Not here: when they are renewed; [`protocol::identity::renewal`] decides.

use anyhow::bail;
use protocol::statement::revocation::LEAF_SECONDS_MAX;
use serde::{Deserialize, Serialize};

/// The shortest life, in seconds: shorter ones are over before a slow WAN has brought the next.
const LEAF_SECONDS_MIN: u64 = 10;

/// The identities of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// How long a device certificate lives, in seconds, 10 to 90 days. 30 days: a device that is no longer wanted falls out by
    /// itself, and one that is off for a month needs its seed only to renew.
    pub leaf_seconds: u64,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self { leaf_seconds: 30 * 86_400 }
    }
}

impl IdentityConfig {
    /// Whether nothing was set, so that a file of settings need not say it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Itself, if each value can be kept.
    ///
    /// # Errors
    /// With the value that cannot, and what would do.
    pub fn checked(self) -> anyhow::Result<Self> {
        if !(LEAF_SECONDS_MIN..=LEAF_SECONDS_MAX).contains(&self.leaf_seconds) {
            bail!("identity.leaf_seconds must be {LEAF_SECONDS_MIN} to {LEAF_SECONDS_MAX} seconds (90 days), not {}", self.leaf_seconds);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_cannot_be_kept_is_refused_by_its_name() {
        assert!(IdentityConfig::default().checked().is_ok());
        for leaf_seconds in [0, LEAF_SECONDS_MIN - 1, LEAF_SECONDS_MAX + 1] {
            assert!(IdentityConfig { leaf_seconds }.checked().unwrap_err().to_string().contains("identity.leaf_seconds"));
        }
    }
}
