//! `hedgerow device grant`.
//!
//! Not here: which grants count; see `protocol::statement::grant`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::cli::Output;
use crate::control::{Access, access};
use crate::device::agent::grants::GrantApplied;
use crate::files;

/// `device grant`.
#[derive(Debug, Args)]
pub struct Grant {
    /// The file that `hedgerow app grant` wrote.
    file: PathBuf,
    /// Where the device keeps everything.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Grant {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let envelope = files::read_text(&self.file)?;
        let client = match access(&self.data, "device grant")? {
            Access::Running(_, Some(client)) => client,
            Access::Running(held, None) => bail!("{held}; it has no control socket, so it cannot be told"),
            Access::Alone(_) => bail!("no device runs in {}; start it with `hedgerow device run`", self.data.display()),
        };
        let GrantApplied { app, version, not_after } = client.apply_grant(envelope).await?;
        self.output.print(&json!({ "app": app, "version": version, "not_after": not_after }), || {
            format!("{app} version {version} may run here until {not_after}, or until the seed says otherwise")
        })
    }
}
