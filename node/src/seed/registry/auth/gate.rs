//! Who a request to the registry is from: somebody with an access key, somebody with a token that was made from one, or
//! nobody; and what it may do.
//!
//! A token names its key. The key must still be on record whenever the token is used, so that revoking the key ends its
//! tokens at once.
//!
//! Not here: what is answered to those who are not let in; see `challenge`.

use axum::http::{HeaderMap, Uri, header};
use protocol::name::RepositoryName;
use protocol::oci::access::Asker;
use protocol::oci::authority::{Authority, AuthorityRefused, Origin};
use protocol::oci::credentials::Authorization;
use protocol::oci::scope::{Action, TokenScopes};

use super::token::TokenSigner;
use super::{AuthError, Principal, authorization, in_force, owner};
use crate::clock::wall_time;
use crate::store::meta::MetaStore;

/// What the registry lets requests in by.
#[derive(Debug)]
pub struct Gate {
    signer: TokenSigner,
    uses_tls: bool,
    public_url: Option<Origin>,
}

/// Who a request is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    principal: Option<Principal>,
    token: Option<TokenScopes>,
}

impl Gate {
    /// Tokens are signed by `signer`. Clients find the registry at `public_url`; if there is none, at whatever `Host` they
    /// name, over TLS or not.
    pub const fn new(signer: TokenSigner, uses_tls: bool, public_url: Option<Origin>) -> Self {
        Self { signer, uses_tls, public_url }
    }

    /// Where the client of this request finds the registry.
    ///
    /// # Errors
    /// When it does not say so in one well-formed `Host` or authority (RFC 9112 §3.2).
    pub(in super::super) fn origin(&self, headers: &HeaderMap, uri: &Uri) -> Result<Origin, AuthorityRefused> {
        if let Some(public_url) = &self.public_url {
            return Ok(public_url.clone());
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (uri.authority(), hosts.next(), hosts.next()) {
            (Some(authority), _, _) => authority.as_str(),
            (None, Some(host), None) => host.to_str().map_err(|_| AuthorityRefused)?,
            (None, _, _) => return Err(AuthorityRefused),
        };
        Ok(Origin::new(self.uses_tls, host.parse()?))
    }

    pub(super) const fn signer(&self) -> &TokenSigner {
        &self.signer
    }

    /// Who a request to `service` is from.
    ///
    /// # Errors
    /// When it has credentials that are not valid, or the keys cannot be read.
    pub(in super::super) async fn identify(
        &self,
        headers: &HeaderMap,
        service: &Authority,
        store: &dyn MetaStore,
    ) -> Result<Caller, AuthError> {
        let authorization = match authorization(headers) {
            Err(AuthError::Missing) => return Ok(Caller::default()),
            found => found?,
        };
        match (authorization.access_key(), authorization) {
            (Ok(key), _) => Ok(Caller { principal: Some(owner(&key, store).await?), token: None }),
            (Err(_), Authorization::Bearer(token)) => {
                let claims = self.signer.read(&token, service, wall_time()).map_err(|_| AuthError::InvalidToken)?;
                let principal = match claims.key {
                    Some(id) => Some(in_force(store.access_key(&id).await?)?),
                    None => None,
                };
                Ok(Caller { principal, token: Some(claims.scopes) })
            }
            (Err(_), Authorization::Basic { .. }) => Err(AuthError::Invalid),
        }
    }
}

impl Caller {
    /// Whose key it acts by; none for a stranger.
    pub const fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// The same, as the rules about repositories see it.
    pub fn asker(&self) -> Asker<'_> {
        Asker { holder: self.principal.as_ref().map(Principal::holder), token: self.token.as_ref() }
    }

    /// Whether it acts for the organisation of the repository.
    pub fn owns(&self, repository: &RepositoryName) -> bool {
        self.asker().owns(repository)
    }

    /// Checks that it came with credentials.
    ///
    /// # Errors
    /// When it did not.
    pub const fn require_credentials(&self) -> Result<(), AuthError> {
        if self.principal.is_some() || self.token.is_some() { Ok(()) } else { Err(AuthError::Missing) }
    }

    /// Checks that its key, and its token if it came with one, allow an action on a repository of its own.
    ///
    /// # Errors
    /// When one does not.
    pub fn require(&self, action: Action, repository: &RepositoryName) -> Result<(), AuthError> {
        Ok(self.asker().require(action, repository)?)
    }

    /// Checks that its key, and its token if it came with one, allow to list the repositories of its organisation.
    ///
    /// # Errors
    /// When one does not.
    pub fn require_catalog(&self) -> Result<&Principal, AuthError> {
        self.asker().require_catalog()?;
        self.principal.as_ref().ok_or(AuthError::Missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(public_url: Option<&str>) -> Gate {
        Gate::new(TokenSigner::random(), true, public_url.map(|url| url.parse().unwrap()))
    }

    #[test]
    fn a_client_finds_the_registry_where_it_said() {
        let origin = |hosts: &[&'static str], uri: &'static str, public_url| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            gate(public_url).origin(&headers, &uri.parse().unwrap()).map(|origin| origin.to_string())
        };
        assert_eq!(origin(&["Seed.example:5000"], "/v2/", None).unwrap(), "https://seed.example:5000");
        assert_eq!(origin(&[], "https://seed.example/v2/", None).unwrap(), "https://seed.example", "HTTP/2 has no Host");
        assert_eq!(origin(&["inner:1"], "/v2/", Some("https://seed.example")).unwrap(), "https://seed.example");
        for hosts in [&[][..], &["a", "a"], &["seed example"], &["a\"b"], &["user@seed"]] {
            assert!(origin(hosts, "/v2/", None).is_err(), "{hosts:?}");
        }
        assert!(origin(&["seed.example"], "http://user@seed.example/v2/", None).is_err());
    }
}
