//! A disk without room: pushes are told so, everything else goes on, and pushes go on when there is room again.
//!
//! Not here: fsync that fails, which no test can make from outside.

use std::fs;
use std::time::Duration;

use tests::disk::SmallDisk;
use tests::http::Answer;
use tests::http::connection::Body;
use tests::image::{digest, noise};
use tests::process::Outcome;
use tests::seed::Seed;
use tests::wait;

use super::uploads::{received, resume};
use super::{Registry, codes, is_well, manifest};

/// The disk, and what of it is given back in the end.
const DISK_MIB: u32 = 64;
const GIVEN_BACK_MIB: usize = 24;
/// What blobs leave of it to other uses.
const RESERVE_MIB: usize = DISK_MIB as usize / 16;
/// Blobs that fill it.
const BLOB_BYTES: usize = 3 << 20;
/// Tags, some of which are deleted on a full disk.
const TAGS: usize = 128;
/// Tags that one push may set.
const TAGS_A_PUSH: usize = 32;
/// Longer than the index waits before it writes.
const INDEX_WRITES: Duration = Duration::from_secs(2);

/// What a seed acknowledged.
struct Pushed {
    registry: Registry,
    blobs: Vec<String>,
    tags: Vec<String>,
    gone: Vec<String>,
    image: Vec<u8>,
    /// A manifest that was not pushed.
    another: Vec<u8>,
}

impl Pushed {
    fn check(&self) {
        for blob in &self.blobs {
            let answer = self.registry.get(&format!("acme/web/blobs/{blob}"));
            assert_eq!((answer.status, digest(&answer.body)), (200, blob.clone()), "{}", answer.text());
        }
        self.check_tags();
    }

    fn check_tags(&self) {
        for tag in &self.tags {
            let answer = self.registry.get(&format!("acme/web/manifests/{tag}"));
            assert!(answer.status == 200 && answer.body == self.image, "{tag}: {} {}", answer.status, answer.text());
        }
        for tag in &self.gone {
            assert_eq!(self.registry.get(&format!("acme/web/manifests/{tag}")).status, 404, "{tag}");
        }
    }

    /// Deletes tags until the registry has no room to note it.
    fn delete_until_full(&mut self) {
        while let Some(tag) = self.tags.pop() {
            let answer = self.registry.ask("DELETE", &format!("acme/web/manifests/{tag}"), &[], Body::Whole(b""));
            if answer.status != 202 {
                is_full(&answer);
                self.tags.push(tag);
                return;
            }
            self.gone.push(tag);
        }
        panic!("{TAGS} deletions were acknowledged on a full disk");
    }
}

fn is_full(answer: &Answer) {
    assert_eq!((answer.status, codes(answer)), (507, vec!["DENIED".to_owned()]), "{}", answer.text());
    assert!(answer.text().contains("no room left"), "{}", answer.text());
}

/// Pushes a small image under [`TAGS`] tags, then blobs until the disk is full.
fn fill(registry: &Registry) -> Pushed {
    let small = noise(1, 1000);
    let name = digest(&small);
    assert_eq!(registry.push_blob("acme/web", &name, &small).status, 201);
    let image = manifest(&[(&name, small.len())], "small");
    let another = manifest(&[(&name, small.len())], "another");
    let tags: Vec<String> = (0..TAGS).map(|number| format!("v{number}")).collect();
    for tags in tags.chunks(TAGS_A_PUSH) {
        let reference = format!("{}?tag={}", digest(&image), tags.join("&tag="));
        assert_eq!(registry.push_manifest("acme/web", &reference, &image).status, 201);
    }
    let mut pushed = Pushed { registry: registry.clone(), blobs: vec![name], tags, gone: Vec::new(), image, another };
    for number in 2.. {
        let bytes = noise(number, BLOB_BYTES);
        let answer = registry.push_blob("acme/web", &digest(&bytes), &bytes);
        if answer.status != 201 {
            is_full(&answer);
            break;
        }
        pushed.blobs.push(digest(&bytes));
    }
    pushed
}

fn push_streamed(registry: &Registry, bytes: &[u8]) -> Answer {
    let upload = registry.start_upload("acme/web");
    let taken = registry.ask("PATCH", &upload, &[], Body::Streamed(bytes));
    if taken.status != 202 {
        return taken;
    }
    registry.ask("PUT", &format!("{upload}?digest={}", digest(bytes)), &[], Body::Whole(b""))
}

#[test]
fn a_full_disk_refuses_pushes_and_nothing_else_and_they_go_on_when_there_is_room() {
    let mut seed = Seed::init();
    let disk = SmallDisk::in_place_of(&seed.data(), DISK_MIB);
    let room = disk.take("room", GIVEN_BACK_MIB);
    seed.run(&[]);
    let registry = Registry::of(&seed);
    let mut pushed = fill(&registry);
    assert!(pushed.blobs.len() > 5, "the disk was full at once");
    let late = noise(9999, BLOB_BYTES);
    is_full(&push_streamed(&registry, &late));
    pushed.check();

    let rest = disk.take_all("rest");
    pushed.delete_until_full();
    is_full(&registry.push_manifest("acme/web", "late", &pushed.another));
    pushed.check();
    wait::throughout(INDEX_WRITES, "reads on a full disk", || {
        pushed.check_tags();
        true
    });
    is_full(&registry.push_blob("acme/web", &digest(&late), &late));

    rest.give_back();
    room.give_back();
    assert_eq!(push_streamed(&registry, &late).status, 201);
    pushed.blobs.push(digest(&late));
    assert_eq!(registry.push_manifest("acme/web", "late", &pushed.image).status, 201);
    pushed.tags.push("late".into());
    pushed.check();
    is_well(&mut seed);
    seed.kill();
    seed.run(&[]);
    pushed.check();
}

#[test]
fn an_upload_that_met_a_full_disk_goes_on_where_the_disk_has_it() {
    let mut seed = Seed::init();
    let disk = SmallDisk::in_place_of(&seed.data(), DISK_MIB);
    seed.run(&[]);
    let registry = Registry::of(&seed);
    for (number, method) in [(1, "PATCH"), (2, "PUT")] {
        let bytes = noise(number, BLOB_BYTES);
        let upload = registry.start_upload("acme/web");
        let (first, more) = bytes.split_at(BLOB_BYTES / 3);
        assert_eq!(registry.ask("PATCH", &upload, &[], Body::Whole(first)).status, 202);
        // As much as blobs must leave, and a part of what comes.
        let room = disk.take("room", RESERVE_MIB + 1);
        let rest = disk.take_all("rest");
        room.give_back();
        let target = format!("{upload}?digest={}", digest(&bytes));
        is_full(&registry.ask(method, &target, &[], Body::Whole(more)));
        let arrived = received(&registry, &upload);
        assert!(first.len() < arrived && arrived < bytes.len(), "{arrived}");
        is_full(&registry.ask("PATCH", &upload, &[], Body::Whole(&bytes[arrived..])));
        rest.give_back();
        resume(&registry, &upload, &bytes);
        assert_eq!(registry.get(&upload).status, 404);
    }
    is_well(&mut seed);
}

#[test]
fn a_push_that_lacks_room_for_its_record_alone_is_ended_again_without_its_bytes() {
    let mut seed = Seed::init();
    let disk = SmallDisk::in_place_of(&seed.data(), DISK_MIB);
    seed.run(&[]);
    let registry = Registry::of(&seed);
    let bytes = noise(1, BLOB_BYTES);
    let upload = registry.start_upload("acme/web");
    assert_eq!(registry.ask("PATCH", &upload, &[], Body::Whole(&bytes)).status, 202);
    let rest = disk.take_all("rest");
    let target = format!("{upload}?digest={}", digest(&bytes));
    is_full(&registry.ask("PUT", &target, &[], Body::Whole(b"")));
    assert_eq!(received(&registry, &upload), bytes.len());
    rest.give_back();
    assert_eq!(registry.ask("PUT", &target, &[], Body::Whole(b"")).status, 201);
    assert!(registry.get(&format!("acme/web/blobs/{}", digest(&bytes))).body == bytes);
    is_well(&mut seed);
}

#[test]
fn a_seed_starts_on_a_disk_that_pushes_filled_and_what_is_deleted_there_stays_deleted() {
    let mut seed = Seed::init();
    let _disk = SmallDisk::in_place_of(&seed.data(), DISK_MIB);
    seed.run(&[]);
    let registry = Registry::of(&seed);
    let mut pushed = fill(&registry);
    for kill in [true, false] {
        if kill {
            seed.kill();
        } else {
            assert!(seed.stop().success());
        }
        fs::remove_dir_all(seed.data().join("index")).expect("the index can be removed");
        seed.run(&[]);
        pushed.check();
        let tag = pushed.tags.pop().expect("tags are left");
        assert_eq!(registry.ask("DELETE", &format!("acme/web/manifests/{tag}"), &[], Body::Whole(b"")).status, 202);
        pushed.gone.push(tag);
    }
    let late = noise(9999, BLOB_BYTES);
    is_full(&registry.push_blob("acme/web", &digest(&late), &late));
    pushed.check();
}

#[test]
fn a_seed_that_finds_no_byte_free_says_so_and_starts_when_there_is_room() {
    let mut seed = Seed::init();
    let disk = SmallDisk::in_place_of(&seed.data(), DISK_MIB);
    seed.run(&[]);
    let pushed = fill(&Registry::of(&seed));
    seed.kill();
    for _ in 0..3 {
        let rest = disk.take_all("rest");
        let said = Outcome::of(&mut seed.run_command(&[])).failed();
        assert!(
            (said.contains("make room") || said.contains("No space left on device"))
                && said.contains(seed.data().to_str().expect("a path in UTF-8")),
            "{said}"
        );
        rest.give_back();
    }
    seed.run(&[]);
    pushed.check();
}
