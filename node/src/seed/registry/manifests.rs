//! Push, pull and deletion of manifests: image manifests, indexes and artifacts of any type, byte by byte as pushed.
//!
//! What a manifest names must be in the repository, except a subject, which may come later, and layers that are not to be
//! distributed.
//!
//! Not here: the list of what refers to a manifest; see `referrers`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use protocol::digest::Digest;
use protocol::name::{RepositoryName, Tag};
use protocol::oci::manifest::{Manifest, Named};
use protocol::oci::route::Reference;
use protocol::repository::in_force;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::Refused;
use super::places::Places;
use super::{CONTENT_DIGEST, Call, blobs, empty, header_value, kept, warning};
use crate::clock::wall_time;
use crate::seed::activity::{Activity, ActivityKind};
use crate::store::meta::{ManifestRecord, MetaError, Relied};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// The most tags that one push may set (the specification asks for at least 10).
const TAGS_MAX: usize = 32;

/// How long the whole body of a manifest may take: it holds one of few places.
const BODY_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// `GET` and `HEAD /v2/<name>/manifests/<reference>`.
pub(super) async fn get(
    call: &Call<'_>,
    repository: &RepositoryName,
    reference: &Reference,
    headers: &HeaderMap,
) -> Result<Response, Refused> {
    let unknown = || Refused::ManifestUnknown(reference.to_string());
    let manifest = find(call, repository, reference).await?.ok_or_else(unknown)?;
    if !call.rely_on(repository, &manifest.digest, manifest.pushed).await? {
        return Err(unknown());
    }
    let media_type = header_value(&manifest.media_type)?;
    blobs::send(call, &manifest.digest, media_type, headers, None).await?.ok_or_else(unknown)
}

async fn find(call: &Call<'_>, repository: &RepositoryName, reference: &Reference) -> Result<Option<Arc<ManifestRecord>>, Refused> {
    if !call.may_see(repository) {
        return Ok(None);
    }
    Ok(call.state.store.manifest(repository, reference).await?)
}

/// `PUT /v2/<name>/manifests/<reference>`, with more tags in `?tag=` if the reference is a digest.
pub(super) async fn put(call: &Call<'_>, repository: &RepositoryName, reference: Reference, request: Request) -> Result<Response, Refused> {
    call.must_own(repository)?;
    let tags = tags(call, &reference)?;
    let (parts, body) = request.into_parts();
    let bytes_max = call.state.guard.limits().manifest_bytes_max;
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(Refused::ManifestTooLarge(bytes_max));
    }
    let place = call.state.manifest_kib.take(repository.org(), kib(&parts.headers, bytes_max)).await?;
    let bytes = timeout(BODY_TIME_MAX, read(body, bytes_max)).await;
    let bytes = bytes.map_err(|_| Refused::ManifestInvalid("the manifest took longer than a minute to arrive; send it again".into()))??;
    let (digest, manifest) = examine(&bytes, &reference, parts.headers.get(header::CONTENT_TYPE)).await?;
    let Manifest { media_type, artifact_type, subject, annotations, named } = manifest;
    for named in &named {
        check(call, repository, named).await?;
    }
    let size = bytes.len() as u64;
    let manifest = ManifestRecord { digest, media_type, size, subject, artifact_type, pushed: wall_time() };
    let pushed = Activity {
        tags: tags.clone(),
        media_type: Some(manifest.media_type.clone()),
        ..Activity::in_repository(ActivityKind::ManifestPush, repository).of_content(digest, size)
    };
    call.state.blobs.put(Some(digest), bytes).await?;
    let relied = named.iter().map(|named| Relied { digest: named.digest, may_be_manifest: named.may_be_manifest }).collect();
    match call.state.store.put_manifest(repository, manifest, annotations, relied, &tags).await {
        Err(missing @ MetaError::Missing(_)) => {
            return Err(taken_meanwhile(call, repository, &named).await.unwrap_or_else(|| missing.into()));
        }
        stored => stored?,
    }
    call.record.did(pushed);
    drop(place);
    let location = format!("/v2/{repository}/manifests/{digest}");
    let mut response = empty(StatusCode::CREATED, [(header::LOCATION, location), (CONTENT_DIGEST, digest.to_string())])?;
    if let Some(subject) = subject {
        response.headers_mut().insert(SUBJECT, header_value(&subject)?);
        if find(call, repository, &Reference::Digest(subject)).await?.is_none() {
            warning::warn(
                response.headers_mut(),
                &format!("its subject {subject} is not in {repository}; push that too, or nobody finds this"),
            );
        }
    }
    if let Ok(settings) = call.state.store.repository_settings(&repository.org()).await {
        let settings = in_force(&settings, repository);
        for text in tags.iter().filter_map(|tag| warning::of_tag(tag, &settings, wall_time())) {
            warning::warn(response.headers_mut(), &text);
        }
    }
    if matches!(reference, Reference::Digest(_)) {
        for tag in tags {
            response.headers_mut().append(TAG, header_value(&tag)?);
        }
    }
    Ok(response)
}

fn tags(call: &Call<'_>, reference: &Reference) -> Result<Vec<Tag>, Refused> {
    if let Reference::Tag(tag) = reference {
        return Ok(vec![tag.clone()]);
    }
    let tags: Result<Vec<Tag>, _> = call.query.all("tag").map(str::parse).collect();
    let tags = tags.map_err(|reason| Refused::ManifestInvalid(reason.to_string()))?;
    if tags.len() > TAGS_MAX {
        return Err(Refused::TooManyTags(format!("one push may set at most {TAGS_MAX} tags")));
    }
    Ok(tags)
}

/// Places for manifests, one for each KiB: for two of the largest, so that while one organisation pushes such a manifest
/// there is room for another's.
pub(super) fn places(bytes_max: usize) -> Places {
    let largest = bytes_max / 1024 + 1;
    Places::new(2 * largest)
}

/// How many KiB the body may have: what it announces, or the most.
fn kib(headers: &HeaderMap, bytes_max: usize) -> usize {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    announced.map_or(bytes_max, |bytes| bytes.min(bytes_max)) / 1024 + 1
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Refused> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Refused::ManifestTooLarge(bytes_max)),
        Err(error) => Err(Refused::ManifestInvalid(format!("the manifest broke off: {error}; send it again"))),
    }
}

/// The digest of a manifest, which must be the one that it is pushed by, and what it says. A large one takes milliseconds.
async fn examine(bytes: &Bytes, reference: &Reference, content_type: Option<&HeaderValue>) -> Result<(Digest, Manifest), Refused> {
    let wanted = if let Reference::Digest(wanted) = reference { Some(*wanted) } else { None };
    let (bytes, content_type) = (bytes.clone(), content_type.cloned());
    let examined = spawn_blocking(move || {
        let digest = wanted.map_or_else(|| Digest::sha256(&bytes), |wanted| wanted.same_algorithm(&bytes));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            return Err(Refused::DigestInvalid(format!("the manifest has the digest {digest}, not {wanted}")));
        }
        let content_type = content_type.as_ref().and_then(|value| value.to_str().ok());
        Ok((digest, Manifest::parse(&bytes, content_type)?))
    });
    examined.await.map_err(|error| Refused::Failed(error.into()))?
}

/// Checks that what a manifest names is in the repository. What an index names may also be a blob there, because build
/// caches are indexes of layers.
async fn check(call: &Call<'_>, repository: &RepositoryName, named: &Named) -> Result<(), Refused> {
    let blob = call.state.store.repository_blob(repository, &named.digest).await?;
    let size = match blob {
        None if named.may_be_manifest => find(call, repository, &Reference::Digest(named.digest)).await?.map(|manifest| manifest.size),
        found => found.map(|link| link.size),
    };
    let size = size.ok_or(Refused::ManifestBlobUnknown(named.digest))?;
    if size == named.size {
        return Ok(());
    }
    Err(Refused::ManifestInvalid(format!("the manifest says that {} has {} bytes, it has {size}", named.digest, named.size)))
}

/// What the push of a manifest is answered that names something which was deleted while the manifest was checked; none if it
/// was pushed again since.
async fn taken_meanwhile(call: &Call<'_>, repository: &RepositoryName, named: &[Named]) -> Option<Refused> {
    for named in named {
        if let Err(refused) = check(call, repository, named).await {
            return Some(refused);
        }
    }
    None
}

/// `DELETE /v2/<name>/manifests/<reference>`: the tag alone, or the manifest with all its tags.
pub(super) async fn delete(call: &Call<'_>, repository: &RepositoryName, reference: &Reference) -> Result<Response, Refused> {
    let unknown = || Refused::ManifestUnknown(reference.to_string());
    if !call.caller.owns(repository) {
        return Err(unknown());
    }
    let (deleted, activity) = match reference {
        Reference::Tag(tag) => {
            let activity = Activity { tags: vec![tag.clone()], ..Activity::in_repository(ActivityKind::TagDelete, repository) };
            (call.state.store.delete_tag(repository, tag, None).await, activity)
        }
        Reference::Digest(digest) => {
            kept::check(call, repository, digest).await?;
            let activity = Activity { digest: Some(*digest), ..Activity::in_repository(ActivityKind::ManifestDelete, repository) };
            (call.state.store.delete_manifest(repository, digest).await, activity)
        }
    };
    match deleted {
        Ok(()) => {
            call.record.did(activity);
            empty(StatusCode::ACCEPTED, [])
        }
        Err(MetaError::Missing(_)) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}
