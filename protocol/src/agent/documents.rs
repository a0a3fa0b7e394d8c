//! The signed documents in force: what is offered takes the place of what is kept only if it is accepted, and what was accepted
//! before stays in force as long as it may be acted on.
//!
//! A grant of an app's keys takes the place of what the documents say of the app, from the moment it is applied until the seed is
//! heard again: it is for a device that cannot ask.
//!
//! Not here: when each document is accepted, see [`crate::statement`]; where they are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Input;
use crate::digest::Digest;
use crate::name::{AppName, DeviceId, GroupName};
use crate::statement::assignment::{AcceptedAssignment, Assigned};
use crate::statement::counters::Counters;
use crate::statement::desired::{AcceptedDesiredState, OnlineKey};
use crate::statement::grant::{AcceptedGrant, GrantAuthority, GrantRefused, Holder};
use crate::statement::refused::DocumentRefused;
use crate::time::WallTime;

/// The documents that a device keeps, as signed.
#[derive(Debug)]
pub struct Kept<'a> {
    /// The newest that were accepted.
    pub counters: &'a mut Counters,
    /// The assignment in force.
    pub assignment: &'a mut Option<String>,
    /// The desired states in force.
    pub states: &'a mut BTreeMap<GroupName, String>,
    /// What is known of grants.
    pub grants: &'a mut BTreeMap<AppName, KeptGrant>,
}

/// What is known of the grants of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptGrant {
    /// The counter of the newest that was accepted.
    pub counter: u64,
    /// That grant as signed, until the seed is heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<String>,
}

/// What the seed or a neighbour offers; nothing at the start of a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offer<'a> {
    /// An assignment.
    pub assignment: Option<&'a str>,
    /// Desired states.
    pub states: &'a [String],
}

/// Who accepts documents, and whose signature counts.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The online key as the newest root delegates it.
    pub online: &'a OnlineKey,
    /// The device.
    pub device: &'a DeviceId,
    /// How late it is at least.
    pub now: WallTime,
}

/// A document that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedDocument {
    /// Its kind, one word.
    pub document: &'static str,
    /// Why.
    pub refused: DocumentRefused,
}

/// What came of an offer.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The documents in force, for the machine; none without an assignment.
    pub state: Option<Input>,
    /// What was refused.
    pub refused: Vec<RefusedDocument>,
    /// Whether all of the offer was accepted, and there is an assignment.
    pub complete: bool,
}

/// A grant in force, and the statement of its version that the app's role lists for this device.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The grant.
    pub grant: AcceptedGrant,
    /// SHA-256 of the statement.
    pub statement: Digest,
}

impl Kept<'_> {
    /// Takes what is acceptable of an offer.
    pub fn take(&mut self, reader: Reader<'_>, offer: Offer<'_>) -> Taken {
        let Reader { online, device, now } = reader;
        let mut refused = Vec::new();
        let mut assigned = None;
        if let Some(offered) = offer.assignment {
            match AcceptedAssignment::accept(offered.as_bytes(), online, device, self.counters, now) {
                Ok(accepted) => {
                    *self.assignment = Some(offered.to_owned());
                    assigned = Some(accepted);
                }
                Err(error) => refused.push(RefusedDocument { document: "assignment", refused: error }),
            }
        }
        let complete = refused.is_empty();
        if assigned.is_none()
            && let Some(kept) = &self.assignment
        {
            match AcceptedAssignment::accept(kept.as_bytes(), online, device, self.counters, now) {
                Ok(accepted) => assigned = Some(accepted),
                Err(error) => refused.push(RefusedDocument { document: "assignment", refused: error }),
            }
        }
        let Some(assignment) = assigned else { return Taken { state: None, refused, complete: false } };
        let before = refused.len();
        self.take_states(reader, &assignment, offer.states, &mut refused);
        let complete = complete && refused.len() == before;
        let states = self.states_in_force(reader, &assignment, &mut refused);
        Taken { state: Some(Input::StateAccepted { assignment, states }), refused, complete }
    }

    fn take_states(&mut self, reader: Reader<'_>, assigned: &AcceptedAssignment, offered: &[String], refused: &mut Vec<RefusedDocument>) {
        for envelope in offered {
            match AcceptedDesiredState::accept(envelope.as_bytes(), reader.online, assigned, self.counters, reader.now) {
                Ok(accepted) => drop(self.states.insert(accepted.state().group.clone(), envelope.clone())),
                Err(error) => refused.push(RefusedDocument { document: "desired_state", refused: error }),
            }
        }
    }

    fn states_in_force(
        &mut self,
        reader: Reader<'_>,
        assigned: &AcceptedAssignment,
        refused: &mut Vec<RefusedDocument>,
    ) -> Vec<AcceptedDesiredState> {
        let groups = assigned.assignment().groups();
        self.states.retain(|group, _| groups.contains(group));
        let mut accepted = Vec::with_capacity(self.states.len());
        for envelope in self.states.values() {
            match AcceptedDesiredState::accept(envelope.as_bytes(), reader.online, assigned, self.counters, reader.now) {
                Ok(state) => accepted.push(state),
                Err(error) => refused.push(RefusedDocument { document: "desired_state", refused: error }),
            }
        }
        accepted
    }

    /// Checks a grant of `authority`'s app. It is in force once [`Self::keep_grant`] was called: what it grants must be here first.
    ///
    /// # Errors
    /// With the reason why it must not be acted on.
    pub fn accept_grant(&self, reader: Reader<'_>, authority: &GrantAuthority, envelope: &str) -> Result<AcceptedGrant, GrantRefused> {
        let newest = self.grants.get(&authority.app).map(|kept| kept.counter);
        let group = self.group_known(reader, &authority.app);
        let holder = Holder { device: reader.device, group: group.as_ref() };
        AcceptedGrant::accept(envelope.as_bytes(), authority, holder, newest, reader.now)
    }

    /// Puts a grant in force.
    pub fn keep_grant(&mut self, accepted: &AcceptedGrant, envelope: String) {
        let grant = accepted.grant();
        self.grants.insert(grant.app.clone(), KeptGrant { counter: grant.counter, envelope: Some(envelope) });
    }

    /// The seed was heard, and all that it said accepted: no grant counts any more. Whether one did.
    pub fn end_grants(&mut self) -> bool {
        self.grants.values_mut().filter_map(|kept| kept.envelope.take()).count() > 0
    }

    /// The group that the device takes the app from by its last assignment, expired or not; the group of all devices if it never had
    /// one, and none if its version is pinned.
    fn group_known(&self, reader: Reader<'_>, app: &AppName) -> Option<GroupName> {
        let Some(kept) = &self.assignment else { return Some(GroupName::all()) };
        let before_every_expiry = WallTime::default();
        let mut counters = self.counters.clone();
        let accepted =
            AcceptedAssignment::accept(kept.as_bytes(), reader.online, reader.device, &mut counters, before_every_expiry).ok()?;
        match accepted.assignment().apps.get(app) {
            Some(Assigned::Group(group)) => Some(group.clone()),
            Some(Assigned::Pin(_)) => None,
            None => Some(accepted.assignment().otherwise.clone()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
