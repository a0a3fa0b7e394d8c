//! The signed documents in force: what the seed offers takes the place of what is kept only if it is accepted.
//!
//! Not here: the rules; see `protocol::statement`.

use protocol::agent::Input;
use protocol::name::DeviceId;
use protocol::statement::assignment::AcceptedAssignment;
use protocol::statement::desired::{AcceptedDesiredState, OnlineKey};
use protocol::statement::refused::DocumentRefused;
use protocol::time::WallTime;

use crate::device::state::Progress;

/// What the seed offers; nothing at the start of a device.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offer<'a> {
    pub(super) assignment: Option<&'a str>,
    pub(super) states: &'a [String],
}

/// What came of an offer.
pub(super) struct Taken {
    /// The documents in force, if there is an assignment.
    pub(super) state: Option<Input>,
    /// What was refused.
    pub(super) refused: Vec<Input>,
    /// Whether all of the offer was accepted.
    pub(super) complete: bool,
}

/// Takes what is acceptable of an offer into `progress`; what was accepted before and still may be acted on stays in force.
pub(super) fn take(progress: &mut Progress, online: &OnlineKey, device: &DeviceId, offer: Offer<'_>, now: WallTime) -> Taken {
    let mut refusals = Refusals(Vec::new());
    let mut assigned = None;
    if let Some(offered) = offer.assignment {
        match AcceptedAssignment::accept(offered.as_bytes(), online, device, &mut progress.counters, now) {
            Ok(accepted) => {
                progress.assignment = Some(offered.to_owned());
                assigned = Some(accepted);
            }
            Err(refused) => refusals.note("assignment", &refused),
        }
    }
    let complete = refusals.0.is_empty();
    if assigned.is_none()
        && let Some(kept) = &progress.assignment
    {
        match AcceptedAssignment::accept(kept.as_bytes(), online, device, &mut progress.counters, now) {
            Ok(accepted) => assigned = Some(accepted),
            Err(refused) => refusals.note("assignment", &refused),
        }
    }
    let Some(assigned) = assigned else { return Taken { state: None, refused: refusals.0, complete: false } };
    let offered = take_states(progress, online, &assigned, offer.states, now, &mut refusals);
    let complete = complete && offered;
    let states = states_in_force(progress, online, &assigned, now, &mut refusals);
    Taken { state: Some(Input::StateAccepted { assignment: assigned, states }), refused: refusals.0, complete }
}

/// Whether all that was offered was accepted.
fn take_states(
    progress: &mut Progress,
    online: &OnlineKey,
    assigned: &AcceptedAssignment,
    offered: &[String],
    now: WallTime,
    refusals: &mut Refusals,
) -> bool {
    let mut complete = true;
    for envelope in offered {
        match AcceptedDesiredState::accept(envelope.as_bytes(), online, assigned, &mut progress.counters, now) {
            Ok(accepted) => drop(progress.states.insert(accepted.state().group.clone(), envelope.clone())),
            Err(refused) => {
                complete = false;
                refusals.note("desired_state", &refused);
            }
        }
    }
    complete
}

fn states_in_force(
    progress: &mut Progress,
    online: &OnlineKey,
    assigned: &AcceptedAssignment,
    now: WallTime,
    refusals: &mut Refusals,
) -> Vec<AcceptedDesiredState> {
    let groups = assigned.assignment().groups();
    progress.states.retain(|group, _| groups.contains(group));
    let mut accepted = Vec::with_capacity(progress.states.len());
    for envelope in progress.states.values() {
        match AcceptedDesiredState::accept(envelope.as_bytes(), online, assigned, &mut progress.counters, now) {
            Ok(state) => accepted.push(state),
            Err(refused) => refusals.note("desired_state", &refused),
        }
    }
    accepted
}

struct Refusals(Vec<Input>);

impl Refusals {
    fn note(&mut self, document: &'static str, refused: &DocumentRefused) {
        let reason = refused.reason();
        tracing::error!(event = "state_refused", document, reason, error = refused.to_string(), "what the seed says is not acted on");
        self.0.push(Input::DocumentRefused { document, reason });
    }
}
