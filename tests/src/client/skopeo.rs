//! skopeo: copies images and artifacts between registries and folders.
//!
//! Not here: its memory of where it saw which blob, which all processes of a user share.

use std::path::Path;
use std::process::Command;

use crate::process::Outcome;

/// skopeo.
#[derive(Clone, Copy, Debug)]
pub struct Skopeo;

impl Skopeo {
    /// Pushes what `tag` names in the OCI layout `from`, all platforms, byte for byte, to `to` (host/repository:tag).
    pub fn push(from: &Path, tag: &str, to: &str, credentials: Option<&str>) -> Outcome {
        let mut command = Self::copy();
        command.args(["--all", "--preserve-digests", "--dest-tls-verify=false"]);
        match credentials {
            Some(credentials) => command.args(["--dest-creds", credentials]),
            None => command.arg("--dest-no-creds"),
        };
        Outcome::of(command.arg(format!("oci:{}:{tag}", from.display())).arg(format!("docker://{to}")))
    }

    /// Pulls `from` (host/repository:tag or @digest) into the OCI layout `to` as `tag`: this machine's platform.
    pub fn pull(from: &str, to: &Path, tag: &str, credentials: Option<&str>) -> Outcome {
        let mut command = Self::copy();
        command.args(["--preserve-digests", "--src-tls-verify=false"]);
        match credentials {
            Some(credentials) => command.args(["--src-creds", credentials]),
            None => command.arg("--src-no-creds"),
        };
        Outcome::of(command.arg(format!("docker://{from}")).arg(format!("oci:{}:{tag}", to.display())))
    }

    /// Runs `skopeo`.
    #[track_caller]
    pub fn run(arguments: &[&str]) -> Outcome {
        Outcome::of(Command::new("skopeo").arg("--insecure-policy").args(arguments))
    }

    fn copy() -> Command {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet"]);
        command
    }
}
