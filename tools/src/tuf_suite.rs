//! The official conformance suite of TUF against the product's client, from a checkout that the caller names.
//!
//! Not here: our own words for its cases, which `check` runs; see `node/src/trust/updater/tests.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo::{Workspace, succeed};

/// Names the checkout of the suite.
const VARIABLE: &str = "HEDGEROW_TUF_SUITE";

const CLIENT: &str = "tuf-conformance-client";

/// Runs every test of the suite; none is expected to fail.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let Some(suite) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) else {
        bail!(
            "{VARIABLE} does not name a checkout of the suite; fetch theupdateframework/tuf-conformance, install what its pyproject.toml \
             asks for (in its folder .venv, or for python3) and the program faketime, and set the variable to its folder"
        )
    };
    if !suite.join("tuf_conformance").is_dir() {
        bail!("{} is no checkout of the suite: it has no folder tuf_conformance; set {VARIABLE} to one that has", suite.display());
    }
    succeed(workspace.cargo().args(["build", "--release", "-p", "tests", "--bin", CLIENT]))?;
    succeed(&mut suite_command(&suite, &workspace.target.join("release").join(CLIENT)))
}

fn suite_command(suite: &Path, client: &Path) -> Command {
    let own = suite.join(".venv/bin/python");
    let mut command = Command::new(if own.is_file() { own } else { "python3".into() });
    command.args(["-m", "pytest", "--quiet", "--entrypoint"]).arg(client).arg("tuf_conformance").current_dir(suite);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::line_of;

    #[test]
    fn the_suite_drives_the_client_that_was_built() {
        let command = suite_command(Path::new("/nowhere/suite"), Path::new("/t/release/tuf-conformance-client"));
        let line = "python3 -m pytest --quiet --entrypoint /t/release/tuf-conformance-client tuf_conformance";
        assert_eq!(line_of(&command), line);
        assert_eq!(command.get_current_dir(), Some(Path::new("/nowhere/suite")));
    }
}
