//! Requests of registry and API, counted and timed.
//!
//! Not here: what else is measured; see [`super::metrics`].

use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the histogram, in seconds: from a manifest out of memory to the upload of a large layer.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0];

/// The status under which a request is counted whose client went away before the answer began, as nginx has it.
const CLIENT_CLOSED: u16 = 499;

/// Figures about requests. Clones share them.
#[derive(Clone, Debug)]
pub struct RequestFigures {
    requests: Family<Asked, Counter>,
    seconds: Family<OfRoute, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: &'static str,
}

impl Default for RequestFigures {
    fn default() -> Self {
        Self { requests: Family::default(), seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)) }
    }
}

impl RequestFigures {
    /// Shows them under their names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("hedgerow_seed_requests", "Requests of registry and API", self.requests.clone());
        let help = "From a request's head to the head of its answer, in seconds: a push with its body, a pull without";
        registry.register("hedgerow_seed_request_seconds", help, self.seconds.clone());
    }
}

/// Counts and times one request.
pub async fn observe(State(figures): State<RequestFigures>, request: Request, next: Next) -> Response {
    let mut under_way =
        UnderWay { figures, route: route(request.uri().path()), method: method(request.method()), started: Instant::now(), status: None };
    let response = next.run(request).await;
    under_way.status = Some(response.status());
    response
}

/// Counts when it is dropped, also because the client went away.
struct UnderWay {
    figures: RequestFigures,
    route: &'static str,
    method: &'static str,
    started: Instant,
    status: Option<StatusCode>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let status = self.status.map_or(CLIENT_CLOSED, |status| status.as_u16());
        self.figures.requests.get_or_create(&Asked { route: self.route, method: self.method, status }).inc();
        self.figures.seconds.get_or_create(&OfRoute { route: self.route }).observe(self.started.elapsed().as_secs_f64());
    }
}

/// The class of a path: few, whatever strangers ask for.
fn route(path: &str) -> &'static str {
    if let Some(rest) = path.strip_prefix("/v2") {
        let mut from_end = rest.trim_end_matches('/').rsplit('/');
        return match (from_end.next(), from_end.next(), from_end.next()) {
            (Some(""), None, None) => "ping",
            (Some("_catalog"), Some(""), None) => "catalog",
            (Some("uploads"), Some("blobs"), _) | (Some(_), Some("uploads"), Some("blobs")) => "uploads",
            (Some(_), Some("blobs"), Some(_)) => "blobs",
            (Some(_), Some("manifests"), Some(_)) => "manifests",
            (Some("list"), Some("tags"), Some(_)) => "tags",
            (Some(_), Some("referrers"), Some(_)) => "referrers",
            _ => "other",
        };
    }
    match path.split('/').nth(1) {
        Some("auth") => "token",
        Some("api") => "api",
        Some("tuf") => "tuf",
        _ => "other",
    }
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower_service::Service as _;

    #[test]
    fn every_path_has_one_of_few_classes() {
        for (path, class) in [
            ("/v2", "ping"),
            ("/v2/", "ping"),
            ("/v2/_catalog", "catalog"),
            ("/v2/acme/web/blobs/sha256:00", "blobs"),
            ("/v2/acme/web/blobs/uploads/", "uploads"),
            ("/v2/acme/web/blobs/uploads/0a", "uploads"),
            ("/v2/acme/web/manifests/latest", "manifests"),
            ("/v2/acme/web/tags/list", "tags"),
            ("/v2/acme/web/referrers/sha256:00", "referrers"),
            ("/auth/token", "token"),
            ("/api/v1/trust", "api"),
            ("/tuf/acme/root.json", "tuf"),
            ("/", "other"),
            ("/v2/acme", "other"),
            ("/v2x", "other"),
            ("*", "other"),
        ] {
            assert_eq!(route(path), class, "{path}");
        }
    }

    #[tokio::test]
    async fn a_request_is_counted_once_also_when_its_client_goes_away() {
        let figures = RequestFigures::default();
        let never = || async { std::future::pending::<()>().await };
        let router = Router::new().route("/api/quick", get(|| async {})).route("/api/never", get(never));
        let mut router = router.layer(from_fn_with_state(figures.clone(), observe));
        let mut ask = |path: &str| router.call(Request::get(path).body(Body::empty()).unwrap());
        ask("/api/quick").await.unwrap();
        ask("/api/absent").await.unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), ask("/api/never")).await.is_err());
        for status in [200, 404, CLIENT_CLOSED] {
            let asked = Asked { route: "api", method: "GET", status };
            assert_eq!(figures.requests.get_or_create(&asked).get(), 1, "{status}");
        }
    }
}
