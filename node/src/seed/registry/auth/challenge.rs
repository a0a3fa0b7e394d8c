//! What somebody who is not let in is told: where to get a token, and for what (RFC 6750 §3; the CNCF distribution
//! project's token specification, "How to authenticate").
//!
//! Never 403: clients ask for a better token only when they are told 401 and the whole challenge.
//!
//! Not here: what a request needs; see `path`.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use protocol::oci::authority::Origin;
use protocol::oci::scope::TokenScopes;

use super::AuthError;
use crate::seed::registry::error::Refused;

/// The answer to a request that was not let in, from a client that finds the registry at `origin`.
pub(in crate::seed::registry) fn challenged(error: AuthError, origin: &Origin, scopes: &TokenScopes) -> Response {
    let reason = match &error {
        AuthError::Failed(_) => return Refused::Auth(error).into_response(),
        AuthError::Missing => None,
        AuthError::Invalid | AuthError::InvalidToken | AuthError::Expired => Some("invalid_token"),
        AuthError::Token | AuthError::Scope(_) => Some("insufficient_scope"),
    };
    let mut challenge = format!(r#"Bearer realm="{origin}/auth/token",service="{}""#, origin.authority());
    if !scopes.is_empty() {
        challenge = format!(r#"{challenge},scope="{scopes}""#);
    }
    if let Some(reason) = reason {
        challenge = format!(r#"{challenge},error="{reason}""#);
    }
    let mut response = Refused::Auth(error).into_response();
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
