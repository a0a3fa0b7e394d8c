//! Dialogues with the device's machine.

use super::*;
use crate::envelope::Envelope;
use crate::geometry::UNIT_BYTES;
use crate::statement::TrustToken;
use crate::statement::desired::{DesiredApp, DesiredState, FORMAT, GROUP_ALL, OnlineKey, PAYLOAD_TYPE};
use crate::statement::version::{Descriptor, Image, VersionStatement};
use crate::time::WallTime;
use ed25519_dalek::{Signer, SigningKey};
use std::sync::OnceLock;

const INTERVAL: Duration = Duration::from_secs(300);

/// The process has one token, and this module's tests are the only ones that keep it.
pub(crate) fn token() -> &'static TrustToken {
    static TOKEN: OnceLock<TrustToken> = OnceLock::new();
    TOKEN.get_or_init(|| TrustToken::take().expect("no other test takes the token"))
}

fn platform() -> Platform {
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

fn desired(n: u64, statement: &AcceptedStatement) -> AcceptedDesiredState {
    let key = SigningKey::from_bytes(&[7; 32]);
    let app =
        DesiredApp { version: statement.statement().version, rollout: "r".into(), statements: [(platform(), statement.digest())].into() };
    let state = DesiredState {
        format: FORMAT,
        org: "acme".parse().unwrap(),
        group: GROUP_ALL.into(),
        counter: Counter { epoch: 1, n },
        expires: WallTime::from_unix_seconds(10),
        apps: [("web".parse().unwrap(), app)].into(),
    };
    let envelope = Envelope::seal(PAYLOAD_TYPE, &serde_json::to_vec(&state).unwrap(), "k", |bytes| key.sign(bytes));
    let online = OnlineKey { org: state.org, epoch: 1, key: key.verifying_key() };
    let bytes = serde_json::to_vec(&envelope).unwrap();
    AcceptedDesiredState::accept(&bytes, &online, GROUP_ALL, None, WallTime::default()).unwrap()
}

fn agent() -> Agent {
    Agent::new(Instant::ZERO, platform(), 1, INTERVAL, 40)
}

fn effects(agent: &mut Agent) -> Vec<Effect> {
    std::iter::from_fn(|| agent.poll_effect()).collect()
}

fn states(effects: &[Effect]) -> Vec<(u64, DeviceState)> {
    let state = |effect: &Effect| match effect {
        Effect::Report(report) => Some((report.counter, report.apps.values().next().unwrap().state)),
        _ => None,
    };
    effects.iter().filter_map(state).collect()
}

#[test]
fn polls_soon_after_the_start_then_once_an_interval_and_backs_off_when_it_fails() {
    let mut agent = agent();
    let first = agent.poll_timeout().unwrap();
    assert!(first <= Instant::ZERO + INTERVAL / 10);
    agent.handle_timeout(first);
    assert_eq!(effects(&mut agent), [Effect::Poll]);
    assert_eq!(agent.poll_timeout(), None);
    agent.handle_input(first, Input::Unchanged);
    assert_eq!(agent.poll_timeout(), Some(first + INTERVAL));
    for _ in 0..20 {
        agent.handle_input(first, Input::PollFailed);
        assert!(agent.poll_timeout().unwrap() <= first + INTERVAL);
    }
}

#[test]
fn wants_the_list_before_the_blob_and_reports_when_all_is_stored() {
    let now = Instant::ZERO;
    let (mut agent, listed) = (agent(), layer("big", true));
    let statement = statement(1, vec![listed.clone()]);
    agent.handle_input(now, Input::StateAccepted(desired(1, &statement)));
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
    agent.handle_input(now, Input::BlobStored { blob: listed.digest });
    assert_eq!(agent.poll_event(), None);
    agent.handle_input(now, Input::BlobStored { blob: manifest.digest });
    assert_eq!(agent.poll_event(), Some(Event::VersionStored { name: statement.statement().name() }));
    assert_eq!(states(&effects(&mut agent)), [(42, DeviceState::Stored)]);
}

#[test]
fn a_report_that_fails_is_sent_again_with_a_higher_counter() {
    let mut agent = agent();
    agent.handle_input(Instant::ZERO, Input::StateAccepted(desired(1, &statement(1, vec![]))));
    assert_eq!(states(&effects(&mut agent)), [(41, DeviceState::Fetching)]);
    agent.handle_input(Instant::ZERO, Input::ReportFailed);
    let again = agent.poll_timeout().unwrap();
    agent.handle_timeout(again);
    assert_eq!(states(&effects(&mut agent)), [(42, DeviceState::Fetching)]);
}

#[test]
fn a_newer_version_drops_what_only_the_older_one_needed() {
    let mut agent = agent();
    let (older, newer) = (statement(1, vec![layer("a", false), layer("b", false)]), statement(2, vec![layer("b", false)]));
    agent.handle_input(Instant::ZERO, Input::StateAccepted(desired(1, &older)));
    agent.handle_input(Instant::ZERO, Input::StatementAccepted(older));
    effects(&mut agent);
    agent.handle_input(Instant::ZERO, Input::StateAccepted(desired(2, &newer)));
    assert!(!effects(&mut agent).iter().any(|effect| matches!(effect, Effect::Unwant { .. })), "the newer one may share it");
    agent.handle_input(Instant::ZERO, Input::StatementAccepted(newer));
    let told = effects(&mut agent);
    assert!(told.contains(&Effect::Unwant { blob: layer("a", false).digest }));
    assert!(!told.iter().any(|effect| matches!(effect, Effect::Unwant { blob } if *blob == layer("b", false).digest)));
}

#[test]
fn asks_again_for_a_statement_that_could_not_be_had_for_a_while() {
    let (mut agent, statement) = (agent(), statement(1, vec![]));
    let (name, digest) = (statement.statement().name(), statement.digest());
    agent.handle_input(Instant::ZERO, Input::StateAccepted(desired(1, &statement)));
    effects(&mut agent);
    let refusal = Refusal::Temporary("the disk is full".into());
    agent.handle_input(Instant::ZERO, Input::StatementRefused { name: name.clone(), refusal });
    assert_eq!(effects(&mut agent), []);
    agent.handle_input(Instant::ZERO, Input::Unchanged);
    assert_eq!(effects(&mut agent), [Effect::AcceptStatement { name: name.clone(), digest }]);
    agent.handle_input(Instant::ZERO, Input::Reported { counter: 41 });
    let refusal = Refusal::Final("it is about something else".into());
    agent.handle_input(Instant::ZERO, Input::StatementRefused { name, refusal });
    assert_eq!(states(&effects(&mut agent)), [(42, DeviceState::Failed)]);
}

#[test]
fn wants_a_bounded_number_of_blobs_at_a_time_and_in_the_end_all() {
    let layers: Vec<StatedBlob> = (0..100).map(|n| layer(&n.to_string(), false)).collect();
    let (mut agent, statement) = (agent(), statement(1, layers));
    agent.handle_input(Instant::ZERO, Input::StateAccepted(desired(1, &statement)));
    agent.handle_input(Instant::ZERO, Input::StatementAccepted(statement));
    let mut stored = 0;
    let mut open: Vec<Digest> = Vec::new();
    loop {
        open.extend(effects(&mut agent).into_iter().filter_map(|effect| match effect {
            Effect::Want { blob, .. } => Some(blob),
            _ => None,
        }));
        assert!(open.len() <= WANTS_MAX);
        let Some(blob) = open.pop() else { break };
        agent.handle_input(Instant::ZERO, Input::BlobStored { blob });
        stored += 1;
    }
    assert_eq!(stored, 101);
    assert!(matches!(agent.poll_event(), Some(Event::VersionStored { .. })));
}

#[test]
fn a_statement_other_than_the_desired_one_fails_the_version() {
    let mut agent = agent();
    let (named, other) = (statement(1, vec![]), statement(1, vec![layer("evil", false)]));
    agent.handle_input(Instant::ZERO, Input::StateAccepted(desired(1, &named)));
    effects(&mut agent);
    agent.handle_input(Instant::ZERO, Input::Reported { counter: 41 });
    agent.handle_input(Instant::ZERO, Input::StatementAccepted(other));
    assert_eq!(states(&effects(&mut agent)), [(42, DeviceState::Failed)]);
    assert!(matches!(agent.poll_event(), Some(Event::VersionFailed { .. })));
}

#[test]
fn an_unusable_list_leaves_the_digest_as_the_only_proof() {
    let mut agent = agent();
    let listed = layer("big", true);
    let statement = statement(1, vec![listed.clone()]);
    agent.handle_input(Instant::ZERO, Input::StateAccepted(desired(1, &statement)));
    agent.handle_input(Instant::ZERO, Input::StatementAccepted(statement));
    let list = listed.hash_list.unwrap().digest;
    agent.handle_input(Instant::ZERO, Input::BlobStored { blob: list });
    effects(&mut agent);
    agent.handle_input(Instant::ZERO, Input::HashListUnusable { list });
    assert_eq!(effects(&mut agent), [Effect::Want { blob: listed.digest, size: listed.size, proof: Proof::Digest }]);
}
