//! A seed that is killed at any moment, again and again, while clients push, delete and pull.
//!
//! Not here: the clients; see [`super::load`].

use std::fs;
use std::thread;
use std::time::Duration;

use tests::image::{blob_path, blobs_in, digest};
use tests::seed::Seed;

use super::load::{Blobs, Client, Random};
use super::{Registry, is_well};

/// What decides when the seed is killed and what the clients do.
const SEED: u64 = 0x6865_6467_6572_6f77;
/// Clients at the same time.
const CLIENTS: u64 = 4;
/// The seed is killed within this time after the clients began: they do some hundred things in it.
const LIFE_MS_MAX: u64 = 500;

fn survives_kills(rounds: u64) {
    println!("random seed {SEED:#x}, {rounds} rounds");
    let mut seed = Seed::start();
    let (registry, blobs, mut random) = (Registry::of(&seed), Blobs::new(), Random::new(SEED));
    let mut clients: Vec<Client<'_>> = (0..CLIENTS).map(|number| Client::new(&registry, &blobs, number, CLIENTS, SEED)).collect();
    for round in 0..rounds {
        let life = Duration::from_millis(random.below(LIFE_MS_MAX));
        println!("round {round}: killed after {life:?}");
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.work());
            }
            thread::sleep(life);
            seed.kill();
        });
        seed.run(&[]);
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.check());
            }
        });
    }
    let (acknowledged, unanswered): (Vec<u64>, Vec<u64>) = clients.iter().map(|client| (client.acknowledged, client.unanswered)).unzip();
    println!("acknowledged {acknowledged:?}, unanswered {unanswered:?}");
    assert!(unanswered.iter().all(|unanswered| *unanswered == rounds), "a client did not notice every kill");
    assert!(acknowledged.iter().sum::<u64>() > rounds, "hardly anything was pushed");
    is_well(&mut seed);
    assert!(seed.stop().success());
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
