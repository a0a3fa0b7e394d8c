//! What must hold in every run, whatever goes wrong in it. The checkers keep books of their own, apart from those of the
//! machines, and compare with what the machines do; each says in its header what it verifies and what it does not.
//!
//! | checker | looks after |
//! |---|---|
//! | [`content`] | what is stored, relayed and started |
//! | [`wan`] | what comes over the WAN, and how much is done at a time |
//! | [`claims`] | what becomes of claims |
//! | [`fleet`] | counters, floors and waves |
//!
//! Liveness, that everything is done in the end, is checked by [`super::world`], which knows when the end is.
//!
//! Not here: making things go wrong; see [`super::faults`].

pub(super) mod claims;
pub(super) mod content;
pub(super) mod fleet;
pub(super) mod wan;

use super::plan::Plan;

/// All checkers of a run.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) content: content::ContentChecks,
    pub(super) wan: wan::WanChecks,
    pub(super) claims: claims::ClaimChecks,
    pub(super) fleet: fleet::FleetChecks,
}

impl Checks {
    /// Empty books for a run.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            content: content::ContentChecks,
            wan: wan::WanChecks::new(plan),
            claims: claims::ClaimChecks::new(plan),
            fleet: fleet::FleetChecks::default(),
        }
    }

    /// A device begins a life.
    pub(super) fn started(&mut self, device: usize) {
        self.wan.started(device);
        self.claims.started(device);
    }

    /// A device lost its power, and with it so many units that it had written.
    pub(super) fn crashed(&mut self, device: usize, units: u64) {
        self.wan.crashed(device, units);
    }
}
