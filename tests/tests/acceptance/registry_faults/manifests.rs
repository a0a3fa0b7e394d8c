//! Manifests made to hurt: deep, long, with impossible numbers, or naming more than any image has.
//!
//! Not here: manifests of real tools; see [`crate::conformance`].

use std::thread;

use tests::http::connection::Body;
use tests::image::{digest, noise};
use tests::seed::Seed;

use super::{MANIFEST, Registry, codes, is_well, manifest};

/// The largest manifest that is taken in.
const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// How deep JSON nests here, about.
const DEEP: usize = 1_000_000;
/// Clients that push the same manifest at the same time.
const AT_ONCE: usize = 6;

/// As many repetitions of `part` as fit into the largest manifest between `start` and `end`.
fn filled(start: &str, part: &str, end: &str) -> Vec<u8> {
    let count = (MANIFEST_BYTES_MAX - start.len() - end.len()) / part.len();
    let body = part.repeat(count);
    format!("{start}{}{end}", body.trim_end_matches(',')).into_bytes()
}

/// The same with parts that differ by a number.
fn numbered(start: &str, part: impl Fn(usize) -> String, end: &str) -> Vec<u8> {
    let mut body = start.to_owned();
    let mut number = 0;
    loop {
        let next = part(number);
        if body.len() + next.len() + end.len() >= MANIFEST_BYTES_MAX {
            break;
        }
        body.push_str(&next);
        number += 1;
    }
    format!("{}{end}", body.trim_end_matches(',')).into_bytes()
}

/// Checks that a manifest is refused with this status and code, also when many push it at once.
fn is_refused(registry: &Registry, what: &str, bytes: &[u8], status: u16, code: &str) {
    let push = || registry.ask("PUT", "acme/web/manifests/bad", &[("Content-Type", MANIFEST)], Body::Whole(bytes));
    let answers: Vec<_> = thread::scope(|scope| {
        let pushes: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(push)).collect();
        pushes.into_iter().map(|push| push.join().expect("a push is answered")).collect()
    });
    for answer in answers {
        assert_eq!((answer.status, codes(&answer)), (status, vec![code.to_owned()]), "{what}: {:.300}", answer.text());
    }
}

#[test]
fn deep_json_is_refused_and_never_ends_the_process() {
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    for open in ["[", r#"{"a":"#, "[[{\"a\":["] {
        for field in ["layers", "config", "subject", "annotations", "manifests", "mediaType"] {
            let deep = format!(r#"{{"{field}":{}"#, open.repeat(DEEP / open.len()));
            is_refused(&registry, field, deep.as_bytes(), 400, "MANIFEST_INVALID");
        }
        let unclosed = format!(r#"{{"unknown":{}"#, open.repeat(DEEP / open.len()));
        is_refused(&registry, "unknown", unclosed.as_bytes(), 400, "MANIFEST_INVALID");
    }
    is_well(&mut seed);
}

#[test]
fn numbers_that_no_size_can_be_are_refused() {
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    let bytes = noise(1, 100);
    let name = digest(&bytes);
    assert_eq!(registry.push_blob("acme/web", &name, &bytes).status, 201);
    let digits = "9".repeat(1 << 20);
    let numbers =
        ["-1", "1e400", "-1e400", "100.0", "1.5", "18446744073709551616", "18446744073709551615", "1e2", "0x64", "\"100\"", "NaN", &digits];
    for number in numbers {
        let text = format!(r#"{{"mediaType":"{MANIFEST}","config":{{"mediaType":"a/b","digest":"{name}","size":{number}}},"layers":[]}}"#);
        is_refused(&registry, &format!("{number:.40}"), text.as_bytes(), 400, "MANIFEST_INVALID");
    }
    assert_eq!(registry.push_manifest("acme/web", "1.0", &manifest(&[(&name, 100)], "")).status, 201);
    is_well(&mut seed);
}

#[test]
fn manifests_that_name_more_than_any_image_has_are_refused_in_bounded_memory() {
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    let layer = format!(r#"{{"digest":"{}","size":1}},"#, digest(b"layer"));
    let hundred_thousand = format!(r#"{{"layers":[{}]}}"#, layer.repeat(100_000).trim_end_matches(','));
    is_refused(&registry, "100,000 layers", hundred_thousand.as_bytes(), 413, "SIZE_INVALID");
    for field in ["layers", "manifests"] {
        is_refused(&registry, field, &filled(&format!(r#"{{"{field}":["#), &layer, "]}"), 400, "MANIFEST_INVALID");
        let least = filled(&format!(r#"{{"{field}":["#), r#"{"digest":"","size":1},"#, "]}");
        is_refused(&registry, field, &least, 400, "MANIFEST_INVALID");
    }
    is_well(&mut seed);
}

#[test]
fn manifests_of_many_small_parts_are_refused_in_bounded_memory() {
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    let name = digest(b"nothing");
    let urls = format!(r#"{{"layers":[{{"digest":"{name}","size":1,"urls":["#);
    is_refused(&registry, "urls", &filled(&urls, r#""","#, "]}]"), 400, "MANIFEST_INVALID");
    let layer = format!(r#"{{"config":{{"digest":"{name}","size":1}},"subject":{{"digest":"{name}","size":1}},"annotations":{{"#);
    let annotations = numbered(&layer, |number| format!(r#""{number:x}":"","#), "}}");
    is_refused(&registry, "annotations", &annotations, 400, "MANIFEST_INVALID");
    is_well(&mut seed);
}
