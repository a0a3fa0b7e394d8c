//! By which name and port a client reached a registry: the `Host` header (RFC 9110 §7.2), which a stranger wrote; and URLs
//! that have nothing but a scheme besides.
//!
//! It is repeated in answers, quoted in a header and as part of a URL; nothing that means something there is let in.
//!
//! Not here: which names a seed has.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The longest authority, in bytes: a DNS name of 253 (RFC 1035 §2.3.4), a colon, and a port of 5.
pub const AUTHORITY_BYTES_MAX: usize = 259;

/// A host and, if it is not the scheme's own, a port; in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority(String);

/// Where a registry is found: scheme, host and port (RFC 6454 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    uses_tls: bool,
    authority: Authority,
}

/// The text is no URL of a whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL must be https://HOST or https://HOST:PORT without a path, or the same with http")]
pub struct OriginRefused;

/// The text is no host with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Host must be a name or an address, with or without a port")]
pub struct AuthorityRefused;

impl FromStr for Authority {
    type Err = AuthorityRefused;

    fn from_str(text: &str) -> Result<Self, AuthorityRefused> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        if text.len() <= AUTHORITY_BYTES_MAX && is_host && port.is_none_or(is_port) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(AuthorityRefused)
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Origin {
    /// The server at `authority`, which speaks TLS or not.
    pub const fn new(uses_tls: bool, authority: Authority) -> Self {
        Self { uses_tls, authority }
    }

    /// Host and port.
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl FromStr for Origin {
    type Err = OriginRefused;

    fn from_str(text: &str) -> Result<Self, OriginRefused> {
        let (scheme, rest) = text.split_once("://").ok_or(OriginRefused)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| OriginRefused)?;
        match scheme {
            "https" => Ok(Self::new(true, authority)),
            "http" => Ok(Self::new(false, authority)),
            _ => Err(OriginRefused),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.uses_tls { "https" } else { "http" }, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_addresses_with_and_without_a_port() {
        for (text, read) in [
            ("seed.example", "seed.example"),
            ("Seed.Example:5000", "seed.example:5000"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]", "[::1]"),
            ("[FE80::1]:65535", "[fe80::1]:65535"),
            ("my_host", "my_host"),
        ] {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), read);
        }
    }

    #[test]
    fn refuses_what_could_mean_something_where_it_is_repeated() {
        let long = "a".repeat(AUTHORITY_BYTES_MAX + 1);
        for text in [
            "",
            ":5000",
            "seed.example:",
            "seed.example:x",
            "seed.example:+1",
            "seed.example:65536",
            "user@seed.example",
            "seed.example/v2",
            "seed.example\"",
            "seed.example\\",
            "seed example",
            "seed.example?x",
            "a,b",
            "a:1:2",
            "::1",
            "[::1",
            "[seed]",
            "[fe80::1%eth0]",
            "sééd.example",
            &long,
        ] {
            assert_eq!(text.parse::<Authority>(), Err(AuthorityRefused), "{text}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_and_an_authority() {
        for (text, read) in [("https://Seed.example/", "https://seed.example"), ("http://[::1]:5000", "http://[::1]:5000")] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), read);
        }
        for text in
            ["seed.example", "https://", "ftp://seed.example", "https://seed.example/registry", "https://seed.example?x", "HTTPS://seed"]
        {
            assert_eq!(text.parse::<Origin>(), Err(OriginRefused), "{text}");
        }
    }
}
