//! Which documents of the online key are accepted; and, of any sequence of them, that no counter goes back.

use super::*;
use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeRefused};
use crate::name::DeviceId;
use crate::rendezvous::draw;
use crate::statement::assignment::{self, Assigned, Assignment};
use ed25519_dalek::{Signer, SigningKey};

const NOW: WallTime = WallTime::from_unix_seconds(1_000);

/// The online key of these tests, as a root of this epoch delegates it.
pub(crate) fn online(epoch: u64) -> OnlineKey {
    OnlineKey { org: "acme".parse().unwrap(), epoch, key: SigningKey::from_bytes(&[7; 32]).verifying_key() }
}

fn seal_by(key: u8, payload_type: &str, document: &impl Serialize) -> Vec<u8> {
    let key = SigningKey::from_bytes(&[key; 32]);
    let envelope = Envelope::seal(payload_type, &serde_json::to_vec(document).unwrap(), "online", |bytes| key.sign(bytes));
    serde_json::to_vec(&envelope).unwrap()
}

/// The envelope of a desired state.
pub(crate) fn sealed_state(state: &DesiredState) -> Vec<u8> {
    seal_by(7, PAYLOAD_TYPE, state)
}

/// The envelope of an assignment.
pub(crate) fn sealed_assignment(assignment: &Assignment) -> Vec<u8> {
    seal_by(7, assignment::PAYLOAD_TYPE, assignment)
}

/// An assignment of the device `kiosk`.
pub(crate) fn assignment(n: u64, apps: &[(&str, Assigned)]) -> Assignment {
    Assignment {
        format: assignment::FORMAT,
        org: "acme".parse().unwrap(),
        device: kiosk(),
        counter: Counter { epoch: 1, n },
        expires: NOW.plus_seconds(100),
        otherwise: GroupName::all(),
        apps: apps.iter().map(|(app, assigned)| (app.parse().unwrap(), assigned.clone())).collect(),
    }
}

/// The device of these tests.
pub(crate) fn kiosk() -> DeviceId {
    "kiosk".parse().unwrap()
}

/// The same, accepted.
pub(crate) fn accepted(assignment: &Assignment) -> AcceptedAssignment {
    let online = online(assignment.counter.epoch);
    AcceptedAssignment::accept(&sealed_assignment(assignment), &online, &kiosk(), &mut Counters::default(), NOW).unwrap()
}

fn state(epoch: u64, n: u64) -> DesiredState {
    DesiredState {
        format: FORMAT,
        org: "acme".parse().unwrap(),
        group: GroupName::all(),
        counter: Counter { epoch, n },
        expires: NOW.plus_seconds(1),
        apps: BTreeMap::new(),
    }
}

fn accept(state: &DesiredState, epoch: u64, counters: &mut Counters) -> Result<(), DocumentRefused> {
    let assignment = accepted(&assignment(1, &[]));
    AcceptedDesiredState::accept(&sealed_state(state), &online(epoch), &assignment, counters, NOW).map(drop)
}

#[test]
fn the_same_and_a_newer_document_are_accepted_but_no_older_and_no_other_with_the_same_counter() {
    let mut counters = Counters::default();
    for n in [4, 4, 5] {
        assert_eq!(accept(&state(1, n), 1, &mut counters), Ok(()));
    }
    let refused = DocumentRefused::OlderCounter { found: Counter { epoch: 1, n: 4 }, accepted: Counter { epoch: 1, n: 5 } };
    assert_eq!(accept(&state(1, 4), 1, &mut counters), Err(refused));
    let other = DesiredState { expires: NOW.plus_seconds(2), ..state(1, 5) };
    assert_eq!(accept(&other, 1, &mut counters), Err(DocumentRefused::OtherContent(other.counter)));
    let mut kept = Counters::of_all(Counter { epoch: 1, n: 5 });
    assert_eq!(accept(&other, 1, &mut kept), Ok(()), "an earlier program kept the counter alone");
}

#[test]
fn only_a_new_root_raises_the_epoch_and_then_the_counters_start_anew() {
    let mut counters = Counters::default();
    assert_eq!(accept(&state(1, 900), 1, &mut counters), Ok(()));
    assert_eq!(accept(&state(2, 1), 1, &mut counters), Err(DocumentRefused::OtherEpoch { found: 2, delegated: 1 }));
    assert_eq!(accept(&state(2, 1), 2, &mut counters), Ok(()), "the root delegates epoch 2");
    assert_eq!(accept(&state(1, 901), 2, &mut counters), Err(DocumentRefused::OtherEpoch { found: 1, delegated: 2 }));
    let older = DocumentRefused::OlderCounter { found: Counter { epoch: 1, n: 901 }, accepted: Counter { epoch: 2, n: 1 } };
    assert_eq!(accept(&state(1, 901), 1, &mut counters), Err(older), "a root that went back would not help either");
}

#[test]
fn foreign_expired_and_unassigned_documents_are_refused() {
    let refused = |state: &DesiredState| accept(state, 1, &mut Counters::default()).unwrap_err();
    let foreign = DesiredState { org: "evil".parse().unwrap(), ..state(1, 1) };
    assert_eq!(refused(&foreign), DocumentRefused::ForeignOrg(foreign.org.clone()));
    assert_eq!(refused(&DesiredState { expires: NOW, ..state(1, 1) }), DocumentRefused::Expired(NOW));
    let west = DesiredState { group: "west".parse().unwrap(), ..state(1, 1) };
    assert_eq!(refused(&west), DocumentRefused::OtherGroup(west.group.clone()));
    let newer = DesiredState { format: FORMAT + 1, ..state(1, 1) };
    assert_eq!(refused(&newer), DocumentRefused::OtherFormat { found: FORMAT + 1, known: FORMAT });
    let assigned = accepted(&assignment(1, &[]));
    let stranger = seal_by(8, PAYLOAD_TYPE, &state(1, 1));
    let forged = AcceptedDesiredState::accept(&stranger, &online(1), &assigned, &mut Counters::default(), NOW);
    assert_eq!(forged, Err(DocumentRefused::Envelope(EnvelopeRefused::BadSignature)));
    let confused =
        AcceptedDesiredState::accept(&sealed_assignment(&assignment(1, &[])), &online(1), &assigned, &mut Counters::default(), NOW);
    assert!(matches!(confused, Err(DocumentRefused::Envelope(EnvelopeRefused::OtherType(_)))), "an assignment is no desired state");
}

#[test]
fn an_assignment_is_for_one_device_and_does_not_go_back() {
    let mut counters = Counters::default();
    let mut accept = |assignment: &Assignment, epoch| {
        AcceptedAssignment::accept(&sealed_assignment(assignment), &online(epoch), &kiosk(), &mut counters, NOW).map(drop)
    };
    assert_eq!(accept(&assignment(3, &[]), 1), Ok(()));
    assert!(matches!(accept(&assignment(2, &[]), 1), Err(DocumentRefused::OlderCounter { .. })));
    let other = Assignment { device: "other".parse().unwrap(), ..assignment(9, &[]) };
    assert_eq!(accept(&other, 1), Err(DocumentRefused::OtherDevice(other.device.clone())));
    let next = Assignment { counter: Counter { epoch: 2, n: 1 }, ..assignment(1, &[]) };
    assert_eq!(accept(&next, 2), Ok(()));
}

#[test]
fn a_state_of_before_starts_everywhere_at_once() {
    let old = r#"{"format":1,"org":"acme","group":"all","counter":{"epoch":1,"n":5},"expires":2000,"apps":{"web":{"version":1,"rollout":"r-00","statements":{}}}}"#;
    let state: DesiredState = serde_json::from_str(old).unwrap();
    assert_eq!(accept(&state, 1, &mut Counters::default()), Ok(()));
    assert_eq!(state.apps.values().next().unwrap().activation, Activation::default());
    assert_eq!(serde_json::to_string(&state).unwrap(), old);
}

#[test]
fn a_device_remembers_a_bounded_number_of_groups() {
    let mut counters = Counters::default();
    let mut accept = |group: usize, epoch: u64| {
        let group: GroupName = format!("g{group}").parse().unwrap();
        let seen = counters::Seen { counter: Counter { epoch, n: 1 }, digest: Some(Digest::sha256(b"")) };
        counters.note_desired(&group, seen)
    };
    for group in 0..counters::GROUPS_SEEN_MAX {
        accept(group, 1).unwrap();
    }
    assert_eq!(accept(0, 1), Ok(()), "known ones go on");
    assert!(matches!(accept(counters::GROUPS_SEEN_MAX, 1), Err(DocumentRefused::TooManyGroups(_))));
    assert_eq!(accept(counters::GROUPS_SEEN_MAX, 2), Ok(()), "a new epoch forgets those of the last one");
}

#[test]
fn no_sequence_of_documents_makes_a_counter_go_back() {
    for seed in 0..300 {
        let mut draws = 0;
        let mut pick = |limit: u64| {
            draws += 1;
            draw(seed, draws) % limit
        };
        let (mut counters, mut root) = (Counters::default(), 1);
        let mut newest = BTreeMap::<String, Counter>::new();
        for _ in 0..60 {
            root += u64::from(pick(12) == 0);
            let counter = Counter { epoch: root + pick(3) - pick(2), n: pick(6) };
            let group = format!("g{}", pick(2));
            let assigned = Assigned::Group(group.parse().unwrap());
            let (kind, taken) = if pick(3) == 0 {
                let document = Assignment { counter, ..assignment(0, &[]) };
                let bytes = sealed_assignment(&document);
                ("assignment".to_owned(), AcceptedAssignment::accept(&bytes, &online(root), &kiosk(), &mut counters, NOW).is_ok())
            } else {
                let document = DesiredState { counter, group: group.parse().unwrap(), ..state(1, 1) };
                let assignment = accepted(&assignment(1, &[("web", assigned)]));
                let bytes = sealed_state(&document);
                (group, AcceptedDesiredState::accept(&bytes, &online(root), &assignment, &mut counters, NOW).is_ok())
            };
            let known = newest.get(&kind).copied();
            assert_eq!(taken, counter.epoch == root && known.is_none_or(|known| counter >= known), "seed {seed}");
            if taken {
                newest.insert(kind, counter);
            }
        }
    }
}
