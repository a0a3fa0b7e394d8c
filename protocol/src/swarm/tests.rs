//! Dialogues with the machine, and a small site of machines that move units over an instant LAN.

mod claims;
mod doubt;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::peer_view::OwnView;
use super::tree::Place;
use super::*;
use crate::geometry::{SPAN_BYTES, UNIT_BYTES};
use crate::hash_list::HashListBuilder;
use crate::name::NodeId;
use crate::verify::{BlobHasher, UnitVerifier};
use crate::wire::PieceRange;
use bytes::Bytes;

const SECOND: Duration = Duration::from_secs(1);
/// When the hold-off is over.
const START: Instant = Instant::from_micros(10_000_000);

fn node(n: u8) -> NodeId {
    NodeId(Digest::sha256(&[n]).as_bytes().try_into().unwrap())
}

fn machine(n: u8) -> Swarm<OwnView> {
    Swarm::new(Instant::ZERO, node(n), u64::from(n), Parameters::default(), OwnView::default())
}

fn content(spans: u64) -> (Bytes, UnitVerifier) {
    let bytes: Vec<u8> = (0..spans * SPAN_BYTES).map(|n| (n / 97 % 251) as u8).collect();
    let mut builder = HashListBuilder::new();
    builder.update(&bytes);
    let list = builder.finish(Digest::sha256(&bytes)).unwrap();
    (bytes.into(), UnitVerifier::Listed(list))
}

fn want(verifier: &UnitVerifier) -> Input {
    let geometry = verifier.geometry();
    Input::Wanted { blob: verifier.blob(), geometry, held: Bits::new(geometry.units()) }
}

/// A node that at [`START`] is joined by node 2, wants the blob, and hears these messages.
fn beside_a_peer(verifier: &UnitVerifier, messages: impl IntoIterator<Item = Message>) -> Swarm<OwnView> {
    let mut device = machine(1);
    device.handle_input(START, Input::PeerJoined { peer: node(2) });
    device.handle_input(START, want(verifier));
    for message in messages {
        device.handle_input(START, Input::Received { peer: node(2), message });
    }
    device
}

/// The sender holds the first `count` pieces and wants no others.
fn holding(blob: Digest, count: u32) -> Message {
    Message::Holding { blob, wanted: false, pieces: vec![PieceRange { start: 0, end: count }] }
}

/// What the machine wants done; a message to several peers as one to each.
fn effects(machine: &mut Swarm<OwnView>) -> Vec<Effect> {
    let each = |effect: Effect| match effect {
        Effect::SendAll { peers, message } => {
            peers.into_iter().map(|peer| Effect::Send { peer, message: message.clone() }).collect::<Vec<_>>()
        }
        other => vec![other],
    };
    std::iter::from_fn(|| machine.poll_effect()).flat_map(each).collect()
}

fn fetches(effects: &[Effect]) -> Vec<(FetchId, Source, Range<u32>)> {
    let fetch = |effect: &Effect| match effect {
        Effect::Fetch { fetch, source, units, .. } => Some((*fetch, *source, units.clone())),
        _ => None,
    };
    effects.iter().filter_map(fetch).collect()
}

fn unit(bytes: &Bytes, verifier: &UnitVerifier, unit: u32) -> UnitProof {
    let range = verifier.geometry().bytes_of(unit..unit + 1);
    verifier.verify(unit, bytes.slice(range.start as usize..range.end as usize)).unwrap().proof()
}

/// Passes time until the machine fetches something.
fn next_fetches(machine: &mut Swarm<OwnView>, now: &mut Instant) -> Vec<(FetchId, Source, Range<u32>)> {
    for _ in 0..1000 {
        let found = fetches(&effects(machine));
        if !found.is_empty() {
            return found;
        }
        *now = machine.poll_timeout().unwrap().max(*now);
        machine.handle_timeout(*now);
    }
    panic!("nothing was fetched");
}

#[test]
fn alone_on_its_site_it_waits_for_the_hold_off_and_then_fetches_from_the_front() {
    let (_, verifier) = content(4);
    let mut alone = machine(1);
    alone.handle_input(Instant::ZERO, want(&verifier));
    assert_eq!(effects(&mut alone), []);
    let mut now = Instant::ZERO;
    let found = next_fetches(&mut alone, &mut now);
    assert!(now >= Instant::ZERO + Parameters::default().hold_off);
    assert_eq!(
        found.iter().map(|(_, source, units)| (*source, units.clone())).collect::<Vec<_>>(),
        [(Source::Wan, 0..8), (Source::Wan, 8..16)]
    );
}

#[test]
fn what_a_peer_holds_is_pulled_from_it_and_not_over_the_wan() {
    let (_, verifier) = content(1);
    let mut device = machine(1);
    let now = START;
    device.handle_input(now, Input::PeerJoined { peer: node(2) });
    device.handle_input(now, want(&verifier));
    let blob = verifier.blob();
    assert_eq!(effects(&mut device), [Effect::Send { peer: node(2), message: Message::Interest { blob } }]);
    device.handle_input(now, Input::Received { peer: node(2), message: holding(blob, 8) });
    let found = fetches(&effects(&mut device));
    assert!(!found.is_empty() && found.iter().all(|(_, source, _)| *source == Source::Peer(node(2))));
    let mut units: Vec<u32> = found.into_iter().flat_map(|(_, _, units)| units).collect();
    units.sort_unstable();
    assert_eq!(units, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_wrong_unit_names_its_sender_and_bans_it() {
    let (_, verifier) = content(1);
    let (blob, now) = (verifier.blob(), START);
    let mut device = machine(1);
    for peer in [node(2), node(3)] {
        device.handle_input(now, Input::PeerJoined { peer });
    }
    device.handle_input(now, want(&verifier));
    device.handle_input(now, Input::Received { peer: node(2), message: holding(blob, 8) });
    let (fetch, _, units) = fetches(&effects(&mut device)).remove(0);
    device.handle_input(now, Input::FetchEnded { fetch, end: FetchEnd::Refused { unit: units.start } });
    assert_eq!(device.poll_event(), Some(Event::UnitRefused { source: Source::Peer(node(2)), blob, unit: units.start }));
    assert!(matches!(device.poll_event(), Some(Event::PeerBanned { peer, .. }) if peer == node(2)));
    let told = effects(&mut device);
    assert!(told.contains(&Effect::Send { peer: node(2), message: Message::Refused { blob, unit: units.start } }));
    assert!(!told.contains(&Effect::Disconnect { peer: node(2) }), "its disk may be at fault, and it needs good bytes itself");
    device.handle_input(now, Input::Received { peer: node(2), message: holding(blob, 8) });
    assert_eq!(fetches(&effects(&mut device)), [], "what it says it holds does not count");
    device.handle_input(now, Input::PeerLeft { peer: node(2) });
    device.handle_input(now + SECOND, Input::PeerJoined { peer: node(2) });
    let sent = effects(&mut device);
    assert!(sent.contains(&Effect::Disconnect { peer: node(2) }) && !sent.iter().any(|effect| matches!(effect, Effect::Send { .. })));
    device.handle_input(now + 3601 * SECOND, Input::PeerJoined { peer: node(2) });
    assert!(effects(&mut device).contains(&Effect::Send { peer: node(2), message: Message::Interest { blob } }));
}

#[test]
fn a_peer_that_mended_its_disk_is_trusted_again_once_and_disconnected_the_next_time() {
    let (_, verifier) = content(1);
    let (blob, now) = (verifier.blob(), START);
    let mut device = beside_a_peer(&verifier, [holding(blob, 8)]);
    let refuse = |device: &mut Swarm<OwnView>| {
        let (fetch, _, units) = fetches(&effects(device)).remove(0);
        device.handle_input(now, Input::FetchEnded { fetch, end: FetchEnd::Refused { unit: units.start } });
        effects(device).contains(&Effect::Disconnect { peer: node(2) })
    };
    assert!(!refuse(&mut device));
    device.handle_input(now, Input::Received { peer: node(2), message: Message::Mended { blob } });
    assert_eq!(device.banned_until(now, node(2)), None);
    assert_eq!(fetches(&effects(&mut device)), [], "what it threw away it does not hold");
    device.handle_input(now, Input::Received { peer: node(2), message: holding(blob, 8) });
    assert!(refuse(&mut device));
    assert_eq!(device.banned_until(now, node(2)), Some(now + 7200 * SECOND));
}

#[test]
fn a_node_told_of_a_wrong_unit_hashes_its_blob_again_now_and_then_and_owns_up_to_rot() {
    let (bytes, verifier) = content(1);
    let (blob, now) = (verifier.blob(), START);
    let mut hasher = BlobHasher::of(&blob);
    hasher.update(&bytes);
    let mut device = machine(1);
    device.handle_input(now, Input::Held { blob: hasher.finish(blob).unwrap(), geometry: verifier.geometry() });
    device.handle_input(now, Input::PeerJoined { peer: node(2) });
    let mut accused = |at, blob| {
        device.handle_input(at, Input::Received { peer: node(2), message: Message::Refused { blob, unit: 0 } });
        effects(&mut device)
    };
    assert_eq!(accused(now, Digest::sha256(b"unknown")), []);
    assert_eq!(accused(now, blob), [Effect::Recheck { blob }]);
    assert_eq!(accused(now + SECOND, blob), [], "hashing costs more than a message");
    assert_eq!(accused(now + 601 * SECOND, blob), [Effect::Recheck { blob }]);
    device.handle_input(now, Input::Rotten { blob });
    assert_eq!(effects(&mut device), [Effect::Send { peer: node(2), message: Message::Mended { blob } }]);
    assert_eq!(device.poll_event(), Some(Event::StorageFault { blob }));
}

/// A node that at [`START`] is joined by nodes 2 to 6, all of whom want the blob; node 2 has claimed its first span.
fn among_peers(verifier: &UnitVerifier) -> (Swarm<OwnView>, Place<NodeId>) {
    let blob = verifier.blob();
    let mut device = machine(1);
    for peer in (2..=6).map(node) {
        device.handle_input(START, Input::PeerJoined { peer });
    }
    device.handle_input(START, want(verifier));
    for peer in (2..=6).map(node) {
        let wants = Message::Holding { blob, wanted: true, pieces: vec![] };
        device.handle_input(START, Input::Received { peer, message: wants });
    }
    device.handle_input(START, Input::Received { peer: node(2), message: Message::Claim { blob, span: 0 } });
    effects(&mut device);
    let mut members: Vec<NodeId> = (1..=6).map(node).collect();
    members.sort_unstable();
    (device, Place::of(&members, &node(1), &node(2), 0))
}

fn have(blob: Digest, start: u32, end: u32) -> Message {
    Message::Have { blob, pieces: vec![PieceRange { start, end }] }
}

#[test]
fn a_new_piece_is_pulled_from_the_parent_and_after_a_while_from_anyone() {
    let (_, verifier) = content(1);
    let blob = verifier.blob();
    let (mut device, place) = among_peers(&verifier);
    let parent = place.parent.unwrap();
    let other = (2..=6).map(node).find(|peer| *peer != parent).unwrap();
    device.handle_input(START, Input::Received { peer: other, message: have(blob, 0, 2) });
    assert_eq!(fetches(&effects(&mut device)), [], "everyone would ask the first holder");
    device.handle_input(START, Input::Received { peer: parent, message: have(blob, 0, 1) });
    let found = fetches(&effects(&mut device));
    assert_eq!(found.iter().map(|(_, source, units)| (*source, units.clone())).collect::<Vec<_>>(), [(Source::Peer(parent), 0..1)]);
    device.handle_timeout(START + Parameters::default().repair_wait);
    let found = fetches(&effects(&mut device));
    assert_eq!(found.iter().map(|(_, source, units)| (*source, units.clone())).collect::<Vec<_>>(), [(Source::Peer(other), 1..2)]);
}

#[test]
fn children_hear_of_a_piece_at_once_and_the_others_a_little_later() {
    let (bytes, verifier) = content(1);
    let blob = verifier.blob();
    let (mut device, place) = among_peers(&verifier);
    let parent = place.parent.unwrap();
    device.handle_input(START, Input::Received { peer: parent, message: have(blob, 0, 1) });
    let (fetch, _, _) = fetches(&effects(&mut device)).remove(0);
    device.handle_input(START, Input::UnitStored { fetch, proof: unit(&bytes, &verifier, 0) });
    let told = |device: &mut Swarm<OwnView>| -> BTreeSet<NodeId> {
        let to = |effect: Effect| match effect {
            Effect::Send { peer, message: Message::Have { .. } } => Some(peer),
            _ => None,
        };
        effects(device).into_iter().filter_map(to).collect()
    };
    assert_eq!(told(&mut device), place.children.into_iter().flatten().collect());
    device.handle_timeout(START + 5 * Parameters::default().have_delay_per_peer);
    assert_eq!(told(&mut device), (2..=6).map(node).collect());
}

#[test]
fn a_node_that_lacks_much_of_what_its_site_holds_leaves_the_wan_to_others() {
    let (_, verifier) = content(24);
    let (blob, pieces) = (verifier.blob(), verifier.geometry().pieces());
    let limit = u32::try_from(Parameters::default().backlog_max / UNIT_BYTES).unwrap();
    for (held, claims) in [(limit, true), (limit + 1, false)] {
        assert!(held < pieces);
        let wants = Message::Holding { blob, wanted: true, pieces: vec![PieceRange { start: 0, end: held }] };
        let mut device = beside_a_peer(&verifier, [wants]);
        let start = START + Duration::from_millis(200);
        device.handle_timeout(start);
        let claimed = effects(&mut device).iter().any(|effect| matches!(effect, Effect::Send { message: Message::Claim { .. }, .. }));
        assert_eq!(claimed, claims, "{held}");
    }
}

#[test]
fn of_two_nodes_that_fetch_a_span_unknown_to_each_other_the_first_in_line_goes_on() {
    let (_, verifier) = content(1);
    let blob = verifier.blob();
    let ahead = |one: u8, other: u8| rendezvous::rank(&blob, 0, &node(one), [node(other)].iter()) == 0;
    for (yields, peer) in [(true, (2..9).find(|n| ahead(*n, 1)).unwrap()), (false, (2..9).find(|n| ahead(1, *n)).unwrap())] {
        let mut device = machine(1);
        let mut now = START;
        device.handle_input(now, want(&verifier));
        let (fetch, _, _) = next_fetches(&mut device, &mut now).remove(0);
        device.handle_input(now, Input::PeerJoined { peer: node(peer) });
        device.handle_input(now, Input::Received { peer: node(peer), message: Message::Claim { blob, span: 0 } });
        assert_eq!(effects(&mut device).contains(&Effect::Cancel { fetch }), yields);
    }
}

#[test]
fn a_claim_without_progress_is_left_alone_for_long_when_nothing_else_progresses_either() {
    let (_, verifier) = content(1);
    let (blob, mut now) = (verifier.blob(), START);
    let mut device = beside_a_peer(&verifier, [Message::Claim { blob, span: 0 }, Message::Holding { blob, wanted: true, pieces: vec![] }]);
    let claimed = now;
    effects(&mut device);
    let found = next_fetches(&mut device, &mut now);
    assert_eq!(found.iter().map(|(_, source, _)| *source).collect::<Vec<_>>(), [Source::Wan]);
    let parameters = Parameters::default();
    assert!(now >= claimed + parameters.claim_lapse, "only the long limit may end the claim");
}

/// When a claim of node 2 that brings nothing is taken over, while one of node 3 progresses; node 2 says each tick that it has it still
/// if `is_told`.
fn taken_over_after(is_told: bool) -> Duration {
    let (_, verifier) = content(2);
    let blob = verifier.blob();
    let wants = Message::Holding { blob, wanted: true, pieces: vec![] };
    let mut device = beside_a_peer(&verifier, [Message::Claim { blob, span: 0 }]);
    device.handle_input(START, Input::PeerJoined { peer: node(3) });
    device.handle_input(START, Input::Received { peer: node(3), message: Message::Claim { blob, span: 1 } });
    for peer in [node(2), node(3)] {
        device.handle_input(START, Input::Received { peer, message: wants.clone() });
    }
    let (parameters, mut now) = (Parameters::default(), START);
    loop {
        now = now + parameters.tick;
        assert!(now < START + parameters.claim_lapse, "the claim was not taken over");
        if is_told {
            let claims = vec![crate::wire::ClaimProgress { blob, span: 0, bytes: 0 }];
            device.handle_input(now, Input::Received { peer: node(2), message: Message::Progress { claims } });
        }
        let bytes = now.since(START).as_micros() as u64 / 100;
        let claims = vec![crate::wire::ClaimProgress { blob, span: 1, bytes }];
        device.handle_input(now, Input::Received { peer: node(3), message: Message::Progress { claims } });
        device.handle_timeout(now);
        if let Some((_, _, units)) = fetches(&effects(&mut device)).first() {
            assert_eq!(*units, 0..8);
            return now.since(START);
        }
    }
}

#[test]
fn a_claim_that_stalls_while_another_progresses_is_taken_over_soon_if_its_owner_is_silent_and_later_if_it_is_not() {
    let parameters = Parameters::default();
    let line = 4 * parameters.rank_step + 2 * parameters.tick;
    for (is_told, stall) in [(false, parameters.claim_stall), (true, parameters.claim_stall_told)] {
        let after = taken_over_after(is_told);
        assert!((stall..stall + line).contains(&after), "{is_told}: {after:?}");
    }
}

#[test]
fn a_node_that_lost_a_claim_owns_spans_again_once_it_brings_something() {
    let (_, verifier) = content(3);
    let (blob, mut now) = (verifier.blob(), START);
    let mut device = beside_a_peer(&verifier, [Message::Claim { blob, span: 0 }, Message::Holding { blob, wanted: true, pieces: vec![] }]);
    effects(&mut device);
    while device.peers.of(&node(2)).demoted_until <= now {
        now = now + Parameters::default().tick;
        device.handle_timeout(now);
    }
    let pieces = vec![PieceRange { start: 16, end: 17 }];
    device.handle_input(now, Input::Received { peer: node(2), message: Message::Have { blob, pieces } });
    assert!(device.peers.of(&node(2)).demoted_until <= now);
}

#[test]
fn a_claim_of_a_peer_that_left_is_taken_over() {
    let (_, verifier) = content(1);
    let (blob, mut now) = (verifier.blob(), START);
    let mut device = beside_a_peer(&verifier, [Message::Claim { blob, span: 0 }, Message::Holding { blob, wanted: true, pieces: vec![] }]);
    device.handle_input(now, Input::PeerLeft { peer: node(2) });
    let left = now;
    next_fetches(&mut device, &mut now);
    assert!(now.since(left) <= Duration::from_millis(500));
}

#[test]
fn progress_within_a_unit_keeps_a_slow_claim() {
    let (bytes, verifier) = content(1);
    let (blob, mut now) = (verifier.blob(), START);
    let mut device = beside_a_peer(&verifier, [Message::Holding { blob, wanted: true, pieces: vec![] }]);
    let (fetch, _, _) = next_fetches(&mut device, &mut now).remove(0);
    device.handle_input(now, Input::UnitStored { fetch, proof: unit(&bytes, &verifier, 0) });
    let told = |device: &mut Swarm<OwnView>| {
        effects(device).into_iter().rev().find_map(|effect| match effect {
            Effect::Send { message: Message::Progress { claims }, .. } => Some(claims[0].bytes),
            _ => None,
        })
    };
    device.handle_input(now, Input::Progressed { fetch, bytes: UNIT_BYTES + 1000 });
    now = now + Parameters::default().tick;
    device.handle_timeout(now);
    assert_eq!(told(&mut device), Some(UNIT_BYTES + 1000));
}

#[test]
fn waiting_in_the_queue_of_a_peer_that_delivers_does_not_count_against_it_and_what_it_holds_still_needs_no_wan() {
    let (bytes, verifier) = content(4);
    let mut device = beside_a_peer(&verifier, [holding(verifier.blob(), 32)]);
    let (fetch, _, units) = fetches(&effects(&mut device)).remove(0);
    for index in units {
        device.handle_input(START, Input::UnitStored { fetch, proof: unit(&bytes, &verifier, index) });
    }
    device.handle_input(START, Input::FetchEnded { fetch, end: FetchEnd::Complete });
    effects(&mut device);
    let mut now = START;
    while now < START + Parameters::default().queue_wait - Duration::from_millis(500) {
        now = device.poll_timeout().unwrap();
        device.handle_timeout(now);
        assert_eq!(effects(&mut device), []);
    }
}

#[test]
fn a_peer_that_delivers_nothing_at_all_is_not_waited_for() {
    let (_, verifier) = content(4);
    let mut device = beside_a_peer(&verifier, [holding(verifier.blob(), 32)]);
    effects(&mut device);
    let mut now = START;
    let found = next_fetches(&mut device, &mut now);
    let parameters = Parameters::default();
    assert!(found.iter().all(|(_, source, _)| *source == Source::Wan));
    assert!((parameters.first_byte_wait..=parameters.first_byte_wait + 2 * parameters.tick).contains(&now.since(START)));
}

#[test]
fn a_peer_that_never_delivers_is_left_and_the_wan_is_used() {
    let (_, verifier) = content(1);
    let (blob, mut now) = (verifier.blob(), START);
    let mut device = beside_a_peer(&verifier, [holding(blob, 8)]);
    for _ in 0..20 {
        for (fetch, source, _) in next_fetches(&mut device, &mut now) {
            if source == Source::Wan {
                let have = Message::Have { blob, pieces: vec![PieceRange { start: 0, end: 8 }] };
                device.handle_input(now, Input::Received { peer: node(2), message: have });
                assert!(!effects(&mut device).contains(&Effect::Cancel { fetch }), "its word no longer counts");
                return;
            }
            device.handle_input(now, Input::FetchEnded { fetch, end: FetchEnd::NotHeld });
        }
    }
    panic!("the WAN was never used");
}

#[test]
fn a_peer_that_claims_everything_and_only_says_that_it_progresses_does_not_stop_the_wan() {
    let (_, verifier) = content(16);
    let (blob, start) = (verifier.blob(), START);
    let mut device = machine(1);
    device.handle_input(start, Input::PeerJoined { peer: node(2) });
    device.handle_input(start, want(&verifier));
    for span in 0..16 {
        device.handle_input(start, Input::Received { peer: node(2), message: Message::Claim { blob, span } });
    }
    device.handle_input(start, Input::Received { peer: node(2), message: Message::Holding { blob, wanted: true, pieces: vec![] } });
    let mut now = start;
    while now < start + 60 * SECOND {
        now = now + Parameters::default().tick;
        let bytes = (now.as_micros() - start.as_micros()) * 1000;
        let claims = (0..16).map(|span| crate::wire::ClaimProgress { blob, span, bytes }).collect();
        device.handle_input(now, Input::Received { peer: node(2), message: Message::Progress { claims } });
        device.handle_timeout(now);
        if fetches(&effects(&mut device)).iter().any(|(_, source, _)| *source == Source::Wan) {
            return;
        }
    }
    panic!("the WAN was never used");
}

#[test]
fn a_full_disk_blames_nobody_and_the_blob_is_tried_again_later() {
    let (_, verifier) = content(1);
    let (blob, mut now) = (verifier.blob(), START);
    let mut device = beside_a_peer(&verifier, [holding(blob, 8)]);
    for _ in 0..5 {
        let failed = now;
        for (fetch, source, _) in next_fetches(&mut device, &mut now) {
            assert_eq!(source, Source::Peer(node(2)));
            device.handle_input(now, Input::FetchEnded { fetch, end: FetchEnd::StorageFailed });
        }
        assert!(failed == START || now >= failed + Parameters::default().storage_retry);
    }
}

#[test]
fn only_whole_requests_of_connected_peers_are_served() {
    let (bytes, verifier) = content(1);
    let mut device = machine(1);
    let mut hasher = BlobHasher::of(&verifier.blob());
    hasher.update(&bytes);
    let blob = hasher.finish(verifier.blob()).unwrap();
    device.handle_input(Instant::ZERO, Input::Held { blob, geometry: verifier.geometry() });
    device.handle_input(Instant::ZERO, Input::PeerJoined { peer: node(2) });
    let mut ask = |ask, peer, units| {
        device.handle_input(Instant::ZERO, Input::Asked { peer, ask: AskId(ask), blob: blob.blob(), units });
        effects(&mut device)
    };
    assert_eq!(ask(1, node(2), 0..8), [Effect::Serve { ask: AskId(1) }]);
    assert_eq!(ask(2, node(2), 0..9), [Effect::RefuseNotHeld { ask: AskId(2) }]);
    assert_eq!(ask(3, node(3), 0..1), [Effect::RefuseNotHeld { ask: AskId(3) }]);
}

#[test]
fn a_lying_hash_list_sends_it_to_the_seed_alone() {
    let (bytes, verifier) = content(1);
    let mut device = machine(1);
    let mut now = START;
    device.handle_input(now, want(&verifier));
    for (fetch, _, units) in next_fetches(&mut device, &mut now) {
        for index in units {
            device.handle_input(now, Input::UnitStored { fetch, proof: unit(&bytes, &verifier, index) });
        }
        device.handle_input(now, Input::FetchEnded { fetch, end: FetchEnd::Complete });
    }
    let blob = verifier.blob();
    assert!(effects(&mut device).contains(&Effect::VerifyBlob { blob }));
    device.handle_input(now, Input::BlobMismatched { blob });
    assert_eq!(device.poll_event(), Some(Event::HashListLied { blob }));
    let found = effects(&mut device);
    assert!(found.contains(&Effect::DiscardUnits { blob, geometry: Geometry::unlisted(SPAN_BYTES) }));
    assert_eq!(fetches(&found).iter().map(|(_, source, units)| (*source, units.clone())).collect::<Vec<_>>(), [(Source::Wan, 0..1)]);
}

#[test]
fn a_site_fetches_one_copy_and_every_node_completes() {
    let mut site = Site::new(6, 12);
    site.run(200 * SECOND);
    site.assert_complete(0..6);
    assert_eq!(site.wan_units, site.verifier.geometry().units());
}

#[test]
fn the_survivors_of_a_dead_node_complete_with_little_fetched_twice() {
    let mut site = Site::new(6, 12);
    site.run(3 * SECOND);
    assert!(site.wan_units > 0);
    site.kill(2);
    site.run(200 * SECOND);
    site.assert_complete((0..6).filter(|n| *n != 2));
    let limit = site.verifier.geometry().units() + 2 * (SPAN_BYTES / UNIT_BYTES) as u32;
    assert!(site.wan_units <= limit, "{} of {limit}", site.wan_units);
}

#[test]
fn without_the_seed_the_site_shares_what_it_holds_and_goes_on_when_the_seed_returns() {
    let mut site = Site::new(4, 12);
    site.run(3 * SECOND);
    site.seed_up = false;
    site.run(10 * SECOND);
    let held: Vec<u32> =
        site.machines.values().map(|machine| machine.wanted().next().map_or(0, |(_, _, bytes)| (bytes / UNIT_BYTES) as u32)).collect();
    assert!(held.iter().all(|units| *units == held[0]) && held[0] > 0, "{held:?}");
    assert_eq!(site.wan_units, held[0]);
    site.seed_up = true;
    site.run(200 * SECOND);
    site.assert_complete(0..4);
    assert_eq!(site.wan_units, site.verifier.geometry().units());
}

/// Machines on one instant LAN; the WAN brings one unit each 20 ms, to the fetches in turn.
struct Site {
    now: Instant,
    bytes: Bytes,
    verifier: UnitVerifier,
    machines: BTreeMap<u8, Swarm<OwnView>>,
    wan: VecDeque<(u8, FetchId, Range<u32>)>,
    seed_up: bool,
    wan_units: u32,
}

impl Site {
    fn new(nodes: u8, spans: u64) -> Self {
        let (bytes, verifier) = content(spans);
        let mut site =
            Self { now: Instant::ZERO, bytes, verifier, machines: BTreeMap::new(), wan: VecDeque::new(), seed_up: true, wan_units: 0 };
        for n in 0..nodes {
            let mut newcomer = machine(n);
            for (other, machine) in &mut site.machines {
                machine.handle_input(site.now, Input::PeerJoined { peer: node(n) });
                newcomer.handle_input(site.now, Input::PeerJoined { peer: node(*other) });
            }
            site.machines.insert(n, newcomer);
        }
        for n in 0..nodes {
            site.input(n, want(&site.verifier.clone()));
        }
        site
    }

    fn kill(&mut self, dead: u8) {
        self.machines.remove(&dead);
        self.wan.retain(|(n, _, _)| *n != dead);
        for n in self.machines.keys().copied().collect::<Vec<_>>() {
            self.input(n, Input::PeerLeft { peer: node(dead) });
        }
    }

    fn input(&mut self, n: u8, input: Input) {
        let mut queue = VecDeque::from([(n, input)]);
        while let Some((n, input)) = queue.pop_front() {
            let Some(machine) = self.machines.get_mut(&n) else { continue };
            machine.handle_input(self.now, input);
            self.carry_out(n, &mut queue);
        }
    }

    fn carry_out(&mut self, n: u8, queue: &mut VecDeque<(u8, Input)>) {
        let number = |peer: NodeId| (0..=255).find(|n| node(*n) == peer).unwrap();
        for effect in effects(self.machines.get_mut(&n).unwrap()) {
            match effect {
                Effect::Send { peer, message } => queue.push_back((number(peer), Input::Received { peer: node(n), message })),
                Effect::Fetch { fetch, source: Source::Wan, units, .. } => self.wan.push_back((n, fetch, units)),
                Effect::Fetch { fetch, source: Source::Peer(_), units, .. } => {
                    for index in units {
                        queue.push_back((n, Input::UnitStored { fetch, proof: unit(&self.bytes, &self.verifier, index) }));
                    }
                    queue.push_back((n, Input::FetchEnded { fetch, end: FetchEnd::Complete }));
                }
                Effect::Cancel { fetch } => self.wan.retain(|(owner, id, _)| (*owner, *id) != (n, fetch)),
                Effect::VerifyBlob { blob } => {
                    let mut hasher = BlobHasher::of(&blob);
                    hasher.update(&self.bytes);
                    queue.push_back((n, Input::BlobVerified { blob: hasher.finish(blob).unwrap() }));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        let (end, step) = (self.now + duration, Duration::from_millis(20));
        while self.now < end && self.machines.values().any(|machine| machine.wanted().next().is_some()) {
            self.now = self.now + step;
            if let Some((n, fetch, units)) = self.wan.pop_front() {
                self.bring_unit(n, fetch, units);
            }
            for n in self.machines.keys().copied().collect::<Vec<_>>() {
                let due = self.machines[&n].poll_timeout().is_some_and(|at| at <= self.now);
                if due {
                    self.machines.get_mut(&n).unwrap().handle_timeout(self.now);
                    let mut queue = VecDeque::new();
                    self.carry_out(n, &mut queue);
                    for (n, input) in queue {
                        self.input(n, input);
                    }
                }
            }
        }
    }

    fn bring_unit(&mut self, n: u8, fetch: FetchId, units: Range<u32>) {
        if !self.seed_up {
            return self.input(n, Input::FetchEnded { fetch, end: FetchEnd::Failed });
        }
        self.wan_units += 1;
        let proof = unit(&self.bytes, &self.verifier, units.start);
        let rest = units.start + 1..units.end;
        if rest.is_empty() {
            self.input(n, Input::UnitStored { fetch, proof });
            self.input(n, Input::FetchEnded { fetch, end: FetchEnd::Complete });
        } else {
            self.wan.push_back((n, fetch, rest));
            self.input(n, Input::UnitStored { fetch, proof });
        }
    }

    fn assert_complete(&self, nodes: impl Iterator<Item = u8>) {
        for n in nodes {
            assert_eq!(self.machines[&n].wanted().next(), None, "node {n} is not complete");
        }
    }
}

#[test]
fn rot_in_what_is_stored_of_a_blob_on_its_way_is_owned_up_to_and_the_rest_is_kept() {
    let (bytes, verifier) = content(1);
    let (blob, now) = (verifier.blob(), START);
    let mut device = beside_a_peer(&verifier, [holding(blob, 2)]);
    let (fetch, _, _) = fetches(&effects(&mut device)).remove(0);
    for index in [0, 1] {
        device.handle_input(now, Input::UnitStored { fetch, proof: unit(&bytes, &verifier, index) });
    }
    device.handle_input(now, Input::Received { peer: node(2), message: Message::Refused { blob, unit: 0 } });
    assert!(effects(&mut device).contains(&Effect::Recheck { blob }));
    device.handle_input(now, Input::Rotten { blob });
    assert!(effects(&mut device).contains(&Effect::Send { peer: node(2), message: Message::Mended { blob } }));
    assert_eq!(device.poll_event(), Some(Event::StorageFault { blob }));
    let mut held = Bits::new(verifier.geometry().units());
    held.insert(1);
    device.handle_input(now, Input::Wanted { blob, geometry: verifier.geometry(), held });
    assert!(effects(&mut device).contains(&Effect::Send { peer: node(2), message: Message::Interest { blob } }));
    device.handle_input(now, Input::Received { peer: node(2), message: holding(blob, 8) });
    assert!(fetches(&effects(&mut device)).iter().all(|(_, _, units)| !units.contains(&1)), "a sound unit is not fetched again");
}

#[test]
fn where_nobody_else_wants_the_blob_it_is_pulled_from_the_front() {
    let (_, verifier) = content(4);
    let mut device = beside_a_peer(&verifier, [holding(verifier.blob(), verifier.geometry().pieces())]);
    let starts: Vec<u32> = fetches(&effects(&mut device)).iter().map(|(_, _, units)| units.start).collect();
    assert!(starts.first() == Some(&0) && starts.is_sorted(), "{starts:?}");
}

/// A node beside a peer that claims the first span of two, at [`START`].
fn beside_a_claim(verifier: &UnitVerifier) -> Swarm<OwnView> {
    let blob = verifier.blob();
    beside_a_peer(verifier, [Message::Claim { blob, span: 0 }, Message::Holding { blob, wanted: true, pieces: vec![] }])
}

/// When the node fetches the first span itself, if it does in a minute in which it hears `said` each tick.
fn takes_over(device: &mut Swarm<OwnView>, mut said: impl FnMut(u64) -> Message) -> Option<Duration> {
    let tick = Parameters::default().tick;
    for count in 1..240 {
        let now = START + tick * u32::try_from(count).unwrap();
        device.handle_input(now, Input::Received { peer: node(2), message: said(count) });
        device.handle_timeout(now);
        let found = fetches(&effects(device));
        if found.iter().any(|(_, source, units)| *source == Source::Wan && units.start == 0) {
            return Some(now.since(START));
        }
    }
    None
}

#[test]
fn a_claim_that_brings_a_byte_now_and_then_is_taken_over() {
    let (_, verifier) = content(2);
    let blob = verifier.blob();
    let progress = |bytes| Message::Progress { claims: vec![crate::wire::ClaimProgress { blob, span: 0, bytes }] };
    let lapse = Parameters::default().claim_lapse;
    let taken = takes_over(&mut beside_a_claim(&verifier), progress).unwrap();
    assert!(taken >= lapse && taken <= lapse + SECOND, "{taken:?}");
    let slow = takes_over(&mut beside_a_claim(&verifier), |count| progress(count * 512));
    assert_eq!(slow, None, "2 KiB a second are slow, but they may be honest");
}

#[test]
fn a_piece_announced_again_and_again_is_no_progress_of_a_claim() {
    let (_, verifier) = content(2);
    let blob = verifier.blob();
    let again = |_| Message::Have { blob, pieces: vec![PieceRange { start: 7, end: 8 }] };
    let taken = takes_over(&mut beside_a_claim(&verifier), again).unwrap();
    assert!(taken <= Parameters::default().claim_lapse + SECOND, "{taken:?}");
}

#[test]
fn who_asked_before_it_was_known_what_is_stored_here_hears_it_as_soon_as_it_is_known() {
    let (bytes, verifier) = content(1);
    let blob = verifier.blob();
    let mut hasher = BlobHasher::of(&blob);
    hasher.update(&bytes);
    let whole = hasher.finish(blob).unwrap();
    let answer = |wanted, end| {
        let pieces = if end > 0 { vec![PieceRange { start: 0, end }] } else { Vec::new() };
        Effect::Send { peer: node(2), message: Message::Holding { blob, wanted, pieces } }
    };
    let mut some = Bits::new(verifier.geometry().units());
    some.insert_range(0..3);
    let wanted = Input::Wanted { blob, geometry: verifier.geometry(), held: some };
    let held = Input::Held { blob: whole, geometry: verifier.geometry() };
    for (learned, told) in [(held, answer(false, 8)), (wanted, answer(true, 3))] {
        let mut started = machine(1);
        for peer in [node(2), node(3)] {
            started.handle_input(START, Input::PeerJoined { peer });
            started.handle_input(START, Input::Received { peer, message: Message::Interest { blob } });
        }
        assert_eq!(effects(&mut started)[0], answer(false, 0));
        started.handle_input(START, Input::PeerLeft { peer: node(3) });
        started.handle_input(START, learned.clone());
        let answers = |effect: &Effect| matches!(effect, Effect::Send { message: Message::Holding { .. }, .. });
        let told_now: Vec<Effect> = effects(&mut started).into_iter().filter(answers).collect();
        assert_eq!(told_now, [told]);
        started.handle_input(START, learned);
        assert!(!effects(&mut started).iter().any(answers), "they know it");
    }
}
