//! What a request's path and method ask for, in the registry's words: how a bad path is refused, which methods it has, and
//! which scope a key needs.
//!
//! Not here: reading the path; see [`protocol::oci::route`].

use axum::http::Method;
use protocol::oci::route::{Route, RouteRefused};

use super::error::Refused;
use crate::store::meta::Scope;

/// Reads the path of a request that came with `method`, on which depends what a bad tag is called.
pub(super) fn parse(path: &str, method: &Method) -> Result<Route, Refused> {
    Route::parse(path).map_err(|refused| match refused {
        RouteRefused::Path(path) => Refused::NotFound(path),
        RouteRefused::Name(reason) => Refused::NameInvalid(reason),
        RouteRefused::Digest(reason) => Refused::DigestInvalid(reason.to_string()),
        RouteRefused::Tag(reason) if method == Method::PUT => Refused::ManifestInvalid(reason.to_string()),
        RouteRefused::Tag(reason) => Refused::ManifestUnknown(reason.to_string()),
        RouteRefused::UploadId => Refused::UploadUnknown,
    })
}

/// The methods that a path has.
pub(super) const fn methods(route: &Route) -> &'static str {
    match route {
        Route::Base | Route::Catalog | Route::Tags(_) | Route::Referrers(..) => "GET, HEAD",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
    }
}

/// What a key must be allowed for this request; none for the probe `/v2/`.
pub(super) fn scope(route: &Route, method: &Method) -> Option<Scope> {
    match route {
        Route::Base | Route::Catalog => None,
        Route::Uploads(_) | Route::Upload(..) => Some(Scope::Push),
        Route::Blob(..) | Route::Manifest(..) | Route::Tags(_) | Route::Referrers(..) => match *method {
            Method::DELETE => Some(Scope::Delete),
            Method::GET | Method::HEAD => Some(Scope::Pull),
            _ => Some(Scope::Push),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_path_is_refused_in_the_words_of_its_part() {
        let get = |path| parse(path, &Method::GET);
        assert!(matches!(get("/v2/acme/web"), Err(Refused::NotFound(_))));
        assert!(matches!(get("/v2/Acme/web/tags/list"), Err(Refused::NameInvalid(_))));
        assert!(matches!(get("/v2/acme/web/blobs/sha256:baddigeststring"), Err(Refused::DigestInvalid(_))));
        assert!(matches!(get("/v2/acme/web/blobs/uploads/a.b"), Err(Refused::UploadUnknown)));
        assert!(matches!(get("/v2/acme/web/manifests/.x"), Err(Refused::ManifestUnknown(_))));
        assert!(matches!(parse("/v2/acme/web/manifests/.x", &Method::PUT), Err(Refused::ManifestInvalid(_))));
    }
}
