//! Who may say what: keys, the TUF repository of each organisation, and its verification (DESIGN.md §3).
//!
//! | module | holds | used by |
//! |---|---|---|
//! | [`operator_keys`], [`passphrase`] | root, targets and app keys, sealed or not, and the operator's trust anchor | operator |
//! | [`online_key`] | the seed's key for desired states, snapshots and timestamps | seed |
//! | [`metadata`] | names, content, signatures and lifetimes of TUF documents | all |
//! | [`repository`] | a new repository, and the online files that keep it fresh | operator, seed |
//! | `archive` | what moves out of an app's role when it has many versions | operator, seed |
//! | [`publication`] | a new version: made by the operator, checked by the seed | operator, seed |
//! | [`change`] | who may sign what: keys, thresholds, epoch, floors, renewals | operator, seed |
//! | [`proposal`] | a change or version that several people sign, one after the other, without a network | operator |
//! | [`source`] | where metadata comes from, and the limits on it | all |
//! | [`updater`] | a TUF client for any repository, with floors that survive a restart | client |
//! | [`client`] | what an organisation's repository asks for besides TUF | device, operator |
//! | `rules` | checks that the TUF library leaves to its caller | client, publication |
//! | `cache`, `key_file` | verified metadata on disk; keys in PEM form | all |
//! | [`refused`] | why something is not believed | all |
//!
//! Not here: what statements mean, see `protocol::statement`; transport certificates, see `transport::tls`.

mod archive;
mod cache;
pub mod change;
pub mod client;

pub(crate) mod key_file;
pub mod metadata;
pub mod online_key;
pub mod operator_keys;
pub mod passphrase;
pub mod proposal;
pub mod publication;
pub mod refused;
pub mod repository;
mod rules;
pub mod source;
pub mod updater;

#[cfg(test)]
pub(crate) mod fixture;

pub use change::TrustChange;
pub use client::VerifiedRepository;
pub use key_file::KeyError;
pub use metadata::statement_digest;
pub use online_key::OnlineSigner;
pub use operator_keys::OperatorKeys;
pub use publication::{CheckedPublication, NewVersion, Publication, PublicationRefused, check_publication, prepare_version};
pub use refused::TrustRefused;
pub use repository::{RepositoryFiles, new_repository, renewal_due};
pub use rules::{PublishedVersions, check_target};
pub use source::{MetadataSource, SourceError, StoredMetadata};
pub use updater::{AnyRoot, Refreshed, RootRules, Updater};
