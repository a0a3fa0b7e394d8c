//! gzip (RFC 1952) around what is sent as text again and again: trust metadata. Content is never compressed on the way: it is
//! named by the digest of its bytes.
//!
//! Not here: what is compressed; see [`crate::seed`].

use std::io::{self, Read as _, Write as _};

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// The name of the encoding in HTTP.
pub const GZIP: &str = "gzip";

/// Whether who asks takes gzip (RFC 9110 §12.5.3).
pub fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = parameters.trim().strip_prefix("q=").is_some_and(|weight| weight.trim_matches(['0', '.']).is_empty());
        name.trim().eq_ignore_ascii_case(GZIP) && !refused
    })
}

/// `bytes` compressed.
///
/// # Errors
/// Never, unless memory cannot be written.
pub fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// What `compressed` stands for, if that has at most `bytes_max` bytes; no more than one beyond are ever made.
///
/// # Errors
/// When it has more, or `compressed` is broken.
pub fn inflate(compressed: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
    let (mut decoder, mut bytes) = (GzDecoder::new(compressed).take(bytes_max as u64 + 1), Vec::new());
    decoder.read_to_end(&mut bytes)?;
    if bytes.len() <= bytes_max {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("the answer stands for more than {bytes_max} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_comes_back_and_a_bomb_is_never_unpacked() {
        let zeros = vec![0; 1 << 20];
        let small = compress(&zeros).unwrap();
        assert!(small.len() < 2000);
        assert_eq!(inflate(&small, 1 << 20).unwrap(), zeros);
        assert!(inflate(&small, (1 << 20) - 1).unwrap_err().to_string().contains("more than 1048575 bytes"));
        assert!(inflate(&small[..small.len() / 2], 1 << 20).is_err() && inflate(b"plain", 10).is_err());
        assert!(inflate(&compress(b"").unwrap(), 0).unwrap().is_empty());
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let accepted = |value: &'static str| is_accepted(&HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().unwrap())]));
        assert!(
            accepted("gzip") && accepted("zstd, GZIP;q=0.5") && !accepted("identity") && !accepted("gzip;q=0, br") && !accepted("gzipped")
        );
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
