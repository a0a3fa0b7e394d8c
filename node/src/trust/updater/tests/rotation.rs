//! Keys that change: a new root needs the thresholds of the old root and of itself (TUF 1.0 §5.3.4); other roles need
//! that of the newest root.

use super::simulator::{Client, Simulator, reason};

/// The keys of a role, how many must sign, and who did.
struct Step {
    keys: &'static [u8],
    threshold: usize,
    signers: &'static [u8],
}

const fn step(keys: &'static [u8], threshold: usize, signers: &'static [u8]) -> Step {
    Step { keys, threshold, signers }
}

const FIVE: &[u8] = &[10, 1, 2, 3, 4];
const FIVE_CHANGED: &[u8] = &[10, 1, 3, 4, 5];

/// What it is, the roots in order, and whether the last is accepted.
const ROOTS: &[(&str, &[Step], bool)] = &[
    ("one key is replaced", &[step(&[1], 1, &[1]), step(&[2], 1, &[2, 1]), step(&[2], 1, &[2])], true),
    ("signatures of strangers do no harm", &[step(&[1], 1, &[3, 1, 4]), step(&[2], 1, &[3, 2, 1, 4]), step(&[2], 1, &[3, 2, 4])], true),
    (
        "any three of five",
        &[step(FIVE, 3, &[10, 2, 4]), step(FIVE, 3, &[10, 4, 1]), step(FIVE, 3, &[10, 1, 3]), step(FIVE, 3, &[10, 1, 3])],
        true,
    ),
    ("one of five is replaced, and those who stay sign", &[step(FIVE, 3, &[10, 2, 4]), step(FIVE_CHANGED, 3, &[10, 4, 1])], true),
    (
        "one of five is replaced, old and new sign",
        &[step(FIVE, 3, &[10, 2, 4]), step(FIVE_CHANGED, 3, &[10, 2, 4, 5]), step(FIVE_CHANGED, 3, &[10, 4, 5])],
        true,
    ),
    (
        "all five are replaced",
        &[step(FIVE, 3, &[10, 2, 4]), step(&[5, 6, 7, 8, 9], 3, &[10, 2, 4, 5, 6, 7]), step(&[5, 6, 7, 8, 9], 3, &[5, 6, 7])],
        true,
    ),
    ("the threshold rises", &[step(&[1, 2, 3], 1, &[1]), step(&[1, 2, 3], 2, &[1, 2])], true),
    ("the threshold falls", &[step(&[1, 2, 3], 2, &[1, 2]), step(&[1, 2, 3], 1, &[1, 2]), step(&[1, 2, 3], 1, &[1])], true),
    ("a key is added, and both must sign", &[step(&[1], 1, &[1]), step(&[1, 2], 2, &[1, 2])], true),
    ("the old key did not sign", &[step(&[1], 1, &[1]), step(&[2], 1, &[2, 3, 4])], false),
    ("the new key did not sign", &[step(&[1], 1, &[1]), step(&[2], 1, &[1, 3, 4])], false),
    ("too few of the new keys signed", &[step(FIVE, 3, &[10, 2, 4]), step(FIVE_CHANGED, 3, &[10, 2, 4])], false),
    ("too few of the old keys signed", &[step(FIVE, 3, &[10, 2, 4]), step(FIVE_CHANGED, 3, &[10, 4, 5])], false),
    ("the threshold rises, and one signed", &[step(&[1, 2, 3], 1, &[1]), step(&[1, 2, 3], 2, &[2])], false),
    ("the threshold falls, and one signed", &[step(&[1, 2, 3], 2, &[1, 2]), step(&[1, 2, 3], 1, &[1])], false),
];

/// What it is, the new keys of a role below the root, and whether it is accepted.
const OTHERS: &[(&str, Step, bool)] = &[
    ("one key is replaced", step(&[2], 1, &[2]), true),
    ("signatures of strangers do no harm", step(&[1], 1, &[3, 1, 4]), true),
    ("the new key did not sign", step(&[2], 1, &[1, 3, 4]), false),
    ("one of three who signed may not", step(FIVE_CHANGED, 3, &[10, 2, 4]), false),
    ("two of three signed", step(FIVE_CHANGED, 3, &[10, 4]), false),
    ("three of five, first", step(FIVE, 3, &[10, 2, 4]), true),
    ("three of five, second", step(FIVE, 3, &[10, 4, 1]), true),
    ("three of five, third", step(FIVE, 3, &[10, 1, 3]), true),
    ("three of five, fourth", step(FIVE, 3, &[1, 2, 3]), true),
    ("three of five, fifth", step(FIVE, 3, &[2, 3, 4]), true),
];

fn apply(repository: &mut Simulator, role: &str, step: &Step) {
    repository.set_keys(role, step.keys, step.threshold);
    repository.signers.insert(role.into(), step.signers.to_vec());
}

#[tokio::test]
async fn a_new_root_is_signed_by_the_old_keys_and_by_its_own() {
    for (name, steps, accepted) in ROOTS {
        let mut repository = Simulator::new();
        repository.restart("root");
        for step in *steps {
            apply(&mut repository, "root", step);
            repository.publish(&["root"]);
        }
        repository.publish(&["targets", "snapshot", "timestamp"]);
        let client = Client::of(&repository);
        let expected = if *accepted { "accepted" } else { "bad_signature" };
        assert_eq!(reason(client.refresh(&repository).await), expected, "{name}");
        let newest = steps.len() as u64 - u64::from(!*accepted);
        let kept = client.open().unwrap().root().version;
        assert_eq!(kept, newest, "{name}");
    }
}

#[tokio::test]
async fn a_role_below_the_root_is_signed_by_the_keys_that_the_newest_root_names() {
    for (name, step, accepted) in OTHERS {
        for role in ["timestamp", "snapshot", "targets"] {
            let mut repository = Simulator::new();
            let client = Client::of(&repository);
            apply(&mut repository, role, step);
            repository.publish(&["root", "targets", "snapshot", "timestamp"]);
            let expected = if *accepted { "accepted" } else { "bad_signature" };
            assert_eq!(reason(client.refresh(&repository).await), expected, "{role}: {name}");
            assert_eq!(client.version(role).is_some(), *accepted, "{role}: {name}");
        }
    }
}

#[tokio::test]
async fn a_client_that_missed_many_rotations_walks_through_all_of_them() {
    let mut repository = Simulator::new();
    let client = Client::of(&repository);
    for _ in 0..100 {
        let old = repository.signers["root"].clone();
        let new = old.last().map_or(1, |key| key % 90 + 1);
        repository.set_keys("root", &[new], 1);
        repository.signers.insert("root".into(), vec![*old.last().unwrap(), new]);
        repository.publish(&["root"]);
    }
    client.refresh(&repository).await.unwrap();
    assert_eq!(client.open().unwrap().root().version, 101);
}
