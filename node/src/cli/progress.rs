//! Bars for long work, on stderr and only on a terminal.
//!
//! Not here: the demo's, which shows several at once.

use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::blobs::Listing;

const BAR: &str = "{msg} {bar:32} {bytes:>11} of {total_bytes:<11} {eta}";

/// A bar for `total` bytes.
pub(super) fn bytes(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_message(what);
    match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A bar for all blobs in the data directory `dir`; one without an end if they cannot be counted.
pub(super) fn blobs(what: &'static str, dir: &Path) -> ProgressBar {
    let listed = Listing::open(dir).map(|listing| listing.flatten().map(|listed| listed.bytes).sum());
    bytes(what, listed.unwrap_or_default())
}

/// Bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
