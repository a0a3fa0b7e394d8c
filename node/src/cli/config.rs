//! `hedgerow config show`: what is in force, after flags, environment, file and defaults.
//!
//! Not here: what the settings mean; see [`crate::config`].

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;
use super::device::Settings;
use super::seed::Settings as SeedSettings;
use crate::config::device::DeviceConfig;
use crate::config::seed::{FILE_NAME, SeedConfig};
use crate::device::state::DeviceDir;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the settings in force of the seed or device in a data directory, with the flags that its `run` would get.
    ///
    /// A seed takes --metrics-listen, --egress-mbit, --access-log and --tls-…-file, a device all others; what does not concern the one in --data has no
    /// effect.
    Show(Show),
}

/// `config show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The data directory of a seed or device.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Settings; default: the file in --data, if there is one.
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    device: Settings,
    #[command(flatten)]
    seed: SeedSettings,
    #[command(flatten)]
    output: Output,
}

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// When the settings do not fit.
    pub fn run(self) -> anyhow::Result<()> {
        let Self::Show(show) = self;
        if show.data.join(FILE_NAME).exists() {
            let flags = show.seed.flags(show.device.metrics_listen)?;
            let config = SeedConfig::load(&show.data, show.config.as_deref(), flags)?;
            let mut shown = toml::Table::try_from(config.to_file())?;
            // The file leaves them out while all of them are the defaults.
            shown.insert("limits".to_owned(), toml::Value::try_from(&config.limits)?);
            return show.output.print(&shown, || toml::to_string_pretty(&shown).unwrap_or_default().trim_end().to_owned());
        }
        let dir = DeviceDir::new(&show.data);
        let found = show.config.is_some() || dir.is_enrolled() || show.data.join("config.toml").exists();
        anyhow::ensure!(found, "there is neither a seed nor a device in {}; check --data", show.data.display());
        let mut config = DeviceConfig::load(&show.data, show.config.as_deref(), show.device.into_file())?;
        if dir.is_enrolled() {
            dir.progress()?.ports.fill(&mut config);
        }
        let file = config.to_file();
        show.output.print(&file, || toml::to_string_pretty(&file).unwrap_or_default().trim_end().to_owned())
    }
}
