//! A disk that is small, to be filled by a test.
//!
//! Not here: what is written to it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Outcome;

/// A file system in memory of a fixed size, gone when dropped. Only root may make one.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Puts a disk of `mib` MiB in the place of the folder `at`, with all that the folder holds.
    ///
    /// # Panics
    /// When that is not allowed here.
    #[track_caller]
    pub fn in_place_of(at: &Path, mib: u32) -> Self {
        let moved = at.with_extension("moved");
        fs::rename(at, &moved).expect("a folder of the test can be moved");
        fs::create_dir(at).expect("a folder can be made");
        let options = format!("size={mib}m,mode=0700");
        let mounted = Outcome::of(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "hedgerow-test"]).arg(at));
        assert_eq!(mounted.code, Some(0), "cannot make a small disk, which takes root: {}", mounted.stderr);
        let disk = Self { at: at.to_owned() };
        let inside = moved.join(".");
        Outcome::of(Command::new("cp").arg("-a").arg(inside).arg(at)).succeeded();
        disk
    }

    /// Writes a file of `mib` MiB, to be removed when there should be room.
    ///
    /// # Panics
    /// When it has no room.
    #[track_caller]
    pub fn take(&self, name: &str, mib: usize) -> Taken {
        let path = self.at.join(name);
        fs::write(&path, vec![1; mib << 20]).expect("there is room at the start");
        Taken { path }
    }

    /// Writes a file into all the room that there is.
    ///
    /// # Panics
    /// When it fails for another reason than that the disk is full.
    #[track_caller]
    pub fn take_all(&self, name: &str) -> Taken {
        let path = self.at.join(name);
        let mut file = File::create(&path).expect("a file can be made");
        for block in [64 << 10, 4096, 1] {
            let block = vec![1; block];
            let full = (0..).find_map(|_: u64| file.write_all(&block).err());
            let kind = full.map(|error| error.kind());
            assert_eq!(kind, Some(io::ErrorKind::StorageFull));
        }
        Taken { path }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a process of the test may still run on it.
        let left = Command::new("umount").arg("--lazy").arg(&self.at).status();
        if !left.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.at.display());
        }
    }
}

/// Room that is taken.
#[derive(Debug)]
pub struct Taken {
    path: PathBuf,
}

impl Taken {
    /// Gives it back.
    ///
    /// # Panics
    /// When the file cannot be removed.
    pub fn give_back(self) {
        fs::remove_file(self.path).expect("a file of the test can be removed");
    }
}
