//! The registry when something is broken, full, in a hurry or hostile: nothing that was acknowledged is lost, nothing wrong
//! is served, and the seed goes on.
//!
//! | module | what goes wrong |
//! |---|---|
//! | [`load`] | nothing yet: clients that push, delete and pull, and know what must be there |
//! | [`kills`] | the seed is killed at any moment |
//! | [`full_disk`] | the disk is full |
//! | [`records`] | index or journal are damaged while the seed is stopped |
//! | [`races`] | clients want the same thing at the same time |
//! | [`uploads`] | bodies that are wrong, too long, too short, or break off |
//! | [`slow`] | clients that hardly move |
//! | [`requests`] | paths, headers and framing that no good client sends |
//! | [`manifests`] | manifests made to hurt |
//!
//! Not here: devices; see [`crate::faults`]. What a power failure does to what was not synced: a killed process loses
//! nothing that the kernel has, so the order of syncs is tested in the crate `node`.

mod full_disk;
mod kills;
mod load;
mod manifests;
mod races;
mod records;
mod requests;
mod slow;
mod uploads;

use std::fs;

use serde_json::Value;
use tests::http::connection::{Body, attempt};
use tests::http::{self, Answer};
use tests::seed::Seed;

/// The most memory that a seed may ever have had, whatever its clients do, in KiB.
const RESIDENT_KIB_MAX: u64 = 96 << 10;

/// The type of image manifests.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The registry of a seed, and the key to it.
#[derive(Clone, Debug)]
struct Registry {
    url: String,
    authorization: String,
}

impl Registry {
    fn of(seed: &Seed) -> Self {
        Self { url: seed.url().to_owned(), authorization: format!("Bearer {}", seed.org().access_key) }
    }

    /// Sends a request with the key. `target` is a path below `/v2/`, or a `Location` that the registry gave.
    #[track_caller]
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Body<'_>) -> Answer {
        self.attempt(method, target, headers, body).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// The same, to a registry that may go away.
    fn attempt(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Body<'_>) -> std::io::Result<Answer> {
        let path = if target.starts_with('/') { target.to_owned() } else { format!("/v2/{target}") };
        let mut all = vec![("Authorization", self.authorization.as_str())];
        all.extend_from_slice(headers);
        attempt(method, &format!("{}{path}", self.url), &all, body)
    }

    #[track_caller]
    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], Body::Whole(b""))
    }

    /// Pushes a blob in one request.
    #[track_caller]
    fn push_blob(&self, repository: &str, digest: &str, bytes: &[u8]) -> Answer {
        self.ask("POST", &format!("{repository}/blobs/uploads/?digest={digest}"), &[], Body::Whole(bytes))
    }

    #[track_caller]
    fn push_manifest(&self, repository: &str, reference: &str, manifest: &[u8]) -> Answer {
        let headers = [("Content-Type", MANIFEST)];
        self.ask("PUT", &format!("{repository}/manifests/{reference}"), &headers, Body::Whole(manifest))
    }

    /// Starts an upload: where it goes on.
    #[track_caller]
    fn start_upload(&self, repository: &str) -> String {
        let started = self.ask("POST", &format!("{repository}/blobs/uploads/"), &[], Body::Whole(b""));
        assert_eq!(started.status, 202, "{}", started.text());
        started.header("location").expect("a started upload has a place").to_owned()
    }
}

/// The error codes in an answer, which must be JSON as the distribution specification has it.
#[track_caller]
fn codes(answer: &Answer) -> Vec<String> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {} {}", answer.status, answer.text()));
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no list of errors: {body}"));
    assert!(!errors.is_empty(), "{body}");
    errors
        .iter()
        .map(|error| {
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty() && message.len() < 1000), "{body}");
            error["code"].as_str().unwrap_or_else(|| panic!("an error without a code: {body}")).to_owned()
        })
        .collect()
}

/// Checks that the process lives, answers, and never took more memory than it may.
#[track_caller]
fn is_well(seed: &mut Seed) {
    assert!(seed.process().is_running(), "the seed ended");
    assert_eq!(Registry::of(seed).get("/v2/").status, 200);
    let ready = seed.ready["metrics_url"].as_str().expect("a seed that is ready prints metrics_url").replace("/metrics", "/readyz");
    assert_eq!(http::get(&ready, &[]).status, 200);
    let kib = resident_kib(seed.process().id());
    println!("the seed had at most {} MiB in memory", kib >> 10);
    assert!(kib <= RESIDENT_KIB_MAX, "the seed had {kib} KiB in memory, {RESIDENT_KIB_MAX} are allowed");
}

/// The most memory that a process ever had, in KiB.
fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux says what a process uses");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says the peak");
    peak.trim().trim_end_matches(" kB").parse().expect("the peak is a number")
}

/// A manifest that names these blobs, by digest and size: the first as its configuration.
fn manifest(blobs: &[(&str, usize)], note: &str) -> Vec<u8> {
    let descriptor =
        |(digest, size): &(&str, usize)| serde_json::json!({"mediaType": "application/octet-stream", "digest": digest, "size": size});
    let named: Vec<Value> = blobs.iter().map(descriptor).collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": named[0], "layers": named[1..], "annotations": {"note": note},
    });
    manifest.to_string().into_bytes()
}
