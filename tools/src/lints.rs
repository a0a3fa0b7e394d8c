//! The steps of `check` that the toolchain does: format, clippy, documentation.
//!
//! Which lints there are is said in the top Cargo.toml, and which calls are banned where in the `.clippy.toml` files,
//! not here. All are run in the release profile, so that no second profile is built.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{Workspace, succeed};

/// Every file is as `cargo fmt` writes it.
pub(crate) fn format(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    succeed(command.args(["fmt", "--all", "--check"]))
}

/// No lint fires anywhere.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    succeed(&mut clippy_command(workspace))
}

/// The documentation builds, with no link broken.
pub(crate) fn documentation(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    let flags = match std::env::var("RUSTDOCFLAGS") {
        Ok(flags) => format!("{flags} -D warnings"),
        Err(_) => "-D warnings".to_owned(),
    };
    command.env("RUSTDOCFLAGS", flags);
    succeed(command.args(["doc", "--workspace", "--no-deps", "--release"]))
}

fn clippy_command(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--release", "--", "-D", "warnings"]);
    command
}

/// Each ban must be seen to work once: on a small workspace with the real settings, by the real command.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::TinyWorkspace;

    #[test]
    fn clean_code_passes_and_every_ban_names_something() {
        let source = "pub fn f(address: std::net::IpAddr) -> std::net::IpAddr {\n    address\n}\n";
        for package in ["protocol", "simulation"] {
            let (passed, said) = lint(package, source);
            assert!(passed, "{said}");
            assert!(!said.contains("warning"), "{said}");
        }
    }

    #[test]
    fn a_clock_is_refused_in_protocol() {
        assert_refused("protocol", "pub fn f() {\n    let _ = std::time::Instant::now();\n}\n", "time is an argument");
        assert_refused("protocol", "pub fn f(_: std::time::SystemTime) {}\n", "time is an argument");
    }

    #[test]
    fn a_file_is_refused_in_protocol() {
        assert_refused("protocol", "pub fn f() {\n    let _ = std::fs::read(\"x\");\n}\n", "no files");
        assert_refused("protocol", "pub fn f(_: std::fs::File) {}\n", "no files");
        let asks = "pub fn f(path: &std::path::Path) -> bool {\n    path.exists()\n}\n";
        assert_refused("protocol", asks, "no files");
    }

    #[test]
    fn a_socket_is_refused_in_protocol() {
        assert_refused("protocol", "pub fn f() {\n    let _ = std::net::UdpSocket::bind(\"[::]:0\");\n}\n", "no sockets");
    }

    #[test]
    fn the_environment_threads_and_processes_are_refused_in_protocol() {
        assert_refused("protocol", "pub fn f() {\n    let _ = std::env::var(\"X\");\n}\n", "no environment");
        assert_refused("protocol", "pub fn f() {\n    let _ = std::thread::spawn(f);\n}\n", "no threads");
        assert_refused("protocol", "pub fn f() {\n    std::process::exit(1)\n}\n", "no processes");
    }

    #[test]
    fn a_random_source_is_refused_in_protocol_and_simulation() {
        let call = "pub fn f() {\n    let _ = getrandom::fill(&mut [0]);\n}\n";
        assert_refused("protocol", call, "the seed is given at construction");
        assert_refused("simulation", call, "derive it from there");
        let state = "pub fn f(_: std::hash::RandomState) {}\n";
        assert_refused("protocol", state, "the seed is given at construction");
        assert_refused("simulation", state, "derive it from there");
    }

    #[test]
    fn hash_maps_and_their_iteration_are_refused() {
        let iterates = "pub fn f(map: &std::collections::HashMap<u8, u8>) -> u8 {\n    let mut last = 0;\n    \
                        for value in map.values() {\n        last = *value;\n    }\n    last\n}\n";
        for package in ["protocol", "simulation"] {
            assert_refused(package, iterates, "use BTreeMap");
        }
        for package in ["protocol", "simulation", "node"] {
            assert_refused(package, iterates, "iteration over unordered hash-based type");
        }
    }

    #[test]
    fn simulation_may_measure_wall_time_where_it_says_so() {
        let call = "    let _ = std::time::Instant::now();\n}\n";
        assert_refused("simulation", &format!("pub fn f() {{\n{call}"), "time is virtual here");
        let expects = "#[expect(clippy::disallowed_methods, reason = \"the one measure of wall time\")]\n";
        let (passed, said) = lint("simulation", &format!("{expects}pub fn f() {{\n{call}"));
        assert!(passed, "{said}");
    }

    fn assert_refused(package: &str, source: &str, because: &str) {
        let (passed, said) = lint(package, source);
        assert!(!passed, "{package} passed with\n{source}");
        assert!(said.contains(because), "not refused because `{because}`:\n{said}");
        assert!(!said.contains("unresolved"), "{said}");
    }

    /// What clippy says of a crate `package` with this source.
    fn lint(package: &str, source: &str) -> (bool, String) {
        let tiny = TinyWorkspace::new();
        tiny.add("getrandom", "", "//! Stands for the real one.\n\n/// Fills.\npub fn fill(_: &mut [u8]) -> bool {\n    true\n}\n");
        tiny.add(
            package,
            "[dependencies]\ngetrandom = { path = \"../getrandom\" }\n",
            &format!("//! A crate with one fault.\n#![expect(missing_docs, reason = \"short\")]\n\n{source}"),
        );
        tiny.take_lints(package);
        let output = tiny.isolated(clippy_command(&tiny.read())).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
