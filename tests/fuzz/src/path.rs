//! Paths: what was read can be written and read again, plain and percent-encoded, and is made of valid names.
//!
//! Not here: what a valid name is; see [`super::reference`].

use protocol::oci::route::{Reference, Route, RouteRefused, UPLOAD_ID_MAX};

use super::{assert_short, reference};

/// Reads a path.
pub fn run(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    match Route::parse(path) {
        Ok(route) => {
            let written = written(&route);
            assert_eq!(Route::parse(&written).as_ref(), Ok(&route), "{written}");
            let encoded: String = written.bytes().map(|byte| format!("%{byte:02X}")).collect();
            assert_eq!(Route::parse(&encoded), Ok(route), "{encoded}");
        }
        Err(RouteRefused::Path(repeated)) => assert_eq!(repeated, path),
        Err(refused) => assert_short(&refused, 0),
    }
}

fn written(route: &Route) -> String {
    let (name, rest) = match route {
        Route::Base => return "/v2/".into(),
        Route::Catalog => return "/v2/_catalog".into(),
        Route::Blob(name, digest) => (name, format!("blobs/{digest}")),
        Route::Uploads(name) => (name, "blobs/uploads/".into()),
        Route::Upload(name, id) => {
            assert!((1..=UPLOAD_ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
            (name, format!("blobs/uploads/{id}"))
        }
        Route::Manifest(name, Reference::Tag(tag)) => (name, format!("manifests/{tag}")),
        Route::Manifest(name, Reference::Digest(digest)) => (name, format!("manifests/{digest}")),
        Route::Tags(name) => (name, "tags/list".into()),
        Route::Referrers(name, digest) => (name, format!("referrers/{digest}")),
    };
    assert!(reference::is_repository(name.as_str()), "{name}");
    format!("/v2/{name}/{rest}")
}
