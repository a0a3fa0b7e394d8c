//! What a request says about who it is from: its `Authorization` header, and the access keys in it.
//!
//! Not here: which keys exist, what they may do, and making new ones.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::digest::Digest;

/// The longest value of an `Authorization` header that is looked at, in bytes: a token with as many of the longest scopes as
/// it may have.
pub const AUTHORIZATION_BYTES_MAX: usize = 6 << 10;

/// Random bytes of a key's public part: enough for no two keys of a seed to share it.
pub const KEY_ID_BYTES: usize = 8;

/// Random bytes of a key's secret part: 256 bits, so that its plain hash can be stored.
pub const KEY_SECRET_BYTES: usize = 32;

const KEY_PREFIX: &str = "hgk";

/// What an `Authorization` header holds (RFC 9110 §11.6.2).
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// A user name and a password (RFC 7617).
    Basic {
        /// Before the first colon; may be empty.
        user: String,
        /// After it.
        password: String,
    },
    /// A token (RFC 6750).
    Bearer(String),
}

/// The header holds no credentials of a kind that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Authorization header must be Basic with user name and password, or Bearer with a token")]
pub struct AuthorizationRefused;

/// An access key as a client holds it: `hgk_<id>_<secret>`, both in hex.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    id: [u8; KEY_ID_BYTES],
    secret: [u8; KEY_SECRET_BYTES],
}

/// The text is not an access key. It is not repeated: it may be somebody's password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not an access key; they look like {KEY_PREFIX}_<16 hex digits>_<64 hex digits>")]
pub struct AccessKeyRefused;

impl FromStr for Authorization {
    type Err = AuthorizationRefused;

    fn from_str(header: &str) -> Result<Self, AuthorizationRefused> {
        if header.len() > AUTHORIZATION_BYTES_MAX {
            return Err(AuthorizationRefused);
        }
        let (scheme, credentials) = header.split_once(' ').ok_or(AuthorizationRefused)?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::Bearer(credentials.trim().to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(AuthorizationRefused);
        }
        let pair = STANDARD.decode(credentials.trim()).map_err(|_| AuthorizationRefused)?;
        let pair = String::from_utf8(pair).map_err(|_| AuthorizationRefused)?;
        let (user, password) = pair.split_once(':').ok_or(AuthorizationRefused)?;
        Ok(Self::Basic { user: user.to_owned(), password: password.to_owned() })
    }
}

impl Authorization {
    /// The access key: the password with any user name, because that is what container tools can send, or the token.
    ///
    /// # Errors
    /// When the password or token is not one.
    pub fn access_key(&self) -> Result<AccessKey, AccessKeyRefused> {
        let (Self::Basic { password: text, .. } | Self::Bearer(text)) = self;
        text.parse()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Bearer(_) => f.debug_tuple("Bearer").finish_non_exhaustive(),
        }
    }
}

impl AccessKey {
    /// The key of these bytes, which must be random.
    pub const fn new(id: [u8; KEY_ID_BYTES], secret: [u8; KEY_SECRET_BYTES]) -> Self {
        Self { id, secret }
    }

    /// The public part, by which its record is found, in hex.
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// The whole key as its owner keeps it.
    pub fn expose(&self) -> String {
        format!("{KEY_PREFIX}_{}_{}", self.id(), hex::encode(self.secret))
    }

    /// What is stored of the secret part.
    pub fn secret_sha256(&self) -> Digest {
        Digest::sha256(&self.secret)
    }

    /// Whether this is the key of which `id` and `secret_sha256` are stored; takes the same time wherever they differ.
    pub fn matches(&self, id: &str, secret_sha256: &Digest) -> bool {
        let found = self.secret_sha256();
        let (found, wanted) = (found.as_bytes(), secret_sha256.as_bytes());
        let difference = found.iter().zip(wanted).fold(0, |difference, (found, wanted)| difference | (found ^ wanted));
        std::hint::black_box(difference) == 0 && found.len() == wanted.len() && self.id() == id
    }
}

impl FromStr for AccessKey {
    type Err = AccessKeyRefused;

    fn from_str(text: &str) -> Result<Self, AccessKeyRefused> {
        let rest = text.strip_prefix(KEY_PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(AccessKeyRefused)?;
        let (id, secret) = rest.split_once('_').ok_or(AccessKeyRefused)?;
        let mut key = Self { id: [0; KEY_ID_BYTES], secret: [0; KEY_SECRET_BYTES] };
        hex::decode_to_slice(id, &mut key.id).map_err(|_| AccessKeyRefused)?;
        hex::decode_to_slice(secret, &mut key.secret).map_err(|_| AccessKeyRefused)?;
        Ok(key)
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: AccessKey = AccessKey::new([0x0a; KEY_ID_BYTES], [0x1b; KEY_SECRET_BYTES]);

    fn read(header: &str) -> Option<AccessKey> {
        header.parse::<Authorization>().ok()?.access_key().ok()
    }

    #[test]
    fn reads_the_key_that_it_exposes() {
        assert_eq!(KEY.expose(), format!("hgk_{}_{}", "0a".repeat(8), "1b".repeat(32)));
        assert_eq!(KEY.expose().parse(), Ok(KEY));
    }

    #[test]
    fn a_key_matches_what_is_stored_of_it_alone() {
        let other = AccessKey::new([0x0a; KEY_ID_BYTES], [0x1c; KEY_SECRET_BYTES]);
        assert!(KEY.matches(&KEY.id(), &KEY.secret_sha256()));
        assert!(!other.matches(&KEY.id(), &KEY.secret_sha256()));
        assert!(!KEY.matches("0b0b0b0b0b0b0b0b", &KEY.secret_sha256()));
        assert!(!KEY.matches(&KEY.id(), &Digest::sha512(&[0x1b; KEY_SECRET_BYTES])));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let basic = Authorization::Basic { user: "anyone".into(), password: KEY.expose() };
        for printed in [format!("{KEY:?}"), format!("{basic:?}"), format!("{:?}", Authorization::Bearer(KEY.expose()))] {
            assert!(!printed.contains("1b1b"), "{printed}");
        }
    }

    #[test]
    fn refuses_what_is_no_key() {
        let good = KEY.expose();
        for bad in ["", "hgk_", "hgk_0_1", &good[1..], &good[..84], &format!("{good}0"), &good.replace('1', "x")] {
            assert_eq!(bad.parse::<AccessKey>(), Err(AccessKeyRefused), "{bad}");
        }
    }

    #[test]
    fn reads_basic_with_any_user_and_bearer() {
        let key = KEY.expose();
        let basic = |pair: String| format!("Basic {}", STANDARD.encode(pair));
        for good in [basic(format!("anyone:{key}")), basic(format!(":{key}")), format!("Bearer {key}"), format!("bearer  {key}")] {
            assert_eq!(read(&good), Some(KEY), "{good}");
        }
        for bad in [key.clone(), basic(key.clone()), basic(format!("{key}:x")), "Basic %%".into(), format!("Digest {key}"), String::new()] {
            assert_eq!(read(&bad), None, "{bad}");
        }
        assert_eq!(read(&basic(format!("{}:{key}", "x".repeat(AUTHORIZATION_BYTES_MAX)))), None);
    }
}
