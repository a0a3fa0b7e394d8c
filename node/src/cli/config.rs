//! `hedgerow config show`: what is in force, after flags, environment, file and defaults.
//!
//! Not here: what the settings mean; see [`crate::config`].

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;
use crate::config::device::{DeviceConfig, DeviceFile};
use crate::config::seed::{FILE_NAME, SeedConfig, SeedFlags};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the settings in force of the seed or device in a data directory.
    Show(Show),
}

/// `config show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The data directory of a seed or device.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    /// Settings; default: the file in --data.
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CONFIG")]
    config: Option<PathBuf>,
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
            let config = SeedConfig::load(&show.data, show.config.as_deref(), SeedFlags::default())?;
            let file = config.to_file();
            return show.output.print(&file, || toml::to_string_pretty(&file).unwrap_or_default().trim_end().to_owned());
        }
        let file = DeviceConfig::load(&show.data, show.config.as_deref(), DeviceFile::default())?.to_file();
        show.output.print(&file, || toml::to_string_pretty(&file).unwrap_or_default().trim_end().to_owned())
    }
}
