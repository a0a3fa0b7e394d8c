//! What a registry reads in requests (OCI distribution-spec 1.1): everything here was sent by a stranger.
//!
//! | module | reads |
//! |---|---|
//! | [`route`] | what a path under `/v2/` names, and references to manifests |
//! | [`range`] | `Range` of downloads |
//! | [`none_match`] | `If-None-Match` of downloads |
//! | [`content_range`] | `Content-Range` of uploads |
//! | [`manifest`] | what a manifest names |
//! | [`credentials`] | the `Authorization` header, and access keys |
//! | [`authority`] | the `Host` header |
//! | [`scope`] | what a token is asked for |
//! | [`needs`] | what a request must be allowed |
//! | [`access`] | who may do what |
//!
//! Not here: whether what is named exists, and what is answered; that is `seed::registry` of `node`.

pub mod access;
pub mod authority;
pub mod content_range;
pub mod credentials;
pub mod manifest;
pub mod needs;
pub mod none_match;
pub mod range;
pub mod route;
pub mod scope;
