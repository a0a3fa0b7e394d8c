//! Handing events to one receiver: in order, again and again until it takes them.
//!
//! Not here: what is sent; what an answer means and how long to wait, see [`protocol::webhook`].

use anyhow::Context as _;
use bytes::Bytes;
use protocol::webhook::{Offered, backoff};
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use tokio::sync::{mpsc, watch};

use super::event::MEDIA_TYPE;
use crate::config::logs::WebhookConfig;
use crate::files;
use crate::seed::log_metrics::WebhookMetrics;
use crate::telemetry::chain;
use crate::transport::tls;

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
        let (offered, reason) = match sent {
            Ok(answer) => (Offered::answered(answer.status().as_u16()), answer.status().to_string()),
            Err(error) => (Offered::Again, chain(&error.without_url())),
        };
        match offered {
            Offered::Taken => {
                metrics.delivered.inc();
                if failures > 0 {
                    tracing::info!(receiver = config.name(), failures, "a receiver of webhooks takes events again");
                }
                return;
            }
            Offered::Unwanted => {
                metrics.dropped.inc();
                tracing::warn!(receiver = config.name(), reason, "a receiver of webhooks refused an event; it is dropped");
                return;
            }
            Offered::Again => {
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
