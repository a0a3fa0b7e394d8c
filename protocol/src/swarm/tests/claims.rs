//! Own fetches over the WAN that stand still, and claims that give way.

use super::*;
use crate::wire::ClaimProgress;

/// Fetches over the WAN, and what they are to bring.
type OwnFetches = Vec<(FetchId, Range<u32>)>;

/// A node that fetches the first spans over the WAN beside node 2, and since when it does.
fn fetching(verifier: &UnitVerifier) -> (Swarm<OwnView>, OwnFetches, Instant) {
    let (blob, mut now) = (verifier.blob(), START);
    let mut device = beside_a_peer(verifier, [Message::Holding { blob, wanted: true, pieces: vec![] }]);
    let mut found = Vec::new();
    while found.len() < Parameters::default().claims_max {
        found.extend(next_fetches(&mut device, &mut now).into_iter().map(|(fetch, _, units)| (fetch, units)));
    }
    (device, found, now)
}

/// What the node tells of its claims, in its last words.
fn told(effects: &[Effect]) -> Option<Vec<ClaimProgress>> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Send { message: Message::Progress { claims }, .. } => Some(claims.clone()),
        _ => None,
    })
}

#[test]
fn an_own_fetch_that_stands_still_while_another_goes_on_is_made_anew_from_where_it_stopped() {
    let (bytes, verifier) = content(8);
    let (mut device, own, mut now) = fetching(&verifier);
    let parameters = Parameters::default();
    let (stalled, lively) = (own[0].clone(), own[1].clone());
    for index in stalled.1.start..stalled.1.start + 2 {
        device.handle_input(now, Input::UnitStored { fetch: stalled.0, proof: unit(&bytes, &verifier, index) });
    }
    effects(&mut device);
    let (stopped, mut received) = (now, 0);
    loop {
        now = now + parameters.tick;
        received += 1000;
        device.handle_input(now, Input::Progressed { fetch: lively.0, bytes: received });
        device.handle_timeout(now);
        let done = effects(&mut device);
        if done.contains(&Effect::Cancel { fetch: stalled.0 }) {
            let again = fetches(&done);
            assert_eq!((again[0].1, again[0].2.clone()), (Source::Wan, stalled.1.start + 2..stalled.1.end));
            let claims = told(&done).unwrap();
            let span = verifier.geometry().span_of_piece(stalled.1.start);
            let of_span = claims.iter().find(|claim| claim.span == span).unwrap();
            assert_eq!(of_span.bytes, 2 * UNIT_BYTES, "others see what the span has, not what the request has");
            break;
        }
        assert!(now.since(stopped) < parameters.claim_stall_told, "others would take it over");
    }
    assert!(now.since(stopped) >= parameters.wan_restart);
}

#[test]
fn when_every_fetch_stands_still_none_is_made_anew() {
    let (_, verifier) = content(8);
    let (mut device, own, start) = fetching(&verifier);
    let mut now = start;
    while now.since(start) + Parameters::default().tick < Parameters::default().wan_stall {
        now = now + Parameters::default().tick;
        device.handle_timeout(now);
        let done = effects(&mut device);
        assert!(own.iter().all(|(fetch, _)| !done.contains(&Effect::Cancel { fetch: *fetch })), "the WAN is slow or cut");
    }
}

#[test]
fn a_fetch_that_stands_still_gives_way_to_whoever_takes_its_span_over_and_one_that_goes_on_does_not() {
    let (_, verifier) = content(8);
    let blob = verifier.blob();
    for stands_still in [true, false] {
        let (mut device, own, now) = fetching(&verifier);
        let behind = |(_, units): &&(FetchId, Range<u32>)| {
            let span = verifier.geometry().span_of_piece(units.start);
            rendezvous::weight(&blob, span, &node(2)) < rendezvous::weight(&blob, span, &node(1))
        };
        let Some((fetch, units)) = own.iter().find(behind) else { panic!("node 1 is first in line of its own claims") };
        let span = verifier.geometry().span_of_piece(units.start);
        let later = now + Parameters::default().claim_stall;
        if !stands_still {
            device.handle_input(later, Input::Progressed { fetch: *fetch, bytes: 1000 });
        }
        device.handle_input(later, Input::Received { peer: node(2), message: Message::Claim { blob, span } });
        assert_eq!(effects(&mut device).contains(&Effect::Cancel { fetch: *fetch }), stands_still);
    }
}

#[test]
fn a_takeover_is_believed_by_those_to_whom_the_claim_that_stalled_has_not_lapsed_yet() {
    let (_, verifier) = content(1);
    let blob = verifier.blob();
    let ahead = |one: u8, other: u8| rendezvous::weight(&blob, 0, &node(one)) > rendezvous::weight(&blob, 0, &node(other));
    let (first, second) = if ahead(2, 3) { (2, 3) } else { (3, 2) };
    let mut device = beside_a_peer(&verifier, []);
    device.handle_input(START, Input::PeerJoined { peer: node(3) });
    let say = |device: &mut Swarm<OwnView>, now, peer, message| device.handle_input(now, Input::Received { peer: node(peer), message });
    say(&mut device, START, first, Message::Claim { blob, span: 0 });
    for peer in [2, 3] {
        say(&mut device, START, peer, Message::Holding { blob, wanted: true, pieces: vec![] });
    }
    let parameters = Parameters::default();
    let mut now = START;
    while now.since(START) < parameters.claim_lapse {
        now = now + parameters.tick;
        let after = now.since(START);
        let (owner, bytes) = if after < parameters.claim_stall_told { (first, 0) } else { (second, after.as_micros() as u64 / 100) };
        if after == parameters.claim_stall_told {
            say(&mut device, now, second, Message::Claim { blob, span: 0 });
        }
        say(&mut device, now, owner, Message::Progress { claims: vec![ClaimProgress { blob, span: 0, bytes }] });
        device.handle_timeout(now);
        assert_eq!(fetches(&effects(&mut device)), [], "a third copy of the span is on its way after {after:?}");
    }
}

#[test]
fn two_nodes_that_claim_in_turn_and_bring_nothing_do_not_keep_a_span_from_the_site() {
    let (_, verifier) = content(1);
    let blob = verifier.blob();
    let mut device = beside_a_peer(&verifier, []);
    device.handle_input(START, Input::PeerJoined { peer: node(3) });
    let (parameters, mut now) = (Parameters::default(), START);
    for peer in [node(2), node(3)] {
        device.handle_input(now, Input::Received { peer, message: Message::Claim { blob, span: 0 } });
        device.handle_input(now, Input::Received { peer, message: Message::Holding { blob, wanted: true, pieces: vec![] } });
    }
    while now.since(START) < 4 * parameters.claim_lapse {
        now = now + parameters.tick;
        for peer in [node(2), node(3)] {
            device.handle_input(now, Input::Received { peer, message: Message::Claim { blob, span: 0 } });
            let claims = vec![ClaimProgress { blob, span: 0, bytes: SPAN_BYTES }];
            device.handle_input(now, Input::Received { peer, message: Message::Progress { claims } });
        }
        device.handle_timeout(now);
        if !fetches(&effects(&mut device)).is_empty() {
            return;
        }
    }
    panic!("the span was never fetched");
}
