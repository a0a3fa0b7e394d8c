//! Images made for tests, as OCI layouts: plain tar layers of bytes that look random and are the same in each run.
//!
//! Not here: pushing them; see [`crate::seed`] and [`crate::client`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer: a tar of one file.
#[derive(Clone, Debug)]
pub struct Layer(Vec<u8>);

/// The image of one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its manifest.
    pub manifest: String,
    /// Its config.
    pub config: String,
    /// Its layers.
    pub layers: Vec<String>,
}

/// An OCI layout with one tag.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Where it is.
    pub path: PathBuf,
    /// The tag.
    pub tag: String,
    /// What the tag names: the manifest, or the index if there is more than one image.
    pub digest: String,
    /// The images, one a platform.
    pub images: Vec<Image>,
    media_type: &'static str,
}

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The place of a blob in a directory that is laid out as OCI says.
pub fn blob_path(dir: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap_or_else(|| panic!("not a digest: {digest}"));
    dir.join("blobs").join(algorithm).join(hex)
}

/// A blob in such a directory.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn blob_in(dir: &Path, digest: &str) -> Vec<u8> {
    let path = blob_path(dir, digest);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The digests of the blobs in such a directory.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn blobs_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir.join("blobs/sha256")).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries.map(|entry| format!("sha256:{}", entry.expect("the folder can be read").file_name().to_string_lossy())).collect()
}

impl Layer {
    /// A layer with a file of `bytes` bytes that `seed` decides.
    pub fn random(seed: u64, bytes: usize) -> Self {
        let content = noise(seed, bytes);
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, format!("data/{seed}"), content.as_slice()).expect("memory can be written");
        Self(archive.into_inner().expect("memory can be written"))
    }

    /// The bytes of the tar.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Image {
    /// All that a device needs of the registry to have this image.
    pub fn blobs(&self) -> BTreeSet<String> {
        self.layers.iter().chain([&self.manifest, &self.config]).cloned().collect()
    }
}

impl Layout {
    /// Writes an image for each of `platforms` (an architecture and its layers) to the new folder `path`.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn write(path: &Path, tag: &str, platforms: &[(&str, &[&Layer])]) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).expect("the layout's folder can be made");
        let mut images = Vec::new();
        let mut named = Vec::new();
        for (architecture, layers) in platforms {
            let layers: Vec<Value> = layers.iter().map(|layer| put(path, layer.bytes(), LAYER)).collect();
            let digests: Vec<String> = layers.iter().map(digest_of).collect();
            let config =
                json!({"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": digests}});
            let config = put(path, config.to_string().as_bytes(), CONFIG);
            let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
            let mut manifest = put(path, manifest.to_string().as_bytes(), MANIFEST);
            images.push(Image { manifest: digest_of(&manifest), config: digest_of(&config), layers: digests });
            manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
            named.push(manifest);
        }
        let (mut top, media_type) = match named.as_slice() {
            [only] => (only.clone(), MANIFEST),
            several => {
                (put(path, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": several}).to_string().as_bytes(), INDEX), INDEX)
            }
        };
        top["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]});
        fs::write(path.join("index.json"), index.to_string()).expect("the layout can be written");
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the layout can be written");
        Self { path: path.to_owned(), tag: tag.to_owned(), digest: digest_of(&top), images, media_type }
    }

    /// The bytes of one of its blobs.
    ///
    /// # Panics
    /// When it has none with this digest.
    #[track_caller]
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        blob_in(&self.path, digest)
    }

    /// The sum of the sizes of some of its blobs.
    pub fn size<'a>(&self, blobs: impl IntoIterator<Item = &'a String>) -> u64 {
        blobs.into_iter().map(|blob| self.blob(blob).len() as u64).sum()
    }

    /// The manifests, each with its media type, in an order in which they can be pushed.
    pub fn manifests(&self) -> Vec<(String, &'static str)> {
        let mut manifests: Vec<_> = self.images.iter().map(|image| (image.manifest.clone(), MANIFEST)).collect();
        if self.media_type == INDEX {
            manifests.push((self.digest.clone(), INDEX));
        }
        manifests
    }
}

fn put(path: &Path, bytes: &[u8], media_type: &str) -> Value {
    let digest = digest(bytes);
    fs::write(blob_path(path, &digest), bytes).expect("the layout can be written");
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

fn digest_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().expect("a descriptor has a digest").to_owned()
}

/// Bytes without a pattern that compression could use (xorshift64*).
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        content.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    content.truncate(bytes);
    content
}
