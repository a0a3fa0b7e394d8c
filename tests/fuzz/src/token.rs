//! Credentials: what was read can be written and read again, and printing it for a log shows no secret.
//!
//! Not here: whose they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::oci::credentials::{AUTHORIZATION_BYTES_MAX, AccessKey, Authorization};

/// Reads an `Authorization` header, and the same text as an access key.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<AccessKey>() {
        assert!(key.expose().eq_ignore_ascii_case(text));
        assert_eq!(key.expose().parse().as_ref(), Ok(&key));
        assert!(key.matches(&key.id(), &key.secret_sha256()));
        let secret = &key.expose()[key.expose().len() - 64..];
        assert!(!format!("{key:?}").contains(secret));
    }
    let Ok(authorization) = text.parse::<Authorization>() else { return };
    assert!(text.len() <= AUTHORIZATION_BYTES_MAX);
    let written = match &authorization {
        Authorization::Basic { user, password } => {
            assert!(!user.contains(':'), "{user}");
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        Authorization::Bearer(token) => format!("Bearer {token}"),
    };
    assert_eq!(written.parse().as_ref(), Ok(&authorization));
    if let (Ok(key), Authorization::Bearer(_)) = (authorization.access_key(), &authorization) {
        assert!(!format!("{authorization:?}").contains(&key.id()));
    }
}
