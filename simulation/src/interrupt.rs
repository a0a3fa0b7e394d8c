//! Ctrl-C: the first one ends a run with a report of what is done, the second one at once.
//!
//! Not here: what is left out then; see [`simulation::fleet::run_until`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

/// What a shell takes for "ended by Ctrl-C".
const INTERRUPTED: i32 = 130;

/// A flag that the first Ctrl-C sets.
///
/// # Errors
/// When the system does not let the process listen for it.
pub(crate) fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot listen for Ctrl-C")?;
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                flag.store(true, Ordering::Relaxed);
                eprintln!("interrupted: the sites under way are ended, then comes a partial report; Ctrl-C again ends at once");
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(INTERRUPTED);
            }
        });
    });
    Ok(stop)
}
