//! Push of blobs: in one request, streamed, in chunks, or mounted from another repository.
//!
//! An upload under way lives in this process. It is bound to its repository, ends when nothing was sent for an hour, and
//! goes on after a broken connection with the bytes that arrived, and after a full disk with those that were written.
//!
//! Not here: manifests; see `manifests`.

mod sessions;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::TryStreamExt;
use protocol::digest::{Algorithm, Digest};
use protocol::name::RepositoryName;
use protocol::oci::access::MountFrom;
use protocol::oci::content_range::{ChunkRefused, ContentRange};
use protocol::statement::version::HashListName;
use tokio::time::timeout;

use super::auth::AuthError;
use super::blobs::MEDIA_TYPE as BLOB;
use super::error::Refused;
use super::{CONTENT_DIGEST, Call, empty};
use crate::clock::wall_time;
use crate::seed::activity::{Activity, ActivityKind};
use crate::store::blobs::Ingest;
use crate::store::meta::{BlobLink, MetaError};
pub(super) use sessions::Uploads;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// How long a body may stand still before its request is given up: it holds one of the places for bodies.
const BODY_IDLE: std::time::Duration = std::time::Duration::from_secs(60);

/// `POST /v2/<name>/blobs/uploads/`: mounts, takes in a whole blob, or starts an upload.
pub(super) async fn start(call: &Call<'_>, repository: RepositoryName, request: Request) -> Result<Response, Refused> {
    let owner = call.must_own(&repository)?;
    let announced = call.query.get("digest-algorithm").map(str::parse::<Algorithm>).transpose();
    let announced = announced.map_err(|reason| Refused::Unsupported(reason.to_string()))?;
    let mounted = call.query.get("mount").and_then(|blob| blob.parse::<Digest>().ok());
    if let Some(blob) = &mounted
        && mount(call, &repository, blob).await?
    {
        return created(&repository, blob);
    }
    if let Some(wanted) = call.query.digest("digest")? {
        let mut ingest = call.state.blobs.begin(wanted.algorithm());
        receive(call, &repository, &mut ingest, request.into_body(), None).await?;
        return keep(call, &repository, &mut ingest, wanted).await;
    }
    let algorithm = announced.or(mounted.map(|blob| blob.algorithm())).unwrap_or(Algorithm::Sha256);
    let id = call.state.uploads.start(&repository, owner, call.state.blobs.begin(algorithm))?;
    let location = location(&repository, &id);
    empty(StatusCode::ACCEPTED, [(header::LOCATION, location), (header::RANGE, range(0)), (UPLOAD_ID, id)])
}

/// Makes a blob that the caller may read part of the repository; false if there is no such blob.
async fn mount(call: &Call<'_>, repository: &RepositoryName, blob: &Digest) -> Result<bool, Refused> {
    let Ok(from) = call.query.get("from").map(str::parse::<RepositoryName>).transpose() else { return Ok(false) };
    let is_public = match &from {
        Some(from) if !call.caller.owns(from) => call.state.store.is_public(from).await?,
        _ => false,
    };
    let size = match call.caller.asker().may_mount(repository, from.as_ref(), is_public).map_err(AuthError::from)? {
        None => return Ok(false),
        Some(MountFrom::Repository(from)) => call.state.store.repository_blob(from, blob).await?.map(|link| link.size),
        Some(MountFrom::Organisation) => call.state.store.org_blob(&repository.org(), blob).await?,
    };
    let there = call.state.blobs.size(blob).await?;
    let Some(size) = size.filter(|size| there == Some(*size)) else { return Ok(false) };
    match call.state.store.mount_blob(repository, blob, BlobLink { size, used: wall_time() }).await {
        Ok(()) => {}
        Err(MetaError::Missing(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let mounted =
        Activity { media_type: Some(BLOB.into()), from_repository: from, ..Activity::in_repository(ActivityKind::BlobMount, repository) };
    call.record.did(mounted.of_content(*blob, size));
    Ok(true)
}

/// `GET /v2/<name>/blobs/uploads/<id>`: how far the upload is.
pub(super) fn status(call: &Call<'_>, repository: &RepositoryName, id: &str) -> Result<Response, Refused> {
    call.must_own(repository)?;
    let session = call.state.uploads.find(repository, id)?;
    progress(StatusCode::NO_CONTENT, repository, id, session.received())
}

/// `PATCH /v2/<name>/blobs/uploads/<id>`: more bytes, in a chunk with its place or as a stream.
pub(super) async fn patch(call: &Call<'_>, repository: &RepositoryName, id: &str, request: Request) -> Result<Response, Refused> {
    call.must_own(repository)?;
    let mut upload = call.state.uploads.lock(repository, id).await?;
    let bytes = chunk(request.headers(), repository, id, upload.ingest()?.size())?;
    let received = receive(call, repository, upload.ingest()?, request.into_body(), bytes).await;
    let flushed = upload.ingest()?.flush().await;
    received?;
    flushed?;
    progress(StatusCode::ACCEPTED, repository, id, upload.ingest()?.size())
}

/// `PUT /v2/<name>/blobs/uploads/<id>?digest=<digest>`: the last bytes, if any, and the name of all of them.
pub(super) async fn put(call: &Call<'_>, repository: &RepositoryName, id: &str, request: Request) -> Result<Response, Refused> {
    call.must_own(repository)?;
    let missing = || Refused::DigestInvalid("the digest is missing; end an upload with PUT …?digest=<digest>".into());
    let wanted = call.query.digest("digest")?.ok_or_else(missing)?;
    let mut upload = call.state.uploads.lock(repository, id).await?;
    let bytes = chunk(request.headers(), repository, id, upload.ingest()?.size())?;
    receive(call, repository, upload.ingest()?, request.into_body(), bytes).await?;
    let kept = keep(call, repository, upload.ingest()?, wanted).await?;
    upload.end();
    Ok(kept)
}

/// `DELETE /v2/<name>/blobs/uploads/<id>`: gives the upload up.
pub(super) fn cancel(call: &Call<'_>, repository: &RepositoryName, id: &str) -> Result<Response, Refused> {
    call.must_own(repository)?;
    call.state.uploads.find(repository, id)?;
    call.state.uploads.remove(id);
    empty(StatusCode::NO_CONTENT, [])
}

/// How many bytes a chunk says it has; none for a stream. Refuses a chunk that does not go on where the upload ended.
fn chunk(headers: &HeaderMap, repository: &RepositoryName, id: &str, received: u64) -> Result<Option<u64>, Refused> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let range = range.to_str().unwrap_or_default().parse::<ContentRange>();
    let range = range.map_err(|refused| Refused::UploadInvalid(refused.to_string()))?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    range.goes_on(received, length).map(Some).map_err(|refused| match refused {
        ChunkRefused::Elsewhere(received) => Refused::OutOfOrder { location: location(repository, id), received },
        ChunkRefused::OtherLength(_) => Refused::SizeInvalid(refused.to_string()),
    })
}

/// Takes the bytes of a body into the upload, exactly `expected` of them if that is given.
async fn receive(
    call: &Call<'_>,
    repository: &RepositoryName,
    ingest: &mut Ingest,
    body: Body,
    expected: Option<u64>,
) -> Result<(), Refused> {
    let start = ingest.size();
    let bytes_max = call.state.guard.limits().blob_bytes_max;
    if start.saturating_add(body.size_hint().lower()) > bytes_max {
        return Err(Refused::BlobTooLarge(bytes_max));
    }
    let mut body = body.into_data_stream();
    let Some(mut bytes) = next(&mut body).await? else { return check_size(expected, 0) };
    let _place = call.state.bodies.take(repository.org(), 1).await?;
    loop {
        let size = ingest.size() + bytes.len() as u64;
        if size > bytes_max {
            return Err(Refused::BlobTooLarge(bytes_max));
        }
        if expected.is_some_and(|expected| size - start > expected) {
            return Err(Refused::SizeInvalid("the body has more bytes than its Content-Range".into()));
        }
        ingest.write(bytes).await?;
        match next(&mut body).await? {
            Some(more) => bytes = more,
            None => return check_size(expected, ingest.size() - start),
        }
    }
}

async fn next(body: &mut BodyDataStream) -> Result<Option<Bytes>, Refused> {
    let broken =
        |error: axum::Error| Refused::UploadInvalid(format!("the body broke off: {error}; ask for the upload's status, then go on"));
    let idle = |_| Refused::UploadInvalid("no bytes arrived for a minute; ask for the upload's status, then go on".into());
    timeout(BODY_IDLE, body.try_next()).await.map_err(idle)?.map_err(broken)
}

fn check_size(expected: Option<u64>, found: u64) -> Result<(), Refused> {
    match expected.filter(|expected| *expected != found) {
        Some(expected) => Err(Refused::SizeInvalid(format!("the body has {found} bytes, its Content-Range {expected}"))),
        None => Ok(()),
    }
}

/// Makes what arrived a blob of the repository, which has it only when the blob and its hash list are durable. After a failure
/// that left the blob whole, it can be asked for again.
async fn keep(call: &Call<'_>, repository: &RepositoryName, ingest: &mut Ingest, wanted: Digest) -> Result<Response, Refused> {
    let state = call.state;
    let (verified, list) = ingest.finish(Some(wanted)).await?;
    if let Some(list) = list {
        let stored = state.blobs.put(None, list.to_bytes().into()).await?;
        state.store.put_hash_list(&wanted, HashListName { digest: stored.blob(), size: stored.size() }).await?;
    }
    state.store.link_blob(repository, &wanted, BlobLink { size: verified.size(), used: wall_time() }).await?;
    let pushed = Activity { media_type: Some(BLOB.into()), ..Activity::in_repository(ActivityKind::BlobPush, repository) };
    call.record.did(pushed.of_content(wanted, verified.size()));
    created(repository, &wanted)
}

fn created(repository: &RepositoryName, blob: &Digest) -> Result<Response, Refused> {
    let location = format!("/v2/{repository}/blobs/{blob}");
    empty(StatusCode::CREATED, [(header::LOCATION, location), (CONTENT_DIGEST, blob.to_string())])
}

fn progress(status: StatusCode, repository: &RepositoryName, id: &str, received: u64) -> Result<Response, Refused> {
    let location = location(repository, id);
    empty(status, [(header::LOCATION, location), (header::RANGE, range(received)), (UPLOAD_ID, id.to_owned())])
}

fn location(repository: &RepositoryName, id: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}

/// The bytes that arrived, as `Range` says it; `0-0` for none, because Docker wants a range.
pub(super) fn range(received: u64) -> String {
    format!("0-{}", received.saturating_sub(1))
}
