//! `cargo tools tidy`: the rules of style that neither the compiler nor clippy knows.
//!
//! It looks at each file by itself and at the names in the tree; what crates may use is a matter of `layering`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{Workspace, stdout_of};
use crate::finding::{Finding, report};
use crate::tokens::{Kind, Token, closing, tokens};

/// Check headers, left-overs, sizes and names
#[derive(clap::Args)]
pub(crate) struct Args {}

/// A file longer than this, without its tests, holds more than one thing.
const LINES_MAX: usize = 700;

/// Marks of work that was left for later.
const LEFT_FOR_LATER: &[&str] = &["TODO", "FIXME", "XXX"];

/// Macros for the time of writing.
const UNFINISHED_MACROS: &[&str] = &["dbg", "todo"];

/// Names that explain nothing, and so attract everything.
const EMPTY_NAMES: &[&str] = &["util", "utils", "misc", "common", "helpers"];

/// All that may be at the top, besides names that start with a dot.
const TOP_LEVEL: &[&str] = &["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "node", "protocol", "simulation", "tests", "tools"];

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, _: &Args) -> Result<()> {
    report("tidy", &check(&workspace.root)?)
}

/// All that is not tidy in the tree at `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let files = files(root)?;
    let mut findings = top_level(&files);
    for file in files.iter().filter(|file| file.ends_with(".rs")) {
        let path = root.join(file);
        let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}; is it UTF-8?", path.display()))?;
        findings.extend(check_file(file, &source));
    }
    Ok(findings)
}

/// The files that git knows or would take, in order.
fn files(root: &Path) -> Result<Vec<String>> {
    let mut command = Command::new("git");
    command.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let text = stdout_of(&mut command).context("cannot list the files; is this a git repository?")?;
    let mut files: Vec<_> = text.split('\0').filter(|file| !file.is_empty() && root.join(file).is_file()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn top_level(files: &[String]) -> Vec<Finding> {
    let names: BTreeSet<_> = files.iter().map(|file| file.split('/').next().unwrap_or(file)).collect();
    names
        .into_iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(name))
        .map(|name| {
            Finding::new(
                name,
                "is not one of the names at the top of the tree, which a reader should take in at one look",
                "move it into the crate that it belongs to",
            )
        })
        .collect()
}

fn check_file(file: &str, source: &str) -> Vec<Finding> {
    let tokens = tokens(source);
    let code: Vec<_> = tokens.iter().copied().filter(|token| !token.is_comment()).collect();
    let mut findings = Vec::new();
    findings.extend(header(file, &tokens));
    findings.extend(left_for_later(file, &tokens));
    findings.extend(unfinished(file, &code));
    findings.extend(empty_names(file, &code));
    findings.extend(silent_suppressions(file, &code));
    findings.extend(size(file, source, &code));
    findings
}

fn header(file: &str, tokens: &[Token<'_>]) -> Option<Finding> {
    let has_header = tokens.first().is_some_and(|token| token.kind == Kind::InnerDoc);
    (!has_header).then(|| {
        Finding::new(format!("{file}:1"), "does not start with a `//!` header", "say there what the file is for and what it is not for")
    })
}

fn left_for_later(file: &str, tokens: &[Token<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for token in tokens.iter().filter(|token| token.is_comment()) {
        for (offset, line) in token.text.lines().enumerate() {
            let mut words = line.split(|character: char| !character.is_alphanumeric());
            if let Some(word) = words.find(|word| LEFT_FOR_LATER.contains(word)) {
                findings.push(Finding::new(
                    format!("{file}:{}", token.line + offset),
                    format!("has a {word}: work left for later does not belong in the tree"),
                    "do it now, or write it down where the plans are",
                ));
            }
        }
    }
    findings
}

fn unfinished(file: &str, code: &[Token<'_>]) -> Vec<Finding> {
    code.windows(2)
        .filter(|pair| pair[1].is_mark("!") && UNFINISHED_MACROS.iter().any(|name| pair[0].is_word(name)))
        .map(|pair| {
            Finding::new(
                format!("{file}:{}", pair[0].line),
                format!("calls `{}!`, which is for the time of writing", pair[0].text),
                "take it out",
            )
        })
        .collect()
}

fn empty_names(file: &str, code: &[Token<'_>]) -> Vec<Finding> {
    let finding = |place: String, name: &str| {
        Finding::new(
            place,
            format!("the module name `{name}` explains nothing, and so attracts everything"),
            "name it after what it holds, or move its parts to where they are used",
        )
    };
    let in_path =
        file.trim_end_matches(".rs").split('/').filter(|part| EMPTY_NAMES.contains(part)).map(|part| finding(file.to_owned(), part));
    let in_code = code
        .windows(3)
        .filter(|three| three[0].is_word("mod") && three[2].is_mark("{"))
        .filter(|three| EMPTY_NAMES.contains(&three[1].text))
        .map(|three| finding(format!("{file}:{}", three[1].line), three[1].text));
    in_path.chain(in_code).collect()
}

fn silent_suppressions(file: &str, code: &[Token<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in code.iter().enumerate().filter(|(_, token)| token.is_mark("#")) {
        let is_inner = code.get(at + 1).is_some_and(|token| token.is_mark("!"));
        let open = at + 1 + usize::from(is_inner);
        if !code.get(open).is_some_and(|token| token.is_mark("[")) {
            continue;
        }
        for inside in open..closing(code, open) {
            let token = code[inside];
            let is_suppression = token.is_word("allow") || token.is_word("expect");
            if is_suppression && code.get(inside + 1).is_some_and(|next| next.is_mark("(")) {
                let listed = &code[inside + 1..closing(code, inside + 1)];
                if !listed.windows(2).any(|pair| pair[0].is_word("reason") && pair[1].is_mark("=")) {
                    findings.push(Finding::new(
                        format!("{file}:{}", token.line),
                        format!("`{}` turns off a lint and does not say why", token.text),
                        "mend what the lint says, or add `reason = \"…\"`",
                    ));
                }
            }
        }
    }
    findings
}

fn size(file: &str, source: &str, code: &[Token<'_>]) -> Option<Finding> {
    // The first part is the crate; the crate `tests` has code of its own too.
    let is_of_tests = file.split('/').skip(1).any(|part| part == "tests" || part == "tests.rs");
    let lines = source.lines().count() - lines_of_tests(code);
    (!is_of_tests && lines > LINES_MAX).then(|| {
        Finding::new(
            file,
            format!("has {lines} lines without its tests; more than {LINES_MAX} are more than one thing"),
            "split it by concern",
        )
    })
}

/// The lines of modules that are there for tests alone.
fn lines_of_tests(code: &[Token<'_>]) -> usize {
    let start = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut lines = 0;
    for (at, window) in code.windows(start.len() + 2).enumerate() {
        let is_test_module = window.iter().zip(start).all(|(token, text)| token.text == text);
        if is_test_module && window[start.len() + 1].is_mark("{") {
            let end = closing(code, at + start.len() + 1);
            let last = code.get(end).or(code.last()).map_or(0, |token| token.line);
            lines += last + 1 - window[0].line;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::TinyWorkspace;

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(faults("a/src/lib.rs", "//! Header.\n"), [""; 0]);
        for source in ["", "// Header.\n", "/// Header.\nfn f() {}\n", "use std::fs;\n//! Header.\n"] {
            assert_one("a/src/lib.rs", source, "does not start with a `//!` header");
        }
    }

    #[test]
    fn work_left_for_later_is_found_in_comments_alone() {
        assert_one("a.rs", "//! Header.\nfn f() {} // TODO: more\n", "has a TODO");
        assert_one("a.rs", "//! Header.\n/* a\n FIXME(me) */\n", "has a FIXME");
        assert_eq!(check_file("a.rs", "//! Header.\n/* a\n XXX */\n")[0].place, "a.rs:3");
        assert_eq!(faults("a.rs", "//! Header.\nconst A: &str = \"TODO\"; // TODOS\n"), [""; 0]);
    }

    #[test]
    fn macros_for_the_time_of_writing_are_found() {
        assert_one("a.rs", "//! Header.\nfn f() {\n    dbg!(1);\n}\n", "calls `dbg!`");
        assert_one("a.rs", "//! Header.\nfn f() {\n    todo!()\n}\n", "calls `todo!`");
    }

    #[test]
    fn names_that_explain_nothing_are_found() {
        for file in ["a/src/util.rs", "a/src/helpers/b.rs", "tests/tests/common/mod.rs"] {
            assert_one(file, "//! Header.\n", "explains nothing");
        }
        assert_one("a.rs", "//! Header.\nmod misc {}\n", "`misc` explains nothing");
        assert_eq!(faults("a/src/utility.rs", "//! Header.\n"), [""; 0]);
    }

    #[test]
    fn a_lint_turned_off_without_a_reason_is_found() {
        let expected = "does not say why";
        assert_one("a.rs", "//! Header.\n#![allow(dead_code)]\n", expected);
        assert_one("a.rs", "//! Header.\n#[expect(\n    dead_code\n)]\nfn f() {}\n", expected);
        assert_one("a.rs", "//! Header.\n#[cfg_attr(test, allow(dead_code))]\nfn f() {}\n", expected);
        let reasoned = "//! Header.\n#[expect(dead_code, reason = \"shows it\")]\nfn f() {\n    a.expect(\"b\");\n}\n";
        assert_eq!(faults("a.rs", reasoned), [""; 0]);
    }

    #[test]
    fn a_file_too_long_is_found_and_its_tests_do_not_count() {
        let lines = |count: usize| "fn f() {}\n".repeat(count);
        let source = format!("//! Header.\n{}", lines(LINES_MAX));
        assert_one("a/src/lib.rs", &source, "has 701 lines without its tests");
        assert_eq!(faults("a/src/machine/tests.rs", &source), [""; 0]);
        assert_eq!(faults("tests/tests/rollout.rs", &source), [""; 0]);
        assert_one("tests/src/lib.rs", &source, "has 701 lines");

        let with_tests = format!("//! Header.\n{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(699), lines(500));
        assert_eq!(faults("a/src/lib.rs", &with_tests), [""; 0]);
    }

    #[test]
    fn the_tree_is_read_as_git_sees_it() {
        let tiny = TinyWorkspace::clean();
        stdout_of(Command::new("git").current_dir(tiny.root()).args(["init", "--quiet"])).unwrap();
        tiny.write(".gitignore", "/target\n");
        tiny.write("target/generated.rs", "no header");
        assert_eq!(check(tiny.root()).unwrap(), []);

        tiny.write("scripts/deploy.sh", "");
        tiny.write("node/src/cli.rs", "fn f() {}\n");
        let places: Vec<_> = check(tiny.root()).unwrap().into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["scripts", "node/src/cli.rs:1"]);
    }

    fn faults(file: &str, source: &str) -> Vec<String> {
        check_file(file, source).into_iter().map(|finding| finding.fault).collect()
    }

    fn assert_one(file: &str, source: &str, expected: &str) {
        let faults = faults(file, source);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(expected), "{faults:?}");
    }
}
