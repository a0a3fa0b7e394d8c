//! Placeholder.
/// Demo.
#[derive(Debug, clap::Args)]
pub struct Demo {}
impl Demo {
    /// Runs.
    pub async fn run(self, _log: crate::telemetry::LogFormat) -> anyhow::Result<()> {
        anyhow::bail!("not yet")
    }
}
