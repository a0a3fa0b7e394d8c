//! What a path under `/v2/` names. Read from the end, because repository names have slashes and may contain any of the
//! words that stand after them.
//!
//! Not here: whether it exists, and who may see it.

use axum::http::Method;
use protocol::digest::{Digest, DigestRefused};
use protocol::name::{RepositoryName, Tag};

use super::error::Refused;
use crate::store::meta::{Reference, Scope};

/// The longest id of an upload, in characters; ours have 32.
const UPLOAD_ID_MAX: usize = 64;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepositoryName, String),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
}

impl Route {
    /// Reads the path of a request that came with `method`, on which depends what a bad tag is called.
    pub(super) fn parse(path: &str, method: &Method) -> Result<Self, Refused> {
        let path = decode(path).ok_or_else(|| Refused::NotFound(path.to_owned()))?;
        let rest = path.strip_prefix("/v2").ok_or_else(|| Refused::NotFound(path.clone()))?;
        if matches!(rest, "" | "/") {
            return Ok(Self::Base);
        }
        let segments: Vec<&str> = rest.strip_prefix('/').unwrap_or(rest).split('/').collect();
        match segments.as_slice() {
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => Ok(Self::Uploads(repository(name)?)),
            [name @ .., "blobs", "uploads", id] => Ok(Self::Upload(repository(name)?, upload_id(id)?)),
            [name @ .., "blobs", blob] => Ok(Self::Blob(repository(name)?, digest(blob)?)),
            [name @ .., "manifests", reference] => Ok(Self::Manifest(repository(name)?, parse_reference(reference, method)?)),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "referrers", subject] => Ok(Self::Referrers(repository(name)?, digest(subject)?)),
            _ => Err(Refused::NotFound(path.clone())),
        }
    }

    /// What a key must be allowed for this request; none for the probe `/v2/`.
    pub(super) fn scope(&self, method: &Method) -> Option<Scope> {
        match self {
            Self::Base => None,
            Self::Uploads(_) | Self::Upload(..) => Some(Scope::Push),
            Self::Blob(..) | Self::Manifest(..) | Self::Tags(_) | Self::Referrers(..) => match *method {
                Method::DELETE => Some(Scope::Delete),
                Method::GET | Method::HEAD => Some(Scope::Pull),
                _ => Some(Scope::Push),
            },
        }
    }
}

fn repository(segments: &[&str]) -> Result<RepositoryName, Refused> {
    segments.join("/").parse().map_err(Refused::NameInvalid)
}

fn digest(text: &str) -> Result<Digest, Refused> {
    text.parse().map_err(|reason: DigestRefused| Refused::DigestInvalid(reason.to_string()))
}

fn upload_id(text: &str) -> Result<String, Refused> {
    let valid = text.len() <= UPLOAD_ID_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if valid { Ok(text.to_owned()) } else { Err(Refused::UploadUnknown) }
}

fn parse_reference(text: &str, method: &Method) -> Result<Reference, Refused> {
    if text.contains(':') {
        return digest(text).map(Reference::Digest);
    }
    match text.parse::<Tag>() {
        Ok(tag) => Ok(Reference::Tag(tag)),
        Err(reason) if method == Method::PUT => Err(Refused::ManifestInvalid(reason.to_string())),
        Err(reason) => Err(Refused::ManifestUnknown(reason.to_string())),
    }
}

/// Undoes percent-encoding; none if it is broken or hides bytes that are not UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut value = [0];
            hex::decode_to_slice([bytes.next()?, bytes.next()?], &mut value).ok()?;
            decoded.extend(value);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Route, Refused> {
        Route::parse(path, &Method::GET)
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn reads_every_form() {
        let blob = Digest::sha256(b"x");
        let tag = |text: &str| Reference::Tag(text.parse().unwrap());
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            (&format!("/v2/acme/web/blobs/{blob}"), Route::Blob(name("acme/web"), blob)),
            (&format!("/v2/acme/web/blobs/sha256%3A{}", blob.hex()), Route::Blob(name("acme/web"), blob)),
            ("/v2/acme/web/blobs/uploads", Route::Uploads(name("acme/web"))),
            ("/v2/acme/web/blobs/uploads/", Route::Uploads(name("acme/web"))),
            ("/v2/acme/web/blobs/uploads/0a1", Route::Upload(name("acme/web"), "0a1".into())),
            ("/v2/acme/web/manifests/1.0", Route::Manifest(name("acme/web"), tag("1.0"))),
            (&format!("/v2/acme/web/manifests/{blob}"), Route::Manifest(name("acme/web"), Reference::Digest(blob))),
            ("/v2/acme/web/tags/list", Route::Tags(name("acme/web"))),
            (&format!("/v2/acme/web/referrers/{blob}"), Route::Referrers(name("acme/web"), blob)),
        ] {
            assert_eq!(parse(path).unwrap(), route, "{path}");
        }
    }

    #[test]
    fn a_name_may_hold_the_words_that_stand_after_names() {
        let tag = Reference::Tag("list".parse().unwrap());
        assert_eq!(parse("/v2/acme/blobs/uploads/tags/list").unwrap(), Route::Tags(name("acme/blobs/uploads")));
        assert_eq!(parse("/v2/acme/tags/manifests/list").unwrap(), Route::Manifest(name("acme/tags"), tag));
        assert_eq!(parse("/v2/acme/manifests/blobs/uploads/").unwrap(), Route::Uploads(name("acme/manifests")));
    }

    #[test]
    fn refuses_the_rest() {
        for path in
            ["/v1/", "/v2x/tags/list", "/v2/acme/web", "/v2/acme/web/tags", "/v2/acme/web/tags/list/", "/v2//", "/v2/%", "/v2/%ff/x"]
        {
            assert!(matches!(parse(path), Err(Refused::NotFound(_) | Refused::NameInvalid(_))), "{path}");
        }
        for path in ["/v2/web/tags/list", "/v2/Acme/web/tags/list", "/v2/acme/../tags/list", "/v2/acme//tags/list", "/v2/tags/list"] {
            assert!(matches!(parse(path), Err(Refused::NameInvalid(_))), "{path}");
        }
        for path in ["/v2/acme/web/blobs/sha256:baddigeststring", "/v2/acme/web/referrers/latest", "/v2/acme/web/manifests/md5:00"] {
            assert!(matches!(parse(path), Err(Refused::DigestInvalid(_))), "{path}");
        }
        assert!(matches!(parse("/v2/acme/web/blobs/uploads/a%2Fb"), Err(Refused::NotFound(_))));
        assert!(matches!(parse("/v2/acme/web/blobs/uploads/a.b"), Err(Refused::UploadUnknown)));
        assert!(matches!(parse("/v2/acme/web/manifests/.x"), Err(Refused::ManifestUnknown(_))));
        assert!(matches!(Route::parse("/v2/acme/web/manifests/.x", &Method::PUT), Err(Refused::ManifestInvalid(_))));
    }
}
