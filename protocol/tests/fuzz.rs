//! The fuzz targets in short: every file of the corpus, and changed copies of it, from a fixed seed.
//!
//! Not here: the targets, which are included from `tests/fuzz`, where libFuzzer calls them for longer.
#![expect(clippy::disallowed_methods, reason = "the corpus is files")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../../tests/fuzz/src/lib.rs"]
pub mod targets;

use targets::{TARGETS, Target};

/// Changed copies for each target: all targets together take under a second.
const CHANGED_COPIES: usize = 10_000;

/// The most changes to one copy.
const CHANGES_MAX: u64 = 8;

/// What random changes hardly come upon, but parsers look for.
const WORDS: &[&[u8]] = &[
    b"%2f",
    b"%",
    b"/../",
    b"//",
    b"sha256:",
    b"sha512:",
    b"-",
    b"=",
    b",",
    b":",
    b"\"",
    b"{",
    b"[",
    b"18446744073709551615",
    b"\xff\xff\xff\xff",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz").join(name)
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths.map(|path| path.file_stem().expect("a file has a name").to_string_lossy().into_owned()).collect()
}

fn corpus(target: Target) -> Vec<Vec<u8>> {
    let folder = folder("corpus").join(target.name);
    names(&folder).into_iter().map(|name| fs::read(folder.join(name)).expect("files of the corpus have no ending")).collect()
}

fn run(target: Target, data: &[u8]) {
    if catch_unwind(|| (target.run)(data)).is_err() {
        panic!("`{}` does not hold for b\"{}\"; it says above why", target.name, data.escape_ascii());
    }
}

#[test]
fn every_target_has_its_file_and_its_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&folder("fuzz_targets")), targets);
    assert_eq!(names(&folder("corpus")), targets);
    for target in TARGETS {
        assert!(!corpus(*target).is_empty(), "{}", target.name);
    }
}

#[test]
fn every_target_holds_for_its_corpus_and_changed_copies() {
    for target in TARGETS {
        let corpus = corpus(*target);
        let mut random = Random(1);
        for seed in &corpus {
            run(*target, seed);
        }
        for _ in 0..CHANGED_COPIES {
            let mut copy = random.choose(&corpus).clone();
            for _ in 0..=random.below(CHANGES_MAX) {
                random.change(&mut copy, &corpus);
            }
            run(*target, &copy);
        }
    }
}

/// SplitMix64: the same numbers on every machine and in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length.max(1) as u64)).expect("below a length")
    }

    fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    fn change(&mut self, data: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let start = self.index(data.len() + 1);
        let end = start + self.index(data.len() - start + 1);
        match self.below(6) {
            0 => drop(data.drain(start..end)),
            1 => drop(data.splice(start..start, data[start..end].to_vec())),
            2 => drop(data.splice(start..start, self.choose(WORDS).iter().copied())),
            3 => {
                let other = self.choose(corpus);
                let from = self.index(other.len() + 1);
                data.truncate(start);
                data.extend_from_slice(&other[from..]);
            }
            _ if start == data.len() => data.push(self.next().to_le_bytes()[0]),
            4 => data[start] ^= 1 << self.below(8),
            _ => data[start] = self.next().to_le_bytes()[0],
        }
    }
}
