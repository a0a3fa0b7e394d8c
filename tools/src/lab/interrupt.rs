//! Being told to stop: loops of the lab ask here, so that what they made is removed on the way out.
//!
//! Not here: the removal; see [`super::network`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

static TOLD: AtomicBool = AtomicBool::new(false);

/// Listens for SIGINT, SIGTERM and SIGHUP from now on.
pub(super) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime for signals")?;
    let signals = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal)
    };
    for told in signals {
        let mut told = told.context("signals cannot be waited for")?;
        // One thread drives all of them, through the same runtime.
        runtime.spawn(async move {
            told.recv().await;
            TOLD.store(true, Ordering::Relaxed);
        });
    }
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(())
}

/// Fails once the lab was told to stop.
pub(super) fn check() -> Result<()> {
    if TOLD.load(Ordering::Relaxed) {
        bail!("the lab was told to stop; its namespaces are removed");
    }
    Ok(())
}

/// Waits, unless the lab is told to stop.
pub(super) fn sleep(time: Duration) -> Result<()> {
    std::thread::sleep(time);
    check()
}
