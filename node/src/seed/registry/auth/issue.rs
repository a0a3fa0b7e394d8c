//! `/auth/token`: tokens for tools that do not send their credentials with every request, as the CNCF distribution project
//! specifies them: GET with HTTP Basic or without credentials, and POST with a form (OAuth 2.0, RFC 6749 §4.3 and §6).
//!
//! What is given is the part of what was asked for that the key allows; asking for more is no error.
//!
//! Not here: how tokens are signed; see [`super::token`].

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use protocol::oci::access::Asker;
use protocol::oci::authority::{Authority, Origin};
use protocol::oci::scope::{Action, TokenScopes};
use serde_json::json;

use super::token::{Claims, TOKEN_LIFETIME_SECONDS};
use super::{AuthError, Principal, authenticate, owner};
use crate::clock::wall_time;
use crate::listener::Client;
use crate::seed::activity::RequestRecord;
use crate::seed::registry::RegistryState;
use crate::seed::registry::error::Refused;
use crate::seed::registry::query::Query;
use crate::store::meta::MetaStore;

/// The largest form, in bytes: a key and as many of the longest scopes as a token may have.
pub(in crate::seed::registry) const FORM_BYTES_MAX: usize = 16 << 10;

/// `GET /auth/token?service=&scope=`; `account`, `client_id` and `offline_token` change nothing.
pub(in crate::seed::registry) async fn get(State(state): State<Arc<RegistryState>>, request: Request) -> Result<Response, Refused> {
    let origin = origin(&state, request.headers(), request.uri())?;
    let asked = Query::parse(request.uri())?;
    let found = authenticate(request.headers(), &*state.store).await;
    if let Ok(principal) = &found {
        RequestRecord::of(request.extensions()).is_from(principal);
    }
    state.guard.admit(found.as_ref().ok(), request.extensions().get::<Client>())?;
    let principal = match found {
        Err(AuthError::Missing) => None,
        found => Some(found?),
    };
    issue(&state, &origin, principal, &asked).await
}

/// `POST /auth/token` with a form: the access key is the `password` of `grant_type=password`, with any user name, or the
/// `refresh_token` of `grant_type=refresh_token`.
pub(in crate::seed::registry) async fn post(
    State(state): State<Arc<RegistryState>>,
    uri: Uri,
    headers: HeaderMap,
    client: Option<Extension<Client>>,
    record: RequestRecord,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Result<Response, Refused> {
    let origin = origin(&state, &headers, &uri)?;
    let Form(fields) = form.map_err(|error| Refused::Unsupported(error.to_string()))?;
    let asked = Query::from(fields);
    let key = match asked.get("grant_type") {
        Some("password") => asked.get("password"),
        Some("refresh_token") => asked.get("refresh_token"),
        _ => return Err(Refused::Unsupported("grant_type must be password or refresh_token".into())),
    };
    let found = match key.and_then(|key| key.parse().ok()) {
        Some(key) => owner(&key, &*state.store).await,
        None => Err(AuthError::Invalid),
    };
    if let Ok(principal) = &found {
        record.is_from(principal);
    }
    state.guard.admit(found.as_ref().ok(), client.as_deref())?;
    issue(&state, &origin, Some(found?), &asked).await
}

fn origin(state: &RegistryState, headers: &HeaderMap, uri: &Uri) -> Result<Origin, Refused> {
    state.gate.origin(headers, uri).map_err(|refused| Refused::Unsupported(refused.to_string()))
}

async fn issue(state: &RegistryState, origin: &Origin, principal: Option<Principal>, asked: &Query) -> Result<Response, Refused> {
    let service = origin.authority();
    let is_other = |asked: &str| !asked.is_empty() && asked.parse::<Authority>().as_ref() != Ok(service);
    if asked.get("service").is_some_and(is_other) {
        return Err(Refused::Unsupported(format!("tokens of this seed are for the service {service}; ask for that")));
    }
    let scopes = granted(&*state.store, principal.as_ref(), &TokenScopes::parse(asked.all("scope"))).await?;
    let now = wall_time();
    let scope = scopes.to_string();
    let claims = Claims { key: principal.map(|principal| principal.key().to_owned()), scopes };
    let token = state.gate.signer().sign(&claims, service, now).map_err(Refused::Failed)?;
    let issued = i64::try_from(now.as_unix_seconds()).unwrap_or(i64::MAX);
    let issued = jiff::Timestamp::from_second(issued).map_err(|error| Refused::Failed(error.into()))?;
    let body = json!({
        "token": token,
        "access_token": token,
        "expires_in": TOKEN_LIFETIME_SECONDS,
        "issued_at": issued,
        "scope": scope,
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response())
}

/// The part of what is asked for that the key allows. Everybody may pull what is public; another organisation's
/// repository is as if it did not exist.
async fn granted(store: &dyn MetaStore, principal: Option<&Principal>, asked: &TokenScopes) -> Result<TokenScopes, Refused> {
    let asker = Asker { holder: principal.map(Principal::holder), token: None };
    let mut granted = TokenScopes::default();
    for (repository, actions) in asked.repositories() {
        for action in actions {
            let own = asker.may_be_given(*action, repository, false);
            let is_public = !own && *action == Action::Pull && store.is_public(repository).await?;
            if asker.may_be_given(*action, repository, is_public) {
                granted.allow(repository, *action);
            }
        }
    }
    if asked.allows_catalog() && asker.require_catalog().is_ok() {
        granted.allow_catalog();
    }
    Ok(granted)
}
