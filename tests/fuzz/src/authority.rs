//! `Host`: what is taken has only characters that mean nothing in a header or URL, and can be read again.
//!
//! Not here: whether somebody listens there.

use protocol::oci::authority::{AUTHORITY_BYTES_MAX, Authority};

/// Reads the header.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(authority) = text.parse::<Authority>() else { return };
    let written = authority.to_string();
    assert_eq!(written.parse(), Ok(authority));
    assert!(written.eq_ignore_ascii_case(text) && written.len() <= AUTHORITY_BYTES_MAX);
    let harmless = |letter| matches!(letter, 'a'..='z' | '0'..='9' | '.' | '-' | '_' | ':' | '[' | ']');
    assert!(written.chars().all(harmless), "{written}");
}
