//! What watches a seed asks: `/metrics`, `/healthz` (the process answers) and `/readyz` (send clients here).
//!
//! `/readyz` says 503 until the store is open, and again from the moment on at which the seed is told to stop.
//!
//! Not here: the figures; see [`super::metrics`].

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::telemetry;

const STARTING: &str = "starting: the store is not open yet\n";
const DRAINING: &str = "draining: this seed has been told to stop\n";

/// Answers about a seed, from before it is open until after it has drained. Clones share what they say.
#[derive(Clone, Debug)]
pub struct Monitor {
    figures: Arc<OnceLock<Registry>>,
    draining: watch::Receiver<bool>,
}

impl Monitor {
    /// Of a seed that is starting, and is draining when `draining` says so.
    pub fn new(draining: watch::Receiver<bool>) -> Self {
        Self { figures: Arc::default(), draining }
    }

    /// The seed accepts requests, and these are its figures.
    pub fn ready(&self, figures: Registry) {
        drop(self.figures.set(figures));
    }

    /// The routes.
    pub fn router(self) -> Router {
        let readiness = self.clone();
        Router::new()
            .route("/metrics", get(move || async move { self.metrics() }))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(move || async move { readiness.readiness() }))
    }

    fn metrics(&self) -> Response {
        self.figures.get().map_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, STARTING).into_response(), telemetry::metrics)
    }

    fn readiness(&self) -> (StatusCode, &'static str) {
        if *self.draining.borrow() {
            (StatusCode::SERVICE_UNAVAILABLE, DRAINING)
        } else if self.figures.get().is_none() {
            (StatusCode::SERVICE_UNAVAILABLE, STARTING)
        } else {
            (StatusCode::OK, "ok\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_ready_between_its_start_and_its_end() {
        let (stop, stopped) = watch::channel(false);
        let monitor = Monitor::new(stopped);
        assert_eq!(monitor.readiness().0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(monitor.metrics().status(), StatusCode::SERVICE_UNAVAILABLE);
        monitor.ready(Registry::default());
        assert_eq!(monitor.readiness().0, StatusCode::OK);
        assert_eq!(monitor.metrics().status(), StatusCode::OK);
        stop.send(true).unwrap();
        assert_eq!(monitor.readiness(), (StatusCode::SERVICE_UNAVAILABLE, DRAINING));
        assert_eq!(monitor.metrics().status(), StatusCode::OK, "figures are of use to the end");
    }
}
