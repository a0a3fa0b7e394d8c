//! What a request needs of the key and the token that it comes with, by what its path names.
//!
//! Not here: whether they have it; see [`super::access`].

use super::route::Route;
use super::scope::{Action, TokenScopes};
use crate::name::RepositoryName;

/// What a request does to a repository; none if it is about none. `method` is as HTTP writes it.
pub fn action<'a>(route: &'a Route, method: &str) -> Option<(&'a RepositoryName, Action)> {
    match route {
        Route::Base | Route::Catalog => None,
        Route::Uploads(repository) | Route::Upload(repository, _) => Some((repository, Action::Push)),
        Route::Blob(repository, _) | Route::Manifest(repository, _) | Route::Tags(repository) | Route::Referrers(repository, _) => {
            let action = match method {
                "DELETE" => Action::Delete,
                "GET" | "HEAD" => Action::Pull,
                _ => Action::Push,
            };
            Some((repository, action))
        }
    }
}

/// What a token for a request must allow, as its challenge says it: a push reads too, and a mount reads elsewhere, in
/// `mounts_from`.
pub fn token_scopes(route: &Route, method: &str, mounts_from: Option<&RepositoryName>) -> TokenScopes {
    let mut scopes = TokenScopes::default();
    if *route == Route::Catalog {
        scopes.allow_catalog();
    }
    let Some((repository, action)) = action(route, method) else { return scopes };
    scopes.allow(repository, action);
    if action == Action::Push {
        scopes.allow(repository, Action::Pull);
        if let (Route::Uploads(_), Some(from)) = (route, mounts_from) {
            scopes.allow(from, Action::Pull);
        }
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_reads_too_and_a_mount_reads_elsewhere() {
        let base = "acme/base".parse().unwrap();
        for (method, path, from, wanted) in [
            ("GET", "/v2/", None, ""),
            ("GET", "/v2/_catalog", None, "registry:catalog:*"),
            ("HEAD", "/v2/acme/web/manifests/1", None, "repository:acme/web:pull"),
            ("PUT", "/v2/acme/web/manifests/1", None, "repository:acme/web:pull,push"),
            ("BREW", "/v2/acme/web/manifests/1", None, "repository:acme/web:pull,push"),
            ("DELETE", "/v2/acme/web/manifests/1", None, "repository:acme/web:delete"),
            ("GET", "/v2/acme/web/blobs/uploads/1", None, "repository:acme/web:pull,push"),
            ("DELETE", "/v2/acme/web/blobs/uploads/1", None, "repository:acme/web:pull,push"),
            ("POST", "/v2/acme/web/blobs/uploads/", Some(&base), "repository:acme/base:pull repository:acme/web:pull,push"),
            ("PATCH", "/v2/acme/web/blobs/uploads/1", Some(&base), "repository:acme/web:pull,push"),
            ("GET", "/v2/acme/web/tags/list", Some(&base), "repository:acme/web:pull"),
        ] {
            let route = Route::parse(path).unwrap();
            assert_eq!(token_scopes(&route, method, from).to_string(), wanted, "{method} {path}");
        }
    }
}
