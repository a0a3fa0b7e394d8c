//! Each case of the distribution specification's conformance suite, and those that it leaves out, against a running seed.
//!
//! Written from the specification (main branch, after 1.1.1), so that a change that breaks a client is seen without Go.
//!
//! | module | holds |
//! |---|---|
//! | [`registry`] | the registry under test: requests, and what must hold of every answer |
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
mod registry;

use std::panic::{AssertUnwindSafe, catch_unwind};

use registry::Registry;
use tests::seed::Seed;

/// Something that a registry must do, by name.
struct Case {
    name: String,
    run: Box<dyn Fn(&Registry)>,
}

impl Case {
    fn new(name: impl Into<String>, run: impl Fn(&Registry) + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// All cases, in an order in which they can run: those of one kind of content build on one another.
fn cases() -> Vec<Case> {
    [lists::empty(), blobs::cases(), lifecycle::cases(), manifests::cases(), lists::cases(), errors::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// Runs all cases, also after one failed: the names of those that did, and why.
fn failures(registry: &Registry, cases: &[Case]) -> Vec<String> {
    let failure = |case: &Case| {
        let panic = catch_unwind(AssertUnwindSafe(|| (case.run)(registry))).err()?;
        let reason = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Some(format!("{}: {}", case.name, reason.unwrap_or("panicked")))
    };
    cases.iter().filter_map(failure).collect()
}

#[test]
fn the_registry_does_what_the_specification_says_in_every_case() {
    let seed = Seed::start();
    let registry = Registry { url: seed.url().to_owned(), authorization: format!("Bearer {}", seed.org().access_key) };
    let cases = cases();
    let failed = failures(&registry, &cases);
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}
