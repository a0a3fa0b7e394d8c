//! The list of a repository's tags, in pages.
//!
//! Not here: how tags are set; see `manifests`.

use axum::response::{IntoResponse, Response};
use protocol::name::RepositoryName;

use super::Call;
use super::error::Refused;
use crate::seed::pages;

/// The most tags in one answer, 1.3 MB of them if all are as long as they may be; a `Link` leads to the rest.
const PAGE_TAGS_MAX: usize = 10_000;

/// `GET /v2/<name>/tags/list?n=&last=`.
pub(super) async fn list(call: &Call<'_>, repository: &RepositoryName) -> Result<Response, Refused> {
    let unknown = || Refused::NameUnknown(repository.clone());
    if !call.may_see(repository) {
        return Err(unknown());
    }
    let limit = call.query.limit(PAGE_TAGS_MAX)?;
    let last = call.query.get("last");
    let mut tags = call.state.store.tags(repository, last, limit + 1).await?.ok_or_else(unknown)?;
    let next = pages::cut(&mut tags, limit).map(|last| format!("/v2/{repository}/tags/list?n={limit}&last={last}"));
    let mut response = axum::Json(serde_json::json!({ "name": repository, "tags": tags })).into_response();
    if let Some(next) = next {
        pages::link_next(response.headers_mut(), &next)?;
    }
    Ok(response)
}
