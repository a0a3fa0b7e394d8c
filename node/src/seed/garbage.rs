//! When a running seed collects its garbage: every few hours, and when it is asked to.
//!
//! Not here: what a run does; see [`crate::store::garbage`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::Seed;
use crate::clock::wall_time;
use crate::store::garbage::{Options, Report, collect};

/// How often garbage is collected: it was garbage for a day already.
const RUN_INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);

/// How long after its start a seed collects for the first time: clients that waited for it come first.
const FIRST_RUN_DELAY: Duration = Duration::from_secs(10 * 60);

/// Collects a seed's garbage, one run at a time.
#[derive(Clone)]
pub struct Collector {
    seed: Arc<Seed>,
    running: Arc<Mutex<()>>,
}

impl Collector {
    /// The collector of a seed, which must have one alone.
    pub fn new(seed: Arc<Seed>) -> Self {
        Self { seed, running: Arc::default() }
    }

    /// Collects now, or after the run under way. What pushes rely on is left alone. `accept_clock` says that an operator
    /// finds the clock right.
    ///
    /// # Errors
    /// When the store or the file system fails.
    pub async fn collect(&self, dry_run: bool, accept_clock: bool) -> anyhow::Result<Report> {
        let _running = self.running.lock().await;
        let options = Options { dry_run, lease: true, accept_clock };
        let report = collect(&*self.seed.store, &self.seed.blobs, options, wall_time()).await?;
        if !report.dry_run {
            self.seed.metrics.add_garbage(report.files, report.bytes);
        }
        Ok(report)
    }

    /// Collects for as long as the seed runs.
    pub async fn keep_clean(self) {
        tokio::time::sleep(FIRST_RUN_DELAY).await;
        loop {
            if let Err(error) = self.collect(false, false).await {
                tracing::error!(error = format!("{error:#}"), "garbage cannot be collected; the disk fills up until it can");
            }
            tokio::time::sleep(RUN_INTERVAL).await;
        }
    }

    /// The seed.
    pub const fn seed(&self) -> &Arc<Seed> {
        &self.seed
    }
}
