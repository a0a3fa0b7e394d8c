//! Pull and deletion of blobs.
//!
//! A blob is sent as it is, never compressed for transport, in whole or in one range (RFC 9110 §14).
//!
//! Not here: push; see `uploads`.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use protocol::digest::Digest;
use protocol::name::RepositoryName;
use protocol::oci::none_match;
use protocol::oci::range::{self, Requested};

use super::error::Refused;
use super::{CONTENT_DIGEST, Call, empty, header_value, kept};
use crate::listener::handover::PART_BYTES_MAX;
use crate::seed::activity::{Activity, ActivityKind};
use crate::store::blobs::Content;
use crate::store::meta::{BlobLink, MetaError};

/// The media type of a blob; what it really is only the manifests say that name it.
pub(super) const MEDIA_TYPE: &str = "application/octet-stream";

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`.
pub(super) async fn get(call: &Call<'_>, repository: &RepositoryName, blob: &Digest, headers: &HeaderMap) -> Result<Response, Refused> {
    let unknown = || Refused::BlobUnknown(*blob);
    let link = find(call, repository, blob).await?.ok_or_else(unknown)?;
    if !call.rely_on(repository, blob, link.used).await? {
        return Err(unknown());
    }
    send(call, blob, HeaderValue::from_static(MEDIA_TYPE), headers, headers.get(header::RANGE)).await?.ok_or_else(unknown)
}

/// A blob, if this repository has it and the caller may see it.
async fn find(call: &Call<'_>, repository: &RepositoryName, blob: &Digest) -> Result<Option<BlobLink>, Refused> {
    if !call.may_see(repository) {
        return Ok(None);
    }
    Ok(call.state.store.repository_blob(repository, blob).await?)
}

/// Sends a blob's file, or the `range` that was asked for; none if it is gone, which a client heals by pushing the blob again.
pub(super) async fn send(
    call: &Call<'_>,
    blob: &Digest,
    media_type: HeaderValue,
    headers: &HeaderMap,
    range: Option<&HeaderValue>,
) -> Result<Option<Response>, Refused> {
    let Some(content) = call.state.blobs.content(blob).await? else {
        tracing::error!(%blob, "the file of a blob is missing; it is answered as unknown, so that the next push restores it");
        return Ok(None);
    };
    let size = content.size();
    let tag = blob.to_string();
    let etag = header_value(&format!("\"{tag}\""))?;
    let cached =
        headers.get_all(header::IF_NONE_MATCH).iter().any(|known| known.to_str().is_ok_and(|known| none_match::names(known, &tag)));
    let asked = range.filter(|_| !cached && headers.get(header::IF_RANGE).is_none_or(|wanted| *wanted == etag));
    let part = match asked.and_then(|range| range.to_str().ok()).map(|range| range::parse(range, size)) {
        None | Some(Requested::Whole) => None,
        Some(Requested::Part(part)) => Some(part),
        Some(Requested::Unsatisfiable) => return Err(Refused::RangeUnsatisfiable(size)),
    };
    let (status, range) = match part {
        _ if cached => (StatusCode::NOT_MODIFIED, 0..0),
        Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        None => (StatusCode::OK, 0..size),
    };
    let bytes = range.end - range.start;
    let mut response = (status, body(call, content, range.clone())).into_response();
    let sent = response.headers_mut();
    if status == StatusCode::PARTIAL_CONTENT {
        sent.insert(header::CONTENT_RANGE, header_value(&format!("bytes {}-{}/{size}", range.start, range.end - 1))?);
    }
    if !cached {
        sent.insert(header::CONTENT_LENGTH, bytes.into());
        sent.insert(header::CONTENT_TYPE, media_type);
    }
    sent.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    sent.insert(header::ETAG, etag);
    sent.insert(CONTENT_DIGEST, header_value(blob)?);
    Ok(Some(response))
}

fn body(call: &Call<'_>, content: Content, range: Range<u64>) -> Body {
    match (content, call.handover.clone()) {
        (Content::Large(file, _), None) => Body::from_stream(call.state.blobs.stream(file, range)),
        (Content::Large(file, _), Some(handover)) => {
            let hand_over = move |file: &_, offset, bytes| handover.stand_in(file, offset, bytes);
            Body::from_stream(call.state.blobs.stream_handed_over(file, range, PART_BYTES_MAX, hand_over))
        }
        (Content::Small(bytes), _) => {
            let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            Body::from(part.map_or_else(Bytes::new, |(start, end)| bytes.slice(start..end)))
        }
    }
}

/// `DELETE /v2/<name>/blobs/<digest>`: takes the blob out of the repository; its file goes when nothing needs it.
pub(super) async fn delete(call: &Call<'_>, repository: &RepositoryName, blob: &Digest) -> Result<Response, Refused> {
    if !call.caller.owns(repository) {
        return Err(Refused::BlobUnknown(*blob));
    }
    kept::check(call, repository, blob).await?;
    match call.state.store.unlink_blob(repository, blob).await {
        Ok(()) => {
            call.record.did(Activity { digest: Some(*blob), ..Activity::in_repository(ActivityKind::BlobDelete, repository) });
            empty(StatusCode::ACCEPTED, [])
        }
        Err(MetaError::Missing(_)) => Err(Refused::BlobUnknown(*blob)),
        Err(error) => Err(error.into()),
    }
}
