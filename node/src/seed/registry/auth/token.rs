//! The tokens of `/auth/token`: JSON Web Tokens (RFC 7519) with HMAC-SHA-256, because who makes them is who reads them.
//!
//! The signing key is a file of the seed, so that a restart does not void tokens.
//!
//! Not here: who gets a token; see `issue`.

use std::path::Path;

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use protocol::oci::authority::Authority;
use protocol::oci::scope::TokenScopes;
use protocol::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::files::{self, Access};

/// How long a token is good for: tools get a new one when they need it, and none takes less than a minute for its lifetime.
pub const TOKEN_LIFETIME_SECONDS: u64 = 300;

/// As long as the hash's output (RFC 7518 §3.2).
const KEY_BYTES: usize = 32;

/// Makes and reads tokens.
pub struct TokenSigner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// The public part of the access key that it was made from; none if it was made for a stranger.
    pub(super) key: Option<String>,
    /// What it allows.
    pub(super) scopes: TokenScopes,
}

/// A token as it is written.
#[derive(Serialize, Deserialize)]
struct Payload {
    aud: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    iat: WallTime,
    exp: WallTime,
    scope: String,
}

/// The token is not one of this seed's, is for another service, or has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid here, or has expired; get a new one")]
pub(super) struct TokenRefused;

impl TokenSigner {
    /// The signer with the key in the file `path`; with a new key, mode 0600 and durable, if there is no such file.
    ///
    /// # Errors
    /// When the file holds no key, or the disk or the random source fails.
    pub fn load_or_generate(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            files::write_new(path, format!("{}\n", hex::encode(random_key()?)).as_bytes(), Access::Private)?;
        }
        let mut key = [0; KEY_BYTES];
        let decoded = hex::decode_to_slice(files::read_text(path)?.trim_end(), &mut key);
        let advice = "remove it, and a new key is made at the next start; clients then get new tokens by themselves";
        decoded.with_context(|| format!("{} does not hold a key of {KEY_BYTES} bytes in hex; {advice}", path.display()))?;
        ensure!(key != [0; KEY_BYTES], "{} holds no random key; {advice}", path.display());
        Ok(Self::new(&key))
    }

    fn new(key: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Audience and expiry are checked below, against the clock and the service that are given.
        (validation.validate_aud, validation.validate_exp) = (false, false);
        validation.required_spec_claims.clear();
        Self { encoding: EncodingKey::from_secret(key), decoding: DecodingKey::from_secret(key), validation }
    }

    /// Makes a token for `service`, good from `now` on for [`TOKEN_LIFETIME_SECONDS`].
    pub(super) fn sign(&self, claims: &Claims, service: &Authority, now: WallTime) -> anyhow::Result<String> {
        let payload = Payload {
            aud: service.to_string(),
            sub: claims.key.clone(),
            iat: now,
            exp: now.plus_seconds(TOKEN_LIFETIME_SECONDS),
            scope: claims.scopes.to_string(),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &payload, &self.encoding).context("signing a token")
    }

    /// Reads a token that came to `service`.
    pub(super) fn read(&self, token: &str, service: &Authority, now: WallTime) -> Result<Claims, TokenRefused> {
        let read = jsonwebtoken::decode::<Payload>(token, &self.decoding, &self.validation);
        let payload = read.map_err(|_| TokenRefused)?.claims;
        if payload.aud != service.to_string() || payload.exp <= now {
            return Err(TokenRefused);
        }
        Ok(Claims { key: payload.sub, scopes: TokenScopes::parse([payload.scope.as_str()]) })
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").finish_non_exhaustive()
    }
}

fn random_key() -> Result<[u8; KEY_BYTES], getrandom::Error> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key)?;
    Ok(key)
}

#[cfg(test)]
impl TokenSigner {
    /// A signer whose key no other has.
    pub(in super::super) fn random() -> Self {
        Self::new(&random_key().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use protocol::name::REPOSITORY_NAME_BYTES_MAX;
    use protocol::oci::authority::AUTHORITY_BYTES_MAX;
    use protocol::oci::credentials::AUTHORIZATION_BYTES_MAX;
    use protocol::oci::scope::{Action, SCOPES_MAX};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: WallTime = WallTime::from_unix_seconds(1_000_000);

    fn service() -> Authority {
        "seed.example:5000".parse().unwrap()
    }

    fn claims() -> Claims {
        Claims { key: Some("0a".repeat(8)), scopes: TokenScopes::parse(["repository:acme/web:pull,push registry:catalog:*"]) }
    }

    #[test]
    fn a_token_says_what_it_was_made_with_until_it_expires() {
        let signer = TokenSigner::random();
        for claims in [claims(), Claims { key: None, scopes: TokenScopes::default() }] {
            let token = signer.sign(&claims, &service(), NOW).unwrap();
            assert_eq!(signer.read(&token, &service(), NOW), Ok(claims.clone()));
            let end = NOW.plus_seconds(TOKEN_LIFETIME_SECONDS);
            assert_eq!(signer.read(&token, &service(), WallTime::from_unix_seconds(end.as_unix_seconds() - 1)), Ok(claims));
            assert_eq!(signer.read(&token, &service(), end), Err(TokenRefused), "it has expired");
        }
    }

    #[test]
    fn a_token_of_another_service_or_key_or_algorithm_is_refused() {
        let signer = TokenSigner::random();
        let token = signer.sign(&claims(), &service(), NOW).unwrap();
        assert_eq!(signer.read(&token, &"seed.example".parse().unwrap(), NOW), Err(TokenRefused));
        assert_eq!(TokenSigner::random().read(&token, &service(), NOW), Err(TokenRefused));
        let [_, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"None","typ":"JWT"}"#, r#"{"alg":"HS384"}"#, r#"{"alg":"RS256"}"#, "{}", ""] {
            let header = URL_SAFE_NO_PAD.encode(header);
            for forged in [format!("{header}.{payload}."), format!("{header}.{payload}.{signature}"), format!("{header}.{payload}")] {
                assert_eq!(signer.read(&forged, &service(), NOW), Err(TokenRefused), "{forged}");
            }
        }
        let hs384 =
            jsonwebtoken::encode(&Header::new(Algorithm::HS384), &serde_json::json!({ "aud": service().to_string() }), &signer.encoding);
        assert_eq!(signer.read(&hs384.unwrap(), &service(), NOW), Err(TokenRefused));
        let other = URL_SAFE_NO_PAD.encode(r#"{"aud":"seed.example:5000","iat":1,"exp":9999999999,"scope":"registry:catalog:*"}"#);
        let header = token.split('.').next().unwrap();
        for forged in ["", ".", "..", "...", &format!("{header}.{other}.{signature}"), &token[..token.len() - 1]] {
            assert_eq!(signer.read(forged, &service(), NOW), Err(TokenRefused), "{forged}");
        }
    }

    #[test]
    fn the_largest_token_fits_into_a_header() {
        let mut scopes = TokenScopes::default();
        scopes.allow_catalog();
        for n in 0..SCOPES_MAX {
            let component = "a".repeat(48);
            let name = format!("{component}/{component}/{component}/{component}/{n:04}");
            assert_eq!(name.len(), REPOSITORY_NAME_BYTES_MAX);
            for action in [Action::Pull, Action::Push, Action::Delete] {
                scopes.allow(&name.parse().unwrap(), action);
            }
        }
        let service = "a".repeat(AUTHORITY_BYTES_MAX).parse().unwrap();
        let token = TokenSigner::random().sign(&Claims { scopes, ..claims() }, &service, NOW).unwrap();
        let header = format!("Bearer {token}");
        assert!(header.len() <= AUTHORIZATION_BYTES_MAX, "{}", header.len());
        header.parse::<protocol::oci::credentials::Authorization>().unwrap();
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone_and_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token.key");
        let token = TokenSigner::load_or_generate(&path).unwrap().sign(&claims(), &service(), NOW).unwrap();
        assert_eq!(TokenSigner::load_or_generate(&path).unwrap().read(&token, &service(), NOW), Ok(claims()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for broken in ["", "00", &"00".repeat(KEY_BYTES), "key"] {
            std::fs::write(&path, broken).unwrap();
            assert!(TokenSigner::load_or_generate(&path).unwrap_err().to_string().contains("remove it"), "{broken}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
        }
    }
}
