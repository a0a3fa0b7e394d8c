//! What the product promises, tested on real processes with real clients.
//!
//! | module | what is promised |
//! |---|---|
//! | [`path`] | push, sign, roll out, share, pull back byte for byte |
//! | [`trust`] | who may sign what: several people, sealed keys, replaced keys, floors, python-tuf |
//! | [`enrolment`] | who holds which keys, and which tokens enrol a device |
//! | [`identity`] | certificates are renewed while a device runs, revoked keys stay out, hardware keeps keys |
//! | [`conformance`] | the registry does what the distribution specification says |
//! | [`keys`] | access keys, and the tokens that tools get for them |
//! | [`clients`] | what each container tool does and demands holds, over TLS, with keys and tokens |
//! | [`registry`] | container tools push and pull unmodified, and see what is theirs alone |
//! | [`registry_faults`] | the registry survives kills, full disks, damage, races and attacks |
//! | [`repositories`] | tags that stay, tags that expire, versions that are retired |
//! | [`sites`] | a LAN polls once, and LANs with the same addresses stay apart |
//! | [`crowd`] | fifty devices on one LAN find each other, and are quiet at rest |
//! | [`swarm`] | devices of another organisation and wrong bytes stay out |
//! | [`evidence`] | evidence beside each version, and cosign signatures that an organisation asks for |
//! | [`fleet`] | labels, groups and pins decide which device gets what |
//! | [`rollouts`] | step by step, paused, aborted, taken back, and back by itself when a version does not start |
//! | [`faults`] | what is killed, stopped or restored from a backup does no harm |
//! | [`hostile`] | a seed that was taken over, had a wrong clock, or comes from a backup: what it cannot do, and how a fleet recovers |
//! | [`limits`] | own certificates, limits, draining, and metrics that are what the README says |
//! | [`logs`] | who did what is written down, and told to receivers |
//! | [`operations`] | starting, stopping, recovering, and errors that say what to do |
//! | [`storage`] | garbage goes, damage is found, backups bring back what was there |
//! | [`simulation`] | the same run twice makes the same decisions |
//! | [`demo`] | the whole path in one command, and what it costs |
//!
//! Not here: how tests start and see things; that is the library of this crate.

mod clients;
mod conformance;
mod crowd;
mod demo;
mod discovery;
mod enrolment;
mod evidence;
mod faults;
mod fleet;
mod hostile;
mod identity;
mod keys;
mod limits;
mod logs;
mod operations;
mod path;
mod registry;
mod registry_faults;
mod repositories;
mod rollouts;
mod simulation;
mod sites;
mod storage;
mod swarm;
mod trust;

use std::fs;
use std::path::Path;

/// A file that is not listed here, or a second test binary, would never be run or would be built for itself.
#[test]
fn every_file_of_tests_is_listed_here() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    assert_eq!(names(&tests), ["acceptance"], "tests are modules of the one binary `acceptance`");
    check_listed(&tests.join("acceptance/main.rs"), &tests.join("acceptance"), &["main.rs"]);
}

/// Checks that the modules of the file `lists` are the files in `dir`, beside `own`, and likewise in the folders of these.
fn check_listed(lists: &Path, dir: &Path, own: &[&str]) {
    let text = fs::read_to_string(lists).unwrap_or_else(|error| panic!("{}: {error}", lists.display()));
    let modules: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let (folders, files): (Vec<String>, Vec<String>) = names(dir).into_iter().partition(|name| dir.join(name).is_dir());
    let mut expected: Vec<String> = modules.iter().map(|module| format!("{module}.rs")).collect();
    expected.extend(own.iter().map(|&name| name.to_owned()));
    expected.sort();
    assert_eq!(files, expected, "the modules of {}", lists.display());
    for folder in folders {
        check_listed(&dir.join(format!("{folder}.rs")), &dir.join(folder), &[]);
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a file of ours has a name in UTF-8");
    let mut names: Vec<String> = entries.map(|entry| name(entry.expect("the folder can be read"))).collect();
    names.sort();
    names
}
