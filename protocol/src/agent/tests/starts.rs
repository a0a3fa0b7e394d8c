//! Dialogues about starts: whose turn it is, what is kept, and the way back.

use super::*;
use crate::agent::record::Run;
use crate::rendezvous::draw;
use crate::rollout::steps::position;
use crate::time::floor::TimeTrust;

/// No version.
const NOTHING: [u64; 0] = [];

fn activating(records: BTreeMap<AppName, Record>) -> Agent {
    Agent::new(Instant::ZERO, Settings { activates: true, records, ..settings() })
}

fn web() -> AppName {
    "web".parse().unwrap()
}

fn release(statement: &AcceptedStatement) -> Release {
    Release { version: statement.statement().version, statement: statement.digest() }
}

/// Accepts what is asked for and stores what is wanted, until nothing is; what else the machine wanted.
fn settle(agent: &mut Agent, now: Now, known: &[AcceptedStatement]) -> Vec<Effect> {
    let mut others = Vec::new();
    while let Some(effect) = agent.poll_effect() {
        match effect {
            Effect::AcceptStatement { name, digest } => {
                let found = known.iter().find(|known| known.digest() == digest && known.statement().name() == name);
                agent.handle_input(now, Input::StatementAccepted(found.expect("a known statement").clone()));
            }
            Effect::Want { blob, .. } => agent.handle_input(now, Input::BlobStored { blob }),
            Effect::Report(report) => {
                agent.handle_input(now, Input::Reported { counter: report.counter });
                others.push(Effect::Report(report));
            }
            other => others.push(other),
        }
    }
    others
}

fn activated(effects: &[Effect]) -> Vec<u64> {
    let version = |effect: &Effect| match effect {
        Effect::Activate { release, .. } => Some(release.version),
        _ => None,
    };
    effects.iter().filter_map(version).collect()
}

fn last_report(effects: &[Effect]) -> (u64, DeviceState, Option<u64>) {
    let report = |effect: &Effect| match effect {
        Effect::Report(report) => report.apps.get(&web()).map(|app| (app.version, app.state, app.running)),
        _ => None,
    };
    effects.iter().rev().find_map(report).expect("a report")
}

fn kept(effects: &[Effect]) -> Record {
    let record = |effect: &Effect| match effect {
        Effect::Activate { record, .. } | Effect::Keep { record, .. } => Some(record.clone()),
        _ => None,
    };
    effects.iter().rev().find_map(record).expect("a record")
}

fn outcome(agent: &mut Agent, now: Now, outcome: Outcome) {
    agent.handle_input(now, Input::Activated { app: web(), outcome });
}

fn signed_floor(floor: Option<u64>) -> Input {
    Input::Role { app: web(), terms: RoleTerms { floor, expires: END } }
}

/// The same moment on a device whose clock is not trusted.
fn blind(seconds: u64) -> Now {
    Now { wall: CheckedTime { trust: TimeTrust::Behind, ..at(seconds).wall }, ..at(seconds) }
}

/// A device that runs version 1, and the two statements.
fn running_one() -> (Agent, Vec<AcceptedStatement>) {
    let known = vec![statement(1, vec![]), statement(2, vec![layer("two", false)]), statement(3, vec![])];
    let mut agent = activating(BTreeMap::new());
    agent.handle_input(START, desired(&known[0]));
    assert_eq!(activated(&settle(&mut agent, START, &known)), [1]);
    outcome(&mut agent, START, Outcome::Healthy);
    assert_eq!(last_report(&settle(&mut agent, START, &known)), (1, DeviceState::Healthy, Some(1)));
    (agent, known)
}

fn rollout(id: &str, statement: &AcceptedStatement, activation: Activation, before: Option<&AcceptedStatement>) -> Input {
    let before = before.map(|before| Before { version: before.statement().version, statements: [(platform(), before.digest())].into() });
    desired_app(DesiredApp { rollout: id.parse().unwrap(), activation, before, ..app_of(statement) })
}

fn staged(steps: &str) -> Activation {
    Activation { since: START.wall.now, steps: steps.parse().unwrap(), ..Activation::default() }
}

#[test]
fn a_start_is_kept_before_it_begins_and_goes_on_after_a_crash() {
    let known = [statement(1, vec![])];
    let mut agent = activating(BTreeMap::new());
    agent.handle_input(START, desired(&known[0]));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects)), (vec![1], (1, DeviceState::Starting, None)));
    let record = kept(&effects);
    assert_eq!(record.running.map(|run| (run.release, run.healthy)), Some((release(&known[0]), false)));

    let mut again = activating([(web(), record)].into());
    again.handle_input(START, desired(&known[0]));
    assert_eq!(activated(&settle(&mut again, START, &known)), [1], "the device was killed while the version was starting");
    outcome(&mut again, START, Outcome::Healthy);
    let record = kept(&settle(&mut again, START, &known));
    assert_eq!(record.good, Some(release(&known[0])));

    let mut later = activating([(web(), record)].into());
    later.handle_input(START, desired(&known[0]));
    let effects = settle(&mut later, START, &known);
    assert_eq!((activated(&effects), last_report(&effects)), (vec![], (1, DeviceState::Healthy, Some(1))));
}

#[test]
fn a_grant_takes_the_place_of_the_documents_until_it_ends_also_when_they_are_over_and_nothing_below_the_floor() {
    let (mut agent, known) = running_one();
    agent.handle_input(START, signed_floor(Some(1)));
    let waiting = || rollout("r-2", &known[1], staged("0%,1h,100%"), Some(&known[0]));
    agent.handle_input(START, waiting());
    assert_eq!(activated(&settle(&mut agent, START, &known)), NOTHING);
    let granted = || Input::Granted(vec![Granted { grant: documents::tests::accepted(1), statement: known[2].digest() }]);
    agent.handle_input(START, granted());
    assert_eq!(activated(&settle(&mut agent, START, &known)), [3], "whatever the steps say");
    outcome(&mut agent, START, Outcome::Healthy);
    agent.handle_input(START, waiting());
    let effects = settle(&mut agent, START, &known);
    assert_eq!(
        (activated(&effects), last_report(&effects)),
        (vec![], (3, DeviceState::Healthy, Some(3))),
        "a neighbour's documents end nothing"
    );
    agent.handle_input(START, Input::Granted(Vec::new()));
    agent.handle_input(START, waiting());
    assert_eq!(activated(&settle(&mut agent, START, &known)), [1], "the seed's word counts again");
    outcome(&mut agent, START, Outcome::Healthy);
    settle(&mut agent, START, &known);

    let over = WallTime::from_unix_seconds(1_000_000);
    agent.handle_input(START, Input::Role { app: web(), terms: RoleTerms { floor: Some(4), expires: over } });
    agent.handle_input(START, granted());
    assert_eq!(activated(&settle(&mut agent, START, &known)), NOTHING, "below the floor");
    agent.handle_input(START, Input::Role { app: web(), terms: RoleTerms { floor: None, expires: over } });
    assert_eq!(activated(&settle(&mut agent, START, &known)), [3], "the role has expired, the grant has not");
    outcome(&mut agent, START, Outcome::Failed("no".into()));
    settle(&mut agent, START, &known);
    let mut late = activating(BTreeMap::new());
    late.handle_input(at(60), granted());
    assert_eq!(activated(&settle(&mut late, at(60), &known)), NOTHING, "its time is over");
}

#[test]
fn a_failed_start_goes_back_to_the_last_good_version_and_is_not_repeated() {
    let (mut agent, known) = running_one();
    agent.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    assert_eq!(activated(&settle(&mut agent, START, &known)), [2]);
    outcome(&mut agent, START, Outcome::Failed("port 80 is taken".into()));
    assert_eq!(activated(&settle(&mut agent, START, &known)), [1]);
    outcome(&mut agent, START, Outcome::Healthy);
    let effects = settle(&mut agent, START, &known);
    assert_eq!(last_report(&effects), (2, DeviceState::RolledBack, Some(1)));
    let Some(Effect::Report(report)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(report.apps[&web()].reason.as_deref(), Some("port 80 is taken"));

    let mut restarted = activating([(web(), kept(&effects))].into());
    restarted.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    let effects = settle(&mut restarted, START, &known);
    assert_eq!((activated(&effects), last_report(&effects).1), (vec![], DeviceState::RolledBack), "also after a restart");
    restarted.handle_input(START, rollout("r-3", &known[1], Activation::default(), None));
    assert_eq!(activated(&settle(&mut restarted, START, &known)), [2], "another rollout tries again");
}

#[test]
fn a_device_killed_between_failure_and_way_back_goes_back_when_it_starts() {
    let (mut agent, known) = running_one();
    agent.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    settle(&mut agent, START, &known);
    outcome(&mut agent, START, Outcome::Failed("no".into()));
    let effects = settle(&mut agent, START, &known);
    let failed = effects.iter().find_map(|effect| match effect {
        Effect::Keep { record, .. } => Some(record.clone()),
        _ => None,
    });
    let mut again = activating([(web(), failed.unwrap())].into());
    again.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    assert_eq!(activated(&settle(&mut again, START, &known)), [1]);
}

#[test]
fn without_a_good_version_a_failed_start_is_a_failure() {
    let known = [statement(1, vec![])];
    let mut agent = activating(BTreeMap::new());
    agent.handle_input(START, desired(&known[0]));
    settle(&mut agent, START, &known);
    outcome(&mut agent, START, Outcome::Failed("exit 1".into()));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects)), (vec![], (1, DeviceState::Failed, None)));
}

#[test]
fn a_way_back_that_fails_is_tried_again_later() {
    let (mut agent, known) = running_one();
    agent.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    settle(&mut agent, START, &known);
    outcome(&mut agent, START, Outcome::Failed("no".into()));
    settle(&mut agent, START, &known);
    outcome(&mut agent, START, Outcome::Failed("the engine is down".into()));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects).1), (vec![], DeviceState::Failed));
    agent.handle_timeout(at(1));
    assert_eq!(activated(&settle(&mut agent, at(1), &known)), [1]);
    outcome(&mut agent, at(1), Outcome::Healthy);
    assert_eq!(last_report(&settle(&mut agent, at(1), &known)).1, DeviceState::RolledBack);
}

#[test]
fn a_device_fetches_at_once_and_starts_when_its_turn_comes() {
    let (mut agent, known) = running_one();
    let steps = staged("0%,1h,100%");
    agent.handle_input(START, rollout("r-2", &known[1], steps.clone(), Some(&known[0])));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects)), (vec![], (2, DeviceState::Waiting, Some(1))));
    agent.handle_input(at(3_500), Input::Polled { at_ms: None });
    let turn = at(3_600);
    assert!(agent.poll_timeout().unwrap() <= turn.monotonic);
    agent.handle_timeout(turn);
    assert_eq!(activated(&settle(&mut agent, turn, &known)), [2]);

    let (mut untrusted, known) = running_one();
    let blind = blind(9_000);
    untrusted.handle_input(blind, rollout("r-2", &known[1], steps, Some(&known[0])));
    assert_eq!(activated(&settle(&mut untrusted, blind, &known)), NOTHING, "without a clock nothing staged is started");
}

#[test]
fn the_share_decides_by_the_devices_position() {
    let known = [statement(1, vec![])];
    let started = (0..50).filter(|n| {
        let id = format!("r-{n}");
        let mut agent = activating(BTreeMap::new());
        agent.handle_input(START, rollout(&id, &known[0], staged("40%,1h,100%"), None));
        let starts = activated(&settle(&mut agent, START, &known)) == [1];
        let share: crate::rollout::steps::Share = "40%".parse().unwrap();
        assert_eq!(starts, share.includes(position(&id.parse().unwrap(), &"kiosk".parse().unwrap())));
        starts
    });
    assert!((8..32).contains(&started.count()));
}

#[test]
fn a_pause_and_an_abort_stop_those_that_did_not_start_and_leave_the_others() {
    for starts in [Starts::Held, Starts::Ended] {
        let held = Activation { starts, ..staged("0%,1h,100%") };
        let (mut waiting, known) = running_one();
        waiting.handle_input(START, rollout("r-2", &known[1], held.clone(), Some(&known[0])));
        assert_eq!(activated(&settle(&mut waiting, at(9_000), &known)), NOTHING);
        waiting.handle_timeout(at(9_000));
        assert_eq!(activated(&settle(&mut waiting, at(9_000), &known)), NOTHING);

        let (mut started, known) = running_one();
        started.handle_input(START, rollout("r-2", &known[1], Activation::default(), Some(&known[0])));
        settle(&mut started, START, &known);
        outcome(&mut started, START, Outcome::Healthy);
        started.handle_input(START, rollout("r-2", &known[1], held, Some(&known[0])));
        let effects = settle(&mut started, START, &known);
        assert_eq!((activated(&effects), last_report(&effects)), (vec![], (2, DeviceState::Healthy, Some(2))));
    }
}

#[test]
fn an_ended_rollout_is_not_fetched_and_a_new_device_gets_the_version_before() {
    let known = [statement(1, vec![]), statement(2, vec![layer("two", false)])];
    let mut agent = activating(BTreeMap::new());
    let ended = Activation { starts: Starts::Ended, ..Activation::default() };
    agent.handle_input(START, rollout("r-2", &known[1], ended, Some(&known[0])));
    let asked: Vec<Effect> = effects(&mut agent);
    assert!(asked.contains(&Effect::AcceptStatement { name: known[0].statement().name(), digest: known[0].digest() }));
    assert!(!asked.iter().any(|effect| matches!(effect, Effect::AcceptStatement { name, .. } if name.version == 2)));
}

#[test]
fn a_device_that_is_cut_off_starts_nothing_after_start_until() {
    let (mut agent, known) = running_one();
    let bounded = Activation { start_until: Some(at(3_000).wall.now), ..staged("0%,1h,100%") };
    agent.handle_input(START, rollout("r-2", &known[1], bounded, Some(&known[0])));
    settle(&mut agent, START, &known);
    agent.handle_timeout(at(4_000));
    assert_eq!(activated(&settle(&mut agent, at(4_000), &known)), NOTHING);
    let renewed = Activation { start_until: Some(at(9_000).wall.now), ..staged("0%,1h,100%") };
    agent.handle_input(at(4_000), rollout("r-2", &known[1], renewed, Some(&known[0])));
    assert_eq!(activated(&settle(&mut agent, at(4_000), &known)), [2]);
}

#[test]
fn a_window_is_waited_for() {
    let (mut agent, known) = running_one();
    // 1,000,000 s after 1970 is 13:46:40.
    let night = Activation { window: Some("14:00-15:00".parse().unwrap()), ..Activation::default() };
    agent.handle_input(START, rollout("r-2", &known[1], night, None));
    assert_eq!(activated(&settle(&mut agent, START, &known)), NOTHING);
    agent.handle_timeout(at(800));
    assert_eq!(activated(&settle(&mut agent, at(800), &known)), [2]);
}

#[test]
fn nothing_below_the_floor_is_started_forward_or_back() {
    let (mut agent, known) = running_one();
    agent.handle_input(START, signed_floor(Some(2)));
    agent.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    assert_eq!(activated(&settle(&mut agent, START, &known)), [2]);
    outcome(&mut agent, START, Outcome::Failed("no".into()));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects).1), (vec![], DeviceState::Failed), "version 1 is below the floor");
    agent.handle_input(START, rollout("r-3", &known[0], Activation::default(), None));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects).1), (vec![], DeviceState::Failed));
    agent.handle_input(START, signed_floor(None));
    assert_eq!(activated(&settle(&mut agent, START, &known)), [1], "the owner took the floor away");
}

#[test]
fn a_device_acts_on_a_group_only_when_its_assignment_names_it_for_the_app() {
    let known = [statement(1, vec![]), statement(2, vec![layer("two", false)])];
    let west = || state_of("west", app_of(&known[1]));
    let decide = |apps: &[(&str, Assigned)]| {
        let mut agent = activating(BTreeMap::new());
        let states = vec![state_of("all", app_of(&known[0])), west()];
        agent.handle_input(START, Input::StateAccepted { assignment: assigned(apps), states });
        activated(&settle(&mut agent, START, &known))
    };
    let group = |name: &str| Assigned::Group(name.parse().unwrap());
    assert_eq!(decide(&[]), [1]);
    assert_eq!(decide(&[("web", group("west"))]), [2]);
    assert_eq!(decide(&[("db", group("west"))]), [1], "it is assigned for another app");
    assert_eq!(decide(&[("web", group("east"))]), NOTHING, "of that group nothing came");
    let pin = Assigned::Pin(Pin { version: 2, statements: [(platform(), known[1].digest())].into() });
    assert_eq!(decide(&[("web", pin)]), [2]);
}

#[test]
fn a_device_that_goes_to_a_group_without_the_app_keeps_what_runs() {
    let (mut agent, known) = running_one();
    let elsewhere = assigned(&[("web", Assigned::Group("west".parse().unwrap()))]);
    agent.handle_input(START, Input::StateAccepted { assignment: elsewhere, states: Vec::new() });
    assert_eq!(activated(&settle(&mut agent, START, &known)), NOTHING);
    agent.handle_input(START, desired(&known[0]));
    assert_eq!(activated(&settle(&mut agent, START, &known)), NOTHING);
}

#[test]
fn a_device_says_its_labels_before_it_asks_for_the_first_time() {
    let labels: Labels = [("site".parse().unwrap(), "north".parse().unwrap())].into();
    let mut agent = Agent::new(Instant::ZERO, Settings { labels: labels.clone(), ..settings() });
    agent.handle_timeout(Now { monotonic: agent.poll_timeout().unwrap(), ..START });
    let told = effects(&mut agent);
    assert!(matches!(told.as_slice(), [Effect::Report(report), Effect::Poll(_)] if report.labels == labels), "{told:?}");
}

#[test]
fn refused_documents_are_told_once_for_each_reason() {
    let mut agent = agent();
    for _ in 0..3 {
        agent.handle_input(START, Input::DocumentRefused { document: "desired_state", reason: "expired" });
    }
    let reports: Vec<Effect> = effects(&mut agent);
    let [Effect::Report(report)] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!(report.refused.keys().collect::<Vec<_>>(), ["desired_state/expired"]);
    agent.handle_input(START, Input::Reported { counter: report.counter });
    agent.handle_input(START, Input::DocumentRefused { document: "desired_state", reason: "expired" });
    assert_eq!(effects(&mut agent), []);
    agent.handle_input(START, Input::DocumentRefused { document: "assignment", reason: "older_counter" });
    let reports = effects(&mut agent);
    assert!(matches!(reports.as_slice(), [Effect::Report(report)] if report.refused["desired_state/expired"] == 4), "{reports:?}");
}

#[test]
fn no_sequence_of_documents_and_failures_starts_a_version_below_the_floor() {
    let known: Vec<AcceptedStatement> = (1..=4).map(|version| statement(version, vec![])).collect();
    for seed in 0..400 {
        let mut draws = 0;
        let mut pick = |limit: u64| {
            draws += 1;
            draw(seed, draws) % limit
        };
        let (mut agent, mut floor, mut record) = (activating(BTreeMap::new()), 0, Record::default());
        for step in 0..40 {
            let now = at(step * 600);
            match pick(8) {
                0 => {
                    let signed = pick(5);
                    floor = signed;
                    agent.handle_input(now, signed_floor(Some(signed)));
                }
                1 => {
                    agent = activating([(web(), record.clone())].into());
                    agent.handle_input(now, signed_floor(Some(floor)));
                }
                2 => outcome(&mut agent, now, Outcome::Failed("no".into())),
                3 | 4 => outcome(&mut agent, now, Outcome::Healthy),
                _ => {
                    let (target, before) = (&known[usize::try_from(pick(4)).unwrap()], &known[usize::try_from(pick(4)).unwrap()]);
                    let activation = if pick(2) == 0 { Activation::default() } else { staged("30%,1h,100%") };
                    agent.handle_input(now, rollout(&format!("r-{step}"), target, activation, Some(before)));
                }
            }
            for effect in settle(&mut agent, now, &known) {
                match effect {
                    Effect::Activate { release, record: kept, .. } => {
                        assert!(release.version >= floor, "seed {seed}: version {} under the floor {floor}", release.version);
                        record = kept;
                    }
                    Effect::Keep { record: kept, .. } => record = kept,
                    _ => {}
                }
            }
        }
    }
}

/// The device is killed again and again while version 2 starts, and wakes up with what it kept.
fn killed_while_starting_two(times: u32) -> (Record, Vec<AcceptedStatement>) {
    let (mut agent, known) = running_one();
    let two = || rollout("r-2", &known[1], Activation::default(), None);
    agent.handle_input(START, two());
    let mut record = kept(&settle(&mut agent, START, &known));
    for _ in 1..times {
        let mut again = activating([(web(), record)].into());
        again.handle_input(START, two());
        let effects = settle(&mut again, START, &known);
        assert_eq!(activated(&effects), [2]);
        record = kept(&effects);
    }
    (record, known)
}

#[test]
fn a_version_with_which_the_device_stops_again_and_again_is_given_up_for_the_last_good_one() {
    let (record, known) = killed_while_starting_two(3);
    let mut agent = activating([(web(), record)].into());
    agent.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    assert_eq!(activated(&settle(&mut agent, START, &known)), [1], "it stopped the device three times");
    outcome(&mut agent, START, Outcome::Healthy);
    let effects = settle(&mut agent, START, &known);
    assert_eq!(last_report(&effects), (2, DeviceState::RolledBack, Some(1)));
    let Some(Effect::Report(report)) = effects.last() else { panic!("{effects:?}") };
    assert!(report.apps[&web()].reason.as_deref().unwrap().contains("stopped 3 times"), "{report:?}");
}

#[test]
fn the_last_good_version_is_never_given_up_but_its_tries_leave_time_to_hear_of_another() {
    let good = Release { version: 1, statement: statement(1, vec![]).digest() };
    let run = Run { release: good, healthy: false, activated: true, tries: 3 };
    let record = Record { running: Some(run), good: Some(good), failed: None };
    let known = [statement(1, vec![]), statement(2, vec![])];
    let mut agent = activating([(web(), record.clone())].into());
    agent.handle_input(START, desired(&known[0]));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects).1), (vec![], DeviceState::Failed));
    agent.handle_timeout(at(8));
    let effects = settle(&mut agent, at(8), &known);
    assert_eq!((activated(&effects), kept(&effects).running.map(|run| run.tries)), (vec![1], Some(4)));

    let mut told = activating([(web(), record)].into());
    told.handle_input(START, desired(&known[0]));
    settle(&mut told, START, &known);
    told.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    assert_eq!(activated(&settle(&mut told, START, &known)), [2]);
}

#[test]
fn a_device_that_is_told_to_stop_does_not_hold_it_against_the_version() {
    let (mut agent, known) = running_one();
    let two = || rollout("r-2", &known[1], Activation::default(), None);
    agent.handle_input(START, two());
    settle(&mut agent, START, &known);
    for _ in 0..5 {
        agent.handle_input(START, Input::Stopping);
        agent = activating([(web(), kept(&effects(&mut agent)))].into());
        agent.handle_input(START, two());
        assert_eq!(activated(&settle(&mut agent, START, &known)), [2]);
    }
}

#[test]
fn a_start_that_could_not_be_tried_is_no_failure() {
    let (mut agent, known) = running_one();
    agent.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    settle(&mut agent, START, &known);
    for n in 0..5 {
        outcome(&mut agent, at(n * 600), Outcome::NotTried("the disk is full".into()));
        let effects = settle(&mut agent, at(n * 600), &known);
        let told: Vec<_> = states(&effects).into_iter().map(|(_, state)| state).collect();
        assert_eq!(told, if n == 0 { vec![DeviceState::Waiting] } else { vec![] }, "try {n}");
        agent.handle_timeout(at((n + 1) * 600));
        assert_eq!(activated(&settle(&mut agent, at((n + 1) * 600), &known)), [2]);
    }
}

#[test]
fn without_a_trusted_clock_start_until_is_kept_by_the_time_since_the_seed_was_heard() {
    let bounded = || Activation { start_until: Some(at(600).wall.now), ..Activation::default() };
    let started = |heard_at: Option<u64>, now: u64| {
        let (mut agent, known) = running_one();
        if let Some(heard) = heard_at {
            agent.handle_input(blind(heard), Input::Polled { at_ms: None });
        }
        let frozen = Now { wall: blind(0).wall, ..at(now) };
        agent.handle_input(frozen, rollout("r-2", &known[1], bounded(), Some(&known[0])));
        activated(&settle(&mut agent, frozen, &known))
    };
    assert_eq!(started(Some(0), 10), [2], "the seed was heard in this run, so the bound is still to come");
    assert_eq!(started(Some(0), 700), NOTHING, "it is over, also if the clock stands still");
    assert_eq!(started(None, 10), NOTHING, "nobody knows how long the device was cut off");
}

#[test]
fn documents_that_expire_while_the_device_runs_start_nothing_any_more() {
    let (mut agent, known) = running_one();
    agent.handle_input(START, rollout("r-2", &known[1], staged("0%,1h,100%"), Some(&known[0])));
    settle(&mut agent, START, &known);
    agent.handle_timeout(at(100_001));
    assert_eq!(activated(&settle(&mut agent, at(100_001), &known)), NOTHING);
    agent.handle_input(at(100_001), signed_floor(None));
    assert_eq!(activated(&settle(&mut agent, at(100_001), &known)), NOTHING);
}

#[test]
fn no_version_is_started_for_the_first_time_after_its_apps_role_has_expired() {
    let role = |expires| Input::Role { app: web(), terms: RoleTerms { floor: None, expires } };
    let (mut agent, known) = running_one();
    agent.handle_input(START, role(at(100).wall.now));
    agent.handle_input(START, rollout("r-2", &known[1], staged("0%,1h,100%"), Some(&known[0])));
    settle(&mut agent, START, &known);
    agent.handle_timeout(at(3_600));
    assert_eq!(activated(&settle(&mut agent, at(3_600), &known)), NOTHING);
    agent.handle_input(at(3_600), role(END));
    assert_eq!(activated(&settle(&mut agent, at(3_600), &known)), [2], "the role was renewed");
    agent.handle_input(at(3_600), role(at(3_600).wall.now));
    outcome(&mut agent, at(3_600), Outcome::Failed("no".into()));
    assert_eq!(activated(&settle(&mut agent, at(3_600), &known)), [1], "the way back is the device's own");
}
