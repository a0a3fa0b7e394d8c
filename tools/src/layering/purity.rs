//! The source of `protocol` names no clock, file, socket, environment, thread, process or random source of the system,
//! and no map without an order.
//!
//! Clippy says the same from `protocol/.clippy.toml`, and understands more of the code. This one understands only
//! names, but no `#[allow]` turns it off.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo::Workspace;
use crate::finding::Finding;
use crate::tokens::{Kind, Token, code};

/// A path or name and the reason it is on a list.
type Entry = (&'static str, &'static str);

const SEED: &str = "randomness is a seed given at construction";
const ORDER: &str = "its order differs from run to run; use BTreeMap or BTreeSet";
const CLOCK: &str = "time is an argument; use protocol's own Instant and WallTime";

/// Paths that must not be named, with all below them.
const BANNED_PATHS: &[Entry] = &[
    ("std::env", "what a machine must know is given at construction"),
    ("std::fs", "the driver reads and writes files, told by an Effect"),
    ("std::io::stdin", "the driver reads, told by an Effect"),
    ("std::net", "the driver holds the sockets, told by an Effect"),
    ("std::os", "nothing here depends on the system"),
    ("std::process", "the driver starts processes, told by an Effect"),
    ("std::thread", "the driver decides what runs where"),
    ("std::time", CLOCK),
    ("std::*", "it brings in clocks, files and sockets unseen; name what is needed"),
    ("std", "under another name the rest of this list does not see it"),
];

/// Paths that may be named although one above them is banned.
const EXCEPTIONS: &[Entry] = &[
    ("std::net::AddrParseError", "the error of parsing a plain value"),
    ("std::net::IpAddr", "a plain value"),
    ("std::net::Ipv4Addr", "a plain value"),
    ("std::net::Ipv6Addr", "a plain value"),
    ("std::net::SocketAddr", "a plain value"),
    ("std::net::SocketAddrV4", "a plain value"),
    ("std::net::SocketAddrV6", "a plain value"),
    ("std::time::Duration", "a plain value; measuring one takes a clock"),
];

/// Names that must not occur at all.
const BANNED_NAMES: &[Entry] = &[
    ("HashMap", ORDER),
    ("HashSet", ORDER),
    ("hash_map", ORDER),
    ("hash_set", ORDER),
    ("SystemTime", CLOCK),
    ("RandomState", SEED),
    ("getrandom", SEED),
    ("OsRng", SEED),
    ("SysRng", SEED),
    ("thread_rng", SEED),
];

/// All that the source of `protocol` must not name.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in sources(&workspace.root.join("protocol").join("src"))? {
        let source = fs::read_to_string(&file).with_context(|| format!("cannot read {}; is it UTF-8?", file.display()))?;
        let shown = file.strip_prefix(&workspace.root).unwrap_or(&file).display().to_string();
        findings.extend(scan(&shown, &source));
    }
    Ok(findings)
}

fn scan(file: &str, source: &str) -> Vec<Finding> {
    let tokens = code(source);
    let mut banned: Vec<_> = tokens
        .iter()
        .filter(|token| token.kind == Kind::Word)
        .filter_map(|token| Some((token.line, token.text.to_owned(), entry(BANNED_NAMES, token.text)?)))
        .collect();
    for (line, path) in std_paths(&tokens) {
        if let Some(reason) = reason_against(&path) {
            banned.push((line, path, reason));
        }
    }
    banned.sort();
    banned
        .into_iter()
        .map(|(line, name, reason)| Finding::new(format!("{file}:{line}"), format!("names `{name}`, which `protocol` must not"), reason))
        .collect()
}

fn reason_against(path: &str) -> Option<&'static str> {
    let is_at_or_below = |top: &str| path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    if EXCEPTIONS.iter().any(|(exception, _)| is_at_or_below(exception)) {
        return None;
    }
    let (_, reason) = BANNED_PATHS.iter().find(|(banned, _)| is_at_or_below(banned) && (*banned != "std" || path == "std"))?;
    Some(reason)
}

fn entry(list: &[Entry], name: &str) -> Option<&'static str> {
    list.iter().find(|(listed, _)| *listed == name).map(|(_, reason)| *reason)
}

/// Every path from `std` down, with the groups of a `use` written out, and the line of its last name. `std` that is
/// renamed is the path `std`.
fn std_paths(tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.is_word("std")) {
        let is_a_path = is_separator(tokens, index + 1);
        let is_renamed = tokens.get(index + 1).is_some_and(|after| after.is_word("as"));
        if is_a_path || is_renamed {
            let mut reader = PathReader { tokens, at: index, line: token.line, paths: &mut paths };
            reader.read("");
        }
    }
    paths
}

fn is_separator(tokens: &[Token<'_>], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token.is_mark(":")) && tokens.get(at + 1).is_some_and(|token| token.is_mark(":"))
}

/// Reads one path, or the tree of paths of a `use`.
struct PathReader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    line: usize,
    paths: &'a mut Vec<(usize, String)>,
}

impl PathReader<'_> {
    fn read(&mut self, above: &str) {
        let mut path = above.to_owned();
        while let Some(token) = self.tokens.get(self.at) {
            if token.is_mark("{") && !path.is_empty() {
                self.read_group(&path);
                return;
            }
            if token.kind != Kind::Word && !token.is_mark("*") {
                break;
            }
            if !token.is_word("self") {
                let separator = if path.is_empty() { "" } else { "::" };
                path = format!("{path}{separator}{}", token.text);
            }
            self.line = token.line;
            self.at += 1;
            if !is_separator(self.tokens, self.at) {
                break;
            }
            self.at += 2;
        }
        self.paths.push((self.line, path));
    }

    fn read_group(&mut self, above: &str) {
        self.at += 1;
        while let Some(token) = self.tokens.get(self.at) {
            if token.is_mark("}") {
                self.at += 1;
                return;
            }
            if token.is_mark(",") || token.is_word("as") {
                self.at += if token.is_word("as") { 2 } else { 1 };
                continue;
            }
            let before = self.at;
            self.read(above);
            // A token that starts no path: step over it, or the source that does not compile holds us here.
            self.at = self.at.max(before + 1);
        }
    }
}

/// All Rust files below `folder`, in order.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let advice = || format!("cannot list {}; `protocol` keeps its source there", folder.display());
    let mut files = Vec::new();
    for item in fs::read_dir(folder).with_context(advice)? {
        let path = item.with_context(advice)?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::TinyWorkspace;

    #[test]
    fn every_way_out_is_found_in_a_tree_with_its_line() {
        let tiny = TinyWorkspace::clean();
        let calls = [
            ("std::time::Instant::now()", "std::time::Instant::now"),
            ("std::time::SystemTime::now()", "SystemTime"),
            ("std::fs::read(\"x\")", "std::fs::read"),
            ("std::net::UdpSocket::bind(\"x\")", "std::net::UdpSocket::bind"),
            ("std::env::var(\"x\")", "std::env::var"),
            ("std::thread::spawn(f)", "std::thread::spawn"),
            ("std::process::exit(1)", "std::process::exit"),
            ("getrandom::fill(&mut [0])", "getrandom"),
            ("OsRng.next()", "OsRng"),
            ("rand::thread_rng()", "thread_rng"),
            ("HashMap::<u8, u8>::default()", "HashMap"),
            ("std::collections::HashSet::<u8>::new()", "HashSet"),
        ];
        for (call, name) in calls {
            let source = format!("//! File.\n\n#[allow(clippy::all)]\nfn f() {{\n    {call};\n}}\n");
            tiny.write("protocol/src/swarm/mod.rs", &source);
            let findings = check(&tiny.read()).unwrap();
            let expected = format!("names `{name}`");
            let found = findings.iter().find(|finding| finding.fault.contains(&expected)).expect(call);
            assert_eq!(found.place, "protocol/src/swarm/mod.rs:5");
        }
    }

    #[test]
    fn a_group_is_written_out() {
        let source = "use std::{\n    collections::BTreeMap,\n    time::{self, Duration, Instant as I},\n    fs,\n};";
        assert_eq!(names(source), ["3 names `std::time`", "3 names `std::time::Instant`", "4 names `std::fs`"]);
    }

    #[test]
    fn another_name_for_std_and_its_glob_are_found() {
        assert_eq!(names("use std as s;"), ["1 names `std`"]);
        assert_eq!(names("extern crate std as s;"), ["1 names `std`"]);
        assert_eq!(names("use std::{self as s};"), ["1 names `std`"]);
        assert_eq!(names("use std::*;"), ["1 names `std::*`"]);
        assert_eq!(names("use ::std::time::*;"), ["1 names `std::time::*`"]);
    }

    #[test]
    fn values_comments_and_strings_are_fine() {
        let source = "//! std::fs and HashMap\nuse core::time::Duration;\nuse std::net::{IpAddr, SocketAddr};\n\
                      use std::time::Duration as D;\nfn f(a: IpAddr) -> &'static str {\n    \
                      std::mem::drop(std::net::Ipv4Addr::LOCALHOST);\n    \"std::fs HashMap\" // std::env\n}";
        assert_eq!(names(source), [""; 0]);
    }

    #[test]
    fn source_that_does_not_compile_is_read_to_its_end() {
        assert!(names("use std::{fs, +, {").contains(&"1 names `std::fs`".to_owned()));
        assert!(names("use std::{fs, {time, fs").contains(&"1 names `std::fs`".to_owned()));
        assert_eq!(names("use std::"), ["1 names `std`"]);
    }

    fn names(source: &str) -> Vec<String> {
        let shorten = |finding: Finding| {
            let fault = finding.fault.split(',').next().unwrap_or_default().to_owned();
            format!("{} {fault}", finding.place.trim_start_matches("f:"))
        };
        scan("f", source).into_iter().map(shorten).collect()
    }
}
