//! Who is let in, with keys, with tokens and with nothing; and that strangers cannot tell what exists.

use protocol::repository::RepositorySettings;
use protocol::time::WallTime;
use reqwest::StatusCode;
use serde_json::json;

use super::*;
use crate::clock::wall_time;
use crate::store::meta::AccessKeyRecord;

impl World {
    async fn add_key(&self, org: &str, scopes: &[Scope], expires: Option<WallTime>) -> (String, AccessKeyRecord) {
        let (key, record) = generate_key(&org.parse().unwrap(), scopes.to_vec()).unwrap();
        let record = AccessKeyRecord { expires, ..record };
        self.store.add_access_key(record.clone()).await.unwrap();
        (key, record)
    }

    async fn make_public(&self, repository: &str) {
        let settings = RepositorySettings { public: Some(true), ..RepositorySettings::default() };
        let org = repository.parse::<RepositoryName>().unwrap().org();
        self.store.put_repository_settings(&org, &repository.parse().unwrap(), Some(settings)).await.unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks with a token, a key as Bearer, or nothing.
    async fn ask_with(&self, bearer: Option<&str>, method: &str, path: &str) -> Answer {
        let request = self.client.request(method.parse().unwrap(), self.url(path));
        send(match bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        })
        .await
    }

    /// What `/auth/token` answers to a GET with this key, or without credentials.
    async fn get_token(&self, key: Option<&str>, query: &str) -> (StatusCode, Value) {
        let request = self.client.get(self.url(&format!("/auth/token?{query}")));
        let request = match key {
            Some(key) => request.basic_auth("anyone", Some(key)),
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn token(&self, key: Option<&str>, scope: &str) -> String {
        let (status, answer) = self.get_token(key, &format!("service={}&scope={scope}", self.address)).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

/// The texts of an object as a form.
fn encoded(form: &Value) -> String {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let fields = form.as_object().unwrap().iter();
    fields.map(|(name, value)| format!("{name}={}", encode(value.as_str().unwrap()))).collect::<Vec<_>>().join("&")
}

fn challenge(answer: &Answer) -> String {
    assert_eq!(answer.status(), 401);
    header_of(answer, "www-authenticate").to_owned()
}

#[tokio::test]
async fn a_key_that_expires_within_a_week_and_a_tag_that_retention_removes_soon_are_warned_of() {
    let world = World::start().await;
    let warnings = |answer: &Answer| -> Vec<String> {
        answer.headers().get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string();
    let push = |key: String| world.ask_as(&key, "PUT", "/v2/acme/web/manifests/1.0").header("content-type", INDEX).body(index.clone());
    assert!(warnings(&send(push(world.acme.clone())).await).is_empty());
    for (days, warned) in [(6, 1), (8, 0)] {
        let (key, record) = world.add_key("acme", &ALL, Some(wall_time().plus_seconds(days * 86_400))).await;
        let answers = [send(push(key.clone())).await, send(world.ask_as(&key, "GET", "/v2/acme/web/manifests/1.0")).await];
        for answer in answers {
            let warnings = warnings(&answer);
            assert_eq!(warnings.len(), warned, "{days}: {warnings:?}");
            assert!(warnings.iter().all(|text| text.contains(&record.id) && text.contains("expires at")), "{warnings:?}");
        }
    }
    let settings = serde_json::from_str(r#"{"keep_days":3}"#).unwrap();
    world.store.put_repository_settings(&"acme".parse().unwrap(), &"acme/*".parse().unwrap(), Some(settings)).await.unwrap();
    let warnings = warnings(&send(push(world.acme.clone())).await);
    assert!(warnings.len() == 1 && warnings[0].contains("retention removes the tag 1.0"), "{warnings:?}");
}

#[tokio::test]
async fn lets_in_who_has_a_key_with_the_scope() {
    let world = World::start().await;
    let nobody = world.ask_with(None, "GET", "/v2/").await;
    assert_eq!(challenge(&nobody), format!(r#"Bearer realm="http://{0}/auth/token",service="{0}""#, world.address));
    assert_eq!(code(nobody).await, refused(401, "UNAUTHORIZED"));
    assert_eq!(world.ask_with(Some(&world.acme), "GET", "/v2/").await.status(), 200);
    assert_eq!(send(world.ask("GET", "/v2/")).await.status(), 200);
    assert_eq!(send(world.ask("GET", "/v2")).await.status(), 200);
    let wrong = format!("{}{}", &world.acme[..84], if world.acme.ends_with('0') { 1 } else { 0 });
    assert!(challenge(&world.ask_with(Some(&wrong), "GET", "/v2/").await).ends_with(r#",error="invalid_token""#));
    let reader = add_org(&world.store, "readers", &[Scope::Pull]).await;
    let insufficient = world.ask_with(Some(&reader), "POST", "/v2/readers/web/blobs/uploads/").await;
    assert_eq!(
        challenge(&insufficient),
        format!(
            r#"Bearer realm="http://{0}/auth/token",service="{0}",scope="repository:readers/web:pull,push",error="insufficient_scope""#,
            world.address
        )
    );
    assert_eq!(code(insufficient).await, refused(401, "UNAUTHORIZED"));
    assert_eq!(world.ask_with(Some(&reader), "GET", "/v2/readers/web/tags/list").await.status(), 404);
    assert_eq!(world.ask_with(None, "GET", "/v2/no/such/path").await.status(), 401);
}

#[tokio::test]
async fn a_key_that_has_expired_or_was_revoked_opens_nothing() {
    let world = World::start().await;
    let (expired, _) = world.add_key("acme", &ALL, Some(wall_time())).await;
    assert!(challenge(&world.ask_with(Some(&expired), "GET", "/v2/").await).contains("invalid_token"));
    assert_eq!(world.get_token(Some(&expired), "").await.0, 401);
    let (key, record) = world.add_key("acme", &ALL, None).await;
    let token = world.token(Some(&key), "repository:acme/web:pull").await;
    assert_eq!(world.ask_with(Some(&token), "GET", "/v2/acme/web/tags/list").await.status(), 404);
    world.store.revoke_access_key(&record.org, &record.id, wall_time()).await.unwrap();
    assert!(challenge(&world.ask_with(Some(&key), "GET", "/v2/").await).contains("invalid_token"));
    assert!(challenge(&world.ask_with(Some(&token), "GET", "/v2/acme/web/tags/list").await).contains("invalid_token"), "at once");
    assert_eq!(world.get_token(Some(&key), "").await.0, 401);
}

#[tokio::test]
async fn a_token_opens_what_it_was_given_for() {
    let world = World::start().await;
    let blob = world.push("acme/web", b"blob").await;
    let (status, answer) = world.get_token(Some(&world.acme), "account=a&client_id=c&offline_token=true").await;
    assert_eq!((status.as_u16(), &answer["expires_in"], &answer["scope"]), (200, &json!(300), &json!("")));
    assert_eq!(answer["token"], answer["access_token"]);
    assert!(answer["issued_at"].as_str().unwrap().ends_with('Z') && answer.get("refresh_token").is_none());
    let bare = answer["token"].as_str().unwrap();
    assert_eq!(world.ask_with(Some(bare), "GET", "/v2/").await.status(), 200, "as after a login");
    let path = format!("/v2/acme/web/blobs/{blob}");
    assert!(challenge(&world.ask_with(Some(bare), "GET", &path).await).contains("insufficient_scope"));

    let pull = world.token(Some(&world.acme), "repository:acme/web:pull").await;
    assert_eq!(world.ask_with(Some(&pull), "GET", &path).await.status(), 200);
    assert_eq!(world.ask_with(Some(&pull), "HEAD", &path).await.status(), 200);
    for (method, path) in [("DELETE", path.as_str()), ("POST", "/v2/acme/web/blobs/uploads/"), ("GET", "/v2/acme/api/tags/list")] {
        assert!(challenge(&world.ask_with(Some(&pull), method, path).await).contains("insufficient_scope"), "{method} {path}");
    }
    let both = world.token(Some(&world.acme), "repository:acme/web:push,pull%20repository:acme/api:pull&scope=repository:acme/db:*").await;
    assert_eq!(world.ask_with(Some(&both), "POST", "/v2/acme/web/blobs/uploads/").await.status(), 202);
    assert_eq!(world.ask_with(Some(&both), "GET", "/v2/acme/api/tags/list").await.status(), 404);
    assert_eq!(world.ask_with(Some(&both), "DELETE", "/v2/acme/db/manifests/1").await.status(), 404);
}

#[tokio::test]
async fn asking_for_too_much_gives_what_the_key_may() {
    let world = World::start().await;
    let (reader, _) = world.add_key("acme", &[Scope::Pull], None).await;
    let (pusher, _) = world.add_key("acme", &[Scope::Push], None).await;
    let asked = "scope=repository:acme/web:pull,push,delete%20repository:other/web:pull&scope=registry:catalog:*%20nonsense";
    for (key, granted) in [
        (Some(&reader), "repository:acme/web:pull registry:catalog:*"),
        (Some(&pusher), "repository:acme/web:push"),
        (Some(&world.acme), "repository:acme/web:pull,push,delete registry:catalog:*"),
        (None, ""),
    ] {
        let (status, answer) = world.get_token(key.map(String::as_str), asked).await;
        assert_eq!((status.as_u16(), &answer["scope"]), (200, &json!(granted)));
    }
}

#[tokio::test]
async fn a_token_is_had_by_post_too() {
    let world = World::start().await;
    let scope = "repository:acme/web:pull repository:acme/api:pull";
    let post = async |form: Value| {
        let answer = world.client.post(world.url("/auth/token")).header("content-type", FORM).body(encoded(&form)).send().await.unwrap();
        assert!(answer.status() != 200 || header_of(&answer, "cache-control") == "no-store");
        (answer.status().as_u16(), header_of(&answer, "www-authenticate").to_owned(), answer.json::<Value>().await.unwrap())
    };
    let service = world.address.to_string();
    let password = |key: &str| json!({ "grant_type": "password", "username": "x", "password": key, "service": service, "scope": scope });
    let refresh =
        |key: &str| json!({ "grant_type": "refresh_token", "refresh_token": key, "service": service, "client_id": "c", "scope": scope });
    for form in [password(&world.acme), refresh(&world.acme)] {
        let (status, _, answer) = post(form).await;
        assert_eq!((status, answer["scope"].as_str().unwrap()), (200, "repository:acme/api:pull repository:acme/web:pull"));
        let token = answer["access_token"].as_str().unwrap();
        assert_eq!(world.ask_with(Some(token), "GET", "/v2/acme/api/tags/list").await.status(), 404);
    }
    for form in [password("wrong"), refresh(""), json!({ "grant_type": "password" })] {
        let (status, challenge, _) = post(form).await;
        assert_eq!((status, challenge.as_str()), (401, "Basic realm=\"hedgerow\""));
    }
    for form in [json!({}), json!({ "grant_type": "authorization_code" })] {
        assert_eq!(post(form).await.0, 400);
    }
    let long = json!({ "grant_type": "password", "password": world.acme, "scope": "x".repeat(issue::FORM_BYTES_MAX) });
    assert_eq!(post(long).await.0, 400);
    let json = world.client.post(world.url("/auth/token")).json(&password(&world.acme)).send().await.unwrap();
    assert_eq!(json.status(), 400);
    assert_eq!(world.client.put(world.url("/auth/token")).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn a_token_is_for_the_service_that_it_was_made_for() {
    let world = World::start().await;
    let (status, _) = world.get_token(Some(&world.acme), "service=elsewhere.example").await;
    assert_eq!(status, 400);
    let token = world.token(Some(&world.acme), "repository:acme/web:pull").await;
    let ask_as = async |host: &str| {
        let request = world.client.get(world.url("/v2/")).header("host", host).bearer_auth(&token);
        send(request).await
    };
    assert_eq!(ask_as(&world.address.to_string()).await.status(), 200);
    let elsewhere = challenge(&ask_as("Seed.Example:1").await);
    let text = ask_as("Seed.Example:1").await.text().await.unwrap();
    assert!(text.contains("the token is not valid here"), "{text}");
    assert_eq!(elsewhere, r#"Bearer realm="http://seed.example:1/auth/token",service="seed.example:1",error="invalid_token""#);
}

#[tokio::test]
async fn malformed_credentials_and_hosts_are_refused() {
    let world = World::start().await;
    let forged = "eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4IiwiaWF0IjoxLCJleHAiOjk5OTk5OTk5OTksInNjb3BlIjoiIn0.";
    let long = format!("Bearer {}", "a".repeat(100_000));
    for value in ["Bearer", "Bearer ", "Basic", "Basic Og==", "Digest x", &format!("Bearer {forged}"), &long, "\u{e9}"] {
        for path in ["/v2/", "/v2/acme/web/tags/list", "/v2/_catalog"] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let answer = send(world.client.get(world.url(path)).header("authorization", value)).await;
            assert!(challenge(&answer).contains("invalid_token"), "{path}");
        }
    }
    let twice = world.ask("GET", "/v2/").header("authorization", format!("Bearer {}", world.acme));
    assert!(challenge(&send(twice).await).contains("invalid_token"), "which of the two?");
    for host in ["a b", "a\"b", "user@host", "host/path", "host:port", "host:99999", ""] {
        for path in ["/v2/", "/auth/token"] {
            let request = world.client.get(world.url(path)).header("host", host).bearer_auth(&world.acme);
            assert_eq!(request.send().await.unwrap().status(), 400, "{host:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_public_repository_can_be_pulled_by_everybody_and_written_by_nobody_else() {
    let world = World::start().await;
    let blob = world.push("acme/web", b"blob").await;
    world.put_manifest("/v2/acme/web/manifests/1", &json!({})).await;
    let manifest = Digest::sha256(b"{}");
    let anonymous = world.token(None, "repository:acme/web:pull").await;
    assert!(challenge(&world.ask_with(Some(&anonymous), "GET", "/v2/acme/web/manifests/1").await).contains("insufficient_scope"));
    world.make_public("acme/web").await;
    let (pusher, _) = world.add_key("acme", &[Scope::Push], None).await;
    let anonymous = world.token(None, "repository:acme/web:pull,push").await;
    let foreign = world.token(Some(&world.other), "repository:acme/web:pull,push").await;
    let callers = [None, Some(&anonymous), Some(&world.other), Some(&foreign), Some(&pusher)];
    let reads = [
        format!("blobs/{blob}"),
        "manifests/1".into(),
        format!("manifests/{manifest}"),
        "tags/list".into(),
        format!("referrers/{manifest}"),
    ];
    for caller in callers {
        for method in ["GET", "HEAD"] {
            for path in &reads {
                let answer = world.ask_with(caller.map(String::as_str), method, &format!("/v2/acme/web/{path}")).await;
                assert_eq!(answer.status(), 200, "{method} {path} with {caller:?}");
            }
        }
        let missing = world.ask_with(caller.map(String::as_str), "GET", "/v2/acme/web/manifests/2").await;
        assert_eq!(code(missing).await, refused(404, "MANIFEST_UNKNOWN"));
    }
    for (method, path) in [
        ("PUT", "manifests/1".to_owned()),
        ("DELETE", "manifests/1".into()),
        ("DELETE", format!("manifests/{manifest}")),
        ("DELETE", format!("blobs/{blob}")),
        ("POST", "blobs/uploads/".into()),
        ("POST", format!("blobs/uploads/?mount={blob}&from=acme/web")),
    ] {
        let path = format!("/v2/acme/web/{path}");
        for (caller, status) in [(None, 401), (Some(&anonymous), 401), (Some(&foreign), 401), (Some(&world.other), 404)] {
            let answer = world.ask_with(caller.map(String::as_str), method, &path).await;
            assert_eq!(answer.status().as_u16(), status, "{method} {path} with {caller:?}");
        }
    }
    assert!(challenge(&world.ask_with(None, "GET", "/v2/acme/api/tags/list").await).contains("repository:acme/api:pull"));
    assert_eq!(world.ask_with(None, "GET", "/v2/").await.status(), 401);
    assert_eq!(world.ask_with(Some("hgk_wrong"), "GET", "/v2/acme/web/tags/list").await.status(), 401, "wrong credentials are refused");
}

#[tokio::test]
async fn mounts_only_what_the_caller_may_read() {
    let world = World::start().await;
    let blob = world.push("acme/web", b"blob").await;
    let (pusher, _) = world.add_key("acme", &[Scope::Push], None).await;
    let status = async |key: &str, to: &str, query: String| {
        world.ask_with(Some(key), "POST", &format!("/v2/{to}/blobs/uploads/?mount={query}")).await.status().as_u16()
    };
    let acme = &world.acme;
    assert_eq!(status(acme, "acme/api", format!("{blob}&from=acme/none")).await, 202);
    assert_eq!(status(acme, "acme/api", format!("{}&from=acme/web", Digest::sha256(b"none"))).await, 202);
    assert_eq!(status(&pusher, "acme/api", format!("{blob}&from=acme/web")).await, 202);
    assert_eq!(send(world.ask("HEAD", &format!("/v2/acme/api/blobs/{blob}"))).await.status(), 404);
    assert_eq!(status(acme, "acme/api", format!("{blob}&from=acme/web")).await, 201);
    assert_eq!(send(world.ask("HEAD", &format!("/v2/acme/api/blobs/{blob}"))).await.status(), 200);
    assert_eq!(status(acme, "acme/anonymous", blob.to_string()).await, 201);
    for query in [format!("{blob}&from=acme/web"), format!("{blob}&from=none/web"), blob.to_string()] {
        assert_eq!(status(&world.other, "other/web", query).await, 202);
    }
    world.make_public("acme/web").await;
    assert_eq!(status(&world.other, "other/web", format!("{blob}&from=acme/web")).await, 201);
    assert_eq!(status(&world.other, "other/web", format!("{blob}&from=acme/api")).await, 202);
}

#[tokio::test]
async fn a_mount_with_a_token_wants_one_that_may_read_the_source() {
    let world = World::start().await;
    let blob = world.push("acme/base", b"blob").await;
    let path = format!("/v2/acme/web/blobs/uploads/?mount={blob}&from=acme/base");
    let push = world.token(Some(&world.acme), "repository:acme/web:pull,push").await;
    let insufficient = challenge(&world.ask_with(Some(&push), "POST", &path).await);
    let scopes = "repository:acme/base:pull repository:acme/web:pull,push";
    assert!(insufficient.contains(&format!(r#"scope="{scopes}",error="insufficient_scope""#)), "{insufficient}");
    let both = world.token(Some(&world.acme), &scopes.replace(' ', "%20")).await;
    assert_eq!(world.ask_with(Some(&both), "POST", &path).await.status(), 201);
    let anonymous = format!("/v2/acme/api/blobs/uploads/?mount={blob}");
    let push = world.token(Some(&world.acme), "repository:acme/api:pull,push").await;
    assert_eq!(world.ask_with(Some(&push), "POST", &anonymous).await.status(), 201);
    let other = world.token(Some(&world.other), "repository:other/web:pull,push%20repository:acme/base:pull").await;
    for from in ["acme/base", "acme/none", "none/base"] {
        let path = format!("/v2/other/web/blobs/uploads/?mount={blob}&from={from}");
        assert_eq!(world.ask_with(Some(&other), "POST", &path).await.status(), 202, "{from}");
    }
}

#[tokio::test]
async fn the_catalogue_lists_the_organisations_own_repositories_in_pages() {
    let world = World::start().await;
    for (key, repository) in
        [(&world.acme, "acme/web"), (&world.acme, "acme/team/api"), (&world.other, "other/web"), (&world.acme, "acme/db")]
    {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::sha256(b"blob"));
        assert_eq!(send(world.ask_as(key, "POST", &path).body("blob")).await.status(), 201);
    }
    world.make_public("other/web").await;
    let page = async |bearer: &str, query: &str| {
        let answer = world.ask_with(Some(bearer), "GET", &format!("/v2/_catalog{query}")).await;
        let link = header_of(&answer, "link").to_owned();
        (answer.json::<Value>().await.unwrap()["repositories"].clone(), link)
    };
    let next = "</v2/_catalog?n=2&last=acme/team/api>; rel=\"next\"";
    assert_eq!(page(&world.acme, "?n=2").await, (json!(["acme/db", "acme/team/api"]), next.into()));
    assert_eq!(page(&world.acme, "?n=2&last=acme/team/api").await, (json!(["acme/web"]), String::new()));
    assert_eq!(page(&world.other, "").await.0, json!(["other/web"]));
    assert_eq!(page(&world.other, "?last=acme/db").await.0, json!(["other/web"]));
    let token = world.token(Some(&world.acme), "registry:catalog:*").await;
    assert_eq!(page(&token, "?n=1").await.0, json!(["acme/db"]));
    let pull = world.token(Some(&world.acme), "repository:acme/web:pull").await;
    let (pusher, _) = world.add_key("acme", &[Scope::Push], None).await;
    for bearer in [None, Some(&pull), Some(&pusher)] {
        let refused = challenge(&world.ask_with(bearer.map(String::as_str), "GET", "/v2/_catalog").await);
        assert!(refused.contains(r#"scope="registry:catalog:*""#), "{refused}");
    }
    assert_eq!(world.ask_with(Some(&world.acme), "GET", "/v2/_catalog?n=x").await.status(), 400);
    assert_eq!(world.ask_with(Some(&world.acme), "POST", "/v2/_catalog").await.status(), 405);
}

#[tokio::test]
async fn an_account_id_of_32_hex_digits_is_an_organisation() {
    let world = World::start().await;
    let org = "0123456789abcdef0123456789abcdef";
    let key = add_org(&world.store, org, &ALL).await;
    let digest = Digest::sha256(b"blob");
    let path = format!("/v2/{org}/team/web/blobs/uploads/?digest={digest}");
    assert_eq!(send(world.ask_as(&key, "POST", &path).body("blob")).await.status(), 201);
    let token = world.token(Some(&key), &format!("repository:{org}/team/web:pull")).await;
    assert_eq!(world.ask_with(Some(&token), "GET", &format!("/v2/{org}/team/web/blobs/{digest}")).await.status(), 200);
}

/// Every route and method, for somebody who may not know whether there is something.
#[tokio::test]
async fn a_stranger_cannot_tell_what_exists() {
    let world = World::start().await;
    let blob = world.push("acme/web", b"blob").await;
    world.put_manifest("/v2/acme/web/manifests/1", &json!({})).await;
    let manifest = Digest::sha256(b"{}");
    let start = send(world.ask("POST", "/v2/acme/web/blobs/uploads/")).await;
    let upload = header_of(&start, "location").rsplit('/').next().unwrap().to_owned();
    let mut asked = Vec::new();
    for path in [
        format!("blobs/{blob}"),
        "blobs/uploads/".into(),
        format!("blobs/uploads/?digest={blob}"),
        format!("blobs/uploads/?mount={blob}&from=acme/base"),
        format!("blobs/uploads/?mount={blob}"),
        format!("blobs/uploads/{upload}"),
        format!("blobs/uploads/{upload}?digest={blob}"),
        "manifests/1".into(),
        format!("manifests/{manifest}"),
        "tags/list".into(),
        "tags/list?n=1&last=0".into(),
        format!("referrers/{manifest}"),
        "nonsense".into(),
    ] {
        for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"] {
            asked.push((method, path.clone()));
        }
    }
    let tokens = [
        world.token(None, "repository:acme/web:pull,push").await,
        world.token(Some(&world.other), "repository:acme/web:pull,push,delete%20repository:acme/wab:pull,push,delete").await,
    ];
    let (reader, _) = world.add_key("other", &[Scope::Pull], None).await;
    for bearer in [None, Some(&world.other), Some(&reader), Some(&tokens[0]), Some(&tokens[1])] {
        for (method, rest) in &asked {
            let mut answers = Vec::new();
            // Names of one length, so that lengths can be compared too.
            for repository in ["acme/web", "acme/wab", "acmo/web"] {
                let request = world.client.request(method.parse().unwrap(), world.url(&format!("/v2/{repository}/{rest}")));
                let request = request.header("content-type", OCI).body("{}");
                let answer = send(match bearer {
                    Some(bearer) => request.bearer_auth(bearer),
                    None => request,
                })
                .await;
                let status = answer.status().as_u16();
                let mut headers = answer.headers().clone();
                headers.remove("date");
                let headers = format!("{headers:?}").replace(repository, "");
                answers.push((status, headers, answer.text().await.unwrap().replace(repository, "")));
            }
            assert_eq!(answers[0], answers[1], "{method} {rest} with {bearer:?}");
            assert_eq!(answers[0], answers[2], "{method} {rest} with {bearer:?}");
            let is_list =
                rest.starts_with("referrers") && ["GET", "HEAD"].contains(method) && bearer.is_some_and(|key| key.starts_with("hgk"));
            assert_eq!(answers[0].0 >= 400, !is_list, "{method} {rest} with {bearer:?}: {}", answers[0].0);
        }
        let mut mounts = Vec::new();
        for from in ["acme/web", "acme/wab", "acmo/web"] {
            let answer =
                world.ask_with(bearer.map(String::as_str), "POST", &format!("/v2/other/x/blobs/uploads/?mount={blob}&from={from}")).await;
            let names: Vec<String> = answer.headers().keys().map(ToString::to_string).collect();
            let challenge = header_of(&answer, "www-authenticate").replace(from, "");
            mounts.push((answer.status(), names, challenge));
        }
        assert!(mounts.iter().all(|mount| *mount == mounts[0] && mount.0 != 201), "{mounts:?}");
    }
    assert_eq!(
        send(world.ask("GET", "/v2/acme/web/tags/list")).await.json::<Value>().await.unwrap()["tags"],
        json!(["1"]),
        "all is still there"
    );
}
