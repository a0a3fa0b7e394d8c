//! Pull and deletion of blobs.
//!
//! A blob is sent as it is, never compressed for transport, in whole or in one range (RFC 9110 §14).
//!
//! Not here: push; see `uploads`.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::digest::Digest;
use protocol::name::RepositoryName;

use super::error::Refused;
use super::{CONTENT_DIGEST, Call, empty, header_value};
use crate::store::meta::MetaError;

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`.
pub(super) async fn get(call: &Call<'_>, repository: &RepositoryName, blob: &Digest, headers: &HeaderMap) -> Result<Response, Refused> {
    let unknown = || Refused::BlobUnknown(*blob);
    size(call, repository, blob).await?.ok_or_else(unknown)?;
    send(call, blob, HeaderValue::from_static("application/octet-stream"), headers).await?.ok_or_else(unknown)
}

/// The size of a blob, if this repository has it and the caller may see it.
pub(super) async fn size(call: &Call<'_>, repository: &RepositoryName, blob: &Digest) -> Result<Option<u64>, Refused> {
    if !call.may_see(repository) {
        return Ok(None);
    }
    Ok(call.state.store.repository_blob(repository, blob).await?.map(|link| link.size))
}

/// Sends a blob's file; none if it is gone, which a client heals by pushing the blob again.
pub(super) async fn send(
    call: &Call<'_>,
    blob: &Digest,
    media_type: HeaderValue,
    headers: &HeaderMap,
) -> Result<Option<Response>, Refused> {
    let Some((file, size)) = call.state.blobs.open_read(blob).await? else {
        tracing::error!(%blob, "the file of a blob is missing; it is answered as unknown, so that the next push restores it");
        return Ok(None);
    };
    let etag = header_value(&format!("\"{blob}\""))?;
    let part = match headers.get(header::RANGE).filter(|_| headers.get(header::IF_RANGE).is_none_or(|wanted| *wanted == etag)) {
        Some(range) => parse_range(range, size).map_err(|Unsatisfiable| Refused::RangeUnsatisfiable(size))?,
        None => None,
    };
    let cached = headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == etag);
    let (status, range) = match part {
        _ if cached => (StatusCode::NOT_MODIFIED, 0..0),
        Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        None => (StatusCode::OK, 0..size),
    };
    let bytes = range.end - range.start;
    let mut response = (status, Body::from_stream(call.state.blobs.stream(file, range.clone()))).into_response();
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

/// `DELETE /v2/<name>/blobs/<digest>`: takes the blob out of the repository; its file goes when nothing needs it.
pub(super) async fn delete(call: &Call<'_>, repository: &RepositoryName, blob: &Digest) -> Result<Response, Refused> {
    if !call.may_see(repository) {
        return Err(Refused::BlobUnknown(*blob));
    }
    match call.state.store.unlink_blob(repository, blob).await {
        Ok(()) => empty(StatusCode::ACCEPTED, []),
        Err(MetaError::Missing(_)) => Err(Refused::BlobUnknown(*blob)),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// The part that a `Range` header asks for; none, for the whole, if it asks for several or is in another unit. One that
/// ends before it starts is refused like one beyond the end, as the conformance suite wants.
fn parse_range(header: &HeaderValue, size: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
    let Some(range) = header.to_str().ok().and_then(|text| text.strip_prefix("bytes=")) else { return Ok(None) };
    let Some((first, last)) = range.trim().split_once('-').filter(|_| !range.contains(',')) else { return Ok(None) };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().unwrap_or(u64::MAX));
    let (Some(start), Some(end)) = (number(first), number(last)) else { return Ok(None) };
    let part = match (first, last) {
        ("", "") => return Ok(None),
        ("", _) => size.saturating_sub(end)..size,
        (_, "") => start..size,
        (_, _) => start..end.saturating_add(1).min(size),
    };
    if part.is_empty() { Err(Unsatisfiable) } else { Ok(Some(part)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ranges_that_clients_send() {
        let parse = |text: &'static str| parse_range(&HeaderValue::from_static(text), 3000);
        for (text, part) in [
            ("bytes=500-1499", 500..1500),
            ("bytes=500-", 500..3000),
            ("bytes=-500", 2500..3000),
            ("bytes=-5000", 0..3000),
            ("bytes=2000-5000", 2000..3000),
            ("bytes=0-0", 0..1),
            ("bytes=0-99999999999999999999", 0..3000),
        ] {
            assert_eq!(parse(text), Ok(Some(part)), "{text}");
        }
        for text in ["bytes=500-0", "bytes=5000-10000", "bytes=3000-", "bytes=-0"] {
            assert_eq!(parse(text), Err(Unsatisfiable), "{text}");
        }
        for text in ["bytes=0-1,5-6", "bytes=-", "bytes=", "bytes=a-b", "items=0-1", "bytes=+1-2"] {
            assert_eq!(parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn an_empty_blob_has_no_parts() {
        assert_eq!(parse_range(&HeaderValue::from_static("bytes=0-"), 0), Err(Unsatisfiable));
    }
}
