//! Requests of registry and API, counted and timed.
//!
//! Not here: what else is measured; see [`crate::seed::metrics`].

use std::time::Duration;

use axum::http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use protocol::oci::route::Route;

/// Upper bounds of the histogram, in seconds: from a manifest out of memory to the upload of a large layer.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0];

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

    /// A request was answered with `status` after `took`.
    pub(super) fn count(&self, method: &Method, path: &str, status: u16, took: Duration) {
        let route = route(path);
        self.requests.get_or_create(&Asked { route, method: method_name(method), status }).inc();
        self.seconds.get_or_create(&OfRoute { route }).observe(took.as_secs_f64());
    }

    /// How many requests were counted.
    #[cfg(test)]
    pub(super) fn counted(&self, route: &'static str, method: &'static str, status: u16) -> u64 {
        self.requests.get_or_create(&Asked { route, method, status }).get()
    }
}

/// The class of a path: few, whatever strangers ask for.
fn route(path: &str) -> &'static str {
    match path.split('/').nth(1) {
        Some("v2") => Route::class(path).unwrap_or("other"),
        Some("auth") => "token",
        Some("api") => "api",
        Some("tuf") => "tuf",
        _ => "other",
    }
}

fn method_name(method: &Method) -> &'static str {
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

    #[test]
    fn every_path_has_one_of_few_classes() {
        for (path, class) in [
            ("/v2/", "ping"),
            ("/v2/acme/web/tags/list", "tags"),
            ("/v2/acme", "other"),
            ("/v2x", "other"),
            ("/auth/token", "token"),
            ("/api/v1/trust", "api"),
            ("/tuf/acme/root.json", "tuf"),
            ("/", "other"),
            ("*", "other"),
        ] {
            assert_eq!(route(path), class, "{path}");
        }
    }
}
