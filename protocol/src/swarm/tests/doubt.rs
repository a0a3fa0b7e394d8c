//! What follows when a peer does not deliver what it says it holds.

use super::*;

/// Lets every request of `device` to node 2 go unanswered until it fetches over the WAN.
fn until_the_wan(device: &mut Swarm<OwnView>, now: &mut Instant) {
    while next_fetches(device, now).iter().all(|(_, source, _)| *source != Source::Wan) {}
}

fn is_pull((_, source, _): &(FetchId, Source, Range<u32>)) -> bool {
    *source != Source::Wan
}

#[test]
fn a_peer_that_delivers_nothing_keeps_the_wan_waiting_once_and_not_for_every_blob() {
    let ((_, first), (_, second)) = (content(1), content(2));
    let parameters = Parameters::default();
    let mut now = START;
    let mut device = beside_a_peer(&first, [holding(first.blob(), 8)]);
    until_the_wan(&mut device, &mut now);
    assert!(now.since(START) >= parameters.first_byte_wait);
    let wanted = now;
    device.handle_input(now, want(&second));
    device.handle_input(now, Input::Received { peer: node(2), message: holding(second.blob(), 16) });
    until_the_wan(&mut device, &mut now);
    assert!(now.since(wanted) <= parameters.answer_wait);
}

#[test]
fn a_peer_that_did_not_deliver_is_tried_again_with_one_piece_after_ever_longer_pauses_and_counts_once_it_delivers() {
    let (bytes, verifier) = content(8);
    let mut device = beside_a_peer(&verifier, [holding(verifier.blob(), 64)]);
    let mut found = fetches(&effects(&mut device));
    while !found.is_empty() {
        for (fetch, _, _) in found.into_iter().filter(is_pull) {
            device.handle_input(START, Input::FetchEnded { fetch, end: FetchEnd::Failed });
        }
        found = fetches(&effects(&mut device));
    }
    let (mut now, mut asked_at) = (START, Vec::new());
    while asked_at.len() < 4 {
        for (fetch, _, units) in next_fetches(&mut device, &mut now).into_iter().filter(is_pull) {
            assert_eq!(units.len(), 1, "it costs a piece, not the blob");
            asked_at.push(now);
            if asked_at.len() < 4 {
                device.handle_input(now, Input::FetchEnded { fetch, end: FetchEnd::Failed });
            } else {
                device.handle_input(now, Input::UnitStored { fetch, proof: unit(&bytes, &verifier, units.start) });
            }
        }
    }
    let pauses: Vec<u64> = asked_at.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert_eq!(pauses, [4, 8, 16]);
    assert!(fetches(&effects(&mut device)).iter().filter(|fetch| is_pull(fetch)).count() > 1, "it is a source as before");
}

#[test]
fn a_peer_that_is_busy_for_ever_keeps_the_wan_waiting_no_longer_than_one_that_is_silent() {
    let (_, verifier) = content(1);
    let mut device = beside_a_peer(&verifier, [holding(verifier.blob(), 8)]);
    let mut now = START;
    while now.since(START) < Parameters::default().first_byte_wait {
        for (fetch, source, _) in next_fetches(&mut device, &mut now) {
            if source == Source::Wan {
                return;
            }
            device.handle_input(now, Input::FetchEnded { fetch, end: FetchEnd::Busy });
        }
    }
    panic!("the WAN was not used");
}

#[test]
fn a_peer_that_is_busy_while_a_request_of_this_node_waits_there_is_no_withholder() {
    let (_, verifier) = content(4);
    let mut device = beside_a_peer(&verifier, [holding(verifier.blob(), 32)]);
    let mut found = fetches(&effects(&mut device));
    assert!(found.len() > 1);
    let (mut now, mut refused) = (START, 0);
    found.remove(0);
    while now.since(START) < 2 * SECOND {
        for (fetch, source, _) in found {
            assert_eq!(source, Source::Peer(node(2)));
            device.handle_input(now, Input::FetchEnded { fetch, end: FetchEnd::Busy });
            refused += 1;
        }
        found = next_fetches(&mut device, &mut now);
    }
    assert!(refused > 10 * Parameters::default().unfulfilled_max);
}

#[test]
fn a_peer_that_says_that_it_does_not_hold_a_blob_after_all_is_still_believed_about_others() {
    let ((_, first), (_, second)) = (content(1), content(2));
    let mut device = beside_a_peer(&first, [holding(first.blob(), 8)]);
    for _ in 0..Parameters::default().unfulfilled_max {
        for (fetch, _, _) in fetches(&effects(&mut device)) {
            device.handle_input(START, Input::FetchEnded { fetch, end: FetchEnd::NotHeld });
        }
    }
    effects(&mut device);
    device.handle_input(START, want(&second));
    device.handle_input(START, Input::Received { peer: node(2), message: holding(second.blob(), 16) });
    assert!(fetches(&effects(&mut device)).iter().any(is_pull));
}

#[test]
fn a_request_that_brings_a_byte_now_and_then_is_given_up() {
    let (_, verifier) = content(1);
    let mut device = beside_a_peer(&verifier, [holding(verifier.blob(), 1)]);
    let (fetch, _, _) = fetches(&effects(&mut device)).remove(0);
    let (parameters, mut now) = (Parameters::default(), START);
    loop {
        now = now + parameters.tick;
        device.handle_input(now, Input::Progressed { fetch, bytes: now.since(START).as_secs() });
        device.handle_timeout(now);
        if effects(&mut device).contains(&Effect::Cancel { fetch }) {
            break;
        }
        assert!(now.since(START) <= 3 * parameters.queue_wait, "it goes on for ever");
    }
    assert!(now.since(START) >= 2 * parameters.queue_wait, "a slow peer is not given up");
}
