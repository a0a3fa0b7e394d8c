//! Text from clients in logs: nothing in it can end a line, end a field or drive a terminal.
//!
//! Not here: the logs.

use std::fmt::Write as _;

/// The most of a path that is logged, in bytes: the longest that names something, with the longest repository and digest.
pub const PATH_BYTES_MAX: usize = 512;
/// The most of a user agent that is logged, in bytes: those of docker have some 200.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// The most of a `Host` that is logged, in bytes: a name of DNS, a colon and a port.
pub const HOST_BYTES_MAX: usize = 259;
/// The most of a method that is logged, in bytes: the longest that is registered (RFC 9110 §16.1) has 17.
pub const METHOD_BYTES_MAX: usize = 32;

/// Stands at the end of what was cut.
const CUT: &str = "...";

/// The first `max` bytes, with everything but printable ASCII as `\xNN`.
pub fn printable(bytes: &[u8], max: usize) -> String {
    escaped(bytes, max, b"")
}

/// The same, for between quotes: quotes and backslashes are `\xNN` too.
pub fn quotable(bytes: &[u8], max: usize) -> String {
    escaped(bytes, max, b"\"\\")
}

fn escaped(bytes: &[u8], max: usize, special: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().min(max));
    for byte in &bytes[..bytes.len().min(max)] {
        if matches!(byte, 0x20..=0x7e) && !special.contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    if bytes.len() > max {
        text.push_str(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_line_or_drive_a_terminal_is_spelled_out() {
        assert_eq!(printable(b"skopeo/1.18 (\"x\")", 64), "skopeo/1.18 (\"x\")");
        assert_eq!(printable(b"a\r\nb\tc\x1b[31m\x7f", 64), "a\\x0d\\x0ab\\x09c\\x1b[31m\\x7f");
        assert_eq!(printable("\u{9b}2J\u{2028}\u{202e}".as_bytes(), 64), "\\xc2\\x9b2J\\xe2\\x80\\xa8\\xe2\\x80\\xae");
        assert_eq!(quotable(br#"a" 200 \"#, 64), "a\\x22 200 \\x5c");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(printable(b"abcdef", 4), "abcd...");
        assert_eq!(printable(b"abcd", 4), "abcd");
        assert!(printable(&[0xff; 10_000], PATH_BYTES_MAX).len() <= 4 * PATH_BYTES_MAX + CUT.len());
    }
}
