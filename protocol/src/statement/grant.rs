//! Grants: signed offline by an app's keys, for a device that cannot ask the seed. Where the organisation's root allows them, a
//! grant stands for timestamp and desired state: it lets a group, or one device, run one version until a moment.
//!
//! Not here: what the version is, which the version statement says; see [`super::version`].

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::signed::{self, Format, Unreadable};
use crate::envelope::{Envelope, EnvelopeRefused};
use crate::name::{AppName, DeviceId, GroupName, OrgName};
use crate::time::WallTime;

/// The DSSE payload type of a grant.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.grant+json";

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// The longest that a grant may be valid, in seconds: a year. A device that is cut off for longer gets a new one with its
/// next visit.
pub const GRANT_SECONDS_MAX: u64 = 365 * 86_400;

/// Whom a grant is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The devices of a group.
    Group(String),
    /// One device.
    Device(DeviceId),
}

/// The right to run a version without asking the seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The format of this document, [`FORMAT`].
    pub format: u32,
    /// The organisation.
    pub org: OrgName,
    /// The app.
    pub app: AppName,
    /// The version.
    pub version: u64,
    /// Whom it is for.
    pub subject: Subject,
    /// Order among the grants of the app: an older one is refused.
    pub counter: u64,
    /// From this moment on it is refused, in seconds since 1970.
    pub not_after: WallTime,
}

impl Format for Grant {
    const FORMAT: u32 = FORMAT;
}

/// Who may grant for an app, as the organisation's verified metadata says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantAuthority {
    /// The organisation.
    pub org: OrgName,
    /// The app.
    pub app: AppName,
    /// Whether the root allows grants at all.
    pub is_allowed: bool,
    /// The keys of the app's role.
    pub keys: Vec<VerifyingKey>,
    /// How many of them must sign.
    pub threshold: usize,
    /// The least version that devices may start.
    pub floor: u64,
}

/// Who asks whether a grant is for him.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// Its group for the app; none if its version is pinned.
    pub group: Option<&'a GroupName>,
}

/// Why a grant is not acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefused {
    /// The root does not allow grants.
    #[error("the organisation's root allows no grants; `hedgerow trust set ORG --grants allow` changes that")]
    NotAllowed,
    /// The envelope is broken or of another type.
    #[error(transparent)]
    Envelope(EnvelopeRefused),
    /// Fewer of the app's keys signed it than must.
    #[error("{found} of the app's keys signed the grant, {threshold} must")]
    BadSignature {
        /// How many did.
        found: usize,
        /// How many must.
        threshold: usize,
    },
    /// Signed, but not JSON of the expected shape.
    #[error("the grant cannot be read: {0}")]
    Malformed(String),
    /// Written in a format this program does not know.
    #[error("the grant has format {0}, this program reads {FORMAT}; update it")]
    OtherFormat(u32),
    /// It is another organisation's or app's.
    #[error("the grant is for {org}/{app}")]
    OtherApp {
        /// The organisation that it names.
        org: OrgName,
        /// The app that it names.
        app: AppName,
    },
    /// It is for somebody else.
    #[error("the grant is for another device or group")]
    OtherSubject,
    /// A newer one was accepted before.
    #[error("the grant has counter {found}, {accepted} was accepted before")]
    OlderCounter {
        /// What the document says.
        found: u64,
        /// The newest accepted before.
        accepted: u64,
    },
    /// Its version is ruled out.
    #[error("the grant is for version {version}, below {floor}, the least that the app's key allows")]
    BelowFloor {
        /// The version.
        version: u64,
        /// The least version allowed.
        floor: u64,
    },
    /// Its time is over.
    #[error("the grant expired at {0}")]
    Expired(WallTime),
    /// It is valid for longer than a grant may be.
    #[error("the grant would be valid until {0}, more than a year from now; check this machine's clock, or sign a shorter one")]
    TooLong(WallTime),
}

impl From<Unreadable> for GrantRefused {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed(detail) => Self::Malformed(detail),
            Unreadable::OtherFormat { found, .. } => Self::OtherFormat(found),
        }
    }
}

impl GrantRefused {
    /// A short name of the reason, for metrics and reports.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::Envelope(EnvelopeRefused::BadSignature) | Self::BadSignature { .. } => "bad_signature",
            Self::Envelope(EnvelopeRefused::Malformed | EnvelopeRefused::OtherType(_)) | Self::Malformed(_) => "malformed",
            Self::OtherFormat(_) => "other_format",
            Self::OtherApp { .. } => "other_app",
            Self::OtherSubject => "other_subject",
            Self::OlderCounter { .. } => "older_counter",
            Self::BelowFloor { .. } => "below_floor",
            Self::Expired(_) => "expired",
            Self::TooLong(_) => "too_long",
        }
    }
}

/// The app that the envelope `bytes` is about, as it says itself: by it the keys are found that must have signed it.
///
/// # Errors
/// When it is no envelope of a grant.
pub fn app_named(bytes: &[u8]) -> Result<AppName, GrantRefused> {
    #[derive(Deserialize)]
    struct About {
        app: AppName,
    }
    let payload = Envelope::open_by(bytes, PAYLOAD_TYPE, |_, _, _| true).map_err(GrantRefused::Envelope)?;
    let about: About = serde_json::from_slice(&payload).map_err(|error| GrantRefused::Malformed(error.to_string()))?;
    Ok(about.app)
}

/// A grant that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedGrant(Grant);

impl AcceptedGrant {
    /// Checks the envelope `bytes` for `holder`, which accepted a grant of this app with counter `newest` before.
    ///
    /// # Errors
    /// With the reason why it must not be acted on.
    pub fn accept(
        bytes: &[u8],
        authority: &GrantAuthority,
        holder: Holder<'_>,
        newest: Option<u64>,
        now: WallTime,
    ) -> Result<Self, GrantRefused> {
        if !authority.is_allowed {
            return Err(GrantRefused::NotAllowed);
        }
        let payload = signed_payload(bytes, authority)?;
        let grant: Grant = signed::read(&payload)?;
        if grant.org != authority.org || grant.app != authority.app {
            return Err(GrantRefused::OtherApp { org: grant.org, app: grant.app });
        }
        let is_for_holder = match &grant.subject {
            Subject::Group(group) => holder.group.is_some_and(|own| own.as_str() == group),
            Subject::Device(device) => device == holder.device,
        };
        if !is_for_holder {
            return Err(GrantRefused::OtherSubject);
        }
        if let Some(accepted) = newest.filter(|accepted| grant.counter < *accepted) {
            return Err(GrantRefused::OlderCounter { found: grant.counter, accepted });
        }
        if grant.version < authority.floor {
            return Err(GrantRefused::BelowFloor { version: grant.version, floor: authority.floor });
        }
        if grant.not_after <= now {
            return Err(GrantRefused::Expired(grant.not_after));
        }
        if grant.not_after > now.plus_seconds(GRANT_SECONDS_MAX) {
            return Err(GrantRefused::TooLong(grant.not_after));
        }
        Ok(Self(grant))
    }

    /// What was accepted.
    pub const fn grant(&self) -> &Grant {
        &self.0
    }
}

/// The document, if enough different keys signed it.
fn signed_payload(bytes: &[u8], authority: &GrantAuthority) -> Result<Vec<u8>, GrantRefused> {
    let (mut payload, mut counted) = (None, Vec::new());
    for key in &authority.keys {
        match Envelope::open(bytes, PAYLOAD_TYPE, key) {
            Ok(opened) if !counted.contains(&key) => {
                counted.push(key);
                payload = Some(opened);
            }
            Ok(_) | Err(EnvelopeRefused::BadSignature) => {}
            Err(broken) => return Err(GrantRefused::Envelope(broken)),
        }
    }
    let (found, threshold) = (counted.len(), authority.threshold);
    payload.filter(|_| threshold >= 1 && found >= threshold).ok_or(GrantRefused::BadSignature { found, threshold })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    const NOW: WallTime = WallTime::from_unix_seconds(1_000_000);

    fn key(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    fn grant() -> Grant {
        Grant {
            format: FORMAT,
            org: "acme".parse().unwrap(),
            app: "web".parse().unwrap(),
            version: 3,
            subject: Subject::Group("all".into()),
            counter: 5,
            not_after: NOW.plus_seconds(60),
        }
    }

    fn authority() -> GrantAuthority {
        let (org, app) = ("acme".parse().unwrap(), "web".parse().unwrap());
        GrantAuthority { org, app, is_allowed: true, keys: vec![key(1).verifying_key()], threshold: 1, floor: 2 }
    }

    fn seal(grant: &Grant, signers: &[u8]) -> Vec<u8> {
        let payload = serde_json::to_vec(grant).unwrap();
        let seal = |number: &u8| Envelope::seal(PAYLOAD_TYPE, &payload, "app", |bytes| key(*number).sign(bytes));
        let mut envelopes: Vec<Envelope> = signers.iter().map(seal).collect();
        let mut envelope = envelopes.remove(0);
        envelope.signatures.extend(envelopes.into_iter().flat_map(|other| other.signatures));
        serde_json::to_vec(&envelope).unwrap()
    }

    fn accept_as(bytes: &[u8], authority: &GrantAuthority, newest: Option<u64>) -> Result<AcceptedGrant, &'static str> {
        let (device, group) = ("d1".parse().unwrap(), GroupName::all());
        let holder = Holder { device: &device, group: Some(&group) };
        AcceptedGrant::accept(bytes, authority, holder, newest, NOW).map_err(|refused| refused.reason())
    }

    fn accept(grant: &Grant) -> Result<AcceptedGrant, &'static str> {
        accept_as(&seal(grant, &[1]), &authority(), None)
    }

    #[test]
    fn a_grant_counts_for_its_group_or_device_alone() {
        assert_eq!(accept(&grant()).unwrap().grant().version, 3);
        let of = |subject| accept(&Grant { subject, ..grant() });
        assert!(of(Subject::Device("d1".parse().unwrap())).is_ok());
        assert_eq!(of(Subject::Device("d2".parse().unwrap())), Err("other_subject"));
        assert_eq!(of(Subject::Group("west".into())), Err("other_subject"));
    }

    #[test]
    fn without_the_roots_word_no_grant_counts() {
        let refusing = GrantAuthority { is_allowed: false, ..authority() };
        assert_eq!(accept_as(&seal(&grant(), &[1]), &refusing, None), Err("not_allowed"));
    }

    #[test]
    fn enough_different_keys_of_the_app_must_sign() {
        assert_eq!(accept_as(&seal(&grant(), &[9]), &authority(), None), Err("bad_signature"));
        let keys = vec![key(1).verifying_key(), key(2).verifying_key()];
        let two = GrantAuthority { keys, threshold: 2, ..authority() };
        assert_eq!(accept_as(&seal(&grant(), &[1]), &two, None), Err("bad_signature"));
        assert_eq!(accept_as(&seal(&grant(), &[1, 1]), &two, None), Err("bad_signature"));
        assert!(accept_as(&seal(&grant(), &[1, 2]), &two, None).is_ok());
        let twice = GrantAuthority { keys: vec![key(1).verifying_key(); 2], threshold: 2, ..authority() };
        assert_eq!(accept_as(&seal(&grant(), &[1]), &twice, None), Err("bad_signature"));
        let nobody = GrantAuthority { threshold: 0, ..authority() };
        assert_eq!(accept_as(&seal(&grant(), &[9]), &nobody, None), Err("bad_signature"));
    }

    #[test]
    fn an_older_foreign_expired_or_too_long_grant_is_refused() {
        assert!(accept_as(&seal(&grant(), &[1]), &authority(), Some(5)).is_ok());
        assert_eq!(accept_as(&seal(&grant(), &[1]), &authority(), Some(6)), Err("older_counter"));
        assert_eq!(accept(&Grant { org: "evil".parse().unwrap(), ..grant() }), Err("other_app"));
        assert_eq!(accept(&Grant { app: "api".parse().unwrap(), ..grant() }), Err("other_app"));
        assert_eq!(accept(&Grant { not_after: NOW, ..grant() }), Err("expired"));
        assert_eq!(accept(&Grant { not_after: NOW.plus_seconds(GRANT_SECONDS_MAX + 1), ..grant() }), Err("too_long"));
        assert_eq!(accept(&Grant { version: 1, ..grant() }), Err("below_floor"));
        assert_eq!(accept(&Grant { format: 2, ..grant() }), Err("other_format"));
        assert_eq!(accept_as(b"{}", &authority(), None), Err("malformed"));
        assert_eq!(app_named(&seal(&grant(), &[9])).unwrap(), grant().app);
        assert_eq!(app_named(b"{}").unwrap_err().reason(), "malformed");
    }
}
