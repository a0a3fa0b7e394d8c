//! Scopes of tokens: what was asked for stays within its limits, means the same when it is written and asked for again, and
//! does not grow by asking twice.
//!
//! Not here: what a key may have of it.

use protocol::oci::scope::{SCOPES_MAX, TokenScopes};

/// The longest text of all scopes of a token, in bytes: half of the header line into which the token must fit.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Reads each line as the value of one parameter.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let scopes = TokenScopes::parse(text.lines());
    let written = scopes.to_string();
    assert!(scopes.repositories().count() <= SCOPES_MAX && written.len() <= TEXT_BYTES_MAX, "{written}");
    assert_eq!(scopes.is_empty(), written.is_empty());
    assert_eq!(TokenScopes::parse([written.as_str()]), scopes);
    assert_eq!(TokenScopes::parse(text.lines().chain(text.lines())), scopes);
    for (repository, actions) in scopes.repositories() {
        assert!(!actions.is_empty() && actions.iter().all(|action| scopes.allows(repository, *action)), "{written}");
    }
}
