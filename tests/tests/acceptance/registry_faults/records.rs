//! Index and journal that are damaged while the seed is stopped: the index is built again, a torn end of the journal is cut
//! off, and other damage to it is refused.
//!
//! Not here: damage to blobs; the digest of each is its name.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tests::http::Answer;
use tests::http::connection::Body;
use tests::image::{digest, noise};
use tests::process::Outcome;
use tests::program;
use tests::seed::Seed;

use super::{Registry, manifest};

/// Images in the registry: their records fill some pages of the index.
const IMAGES: u64 = 24;
/// Places in each file of the index at which it is cut off or changed, evenly spread.
const PARTS: u64 = 5;
/// Bytes of the header of a journal's file, and of one record in it.
const HEADER_BYTES: u64 = 40;
const RECORD_HEADER_BYTES: usize = 16;

/// A seed with images in two repositories, some deleted again, and what can be asked about them.
struct Filled {
    seed: Seed,
    registry: Registry,
    paths: Vec<String>,
    answers: Vec<(u16, Vec<String>, String)>,
}

impl Filled {
    fn new() -> Self {
        let seed = Seed::start();
        let registry = Registry::of(&seed);
        let mut paths = vec!["acme/web/tags/list".to_owned(), "acme/api/tags/list".to_owned(), "acme/none/tags/list".to_owned()];
        for number in 0..IMAGES {
            let repository = if number % 2 == 0 { "acme/web" } else { "acme/api" };
            let bytes = noise(number + 1, 500 + number as usize);
            let blob = digest(&bytes);
            assert_eq!(registry.push_blob(repository, &blob, &bytes).status, 201);
            let image = manifest(&[(&blob, bytes.len())], &"a note that fills pages ".repeat(20));
            let tag = format!("v{number}");
            assert_eq!(registry.push_manifest(repository, &tag, &image).status, 201);
            if number % 5 == 0 {
                let deleted = registry.ask("DELETE", &format!("{repository}/manifests/{tag}"), &[], Body::Whole(b""));
                assert_eq!(deleted.status, 202);
            }
            paths.push(format!("{repository}/blobs/{blob}"));
            paths.push(format!("{repository}/manifests/{tag}"));
            paths.push(format!("{repository}/manifests/{}", digest(&image)));
            paths.push(format!("{repository}/referrers/{}", digest(&image)));
        }
        let mut filled = Self { seed, registry, paths, answers: Vec::new() };
        filled.answers = filled.ask();
        filled
    }

    fn ask(&self) -> Vec<(u16, Vec<String>, String)> {
        self.paths.iter().map(|path| Answer::shape(&self.registry.get(path))).collect()
    }

    fn stop(&mut self, kill: bool) {
        if kill {
            self.seed.kill();
        } else {
            assert!(self.seed.stop().success());
        }
    }

    /// Starts the seed, and checks that it answers as before.
    #[track_caller]
    fn answers_as_before(&mut self, after: &str) {
        self.seed.run(&[]);
        for ((path, before), now) in self.paths.iter().zip(&self.answers).zip(self.ask()) {
            assert!(*before == now, "after {after}, {path} is {now:?} instead of {before:?}");
        }
    }

    /// Checks that the seed does not start: what it says.
    #[track_caller]
    fn does_not_start(&self) -> String {
        Outcome::of(&mut self.seed.run_command(&[])).failed()
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.seed.data().join(folder)).expect("the folder is listed");
        let entries = entries.map(|entry| entry.expect("the folder is listed").path());
        let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
        files.sort();
        files
    }

    /// The journal's last file.
    fn journal(&self) -> PathBuf {
        let last = self.files("journal").into_iter().rfind(|path| path.extension().is_some_and(|end| end == "log"));
        last.expect("a journal has a file")
    }
}

fn flip_bit(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("the file is opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the byte is read");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("the byte is written");
}

fn cut(path: &Path, bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(bytes)).expect("the file is cut off");
}

#[test]
fn an_index_that_is_deleted_cut_off_or_changed_does_not_change_an_answer() {
    let mut filled = Filled::new();
    filled.stop(false);
    let names: Vec<String> = filled.files("index").iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.len() > 1, "the index is more than one file: {names:?}");
    let index = filled.seed.data().join("index");
    fs::remove_dir_all(&index).unwrap();
    filled.answers_as_before("the index was deleted");
    for name in names {
        for part in 0..PARTS {
            for (what, change) in [("cut off", cut as fn(&Path, u64)), ("changed", flip_bit)] {
                filled.stop(part % 2 == 0);
                // A file whose name changes with each run may not be there again.
                let path = index.join(&name);
                let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                if bytes > 0 {
                    change(&path, bytes * part / PARTS);
                }
                filled.answers_as_before(&format!("{name} was {what} at {part}/{PARTS} of {bytes} bytes"));
            }
        }
    }
}

#[test]
fn a_torn_end_of_the_journal_is_cut_off_with_a_warning() {
    let mut filled = Filled::new();
    filled.stop(true);
    let journal = filled.journal();
    let whole = fs::read(&journal).unwrap();
    // A record that was never written to its end begins like the first one, with a later number.
    let record = &whole[HEADER_BYTES as usize..][..RECORD_HEADER_BYTES + 30];
    let torn: [&[u8]; 5] = [&record[..1], &record[..RECORD_HEADER_BYTES - 1], record, &[0; 300], &noise(5, 5000)];
    for (number, torn) in torn.iter().enumerate() {
        fs::write(&journal, [&whole, *torn].concat()).unwrap();
        filled.answers_as_before(&format!("{} torn bytes", torn.len()));
        let warned = filled.seed.log.text().matches("cut off the journal's torn last record").count();
        assert_eq!(warned, number + 1, "{}", filled.seed.log.tail());
        assert_eq!(fs::metadata(&journal).unwrap().len(), whole.len() as u64);
        filled.stop(true);
    }
    filled.seed.run(&[]);
    let bytes = noise(999, 300);
    assert_eq!(filled.registry.push_blob("acme/web", &digest(&bytes), &bytes).status, 201);
    filled.stop(true);
    filled.answers_as_before("a push after the torn end");
    assert_eq!(filled.registry.get(&format!("acme/web/blobs/{}", digest(&bytes))).body, bytes);
}

#[test]
fn a_journal_that_is_damaged_is_refused_with_file_place_and_what_to_do() {
    let mut filled = Filled::new();
    filled.stop(false);
    let journal = filled.journal();
    let whole = fs::read(&journal).unwrap();
    let refuses = |what: &str| {
        let said = filled.does_not_start();
        assert!(said.contains(journal.to_str().unwrap()), "{what}: {said}");
        let place = said.split("at byte ").nth(1).and_then(|rest| rest.split(':').next()?.parse::<u64>().ok());
        let place = place.unwrap_or_else(|| panic!("{what}: no place: {said}"));
        assert!(said.contains("restore the data directory from a backup"), "{what}: {said}");
        place
    };
    let bytes = whole.len() as u64;
    // The last record is left alone: damage there cannot be told from a torn end.
    for offset in [0, 5, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 9, bytes / 4, bytes / 2, bytes * 3 / 4] {
        fs::write(&journal, &whole).unwrap();
        flip_bit(&journal, offset);
        let place = refuses(&format!("a bit flipped at byte {offset}"));
        assert!(place <= offset.max(HEADER_BYTES), "the damage is at byte {offset}, not after {place}");
    }
    fs::write(&journal, &whole[..HEADER_BYTES as usize - 1]).unwrap();
    refuses("a file shorter than its header");
    fs::write(&journal, [&whole[..bytes as usize / 2], &whole[bytes as usize / 2 + 1..]].concat()).unwrap();
    refuses("a byte taken out");
    fs::write(&journal, &whole).unwrap();
    filled.answers_as_before("the journal was put back");
}

#[test]
fn a_journal_that_ends_before_what_was_acknowledged_is_refused() {
    let mut filled = Filled::new();
    filled.stop(false);
    let journal = filled.journal();
    let whole = fs::read(&journal).unwrap();
    let folder = filled.seed.data().join("journal");
    let lost = |what: &str| {
        Outcome::of(program::hedgerow().args(["store", "check", "--repair", "--data"]).arg(filled.seed.data())).failed();
        let said = filled.does_not_start();
        let clear = said.contains("acknowledged records were lost") && said.contains("backup") && said.contains(folder.to_str().unwrap());
        assert!(clear, "{what}: {said}");
    };
    for bytes in [whole.len() as u64 - 1, whole.len() as u64 / 2, HEADER_BYTES] {
        fs::write(&journal, &whole).unwrap();
        cut(&journal, bytes);
        lost(&format!("cut off at byte {bytes} of {}", whole.len()));
    }
    fs::remove_dir_all(&folder).unwrap();
    lost("the folder is gone");
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(&journal, &whole).unwrap();
    filled.answers_as_before("the journal was put back");
}
