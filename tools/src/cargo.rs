//! Calls `cargo` and reads what it knows of a workspace.
//!
//! Not a place for rules: it gives facts, and the verbs judge them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A workspace as its manifests declare it. Dependencies outside of it are not resolved, so that a tree whose
/// graph does not resolve can be read too.
pub(crate) struct Workspace {
    /// The folder of the top manifest.
    pub(crate) root: PathBuf,
    /// Where builds go; follows `CARGO_TARGET_DIR`.
    pub(crate) target: PathBuf,
    /// The members, by name.
    pub(crate) crates: Vec<Crate>,
}

/// A member of the workspace.
pub(crate) struct Crate {
    /// The name of the package.
    pub(crate) name: String,
    /// All it asks for, of any kind.
    pub(crate) dependencies: Vec<Dependency>,
}

/// What one crate asks of another.
pub(crate) struct Dependency {
    /// The name of the package asked for, whatever it is renamed to.
    pub(crate) name: String,
    /// What it is needed for.
    pub(crate) kind: DependencyKind,
    /// Whether it is given as a path, as all members of the workspace are.
    pub(crate) is_path: bool,
}

/// What a dependency is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DependencyKind {
    /// By the crate itself.
    Normal,
    /// By its tests alone.
    Dev,
    /// By its build script.
    Build,
}

impl Workspace {
    /// The workspace that `folder` is in.
    pub(crate) fn find(folder: &Path) -> Result<Self> {
        let mut command = cargo(folder);
        command.args(["metadata", "--format-version", "1", "--no-deps"]);
        let text = stdout_of(&mut command)?;
        let metadata: Value =
            serde_json::from_str(&text).context("`cargo metadata` gave something else than JSON; run it by hand to see what")?;
        let mut crates = list(&metadata, "packages").iter().map(Crate::from_metadata).collect::<Result<Vec<_>>>()?;
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { root: text_of(&metadata, "workspace_root")?.into(), target: text_of(&metadata, "target_directory")?.into(), crates })
    }

    /// `cargo` at the top of this workspace.
    pub(crate) fn cargo(&self) -> Command {
        cargo(&self.root)
    }

    /// The same of the nightly toolchain, through the only program that can choose a toolchain.
    pub(crate) fn nightly_cargo(&self) -> Command {
        let mut command = without_ours(Command::new("rustup"), &self.root);
        command.args(["run", "nightly", "cargo"]);
        command
    }

    /// The member with this name.
    pub(crate) fn member(&self, name: &str) -> Result<&Crate> {
        self.crates
            .iter()
            .find(|member| member.name == name)
            .with_context(|| format!("the workspace has no crate `{name}`; is it in `members` of Cargo.toml?"))
    }
}

impl Crate {
    fn from_metadata(package: &Value) -> Result<Self> {
        let dependencies = list(package, "dependencies").iter().map(Dependency::from_metadata).collect::<Result<Vec<_>>>()?;
        Ok(Self { name: text_of(package, "name")?.to_owned(), dependencies })
    }
}

impl Dependency {
    fn from_metadata(dependency: &Value) -> Result<Self> {
        let kind = match dependency.get("kind").and_then(Value::as_str) {
            None => DependencyKind::Normal,
            Some("dev") => DependencyKind::Dev,
            Some("build") => DependencyKind::Build,
            Some(other) => bail!("`cargo metadata` names the kind of dependency `{other}`, unknown to this tool"),
        };
        Ok(Self { name: text_of(dependency, "name")?.to_owned(), kind, is_path: dependency.get("path").is_some_and(Value::is_string) })
    }
}

/// `cargo` in `folder`, without what the `cargo` that started this tool set for it alone: left in place, it would
/// make a build differ from the same build started by hand.
fn cargo(folder: &Path) -> Command {
    without_ours(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))), folder)
}

fn without_ours(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let is_ours_alone = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_BIN_")
                || name.starts_with("CARGO_MANIFEST_")
                || name == "CARGO_CRATE_NAME"
                || name == "CARGO_PRIMARY_PACKAGE"
        });
        if is_ours_alone {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `command` with its output going where ours goes, and fails unless it succeeds.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`; is it installed and on PATH?"))?;
    if !status.success() {
        bail!("`{line}` failed ({status}); its own output above says why");
    }
    Ok(())
}

/// Runs `command` and gives what it wrote to its standard output; fails with what it wrote to the other.
pub(crate) fn stdout_of(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`; is it installed and on PATH?"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}):\n{}", output.status, why.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` wrote something else than UTF-8"))
}

/// `command` as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let mut line = name.into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text_of<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("`cargo metadata` gives no `{key}`; is this cargo older than rust-version in Cargo.toml?"))
}
