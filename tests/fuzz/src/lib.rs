//! What fuzzing hands to the parsers of `protocol`, and what must hold of every answer.
//!
//! A target is a plain function of bytes that panics when something does not hold. libFuzzer calls it through
//! `fuzz_targets/` for as long as wanted (`cargo tools fuzz`); `protocol/tests/fuzz.rs` includes this file and calls it on
//! the files of `corpus/` and on changed copies of them, in every `cargo tools check`.
//!
//! | target | reads |
//! |---|---|
//! | [`path`] | the path of a request to the registry |
//! | [`reference`] | names, tags, digests, patterns |
//! | [`range`] | `Range`, below a first line with the size of the blob |
//! | [`none_match`] | `If-None-Match`, below a first line with the tag of the content |
//! | [`content_range`] | `Content-Range` of uploads |
//! | [`token`] | the `Authorization` header, and access keys |
//! | [`scope`] | what a token is asked for, one parameter a line |
//! | [`authority`] | the `Host` header |
//! | [`tag_glob`] | a pattern of tags, and a tag below it |
//! | [`cosign`] | signatures of images, the text of one in a first line |
//! | [`manifest`] | a manifest, below a first line with its content type |
//! | [`frame`] | a message of a peer |
//! | [`hash_list`] | the hash list of a blob |
//! | [`desired_state`] | a signed desired state, and its content; that of an assignment |
//! | [`revocations`] | a signed revocation list, and its content |
//! | [`device_report`] | a signed report of a device, and its content |
//! | [`fleet_text`] | labels, selectors, step tables, time windows |
//! | [`grant`] | a signed grant, and its content |
//! | [`gossip`] | what devices of a site tell each other; the receipt of a poll, its mark in a first line |
//! | [`beacon`] | a datagram by which a device is found |
//! | [`version_statement`] | what a version is on one platform |
//!
//! Not here: single cases with a known answer; they are tests beside the parsers.

pub mod authority;
pub mod beacon;
pub mod content_range;
pub mod cosign;
pub mod desired_state;
pub mod device_report;
pub mod fleet_text;
pub mod frame;
pub mod gossip;
pub mod grant;
pub mod hash_list;
pub mod manifest;
pub mod none_match;
pub mod path;
pub mod range;
pub mod reference;
pub mod revocations;
pub mod scope;
pub mod tag_glob;
pub mod token;
pub mod version_statement;

/// The longest error message, in bytes, beside what it repeats on purpose: none may grow with what a stranger sends.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// A target by its name, which its file in `fuzz_targets/` and its folder in `corpus/` have too.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Panics when something does not hold for these bytes.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "authority", run: authority::run },
    Target { name: "beacon", run: beacon::run },
    Target { name: "content_range", run: content_range::run },
    Target { name: "cosign", run: cosign::run },
    Target { name: "desired_state", run: desired_state::run },
    Target { name: "device_report", run: device_report::run },
    Target { name: "fleet_text", run: fleet_text::run },
    Target { name: "frame", run: frame::run },
    Target { name: "gossip", run: gossip::run },
    Target { name: "grant", run: grant::run },
    Target { name: "hash_list", run: hash_list::run },
    Target { name: "manifest", run: manifest::run },
    Target { name: "none_match", run: none_match::run },
    Target { name: "path", run: path::run },
    Target { name: "range", run: range::run },
    Target { name: "reference", run: reference::run },
    Target { name: "revocations", run: revocations::run },
    Target { name: "scope", run: scope::run },
    Target { name: "tag_glob", run: tag_glob::run },
    Target { name: "token", run: token::run },
    Target { name: "version_statement", run: version_statement::run },
];

/// The text before and after the first line break; the bytes after it may be anything.
fn first_line(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&data[..end]).ok()?, &data[end + 1..]))
}

/// Checks that a refusal is as short as an answer to a stranger must be, `repeated` bytes of its input aside.
fn assert_short(refused: &impl std::fmt::Display, repeated: usize) {
    let message = refused.to_string();
    assert!(message.len() <= MESSAGE_BYTES_MAX + repeated, "{} bytes: {message}", message.len());
}
