//! Builds a binary as it is shipped, and keeps a copy that later builds do not touch.
//!
//! A build of the whole workspace gives each crate the features that any other asks for, so that `protocol` would
//! mint simulated proofs in `hedgerow` too. So each binary is built by itself, where its features are its own, and
//! copied out of the way of the workspace build that follows and would write over it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cargo::{Workspace, line_of, stdout_of};

/// A binary of the product.
#[derive(Clone, Copy)]
pub(crate) struct Shipped {
    /// The crate that makes it.
    pub(crate) package: &'static str,
    /// The name of the file.
    pub(crate) binary: &'static str,
    /// The variable that tells tests where it is.
    pub(crate) variable: &'static str,
}

/// Seed, device and CLI.
pub(crate) const HEDGEROW: Shipped = Shipped { package: "node", binary: "hedgerow", variable: "HEDGEROW_BIN" };

/// The simulation.
pub(crate) const SIMULATION: Shipped = Shipped { package: "simulation", binary: "hedgerow-sim", variable: "HEDGEROW_SIM_BIN" };

impl Shipped {
    /// Builds it by itself and gives the path of the copy.
    pub(crate) fn build(self, workspace: &Workspace) -> Result<PathBuf> {
        self.build_as(workspace, self.build_command(workspace), self.binary)
    }

    fn build_as(self, workspace: &Workspace, mut command: Command, name: &str) -> Result<PathBuf> {
        eprintln!("building {name}: {}", line_of(&command));
        command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
        let messages = stdout_of(&mut command).with_context(|| format!("cannot build `{name}`"))?;
        let built = self.executable(&messages)?;
        replace(&built, &workspace.target.join("shipped"), name)
    }

    /// Builds it without optimisation and with debug assertions in the crates that decide, and gives the path of the copy; all
    /// else is as in the release, so that it need not be built again.
    pub(crate) fn build_unoptimised(self, workspace: &Workspace) -> Result<PathBuf> {
        let mut command = self.build_command(workspace);
        for package in ["protocol", self.package] {
            for setting in ["opt-level=0", "debug-assertions=true"] {
                command.arg("--config").arg(format!("profile.release.package.{package}.{setting}"));
            }
        }
        self.build_as(workspace, command, &format!("{}-unoptimised", self.binary))
    }

    /// Builds it by itself without optimisation, and gives its path.
    pub(crate) fn build_debug(self, workspace: &Workspace) -> Result<PathBuf> {
        let mut command = workspace.cargo();
        command.args(["build", "-p", self.package]);
        eprintln!("building {} without optimisation: {}", self.binary, line_of(&command));
        command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
        let messages = stdout_of(&mut command).with_context(|| format!("cannot build `{}`", self.binary))?;
        self.executable(&messages)
    }

    /// The command that builds it by itself.
    pub(crate) fn build_command(self, workspace: &Workspace) -> Command {
        let mut command = workspace.cargo();
        command.args(["build", "--release", "-p", self.package]);
        command
    }

    fn executable(self, messages: &str) -> Result<PathBuf> {
        messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message.pointer("/target/name").and_then(Value::as_str) == Some(self.binary))
            .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
            .with_context(|| {
                format!("the crate `{}` was built, but made no binary `{}`; does its Cargo.toml still name it?", self.package, self.binary)
            })
    }
}

/// Copies `built` to `folder/name`. A process that runs from the file there before keeps running from the old one.
fn replace(built: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let kept = folder.join(name);
    let copy = folder.join(format!(".{name}.{}", std::process::id()));
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(built, &copy))
        .and_then(|_| fs::rename(&copy, &kept))
        .with_context(|| format!("cannot copy {} to {}; is there room, and is it yours to write?", built.display(), kept.display()))?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_path_of_the_binary_from_the_messages_of_the_build() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"node"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"hedgerow"},"executable":"/t/release/hedgerow"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(HEDGEROW.executable(messages).unwrap(), Path::new("/t/release/hedgerow"));
        let error = SIMULATION.executable(messages).unwrap_err().to_string();
        assert!(error.contains("made no binary `hedgerow-sim`"), "{error}");
    }

    #[test]
    fn the_copy_is_not_changed_by_a_later_build() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built");
        let shipped = folder.path().join("shipped");
        fs::write(&built, "alone").unwrap();
        let kept = replace(&built, &shipped, "hedgerow").unwrap();
        fs::write(&built, "with the workspace").unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "alone");

        replace(&built, &shipped, "hedgerow").unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "with the workspace");
        assert_eq!(fs::read_dir(&shipped).unwrap().count(), 1, "no left-over copy");
    }
}
