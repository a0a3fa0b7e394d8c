//! Where the binaries under test are, and which other tools are there.
//!
//! Not here: building or installing them; `cargo tools test` does both.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A call of `hedgerow` that sees nothing of the environment but where programs and temporary files are.
pub fn hedgerow() -> Command {
    isolated(&binary("HEDGEROW_BIN", "hedgerow"))
}

/// A call of `hedgerow-sim`, likewise.
pub fn simulation() -> Command {
    isolated(&binary("HEDGEROW_SIM_BIN", "hedgerow-sim"))
}

/// Whether a tool that is not ours is there. If it is not, the test fails, unless missing tools may be skipped: then it
/// says so, and the test has to return.
pub fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()) {
        return true;
    }
    let may_skip = std::env::var("HEDGEROW_SKIP_MISSING").is_ok_and(|value| value == "1");
    assert!(may_skip, "{tool} is not on PATH; `cargo tools setup` installs it, `cargo tools test --skip-missing` does without");
    println!("skipped: {tool} is missing");
    false
}

fn isolated(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for kept in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

fn binary(variable: &str, name: &str) -> PathBuf {
    let told = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = told.unwrap_or_else(|| target().join("release").join(name));
    assert!(path.is_file(), "there is no {name} at {}; run `cargo tools test`, which builds it and sets {variable}", path.display());
    path
}

fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => target.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}
