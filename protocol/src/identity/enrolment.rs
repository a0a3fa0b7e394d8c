//! Which device a token gives a certificate to. A token is good for a number of devices, or for one that it names; it gives
//! away no device's name twice unless it says so, and no revoked key ever comes back.
//!
//! Not here: that the applicant has its key, which its certificate request proves; see `node::transport::ca`.

use crate::digest::Digest;
use crate::name::DeviceId;
use crate::statement::revocation::KEYS_MAX;
use crate::time::WallTime;

/// The longest life of a token, in seconds: a token is a secret that lies around until it is used.
pub const TOKEN_SECONDS_MAX: u64 = 30 * 86_400;

/// The most devices that one token enrols: a factory's day. Whoever finds such a token can add that many devices; a revocation
/// list has room for all of them.
pub const TOKEN_USES_MAX: u32 = 10_000;

const _: () = assert!(TOKEN_USES_MAX as usize <= KEYS_MAX, "what one token enrols can be revoked");

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// From this moment on it is refused.
    pub expires: WallTime,
    /// How many devices it can still enrol.
    pub uses_left: u32,
    /// The only device that it enrols; any if none.
    pub device: Option<DeviceId>,
    /// Whether that device may be enrolled already, with another key, which this one then takes the place of.
    pub replaces: bool,
}

/// Who asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// The name that it wants.
    pub device: DeviceId,
    /// SHA-256 of the key that it has.
    pub key: Digest,
    /// Whether that key was revoked, at any time and under any name.
    pub is_revoked: bool,
}

/// How an applicant is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// As a new device: a use of the token is gone.
    New,
    /// As the device that it is already, whose answer may have been lost: no use is gone.
    Again,
    /// In place of the key that its name was enrolled with: a use is gone, and the old key is to be revoked.
    Replacing,
}

/// Why a token gives no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// No such token was ever made here.
    #[error("the token is not known to this seed; make a new one with `hedgerow fleet token`")]
    Unknown,
    /// All its uses are gone.
    #[error("the token was used before, as often as it allows; make a new one with `hedgerow fleet token`")]
    Used,
    /// Its time is over.
    #[error("the token has expired; make a new one with `hedgerow fleet token`")]
    Expired,
    /// It names another device.
    #[error("the token is for device {0} alone; give that name with --device, or make another token with `hedgerow fleet token`")]
    OtherDevice(DeviceId),
    /// The name is taken.
    #[error(
        "device {0} is enrolled with another key; choose another name with --device, or let this one take its place with a token from \
         `hedgerow fleet token --device {0} --replace`"
    )]
    Taken(DeviceId),
    /// The key was revoked.
    #[error("the key of this device was revoked and is never accepted again; remove its --data folder, and enrol with a new key")]
    Revoked,
}

impl Terms {
    /// Whether the token still counts at `now`, before anything else of the applicant is looked at. One whose uses are gone is
    /// looked at further: a device whose answer was lost asks again.
    ///
    /// # Errors
    /// With what ended it first: its uses, or its time.
    pub fn check_time(&self, now: WallTime) -> Result<(), TokenRefused> {
        match self.expires <= now {
            true if self.uses_left == 0 => Err(TokenRefused::Used),
            true => Err(TokenRefused::Expired),
            false => Ok(()),
        }
    }
}

/// Whether `terms` let `applicant` in at `now`; `known` is the key that its name was enrolled with.
///
/// # Errors
/// With the reason why not.
pub fn admit(terms: &Terms, applicant: &Applicant, known: Option<&Digest>, now: WallTime) -> Result<Admitted, TokenRefused> {
    terms.check_time(now)?;
    if applicant.is_revoked {
        return Err(TokenRefused::Revoked);
    }
    if let Some(device) = terms.device.as_ref().filter(|device| **device != applicant.device) {
        return Err(TokenRefused::OtherDevice(device.clone()));
    }
    match known {
        Some(key) if *key == applicant.key => Ok(Admitted::Again),
        _ if terms.uses_left == 0 => Err(TokenRefused::Used),
        None => Ok(Admitted::New),
        Some(_) if terms.replaces && terms.device.is_some() => Ok(Admitted::Replacing),
        Some(_) => Err(TokenRefused::Taken(applicant.device.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_unix_seconds(100);

    fn terms() -> Terms {
        Terms { expires: NOW.plus_seconds(1), uses_left: 1, device: None, replaces: false }
    }

    fn applicant(key: &[u8]) -> Applicant {
        Applicant { device: "d1".parse().unwrap(), key: Digest::sha256(key), is_revoked: false }
    }

    #[test]
    fn a_token_is_good_for_its_uses_and_its_time() {
        assert_eq!(admit(&terms(), &applicant(b"k"), None, NOW), Ok(Admitted::New));
        assert_eq!(admit(&Terms { uses_left: 0, ..terms() }, &applicant(b"k"), None, NOW), Err(TokenRefused::Used));
        assert_eq!(admit(&Terms { expires: NOW, ..terms() }, &applicant(b"k"), None, NOW), Err(TokenRefused::Expired));
        assert_eq!(admit(&Terms { expires: NOW, uses_left: 0, ..terms() }, &applicant(b"k"), None, NOW), Err(TokenRefused::Used));
    }

    #[test]
    fn a_device_whose_answer_was_lost_asks_again_with_the_same_key() {
        let (used, key) = (Terms { uses_left: 0, ..terms() }, Digest::sha256(b"k"));
        assert_eq!(admit(&used, &applicant(b"k"), Some(&key), NOW), Ok(Admitted::Again));
        assert_eq!(admit(&used, &applicant(b"other"), Some(&key), NOW), Err(TokenRefused::Used));
        assert_eq!(admit(&Terms { expires: NOW, ..used }, &applicant(b"k"), Some(&key), NOW), Err(TokenRefused::Used));
    }

    #[test]
    fn a_name_is_taken_over_only_by_a_token_that_names_it_and_says_so() {
        let (old, device) = (Digest::sha256(b"old"), Some("d1".parse().unwrap()));
        let named = Terms { device, ..terms() };
        for refusing in [terms(), named.clone(), Terms { replaces: true, ..terms() }] {
            let refused = admit(&refusing, &applicant(b"new"), Some(&old), NOW);
            assert_eq!(refused, Err(TokenRefused::Taken("d1".parse().unwrap())), "{refusing:?}");
        }
        let replacing = Terms { replaces: true, ..named };
        assert_eq!(admit(&replacing, &applicant(b"new"), Some(&old), NOW), Ok(Admitted::Replacing));
        assert_eq!(admit(&replacing, &applicant(b"new"), None, NOW), Ok(Admitted::New));
        let other = Applicant { device: "d2".parse().unwrap(), ..applicant(b"new") };
        assert_eq!(admit(&replacing, &other, None, NOW), Err(TokenRefused::OtherDevice("d1".parse().unwrap())));
    }

    #[test]
    fn a_revoked_key_is_refused_whatever_the_token_says() {
        let revoked = Applicant { is_revoked: true, ..applicant(b"k") };
        let replacing = Terms { device: Some("d1".parse().unwrap()), replaces: true, ..terms() };
        for known in [None, Some(Digest::sha256(b"k")), Some(Digest::sha256(b"old"))] {
            assert_eq!(admit(&terms(), &revoked, known.as_ref(), NOW), Err(TokenRefused::Revoked));
            assert_eq!(admit(&replacing, &revoked, known.as_ref(), NOW), Err(TokenRefused::Revoked));
        }
    }
}
