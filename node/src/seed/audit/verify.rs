//! Checking the chain of all lines that are kept.
//!
//! Beside a running seed it sees the lines that are whole; the oldest file may go meanwhile.
//!
//! Not here: what is said of it; see `cli::store`.

use std::io;
use std::path::{Path, PathBuf};

use super::chain::{Broken, Checker, Link};
use super::files::{check_file, numbers, path};

/// What checking found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Files that were read.
    pub files: u64,
    /// The file with the first line that does not follow the one before, and where it is there.
    pub broken: Option<(PathBuf, Broken)>,
}

/// Checks the log in the folder `dir`, which need not be there.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(dir: &Path) -> io::Result<Checked> {
    let numbers = match numbers(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checked::default()),
        numbers => numbers?,
    };
    let (mut checked, mut last) = (Checked::default(), None);
    for number in numbers {
        let path = path(dir, number);
        let before = if number == 1 { Some(Link::start()) } else { last.take() };
        let mut checker = Checker::after(before);
        match check_file(&path, &mut checker) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            torn => torn?,
        };
        checked.files += 1;
        if let (None, Some(broken)) = (&checked.broken, checker.broken()) {
            checked.broken = Some((path, broken.clone()));
        }
        last = checker.last().cloned();
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::files::{Bounds, Files};
    use super::*;

    #[test]
    fn a_changed_line_shows_in_whatever_file_it_is_and_an_unfinished_one_is_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("audit");
        assert_eq!(verify(&dir).unwrap(), Checked::default(), "there is none");
        let mut files = Files::open(&dir, Bounds { file_bytes: 500, files_kept: 9 }).unwrap();
        for n in 0..20 {
            files.add(&serde_json::json!({ "n": n })).unwrap();
            files.flush().unwrap();
        }
        let newest = path(&dir, *numbers(&dir).unwrap().last().unwrap());
        let mut text = fs::read_to_string(&newest).unwrap();
        text.push_str("{\"v\":1,");
        fs::write(&newest, text).unwrap();
        let whole = verify(&dir).unwrap();
        assert!(whole.files > 2 && whole.broken.is_none(), "{whole:?}");
        let second = path(&dir, 2);
        let original = fs::read_to_string(&second).unwrap();
        fs::write(&second, original.replacen("\"n\":", "\"n\":1", 1)).unwrap();
        assert_eq!(verify(&dir).unwrap().broken, Some((second.clone(), Broken { line: 2 })));
        let last = original.trim_end().rfind('\n').unwrap();
        fs::write(&second, &original[..=last]).unwrap();
        assert_eq!(verify(&dir).unwrap().broken, Some((path(&dir, 3), Broken { line: 1 })), "the end of a file is missing");
        fs::write(&second, original).unwrap();
        fs::remove_file(path(&dir, 1)).unwrap();
        assert_eq!(verify(&dir).unwrap().broken, None, "the oldest is no longer kept");
    }
}
