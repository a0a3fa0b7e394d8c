//! A fleet in one process: the swarm machine of `protocol`, unchanged, in virtual time.
//!
//! | module | holds |
//! |---|---|
//! | [`scenario`] | what a run is asked to do: flags, scenario file, defaults |
//! | [`matrix`] | the cases in which the swarm is measured, and what it must reach in each |
//! | [`correctness`] | the other mode: small fleets in which everything goes wrong |
//! | [`fleet`] | sites shared out over threads, their outcomes put together |
//! | [`rollout`] | a rollout to the fleet: every device's agent, the seed's rules |
//! | [`sweep`] | a grid of runs, with confidence intervals |
//! | [`replay`] | a real node's machine, recorded and driven again |
//! | [`baselines`] | other ways to distribute, at their best |
//! | `seed_egress` | what each site may take of the seed |
//! | `site` | one site: its devices, what happens to them, what they decide |
//! | `network` | how long bytes take: the site's links and how they are shared |
//! | `queue` | what happens next, in one order whatever the threads do |
//! | `site_log` | what devices know of what their peers hold, kept once a site |
//! | `decisions` | the digest of all decisions |
//! | `checker` | what must hold in every run |
//! | [`report`], [`curves`], [`html`] | what is said at the end, in figures and in plots |
//!
//! Modelled: each site's WAN link and each device's LAN capacity up and down, or the air that Wi-Fi stations share, max-min
//! fair by all flows over them; the seed's egress, in equal parts to the sites that fetch; a first-byte latency over the WAN;
//! the latency of control messages, whose bytes are counted; when devices start, find each other, are killed or switched off
//! and on again, and when the others notice; slow devices, devices that send wrong bytes or none, sites without a WAN for a
//! while; then a rollout, wave after wave, also over sites in several time zones whose devices are on the network by day. If the
//! scenario says so: what a device writes and hashes in a second, and the slow start of its connection to the seed.
//!
//! Not modelled: loss and reordering; the share that control messages take of a link; reading from disks; mixed sites of
//! stations and wired devices. One blob a run. Payload bytes do not exist: units are proven by
//! `protocol`'s feature `simulated`.
//!
//! A site is simulated from its start to its end by one thread, and its memory is free again before the next one begins: what
//! a run takes does not grow with the fleet, but for some bytes a device of its report.
//!
//! All arithmetic of a run is in integers, so that its digest does not depend on the order of floating-point sums.

pub mod baselines;
mod checker;
pub mod correctness;
pub mod curves;
mod decisions;
pub mod fleet;
pub mod html;
pub mod matrix;
mod network;
mod node_ids;
mod queue;
pub mod replay;
pub mod report;
pub mod rollout;
pub mod scenario;
mod seed_egress;
mod site;
mod site_log;
pub mod sweep;

/// The end of a run that cannot be trusted or did not end.
pub use checker::Violation;
