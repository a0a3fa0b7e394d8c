//! Organisations and their access keys, for operators: list, make, revoke.
//!
//! Not here: what a key opens; see [`crate::seed::registry::auth`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::name::OrgName;
use protocol::time::WallTime;

use super::super::extract::{Json, Path};
use super::{Refused, require};
use crate::api::{KeyListed, KeyMade, LABEL_BYTES_MAX, NewKey, OrgListed};
use crate::clock::wall_time;
use crate::seed::Seed;
use crate::seed::activity::{Activity, ActivityKind, RequestRecord};
use crate::seed::registry::auth::{Principal, generate_key};
use crate::store::meta::{AccessKeyRecord, Scope};

/// The last time at which a key may expire: the last that programs with any time zone can show (9999-12-30T22:00:00Z).
const EXPIRES_MAX: WallTime = WallTime::from_unix_seconds(253_402_207_200);

/// `GET /api/v1/orgs`: all of them for who may create them, else the key's own.
pub(super) async fn orgs(
    State(seed): State<Arc<Seed>>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<OrgListed>>, Refused> {
    let orgs = if principal.scopes().contains(&Scope::Seed) { seed.store.orgs().await? } else { vec![principal.org()] };
    Ok(Json(orgs.into_iter().map(|org| OrgListed { org }).collect()))
}

/// `GET /api/v1/orgs/{org}/keys`: oldest first.
pub(super) async fn list(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<KeyListed>>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    let mut keys = seed.store.access_keys(&org).await?;
    keys.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
    Ok(Json(keys.into_iter().map(listed).collect()))
}

/// `POST /api/v1/orgs/{org}/keys`: the one answer that holds the key itself.
pub(super) async fn create(
    State(seed): State<Arc<Seed>>,
    Path(org): Path<OrgName>,
    Extension(principal): Extension<Principal>,
    request: RequestRecord,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, Json<KeyMade>), Refused> {
    require(&principal, &org, Scope::Admin)?;
    let new = checked(new)?;
    if new.scopes.contains(&Scope::Seed) {
        principal.require(Scope::Seed)?;
    }
    let (access_key, record) = generate_key(&org, new.scopes).map_err(|error| Refused::failed(&error))?;
    let record = AccessKeyRecord { label: new.label, expires: new.expires, ..record };
    seed.store.add_access_key(record.clone()).await?;
    let name = format!("{} {}", record.id, record.label).trim_end().to_owned();
    request.did(Activity::in_org(ActivityKind::KeyCreate, &org, Some(name)));
    tracing::info!(event = "access_key_created", %org, key = record.id, by = principal.key(), "access key created");
    Ok((StatusCode::CREATED, Json(KeyMade { access_key, key: listed(record) })))
}

/// `DELETE /api/v1/orgs/{org}/keys/{id}`: refused from the next request on, with all tokens that were made from it.
pub(super) async fn revoke(
    State(seed): State<Arc<Seed>>,
    Path((org, id)): Path<(OrgName, String)>,
    Extension(principal): Extension<Principal>,
    request: RequestRecord,
) -> Result<StatusCode, Refused> {
    require(&principal, &org, Scope::Admin)?;
    seed.store.revoke_access_key(&org, &id, wall_time()).await?;
    request.did(Activity::in_org(ActivityKind::KeyRevoke, &org, Some(id.clone())));
    tracing::info!(event = "access_key_revoked", %org, key = id, by = principal.key(), "access key revoked");
    Ok(StatusCode::NO_CONTENT)
}

fn checked(mut new: NewKey) -> Result<NewKey, Refused> {
    let refused = |code, message: String| Err(Refused::new(StatusCode::BAD_REQUEST, code, message));
    new.scopes.sort_unstable();
    new.scopes.dedup();
    if new.scopes.is_empty() {
        return refused("scopes", "a key without a scope can do nothing; name at least one".into());
    }
    if new.label.len() > LABEL_BYTES_MAX || new.label.chars().any(char::is_control) {
        return refused("label", format!("a label is one line of at most {LABEL_BYTES_MAX} bytes"));
    }
    if new.expires.is_some_and(|expires| expires <= wall_time()) {
        return refused("expires", "the key would have expired already; choose a later time".into());
    }
    if new.expires.is_some_and(|expires| expires > EXPIRES_MAX) {
        return refused("expires", format!("no calendar goes that far; choose a time until {EXPIRES_MAX}, or none"));
    }
    Ok(new)
}

fn listed(record: AccessKeyRecord) -> KeyListed {
    let AccessKeyRecord { id, org, scopes, label, created, expires, secret_sha256: _ } = record;
    KeyListed { id, org, scopes, label, created, expires }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tower_service::Service as _;

    use super::*;
    use crate::seed::{api, fixture};

    /// The routes of a seed with the organisations acme and other.
    struct World {
        router: axum::Router,
        store: Arc<dyn crate::store::meta::MetaStore>,
        _data: tempfile::TempDir,
        /// Has every scope.
        acme: String,
        /// Has every scope but `seed`.
        other: String,
    }

    impl World {
        async fn start() -> Self {
            let data = tempfile::tempdir().unwrap();
            let seed = Arc::new(fixture::seed(data.path()));
            let mut keys = Vec::new();
            for (org, scopes) in [("acme", Scope::ALL.to_vec()), ("other", crate::seed::trust::ORG_SCOPES.to_vec())] {
                let (key, record) = generate_key(&org.parse().unwrap(), scopes).unwrap();
                seed.store.create_org(&record.org.clone(), record, vec![]).await.unwrap();
                keys.push(key);
            }
            let [acme, other] = keys.try_into().unwrap();
            Self { store: seed.store.clone(), router: api::router(seed), _data: data, acme, other }
        }

        async fn ask(&self, key: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
            let request = Request::builder().method(method).uri(format!("/api/v1/{path}")).header("content-type", "application/json");
            let request = request.header("authorization", format!("Bearer {key}")).body(Body::from(body.to_string())).unwrap();
            let answer = self.router.clone().call(request).await.unwrap();
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        }
    }

    #[tokio::test]
    async fn a_key_is_shown_once_and_refused_once_it_is_revoked() {
        let world = World::start().await;
        let new = json!({ "scopes": ["push", "pull", "pull"], "label": "ci", "expires": wall_time().plus_seconds(60) });
        let (status, made) = world.ask(&world.acme, "POST", "orgs/acme/keys", new).await;
        assert_eq!((status, &made["scopes"], &made["label"]), (201, &json!(["pull", "push"]), &json!("ci")));
        let key = made["access_key"].as_str().unwrap();
        let (_, keys) = world.ask(&world.acme, "GET", "orgs/acme/keys", Value::Null).await;
        assert_eq!(keys.as_array().unwrap().len(), 2);
        assert!(keys.as_array().unwrap().iter().any(|listed| listed["id"] == made["id"]));
        assert!(!keys.to_string().contains(&key[20..]), "the secret part is not listed");
        assert_eq!(world.ask(key, "GET", "orgs", Value::Null).await, (200, json!([{ "org": "acme" }])));
        assert_eq!(world.ask(key, "GET", "orgs/acme/keys", Value::Null).await.0, 401, "it does not have the scope admin");
        let path = format!("orgs/acme/keys/{}", made["id"].as_str().unwrap());
        assert_eq!(world.ask(&world.other, "DELETE", &path, Value::Null).await.0, 401);
        assert_eq!(world.ask(&world.acme, "DELETE", &path, Value::Null).await.0, 204);
        assert_eq!(world.ask(&world.acme, "DELETE", &path, Value::Null).await.0, 404);
        assert_eq!(world.ask(key, "GET", "orgs", Value::Null).await.0, 401);
    }

    #[tokio::test]
    async fn a_time_that_no_calendar_has_is_refused() {
        let world = World::start().await;
        let new = |expires: u64| json!({ "scopes": ["pull"], "expires": expires });
        let last = EXPIRES_MAX.as_unix_seconds();
        assert_eq!(world.ask(&world.acme, "POST", "orgs/acme/keys", new(last)).await.0, 201);
        for beyond in [last + 1, u64::MAX] {
            let (status, refused) = world.ask(&world.acme, "POST", "orgs/acme/keys", new(beyond)).await;
            assert_eq!((status, &refused["code"]), (400, &json!("expires")), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_key_that_has_expired_is_refused() {
        let world = World::start().await;
        let (key, record) = generate_key(&"acme".parse().unwrap(), vec![Scope::Pull]).unwrap();
        world.store.add_access_key(AccessKeyRecord { expires: Some(wall_time()), ..record }).await.unwrap();
        let (status, refused) = world.ask(&key, "GET", "orgs", Value::Null).await;
        assert_eq!((status, &refused["code"]), (401, &json!("unauthorized")));
        assert!(refused["message"].as_str().unwrap().contains("expired"), "{refused}");
    }

    #[tokio::test]
    async fn nobody_gives_the_scope_seed_without_having_it() {
        let world = World::start().await;
        let new = json!({ "scopes": ["seed"] });
        assert_eq!(world.ask(&world.other, "POST", "orgs/other/keys", new.clone()).await.0, 401);
        assert_eq!(world.ask(&world.acme, "POST", "orgs/other/keys", new.clone()).await.0, 401, "it is of another organisation");
        assert_eq!(world.ask(&world.acme, "POST", "orgs/acme/keys", new).await.0, 201);
        assert_eq!(world.ask(&world.other, "GET", "orgs", Value::Null).await.1, json!([{ "org": "other" }]));
        assert_eq!(world.ask(&world.acme, "GET", "orgs", Value::Null).await.1, json!([{ "org": "acme" }, { "org": "other" }]));
    }

    #[tokio::test]
    async fn a_key_that_makes_no_sense_is_refused_with_the_reason() {
        let world = World::start().await;
        for (new, code) in [
            (json!({ "scopes": [] }), "scopes"),
            (json!({ "scopes": ["pull"], "label": "a\nb" }), "label"),
            (json!({ "scopes": ["pull"], "label": "x".repeat(LABEL_BYTES_MAX + 1) }), "label"),
            (json!({ "scopes": ["pull"], "expires": 1000 }), "expires"),
        ] {
            let (status, refused) = world.ask(&world.acme, "POST", "orgs/acme/keys", new).await;
            assert_eq!((status, &refused["code"]), (400, &json!(code)), "{refused}");
        }
        let id = &world.acme[4..20];
        let (status, refused) = world.ask(&world.acme, "DELETE", &format!("orgs/acme/keys/{id}"), Value::Null).await;
        assert_eq!((status, &refused["code"]), (409, &json!("conflict")), "{refused}");
    }
}
