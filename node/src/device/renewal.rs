//! The driver of [`protocol::identity::renewal`]: it asks the seed for the next certificate, keeps it, and shows it from then
//! on in QUIC and HTTPS, without a restart.
//!
//! Not here: when it asks.

use std::sync::Arc;

use anyhow::Context;
use protocol::identity::renewal::Renewal;
use protocol::time::WallTime;

use super::identity::Identity;
use super::seed_client::SeedClient;
use super::state::DeviceDir;
use crate::api::RenewRequest;
use crate::clock::Clock;
use crate::transport::ca::certificate_request;

/// Keeps the certificate current for as long as the device runs.
pub async fn run(dir: DeviceDir, identity: Arc<Identity>, client: Arc<SeedClient>, seed: u64) {
    let clock = Clock::start();
    let mut kept = dir.early_renewal().unwrap_or_else(|error| {
        tracing::error!(error = format!("{error:#}"), "when the certificate is renewed early is not known; it is decided anew");
        None
    });
    let mut machine = Renewal::new(clock.now(), identity.credentials.validity(), kept, seed);
    if kept.is_none() && !identity.credentials.is_of_newest_authority() {
        machine.on_authorities_changed(clock.now(), identity.time().now);
    }
    loop {
        if machine.early() != kept {
            keep_early(&dir, machine.early()).await;
            kept = machine.early();
        }
        machine.handle_timeout(clock.now(), identity.time().now);
        if machine.poll_renew() {
            match renew(&dir, &identity, &client).await {
                Ok(()) => {
                    let validity = identity.credentials.validity();
                    machine.on_renewed(clock.now(), identity.time().now, validity);
                    let (until, next) = (validity.until.as_unix_seconds(), machine.due().as_unix_seconds());
                    tracing::info!(event = "certificate_renewed", until, next, "the device has a new certificate");
                }
                Err(error) => {
                    machine.on_failed(clock.now());
                    let until = identity.credentials.validity().until.as_unix_seconds();
                    tracing::warn!(
                        event = "renewal_failed",
                        until,
                        error = format!("{error:#}"),
                        "the certificate was not renewed; trying again"
                    );
                }
            }
            identity.keep_time().await;
            continue;
        }
        let due = machine.poll_timeout().map(|due| clock.to_tokio(due));
        tokio::select! {
            () = sleep_until(due) => {}
            () = client.certificate_refused() => machine.on_refused(clock.now()),
            () = identity.authorities_changed() => {
                client.reconnect();
                machine.on_authorities_changed(clock.now(), identity.time().now);
            }
        }
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn keep_early(dir: &DeviceDir, early: Option<WallTime>) {
    let dir = dir.clone();
    let kept = tokio::task::spawn_blocking(move || dir.keep_early_renewal(early)).await;
    if let Err(error) = kept.map_err(anyhow::Error::from).and_then(|kept| kept) {
        tracing::error!(
            error = format!("{error:#}"),
            "when the certificate is renewed early cannot be kept; free disk space or check the disk"
        );
    }
}

async fn renew(dir: &DeviceDir, identity: &Arc<Identity>, client: &SeedClient) -> anyhow::Result<()> {
    let signing = identity.clone();
    let request =
        tokio::task::spawn_blocking(move || certificate_request(signing.credentials.key())).await.context("signing was interrupted")??;
    let renewed = client.renew(&RenewRequest { request, authorities: identity.admission().anchors().fingerprints() }).await?;
    identity.credentials.check(&renewed.certificate)?;
    let (dir, certificate) = (dir.clone(), renewed.certificate.clone());
    tokio::task::spawn_blocking(move || dir.keep_certificate(&certificate)).await.context("writing was interrupted")??;
    identity.credentials.replace(&renewed.certificate)?;
    client.reconnect();
    Ok(())
}
