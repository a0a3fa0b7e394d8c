//! One layer of the demo's image: a plain tar file, written and hashed as files of this machine stream into it.
//!
//! Files come in the order of their names, so that two runs on an unchanged machine make the same layers. Only what
//! everybody on the machine may read is taken: the demo may run as root.
//!
//! Not here: which layers there are; see [`super::image`].

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use protocol::digest::Digest;
use sha2::{Digest as _, Sha256};

const TAR_BLOCK: u64 = 512;
/// Two empty blocks end an archive (POSIX.1-1988, ustar).
const TAR_END: u64 = 2 * TAR_BLOCK;
/// What a file costs beyond its content at most: its header, a long name's header and two blocks of name, and padding.
const ENTRY_BYTES_MAX: u64 = 5 * TAR_BLOCK;
/// No file takes more than this part of a layer, so that a layer has many.
const FILE_PART: u64 = 8;
/// A layer is full when less than this part of it is free; four such layers are still within 2 % of the image.
const FULL_PART: u64 = 256;
/// Files that in a row did not fit before the rest is generated: looking on would only cost time.
const MISSES_MAX: u32 = 4096;
/// A generated file; several make a layer of any size.
const GENERATED_FILE_BYTES: u64 = 1 << 20;

/// The regular files below some folders that everybody may read, in the order of their names.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pending: Vec<PathBuf>,
    sizes: RangeInclusive<u64>,
}

impl Files {
    /// The files below `roots` with a size in `sizes`.
    pub(super) fn below(roots: &[PathBuf], sizes: RangeInclusive<u64>) -> Self {
        Self { pending: roots.iter().rev().cloned().collect(), sizes }
    }
}

impl Iterator for Files {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        loop {
            let path = self.pending.pop()?;
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if found.is_dir() {
                let mut inside: Vec<PathBuf> = fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
                inside.sort_unstable_by(|a, b| b.cmp(a));
                self.pending.append(&mut inside);
            } else if found.is_file() && found.permissions().mode() & 0o004 != 0 && self.sizes.contains(&found.len()) {
                return Some(path);
            }
        }
    }
}

/// What went into layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Files of this machine.
    pub(super) files: u64,
    /// Files made up because the machine has too few.
    pub(super) generated_files: u64,
    /// Their bytes.
    pub(super) generated_bytes: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.generated_files += other.generated_files;
        self.generated_bytes += other.generated_bytes;
    }
}

/// A finished layer on disk.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Its file.
    pub(super) path: PathBuf,
    /// Its digest, which is also its `diff_id`: plain tar is not compressed.
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) size: u64,
    /// What is in it.
    pub(super) tally: Tally,
}

/// A layer being written.
pub(super) struct LayerWriter {
    path: PathBuf,
    tar: tar::Builder<Hashed>,
    size: u64,
    tally: Tally,
}

impl LayerWriter {
    /// Starts a layer of at most `size` bytes in the new file `path`.
    pub(super) fn create(path: PathBuf, size: u64) -> anyhow::Result<Self> {
        let file = File::create_new(&path).with_context(|| format!("making {}", path.display()))?;
        let hashed = Hashed { file: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
        Ok(Self { path, tar: tar::Builder::new(hashed), size, tally: Tally::default() })
    }

    /// Bytes of content that certainly still fit.
    fn free(&self) -> u64 {
        self.size.saturating_sub(self.tar.get_ref().bytes + TAR_END + ENTRY_BYTES_MAX)
    }

    /// Adds a file with this content.
    pub(super) fn add(&mut self, name: &Path, content: &[u8]) -> anyhow::Result<()> {
        self.append(name, content.len() as u64, false, content)
    }

    /// Adds files until the layer is full, they end, or `count` of them were taken; says how many were.
    pub(super) fn fill(&mut self, files: &mut Files, count: u64) -> anyhow::Result<u64> {
        let (mut taken, mut misses) = (0, 0);
        while taken < count && misses < MISSES_MAX && self.free() > self.size / FULL_PART {
            let Some(path) = files.next() else { break };
            if self.take(&path)? {
                (taken, misses) = (taken + 1, 0);
            } else {
                misses += 1;
            }
        }
        self.tally.files += taken;
        Ok(taken)
    }

    /// Adds a file of this machine, if it can be read and is not too large. What it loses while it is read becomes zeros.
    fn take(&mut self, path: &Path) -> anyhow::Result<bool> {
        let Ok(file) = File::open(path) else { return Ok(false) };
        let Ok(found) = file.metadata() else { return Ok(false) };
        let size = found.len();
        if !found.is_file() || size > self.free().min(self.size / FILE_PART) {
            return Ok(false);
        }
        let content = file.chain(io::repeat(0)).take(size);
        self.append(path.strip_prefix("/").unwrap_or(path), size, found.permissions().mode() & 0o100 != 0, content)?;
        Ok(true)
    }

    /// Adds `count` generated files of `bytes` each, as far as they fit.
    pub(super) fn generate(&mut self, count: u64, bytes: u64) -> anyhow::Result<()> {
        for _ in 0..count {
            if self.free() < bytes {
                break;
            }
            self.tally.generated_files += 1;
            self.tally.generated_bytes += bytes;
            let name = format!("generated/{:06}", self.tally.generated_files);
            let random = Random { state: self.tar.get_ref().bytes };
            self.append(Path::new(&name), bytes, false, random.take(bytes))?;
        }
        Ok(())
    }

    /// Fills what files of the machine left free.
    pub(super) fn generate_rest(&mut self) -> anyhow::Result<()> {
        while self.free() > self.size / FULL_PART {
            self.generate(1, self.free().min(GENERATED_FILE_BYTES))?;
        }
        Ok(())
    }

    fn append(&mut self, name: &Path, size: u64, executable: bool, content: impl Read) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(if executable { 0o755 } else { 0o644 });
        header.set_mtime(0);
        self.tar.append_data(&mut header, name, content).with_context(|| format!("adding {} to {}", name.display(), self.path.display()))
    }

    /// Ends the archive.
    pub(super) fn finish(self) -> anyhow::Result<Layer> {
        let attempt = || -> io::Result<(Digest, u64)> {
            let mut hashed = self.tar.into_inner()?;
            hashed.flush()?;
            Ok((Digest::Sha256(hashed.hash.finalize().into()), hashed.bytes))
        };
        let (digest, size) = attempt().with_context(|| format!("writing {}", self.path.display()))?;
        Ok(Layer { path: self.path, digest, size, tally: self.tally })
    }
}

/// A file that is hashed as it is written.
struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes that do not compress and are the same in every run: `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014).
struct Random {
    state: u64,
}

impl Read for Random {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_order_and_only_those_that_everybody_may_read() {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [("b/2", "two"), ("b/1", "one"), ("a", "file"), ("c", ""), ("secret", "hidden")] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(if name == "secret" { 0o600 } else { 0o644 })).unwrap();
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let files: Vec<PathBuf> = Files::below(&[dir.path().to_owned()], 1..=100).collect();
        assert_eq!(files, ["a", "b/1", "b/2"].map(|name| dir.path().join(name)));
    }

    #[test]
    fn a_layer_is_a_tar_file_of_nearly_its_size_with_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        fs::write(&long, "content").unwrap();
        fs::set_permissions(&long, fs::Permissions::from_mode(0o644)).unwrap();
        let mut writer = LayerWriter::create(dir.path().join("layer"), 1 << 20).unwrap();
        writer.add(Path::new("etc/version"), b"1\n").unwrap();
        assert_eq!(writer.fill(&mut Files::below(&[long], 1..=100), 9).unwrap(), 1);
        writer.generate_rest().unwrap();
        let layer = writer.finish().unwrap();
        let bytes = fs::read(&layer.path).unwrap();
        assert_eq!((layer.size, layer.digest), (bytes.len() as u64, Digest::sha256(&bytes)));
        assert!(((1 << 20) * 98 / 100..=1 << 20).contains(&layer.size), "{}", layer.size);
        let mut archive = tar::Archive::new(bytes.as_slice());
        assert_eq!(archive.entries().unwrap().map(Result::unwrap).count() as u64, 2 + layer.tally.generated_files);
    }
}
