//! Which roles are visited for a target, and in which order.

use super::super::ROLES_VISITED_MAX;
use super::simulator::{Client, NOW, Simulator, reason};

/// Delegator, role, pattern, whether it ends the search elsewhere.
type Edge = (&'static str, &'static str, &'static str, bool);

/// What it is, the delegations, and the roles that are asked for on the way to a target that nobody lists.
const GRAPHS: &[(&str, &[Edge], &[&str])] = &[
    ("one", &[("targets", "A", "*", false)], &["A"]),
    ("two", &[("targets", "A", "*", false), ("targets", "B", "*", false)], &["A", "B"]),
    ("two levels", &[("targets", "A", "*", false), ("targets", "B", "*", false), ("B", "C", "*", false)], &["A", "B", "C"]),
    (
        "depth before breadth",
        &[("targets", "A", "*", false), ("targets", "B", "*", false), ("A", "C", "*", false), ("A", "D", "*", false)],
        &["A", "C", "D", "B"],
    ),
    (
        "depth before breadth, three levels",
        &[("targets", "A", "*", false), ("targets", "B", "*", false), ("A", "C", "*", false), ("C", "D", "*", false)],
        &["A", "C", "D", "B"],
    ),
    (
        "a terminating role ends the search",
        &[("targets", "A", "*", false), ("targets", "B", "*", false), ("A", "C", "*", true), ("A", "D", "*", false)],
        &["A", "C"],
    ),
    (
        "a terminating role's own are searched",
        &[("targets", "A", "*", false), ("targets", "B", "*", false), ("A", "C", "*", true), ("C", "D", "*", false)],
        &["A", "C", "D"],
    ),
    (
        "a pattern that does not match closes the branch",
        &[("targets", "A", "*.py", false), ("targets", "B", "*", false), ("A", "C", "*", false)],
        &["B"],
    ),
    (
        "a pattern that does not match closes the branch below",
        &[("targets", "A", "*", false), ("targets", "B", "*", false), ("A", "C", "*.py", false), ("C", "D", "*", false)],
        &["A", "B"],
    ),
    (
        "a circle ends",
        &[
            ("targets", "A", "*", false),
            ("targets", "B", "*", false),
            ("B", "C", "*", false),
            ("C", "D", "*", false),
            ("D", "B", "*", false),
        ],
        &["A", "B", "C", "D"],
    ),
    (
        "a role with two delegators is visited once",
        &[("targets", "A", "*", false), ("targets", "B", "*", false), ("B", "C", "*", false), ("A", "C", "*", false)],
        &["A", "C", "B"],
    ),
    (
        "a role with two delegators is reached through the one whose pattern matches",
        &[("targets", "A", "*", false), ("targets", "B", "*", false), ("B", "C", "*", false), ("A", "C", "*.py", false)],
        &["A", "B", "C"],
    ),
];

fn publish(repository: &mut Simulator, edges: &[Edge]) {
    for (delegator, role, pattern, terminating) in edges {
        repository.delegate(delegator, role, &[pattern], *terminating);
    }
    let mut roles: Vec<&str> = edges.iter().map(|edge| edge.1).collect();
    roles.sort_unstable();
    roles.dedup();
    roles.extend(["targets", "snapshot", "timestamp"]);
    repository.publish(&roles);
}

/// The roles asked for after the four of every refresh.
fn visited(repository: &Simulator) -> Vec<String> {
    let requests = repository.take_requests();
    requests[4..].iter().map(|name| name.strip_prefix("1.").unwrap().strip_suffix(".json").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn roles_are_visited_depth_first_in_the_order_of_the_delegations() {
    for (name, edges, expected) in GRAPHS {
        let mut repository = Simulator::new();
        publish(&mut repository, edges);
        let client = Client::of(&repository);
        assert_eq!(client.find(&repository, "missing").await.unwrap(), None, "{name}");
        assert_eq!(visited(&repository), *expected, "{name}");
    }
}

#[tokio::test]
async fn a_target_is_found_where_every_role_on_the_way_may_list_it() {
    for (path, expected) in [
        ("targetfile", Some([].as_slice())),
        ("README.md", Some(&["A"])),
        ("releases/x/x_v1", Some(&["B", "C"])),
        ("releases/y/y_v1.zip", Some(&["B", "D"])),
        ("foo-1.tgz", Some(&["A"])),
        ("releases/z/z_v1.zip", None),
        ("releases/README.md", None),
        ("foo-alpha.tgz", None),
        ("README.MD", None),
    ] {
        let mut repository = Simulator::new();
        repository.delegate("targets", "A", &["*.doc", "*.md", "foo-?.tgz"], false);
        repository.delegate("targets", "B", &["releases/*/*"], false);
        repository.delegate("B", "C", &["releases/x/*"], false);
        repository.delegate("B", "D", &["releases/y/*.zip"], false);
        for (role, path) in [
            ("targets", "targetfile"),
            ("A", "README.md"),
            ("A", "releases/README.md"),
            ("A", "foo-1.tgz"),
            ("A", "foo-alpha.tgz"),
            ("C", "releases/x/x_v1"),
            ("D", "releases/y/y_v1.zip"),
            ("D", "releases/z/z_v1.zip"),
        ] {
            repository.add_artifact(role, path, format!("{path} by {role}").as_bytes(), &["sha256"]);
        }
        repository.publish(&["A", "B", "C", "D", "targets", "snapshot", "timestamp"]);
        let found = Client::of(&repository).find(&repository, path).await.unwrap();
        let roles = expected.map(|roles| [&["targets"], roles].concat());
        assert_eq!(found.map(|found| found.roles), roles.map(|roles| roles.into_iter().map(str::to_owned).collect()), "{path}");
    }
}

#[tokio::test]
async fn a_role_that_is_kept_must_satisfy_the_delegator_through_which_it_is_reached() {
    let mut repository = Simulator::new();
    for (parent, pattern) in [("parent-a", "team-a/*"), ("parent-b", "team-b/*")] {
        repository.delegate("targets", parent, &[pattern], false);
    }
    let key = repository.delegate("parent-a", "release", &["team-a/*"], false);
    repository.delegate("parent-b", "release", &["team-b/*"], false);
    repository.signers.insert("release".into(), vec![key]);
    repository.add_artifact("release", "team-a/file", b"trusted", &["sha256"]);
    repository.add_artifact("release", "team-b/file", b"malicious", &["sha256"]);
    repository.publish(&["release", "parent-a", "parent-b", "targets", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    let mut updater = client.open().unwrap();
    updater.refresh(NOW, &repository, None).await.unwrap();
    assert!(updater.find("team-a/file", NOW, &repository).await.unwrap().is_some());
    assert_eq!(reason(updater.find("team-b/file", NOW, &repository).await), "bad_signature");
}

#[tokio::test]
async fn a_role_that_the_snapshot_does_not_list_is_not_asked_for() {
    let mut repository = Simulator::new();
    repository.delegate("targets", "delegated", &["delegated/*"], false);
    repository.publish(&["delegated", "targets"]);
    repository.role("snapshot")["meta"].as_object_mut().unwrap().remove("delegated.json");
    repository.publish(&["snapshot", "timestamp"]);
    let client = Client::of(&repository);
    client.refresh(&repository).await.unwrap();
    repository.take_requests();
    assert_eq!(client.find(&repository, "delegated/foo").await.unwrap(), None);
    assert_eq!(repository.take_requests(), ["2.root.json", "timestamp.json"]);
    assert_eq!(client.version("delegated"), None);
}

#[tokio::test]
async fn a_role_may_have_any_name_and_escapes_no_folder() {
    for (role, file) in [("?", "%3F"), ("#", "%23"), ("/delegatedrole", "%2Fdelegatedrole"), ("../delegatedrole", "..%2Fdelegatedrole")] {
        let mut repository = Simulator::new();
        repository.delegate("targets", role, &["*"], false);
        repository.publish(&[role, "targets", "snapshot", "timestamp"]);
        let client = Client::of(&repository);
        assert_eq!(client.find(&repository, "missing").await.unwrap(), None);
        assert_eq!(repository.take_requests().last().unwrap(), &format!("1.{file}.json"));
        assert_eq!(client.version(role), Some(1));
    }
}

#[tokio::test]
async fn a_delegation_cannot_take_the_name_of_a_top_level_role() {
    for role in ["root", "timestamp", "snapshot"] {
        let mut repository = Simulator::new();
        let named = repository.role("targets");
        named["delegations"] = serde_json::json!({"keys": {}, "roles": [
            {"name": role, "keyids": [], "threshold": 1, "terminating": false, "paths": ["*"]}
        ]});
        repository.publish(&["targets", "snapshot", "timestamp"]);
        let client = Client::of(&repository);
        assert_eq!(client.find(&repository, "missing").await.unwrap(), None);
        assert_eq!(repository.take_requests().len(), 4, "{role}");
    }
}

#[tokio::test]
async fn a_search_ends_after_so_many_roles() {
    let mut repository = Simulator::new();
    let names: Vec<String> = (0..ROLES_VISITED_MAX + 5).map(|number| format!("role-{number}")).collect();
    let mut parent = "targets";
    for name in &names {
        repository.delegate(parent, name, &["*"], false);
        parent = name;
    }
    let mut roles: Vec<&str> = names.iter().map(String::as_str).collect();
    roles.extend(["targets", "snapshot", "timestamp"]);
    repository.publish(&roles);
    assert_eq!(Client::of(&repository).find(&repository, "missing").await.unwrap(), None);
    assert_eq!(repository.take_requests().len(), 4 + ROLES_VISITED_MAX - 1);
}
