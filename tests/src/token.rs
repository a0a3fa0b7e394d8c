//! Tokens for a registry, as clients get them: from the challenge in a 401 to a token of the realm named there.
//!
//! The challenge is read as the strictest clients do: one `Bearer`, every parameter quoted (RFC 6750 §3).
//!
//! Not here: what a client does with a token; see [`crate::registry`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http::escaped;
use crate::registry::{Registry, Reply};

/// What somebody without a good enough token is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Where tokens are given.
    pub realm: String,
    /// What the token is for.
    pub service: String,
    /// What it has to allow; none where any token will do.
    pub scope: Option<String>,
    /// Why the token at hand was not good enough, if there was one.
    pub error: Option<String>,
}

impl Challenge {
    /// The challenge of an answer.
    ///
    /// # Panics
    /// When the answer is not 401, or its challenge cannot be read.
    #[track_caller]
    pub fn of(reply: &Reply) -> Self {
        assert_eq!(reply.status(), 401);
        let challenge = reply.header("WWW-Authenticate").expect("a 401 says how to be let in");
        let mut rest = challenge.strip_prefix("Bearer ").unwrap_or_else(|| panic!("not a Bearer challenge: {challenge}"));
        let mut parameters = Vec::new();
        while !rest.is_empty() {
            let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("a parameter is not quoted: {challenge}"));
            let (value, more) = value.split_once('"').unwrap_or_else(|| panic!("a quote does not end: {challenge}"));
            parameters.push((name, value));
            rest = more.strip_prefix(',').unwrap_or(more);
        }
        let parameter = |name: &str| parameters.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned());
        let required = |name: &str| parameter(name).unwrap_or_else(|| panic!("no {name}: {challenge}"));
        Self { realm: required("realm"), service: required("service"), scope: parameter("scope"), error: parameter("error") }
    }
}

/// The value of `Authorization` for a user and a password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Asks by GET for a token with these scopes: `who` says so in `Authorization`, or is nobody in particular.
///
/// # Panics
/// When none is given.
#[track_caller]
pub fn by_get(who: &Registry, challenge: &Challenge, more: &[(&str, &str)], scopes: &[&str]) -> String {
    let query = form(&challenge.service, more, scopes);
    token_in(&who.ask("GET", &format!("{}?{query}", challenge.realm)).gives(200))
}

/// Asks by POST of a form for a token with these scopes; `more` has the grant and the secret.
///
/// # Panics
/// When none is given.
#[track_caller]
pub fn by_post(registry: &Registry, challenge: &Challenge, more: &[(&str, &str)], scopes: &[&str]) -> String {
    let form = form(&challenge.service, more, &[&scopes.join(" ")]);
    let request = registry.anonymous().ask("POST", &challenge.realm);
    token_in(&request.body("application/x-www-form-urlencoded; charset=utf-8", form.as_bytes()).gives(200))
}

fn form(service: &str, more: &[(&str, &str)], scopes: &[&str]) -> String {
    let scopes = scopes.iter().map(|scope| ("scope", *scope));
    let fields = [("service", service)].into_iter().chain(more.iter().copied()).chain(scopes);
    fields.map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
}

/// The value of `Authorization` for the token in an answer, which must have the fields that clients look at.
#[track_caller]
fn token_in(reply: &Reply) -> String {
    let given = reply.json();
    assert_eq!(given["token"], given["access_token"], "some clients read the one, some the other");
    assert!(given["expires_in"].as_u64().is_some_and(|seconds| seconds >= 60), "{}", given["expires_in"]);
    format!("Bearer {}", given["token"].as_str().expect("a token is text"))
}
