//! Access keys are made, listed and revoked, and tokens are got for them, as container tools and scripts do it.
//!
//! Not here: which scope opens what, which the crate `node` tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::client::{Podman, Skopeo};
use tests::http::{self, Answer};
use tests::image::{Layer, Layout, blobs_in};
use tests::process::Outcome;
use tests::program;
use tests::seed::{Organisation, Seed};

/// Makes a key of the first organisation.
#[track_caller]
fn create(seed: &Seed, scopes: &str, more: &[&str]) -> Value {
    let arguments = ["key", "create", "--org", "acme", "--scope", scopes, "--json"];
    seed.run_operator(&[&arguments, more].concat()).json()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn ask(seed: &Seed, method: &str, path: &str, authorization: Option<&str>) -> Answer {
    let headers: Vec<_> = authorization.map(|value| ("Authorization", value)).into_iter().collect();
    http::send(method, &format!("{}{path}", seed.url()), &headers, &[])
}

/// A token that is got with GET, HTTP Basic and any user name.
#[track_caller]
fn token(seed: &Seed, key: &str, scope: &str) -> String {
    let basic = format!("Basic {}", STANDARD.encode(format!("anyone:{key}")));
    let path = format!("/auth/token?account=anyone&service={}&scope={scope}", seed.host());
    let answer = ask(seed, "GET", &path, Some(&basic));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = serde_json::from_slice(&answer.body).expect("a token comes in JSON");
    assert!(answer["expires_in"].as_u64().is_some_and(|seconds| seconds >= 60), "{answer}");
    text(&answer, "token").to_owned()
}

fn image(seed: &Seed) -> Layout {
    Layout::write(&seed.scratch("image"), "1.0", &[("amd64", &[&Layer::random(1, 100_000)])])
}

#[test]
fn keys_are_made_shown_once_listed_and_revoked() {
    let seed = Seed::start();
    let made = create(&seed, "pull,push", &["--label", "ci of web", "--expires", "90d"]);
    let (id, key) = (text(&made, "id"), text(&made, "access_key"));
    assert_eq!((text(&made, "org"), &made["scopes"]), ("acme", &json!(["pull", "push"])));
    assert!(text(&made, "expires").ends_with('Z'), "{made}");
    let forever = create(&seed, "admin", &[]);
    assert_eq!(forever["expires"], Value::Null);
    let dated = create(&seed, "pull", &["--expires", "2999-01-31"]);
    assert_eq!(text(&dated, "expires"), "2999-01-31T00:00:00Z");

    let listed = seed.run_operator(&["key", "list", "--org", "acme", "--json"]).json();
    let keys = listed["keys"].as_array().expect("key list prints keys");
    assert_eq!(keys.len(), 4, "with the one of `seed init`: {listed}");
    let ours = keys.iter().find(|listed| listed["id"] == id).expect("the key is listed");
    assert_eq!((text(ours, "label"), &ours["scopes"], &ours["expires"]), ("ci of web", &made["scopes"], &made["expires"]));
    let secret = key.rsplit('_').next().expect("a key has parts");
    assert!(!listed.to_string().contains(secret), "a secret is listed");
    let shown = seed.run_operator(&["key", "list", "--org", "acme"]).succeeded().stdout;
    assert!(shown.contains(id) && shown.contains("ci of web") && !shown.contains(secret), "{shown}");
    let data = Outcome::of(std::process::Command::new("grep").args(["-r", "-l", secret]).arg(seed.data()));
    assert_eq!(data.exited_with(1).stdout, "", "the secret is kept by the seed");

    let bearer = format!("Bearer {key}");
    assert_eq!(ask(&seed, "GET", "/v2/", Some(&bearer)).status, 200);
    let pull = format!("Bearer {}", token(&seed, key, "repository:acme/web:pull"));
    assert_eq!(ask(&seed, "GET", "/v2/acme/web/tags/list", Some(&pull)).status, 404);
    let revoked = seed.run_operator(&["key", "revoke", id, "--org", "acme", "--json"]).json();
    assert_eq!(revoked["id"], id);
    for (path, authorization) in [("/v2/", &bearer), ("/v2/acme/web/tags/list", &pull), ("/api/v1/orgs", &bearer)] {
        assert_eq!(ask(&seed, "GET", path, Some(authorization)).status, 401, "{path}");
    }
    assert!(seed.run_operator(&["key", "revoke", id, "--org", "acme"]).failed().contains("does not exist"));
}

#[test]
fn keys_that_would_lock_everybody_out_or_reach_too_far_are_refused() {
    let seed = Seed::start();
    let other = seed.create_org("other");
    let last = other.access_key.split('_').nth(1).expect("a key has parts").to_owned();
    let refused = seed.operator(&other, &["key", "revoke", &last, "--org", "other"]).failed();
    assert!(refused.contains("make another one first"), "{refused}");
    assert!(seed.operator(&other, &["key", "create", "--org", "other", "--scope", "seed"]).failed().contains("seed"));
    seed.operator(&other, &["key", "create", "--org", "acme", "--scope", "pull"]).failed();
    seed.run_operator(&["key", "create", "--org", "acme", "--scope", "write"]).exited_with(2);
    let advised = seed.run_operator(&["key", "create", "--org", "acme", "--scope", "push"]).succeeded();
    assert!(advised.stdout.contains("hgk_") && advised.stderr.contains("pull,push"), "{}", advised.stderr);
    seed.run_operator(&["key", "create", "--org", "acme", "--scope", "pull", "--expires", "soon"]).exited_with(2);
    assert!(
        seed.run_operator(&["key", "create", "--org", "acme", "--scope", "pull", "--expires", "2020-01-01"]).failed().contains("expired")
    );

    assert_eq!(seed.run_operator(&["org", "list", "--json"]).json(), json!({ "orgs": [{ "org": "acme" }, { "org": "other" }] }));
    assert_eq!(seed.operator(&other, &["org", "list", "--json"]).json(), json!({ "orgs": [{ "org": "other" }] }));
    seed.operator(&other, &["key", "create", "--org", "other", "--scope", "admin", "--json"]).json();
    seed.operator(&other, &["key", "revoke", &last, "--org", "other"]).succeeded();
}

#[test]
fn skopeo_and_podman_log_in_once_and_then_do_what_the_key_may() {
    if !program::is_there("skopeo") || !program::is_there("podman") {
        return;
    }
    let seed = Seed::start();
    let layout = image(&seed);
    let target = format!("docker://{}/acme/web:1.0", seed.host());
    let skopeo = |auth_file: &str, arguments: &[&str]| {
        let auth_file = seed.scratch(auth_file);
        let mut command = std::process::Command::new("skopeo");
        Outcome::of(command.arg("--insecure-policy").args(arguments).env("REGISTRY_AUTH_FILE", auth_file))
    };
    let push = |auth_file| {
        let source = format!("oci:{}:1.0", layout.path.display());
        skopeo(auth_file, &["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", &source, &target])
    };
    let login = |auth_file, key: &Value| {
        let arguments = ["login", "--tls-verify=false", "--username", "anyone", "--password", text(key, "access_key"), seed.host()];
        skopeo(auth_file, &arguments).succeeded();
    };
    let (pusher, puller) = (create(&seed, "pull,push", &[]), create(&seed, "pull", &[]));
    login("pusher.json", &pusher);
    login("puller.json", &puller);
    assert_ne!(push("puller.json").code, Some(0), "pushed with a key that may only pull");
    push("pusher.json").succeeded();
    assert_ne!(skopeo("pusher.json", &["delete", "--tls-verify=false", &target]).code, Some(0));
    let back = seed.scratch("back");
    let to = format!("oci:{}:1.0", back.display());
    skopeo("puller.json", &["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", &target, &to]).succeeded();
    assert_eq!(blobs_in(&back), layout.images[0].blobs());

    let podman = Podman::new();
    let key = text(&puller, "access_key");
    podman.run(&["login", "--tls-verify=false", "--username", "anyone", "--password", key, seed.host()]).succeeded();
    podman.run(&["pull", "--quiet", "--tls-verify=false", &format!("{}/acme/web:1.0", seed.host())]).succeeded();
    seed.run_operator(&["key", "revoke", text(&puller, "id"), "--org", "acme"]).succeeded();
    assert_ne!(skopeo("puller.json", &["inspect", "--tls-verify=false", &target]).code, Some(0), "the key was revoked");
    assert_ne!(Skopeo::pull(&target["docker://".len()..], &seed.scratch("anonymous"), "1.0", None).code, Some(0));
}

#[test]
fn a_script_gets_tokens_as_the_challenge_says() {
    let seed = Seed::start();
    let layout = image(&seed);
    seed.push(&seed.org(), "acme/web", &layout);
    let Organisation { access_key: key, .. } = seed.org();
    let manifest = "/v2/acme/web/manifests/1.0";
    let stranger = ask(&seed, "GET", manifest, None);
    let challenge = format!(r#"Bearer realm="http://{0}/auth/token",service="{0}",scope="repository:acme/web:pull""#, seed.host());
    assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, Some(challenge.as_str())));
    let get = token(&seed, &key, "repository:acme/web:pull");
    let form = format!("grant_type=password&username=anyone&password={key}&service={}&scope=repository%3Aacme%2Fweb%3Apull", seed.host());
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let posted = http::send("POST", &format!("{}/auth/token", seed.url()), &headers, form.as_bytes());
    let posted: Value = serde_json::from_slice(&posted.body).expect("a token comes in JSON");
    assert_eq!(posted["scope"], "repository:acme/web:pull");
    for token in [&get, text(&posted, "access_token")] {
        let bearer = format!("Bearer {token}");
        assert_eq!(ask(&seed, "GET", manifest, Some(&bearer)).body, layout.blob(&layout.digest));
        let insufficient = ask(&seed, "DELETE", manifest, Some(&bearer));
        let challenge = insufficient.header("www-authenticate").expect("a challenge").to_owned();
        assert!(challenge.ends_with(r#"scope="repository:acme/web:delete",error="insufficient_scope""#), "{challenge}");
        for path in ["/api/v1/orgs", "/api/v1/orgs/acme/keys", "/tuf/acme/timestamp.json"] {
            assert_eq!(ask(&seed, "GET", path, Some(&bearer)).status, 401, "{path}: tokens open the registry alone");
        }
    }
    assert_eq!(ask(&seed, "GET", "/auth/token", Some("Bearer nonsense")).status, 401);
}

#[test]
fn tokens_outlive_a_restart_and_name_the_proxy_in_front() {
    let mut seed = Seed::start();
    let key = seed.org().access_key;
    let bearer = format!("Bearer {}", token(&seed, &key, "repository:acme/web:pull"));
    seed.stop();
    seed.run(&[]);
    assert_eq!(ask(&seed, "GET", "/v2/", Some(&bearer)).status, 200);
    seed.stop();
    let settings = seed.data().join("seed.toml");
    let written = std::fs::read_to_string(&settings).expect("seed init wrote its settings");
    std::fs::write(&settings, format!("public_url = \"https://registry.example\"\n{written}")).expect("settings can be written");
    let shown = Outcome::of(program::hedgerow().args(["config", "show", "--json", "--data"]).arg(seed.data())).json();
    assert_eq!(shown["public_url"], "https://registry.example");
    assert_eq!(shown["limits"]["uploads_max"], 512, "also what the file leaves out: {shown}");
    seed.run(&[]);
    let challenge = ask(&seed, "GET", "/v2/", None).header("www-authenticate").expect("a challenge").to_owned();
    assert_eq!(challenge, r#"Bearer realm="https://registry.example/auth/token",service="registry.example""#);
    assert_eq!(ask(&seed, "GET", "/v2/", Some(&bearer)).status, 401, "the token is for another service");
    assert_eq!(ask(&seed, "GET", "/v2/", Some(&format!("Bearer {key}"))).status, 200);
}
