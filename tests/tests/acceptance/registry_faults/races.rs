//! Clients that want the same thing at the same time: each gets an answer that makes sense, and so does whoever asks after.
//!
//! Not here: immutable tags; see [`crate::repositories`].

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tests::http::Answer;
use tests::http::connection::Body;
use tests::image::{digest, noise};
use tests::seed::Seed;

use super::{Registry, codes, is_well, manifest};

/// Runs `work` for each number below `count`, all beginning at the same moment: the answers.
fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(count);
    let (barrier, work) = (&barrier, &work);
    let run = |number| {
        move || {
            barrier.wait();
            work(number)
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(run(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not fail")).collect()
    })
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

#[test]
fn all_who_push_the_same_blob_at_once_succeed() {
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    for (clients, bytes) in [(2, 3 << 20), (10, 3 << 20), (10, 100)] {
        let content = noise(clients as u64, bytes);
        let name = digest(&content);
        let repository = |number: usize| if number.is_multiple_of(2) { "acme/web" } else { "acme/api" };
        let push = |number: usize| match number % 3 {
            0 => registry.push_blob(repository(number), &name, &content),
            _ => {
                let upload = registry.start_upload(repository(number));
                assert_eq!(registry.ask("PATCH", &upload, &[], Body::Streamed(&content)).status, 202);
                registry.ask("PUT", &format!("{upload}?digest={name}"), &[], Body::Whole(b""))
            }
        };
        assert_eq!(statuses(&at_once(clients, push)), vec![201; clients]);
        for repository in ["acme/web", "acme/api"] {
            assert!(registry.get(&format!("{repository}/blobs/{name}")).body == content);
        }
    }
    is_well(&mut seed);
}

#[test]
fn a_tag_that_many_push_at_once_ends_at_one_of_theirs_and_all_are_there_by_digest() {
    let seed = Seed::start();
    let registry = Registry::of(&seed);
    let content = noise(1, 100);
    let name = digest(&content);
    assert_eq!(registry.push_blob("acme/web", &name, &content).status, 201);
    for clients in [2, 10] {
        let images: Vec<Vec<u8>> = (0..clients).map(|number| manifest(&[(&name, 100)], &format!("{clients} {number}"))).collect();
        let pushed = at_once(clients, |number| registry.push_manifest("acme/web", "latest", &images[number]));
        assert_eq!(statuses(&pushed), vec![201; clients]);
        let latest = registry.get("acme/web/manifests/latest");
        assert!(images.contains(&latest.body), "{}", latest.text());
        for image in &images {
            assert_eq!(registry.get(&format!("acme/web/manifests/{}", digest(image))).body, *image);
        }
    }
}

#[test]
fn of_those_who_delete_the_same_thing_at_once_one_is_told_that_it_did() {
    let seed = Seed::start();
    let registry = Registry::of(&seed);
    let content = noise(1, 100);
    let name = digest(&content);
    let image = manifest(&[(&name, 100)], "");
    for target in ["manifests/latest".to_owned(), format!("manifests/{}", digest(&image)), format!("blobs/{name}")] {
        assert_eq!(registry.push_blob("acme/web", &name, &content).status, 201);
        assert_eq!(registry.push_manifest("acme/web", "latest", &image).status, 201);
        let mut told = statuses(&at_once(10, |_| registry.ask("DELETE", &format!("acme/web/{target}"), &[], Body::Whole(b""))));
        told.sort_unstable();
        assert_eq!((told[0], &told[1..]), (202, vec![404; 9].as_slice()), "{target}");
        assert_eq!(registry.get(&format!("acme/web/{target}")).status, 404);
    }
}

#[test]
fn what_is_deleted_during_its_pulls_and_pushes_is_served_whole_or_not_at_all() {
    const ROUNDS: usize = 40;
    let mut seed = Seed::start();
    let registry = Registry::of(&seed);
    let content = noise(1, 2 << 20);
    let name = digest(&content);
    let blob = format!("acme/web/blobs/{name}");
    let image = manifest(&[(&name, content.len())], "");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pulls: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut whole = 0;
                    while !done.load(Ordering::Relaxed) {
                        let answer = registry.get(&blob);
                        if answer.status == 200 {
                            assert!(answer.body == content, "wrong bytes were served");
                            whole += 1;
                        } else {
                            assert_eq!((answer.status, codes(&answer)), (404, vec!["BLOB_UNKNOWN".to_owned()]));
                        }
                    }
                    whole
                })
            })
            .collect();
        let images = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let answer = registry.push_manifest("acme/web", "latest", &image);
                let refused = answer.status == 400 && codes(&answer) == ["MANIFEST_BLOB_UNKNOWN"];
                assert!(answer.status == 201 || refused, "{} {}", answer.status, answer.text());
            }
        });
        for _ in 0..ROUNDS {
            assert_eq!(registry.push_blob("acme/web", &name, &content).status, 201);
            assert_eq!(registry.ask("DELETE", &blob, &[], Body::Whole(b"")).status, 202);
        }
        done.store(true, Ordering::Relaxed);
        let whole: usize = pulls.into_iter().map(|pull| pull.join().expect("a pull does not fail")).sum();
        println!("{whole} pulls got the blob");
        images.join().expect("a push does not fail");
    });
    assert_eq!(registry.get(&blob).status, 404);
    assert_eq!(registry.push_blob("acme/web", &name, &content).status, 201);
    assert!(registry.get(&blob).body == content);
    is_well(&mut seed);
}
