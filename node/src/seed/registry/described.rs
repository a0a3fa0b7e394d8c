//! What a request to the registry is about, as its path and the head of its answer tell.
//!
//! Not here: what a write that was carried out did; `uploads`, `blobs` and `manifests` say that themselves.

use axum::http::{HeaderMap, Method, header};
use protocol::oci::route::{Reference, Route};

use super::CONTENT_DIGEST;
use crate::seed::activity::{Activity, ActivityKind};

/// What a request tried to change; none if it names nothing that can be changed. To give up an upload changes nothing.
pub(in crate::seed) fn attempted(method: &Method, path: &str) -> Option<Activity> {
    let activity = match (Route::parse(path).ok()?, method) {
        (Route::Blob(repository, digest), &Method::DELETE) => {
            Activity { digest: Some(digest), ..Activity::in_repository(ActivityKind::BlobDelete, &repository) }
        }
        (Route::Uploads(repository), &Method::POST) | (Route::Upload(repository, _), &Method::PATCH | &Method::PUT) => {
            Activity::in_repository(ActivityKind::BlobPush, &repository)
        }
        (Route::Manifest(repository, reference), method) => {
            let action = match (method, &reference) {
                (&Method::PUT, _) => ActivityKind::ManifestPush,
                (&Method::DELETE, Reference::Tag(_)) => ActivityKind::TagDelete,
                (&Method::DELETE, Reference::Digest(_)) => ActivityKind::ManifestDelete,
                _ => return None,
            };
            with_reference(Activity::in_repository(action, &repository), reference)
        }
        _ => return None,
    };
    Some(activity)
}

/// What was pulled by a GET that was answered with content.
pub(in crate::seed) fn pulled(path: &str, answer: &HeaderMap) -> Option<Activity> {
    let (action, repository, reference) = match Route::parse(path).ok()? {
        Route::Blob(repository, digest) => (ActivityKind::BlobPull, repository, Reference::Digest(digest)),
        Route::Manifest(repository, reference) => (ActivityKind::ManifestPull, repository, reference),
        _ => return None,
    };
    let text = |name| answer.get(name).and_then(|value| value.to_str().ok());
    let whole = text(header::CONTENT_RANGE).and_then(|range| range.rsplit('/').next());
    let activity = with_reference(Activity::in_repository(action, &repository), reference);
    Some(Activity {
        digest: text(CONTENT_DIGEST).and_then(|digest| digest.parse().ok()).or(activity.digest),
        size: whole.or_else(|| text(header::CONTENT_LENGTH)).and_then(|size| size.parse().ok()),
        media_type: text(header::CONTENT_TYPE).map(str::to_owned),
        ..activity
    })
}

fn with_reference(activity: Activity, reference: Reference) -> Activity {
    match reference {
        Reference::Tag(tag) => Activity { tags: vec![tag], ..activity },
        Reference::Digest(digest) => Activity { digest: Some(digest), ..activity },
    }
}
