//! The one table from what went wrong to status and OCI error code (distribution-spec, "Error Codes").
//!
//! Not here: logging of requests.

use axum::http::header::InvalidHeaderValue;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::digest::Digest;
use protocol::name::{NameRefused, RepositoryName};
use protocol::oci::manifest::ManifestRefused;
use protocol::repository::tags::TagImmutable;

use super::auth::AuthError;
use crate::seed::audit::NoRoom;
use crate::seed::limits::{Limit, TooOften};
use crate::store::blobs::IngestError;
use crate::store::meta::MetaError;
use crate::telemetry::chain;

/// Seconds after which a client that was told to wait may try again: the time of a few uploads.
const RETRY_AFTER_SECONDS: u64 = 30;

/// What a client must do to be given a token. Elsewhere the challenge is made for the request; see [`super::auth::challenged`].
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"hedgerow\"");

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Auth(AuthError),
    #[error("{0} is no path of this registry")]
    NotFound(String),
    #[error("{method} is not a method of this path, which has {methods}")]
    MethodNotAllowed {
        /// What was asked for.
        method: Method,
        /// What can be asked for.
        methods: &'static str,
    },
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    NameInvalid(NameRefused),
    #[error("repository {0} does not exist, or is not of the access key's organisation")]
    NameUnknown(RepositoryName),
    #[error("blob {0} is not in this repository")]
    BlobUnknown(Digest),
    #[error("{0}")]
    DigestInvalid(String),
    #[error("the upload does not exist or has ended; start it again")]
    UploadUnknown,
    #[error("{0}")]
    UploadInvalid(String),
    #[error("the upload goes on at byte {received}")]
    OutOfOrder {
        /// Where the upload is.
        location: String,
        /// How many bytes it has.
        received: u64,
    },
    #[error("the blob has {0} bytes, the range is not part of it")]
    RangeUnsatisfiable(u64),
    #[error("{0}")]
    SizeInvalid(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("manifest {0} is not in this repository")]
    ManifestUnknown(String),
    #[error("{0}")]
    ManifestInvalid(String),
    #[error("the manifest names {0}, which is not in this repository; push it first")]
    ManifestBlobUnknown(Digest),
    #[error("{0}")]
    Denied(Box<TagImmutable>),
    #[error(
        "{digest} belongs to a version that devices may fetch from {repository}; retire that first (`hedgerow app retire`), and what devices reported goes 90 days later by itself"
    )]
    OfVersion { digest: Digest, repository: RepositoryName },
    #[error("{0}")]
    TooManyTags(String),
    #[error("a blob may have at most {0} bytes here; split the layer")]
    BlobTooLarge(u64),
    #[error("a manifest may have at most {0} bytes here")]
    ManifestTooLarge(usize),
    #[error(transparent)]
    TooOften(TooOften),
    #[error("{0} has as many uploads under way as it may; try again when some have ended")]
    TooManyUploads(&'static str),
    #[error("the registry takes in as many bodies as it can; push again in a while")]
    NoPlace,
    #[error(transparent)]
    NotAudited(NoRoom),
    #[error("there is no room left on this seed's disk; ask its operator to make some")]
    StorageFull,
    #[error("the seed failed")]
    Failed(anyhow::Error),
}

impl Refused {
    const fn table(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Auth(AuthError::Failed(_)) | Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            Self::Auth(_) => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::Unsupported(_) => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
            Self::NameInvalid(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::NameUnknown(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::BlobUnknown(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::DigestInvalid(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::UploadUnknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::UploadInvalid(_) => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::OutOfOrder { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Self::RangeUnsatisfiable(_) => (StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID"),
            Self::SizeInvalid(_) => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            Self::TooLarge(_) | Self::BlobTooLarge(_) | Self::ManifestTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Self::ManifestUnknown(_) => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::ManifestInvalid(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::ManifestBlobUnknown(_) => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            Self::Denied(_) | Self::OfVersion { .. } => (StatusCode::FORBIDDEN, "DENIED"),
            Self::TooManyTags(_) => (StatusCode::URI_TOO_LONG, "UNSUPPORTED"),
            Self::TooOften(_) | Self::TooManyUploads(_) | Self::NoPlace => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::NotAudited(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "DENIED"),
        }
    }

    /// The limit that it was refused for.
    pub(super) const fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooManyUploads(_) => Some(Limit::Uploads),
            Self::NoPlace => Some(Limit::Bodies),
            Self::BlobTooLarge(_) => Some(Limit::BlobBytes),
            Self::ManifestTooLarge(_) => Some(Limit::ManifestBytes),
            _ => None,
        }
    }

    /// What went wrong, with its causes, which a client is not told.
    fn for_log(&self) -> String {
        match self {
            Self::Failed(error) => chain(error.as_ref()),
            refused => chain(refused),
        }
    }

    fn add_headers(&self, response: &mut Response) {
        let headers = response.headers_mut();
        let mut add = |name, value: Result<HeaderValue, _>| {
            if let Ok(value) = value {
                headers.insert(name, value);
            }
        };
        match self {
            Self::Auth(AuthError::Failed(_)) => {}
            Self::Auth(_) => add(header::WWW_AUTHENTICATE, Ok(CHALLENGE)),
            Self::MethodNotAllowed { methods, .. } => add(header::ALLOW, Ok(HeaderValue::from_static(methods))),
            Self::OutOfOrder { location, received } => {
                add(header::LOCATION, HeaderValue::try_from(location));
                add(header::RANGE, HeaderValue::try_from(super::uploads::range(*received)));
            }
            Self::RangeUnsatisfiable(size) => add(header::CONTENT_RANGE, HeaderValue::try_from(format!("bytes */{size}"))),
            Self::TooOften(often) => add(header::RETRY_AFTER, Ok(often.retry_after_seconds.into())),
            Self::TooManyUploads(_) | Self::NoPlace | Self::NotAudited(_) => add(header::RETRY_AFTER, Ok(RETRY_AFTER_SECONDS.into())),
            _ => {}
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = self.table();
        let message = if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = self.for_log(), "a registry request failed");
            "the seed failed; its log says why".to_owned()
        } else {
            self.to_string()
        };
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message, "detail": null }] });
        let mut response = (status, axum::Json(body)).into_response();
        self.add_headers(&mut response);
        response
    }
}

impl From<TooOften> for Refused {
    fn from(often: TooOften) -> Self {
        Self::TooOften(often)
    }
}

impl From<AuthError> for Refused {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}

impl From<ManifestRefused> for Refused {
    fn from(refused: ManifestRefused) -> Self {
        Self::ManifestInvalid(refused.to_string())
    }
}

impl From<IngestError> for Refused {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Mismatch(mismatch) => Self::DigestInvalid(mismatch.to_string()),
            IngestError::TooLarge => Self::TooLarge(error.to_string()),
            IngestError::Broken | IngestError::Ended => Self::UploadInvalid(error.to_string()),
            IngestError::Io { .. } if error.is_storage_full() => Self::StorageFull,
            IngestError::Io { .. } => Self::Failed(error.into()),
        }
    }
}

impl From<MetaError> for Refused {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Immutable(refused) => Self::Denied(refused),
            error if error.is_storage_full() => Self::StorageFull,
            error => Self::Failed(error.into()),
        }
    }
}

impl From<InvalidHeaderValue> for Refused {
    fn from(error: InvalidHeaderValue) -> Self {
        Self::Failed(error.into())
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_log_has_the_causes_of_a_failure_and_each_of_them_once() {
        let disk = || std::io::Error::other("the disk is gone");
        let failed = Err::<(), _>(disk()).context("reading the settings").context("signing a token");
        assert_eq!(Refused::Failed(failed.unwrap_err()).for_log(), "signing a token: reading the settings: the disk is gone");
        let ingest = IngestError::Io { action: "write", path: "uploads".into(), source: disk() };
        assert_eq!(Refused::from(ingest).for_log(), "cannot write uploads: the disk is gone");
    }
}
