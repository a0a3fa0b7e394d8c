//! The list of an organisation's repositories, in pages (the CNCF distribution project's API, "Listing Repositories").
//!
//! Not here: the tags of one; see `tags`.

use axum::response::{IntoResponse, Response};

use super::Call;
use super::error::Refused;
use crate::seed::pages;

/// The most repositories in one answer; a `Link` leads to the rest.
const PAGE_REPOSITORIES_MAX: usize = 1000;

/// `GET /v2/_catalog?n=&last=`.
pub(super) async fn list(call: &Call<'_>) -> Result<Response, Refused> {
    let org = call.caller.require_catalog()?.org();
    let limit = call.query.limit(PAGE_REPOSITORIES_MAX)?;
    let mut repositories = call.state.store.repositories(&org, call.query.get("last"), limit + 1).await?;
    let next = pages::cut(&mut repositories, limit).map(|last| format!("/v2/_catalog?n={limit}&last={last}"));
    let mut response = axum::Json(serde_json::json!({ "repositories": repositories })).into_response();
    if let Some(next) = next {
        pages::link_next(response.headers_mut(), &next)?;
    }
    Ok(response)
}
