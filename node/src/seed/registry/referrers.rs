//! The manifests that refer to one, as an index, in pages. Never an error for what does not exist, because clients read
//! that as "no such API" (distribution-spec, "Listing Referrers").
//!
//! Not here: how subjects are set; see `manifests`.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use protocol::digest::Digest;
use protocol::name::RepositoryName;
use serde_json::json;

use super::Call;
use super::error::Refused;
use super::places::{Place, Places};
use crate::seed::pages;
use crate::store::meta::ManifestRecord;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The most referrers in one answer; a `Link` leads to the rest.
const PAGE_REFERRERS_MAX: usize = 256;

/// The most bytes of referrers in one answer, unless one alone has more: with what stands around them, clients can read it as
/// they read manifests, which have at most 4 MiB.
const PAGE_BYTES_MAX: usize = (4 << 20) - 256;

/// Records read at once: each takes some 500 bytes.
const BATCH: usize = 256;

/// Answers with more bytes than [`SMALL_BYTES`] that are made or sent at the same time, over all connections: annotations may
/// be as large as manifests, and whoever may pull may ask.
const LARGE_ANSWERS: usize = 4;

/// An answer that needs no place.
const SMALL_BYTES: usize = 64 << 10;

/// Bytes handed to a connection at once.
const PART_BYTES: usize = 64 << 10;

/// Places for large answers.
pub(super) fn places() -> Places {
    Places::new(LARGE_ANSWERS)
}

/// A page of descriptors, as it is sent.
struct Page {
    /// The descriptors, with commas between them.
    text: String,
    count: usize,
    /// The last of them, if there are more.
    last: Option<Digest>,
    /// Held until a large page is sent.
    place: Option<Place>,
}

/// `GET /v2/<name>/referrers/<digest>?artifactType=`; `last` is ours, for the next page.
pub(super) async fn list(call: &Call<'_>, repository: &RepositoryName, subject: &Digest) -> Result<Response, Refused> {
    let wanted = call.query.get("artifactType").filter(|wanted| !wanted.is_empty());
    let last = call.query.digest("last")?;
    let page = if call.may_see(repository) { Page::read(call, repository, subject, wanted, last).await? } else { Page::empty() };
    let last = page.last;
    let mut response = page.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(INDEX));
    if wanted.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = last {
        let filter = wanted.map(|wanted| format!("&artifactType={}", encode(wanted))).unwrap_or_default();
        pages::link_next(headers, &format!("/v2/{repository}/referrers/{subject}?last={last}{filter}"))?;
    }
    Ok(response)
}

impl Page {
    const fn empty() -> Self {
        Self { text: String::new(), count: 0, last: None, place: None }
    }

    /// The descriptors of referrers of the wanted type after `last`.
    async fn read(
        call: &Call<'_>,
        repository: &RepositoryName,
        subject: &Digest,
        wanted: Option<&str>,
        last: Option<Digest>,
    ) -> Result<Self, Refused> {
        let mut page = Self::empty();
        let (mut read, mut page_last) = (last, None);
        loop {
            let batch = call.state.store.referrers(repository, subject, read.as_ref(), BATCH).await?;
            let Some(end) = batch.last() else { return Ok(page) };
            read = Some(end.digest);
            for manifest in batch.iter().filter(|manifest| wanted.is_none_or(|wanted| manifest.artifact_type.as_deref() == Some(wanted))) {
                if page.place.is_none() && page.text.len() + manifest_bytes(manifest) > SMALL_BYTES {
                    page.place = Some(call.state.referrer_pages.take(repository.org(), 1).await?);
                }
                let descriptor = descriptor(manifest, &call.state.store.annotations(repository, &manifest.digest).await?);
                let is_full = page.count == PAGE_REFERRERS_MAX || page.text.len() + descriptor.len() >= PAGE_BYTES_MAX;
                if is_full && page.count > 0 {
                    page.last = page_last;
                    return Ok(page);
                }
                if page.count > 0 {
                    page.text.push(',');
                }
                page.text.push_str(&descriptor);
                page.count += 1;
                page_last = Some(manifest.digest);
            }
        }
    }

    fn into_response(self) -> Response {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, self.text);
        let length = text.len();
        let parts = stream::unfold((Bytes::from(text), self.place), |(mut left, place)| async move {
            let part = left.split_to(left.len().min(PART_BYTES));
            (!part.is_empty()).then_some((Ok::<_, Infallible>(part), (left, place)))
        });
        let mut response = Body::from_stream(parts).into_response();
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response
    }
}

/// What the annotations of a manifest can have at most.
fn manifest_bytes(manifest: &ManifestRecord) -> usize {
    usize::try_from(manifest.size).unwrap_or(usize::MAX)
}

fn descriptor(manifest: &ManifestRecord, annotations: &BTreeMap<String, String>) -> String {
    let mut descriptor = json!({ "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size });
    if let Some(artifact_type) = &manifest.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if !annotations.is_empty() {
        descriptor["annotations"] = json!(annotations);
    }
    descriptor.to_string()
}

/// A query value in which nothing means anything to a query or a `Link` header.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
