//! Tags that stay, tags that expire, and versions that are taken out of use, as operators and container tools see it.
//!
//! Not here: the rules one by one, which the crates `protocol` and `node` test.

use std::process::Command;
use std::thread;

use serde_json::Value;
use tests::client::Skopeo;
use tests::http;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;
use tests::wait;

/// An image that differs from those of other numbers, in a layout of its own.
fn image(seed: &Seed, number: u64, tag: &str) -> Layout {
    Layout::write(&seed.scratch(&format!("image-{number}-{tag}")), tag, &[("amd64", &[&Layer::random(number, 20_000)])])
}

fn skopeo_push(seed: &Seed, layout: &Layout, to: &str) -> Outcome {
    let credentials = format!("anyone:{}", seed.org().access_key);
    Skopeo::push(&layout.path, &layout.tag, &format!("{}/{to}", seed.host()), Some(&credentials))
}

fn ask(seed: &Seed, method: &str, path: &str) -> http::Answer {
    let authorization = format!("Bearer {}", seed.org().access_key);
    http::send(method, &format!("{}{path}", seed.url()), &[("Authorization", &authorization)], &[])
}

/// What `repo show` says of each tag: its name, its digest, and what becomes of it.
fn tags(shown: &Value) -> Vec<(&str, &str, bool, Option<&str>)> {
    let tags = shown["tags"].as_array().unwrap_or_else(|| panic!("repo show printed {shown}"));
    tags.iter()
        .map(|tag| {
            let name = tag["tag"].as_str().unwrap_or_default();
            (name, tag["digest"].as_str().unwrap_or_default(), tag["expires"].is_u64(), tag["kept"].as_str())
        })
        .collect()
}

#[test]
fn skopeo_is_told_why_it_cannot_move_an_immutable_tag() {
    if !program::is_there("skopeo") {
        return;
    }
    let seed = Seed::start();
    let (one, two) = (image(&seed, 1, "1.0"), image(&seed, 2, "1.0"));
    seed.run_operator(&["repo", "set", "acme/*", "--immutable", "on", "--json"]).json();
    skopeo_push(&seed, &one, "acme/web:1.0").succeeded();
    skopeo_push(&seed, &one, "acme/web:1.0").succeeded();
    let refused = skopeo_push(&seed, &two, "acme/web:1.0");
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("is immutable (setting of acme/*)"), "{}", refused.stderr);

    let signature = format!("acme/web:{}.sig", one.digest.replace(':', "-"));
    for layout in [&one, &two] {
        skopeo_push(&seed, layout, &signature).succeeded();
    }
    let deleted = Outcome::of(
        Command::new("skopeo")
            .args(["delete", "--tls-verify=false", "--creds", &format!("anyone:{}", seed.org().access_key)])
            .arg(format!("docker://{}/acme/web:1.0", seed.host())),
    );
    assert_ne!(deleted.code, Some(0), "deleted an immutable tag");
    let shown = seed.run_operator(&["repo", "show", "acme/web", "--json"]).json();
    assert_eq!(shown["from"]["immutable"], "acme/*");
    assert!(tags(&shown).contains(&("1.0", one.digest.as_str(), false, None)), "{shown}");

    seed.run_operator(&["repo", "set", "acme/web", "--immutable", "off"]).succeeded();
    skopeo_push(&seed, &two, "acme/web:1.0").succeeded();
    let listed = seed.run_operator(&["repo", "list", "acme", "--json"]).json();
    assert_eq!((&listed["repositories"][0]["repository"], &listed["repositories"][0]["tags"]), (&"acme/web".into(), &2.into()), "{listed}");
}

#[test]
fn of_pushes_that_race_for_an_immutable_tag_one_wins() {
    let seed = Seed::start();
    seed.run_operator(&["repo", "set", "acme/web", "--immutable", "v*"]).succeeded();
    let layouts: Vec<Layout> = (0..8).map(|number| image(&seed, number, "any")).collect();
    for layout in &layouts {
        seed.push(&seed.org(), "acme/web", layout);
    }
    let push = |layout: &Layout| {
        let authorization = format!("Bearer {}", seed.org().access_key);
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
        http::send("PUT", &format!("{}/v2/acme/web/manifests/v1", seed.url()), &headers, &layout.blob(&layout.digest))
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let pushes: Vec<_> = layouts.iter().map(|layout| scope.spawn(|| push(layout))).collect();
        pushes.into_iter().map(|push| push.join().expect("the push was answered")).collect()
    });
    let winners: Vec<_> = layouts.iter().zip(&answers).filter(|(_, answer)| answer.status == 201).map(|(layout, _)| layout).collect();
    let [winner] = winners.as_slice() else { panic!("{} pushes won", winners.len()) };
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert!(answer.status == 403 && answer.text().contains("DENIED"), "{} {}", answer.status, answer.text());
    }
    assert_eq!(ask(&seed, "GET", "/v2/acme/web/manifests/v1").body, winner.blob(&winner.digest));
    assert_eq!(push(winner).status, 201);
}

#[test]
fn tags_beyond_the_newest_expire_at_the_next_run_unless_a_version_needs_them() {
    let mut seed = Seed::start();
    for number in 1..=4 {
        seed.push(&seed.org(), "acme/web", &image(&seed, number, &format!("t{number}")));
    }
    seed.run_operator(&["app", "publish", "acme/web:t1", "--json"]).json();
    seed.run_operator(&["repo", "set", "acme/*", "--keep-last", "2"]).succeeded();
    let shown = seed.run_operator(&["repo", "show", "acme/web", "--json"]).json();
    let fates: Vec<_> = tags(&shown).into_iter().map(|(tag, _, expires, kept)| (tag, expires, kept)).collect();
    let newest = Some("keep_last");
    assert_eq!(fates, [("t1", false, Some("version")), ("t2", true, None), ("t3", false, newest), ("t4", false, newest)], "{shown}");

    assert!(seed.stop().success());
    seed.run(&[]);
    wait::until("t2 to expire", || !seed.log.events("tag_expired").is_empty());
    let expired = seed.log.events("tag_expired");
    assert_eq!((expired.len(), &expired[0]["tag"], &expired[0]["repository"]), (1, &"t2".into(), &"acme/web".into()), "{expired:?}");
    assert_eq!(ask(&seed, "GET", "/v2/acme/web/manifests/t2").status, 404);
    let left = ask(&seed, "GET", "/v2/acme/web/tags/list").text();
    assert!(left.contains(r#"["t1","t3","t4"]"#), "{left}");
}

#[test]
fn a_retired_version_is_gone_and_says_why_and_its_statement_stays() {
    let seed = Seed::start();
    for number in 1..=2 {
        seed.publish("acme/web", &image(&seed, number, &number.to_string()));
    }
    seed.start_rollout("acme/web", 1);
    let version = "/api/v1/orgs/acme/apps/web/versions/1";
    let retire = || seed.run_operator(&["app", "retire", "acme/web", "--version", "1", "--reason", "leaks tokens"]);
    let refused = retire().failed();
    assert!(refused.contains("hedgerow rollout start acme/web --version N --group all"), "{refused}");
    assert_eq!(ask(&seed, "GET", version).status, 200);
    let digest = ask(&seed, "HEAD", "/v2/acme/web/manifests/1").header("docker-content-digest").unwrap().to_owned();
    let denied = ask(&seed, "DELETE", &format!("/v2/acme/web/manifests/{digest}"));
    assert_eq!((denied.status, denied.text().contains("hedgerow app retire")), (403, true), "{}", denied.text());

    seed.start_rollout("acme/web", 2);
    retire().succeeded();
    retire().succeeded();
    let gone = ask(&seed, "GET", version);
    assert_eq!(gone.status, 410);
    assert!(gone.text().contains("leaks tokens") && gone.text().contains(r#""code":"retired""#), "{}", gone.text());
    let started = seed.run_operator(&["rollout", "start", "acme/web", "--version", "1", "--group", "all"]).failed();
    assert!(started.contains("leaks tokens"), "{started}");

    let versions = seed.run_operator(&["app", "versions", "acme/web", "--json"]).json();
    assert_eq!(versions["versions"][0]["retired"]["reason"], "leaks tokens", "{versions}");
    assert!(versions["versions"][1].get("retired").is_none(), "{versions}");
    let shown = seed.run_operator(&["app", "show", "acme/web", "--version", "1", "--json"]).json();
    assert_eq!(shown["retired"]["reason"], "leaks tokens", "{shown}");
    assert_eq!(shown["statements"]["linux-amd64"]["images"][0]["tag"], "1", "{shown}");
    let unknown = seed.run_operator(&["app", "show", "acme/web", "--version", "9"]).failed();
    assert!(unknown.contains("hedgerow app versions acme/web"), "{unknown}");
}

#[test]
fn settings_that_make_no_sense_are_refused_with_what_to_do() {
    let seed = Seed::start();
    let refused = seed.run_operator(&["repo", "set", "acme/*", "--public", "on"]).failed();
    assert!(refused.contains("under its own name"), "{refused}");
    let set = seed.run_operator(&["repo", "set", "acme/web", "--public", "on", "--keep-days", "30", "--json"]).json();
    assert_eq!(set["settings"], serde_json::json!({"public": true, "keep_days": 30}), "{set}");
    seed.run_operator(&["repo", "set", "acme/web", "--clear"]).succeeded();
    assert_eq!(ask(&seed, "GET", "/api/v1/orgs/acme/repository-settings").text(), "{}");
    seed.run_operator(&["repo", "set", "acme/web"]).exited_with(2);
    let other = seed.create_org("other");
    for arguments in [["repo", "show", "acme/web"], ["repo", "list", "acme"], ["repo", "show", "none/web"]] {
        let refused = seed.operator(&other, &arguments).failed();
        assert!(refused.contains("belongs to the organisation"), "{refused}");
    }
}
