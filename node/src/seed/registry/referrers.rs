//! The manifests that refer to one, as an index, in pages. Never an error for what does not exist, because clients read
//! that as "no such API" (distribution-spec, "Listing Referrers").
//!
//! Not here: how subjects are set; see `manifests`.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use protocol::digest::Digest;
use protocol::name::RepositoryName;
use serde_json::{Value, json};

use super::error::Refused;
use super::{Call, header_value};
use crate::store::meta::ManifestRecord;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The most referrers in one answer; a `Link` leads to the rest.
const PAGE_REFERRERS_MAX: usize = 256;

/// The most bytes of referrers in one answer, unless one alone has more: with what stands around them, clients can read it as
/// they read manifests, which have at most 4 MiB.
const PAGE_BYTES_MAX: usize = (4 << 20) - 256;

/// Records read at once: each may have annotations of nearly 4 MiB.
const BATCH: usize = 8;

/// `GET /v2/<name>/referrers/<digest>?artifactType=`; `last` is ours, for the next page.
pub(super) async fn list(call: &Call<'_>, repository: &RepositoryName, subject: &Digest) -> Result<Response, Refused> {
    let wanted = call.query.get("artifactType");
    let last = call.query.digest("last")?;
    let (manifests, last) =
        if call.may_see(repository) { page(call, repository, subject, wanted, last).await? } else { (Vec::new(), None) };
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let mut response = axum::Json(index).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(INDEX));
    if wanted.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = last {
        let filter = wanted.map(|wanted| format!("&artifactType={}", encode(wanted))).unwrap_or_default();
        headers.insert(header::LINK, header_value(&format!("</v2/{repository}/referrers/{subject}?last={last}{filter}>; rel=\"next\""))?);
    }
    Ok(response)
}

/// The descriptors of one page of referrers of the wanted type after `last`, and the last of them if there are more.
async fn page(
    call: &Call<'_>,
    repository: &RepositoryName,
    subject: &Digest,
    wanted: Option<&str>,
    last: Option<Digest>,
) -> Result<(Vec<Value>, Option<Digest>), Refused> {
    let (mut page, mut page_bytes, mut page_last) = (Vec::new(), 0, None);
    let mut read = last;
    loop {
        let batch = call.state.store.referrers(repository, subject, read.as_ref(), BATCH).await?;
        let Some(end) = batch.last() else { return Ok((page, None)) };
        read = Some(end.digest);
        for manifest in batch.iter().filter(|manifest| wanted.is_none_or(|wanted| manifest.artifact_type.as_deref() == Some(wanted))) {
            let descriptor = descriptor(manifest);
            page_bytes += descriptor.to_string().len() + 1;
            let is_full = page.len() == PAGE_REFERRERS_MAX || page_bytes > PAGE_BYTES_MAX;
            if is_full && !page.is_empty() {
                return Ok((page, page_last));
            }
            page.push(descriptor);
            page_last = Some(manifest.digest);
        }
    }
}

fn descriptor(manifest: &ManifestRecord) -> Value {
    let mut descriptor = json!({ "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size });
    if let Some(artifact_type) = &manifest.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if !manifest.annotations.is_empty() {
        descriptor["annotations"] = json!(manifest.annotations);
    }
    descriptor
}

/// A query value in which nothing means anything to a query or a `Link` header.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
