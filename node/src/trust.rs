//! Who may say what: keys, the TUF repository of each organisation, and its verification (DESIGN.md §3).
//!
//! | module | holds | used by |
//! |---|---|---|
//! | [`operator_keys`], [`passphrase`] | root, targets and app keys, sealed or not, and the operator's trust anchor | operator |
//! | [`online_key`] | the seed's key for desired states, snapshots and timestamps | seed |
//! | [`metadata`] | names, content, signatures and lifetimes of TUF documents | all |
//! | [`repository`] | a new repository, and the online files that keep it fresh | operator, seed |
//! | [`authorities`] | the certificate authorities that a root names | all |
//! | `archive` | what moves out of an app's role when it has many versions | all |
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
//! What who holds a key can do, and cannot, and the test that shows it; those in `hostile` and `identity` run against real
//! devices:
//!
//! | taken | can | cannot | shown by |
//! |---|---|---|---|
//! | the seed, with its online key | roll out any version at or above the floor | name new content | `hostile::software_that_nobody_signed_is_refused_and_what_was_there_stays`, `a_taken_seed_cannot_name_new_content` |
//! | | | go below the floor | `hostile::a_version_below_the_floor_that_its_owner_signed_is_not_started_whatever_the_seed_wants`, `a_version_below_the_floor_is_refused_online_and_offline`, `no_sequence_of_documents_and_failures_starts_a_version_below_the_floor` |
//! | | | bring back what was accepted, or mix roles of different times | `hostile::roles_of_different_times_and_roles_under_another_version_are_refused`, `nothing_goes_back_not_even_after_a_restart_with_everything_expired`, `an_old_role_under_a_new_name_is_not_the_one_signed_for`, `no_sequence_of_documents_makes_a_counter_go_back` |
//! | | send without end | fill a device | `hostile::data_without_end_is_not_read_to_its_end`, `more_bytes_than_a_role_may_have_are_refused` |
//! | | hold devices at what they have, until the first role expires that people sign (`trust show` says when) | do so unseen for more than a week after that | `hostile::a_freeze_is_bounded_and_shows_after_a_week`, `answers_do_not_count_once_a_role_has_expired_that_people_sign` |
//! | the same, after a fast-forward of versions and counters | hold devices until a new root names another online key | outlast that root | `hostile::after_a_fast_forward_a_new_root_with_another_online_key_lets_every_device_go_on`, `another_online_key_raises_the_epoch_and_ends_a_fast_forward`, `a_new_root_changes_the_online_key_for_ever` |
//! | the same, after that root | | bring back older top-level targets, or a lower floor, with an older role | `with_a_raised_epoch_timestamp_and_snapshot_begin_anew_and_what_people_signed_does_not_go_back` |
//! | the same, with a clock that is ahead | hold devices until a new root raises the epoch | close the way to that root; start anything staged early | `hostile::a_seed_whose_clock_was_weeks_ahead_is_reached_again_and_a_raised_epoch_puts_the_devices_right`, `neither_a_floor_nor_a_clock_that_is_ahead_closes_the_way_to_the_seed` |
//! | the same, revoking devices | keep devices of a site from sharing, until a new root ends its lists | | `a_list_of_a_new_epoch_forgets_nobody_before_their_certificates_are_over` |
//! | a backup of yesterday | be put in force by a raised epoch | make devices accept a key again that was revoked since, nor the seed once a device has given it its list back | `hostile::yesterdays_backup_is_restored_and_with_a_raised_epoch_every_device_goes_on_and_the_seed_learns_again_whom_it_revoked`, `a_list_that_is_given_back_counts_however_old_unless_the_root_ended_it_or_another_key_signed_it` |
//! | a mirror or the network | withhold | forge, replay | `forged_metadata_is_refused_and_changes_nothing`, `no_role_goes_back_with_hashes_or_without` |
//! | an app's key | sign versions and grants of its apps; raise and lower their floors | speak for another app; sign any more once it was rotated out | `the_role_of_one_app_cannot_speak_for_another`, `a_stolen_app_key_is_rotated_out_and_signs_nothing_any_more`, `without_the_roots_word_no_grant_counts`, `a_grant_takes_the_place_of_the_documents_until_it_ends_also_when_they_are_over_and_nothing_below_the_floor` |
//! | the targets key | give apps to other keys | sign a root; change the online key | `the_keys_of_the_top_level_targets_change_with_a_root_and_new_targets` |
//! | fewer root keys than the threshold | nothing | change the root | `two_people_make_a_root_of_two_keys_and_both_must_sign_from_then_on`, `a_new_root_is_signed_by_the_old_keys_and_by_its_own` |
//! | a device's key | be that device, until it is revoked | stay in the swarm after, not even between devices without a WAN; come back with an old seed | `identity::a_revocation_holds_between_devices_that_have_lost_the_wan_since`, `a_revocation_list_holds_after_a_restart_and_no_older_one_takes_its_place` |
//! | | keep from its site for two intervals what it was told when it asked for all | hold its site back for longer; say that the seed was asked when it was not | `a_neighbour_that_keeps_receipts_back_or_repeats_old_ones_holds_nobody_back_for_longer_than_two_intervals`, `a_receipt_that_the_seed_did_not_give_tells_nobody_anything_and_ends_no_ones_turn` |
//! | an enrolment token | enrol as many devices as it says, until it expires or is taken back | take the name of a device that is enrolled | `identity::tokens_enrol_as_many_devices_as_they_say`, `identity::a_token_that_is_taken_back_enrols_nobody` |
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
pub use client::{VerifiedRepository, last_root, newest_root};
pub use key_file::KeyError;
pub use metadata::statement_digest;
pub use online_key::OnlineSigner;
pub use operator_keys::OperatorKeys;
pub use publication::{
    CheckedEvidence, CheckedPublication, NewVersion, Publication, PublicationRefused, check_publication, prepare_version,
};
pub use refused::TrustRefused;
pub use repository::{RepositoryFiles, new_repository, renewal_due, roots_from};
pub use rules::{PublishedVersions, check_target};
pub use source::{MetadataSource, SourceError, StoredMetadata};
pub use updater::{AnyRoot, Refreshed, RootRules, Updater};
