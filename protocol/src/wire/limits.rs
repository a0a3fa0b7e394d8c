//! Every maximum of the wire, each with its reason.
//!
//! Not here: limits on documents; they stand beside the document.

/// Bytes of one control frame: a full [`RANGES_MAX`] of worst-case ranges (10 bytes each) fits with its digest.
pub const FRAME_BYTES_MAX: usize = 48 << 10;

/// Ranges in one message; what exceeds it follows in a further message.
pub const RANGES_MAX: usize = 4096;

/// Claims in one progress message: more than a node ever holds at once.
pub const CLAIMS_MAX: usize = 64;

/// Addresses in one message: the largest neighbourhood of a swarm.
pub const ADDRESSES_MAX: usize = 64;

/// Units in one request: 4 MiB of 64 KiB units, the largest piece.
pub const GET_UNITS_MAX: u32 = 64;
