//! The description of the control API, served by the seed itself.
//!
//! Not here: the routes; see [`super::api`].

/// The OpenAPI 3.1 document.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use tower_service::Service as _;

    use super::*;
    use crate::seed::activity::attempted;
    use crate::seed::api;
    use crate::seed::fixture::seed;

    #[tokio::test]
    async fn every_described_route_exists_and_asks_who_is_there() {
        let data = tempfile::tempdir().unwrap();
        let mut router = api::router(Arc::new(seed(data.path())));
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut routes = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let named = [
                    ("{org}", "acme"),
                    ("{app}", "web"),
                    ("{path}", "timestamp.json"),
                    ("{id}", "0"),
                    ("{version}", "1"),
                    ("{repository}", "web"),
                    ("{pattern}", "*"),
                    ("{device}", "kiosk"),
                    ("{group}", "west"),
                ];
                let uri = named.iter().fold(path.clone(), |uri, (name, value)| uri.replace(name, value));
                let request = Request::builder()
                    .method(method.to_uppercase().as_str())
                    .uri(uri)
                    .header("content-type", "application/json")
                    .body(Body::from(example(operation)))
                    .unwrap();
                let status = router.call(request).await.unwrap().status();
                let wanted = if operation.get("security").is_some() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
                assert_eq!(status, wanted, "{method} {path}");
                routes += 1;
            }
        }
        assert_eq!(routes, 39);
    }

    #[test]
    fn what_can_be_answered_to_each_operation_is_described() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let answers = |status: &str| operation["responses"].get(status).is_some();
                let is_open = operation.get("security").is_some();
                assert_eq!((answers("401"), answers("429")), (!is_open, !is_open), "{method} {path}");
                let is_write = attempted(&method.to_uppercase().parse().unwrap(), path).is_some();
                assert_eq!(answers("503"), is_write, "{method} {path}: it waits for room in the audit log");
                assert!(is_write || !answers("409"), "{method} {path}: nothing can come in between");
                let is_named = path.ends_with('}') || path.ends_with("/retire") || path.ends_with("/rollout");
                assert!(!is_named || answers("404"), "{method} {path}: there may be no such thing");
            }
        }
    }

    /// A body that fits, so that the answer is about who asks.
    fn example(operation: &serde_json::Value) -> String {
        let digest = protocol::digest::Digest::sha256(b"");
        let schema = operation.pointer("/requestBody/content/application~1json/schema/$ref").and_then(serde_json::Value::as_str);
        match schema.map_or("", |name| name.rsplit('/').next().unwrap_or_default()) {
            "NewOrg" => r#"{"org":"acme","files":[]}"#.to_owned(),
            "NewKey" => r#"{"scopes":["pull"]}"#.to_owned(),
            "HashListQuery" => r#"{"blobs":[]}"#.to_owned(),
            "Publication" => r#"{"app":"web","version":1,"statements":{},"app_role":{"name":"","content":""}}"#.to_owned(),
            "NewManagedVersion" => r#"{"app":"web","version":1,"statements":{}}"#.to_owned(),
            "NewToken" => format!(r#"{{"secrets_sha256":["{digest}"],"lifetime_seconds":1}}"#),
            "NewRollout" => r#"{"app":"web","version":1,"group":"all"}"#.to_owned(),
            "Group" => r#"{"name":"west","app":"web","selector":"site=west","priority":1}"#.to_owned(),
            "RepositorySettings" | "Retire" | "RevokeDevice" | "TrustChange" | "AbortRollout" | "DeviceChange" => "{}".to_owned(),
            "" => String::new(),
            other => panic!("no example of {other}"),
        }
    }
}
