//! `hedgerow app grant`: a grant in a file, for an offline bundle.
//!
//! Not here: what a device accepts; see `protocol::statement::grant`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use protocol::name::DeviceId;
use protocol::statement::grant::{FORMAT, GRANT_SECONDS_MAX, PAYLOAD_TYPE, Subject};
use serde_json::json;

use crate::cli::Output;
use crate::cli::operator::AppPath;
use crate::clock::wall_time;
use crate::files::{self, Access};
use crate::trust::OperatorKeys;
use crate::trust::operator_keys::APP_KEY;

/// The file beside the keys that holds the newest counter of the grants of an app.
const COUNTERS: &str = "grant-counters";

const DAY_SECONDS: u64 = 86_400;

/// `app grant`.
#[derive(Debug, Args)]
pub struct Grant {
    /// The app, as ORG/APP.
    app: AppPath,
    /// The version.
    #[arg(long, value_name = "N")]
    version: u64,
    /// The group that may run it.
    #[arg(long, value_name = "GROUP", required_unless_present = "device", conflicts_with = "device")]
    group: Option<String>,
    /// The device that may run it.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// For how many days from now.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=GRANT_SECONDS_MAX / DAY_SECONDS))]
    days: u64,
    /// Where the grant is written.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where the organisation's keys are.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS")]
    keys: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Grant {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let AppPath { org, app } = self.app;
        let keys = OperatorKeys::load(&self.keys, &org)?;
        let subject = match (self.group, self.device) {
            (_, Some(device)) => Subject::Device(device),
            (group, None) => Subject::Group(group.context("say for whom: --group or --device")?),
        };
        let now = wall_time();
        let counter = next_counter(&keys.dir().join(COUNTERS).join(app.as_str()), now.as_unix_seconds())?;
        let not_after = now.plus_seconds(self.days * DAY_SECONDS);
        let grant = protocol::statement::grant::Grant { format: FORMAT, org, app, version: self.version, subject, counter, not_after };
        let envelope = keys.seal_envelope(APP_KEY, PAYLOAD_TYPE, &serde_json::to_vec(&grant)?)?;
        files::replace(&self.out, serde_json::to_string(&envelope)?.as_bytes(), Access::Public)?;
        self.output.print(&json!({ "grant": grant, "file": self.out }), || {
            format!("{}/{} version {} granted for {} days, in {}", grant.org, grant.app, grant.version, self.days, self.out.display())
        })
    }
}

/// A counter above every one before: the seconds of the clock, or one more than the last if the clock went back.
fn next_counter(path: &Path, now: u64) -> anyhow::Result<u64> {
    let last = match files::read_text(path) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} holds no counter", path.display()))?,
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    let next = now.max(last + 1);
    files::create_private_dir(path.parent().unwrap_or(path))?;
    files::replace(path, next.to_string().as_bytes(), Access::Private)?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_never_goes_back_even_if_the_clock_does() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("counters/web");
        assert_eq!(next_counter(&path, 100).unwrap(), 100);
        assert_eq!(next_counter(&path, 50).unwrap(), 101);
        assert_eq!(next_counter(&path, 500).unwrap(), 500);
        std::fs::write(&path, "x").unwrap();
        assert!(next_counter(&path, 500).is_err());
    }
}
