//! What the product promises, tested on real processes with real clients.
//!
//! | module | what is promised |
//! |---|---|
//! | [`path`] | push, sign, roll out, share, pull back byte for byte |
//! | [`enrolment`] | who holds which keys, and which tokens enrol a device |
//! | [`registry`] | container tools push and pull unmodified, and see what is theirs alone |
//! | [`swarm`] | devices of another organisation and wrong bytes stay out |
//! | [`faults`] | what is killed, stopped or restored from a backup does no harm |
//! | [`operations`] | starting, stopping, recovering, and errors that say what to do |
//! | [`simulation`] | the same run twice makes the same decisions |
//! | [`demo`] | the whole path in one command, and what it costs |
//!
//! Not here: how tests start and see things; that is the library of this crate.

mod demo;
mod enrolment;
mod faults;
mod operations;
mod path;
mod registry;
mod simulation;
mod swarm;

/// A file that is not listed here, or a second test binary, would never be run or would be built for itself.
#[test]
fn every_file_of_tests_is_listed_here() {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let names = |dir: &std::path::Path| -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&tests), ["acceptance"], "tests are modules of the one binary `acceptance`");
    let listed: Vec<&str> = include_str!("main.rs").lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let mut expected: Vec<String> = listed.iter().chain(&["main"]).map(|name| format!("{name}.rs")).collect();
    expected.sort();
    assert_eq!(names(&tests.join("acceptance")), expected);
}
