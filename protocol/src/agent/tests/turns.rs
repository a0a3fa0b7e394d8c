//! Dialogues about who asks the seed for a site.

use super::super::turn::{OWN_TIME, PollFor, Trust};
use super::*;
use crate::gossip::message::SiteHeads;
use crate::name::GroupName;
use crate::statement::receipt::SitePoll;

fn named(n: u64) -> SiteHeads {
    SiteHeads { assignments: [("kiosk".parse().unwrap(), Counter { epoch: 1, n })].into(), ..SiteHeads::default() }
}

/// The seed's clock, which is years from that of the devices.
fn seed_ms(seconds: u64) -> u64 {
    5_000_000_000 + seconds * 1_000
}

/// A neighbour polled for the site after so many seconds, and the seed said this.
fn site_polled(seconds: u64, heads: SiteHeads) -> Input {
    Input::SitePolled(SitePoll { at_ms: seed_ms(seconds), heads })
}

fn polled(seconds: u64) -> Input {
    Input::Polled { at_ms: Some(seed_ms(seconds)) }
}

/// A device whose first poll was answered at the start, and the moment of its next one.
fn answered(seed: u64) -> (Agent, Instant) {
    let mut agent = Agent::new(Instant::ZERO, Settings { seed, ..settings() });
    agent.handle_timeout(at(40));
    agent.handle_input(at(40), desired(&statement(1, vec![])));
    agent.handle_input(at(40), polled(40));
    effects(&mut agent);
    agent.handle_input(at(40), Input::Reported { counter: 41 });
    let next = agent.poll_timeout().unwrap();
    (agent, next)
}

fn polls(agent: &mut Agent, now: Now) -> Vec<PollFor> {
    agent.handle_timeout(now);
    let poll = |effect: &Effect| match effect {
        Effect::Poll(poll) => Some(*poll),
        _ => None,
    };
    effects(agent).iter().filter_map(poll).collect()
}

fn seconds(instant: Instant) -> u64 {
    instant.since(Instant::ZERO).as_secs()
}

#[test]
fn who_hears_that_a_neighbour_asks_for_it_waits_and_still_asks_for_itself_once_an_hour() {
    let (mut agent, _) = answered(1);
    let (mut second, mut own) = (40, Vec::new());
    while second < 3 * 3_600 {
        agent.handle_input(at(second), site_polled(second, named(1)));
        second += 300;
        while let Some(due) = agent.poll_timeout().filter(|due| seconds(*due) < second) {
            for poll in polls(&mut agent, at(seconds(due) + 1)) {
                own.push((seconds(due), poll));
                agent.handle_input(at(seconds(due) + 1), polled(seconds(due) + 1));
            }
        }
    }
    assert_eq!(own.len(), 2, "{own:?}");
    assert!(own.iter().all(|(_, poll)| *poll == PollFor::Itself), "{own:?}");
    assert_eq!(own[0].0, 40 + OWN_TIME.as_secs());
}

#[test]
fn a_device_that_hears_of_no_poll_for_an_interval_and_a_half_doubts_and_asks_for_the_site() {
    let mut dues: Vec<u64> = (0..50)
        .map(|seed| {
            let (mut agent, _) = answered(seed);
            agent.handle_input(at(100), site_polled(100, named(1)));
            let due = agent.poll_timeout().unwrap();
            assert_eq!(polls(&mut agent, at(seconds(due) + 1)), [PollFor::Site]);
            seconds(due)
        })
        .collect();
    dues.sort_unstable();
    assert!(dues[0] >= 100 + 450 && dues[49] <= 100 + 600, "{dues:?}");
    assert!(dues.windows(2).filter(|pair| pair[1] - pair[0] < 2).count() < 35, "they do not doubt all at once: {dues:?}");
}

#[test]
fn a_poll_that_does_not_name_a_device_is_none_of_its_business() {
    let (mut agent, next) = answered(1);
    agent.handle_input(at(60), site_polled(60, SiteHeads::default()));
    assert_eq!(agent.poll_timeout(), Some(next));
}

#[test]
fn of_two_that_asked_for_the_site_the_later_one_goes_on() {
    let (mut agent, next) = answered(1);
    let asks = Now { monotonic: next, ..at(seconds(next)) };
    assert_eq!(polls(&mut agent, asks), [PollFor::Site]);
    agent.handle_input(asks, polled(seconds(next)));
    let mine = agent.poll_timeout().unwrap();
    assert_eq!(mine, next + INTERVAL);
    let now = Now { monotonic: next + Duration::from_secs(1), ..asks };
    agent.handle_input(now, site_polled(seconds(next) - 1, named(1)));
    assert_eq!(agent.poll_timeout(), Some(mine), "the neighbour asked before this device");
    agent.handle_input(now, site_polled(seconds(next) + 1, named(1)));
    assert!(agent.poll_timeout().unwrap() > mine);
}

#[test]
fn a_device_whose_assignment_is_old_asks_for_itself_at_once() {
    let (mut agent, _) = answered(1);
    agent.handle_input(at(60), site_polled(60, named(2)));
    let due = agent.poll_timeout().unwrap();
    assert!(seconds(due) <= 62);
    assert_eq!(polls(&mut agent, at(63)), [PollFor::Itself]);
    agent.handle_input(at(63), polled(63));
    assert!(seconds(agent.poll_timeout().unwrap()) >= 60 + 450, "what it was told is done with");
}

#[test]
fn a_missing_desired_state_is_asked_for_unless_a_neighbour_hands_it_over() {
    let newer = Counter { epoch: 1, n: 2 };
    for is_handed_over in [false, true] {
        let (mut agent, _) = answered(1);
        let told = SiteHeads { states: [(GroupName::all(), newer), ("other".parse().unwrap(), newer)].into(), ..named(1) };
        agent.handle_input(at(60), site_polled(60, told));
        let due = agent.poll_timeout().unwrap();
        assert!((80..=82).contains(&seconds(due)), "{due:?}");
        if is_handed_over {
            let state = state_counted("all", newer, [("web".parse().unwrap(), app_of(&statement(1, vec![])))].into());
            agent.handle_input(at(62), Input::StateAccepted { assignment: assigned(&[]), states: vec![state] });
            effects(&mut agent);
        }
        let asks: &[PollFor] = if is_handed_over { &[] } else { &[PollFor::Itself] };
        assert_eq!(polls(&mut agent, at(83)), asks);
    }
}

#[test]
fn a_device_that_cannot_get_a_statement_asks_for_itself_once_an_interval() {
    let (mut agent, _) = answered(1);
    let refusal = Refusal::Temporary("not published".to_owned());
    agent.handle_input(at(50), Input::StatementRefused { name: statement(1, vec![]).statement().name(), refusal });
    agent.handle_input(at(60), site_polled(60, named(1)));
    assert_eq!(agent.poll_timeout().map(seconds), Some(40 + 300));
    let told = effects(&mut agent);
    assert!(told.iter().any(|effect| matches!(effect, Effect::AcceptStatement { .. })), "and with each poll of its site: {told:?}");
}

#[test]
fn a_device_that_the_seed_does_not_answer_goes_on_asking_for_itself_alone() {
    let (mut agent, next) = answered(1);
    let asks = Now { monotonic: next, ..at(seconds(next)) };
    assert_eq!(polls(&mut agent, asks), [PollFor::Site]);
    agent.handle_input(asks, Input::PollFailed);
    agent.handle_input(asks, site_polled(seconds(next), named(1)));
    let again = agent.poll_timeout().unwrap();
    assert!(again <= next + INTERVAL);
    assert_eq!(polls(&mut agent, at(seconds(again) + 1)), [PollFor::Itself]);
}

#[test]
fn a_poll_that_was_heard_of_before_the_first_own_answer_counts_after_it() {
    let mut agent = Agent::new(Instant::ZERO, settings());
    agent.handle_input(at(1), site_polled(0, named(1)));
    agent.handle_timeout(at(40));
    agent.handle_input(at(40), desired(&statement(1, vec![])));
    agent.handle_input(at(40), polled(40));
    agent.handle_input(at(40), Input::Reported { counter: 41 });
    effects(&mut agent);
    let due = agent.poll_timeout().unwrap();
    assert!((450..=600).contains(&seconds(due)), "{due:?}");
}

/// Until when the device asks for itself or its site, whatever a neighbour does that has receipts of the polls at `made`: it hands
/// over whichever of them it likes, every second.
fn held_back(made: &[u64], seed: u64) -> u64 {
    let (mut agent, _) = answered(1);
    for second in 41..3_600 {
        let old = made[usize::try_from(rendezvous::draw(seed, second) % made.len() as u64).unwrap()];
        if old <= second {
            agent.handle_input(at(second), site_polled(old, named(1)));
        }
        if !polls(&mut agent, at(second)).is_empty() {
            return second;
        }
    }
    3_600
}

#[test]
fn a_neighbour_that_keeps_receipts_back_or_repeats_old_ones_holds_nobody_back_for_longer_than_two_intervals() {
    let bound = |last: u64| last + 2 * INTERVAL.as_secs();
    for seed in 0..200 {
        for made in [&[41][..], &[41, 60, 200], &[300, 41, 339]] {
            let last = made.iter().max().copied().unwrap();
            let asked = held_back(made, seed);
            assert!(asked <= bound(last), "asked after {asked} s, polls at {made:?}");
        }
    }
}

#[test]
fn a_receipt_of_a_time_to_come_counts_for_nothing() {
    let (mut agent, next) = answered(1);
    agent.handle_input(at(60), site_polled(3_600, named(1)));
    assert_eq!(agent.poll_timeout(), Some(next));
    agent.handle_input(at(60), site_polled(61, named(1)));
    assert!(agent.poll_timeout().unwrap() > next, "a second is what is not known of the seed's clock");
}

#[test]
fn after_the_seeds_clock_was_set_back_polls_for_the_site_count_again_from_the_next_own_one_on() {
    let (mut agent, _) = answered(1);
    agent.handle_input(at(100), site_polled(100, named(1)));
    let doubts = seconds(agent.poll_timeout().unwrap());
    assert_eq!(polls(&mut agent, at(doubts + 1)), [PollFor::Site]);
    let back = 5_000;
    agent.handle_input(at(doubts + 1), Input::Polled { at_ms: Some(back) });
    let mine = agent.poll_timeout().unwrap();
    agent.handle_input(at(doubts + 10), Input::SitePolled(SitePoll { at_ms: back + 9_000, heads: named(1) }));
    assert!(agent.poll_timeout().unwrap() > mine);
}

#[test]
fn who_lacks_a_list_of_revoked_keys_or_a_root_asks_unless_a_neighbour_hands_it_over() {
    let one = Some(Counter { epoch: 1, n: 1 });
    for (told, handed) in [
        (SiteHeads { revocations: one, ..named(1) }, Trust { revocations: one, timestamp: None }),
        (SiteHeads { timestamp: Some(8), ..named(1) }, Trust { revocations: None, timestamp: Some(8) }),
    ] {
        for is_handed_over in [false, true] {
            let (mut agent, _) = answered(1);
            agent.handle_input(at(60), site_polled(60, told.clone()));
            let due = agent.poll_timeout().unwrap();
            assert!((80..=82).contains(&seconds(due)), "{due:?}");
            if is_handed_over {
                agent.handle_input(at(62), Input::Trust(handed));
            }
            let asks: &[PollFor] = if is_handed_over { &[] } else { &[PollFor::Itself] };
            assert_eq!(polls(&mut agent, at(83)), asks);
        }
    }
}
