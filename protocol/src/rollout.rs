//! Rollouts: a version to a group of devices, step by step, watched.
//!
//! | module | decides |
//! |---|---|
//! | [`machine`] | what may become of a rollout, and what its devices are told |
//! | [`steps`], [`window`] | which devices may start when |
//! | [`judge`] | when a rollout has failed too often, and when it is done |
//! | [`report`], [`signed`] | what devices say, and whether they said it |
//! | [`mod@count`] | how that adds up |
//! | [`documents`] | the desired state that follows another |
//!
//! Not here: what a device does when it may start; see [`crate::agent`].

pub mod count;
pub mod documents;
pub mod judge;
pub mod machine;
pub mod report;
pub mod signed;
pub mod steps;
pub mod window;

pub use count::{Count, Counting, Member, count};
pub use machine::{Plan, Rollout, RolloutRefused, RolloutState};
pub use report::{APPS_MAX, AppReport, DeviceReport, DeviceState, Fetched, REASON_BYTES_MAX, ReportTooLarge, short_reason};
