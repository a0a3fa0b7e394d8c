//! What a process says about itself: logs on stderr, metrics, and how it is told to stop.
//!
//! Levels: ERROR, somebody must act; WARN, something was refused or failed and was handled; INFO, the life of the process
//! and of versions; DEBUG, for whoever hunts a fault.
//!
//! Not here: the figures themselves.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use clap::ValueEnum;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to stderr; `HEDGEROW_LOG` filters (default `info`).
pub fn start_logging(format: LogFormat) {
    let filter = std::env::var("HEDGEROW_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::new(filter.as_deref().unwrap_or("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

/// What an error says with its causes, for a log; a cause that the error repeats at its end stands there once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes
        .map(ToString::to_string)
        .fold(error.to_string(), |said, cause| if said.ends_with(&cause) { said } else { format!("{said}: {cause}") })
}

/// Ends when the process is told to stop (SIGTERM or SIGINT). It listens from the call on, so that whoever is told that the
/// process is ready can stop it at once.
pub fn stop_signal() -> impl Future<Output = ()> {
    let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| {
        let listening = signal(kind);
        async move {
            match listening {
                Ok(mut signal) => {
                    signal.recv().await;
                }
                Err(error) => {
                    tracing::error!(%error, "a stop signal cannot be waited for; the process can only be killed");
                    std::future::pending::<()>().await;
                }
            }
        }
    });
    async move {
        tokio::select! {
            () = terminate => {}
            () = interrupt => {}
        }
    }
}

/// Calls `then` whenever the process is told that its terminal is gone or its logs were rotated (SIGHUP).
pub async fn on_hangup(then: impl Fn()) {
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => {
            while hangup.recv().await.is_some() {
                then();
            }
        }
        Err(error) => tracing::error!(%error, "SIGHUP cannot be waited for; it ends the process"),
    }
}

/// The end of a process: a part that ends before it was told to is a fault, and whoever watches the process must know.
///
/// # Errors
/// When a part ended by itself.
pub fn ended_by_itself(part: Option<&str>) -> anyhow::Result<()> {
    match part {
        Some(part) => anyhow::bail!("{part} ended by itself, which is a fault of this program; the log above says more"),
        None => Ok(()),
    }
}

/// The registry's figures in the OpenMetrics text format.
pub fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
