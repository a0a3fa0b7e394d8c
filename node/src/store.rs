//! What a node keeps: blobs as files under their digest, and everything else as records.
//!
//! | module | holds |
//! |---|---|
//! | [`blobs`] | blob files: only verified bytes get a digest's name |
//! | [`meta`] | the domain operations on records, and what can go wrong |
//! | [`records`] | tables, keys and changes, as journal and index keep them |
//! | [`journal`] | the authority: an append-only, checksummed, fsynced log of changes |
//! | [`index`] | the journal's content in sled, for look-ups; rebuilt whenever it is missing, corrupt or behind |
//! | `writer` | the one thread that writes: preconditions, then journal, then index, in groups |
//! | [`embedded`] | [`meta::MetaStore`] on journal and index |
//! | `blocks` | reading large files a block at a time |
//! | `room` | what of the disk blobs leave to the records |
//! | [`check`] | looking whether everything is there and whole |
//! | [`backup`] | copying a store while it is written, and bringing it back |
//! | [`needed`] | what versions need, read from their statements |
//! | `upgrade` | records that stores of earlier versions do not have yet |
//! | [`garbage`] | taking away what nothing needs any more |
//! | [`folders`] | the names of what stands in a data directory |
//! | [`lock`] | one process a data directory |
//!
//! Not here: who may ask for what; see `seed`.

pub mod backup;
pub mod blobs;
mod blocks;
pub mod check;
pub mod embedded;
pub mod folders;
pub mod garbage;
pub mod index;
pub mod journal;
pub mod lock;
pub mod meta;
pub mod needed;
pub mod records;
mod room;
mod upgrade;
mod writer;
