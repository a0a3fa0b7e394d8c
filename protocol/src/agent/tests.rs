//! Dialogues with the device's machine.

use super::content::WANTS_MAX;
use super::*;
use crate::geometry::UNIT_BYTES;
use crate::rollout::report::DeviceState;
use crate::statement::TrustToken;
use crate::statement::assignment::{Assigned, Assignment, Pin};
use crate::statement::counters::Counters;
use crate::statement::desired::tests::{accepted, assignment, online, sealed_state};
use crate::statement::desired::{Activation, Before, Counter, DesiredApp, DesiredState, FORMAT, Starts};
use crate::statement::version::{Descriptor, HashListName, Image, StatedBlob, VersionStatement};
use std::sync::OnceLock;

mod starts;
mod turns;

const INTERVAL: Duration = Duration::from_secs(300);

/// The process has one token, and this module's tests are the only ones that keep it.
pub(crate) fn token() -> &'static TrustToken {
    static TOKEN: OnceLock<TrustToken> = OnceLock::new();
    TOKEN.get_or_init(|| TrustToken::take().expect("no other test takes the token"))
}

pub(super) fn platform() -> Platform {
    "linux-amd64".parse().unwrap()
}

fn layer(text: &str, listed: bool) -> StatedBlob {
    let list = HashListName { digest: Digest::sha256(format!("list of {text}").as_bytes()), size: 28 + 32 + 2 * 32 };
    StatedBlob {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        digest: Digest::sha256(text.as_bytes()),
        size: if listed { 2 * UNIT_BYTES } else { 5 },
        hash_list: listed.then_some(list),
    }
}

fn statement(version: u64, layers: Vec<StatedBlob>) -> AcceptedStatement {
    let manifest = Descriptor { media_type: "m".into(), digest: Digest::sha256(&version.to_be_bytes()), size: 8 };
    let image = Image { repository: "acme/web".parse().unwrap(), tag: "1".parse().unwrap(), index: None, manifest, blobs: layers };
    let statement = VersionStatement {
        format: crate::statement::version::FORMAT,
        org: "acme".parse().unwrap(),
        app: "web".parse().unwrap(),
        version,
        platform: platform(),
        images: vec![image],
    };
    let bytes = serde_json::to_vec(&statement).unwrap();
    AcceptedStatement::accept(token(), &statement.org, &statement.name(), &platform(), &bytes).unwrap()
}

/// When every document of these tests expires.
const END: WallTime = WallTime::from_unix_seconds(1_100_000);

fn assigned(apps: &[(&str, Assigned)]) -> AcceptedAssignment {
    accepted(&Assignment { expires: END, ..assignment(1, apps) })
}

/// What a rollout of a version to the group `all` says, once it is accepted.
fn app_of(statement: &AcceptedStatement) -> DesiredApp {
    DesiredApp {
        version: statement.statement().version,
        rollout: "r-1".parse().unwrap(),
        statements: [(platform(), statement.digest())].into(),
        activation: Activation::default(),
        before: None,
    }
}

fn state_of(group: &str, app: DesiredApp) -> AcceptedDesiredState {
    state_with(group, [("web".parse().unwrap(), app)].into())
}

fn state_with(group: &str, apps: BTreeMap<AppName, DesiredApp>) -> AcceptedDesiredState {
    state_counted(group, Counter { epoch: 1, n: 1 }, apps)
}

fn state_counted(group: &str, counter: Counter, apps: BTreeMap<AppName, DesiredApp>) -> AcceptedDesiredState {
    let (org, group) = ("acme".parse().unwrap(), group.parse().unwrap());
    let state = DesiredState { format: FORMAT, org, group, counter, expires: END, apps };
    let assigned = assigned(&[("db", Assigned::Group(state.group.clone()))]);
    let bytes = sealed_state(&state);
    AcceptedDesiredState::accept(&bytes, &online(1), &assigned, &mut Counters::default(), WallTime::default()).unwrap()
}

fn desired_app(app: DesiredApp) -> Input {
    Input::StateAccepted { assignment: assigned(&[]), states: vec![state_of("all", app)] }
}

fn desired(statement: &AcceptedStatement) -> Input {
    desired_app(app_of(statement))
}

fn settings() -> Settings {
    Settings {
        platform: platform(),
        device: "kiosk".parse().unwrap(),
        seed: 1,
        interval: INTERVAL,
        report_counter: 40,
        fresh_at: None,
        activates: false,
        labels: Labels::new(),
        records: BTreeMap::new(),
    }
}

fn agent() -> Agent {
    Agent::new(Instant::ZERO, settings())
}

/// The driver's start; the calendar says 1,000,000 seconds.
const START: Now = Now { monotonic: Instant::ZERO, wall: CheckedTime::trusted(WallTime::from_unix_seconds(1_000_000)) };

fn at(seconds: u64) -> Now {
    let wall = CheckedTime::trusted(START.wall.now.plus_seconds(seconds));
    Now { monotonic: Instant::ZERO + Duration::from_secs(seconds), wall }
}

fn effects(agent: &mut Agent) -> Vec<Effect> {
    std::iter::from_fn(|| agent.poll_effect()).collect()
}

fn states(effects: &[Effect]) -> Vec<(u64, DeviceState)> {
    let state = |effect: &Effect| match effect {
        Effect::Report(report) => Some((report.counter, report.apps.values().next()?.state)),
        _ => None,
    };
    effects.iter().filter_map(state).collect()
}

#[test]
fn polls_soon_after_the_start_then_once_an_interval_in_its_own_phase_and_backs_off_when_it_fails() {
    let mut agent = agent();
    let first = agent.poll_timeout().unwrap();
    assert!(first <= Instant::ZERO + INTERVAL / 10);
    let mut now = Now { monotonic: first, ..START };
    agent.handle_timeout(now);
    assert!(effects(&mut agent).contains(&Effect::Poll(PollFor::Itself)));
    agent.handle_input(now, Input::Reported { counter: 41 });
    assert_eq!(agent.poll_timeout(), None);
    agent.handle_input(now, Input::Polled { at_ms: None });
    let second = agent.poll_timeout().unwrap();
    assert!(second > first && second <= first + INTERVAL);
    now = Now { monotonic: second, wall: CheckedTime::trusted(START.wall.now.plus_seconds(second.since(first).as_secs())) };
    agent.handle_timeout(now);
    agent.handle_input(now, Input::Polled { at_ms: None });
    assert_eq!(agent.poll_timeout(), Some(second + INTERVAL), "in its phase it stays there");
    for _ in 0..20 {
        agent.handle_input(now, Input::PollFailed);
        assert!(agent.poll_timeout().unwrap() <= second + INTERVAL);
    }
}

#[test]
fn the_polls_of_a_fleet_that_started_together_spread_over_the_interval() {
    let next = |seed| {
        let mut agent = Agent::new(Instant::ZERO, Settings { seed, ..settings() });
        agent.handle_input(START, Input::Polled { at_ms: None });
        agent.handle_input(START, Input::Reported { counter: 41 });
        agent.poll_timeout().unwrap().since(Instant::ZERO).as_secs()
    };
    let mut tenths = [0; 10];
    for seed in 0..1_000 {
        tenths[usize::try_from((next(seed) - 1) / 30).unwrap()] += 1;
    }
    assert!(tenths.iter().all(|count| (60..140).contains(count)), "{tenths:?}");
}

#[test]
fn wants_the_list_before_the_blob_and_reports_when_all_is_stored() {
    let now = START;
    let (mut agent, listed) = (agent(), layer("big", true));
    let statement = statement(1, vec![listed.clone()]);
    agent.handle_input(now, desired(&statement));
    let told = effects(&mut agent);
    assert_eq!(told[0], Effect::AcceptStatement { name: statement.statement().name(), digest: statement.digest() });
    assert_eq!(states(&told), [(41, DeviceState::Fetching)]);
    agent.handle_input(now, Input::Reported { counter: 41 });

    agent.handle_input(now, Input::StatementAccepted(statement.clone()));
    let manifest = statement.statement().images[0].manifest.clone();
    let list = listed.hash_list.unwrap();
    let wanted = effects(&mut agent);
    assert!(wanted.contains(&Effect::Want { blob: manifest.digest, size: 8, proof: Proof::Digest }));
    assert!(wanted.contains(&Effect::Want { blob: list.digest, size: list.size, proof: Proof::Digest }));
    assert_eq!(wanted.len(), 2);

    agent.handle_input(now, Input::BlobStored { blob: list.digest });
    assert_eq!(effects(&mut agent), [Effect::Want { blob: listed.digest, size: listed.size, proof: Proof::HashList(list.digest) }]);
    let fetched = |wan_bytes, lan_bytes| Fetched { wan_bytes, lan_bytes };
    agent.handle_input(now, Input::BlobFetched { blob: list.digest, fetched: fetched(100, 0) });
    agent.handle_input(now, Input::BlobFetched { blob: listed.digest, fetched: fetched(30, 4) });
    agent.handle_input(now, Input::BlobStored { blob: listed.digest });
    assert_eq!(agent.poll_event(), None);
    agent.handle_input(now, Input::BlobFetched { blob: manifest.digest, fetched: fetched(0, 8) });
    agent.handle_input(now, Input::BlobStored { blob: manifest.digest });
    let told = effects(&mut agent);
    let said = told.iter().find_map(|effect| match effect {
        Effect::Report(report) => report.apps.values().next()?.fetched,
        _ => None,
    });
    assert_eq!(said, Some(fetched(30, 12)), "of what the version consists of");
    let name = statement.statement().name();
    assert_eq!(agent.poll_event(), Some(Event::VersionStored { name: name.clone() }));
    assert_eq!(agent.poll_event(), Some(Event::VersionStarted { name }));
    assert_eq!(states(&told), [(42, DeviceState::Stored)]);
}

#[test]
fn a_report_that_fails_is_sent_again_with_a_higher_counter() {
    let mut agent = agent();
    agent.handle_input(START, desired(&statement(1, vec![])));
    assert_eq!(states(&effects(&mut agent)), [(41, DeviceState::Fetching)]);
    agent.handle_input(START, Input::ReportFailed);
    let again = agent.poll_timeout().unwrap();
    agent.handle_timeout(Now { monotonic: again, ..START });
    assert_eq!(states(&effects(&mut agent)), [(42, DeviceState::Fetching)]);
}

#[test]
fn a_newer_version_drops_what_only_the_older_one_needed() {
    let mut agent = agent();
    let (older, newer) = (statement(1, vec![layer("a", false), layer("b", false)]), statement(2, vec![layer("b", false)]));
    agent.handle_input(START, desired(&older));
    agent.handle_input(START, Input::StatementAccepted(older));
    effects(&mut agent);
    agent.handle_input(START, desired(&newer));
    assert!(!effects(&mut agent).iter().any(|effect| matches!(effect, Effect::Unwant { .. })), "the newer one may share it");
    agent.handle_input(START, Input::StatementAccepted(newer));
    let told = effects(&mut agent);
    assert!(told.contains(&Effect::Unwant { blob: layer("a", false).digest }));
    assert!(!told.iter().any(|effect| matches!(effect, Effect::Unwant { blob } if *blob == layer("b", false).digest)));
}

#[test]
fn asks_again_for_a_statement_that_could_not_be_had_for_a_while() {
    let (mut agent, statement) = (agent(), statement(1, vec![]));
    let (name, digest) = (statement.statement().name(), statement.digest());
    agent.handle_input(START, desired(&statement));
    effects(&mut agent);
    let refusal = Refusal::Temporary("the disk is full".into());
    agent.handle_input(START, Input::StatementRefused { name: name.clone(), refusal });
    assert_eq!(effects(&mut agent), []);
    agent.handle_input(START, Input::Polled { at_ms: None });
    assert!(effects(&mut agent).contains(&Effect::AcceptStatement { name: name.clone(), digest }));
    agent.handle_input(START, Input::Reported { counter: 41 });
    let refusal = Refusal::Final("it is about something else".into());
    agent.handle_input(START, Input::StatementRefused { name, refusal });
    assert_eq!(states(&effects(&mut agent)), [(42, DeviceState::Failed)]);
}

#[test]
fn wants_a_bounded_number_of_blobs_at_a_time_and_in_the_end_all() {
    let layers: Vec<StatedBlob> = (0..100).map(|n| layer(&n.to_string(), false)).collect();
    let (mut agent, statement) = (agent(), statement(1, layers));
    agent.handle_input(START, desired(&statement));
    agent.handle_input(START, Input::StatementAccepted(statement));
    let mut stored = 0;
    let mut open: Vec<Digest> = Vec::new();
    loop {
        open.extend(effects(&mut agent).into_iter().filter_map(|effect| match effect {
            Effect::Want { blob, .. } => Some(blob),
            _ => None,
        }));
        assert!(open.len() <= WANTS_MAX);
        let Some(blob) = open.pop() else { break };
        agent.handle_input(START, Input::BlobStored { blob });
        stored += 1;
    }
    assert_eq!(stored, 101);
    assert!(matches!(agent.poll_event(), Some(Event::VersionStored { .. })));
}

#[test]
fn a_statement_other_than_the_desired_one_fails_the_version() {
    let mut agent = agent();
    let (named, other) = (statement(1, vec![]), statement(1, vec![layer("evil", false)]));
    agent.handle_input(START, desired(&named));
    effects(&mut agent);
    agent.handle_input(START, Input::Reported { counter: 41 });
    agent.handle_input(START, Input::StatementAccepted(other));
    assert_eq!(states(&effects(&mut agent)), [(42, DeviceState::Failed)]);
    assert!(matches!(agent.poll_event(), Some(Event::VersionFailed { .. })));
}

#[test]
fn an_unusable_list_leaves_the_digest_as_the_only_proof() {
    let mut agent = agent();
    let listed = layer("big", true);
    let statement = statement(1, vec![listed.clone()]);
    agent.handle_input(START, desired(&statement));
    agent.handle_input(START, Input::StatementAccepted(statement));
    let list = listed.hash_list.unwrap().digest;
    agent.handle_input(START, Input::BlobStored { blob: list });
    effects(&mut agent);
    agent.handle_input(START, Input::HashListUnusable { list });
    assert_eq!(effects(&mut agent), [Effect::Want { blob: listed.digest, size: listed.size, proof: Proof::Digest }]);
}

#[test]
fn thousands_of_apps_are_asked_for_a_bounded_number_at_a_time_and_in_the_end_all() {
    let apps: BTreeMap<AppName, DesiredApp> =
        (0..3_000).map(|n| (format!("app{n}").parse().unwrap(), app_of(&statement(1, vec![])))).collect();
    let mut agent = agent();
    agent.handle_input(START, Input::StateAccepted { assignment: assigned(&[]), states: vec![state_with("all", apps)] });
    let (mut open, mut asked) = (VecDeque::new(), 0);
    loop {
        for effect in effects(&mut agent) {
            match effect {
                Effect::AcceptStatement { name, .. } => open.push_back(name),
                Effect::Report(report) => agent.handle_input(START, Input::Reported { counter: report.counter }),
                _ => {}
            }
        }
        assert!(open.len() + 3 <= ERRANDS_MAX, "a driver with a queue for {ERRANDS_MAX} would have to wait");
        let Some(name) = open.pop_front() else { break };
        asked += 1;
        agent.handle_input(START, Input::StatementRefused { name, refusal: Refusal::Final("no".into()) });
    }
    assert_eq!(asked, 3_000);
}

#[test]
fn a_late_answer_about_another_statement_of_the_version_is_not_taken_for_the_one_that_is_wanted() {
    let (named, other) = (statement(1, vec![]), statement(1, vec![layer("other", false)]));
    let mut agent = agent();
    agent.handle_input(START, desired(&named));
    effects(&mut agent);
    agent.handle_input(START, desired(&other));
    agent.handle_input(START, Input::StatementAccepted(named));
    let wanted = Effect::AcceptStatement { name: other.statement().name(), digest: other.digest() };
    assert!(effects(&mut agent).contains(&wanted));
    assert_eq!(agent.poll_event(), None);
}

#[test]
fn a_device_to_which_nothing_acceptable_is_said_for_a_week_reports_that_it_is_stale() {
    const DAY: u64 = 86_400;
    let mut agent = agent();
    agent.handle_input(at(0), Input::Polled { at_ms: None });
    assert!(effects(&mut agent).contains(&Effect::KeepFresh { at: at(0).wall.now }));
    let stale = |agent: &mut Agent| {
        let mut reports = effects(agent).into_iter().filter_map(|effect| match effect {
            Effect::Report(report) => Some((report.counter, report.stale)),
            _ => None,
        });
        reports.next_back()
    };
    agent.handle_input(at(7 * DAY - 1), Input::PollFailed);
    agent.handle_input(at(7 * DAY - 1), Input::Reported { counter: 41 });
    assert_eq!(stale(&mut agent), None);
    agent.handle_input(at(7 * DAY), Input::PollFailed);
    assert_eq!(stale(&mut agent), Some((42, true)));
    agent.handle_input(at(7 * DAY), Input::Reported { counter: 42 });
    agent.handle_input(at(7 * DAY), Input::Polled { at_ms: None });
    assert_eq!(stale(&mut agent), Some((43, false)));
    let events: Vec<Event> = std::iter::from_fn(|| agent.poll_event()).collect();
    assert_eq!(events, [Event::Stale { is_stale: true }, Event::Stale { is_stale: false }]);
}
