//! What is rolled out: an image whose layers look random, the same for the same seed.
//!
//! Not here: images that run; nothing here is started.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The layers' shares of an image: some large, one small, as images are.
pub(super) const LAYERS: &[u64] = &[8, 5, 2, 1];
/// The same of one with a single layer.
pub(super) const ONE_LAYER: &[u64] = &[1];
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The manifest's media type.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A blob of the image.
pub(super) struct Blob {
    pub(super) digest: String,
    pub(super) bytes: u64,
    pub(super) path: PathBuf,
}

/// The image.
pub(super) struct Image {
    /// Layers and config.
    pub(super) blobs: Vec<Blob>,
    pub(super) manifest: Blob,
}

impl Image {
    /// Makes one of about `bytes` bytes in the new folder `dir`, shared out over layers.
    pub(super) fn make(dir: &Path, seed: u64, bytes: u64, shares: &[u64]) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let all: u64 = shares.iter().sum();
        let mut blobs = Vec::new();
        for (layer, share) in (0..).zip(shares) {
            blobs.push(put(dir, &noise(seed.wrapping_mul(31).wrapping_add(layer), bytes * share / all))?);
        }
        let digests: Vec<&str> = blobs.iter().map(|blob| blob.digest.as_str()).collect();
        let config =
            json!({"architecture": architecture(), "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": digests}});
        let layers: Vec<_> = blobs.iter().map(|blob| descriptor(blob, LAYER)).collect();
        let config = put(dir, config.to_string().as_bytes())?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(&config, CONFIG), "layers": layers});
        blobs.push(config);
        Ok(Self { manifest: put(dir, manifest.to_string().as_bytes())?, blobs })
    }

    /// All that a device must hold.
    pub(super) fn content(&self) -> impl Iterator<Item = &Blob> {
        self.blobs.iter().chain([&self.manifest])
    }

    /// How many bytes that is.
    pub(super) fn bytes(&self) -> u64 {
        self.content().map(|blob| blob.bytes).sum()
    }
}

impl Blob {
    /// Where a device keeps it, whole.
    pub(super) fn in_data(&self, data: &Path) -> PathBuf {
        data.join("blobs").join(self.digest.replace(':', "/"))
    }

    /// Whether a device holds exactly these bytes.
    pub(super) fn is_sound_in(&self, data: &Path) -> bool {
        fs::read(self.in_data(data)).is_ok_and(|bytes| digest(&bytes) == self.digest)
    }
}

fn descriptor(blob: &Blob, media_type: &str) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": blob.digest, "size": blob.bytes})
}

fn put(dir: &Path, bytes: &[u8]) -> Result<Blob> {
    let digest = digest(bytes);
    let path = dir.join(digest.replace(':', "-"));
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    Ok(Blob { digest, bytes: bytes.len() as u64, path })
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Bytes without a pattern that compression could use (xorshift64*).
fn noise(seed: u64, bytes: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    });
    let mut content: Vec<u8> = words.take(usize::try_from(bytes.div_ceil(8)).unwrap_or(0)).flatten().collect();
    content.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_image_of_the_size_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, seed| Image::make(&folder.path().join(name), seed, 1 << 20, LAYERS).unwrap();
        let (first, again, other) = (make("a", 1), make("b", 1), make("c", 2));
        assert_eq!(first.manifest.digest, again.manifest.digest);
        assert_ne!(first.manifest.digest, other.manifest.digest);
        let overhead = first.bytes() - (1 << 20);
        assert!(overhead < 4096, "{overhead}");
    }

    #[test]
    fn a_blob_with_other_bytes_is_not_sound() {
        let folder = tempfile::tempdir().unwrap();
        let image = Image::make(&folder.path().join("image"), 1, 1 << 20, LAYERS).unwrap();
        let (blob, data) = (&image.blobs[0], folder.path());
        assert!(!blob.is_sound_in(data));
        fs::create_dir_all(data.join("blobs/sha256")).unwrap();
        fs::copy(&blob.path, blob.in_data(data)).unwrap();
        assert!(blob.is_sound_in(data));
        fs::write(blob.in_data(data), b"other").unwrap();
        assert!(!blob.is_sound_in(data));
    }
}
