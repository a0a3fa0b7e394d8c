//! Claims about what several people sign, what they are told, and what a seed takes.

use super::super::change::{KeysWanted, RootWanted, check_change, prepare_apps, prepare_root};
use super::super::fixture::{Counted, Fixture, NOW};
use super::super::online_key::OnlineSigner;
use super::super::updater::Refreshed;
use super::*;
use crate::transport::authorities::{Authorities, named};
use protocol::digest::Digest;
use protocol::identity::authorities::SeedAuthorities;

/// Another person with one key, who trusts the same root.
fn person(fixture: &Fixture, name: &str) -> OperatorKeys {
    let dir = fixture.home.path().join(name);
    let keys = OperatorKeys::generate_named(&dir, &fixture.org, &[name], None).unwrap();
    keys.store_trusted_root(&fixture.keys.trusted_root().unwrap()).unwrap();
    keys
}

async fn view(fixture: &Fixture, name: &str) -> VerifiedRepository {
    let source = Counted::new(&fixture.served);
    let mut view = fixture.open(name);
    view.refresh(NOW, &source, None).await.unwrap();
    for app in view.apps() {
        view.published(&app, &source).await.unwrap();
    }
    view
}

async fn proposal(fixture: &Fixture, view: &VerifiedRepository, change: TrustChange) -> Proposal {
    let made = Proposal::new(view, &Counted::new(&fixture.served), Change::Trust(change)).await.unwrap();
    Proposal::parse(made.to_text().as_bytes()).unwrap()
}

fn trust_change(proposal: &Proposal) -> &TrustChange {
    match &proposal.change {
        Change::Trust(change) => change,
        Change::Version(_) => panic!("no change of trust"),
    }
}

async fn take(fixture: &mut Fixture, proposal: &Proposal) -> Result<(), PublicationRefused> {
    let source = Counted::new(&fixture.served);
    let authorities = SeedAuthorities { current: Digest::sha256(b"ca"), next: None };
    let (_, files) = check_change(&fixture.org, &source, trust_change(proposal), &fixture.signer, &authorities, NOW).await?;
    fixture.serve(files);
    Ok(())
}

fn says(read: &Read, text: &str) -> bool {
    read.words.iter().any(|line| line.contains(text))
}

#[tokio::test]
async fn two_people_make_a_root_of_two_keys_and_both_must_sign_from_then_on() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let bob = person(&fixture, "bob");
    let wanted = KeysWanted { add: vec![bob.public("bob").unwrap()], remove: Vec::new(), threshold: Some(2) };
    let operator = view(&fixture, "operator").await;
    let change = prepare_root(&operator, &fixture.keys, Some(("root", &wanted)), &RootWanted::default(), NOW).unwrap();
    let mut proposed = proposal(&fixture, &operator, change).await;
    let anchor = fixture.keys.trusted_root().unwrap();
    let read = proposed.read(&anchor).unwrap();
    assert!(says(&read, "may sign from now on") && says(&read, "2 of 2 keys must sign"), "{:?}", read.words);
    assert_eq!(proposed.missing(&read).unwrap().len(), 1, "the new root wants bob too");
    let refused = take(&mut fixture, &proposed).await.unwrap_err();
    assert_eq!(refused.reason(), "bad_signature");

    assert_eq!(proposed.sign(&read, &bob).unwrap(), 1);
    assert_eq!(proposed.sign(&read, &bob).unwrap(), 0, "once");
    assert!(proposed.missing(&read).unwrap().is_empty());
    take(&mut fixture, &proposed).await.unwrap();

    let mut device = fixture.open("device");
    assert_eq!(device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap(), Refreshed::Updated);
    let operator = view(&fixture, "operator").await;
    let wanted = KeysWanted { threshold: Some(1), ..KeysWanted::default() };
    let change = prepare_root(&operator, &fixture.keys, Some(("root", &wanted)), &RootWanted::default(), NOW).unwrap();
    let mut alone = proposal(&fixture, &operator, change).await;
    assert_eq!(take(&mut fixture, &alone).await.unwrap_err().reason(), "bad_signature", "the old threshold counts");
    let read = alone.read(&anchor).unwrap();
    alone.sign(&read, &bob).unwrap();
    take(&mut fixture, &alone).await.unwrap();
}

#[tokio::test]
async fn a_stolen_app_key_is_rotated_out_and_signs_nothing_any_more() {
    let mut fixture = Fixture::new();
    for version in 1..=52 {
        fixture.publish("web", version).await;
    }
    fixture.publish("api", 1).await;
    let thief = OperatorKeys::load(fixture.keys.dir().parent().unwrap(), &fixture.org).unwrap();
    let stolen = fixture.keys.keyid("app").unwrap();
    let new = fixture.keys.replace("app", None).unwrap();
    let operator = view(&fixture, "operator").await;
    let wanted = KeysWanted { add: vec![new], remove: vec![stolen], threshold: None };
    let change = prepare_apps(&operator, &fixture.keys, &operator.apps(), &wanted, None, NOW).unwrap();
    assert_eq!(change.roles.len(), 2, "one each; the archive stays as it is");
    let proposed = proposal(&fixture, &operator, change).await;
    let read = proposed.read(&fixture.keys.trusted_root().unwrap()).unwrap();
    assert!(says(&read, "may not sign any more"));
    assert!(proposed.missing(&read).unwrap().is_empty());
    take(&mut fixture, &proposed).await.unwrap();

    let operator = view(&fixture, "operator").await;
    assert_eq!(operator.apps().len(), 2);
    let name = protocol::statement::version::VersionName { app: "api".parse().unwrap(), version: 2 };
    let by_thief = super::super::publication::prepare_version(&operator, &thief, fixture.new_version(&name), NOW);
    assert_eq!(by_thief.unwrap_err().reason(), "foreign_key");
    fixture.publish("api", 2).await;
    fixture.publish("web", 53).await;
}

#[tokio::test]
async fn a_floor_that_goes_down_is_named_and_refused_unless_it_is_said() {
    let mut fixture = Fixture::new();
    fixture.floor = Some(1);
    fixture.publish("web", 1).await;
    let operator = view(&fixture, "operator").await;
    let change = prepare_apps(&operator, &fixture.keys, &operator.apps(), &KeysWanted::default(), Some(0), NOW).unwrap();
    let proposed = proposal(&fixture, &operator, change.clone()).await;
    let read = proposed.read(&fixture.keys.trusted_root().unwrap()).unwrap();
    assert_eq!(read.lowered, ["app-web: the floor goes down from 1 to 0"]);
    assert_eq!(take(&mut fixture, &proposed).await.unwrap_err().reason(), "lowers_floor");
    let said = proposal(&fixture, &operator, TrustChange { lower_floor: true, ..change }).await;
    take(&mut fixture, &said).await.unwrap();
}

#[tokio::test]
async fn a_proposal_that_is_old_foreign_or_does_more_is_refused() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let operator = view(&fixture, "operator").await;
    let change = prepare_apps(&operator, &fixture.keys, &operator.apps(), &KeysWanted::default(), None, NOW).unwrap();
    let proposed = proposal(&fixture, &operator, change).await;
    let stranger = Fixture::new();
    let foreign = proposed.read(&stranger.keys.trusted_root().unwrap()).unwrap_err();
    assert_eq!(foreign.reason(), "bad_signature");
    take(&mut fixture, &proposed).await.unwrap();
    assert_eq!(take(&mut fixture, &proposed).await.unwrap_err().reason(), "stale");

    let operator = view(&fixture, "operator").await;
    let mut change = prepare_apps(&operator, &fixture.keys, &operator.apps(), &KeysWanted::default(), None, NOW).unwrap();
    let mut document: Value = serde_json::from_str(&change.roles[0].content).unwrap();
    document["signed"]["targets"]["web/2/linux-amd64.json"] = metadata::target_entry(b"later");
    change.roles[0].content = metadata::sign(&document["signed"], &[fixture.keys.secret("app").unwrap()]);
    let more = proposal(&fixture, &operator, change).await;
    assert!(says(&more.read(&fixture.keys.trusted_root().unwrap()).unwrap(), "lists web/2/linux-amd64.json"));
    assert_eq!(take(&mut fixture, &more).await.unwrap_err().reason(), "other_targets");
}

#[tokio::test]
async fn a_new_root_must_leave_the_seed_able_to_sign_and_the_epoch_where_it_is_or_higher() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let operator = view(&fixture, "operator").await;
    let other = RootWanted { online: Some(fixture.keys.public("app").unwrap()), ..RootWanted::default() };
    let change = prepare_root(&operator, &fixture.keys, None, &other, NOW).unwrap();
    let locked_out = proposal(&fixture, &operator, change).await;
    assert_eq!(take(&mut fixture, &locked_out).await.unwrap_err().reason(), "bad_change");

    let raised = RootWanted { raise_epoch: true, grants: Some(true), ..RootWanted::default() };
    let change = prepare_root(&operator, &fixture.keys, None, &raised, NOW).unwrap();
    let raised = proposal(&fixture, &operator, change).await;
    let read = raised.read(&fixture.keys.trusted_root().unwrap()).unwrap();
    assert!(says(&read, "from 1 to 2") && says(&read, "grants of the app keys count"), "{:?}", read.words);
    take(&mut fixture, &raised).await.unwrap();
    let operator = view(&fixture, "operator").await;
    assert_eq!((operator.online_key().epoch, operator.allows_grants()), (2, true));
}

#[tokio::test]
async fn another_online_key_raises_the_epoch_and_ends_a_fast_forward() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let pins = fixture.files(None).await.pins().unwrap();
    let forward = fixture.signer.online_files((u64::MAX, u64::MAX), &pins, NOW);
    fixture.serve(forward.into());
    let mut device = view(&fixture, "device").await;
    let operator = view(&fixture, "operator").await;
    fixture.signer = OnlineSigner::load_or_generate(&fixture.home.path().join("second.pem")).unwrap();
    let wanted = RootWanted { online: Some(fixture.signer.public_key()), ..RootWanted::default() };
    let mut change = prepare_root(&operator, &fixture.keys, None, &wanted, NOW).unwrap();
    let proposed = proposal(&fixture, &operator, change.clone()).await;
    let root = change.root.as_mut().unwrap();
    let mut same_epoch: Value = serde_json::from_str(&root.content).unwrap();
    same_epoch["signed"]["x-hedgerow"]["online"]["epoch"] = json!(1);
    root.content = metadata::sign(&same_epoch["signed"], &[fixture.keys.secret("root").unwrap()]);
    let same_epoch = proposal(&fixture, &operator, change).await;
    assert_eq!(take(&mut fixture, &same_epoch).await.unwrap_err().reason(), "bad_change");

    take(&mut fixture, &proposed).await.unwrap();
    device.refresh(NOW, &Counted::new(&fixture.served), None).await.unwrap();
    assert_eq!((device.online_key().epoch, device.online_key().key), (2, fixture.signer.public_key()));
    let versions: Vec<u64> = device.roles_in_force().unwrap().iter().filter(|role| role.is_online).map(|role| role.version).collect();
    assert_eq!(versions, [1, 1]);
}

#[tokio::test]
async fn the_keys_of_the_top_level_targets_change_with_a_root_and_new_targets() {
    let mut fixture = Fixture::new();
    fixture.publish("web", 1).await;
    let old = fixture.keys.keyid("targets").unwrap();
    let new = fixture.keys.replace("targets", None).unwrap();
    let operator = view(&fixture, "operator").await;
    let wanted = KeysWanted { add: vec![new], remove: vec![old[..8].to_owned()], threshold: None };
    let change = prepare_root(&operator, &fixture.keys, Some(("targets", &wanted)), &RootWanted::default(), NOW).unwrap();
    let without = TrustChange { targets: None, ..change.clone() };
    let without = proposal(&fixture, &operator, without).await;
    assert_eq!(take(&mut fixture, &without).await.unwrap_err().reason(), "bad_signature");
    let proposed = proposal(&fixture, &operator, change).await;
    take(&mut fixture, &proposed).await.unwrap();
    fixture.publish("api", 1).await;
}

#[tokio::test]
async fn whoever_signs_is_told_which_certificate_authorities_devices_trust_and_the_seed_takes_no_root_that_loses_them() {
    let mut fixture = Fixture::new();
    let home = tempfile::tempdir().unwrap();
    Authorities::load_or_create(home.path()).unwrap();
    let authorities = Authorities::rotate(home.path()).unwrap();
    let (current, next) = (named(authorities.current()), named(authorities.next().unwrap()));
    let seed = authorities.fingerprints();
    for (wanted, words, is_taken) in [
        (vec![next.clone()], vec![format!("trust certificates of the authority {}", seed.next.unwrap())], false),
        (vec![current.clone(), next.clone()], vec![format!("trust certificates of the authority {}", seed.next.unwrap())], true),
        (vec![next], vec![format!("trust no certificate of the authority {}", seed.current)], true),
    ] {
        let view = view(&fixture, "laptop").await;
        let wanted = RootWanted { authorities: Some(wanted), ..RootWanted::default() };
        let change = prepare_root(&view, &fixture.keys, None, &wanted, NOW).unwrap();
        let proposal = proposal(&fixture, &view, change).await;
        let read = proposal.read(&fixture.keys.trusted_root().unwrap()).unwrap();
        assert!(words.iter().all(|words| says(&read, words)), "{:?}", read.words);
        let source = Counted::new(&fixture.served);
        let checked = check_change(&fixture.org, &source, trust_change(&proposal), &fixture.signer, &seed, NOW).await;
        match checked {
            Ok((_, files)) if is_taken => fixture.serve(files),
            Err(refused) if !is_taken => assert!(refused.to_string().contains("name both first"), "{refused}"),
            other => panic!("{other:?}"),
        }
    }
}
