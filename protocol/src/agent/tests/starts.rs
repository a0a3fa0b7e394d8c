//! Dialogues about starts: whose turn it is, what is kept, and the way back.

use super::*;
use crate::rendezvous::draw;
use crate::rollout::steps::position;

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
    Activation { since: START.calendar.unwrap(), steps: steps.parse().unwrap(), ..Activation::default() }
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
    agent.handle_input(at(3_500), Input::Polled);
    let turn = at(3_600);
    assert!(agent.poll_timeout().unwrap() <= turn.monotonic);
    agent.handle_timeout(turn);
    assert_eq!(activated(&settle(&mut agent, turn, &known)), [2]);

    let (mut untrusted, known) = running_one();
    let blind = Now { calendar: None, ..at(9_000) };
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
fn a_device_that_is_cut_off_starts_nothing_after_the_bound() {
    let (mut agent, known) = running_one();
    let bounded = Activation { start_until: Some(at(3_000).calendar.unwrap()), ..staged("0%,1h,100%") };
    agent.handle_input(START, rollout("r-2", &known[1], bounded, Some(&known[0])));
    settle(&mut agent, START, &known);
    agent.handle_timeout(at(4_000));
    assert_eq!(activated(&settle(&mut agent, at(4_000), &known)), NOTHING);
    let renewed = Activation { start_until: Some(at(9_000).calendar.unwrap()), ..staged("0%,1h,100%") };
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
    agent.handle_input(START, Input::Floor { app: web(), floor: Some(2) });
    agent.handle_input(START, rollout("r-2", &known[1], Activation::default(), None));
    assert_eq!(activated(&settle(&mut agent, START, &known)), [2]);
    outcome(&mut agent, START, Outcome::Failed("no".into()));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects).1), (vec![], DeviceState::Failed), "version 1 is below the floor");
    agent.handle_input(START, rollout("r-3", &known[0], Activation::default(), None));
    let effects = settle(&mut agent, START, &known);
    assert_eq!((activated(&effects), last_report(&effects).1), (vec![], DeviceState::Failed));
    agent.handle_input(START, Input::Floor { app: web(), floor: None });
    assert_eq!(activated(&settle(&mut agent, START, &known)), [1], "the owner took the floor away");
}

#[test]
fn a_device_acts_on_a_group_only_when_its_assignment_names_it_for_the_app() {
    let known = [statement(1, vec![]), statement(2, vec![layer("two", false)])];
    let west = || state_of("west", app_of(&known[1]));
    let decide = |apps: &[(&str, Assigned)]| {
        let mut agent = activating(BTreeMap::new());
        let states = vec![state_of("all", app_of(&known[0])), west()];
        agent.handle_input(START, Input::StateAccepted { assignment: accepted(&assignment(1, apps)), states });
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
    let elsewhere = assignment(2, &[("web", Assigned::Group("west".parse().unwrap()))]);
    agent.handle_input(START, Input::StateAccepted { assignment: accepted(&elsewhere), states: Vec::new() });
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
    assert!(matches!(told.as_slice(), [Effect::Report(report), Effect::Poll] if report.labels == labels), "{told:?}");
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
                    agent.handle_input(now, Input::Floor { app: web(), floor: Some(signed) });
                }
                1 => {
                    agent = activating([(web(), record.clone())].into());
                    agent.handle_input(now, Input::Floor { app: web(), floor: Some(floor) });
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
