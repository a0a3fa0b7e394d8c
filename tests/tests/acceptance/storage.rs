//! What a seed keeps: garbage goes and nothing else does, damage is found, a backup brings everything back.
//!
//! Not here: each kind of root and of damage, which the crate `node` tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
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
