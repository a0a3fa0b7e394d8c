//! A seed that is killed at any moment, again and again, while clients push, delete and pull and garbage is collected.
//!
//! Not here: the clients; see [`super::load`].

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::image::{blob_path, blobs_in, digest};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;

use super::load::{Blobs, Client, Random};
use super::{Registry, is_well};

/// What decides when the seed is killed and what the clients do.
const SEED: u64 = 0x6865_6467_6572_6f77;
/// Clients at the same time.
const CLIENTS: u64 = 4;
/// The seed is killed within this time after the clients began: they do some hundred things in it.
const LIFE_MS_MAX: u64 = 500;

/// One in so many times, all that no tag needs is taken away before the seed is started again.
const ROUNDS_PER_COLLECTION: u64 = 3;

/// Runs a command of `hedgerow store` on a data directory.
fn store(arguments: &[&str], data: &Path) -> Outcome {
    let mut command = program::hedgerow();
    Outcome::of(command.arg("store").args(arguments).arg("--json").arg("--data").arg(data))
}

/// Collects garbage until `done`: how often it succeeded. It fails if the seed is killed meanwhile.
fn collect_until(done: &AtomicBool, data: &Path) -> u64 {
    let mut collected = 0;
    while !done.load(Ordering::Relaxed) {
        let outcome = store(&["gc"], data);
        if outcome.code == Some(0) {
            collected += 1;
        } else {
            outcome.failed();
        }
    }
    collected
}

/// Takes away all that no tag needs, in a data directory that nobody uses: how many files went.
fn collect_all(data: &Path) -> u64 {
    let report = store(&["gc", "--no-lease"], data).json();
    report["files"].as_u64().unwrap_or_else(|| panic!("no number of files: {report}"))
}

fn survives_kills(rounds: u64) {
    println!("random seed {SEED:#x}, {rounds} rounds");
    let mut seed = Seed::start();
    let (registry, blobs, mut random) = (Registry::of(&seed), Blobs::new(), Random::new(SEED));
    let mut clients: Vec<Client<'_>> = (0..CLIENTS).map(|number| Client::new(&registry, &blobs, number, CLIENTS, SEED)).collect();
    let (mut collections, mut files) = (0, 0);
    for round in 0..rounds {
        let life = Duration::from_millis(random.below(LIFE_MS_MAX));
        println!("round {round}: killed after {life:?}");
        let (done, data) = (AtomicBool::new(false), seed.data());
        thread::scope(|scope| {
            let collector = scope.spawn(|| collect_until(&done, &data));
            for client in &mut clients {
                scope.spawn(|| client.work());
            }
            thread::sleep(life);
            done.store(true, Ordering::Relaxed);
            seed.kill();
            collections += collector.join().expect("garbage is collected, or not, but nothing panics");
        });
        if round % ROUNDS_PER_COLLECTION == 0 {
            files += collect_all(&data);
            clients.iter_mut().for_each(Client::garbage_was_collected);
        }
        seed.run(&[]);
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.check());
            }
        });
    }
    let (acknowledged, unanswered): (Vec<u64>, Vec<u64>) = clients.iter().map(|client| (client.acknowledged, client.unanswered)).unzip();
    println!("acknowledged {acknowledged:?}, unanswered {unanswered:?}, {collections} collections beside the load, {files} files went");
    assert!(unanswered.iter().all(|unanswered| *unanswered == rounds), "a client did not notice every kill");
    assert!(acknowledged.iter().sum::<u64>() > rounds, "hardly anything was pushed");
    assert!(collections > 0 && files > 0, "no garbage was collected");
    is_well(&mut seed);
    assert!(seed.stop().success());
    let checked: Value = store(&["check"], &seed.data()).json();
    assert_eq!(checked["damaged"], 0, "{checked}");
    for blob in blobs_in(&seed.data()) {
        let bytes = fs::read(blob_path(&seed.data(), &blob)).expect("a blob's file can be read");
        assert_eq!(digest(&bytes), blob, "a file has the name of other bytes");
    }
    let errors: Vec<_> = seed.log.text().lines().filter(|line| line.contains(r#""level":"ERROR""#)).map(str::to_owned).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn what_was_acknowledged_survives_ten_kills_under_load() {
    survives_kills(10);
}

#[test]
#[ignore = "soak: a hundred rounds take some minutes"]
fn what_was_acknowledged_survives_a_hundred_kills_under_load() {
    survives_kills(100);
}
