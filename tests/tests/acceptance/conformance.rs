//! Each case of the distribution specification's conformance suite, and those that it leaves out, against a running seed.
//!
//! Written from the specification (main branch, after 1.1.1), so that a change that breaks a client is seen without Go.
//!
//! | module | holds |
//! |---|---|
//! | [`data`] | what is pushed: one set for each kind of content |
//! | [`lifecycle`] | push, list, head, pull, referrers and delete of each set |
//! | [`blobs`] | each way to push a blob, mounts, uploads that end early, parts |
//! | [`lists`] | pages of tags and referrers, empty repositories |
//! | [`manifests`] | sizes, tags by parameter, subjects, warnings |
//! | [`errors`] | each error code, and requests that make no sense |
//!
//! Not here: real clients; see [`crate::registry`].

mod blobs;
mod data;
mod errors;
mod lifecycle;
mod lists;
mod manifests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use tests::registry::Registry;
use tests::seed::Seed;

/// Sequences of cases that run at the same time: most of their time is the disk's.
const WORKERS: usize = 6;

/// Does what a case does, and panics if the registry does not.
type Run = fn(&Registry);

/// Something that a registry must do, by name.
struct Case {
    name: String,
    run: Box<dyn Fn(&Registry) + Send>,
}

impl Case {
    fn new(name: impl Into<String>, run: impl Fn(&Registry) + Send + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// Runs it: its name and what is wrong, if it failed.
    fn failure(&self, registry: &Registry) -> Option<String> {
        let panic = catch_unwind(AssertUnwindSafe(|| (self.run)(registry))).err()?;
        let reason = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Some(format!("{}: {}", self.name, reason.unwrap_or("panicked")))
    }
}

/// The cases, in sequences that have nothing to do with one another. Those of one sequence may build on one another.
fn sequences() -> Vec<Vec<Case>> {
    let mut sequences = vec![lists::cases(), manifests::cases(), errors::cases(), lists::empty()];
    sequences.extend(blobs::sequences());
    sequences.extend(lifecycle::sequences());
    sequences
}

/// Runs all cases, also after one failed: the names of those that did, and why.
fn failures(registry: &Registry, sequences: Vec<Vec<Case>>) -> Vec<String> {
    let waiting = Mutex::new(sequences.into_iter());
    let work = || {
        let mut failed = Vec::new();
        loop {
            let Some(sequence) = waiting.lock().expect("no case runs while this is locked").next() else { return failed };
            failed.extend(sequence.iter().filter_map(|case| case.failure(registry)));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a case that panics is caught")).collect()
    })
}

#[test]
fn the_registry_does_what_the_specification_says_in_every_case() {
    let seed = Seed::start();
    let registry = Registry::new(&seed, &seed.org());
    let mut failed = failures(&registry, sequences());
    failed.extend(errors::too_many().failure(&registry));
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}
