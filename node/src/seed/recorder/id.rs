//! Ids of requests: unique, not secret.
//!
//! Not here: where they are shown.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderMap;

use super::REQUEST_ID;

/// The longest id that is taken over from a client, in characters: a UUID has 36, trace ids have up to 55.
const CLIENT_ID_MAX: usize = 64;

/// Makes ids of requests.
#[derive(Debug)]
pub(super) struct Ids {
    /// Another one after each start.
    process: String,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut process = [0; 8];
        getrandom::fill(&mut process)?;
        Ok(Self { process: hex::encode(process), next: AtomicU64::new(1) })
    }

    /// The id that the client sent, if it is a short word; else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> String {
        let sent = headers.get(REQUEST_ID).map_or(&b""[..], |value| value.as_bytes());
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        match std::str::from_utf8(sent) {
            Ok(sent) if (1..=CLIENT_ID_MAX).contains(&sent.len()) && sent.as_bytes().iter().all(word) => sent.to_owned(),
            _ => format!("{}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn an_id_of_the_client_is_kept_if_it_is_a_short_word() {
        let ids = Ids::new().unwrap();
        let of = |sent: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(sent).unwrap());
            ids.of(&headers)
        };
        for kept in ["0", "4bf92f35-77b3_4da6.a3ce", &"a".repeat(64)] {
            assert_eq!(of(kept.as_bytes()), kept);
        }
        let long = "a".repeat(65);
        for replaced in ["", "a b", "a\"b", "a\tb", "<script>", "\u{e9}", &long] {
            let id = of(replaced.as_bytes());
            assert!(id.starts_with(&ids.process), "{replaced:?} became {id}");
        }
        assert_ne!(of(b""), of(b""));
    }
}
