//! A small workspace in a temporary folder, to show each checker failing once.
//!
//! For tests alone. All its crates are local, so that no registry is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::cargo::Workspace;

/// The workspace; gone when dropped.
pub(crate) struct TinyWorkspace {
    folder: TempDir,
}

impl TinyWorkspace {
    /// One without crates.
    pub(crate) fn new() -> Self {
        let tiny = Self { folder: tempfile::tempdir().unwrap() };
        tiny.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\nexclude = [\"target\"]\n");
        tiny
    }

    /// One that keeps all rules, with the crates and arrows of the real one.
    pub(crate) fn clean() -> Self {
        let tiny = Self::new();
        tiny.add_with_feature("protocol", "simulated", "");
        tiny.add("node", &depends(&["protocol"]), "//! Node.\n");
        tiny.add("simulation", "[dependencies]\nprotocol = { path = \"../protocol\", features = [\"simulated\"] }\n", "//! Simulation.\n");
        tiny.add("tests", &depends(&["node", "simulation"]), "//! Tests.\n");
        tiny.add("tools", "", "//! Tools.\n");
        tiny
    }

    /// Adds or replaces a library with these further lines in its manifest.
    pub(crate) fn add(&self, name: &str, manifest: &str, source: &str) {
        let head = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n");
        self.write(&format!("{name}/Cargo.toml"), &format!("{head}{manifest}"));
        self.write(&format!("{name}/src/lib.rs"), source);
    }

    /// Adds or replaces an empty library with a feature.
    pub(crate) fn add_with_feature(&self, name: &str, feature: &str, manifest: &str) {
        self.add(name, &format!("[features]\n{feature} = []\n\n{manifest}"), "//! Library.\n");
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Takes over the lints and bans of the real workspace for the crate `package`.
    pub(crate) fn take_lints(&self, package: &str) {
        let manifest = fs::read_to_string(real().join("Cargo.toml")).unwrap();
        let from = manifest.find("[workspace.lints.").unwrap();
        let to = manifest[from..].find("\n[profile").map_or(manifest.len(), |at| from + at);
        self.append("Cargo.toml", &manifest[from..to]);
        self.append(&format!("{package}/Cargo.toml"), "\n[lints]\nworkspace = true\n");
        fs::copy(real().join(".clippy.toml"), self.root().join(".clippy.toml")).unwrap();
        let bans = real().join(package).join(".clippy.toml");
        if bans.exists() {
            fs::copy(bans, self.root().join(package).join(".clippy.toml")).unwrap();
        }
    }

    /// The workspace as the checkers see it.
    pub(crate) fn read(&self) -> Workspace {
        Workspace::find(self.root()).unwrap()
    }

    /// The command, building inside of this folder and asking no registry.
    pub(crate) fn isolated(&self, mut command: Command) -> Command {
        command.env("CARGO_TARGET_DIR", self.root().join("target")).env("CARGO_NET_OFFLINE", "true");
        command
    }

    /// Its top folder.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    fn append(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{before}\n{text}")).unwrap();
    }
}

/// The lines of a manifest that depends on these.
pub(crate) fn depends(names: &[&str]) -> String {
    let mut lines = "[dependencies]\n".to_owned();
    for name in names {
        lines.push_str(&format!("{name} = {{ path = \"../{name}\" }}\n"));
    }
    lines
}

fn real() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
