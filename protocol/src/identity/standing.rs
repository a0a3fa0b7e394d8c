//! What a device certificate is good for at a moment: everything while it is valid, and little of it after.
//!
//! A device that was offline for longer than a certificate lives still shares with its site, since bytes are proven by
//! signatures, and comes back by renewing: neither needs more than the key. A *revoked* key is good for nothing at any time.
//!
//! Not here: revocation, see [`crate::statement::revocation`]; which key is on record, which the seed's store knows.

use crate::time::WallTime;
use crate::time::floor::CheckedTime;

/// Peers accept an expired certificate for blobs for this long, in seconds: a site may be cut off for a season.
pub const GRACE_SECONDS: u64 = 90 * 86_400;

/// From when to when a certificate is valid (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validity {
    /// The first moment.
    pub from: WallTime,
    /// The last moment.
    pub until: WallTime,
}

impl Validity {
    /// How long it is valid, in seconds.
    pub const fn seconds(&self) -> u64 {
        self.until.as_unix_seconds().saturating_sub(self.from.as_unix_seconds())
    }
}

/// What somebody shows a certificate for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A peer fetches or sends units.
    Blobs,
    /// A peer says where others may be found.
    Addresses,
    /// A device asks its seed for anything but a new certificate.
    Seed,
    /// A device asks its seed for a new certificate; the seed then checks that the key is the one on record.
    Renewal,
}

/// How a certificate stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its time has not come, by a clock that is trusted: it was signed under a clock that was ahead, and is good for one that
    /// is right.
    Early,
    /// It is valid.
    Valid,
    /// It expired less than [`GRACE_SECONDS`] ago.
    Grace,
    /// It expired longer ago.
    Over,
}

impl Standing {
    /// How a certificate stands at `time`. A clock that is behind proves nothing about a beginning that it has not reached.
    pub fn of(leaf: Validity, time: CheckedTime) -> Self {
        if time.now < leaf.from && time.trust.is_trusted() {
            Self::Early
        } else if time.now <= leaf.until {
            Self::Valid
        } else if time.now <= leaf.until.plus_seconds(GRACE_SECONDS) {
            Self::Grace
        } else {
            Self::Over
        }
    }

    /// Whether it is good enough for `purpose`.
    pub const fn allows(self, purpose: Purpose) -> bool {
        match (self, purpose) {
            (Self::Valid, _) | (Self::Grace, Purpose::Blobs) | (Self::Early | Self::Grace | Self::Over, Purpose::Renewal) => true,
            (Self::Early | Self::Grace | Self::Over, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::floor::TimeTrust;

    const LEAF: Validity = Validity { from: WallTime::from_unix_seconds(1_000), until: WallTime::from_unix_seconds(2_000) };
    const ALL: [Purpose; 4] = [Purpose::Blobs, Purpose::Addresses, Purpose::Seed, Purpose::Renewal];

    fn allowed(now: u64) -> Vec<Purpose> {
        let standing = Standing::of(LEAF, CheckedTime::trusted(WallTime::from_unix_seconds(now)));
        ALL.into_iter().filter(|purpose| standing.allows(*purpose)).collect()
    }

    #[test]
    fn a_certificate_is_good_for_less_the_longer_it_has_expired() {
        assert_eq!(allowed(999), [Purpose::Renewal], "the clock that signed it was ahead, and is right again");
        assert_eq!(allowed(1_000), ALL);
        assert_eq!(allowed(2_000), ALL);
        assert_eq!(allowed(2_001), [Purpose::Blobs, Purpose::Renewal]);
        assert_eq!(allowed(2_000 + GRACE_SECONDS), [Purpose::Blobs, Purpose::Renewal]);
        assert_eq!(allowed(2_001 + GRACE_SECONDS), [Purpose::Renewal]);
        assert_eq!(allowed(u64::MAX), [Purpose::Renewal], "a device that was away for years comes back");
    }

    #[test]
    fn a_device_without_a_clock_takes_certificates_that_are_newer_than_its_floor() {
        let early = |trust| Standing::of(LEAF, CheckedTime { now: WallTime::from_unix_seconds(10), trust });
        assert_eq!(early(TimeTrust::Trusted), Standing::Early);
        assert_eq!(early(TimeTrust::Behind), Standing::Valid);
    }
}
