//! What a request asked for, from its method and path alone: for those that no route carried out.
//!
//! Not here: requests that were carried out; their routes say it themselves.

use axum::http::Method;

use super::{Activity, ActivityKind};
use crate::seed::registry;

/// What a request tried to change; none if it is one that changes nothing, or names nothing that could exist.
pub fn attempted(method: &Method, path: &str) -> Option<Activity> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    if path.starts_with("/v2/") {
        return registry::described::attempted(method, path);
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let org = match segments.as_slice() {
        ["api", "v1", "orgs", org, ..] => org.parse().ok(),
        _ => None,
    };
    Some(Activity { org, ..Activity::new(action_of(method, &segments)?) })
}

/// The writes of control API and device listener. Reports of devices, and questions that are asked by POST, are none.
fn action_of(method: &Method, segments: &[&str]) -> Option<ActivityKind> {
    Some(match (method.as_str(), segments) {
        ("POST", ["api", "v1", "orgs"]) => ActivityKind::OrgCreate,
        ("POST", ["api", "v1", "orgs", _, "keys"]) => ActivityKind::KeyCreate,
        ("DELETE", ["api", "v1", "orgs", _, "keys", _]) => ActivityKind::KeyRevoke,
        ("PATCH", ["api", "v1", "orgs", _, "repository-settings", _, ..]) => ActivityKind::SettingsChange,
        ("DELETE", ["api", "v1", "orgs", _, "repository-settings", _, ..]) => ActivityKind::SettingsClear,
        ("POST", ["api", "v1", "orgs", _, "apps", _, "versions", _, "retire"]) => ActivityKind::VersionRetire,
        ("POST", ["api", "v1", "orgs", _, "versions" | "managed-versions"]) => ActivityKind::VersionPublish,
        ("POST", ["api", "v1", "orgs", _, "trust"]) => ActivityKind::TrustChange,
        ("POST", ["api", "v1", "orgs", _, "tokens"]) => ActivityKind::TokenCreate,
        ("DELETE", ["api", "v1", "orgs", _, "tokens", _]) => ActivityKind::TokenRevoke,
        ("POST", ["api", "v1", "orgs", _, "rollouts"]) => ActivityKind::RolloutStart,
        ("POST", ["api", "v1", "orgs", _, "apps", _, "rollout", "pause"]) => ActivityKind::RolloutPause,
        ("POST", ["api", "v1", "orgs", _, "apps", _, "rollout", "resume"]) => ActivityKind::RolloutResume,
        ("POST", ["api", "v1", "orgs", _, "apps", _, "rollout", "abort"]) => ActivityKind::RolloutAbort,
        ("POST", ["api", "v1", "orgs", _, "apps", _, "rollout", "rollback"]) => ActivityKind::RolloutRollback,
        ("POST", ["api", "v1", "orgs", _, "groups"]) => ActivityKind::GroupCreate,
        ("DELETE", ["api", "v1", "orgs", _, "apps", _, "groups", _]) => ActivityKind::GroupRemove,
        ("PATCH", ["api", "v1", "orgs", _, "devices", _]) => ActivityKind::DeviceChange,
        ("POST", ["api", "v1", "orgs", _, "devices", _, "revoke"]) => ActivityKind::DeviceRevoke,
        ("POST", ["enroll"]) => ActivityKind::DeviceEnrol,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use protocol::name::Tag;

    use super::*;
    use crate::seed::openapi;

    /// Operations that are asked by POST because the question is long.
    const QUESTIONS: [&str; 1] = ["/api/v1/orgs/{org}/hash-lists"];

    #[test]
    fn every_write_of_the_described_api_is_known_to_the_audit_log() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys().filter(|method| *method != "get") {
                let method: Method = method.to_uppercase().parse().unwrap();
                let known = attempted(&method, path).is_some();
                assert_eq!(known, !QUESTIONS.contains(&path.as_str()), "{method} {path}");
            }
        }
    }

    #[test]
    fn a_refused_write_names_what_its_path_names() {
        let tried = |method: Method, path: &str| attempted(&method, path);
        let digest = protocol::digest::Digest::sha256(b"x");
        let tag: Tag = "1.0".parse().unwrap();
        let put = tried(Method::PUT, "/v2/acme/web/manifests/1.0").unwrap();
        assert_eq!((put.action, put.tags, put.digest), (ActivityKind::ManifestPush, vec![tag.clone()], None));
        let delete = tried(Method::DELETE, "/v2/acme/web/manifests/1.0").unwrap();
        assert_eq!((delete.action, delete.tags), (ActivityKind::TagDelete, vec![tag]));
        let delete = tried(Method::DELETE, &format!("/v2/acme/web/manifests/{digest}")).unwrap();
        assert_eq!((delete.action, delete.digest), (ActivityKind::ManifestDelete, Some(digest)));
        let delete = tried(Method::DELETE, &format!("/v2/acme/web/blobs/{digest}")).unwrap();
        assert_eq!((delete.action, delete.digest), (ActivityKind::BlobDelete, Some(digest)));
        let upload = tried(Method::PATCH, "/v2/acme/web/blobs/uploads/0a").unwrap();
        assert_eq!((upload.action, upload.repository.unwrap().to_string()), (ActivityKind::BlobPush, "acme/web".to_owned()));
        let token = tried(Method::POST, "/api/v1/orgs/acme/tokens").unwrap();
        assert_eq!((token.action, token.org.unwrap().to_string()), (ActivityKind::TokenCreate, "acme".to_owned()));
        for (method, path) in [
            (Method::GET, "/v2/acme/web/manifests/1.0"),
            (Method::DELETE, "/v2/Acme/web/manifests/1.0"),
            (Method::DELETE, "/v2/acme/web/tags/list"),
            (Method::DELETE, "/v2/acme/web/blobs/uploads/0a"),
            (Method::POST, "/api/v1/device/report"),
            (Method::POST, "/anything"),
        ] {
            assert_eq!(attempted(&method, path), None, "{method} {path}");
        }
    }
}
