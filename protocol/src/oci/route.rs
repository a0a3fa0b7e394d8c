//! What a path under `/v2/` names. Read from the end, because repository names have slashes and may contain any of the
//! words that stand after them.
//!
//! Not here: methods, queries, and what they ask of a route.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestRefused};
use crate::name::{NameRefused, RepositoryName, Tag};

/// The longest id of an upload, in characters; ours have 32.
pub const UPLOAD_ID_MAX: usize = 64;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`; no repository name begins with an underscore.
    Catalog,
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`; the id has 1 to [`UPLOAD_ID_MAX`] ASCII letters and digits.
    Upload(RepositoryName, String),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
}

/// A manifest by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By a tag, which may move.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

/// Why a path names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteRefused {
    /// It has none of the forms, or is not percent-encoded UTF-8.
    #[error("{0} is no path of this registry")]
    Path(String),
    /// The part before the form is not a repository name.
    #[error(transparent)]
    Name(NameRefused),
    /// What stands where a digest must, or has a colon, is none.
    #[error(transparent)]
    Digest(#[from] DigestRefused),
    /// A reference is neither digest nor tag.
    #[error(transparent)]
    Tag(NameRefused),
    /// Uploads never have such an id.
    #[error("an upload's id has 1 to {UPLOAD_ID_MAX} letters and digits")]
    UploadId,
}

impl Route {
    /// Reads the path of a request, percent-encoded as it came (RFC 3986 §2.1).
    ///
    /// # Errors
    /// When the path names nothing.
    pub fn parse(path: &str) -> Result<Self, RouteRefused> {
        let no_path = || RouteRefused::Path(path.to_owned());
        let decoded = decode(path).ok_or_else(no_path)?;
        Ok(match Form::of(&decoded).ok_or_else(no_path)? {
            Form::Base => Self::Base,
            Form::Catalog => Self::Catalog,
            Form::Uploads(name) => Self::Uploads(repository(name)?),
            Form::Upload(name, id) => Self::Upload(repository(name)?, upload_id(id)?),
            Form::Blob(name, blob) => Self::Blob(repository(name)?, blob.parse()?),
            Form::Manifest(name, reference) => Self::Manifest(repository(name)?, reference.parse()?),
            Form::Tags(name) => Self::Tags(repository(name)?),
            Form::Referrers(name, subject) => Self::Referrers(repository(name)?, subject.parse()?),
        })
    }

    /// The form of a path in one word, whatever stands in its parts; none if it has no form. There are few, whatever
    /// strangers ask for, so that requests can be counted by it.
    pub fn class(path: &str) -> Option<&'static str> {
        Some(match Form::of(&decode(path)?)? {
            Form::Base => "ping",
            Form::Catalog => "catalog",
            Form::Uploads(_) | Form::Upload(..) => "uploads",
            Form::Blob(..) => "blobs",
            Form::Manifest(..) => "manifests",
            Form::Tags(_) => "tags",
            Form::Referrers(..) => "referrers",
        })
    }
}

/// The forms that paths have, with their parts as they stand there.
#[derive(Debug)]
enum Form<'a> {
    Base,
    Catalog,
    Blob(&'a str, &'a str),
    Uploads(&'a str),
    Upload(&'a str, &'a str),
    Manifest(&'a str, &'a str),
    Tags(&'a str),
    Referrers(&'a str, &'a str),
}

impl<'a> Form<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        if matches!(rest, "" | "/") {
            return Some(Self::Base);
        }
        let rest = rest.strip_prefix('/')?;
        if rest == "_catalog" {
            return Some(Self::Catalog);
        }
        let (head, last) = last_segment(rest);
        let (name, kind) = last_segment(head);
        match (kind, last) {
            ("blobs", "uploads") => Some(Self::Uploads(name)),
            ("uploads", id) => match (last_segment(name), id) {
                ((name, "blobs"), "") => Some(Self::Uploads(name)),
                ((name, "blobs"), id) => Some(Self::Upload(name, id)),
                _ => None,
            },
            ("blobs", blob) => Some(Self::Blob(name, blob)),
            ("manifests", reference) => Some(Self::Manifest(name, reference)),
            ("tags", "list") => Some(Self::Tags(name)),
            ("referrers", subject) => Some(Self::Referrers(name, subject)),
            _ => None,
        }
    }
}

/// A path without its last segment, and that segment.
fn last_segment(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl FromStr for Reference {
    type Err = RouteRefused;

    /// Reads a digest if there is a colon, which no tag has, otherwise a tag.
    fn from_str(text: &str) -> Result<Self, RouteRefused> {
        if text.contains(':') {
            return Ok(Self::Digest(text.parse()?));
        }
        text.parse().map(Self::Tag).map_err(RouteRefused::Tag)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

fn repository(name: &str) -> Result<RepositoryName, RouteRefused> {
    name.parse().map_err(RouteRefused::Name)
}

fn upload_id(text: &str) -> Result<String, RouteRefused> {
    let valid = text.len() <= UPLOAD_ID_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if valid { Ok(text.to_owned()) } else { Err(RouteRefused::UploadId) }
}

/// Undoes percent-encoding; none if it is broken or hides bytes that are not UTF-8.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
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
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn tag(text: &str) -> Reference {
        Reference::Tag(text.parse().unwrap())
    }

    #[test]
    fn reads_every_form() {
        let blob = Digest::sha256(b"x");
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            (&format!("/v2/acme/web/blobs/{blob}"), Route::Blob(name("acme/web"), blob)),
            (&format!("/v2/acme/web/blobs/sha256%3A{}", blob.hex()), Route::Blob(name("acme/web"), blob)),
            ("/v2/acme/web/blobs/uploads", Route::Uploads(name("acme/web"))),
            ("/v2/acme/web/blobs/uploads/", Route::Uploads(name("acme/web"))),
            ("/v2/acme/web/blobs/uploads/0a1", Route::Upload(name("acme/web"), "0a1".into())),
            ("/v2/acme/web/manifests/1.0", Route::Manifest(name("acme/web"), tag("1.0"))),
            ("/v2/acme/web/api/manifests/1.0", Route::Manifest(name("acme/web/api"), tag("1.0"))),
            (&format!("/v2/acme/web/manifests/{blob}"), Route::Manifest(name("acme/web"), Reference::Digest(blob))),
            ("/v2/acme/web/tags/list", Route::Tags(name("acme/web"))),
            (&format!("/v2/acme/web/referrers/{blob}"), Route::Referrers(name("acme/web"), blob)),
        ] {
            assert_eq!(Route::parse(path), Ok(route), "{path}");
        }
    }

    #[test]
    fn every_form_has_a_class_whatever_stands_in_it() {
        for (path, class) in [
            ("/v2", Some("ping")),
            ("/v2/", Some("ping")),
            ("/v2/_catalog", Some("catalog")),
            ("/v2/acme/web/blobs/sha256:00", Some("blobs")),
            ("/v2/acme/web/blobs/uploads/", Some("uploads")),
            ("/v2/acme/web/blobs/uploads/0a", Some("uploads")),
            ("/v2/Acme/web/manifests/latest", Some("manifests")),
            ("/v2/acme/web/manifests%2F.x", Some("manifests")),
            ("/v2/acme/web/tags/list", Some("tags")),
            ("/v2/acme/web/referrers/sha256:00", Some("referrers")),
            ("/v2/acme", None),
            ("/v2x", None),
            ("/v2/%", None),
            ("*", None),
        ] {
            assert_eq!(Route::class(path), class, "{path}");
        }
    }

    #[test]
    fn a_name_may_hold_the_words_that_stand_after_names() {
        assert_eq!(Route::parse("/v2/acme/blobs/uploads/tags/list"), Ok(Route::Tags(name("acme/blobs/uploads"))));
        assert_eq!(Route::parse("/v2/acme/tags/manifests/list"), Ok(Route::Manifest(name("acme/tags"), tag("list"))));
        assert_eq!(Route::parse("/v2/acme/manifests/blobs/uploads/"), Ok(Route::Uploads(name("acme/manifests"))));
    }

    #[test]
    fn a_path_of_no_form_is_refused() {
        for path in [
            "",
            "acme",
            "/v1/",
            "/v2x/tags/list",
            "/v2acme/web/tags/list",
            "/v2/acme/web",
            "/v2/acme/web/tags",
            "/v2/acme/web/tags/list/",
            "/v2/acme/web/uploads/1",
            "/v2/acme/web/blobs/uploads/a%2Fb",
            "/v2//",
            "/v2/%",
            "/v2/%4",
            "/v2/%+1",
            "/v2/%ff/x",
        ] {
            assert_eq!(Route::parse(path), Err(RouteRefused::Path(path.into())), "{path}");
        }
    }

    #[test]
    fn what_does_not_fit_into_a_form_is_refused_by_its_part() {
        for path in [
            "/v2/web/tags/list",
            "/v2/Acme/web/tags/list",
            "/v2/acme/../tags/list",
            "/v2/acme/%2e%2e/tags/list",
            "/v2/acme//tags/list",
            "/v2//acme/web/tags/list",
            "/v2/tags/list",
            "/v2/web/manifests/1",
        ] {
            assert!(matches!(Route::parse(path), Err(RouteRefused::Name(_))), "{path}");
        }
        for path in [
            "/v2/acme/web/blobs/x",
            "/v2/acme/web/blobs/sha256:baddigeststring",
            "/v2/acme/web/referrers/latest",
            "/v2/acme/web/manifests/md5:00",
        ] {
            assert!(matches!(Route::parse(path), Err(RouteRefused::Digest(_))), "{path}");
        }
        assert!(matches!(Route::parse("/v2/acme/web/manifests/.x"), Err(RouteRefused::Tag(_))));
        for id in ["a.b", &"a".repeat(UPLOAD_ID_MAX + 1)] {
            assert_eq!(Route::parse(&format!("/v2/acme/web/blobs/uploads/{id}")), Err(RouteRefused::UploadId), "{id}");
        }
    }
}
