//! What a seed keeps: garbage goes and nothing else does, damage is found, a backup brings everything back.
//!
//! Not here: each kind of root and of damage, which the crate `node` tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::disk::SmallDisk;
use tests::http;
use tests::image::{Layer, Layout};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;

fn store(seed: &Seed, arguments: &[&str]) -> Command {
    let mut command = program::hedgerow();
    command.args(arguments).arg("--json").arg("--data").arg(seed.data());
    command
}

fn layout(seed: &Seed, name: &str, number: u64) -> Layout {
    Layout::write(&seed.scratch(name), name, &[("amd64", &[&Layer::random(number, 150_000)])])
}

fn blob_file(seed: &Seed, digest: &str) -> PathBuf {
    seed.data().join("blobs").join(digest.replacen(':', "/", 1))
}

/// Pulls all of an image and compares.
fn assert_whole(seed: &Seed, layout: &Layout) {
    let authorization = format!("Bearer {}", seed.org().access_key);
    let get = |path: &str| http::get(&format!("{}/v2/acme/web/{path}", seed.url()), &[("Authorization", authorization.as_str())]);
    let manifest = get(&format!("manifests/{}", layout.tag));
    assert_eq!((manifest.status, manifest.body.as_slice()), (200, layout.blob(&layout.digest).as_slice()), "{}", layout.tag);
    for blob in layout.images[0].layers.iter().chain([&layout.images[0].config]) {
        let answer = get(&format!("blobs/{blob}"));
        assert!(answer.status == 200 && answer.body == layout.blob(blob), "{blob} of {}", layout.tag);
    }
}

fn delete_tag(seed: &Seed, tag: &str) {
    let authorization = format!("Bearer {}", seed.org().access_key);
    let url = format!("{}/v2/acme/web/manifests/{tag}", seed.url());
    assert_eq!(http::send("DELETE", &url, &[("Authorization", authorization.as_str())], &[]).status, 202);
}

#[test]
fn garbage_is_collected_over_the_socket_and_in_a_stopped_seed() {
    let mut seed = Seed::start();
    let (kept, gone) = (layout(&seed, "kept", 1), layout(&seed, "gone", 2));
    for layout in [&kept, &gone] {
        seed.push(&seed.org(), "acme/web", layout);
    }
    delete_tag(&seed, "gone");
    let socket = seed.data().join("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let running = Outcome::of(&mut store(&seed, &["store", "gc"])).json();
    assert_eq!(
        (&running["repositories"], &running["files"]),
        (&Value::from(1), &Value::from(0)),
        "a push is left alone for a day: {running}"
    );
    let refused = Outcome::of(&mut store(&seed, &["store", "gc", "--no-lease"]));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("stop"), "{}", refused.stderr);
    seed.stop();
    assert!(!socket.exists());

    let dry = Outcome::of(&mut store(&seed, &["store", "gc", "--no-lease", "--dry-run"])).json();
    assert!(gone.images[0].blobs().iter().all(|blob| blob_file(&seed, blob).exists()), "a dry run takes nothing");
    let real = Outcome::of(&mut store(&seed, &["store", "gc", "--no-lease"])).json();
    for field in ["manifests", "blobs", "files", "bytes"] {
        assert_eq!(dry[field], real[field], "{field}");
    }
    assert_eq!((&real["manifests"], &real["blobs"]), (&Value::from(gone.manifests().len()), &Value::from(2)), "{real}");
    assert!(gone.images[0].blobs().iter().all(|blob| !blob_file(&seed, blob).exists()));
    seed.run(&[]);
    assert_whole(&seed, &kept);
    seed.push(&seed.org(), "acme/web", &gone);
    assert_whole(&seed, &gone);
}

#[test]
fn a_collection_that_is_killed_at_any_moment_takes_nothing_that_is_needed() {
    let mut seed = Seed::start();
    let kept: Vec<Layout> = (0..5).map(|number| layout(&seed, &format!("kept-{number}"), number)).collect();
    let gone: Vec<Layout> = (5..40).map(|number| layout(&seed, &format!("gone-{number}"), number)).collect();
    for layout in kept.iter().chain(&gone) {
        seed.push(&seed.org(), "acme/web", layout);
    }
    for layout in &gone {
        delete_tag(&seed, &layout.tag);
    }
    seed.stop();
    for wait in 0..20 {
        let mut collection = store(&seed, &["store", "gc", "--no-lease"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(wait * 4));
        collection.kill().unwrap();
        collection.wait().unwrap();
        let checked = Outcome::of(&mut store(&seed, &["store", "check"])).json();
        assert_eq!(checked["damaged"], 0, "{checked}");
    }
    Outcome::of(&mut store(&seed, &["store", "gc", "--no-lease"])).succeeded();
    assert!(gone.iter().all(|layout| !blob_file(&seed, &layout.images[0].layers[0]).exists()));
    seed.run(&[]);
    for layout in &kept {
        assert_whole(&seed, layout);
    }
}

#[test]
fn damage_is_found_repaired_as_far_as_possible_and_healed_by_the_next_push() {
    let mut seed = Seed::start();
    let image = layout(&seed, "image", 1);
    seed.push(&seed.org(), "acme/web", &image);
    let whole = Outcome::of(&mut store(&seed, &["store", "check"]));
    assert_eq!(whole.code, Some(0), "{}", whole.stderr);
    let layer = &image.images[0].layers[0];
    let mut content = image.blob(layer);
    content[70_000] ^= 1;
    fs::write(blob_file(&seed, layer), content).unwrap();
    let running = Outcome::of(&mut store(&seed, &["store", "check"]));
    assert_eq!(running.code, Some(1));
    assert!(running.stdout.contains(layer.as_str()) && running.stdout.contains("rotten"), "{}", running.stdout);
    let refused = Outcome::of(&mut store(&seed, &["store", "check", "--repair"]));
    assert!(refused.code == Some(1) && refused.stderr.contains("stopped"), "{}", refused.stderr);
    seed.stop();
    Outcome::of(&mut store(&seed, &["store", "check", "--repair"]));
    assert!(!blob_file(&seed, layer).exists() && fs::read_dir(seed.data().join("rotten")).unwrap().count() == 1);
    seed.run(&[]);
    seed.push(&seed.org(), "acme/web", &image);
    assert_whole(&seed, &image);
    assert_eq!(Outcome::of(&mut store(&seed, &["store", "check"])).code, Some(0));
}

#[test]
fn a_backup_made_while_pushes_run_brings_back_everything_acknowledged_before() {
    let mut seed = Seed::start();
    let before: Vec<Layout> = (0..4).map(|number| layout(&seed, &format!("before-{number}"), number)).collect();
    for layout in &before {
        seed.push(&seed.org(), "acme/web", layout);
    }
    let later: Vec<Layout> = (10..16).map(|number| layout(&seed, &format!("later-{number}"), number)).collect();
    let (folder, ended) = (seed.scratch("backup"), AtomicBool::new(false));
    let backup = || {
        let mut command = program::hedgerow();
        command.args(["seed", "backup", "--json", "--data"]).arg(seed.data()).arg("--to").arg(&folder);
        Outcome::of(&mut command).json()
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                later.iter().for_each(|layout| seed.push(&seed.org(), "acme/web", layout));
            }
        });
        let first = backup();
        assert!(first["copied"].as_u64().unwrap() >= 12, "{first}");
        ended.store(true, Ordering::Relaxed);
    });
    let again = backup();
    assert_eq!(again["lost"], Value::Array(vec![]));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    seed.kill();
    fs::remove_dir_all(seed.data()).unwrap();
    let mut restore = program::hedgerow();
    restore.args(["seed", "restore", "--json", "--from"]).arg(&folder).arg("--data").arg(seed.data());
    Outcome::of(&mut restore).succeeded();
    assert_eq!(Outcome::of(&mut store(&seed, &["store", "check"])).code, Some(0));
    seed.run(&[]);
    for layout in before.iter().chain(&later) {
        assert_whole(&seed, layout);
    }
}

fn backup(seed: &Seed, folder: &Path) -> Command {
    let mut command = program::hedgerow();
    command.args(["seed", "backup", "--json", "--data"]).arg(seed.data()).arg("--to").arg(folder);
    command
}

/// Restores a backup beside the seed, checks all of it, and tells which of two layers its records name.
fn restored(seed: &Seed, folder: &Path, layers: [&str; 2]) -> [bool; 2] {
    let data = seed.scratch("looked");
    let mut restore = program::hedgerow();
    Outcome::of(restore.args(["seed", "restore", "--json", "--from"]).arg(folder).arg("--data").arg(&data)).succeeded();
    let mut check = program::hedgerow();
    let checked = Outcome::of(check.args(["store", "check", "--json", "--data"]).arg(&data)).json();
    assert_eq!(checked["damaged"], 0, "{checked}");
    assert!(checked["audit_files"].as_u64().is_some_and(|files| files >= 1), "{checked}");
    let has = layers.map(|layer| data.join("blobs").join(layer.replacen(':', "/", 1)).exists());
    fs::remove_dir_all(data).expect("a folder of the test can be removed");
    has
}

#[test]
fn a_backup_that_is_killed_at_any_moment_leaves_the_earlier_one_or_is_complete() {
    let mut seed = Seed::start();
    let (old, new) = (layout(&seed, "old", 1), layout(&seed, "new", 2));
    let layers = [old.images[0].layers[0].as_str(), new.images[0].layers[0].as_str()];
    seed.push(&seed.org(), "acme/web", &old);
    let folder = seed.scratch("backup");
    Outcome::of(&mut backup(&seed, &folder)).succeeded();
    delete_tag(&seed, "old");
    seed.push(&seed.org(), "acme/web", &new);
    seed.stop();
    Outcome::of(&mut store(&seed, &["store", "gc", "--no-lease"])).succeeded();
    let baseline = seed.scratch("baseline");
    Outcome::of(Command::new("cp").arg("-a").args([&folder, &baseline])).succeeded();
    let (mut killed, mut found) = (0, [[false; 2]; 2]);
    for wait in 0..30 {
        fs::remove_dir_all(&folder).unwrap();
        Outcome::of(Command::new("cp").arg("-a").args([&baseline, &folder])).succeeded();
        let mut copying = backup(&seed, &folder).stdout(std::process::Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_micros(wait * 1500));
        copying.kill().unwrap();
        killed += u32::from(!copying.wait().unwrap().success());
        let has = restored(&seed, &folder, layers);
        assert!(has == [true, false] || has == [false, true], "after {wait}: {has:?}");
        found[usize::from(has[1])] = has;
        if wait % 10 == 9 {
            Outcome::of(&mut backup(&seed, &folder)).succeeded();
            assert_eq!(restored(&seed, &folder, layers), [false, true]);
        }
    }
    assert!(killed > 0 && found[0] == [true, false], "no backup was killed before it was complete");
}

#[test]
fn a_backup_that_finds_the_disk_full_leaves_the_earlier_one() {
    let seed = Seed::start();
    let (old, new) = (layout(&seed, "old", 1), layout(&seed, "new", 2));
    let layers = [old.images[0].layers[0].as_str(), new.images[0].layers[0].as_str()];
    seed.push(&seed.org(), "acme/web", &old);
    let folder = seed.scratch("backup");
    Outcome::of(&mut backup(&seed, &folder)).succeeded();
    let disk = SmallDisk::in_place_of(&folder, 16);
    seed.push(&seed.org(), "acme/web", &new);
    let taken = disk.take_all("lost+found");
    let full = Outcome::of(&mut backup(&seed, &folder));
    assert_eq!(full.code, Some(1));
    assert!(full.stderr.contains("No space left"), "{}", full.stderr);
    assert_eq!(restored(&seed, &folder, layers), [true, false]);
    taken.give_back();
    Outcome::of(&mut backup(&seed, &folder)).succeeded();
    assert_eq!(restored(&seed, &folder, layers), [true, true]);
}

#[test]
fn a_line_of_the_audit_log_that_was_changed_is_found() {
    let mut seed = Seed::start();
    for number in 0..2 {
        seed.push(&seed.org(), "acme/web", &layout(&seed, &format!("image-{number}"), number));
    }
    assert_eq!(Outcome::of(&mut store(&seed, &["store", "check"])).code, Some(0), "while it runs");
    seed.stop();
    let whole = Outcome::of(&mut store(&seed, &["store", "check"])).json();
    assert_eq!((&whole["damaged"], &whole["audit_files"]), (&Value::from(0), &Value::from(1)), "{whole}");
    let path = seed.data().join("audit/0000000001.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("image-0", "image-x", 1)).unwrap();
    let changed = Outcome::of(&mut store(&seed, &["store", "check"]));
    assert_eq!(changed.code, Some(1));
    assert!(changed.stdout.contains("audit_log") && changed.stdout.contains("does not follow"), "{}", changed.stdout);
}
