//! What the official conformance suite of TUF asks of a client, in our own words.
//!
//! | module | claims about |
//! |---|---|
//! | `simulator` | a repository in memory, and what a client of it keeps |
//! | `top_level` | root, timestamp, snapshot, targets: order, signatures, names, hashes |
//! | `expiry` | what has expired |
//! | `rollback` | what goes back, and the recovery from a fast-forward |
//! | `keys` | thresholds, duplicates, kinds of keys |
//! | `rotation` | keys that change |
//! | `delegations` | which roles are visited for a target, and in which order |
//! | `artifacts` | targets and their hashes |
//!
//! Not here: RSA keys and the repositories of other implementations, which the suite itself brings.

mod artifacts;
mod delegations;
mod expiry;
mod keys;
mod rollback;
mod rotation;
mod simulator;
mod top_level;
