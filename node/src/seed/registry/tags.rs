//! The list of a repository's tags, in pages.
//!
//! Not here: how tags are set; see `manifests`.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use protocol::name::RepositoryName;

use super::error::Refused;
use super::{Call, header_value};

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
    let more = tags.len() > limit;
    tags.truncate(limit);
    let next = tags.last().filter(|_| more).map(|last| format!("</v2/{repository}/tags/list?n={limit}&last={last}>; rel=\"next\""));
    let mut response = axum::Json(serde_json::json!({ "name": repository, "tags": tags })).into_response();
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, header_value(&next)?);
    }
    Ok(response)
}
