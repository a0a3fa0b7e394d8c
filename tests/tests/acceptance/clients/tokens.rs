//! How clients get tokens: what they are challenged with, whom they ask and how, and what they do when a token is not enough.
//!
//! Not here: which token allows what, case by case, which the crate `node` tests.

use tests::registry::Registry;
use tests::seed::Seed;
use tests::token::{self, Challenge};

use super::artifact::{Content, MANIFEST, end, push_artifact, with_token};

/// The scope for pulling from and pushing to a repository.
const PULL_PUSH: &str = "repository:acme/web:pull,push";

fn start() -> (Seed, Registry, Registry) {
    let seed = Seed::start_with_tls();
    let registry = Registry::new(&seed, &seed.org()).anonymous();
    let basic = registry.authorized_by(token::basic("anyone", &seed.org().access_key));
    (seed, registry, basic)
}

/// Quirk 5 and 19: the first request is GET /v2/ without credentials; its 401 has the version header of the protocol, and
/// realm and service, which podman, skopeo and buildah use for all that follows.
#[test]
fn podman_is_challenged_at_its_first_request_and_uses_that_challenge_for_all_others() {
    let (seed, registry, basic) = start();
    let first = registry.ask("GET", "/v2/").gives(401).with("Docker-Distribution-Api-Version", "registry/2.0");
    let challenge = Challenge::of(&first);
    assert_eq!(challenge.realm, format!("{}/auth/token", seed.url()));
    assert_eq!(challenge.error, None, "nothing was wrong with what was sent");

    let blob = Content::random("application/octet-stream", 1, 1000);
    let token = token::by_get(&basic, &challenge, &[("account", "anyone")], &[PULL_PUSH]);
    let pushing = registry.authorized_by(token);
    pushing.ask("GET", "/v2/").gives(200).with("Docker-Distribution-Api-Version", "registry/2.0");
    let location = pushing.ask("POST", "/v2/acme/web/blobs/uploads/").gives(202).location();
    let location = pushing.ask("PATCH", &location).streamed(&blob.bytes).gives(202).location();
    pushing.ask("PUT", &end(&location, &blob)).octets(&[]).gives(201);
}

/// Quirk 17: containerd posts a form with its secret and all scopes in one field, separated by spaces; as docker does, it
/// asks for a token that does not end, and goes on without.
#[test]
fn containerd_posts_its_secret_and_gets_a_token_for_all_scopes_at_once() {
    let (seed, registry, _) = start();
    let challenge = Challenge::of(&registry.ask("HEAD", "/v2/acme/mobile/manifests/1.0").answer());
    assert_eq!(challenge.scope.as_deref(), Some("repository:acme/mobile:pull"));
    let key = &seed.org().access_key;
    let grant = [("grant_type", "password"), ("client_id", "containerd-client"), ("username", "anyone"), ("password", key.as_str())];
    let more = [&grant[..], &[("access_type", "offline")]].concat();
    let token = token::by_post(&registry, &challenge, &more, &["repository:acme/mobile:pull,push", "repository:acme/web:pull"]);
    let client = registry.authorized_by(token);
    client.ask("HEAD", "/v2/acme/mobile/manifests/1.0").gives(404);
    client.ask("HEAD", "/v2/acme/web/manifests/1.0").gives(404);
    client.ask("POST", "/v2/acme/mobile/blobs/uploads/").gives(202);
    let refused = Challenge::of(&client.ask("POST", "/v2/acme/web/blobs/uploads/").answer());
    assert_eq!(refused.scope.as_deref(), Some("repository:acme/web:pull,push"));
}

/// Quirk 17: when the form is refused, containerd asks by GET, with one `scope` for each scope. A wrong secret is 401 both
/// times, so that it stops there.
#[test]
fn containerd_falls_back_to_get_with_repeated_scopes() {
    let (_seed, registry, basic) = start();
    let challenge = Challenge::of(&registry.ask("HEAD", "/v2/acme/web/manifests/1.0").answer());
    let form = format!("grant_type=authorization_code&service={}", tests::http::escaped(&challenge.service));
    let unknown_grant = registry.ask("POST", &challenge.realm).body("application/x-www-form-urlencoded", form.as_bytes()).answer();
    assert!((400..500).contains(&unknown_grant.status()), "{}", unknown_grant.status());
    let token = token::by_get(&basic, &challenge, &[], &["repository:acme/web:pull", "repository:acme/mobile:pull,push"]);
    let client = registry.authorized_by(token);
    client.ask("HEAD", "/v2/acme/web/manifests/1.0").gives(404);
    client.ask("POST", "/v2/acme/mobile/blobs/uploads/").gives(202);

    let wrong = registry.authorized_by(token::basic("anyone", "no-key"));
    wrong.ask("GET", &format!("{}?service={}", challenge.realm, tests::http::escaped(&challenge.service))).gives(401);
    let form = format!("grant_type=password&username=anyone&password=no-key&service={}", tests::http::escaped(&challenge.service));
    registry.ask("POST", &challenge.realm).body("application/x-www-form-urlencoded", form.as_bytes()).gives(401);
}

/// Quirk 23: podman and docker send what they were given as an identity token as `refresh_token`; a key is one.
#[test]
fn docker_refreshes_a_token_with_its_key_as_the_identity_token() {
    let (seed, registry, _) = start();
    let challenge = Challenge::of(&registry.ask("GET", "/v2/").answer());
    let key = &seed.org().access_key;
    let grant = [("grant_type", "refresh_token"), ("client_id", "docker"), ("refresh_token", key.as_str())];
    let token = token::by_post(&registry, &challenge, &grant, &[PULL_PUSH]);
    registry.authorized_by(token).ask("POST", "/v2/acme/web/blobs/uploads/").gives(202);
}

/// Quirk 25: helm 3.18 uses its token for pulling to push, and gets a better one only when it is told 401 and the whole
/// challenge. Never 403.
#[test]
fn helm_whose_token_is_for_pulling_is_challenged_when_it_pushes() {
    let (_seed, registry, basic) = start();
    let challenge = Challenge::of(&registry.ask("HEAD", "/v2/acme/web/manifests/1.0").answer());
    let pulling = registry.authorized_by(token::by_get(&basic, &challenge, &[], &["repository:acme/web:pull"]));
    pulling.ask("HEAD", "/v2/acme/web/manifests/1.0").gives(404);
    for (method, path) in [("POST", "/v2/acme/web/blobs/uploads/"), ("PUT", "/v2/acme/web/manifests/1.0")] {
        let again = Challenge::of(&pulling.ask(method, path).refused(401, "UNAUTHORIZED"));
        assert_eq!((&again.realm, &again.service), (&challenge.realm, &challenge.service));
        assert_eq!((again.scope.as_deref(), again.error.as_deref()), (Some(PULL_PUSH), Some("insufficient_scope")), "{method}");
    }
    let again = Challenge::of(&pulling.ask("POST", "/v2/acme/web/blobs/uploads/").answer());
    let pushing = registry.authorized_by(token::by_get(&basic, &again, &[], &[again.scope.as_deref().expect("a scope")]));
    pushing.ask("POST", "/v2/acme/web/blobs/uploads/").gives(202);
}

/// Quirk 18: of the scopes asked for, those are granted that the key has; the request itself does not fail.
#[test]
fn a_key_for_pulling_gets_a_token_for_pulling_when_it_asks_for_more() {
    let (seed, registry, _) = start();
    let made = seed.run_operator(&["key", "create", "--org", "acme", "--scope", "pull", "--json"]).json();
    let key = made["access_key"].as_str().expect("key create prints access_key");
    let basic = registry.authorized_by(token::basic("anyone", key));
    let challenge = Challenge::of(&registry.ask("GET", "/v2/").answer());
    let client = registry.authorized_by(token::by_get(&basic, &challenge, &[], &[PULL_PUSH, "repository:other/web:pull"]));
    client.ask("HEAD", "/v2/acme/web/manifests/1.0").gives(404);
    Challenge::of(&client.ask("POST", "/v2/acme/web/blobs/uploads/").answer());
}

/// Clients without credentials ask for a token all the same: what is public is pulled with it, what is not is refused like
/// what does not exist.
#[test]
fn docker_without_a_key_pulls_from_a_public_repository_with_an_anonymous_token() {
    let (seed, registry, _) = start();
    let pushing = with_token(&seed, &["repository:acme/web:pull,push", "repository:acme/secret:pull,push"]);
    let config = Content::new("application/vnd.oci.image.config.v1+json", "{}");
    let layer = Content::random("application/vnd.oci.image.layer.v1.tar", 1, 5_000);
    let manifest = Content::manifest(&config, &[&layer], &serde_json::json!({}));
    for repository in ["acme/web", "acme/secret"] {
        push_artifact(&pushing, repository, "1.0", &[&config, &layer], &manifest);
    }
    seed.run_operator(&["repo", "set", "acme/web", "--public", "on"]).succeeded();

    let challenge = Challenge::of(&registry.ask("GET", "/v2/").answer());
    let token_for = |repository: &str| {
        let scope = format!("repository:{repository}:pull");
        registry.authorized_by(token::by_get(&registry, &challenge, &[], &[&scope]))
    };
    let client = token_for("acme/web");
    client.ask("HEAD", "/v2/acme/web/manifests/1.0").header("Accept", MANIFEST).gives(200).with("Docker-Content-Digest", &manifest.digest);
    client.ask("GET", &format!("/v2/acme/web/blobs/{}", layer.digest)).gives(200).bytes(&layer.bytes);
    Challenge::of(&client.ask("POST", "/v2/acme/web/blobs/uploads/").answer());
    for repository in ["acme/secret", "acme/nothing"] {
        let client = token_for(repository);
        Challenge::of(&client.ask("GET", &format!("/v2/{repository}/manifests/1.0")).answer());
    }
}
