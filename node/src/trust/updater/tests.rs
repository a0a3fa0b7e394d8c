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
//! The attacks that the specification lists (TUF 1.0 §1.5.2), and the dialogue that refuses each; those without a module are
//! beside [`super::super::client`]:
//!
//! | attack | dialogue |
//! |---|---|
//! | arbitrary software | `a_taken_seed_cannot_name_new_content`, `top_level::what_is_not_signed_is_refused_and_what_stands_above_it_is_taken` |
//! | endless data | `top_level::more_bytes_than_a_role_may_have_are_refused`, `artifacts::a_target_beyond_the_callers_limit_is_not_fetched` |
//! | extraneous dependencies | `delegations::a_role_that_the_snapshot_does_not_list_is_not_asked_for`, `delegations::a_search_ends_after_so_many_roles` |
//! | fast-forward | `rollback::after_a_fast_forward_new_keys_begin_anew`, `another_online_key_raises_the_epoch_and_ends_a_fast_forward` |
//! | indefinite freeze | `expiry::a_new_role_that_has_expired_is_not_taken_save_the_root`, `every_expiry_on_the_way_counts` |
//! | malicious mirrors | `forged_metadata_is_refused_and_changes_nothing`, `top_level::metadata_must_have_the_hashes_that_its_parent_names` |
//! | mix and match | `top_level::a_version_other_than_the_one_asked_for_is_refused`, `an_old_role_under_a_new_name_is_not_the_one_signed_for` |
//! | rollback | `rollback::no_role_goes_back_with_hashes_or_without`, `rollback::no_role_vanishes_from_the_snapshot` |
//! | key compromise | `rotation::a_role_below_the_root_is_signed_by_the_keys_that_the_newest_root_names`, `keys::fewer_signatures_than_the_threshold_are_refused` |
//! | wrong software | `the_role_of_one_app_cannot_speak_for_another` |
//!
//! Slow retrieval is the transport's to refuse: every request of `device::seed_client` has an end.
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
