//! `hedgerow seed new-online-key`: another key in the place of one that somebody else may have.
//!
//! Not here: what makes devices believe it, see [`super::trust`]; what it signs, see [`crate::trust::online_key`].

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;

use super::Output;
use crate::files;
use crate::store::folders::KEYS;
use crate::store::lock::DataLock;
use crate::trust::OnlineSigner;

/// `seed new-online-key`.
#[derive(Debug, Args)]
pub struct NewOnlineKey {
    /// Where the seed keeps everything; it must not be running.
    #[arg(long, value_name = "DIR", env = "HEDGEROW_DATA")]
    data: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl NewOnlineKey {
    /// Carries out the command.
    ///
    /// # Errors
    /// When there is no seed, it runs, or a file cannot be written.
    pub fn run(self) -> anyhow::Result<()> {
        let keys = self.data.join(KEYS);
        let path = keys.join("online.pem");
        ensure!(path.exists(), "there is no online key in {}; is it the data directory of a seed?", self.data.display());
        let _lock = DataLock::acquire(&self.data, "seed new-online-key")?;
        let old = OnlineSigner::load_or_generate(&path)?.keyid().to_owned();
        let aside = keys.join(format!("retired-online-{}.pem", &old[..16]));
        std::fs::rename(&path, &aside).with_context(|| format!("setting {} aside", path.display()))?;
        files::sync_dir(&keys).with_context(|| format!("writing {}", keys.display()))?;
        let new = OnlineSigner::load_or_generate(&path)?.keyid().to_owned();
        self.output.print(&json!({ "keyid": new, "retired": old }), || {
            format!(
                "the online key is {new}\n\nStart the seed. Then, for every organisation, so that its devices believe it:\n  hedgerow trust rotate ORG \
                 online"
            )
        })
    }
}
