//! A fleet in one process: the swarm machine of `protocol`, unchanged, in virtual time.
//!
//! | module | holds |
//! |---|---|
//! | [`scenario`] | what a run is asked to do: flags, scenario file, defaults |
//! | [`matrix`] | the cases in which the swarm is measured, and what it must reach in each |
//! | [`fleet`] | sites shared out over threads, their outcomes put together |
//! | `site` | one site: its devices, what happens to them, what they decide |
//! | `network` | how long bytes take: the site's links and how they are shared |
//! | `queue` | what happens next, in one order whatever the threads do |
//! | `site_log` | what devices know of what their peers hold, kept once a site |
//! | `decisions` | the digest of all decisions |
//! | `checker` | what must hold in every run |
//! | [`report`] | what is said at the end |
//!
//! Modelled: each site's WAN link and each device's LAN capacity up and down, shared max-min fair by all flows over them, those
//! of the WAN too; a first-byte latency over the WAN; the latency of control messages, whose bytes are counted; when devices
//! start, find each other, are killed, and when the others notice; slow devices, devices that send wrong bytes or none, and a
//! WAN that is cut for a while.
//!
//! Not modelled: the seed's own egress (it is unlimited, so that sites do not touch each other and each runs by itself: give
//! the smaller of both as the WAN's); loss, reordering and slow start; the share that control messages take of a link; disks
//! and the time it takes to hash; a device that comes back. One blob a run. Payload bytes do not exist: units are proven by
//! `protocol`'s feature `simulated`.
//!
//! All arithmetic of a run is in integers, so that its digest does not depend on the order of floating-point sums.

mod checker;
mod decisions;
pub mod fleet;
pub mod matrix;
mod network;
mod node_ids;
mod queue;
pub mod report;
pub mod scenario;
mod site;
mod site_log;

/// The end of a run that cannot be trusted or did not end.
pub use checker::Violation;
