//! Handing events to one receiver: in order, again and again until it takes them.
//!
//! Not here: what is sent.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use tokio::sync::{mpsc, watch};

use super::event::MEDIA_TYPE;
use crate::config::logs::WebhookConfig;
use crate::files;
use crate::seed::log_metrics::WebhookMetrics;
use crate::telemetry::chain;
use crate::transport::tls;

/// The longest wait between two attempts: how long a receiver that is back may have to wait.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The receiver has the event.
    Taken,
    /// It does not want this event: to send it again is no use, and it would hold up the others.
    Unwanted,
    /// It could not take it now.
    Again,
}

impl Verdict {
    /// Redirections are not followed: headers with secrets would go where the settings do not say.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => Self::Unwanted,
            status if status.is_success() => Self::Taken,
            _ => Self::Again,
        }
    }
}

/// How long to wait after the `failures`th failure in a row, the first being 0: twice as long each time, and a random half of
/// it less, so that seeds that failed together do not come back together.
fn backoff(first: Duration, failures: u32, random: u32) -> Duration {
    let longest = first.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(BACKOFF_MAX);
    longest.mul_f64(0.5 + 0.5 * (f64::from(random) / f64::from(u32::MAX)))
}

/// The client for one receiver.
///
/// # Errors
/// When the CA file cannot be read.
pub fn client(config: &WebhookConfig) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .timeout(config.timeout())
        .user_agent(concat!("hedgerow/", env!("CARGO_PKG_VERSION")))
        .default_headers(config.headers.clone());
    if let Some(path) = &config.file.ca_file {
        builder = builder.tls_backend_preconfigured(tls::operator_client(&files::read_text(path)?)?);
    }
    builder.build().context("making the HTTP client for a webhook")
}

/// Hands over events until there are no more to come; when `stop` says so, those that are there are the last ones.
pub async fn deliver(
    config: WebhookConfig,
    client: Client,
    metrics: WebhookMetrics,
    mut queue: mpsc::Receiver<Bytes>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let event = tokio::select! {
            biased;
            event = queue.recv() => event,
            () = stopped(&mut stop) => {
                queue.close();
                queue.recv().await
            }
        };
        let Some(event) = event else { return };
        hand_over(&config, &client, &metrics, event).await;
        metrics.waiting.dec();
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn hand_over(config: &WebhookConfig, client: &Client, metrics: &WebhookMetrics, event: Bytes) {
    let mut failures = 0;
    loop {
        let sent = client.post(config.url.clone()).header(CONTENT_TYPE, MEDIA_TYPE).body(event.clone()).send().await;
        let (verdict, reason) = match sent {
            Ok(answer) => (Verdict::of(answer.status()), answer.status().to_string()),
            Err(error) => (Verdict::Again, chain(&error.without_url())),
        };
        match verdict {
            Verdict::Taken => {
                metrics.delivered.inc();
                if failures > 0 {
                    tracing::info!(receiver = config.name(), failures, "a receiver of webhooks takes events again");
                }
                return;
            }
            Verdict::Unwanted => {
                metrics.dropped.inc();
                tracing::warn!(receiver = config.name(), reason, "a receiver of webhooks refused an event; it is dropped");
                return;
            }
            Verdict::Again => {
                metrics.failed.inc();
                if failures == 0 {
                    tracing::warn!(
                        receiver = config.name(),
                        reason,
                        "a receiver of webhooks did not take an event; trying again until it does"
                    );
                }
            }
        }
        let mut random = [0; 4];
        let _ = getrandom::fill(&mut random);
        tokio::time::sleep(backoff(config.backoff(), failures, u32::from_ne_bytes(random))).await;
        failures = failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_are_never_less_than_half() {
        let first = Duration::from_secs(1);
        for (failures, longest) in [(0, 1), (1, 2), (3, 8), (6, 60), (31, 60), (32, 60), (u32::MAX, 60)] {
            let longest = Duration::from_secs(longest);
            assert_eq!(backoff(first, failures, u32::MAX), longest, "{failures}");
            assert_eq!(backoff(first, failures, 0), longest / 2, "{failures}");
        }
    }

    #[test]
    fn only_what_no_repetition_can_heal_is_dropped() {
        for (status, verdict) in [
            (200, Verdict::Taken),
            (204, Verdict::Taken),
            (301, Verdict::Again),
            (400, Verdict::Unwanted),
            (401, Verdict::Again),
            (404, Verdict::Again),
            (413, Verdict::Unwanted),
            (422, Verdict::Unwanted),
            (429, Verdict::Again),
            (500, Verdict::Again),
            (503, Verdict::Again),
        ] {
            assert_eq!(Verdict::of(StatusCode::from_u16(status).unwrap()), verdict, "{status}");
        }
    }
}
