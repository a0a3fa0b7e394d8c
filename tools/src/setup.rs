//! `cargo tools setup`: installs what the tests need and the Rust toolchain does not bring.
//!
//! It knows Debian packages only, and installs only as root. It does not start or configure anything.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{stdout_of, succeed};

/// Install what the tests need (Debian packages; as root)
#[derive(clap::Args)]
pub(crate) struct Args {}

/// A program that the tests call, and where it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tool {
    executable: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { executable: "skopeo", package: "skopeo", purpose: "pushes and pulls images as a client that is not ours" },
    Tool { executable: "podman", package: "podman", purpose: "the first of the two container engines" },
    Tool { executable: "dockerd", package: "docker.io", purpose: "the second of the two container engines" },
    Tool { executable: "buildah", package: "buildah", purpose: "makes images and pushes them without an engine" },
    Tool { executable: "curl", package: "curl", purpose: "asks the registry and the API as a client that is not ours" },
    Tool { executable: "openssl", package: "openssl", purpose: "opens sealed keys as a tool that is not ours" },
    Tool { executable: "docker-registry", package: "docker-registry", purpose: "mirrors our registry, and is what it is measured against" },
    Tool { executable: "nginx", package: "nginx-light", purpose: "serves the same bytes as files, as the limit to measure against" },
    Tool { executable: "softhsm2-util", package: "softhsm2", purpose: "stands in for the hardware that keeps a device's key" },
    Tool { executable: "faketime", package: "faketime", purpose: "lets a seed or a device believe that it is another day" },
    Tool { executable: "ip", package: "iproute2", purpose: "makes the network namespaces of the lab" },
    Tool { executable: "nft", package: "nftables", purpose: "cuts and loses packets in the lab" },
];

/// Runs the verb.
pub(crate) fn run(_: &Args) -> Result<()> {
    install_missing()
}

/// Installs the tools that are missing, or fails with the command that would.
pub(crate) fn install_missing() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        println!("setup: all there ({})", names(TOOLS, |tool| tool.executable));
        return Ok(());
    }
    let packages = names(&missing, |tool| tool.package);
    if !is_root()? {
        bail!(
            "the tests need {}, not found on PATH, and only root may install them; run\n    \
             sudo apt-get update && sudo apt-get install -y {packages}\n\
             or leave out the tests that need them: cargo tools test --skip-missing",
            described(&missing),
        );
    }
    println!("setup: installing {packages}");
    let advice = "is this Debian, with a package mirror in reach? If not, install the tools in another way";
    succeed(apt_get().arg("update")).context(advice)?;
    succeed(apt_get().args(["install", "-y"]).args(missing.iter().map(|tool| tool.package))).context(advice)?;
    let missing = self::missing();
    if !missing.is_empty() {
        bail!("{} still not on PATH after the installation of {packages}; see where the package put it and mend PATH", described(&missing),);
    }
    Ok(())
}

/// Says which tools are missing and installs nothing.
pub(crate) fn say_missing() {
    let missing = missing();
    if missing.is_empty() {
        println!("setup: all there ({})", names(TOOLS, |tool| tool.executable));
    } else {
        println!("setup: missing, tests that need them are skipped: {}", described(&missing));
    }
}

/// Whether `executable` is found in one of the folders of `PATH`.
pub(crate) fn is_on_path(executable: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| is_in_folders(executable, &path))
}

fn missing() -> Vec<Tool> {
    TOOLS.iter().copied().filter(|tool| !is_on_path(tool.executable)).collect()
}

fn is_in_folders(executable: &str, path: &OsStr) -> bool {
    std::env::split_paths(path).any(|folder| is_executable(&folder.join(executable)))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

pub(crate) fn is_root() -> Result<bool> {
    let id = stdout_of(Command::new("id").arg("-u"))?;
    Ok(id.trim() == "0")
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn names(tools: &[Tool], name: impl Fn(&Tool) -> &'static str) -> String {
    tools.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn described(tools: &[Tool]) -> String {
    tools.iter().map(|tool| format!("{} ({})", tool.executable, tool.purpose)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn finds_only_what_can_be_executed() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let path = std::env::join_paths([other.path(), folder.path()]).unwrap();
        let file = folder.path().join("skopeo");

        assert!(!is_in_folders("skopeo", &path));
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!is_in_folders("skopeo", &path));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_in_folders("skopeo", &path));
    }

    #[test]
    fn each_tool_is_named_with_what_it_is_for() {
        assert_eq!(
            names(TOOLS, |tool| tool.package),
            "skopeo podman docker.io buildah curl openssl docker-registry nginx-light softhsm2 faketime iproute2 nftables"
        );
        assert!(described(TOOLS).contains("ip (makes the network namespaces of the lab)"));
    }
}
