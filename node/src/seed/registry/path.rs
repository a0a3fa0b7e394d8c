//! What a request's path and method ask for, in the registry's words: how a bad path is refused, which methods it has, and
//! what a challenge names.
//!
//! Not here: reading the path, see [`protocol::oci::route`]; what a key and a token must allow, see [`protocol::oci::needs`].

use axum::http::{Method, Uri};
use protocol::name::RepositoryName;
use protocol::oci::needs;
use protocol::oci::route::{Route, RouteRefused};
use protocol::oci::scope::{Action, TokenScopes};

use super::error::Refused;
use super::query::Query;

/// The longest part of a path that an error repeats, in characters.
const QUOTED_MAX: usize = 160;

/// Reads the path of a request that came with `method`, on which depends what a bad tag is called.
pub(super) fn parse(path: &str, method: &Method) -> Result<Route, Refused> {
    Route::parse(path).map_err(|refused| match refused {
        RouteRefused::Path(path) => Refused::NotFound(path.chars().take(QUOTED_MAX).collect()),
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

/// What a request does to a repository; none if it is about none.
pub(super) fn action<'a>(route: &'a Route, method: &Method) -> Option<(&'a RepositoryName, Action)> {
    needs::action(route, method.as_str())
}

/// What a token for a request must allow, as its challenge says it.
pub(super) fn token_scopes(uri: &Uri, method: &Method) -> TokenScopes {
    let Ok(route) = Route::parse(uri.path()) else { return TokenScopes::default() };
    let query = Query::parse(uri).unwrap_or_default();
    let mounts_from = query.get("mount").and_then(|_| query.get("from")).and_then(|from| from.parse().ok());
    needs::token_scopes(&route, method.as_str(), mounts_from.as_ref())
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

    #[test]
    fn a_challenge_names_what_the_request_needs() {
        let scopes = |method: &str, path: &str| token_scopes(&path.parse().unwrap(), &method.parse().unwrap()).to_string();
        for (method, path, wanted) in [
            ("GET", "/v2/", ""),
            ("GET", "/v2/no", ""),
            ("GET", "/v2/_catalog?n=1", "registry:catalog:*"),
            ("HEAD", "/v2/acme/web/manifests/1", "repository:acme/web:pull"),
            ("PUT", "/v2/acme/web/manifests/1", "repository:acme/web:pull,push"),
            ("DELETE", "/v2/acme/web/manifests/1", "repository:acme/web:delete"),
            ("POST", "/v2/acme/web/blobs/uploads/?from=acme/base", "repository:acme/web:pull,push"),
            ("POST", "/v2/acme/web/blobs/uploads/?mount=x&from=acme/base", "repository:acme/base:pull repository:acme/web:pull,push"),
            ("PATCH", "/v2/acme/web/blobs/uploads/1?mount=x&from=acme/base", "repository:acme/web:pull,push"),
        ] {
            assert_eq!(scopes(method, path), wanted, "{method} {path}");
        }
    }
}
