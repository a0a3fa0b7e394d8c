//! Who may say what: keys, the TUF repository of each organisation, and its verification (DESIGN.md §3).
//!
//! | module | holds | used by |
//! |---|---|---|
//! | [`operator_keys`], [`passphrase`] | root, targets and app keys, sealed or not, and the operator's trust anchor | operator |
//! | [`online_key`] | the seed's key for desired states, snapshots and timestamps | seed |
//! | [`metadata`] | names, content, signatures and lifetimes of TUF documents | all |
//! | [`repository`] | a new repository, and the online files that keep it fresh | operator, seed |
//! | [`authorities`] | the certificate authorities that a root names | all |
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
//! What who holds a key can do, and cannot, and the test that shows it:
//!
//! | taken | can | cannot | shown by |
//! |---|---|---|---|
//! | the seed, with its online key | hold devices at what they have until the first role expires that people sign; roll out any version at or above the floor | name new content; go below the floor; bring back what was accepted; mix roles of different times | `a_taken_seed_cannot_name_new_content`, `a_version_below_the_floor_is_refused_online_and_offline`, `nothing_goes_back_not_even_after_a_restart_with_everything_expired`, `an_old_role_under_a_new_name_is_not_the_one_signed_for` |
//! | the same, after a fast-forward | hold devices until a new root names another online key | outlast that root | `a_new_root_changes_the_online_key_for_ever`, `after_a_fast_forward_new_keys_begin_anew` |
//! | a mirror or the network | withhold | forge, send without end, replay | `forged_metadata_is_refused_and_changes_nothing`, `more_bytes_than_a_role_may_have_are_refused` |
//! | an app's key | sign versions and grants of its apps; raise and lower their floors | speak for another app; sign any more once it was rotated out | `the_role_of_one_app_cannot_speak_for_another`, `a_stolen_app_key_is_rotated_out_and_signs_nothing_any_more` |
//! | the targets key | give apps to other keys | sign a root; change the online key | `the_keys_of_the_top_level_targets_change_with_a_root_and_new_targets` |
//! | fewer root keys than the threshold | nothing | change the root | `two_people_make_a_root_of_two_keys_and_both_must_sign_from_then_on`, `a_new_root_is_signed_by_the_old_keys_and_by_its_own` |
//! | a sealed key file, without its passphrase | try passphrases | sign | `a_sealed_key_opens_with_its_passphrase_alone` |
//!
//! Not here: what statements mean, see `protocol::statement`; transport certificates, see `transport::tls`.

mod archive;
pub mod authorities;
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
