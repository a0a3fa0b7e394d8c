//! The query of a request, read once; a form is one too.
//!
//! Not here: what the parameters mean to a route.

use axum::http::Uri;
use protocol::digest::{Digest, DigestRefused};

use super::error::Refused;

/// The decoded parameters, in order; a name may come more than once. Unknown ones (`ns` of mirrors) are ignored.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl From<Vec<(String, String)>> for Query {
    fn from(parameters: Vec<(String, String)>) -> Self {
        Self(parameters)
    }
}

impl Query {
    pub(super) fn parse(uri: &Uri) -> Result<Self, Refused> {
        let query = axum::extract::Query::try_from_uri(uri).map_err(|error| Refused::Unsupported(error.to_string()))?;
        Ok(Self(query.0))
    }

    /// How many entries of a list are wanted, at most `max`; a number of any size is one.
    pub(super) fn limit(&self, max: usize) -> Result<usize, Refused> {
        let Some(text) = self.get("n") else { return Ok(max) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refused::Unsupported("n must be a number".into()));
        }
        Ok(text.parse().map_or(max, |limit: usize| limit.min(max)))
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The digest that a parameter holds, if it is there.
    pub(super) fn digest(&self, name: &str) -> Result<Option<Digest>, Refused> {
        let refused = |reason: DigestRefused| Refused::DigestInvalid(reason.to_string());
        self.get(name).map(str::parse).transpose().map_err(refused)
    }
}
