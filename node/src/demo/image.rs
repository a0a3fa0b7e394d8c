//! The demo's image: two releases, each for two platforms, out of files of this machine.
//!
//! | layer | in | share of the size |
//! |---|---|---|
//! | base | both platforms, both releases | a third |
//! | app | own platform, both releases | the rest |
//! | settings | own platform, another one in each release | 1 MiB, or a sixteenth if that is less |
//! | foreign | the other platform, both releases | 256 KiB, not counted: no device here needs it |
//!
//! Not here: how a layer is written; see [`super::layer`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use oci_spec::image::{
    Descriptor, DescriptorBuilder, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, PlatformBuilder,
    RootFsBuilder, SCHEMA_VERSION,
};
use protocol::digest::Digest;
use protocol::name::Platform;

use super::layer::{Files, Layer, LayerWriter, Tally};

/// Where files are looked for: what nearly every Linux system has, programs first.
const ROOTS: [&str; 6] = ["/usr/bin", "/usr/lib", "/usr/share", "/usr/include", "/etc", "/opt"];
/// So many small files come first, so that the smallest image has more than 500 files.
const SMALL_FILES: u64 = 512;
/// 512 files of this size with their headers fit in a third of the smallest image.
const SMALL_FILE_BYTES: u64 = 1 << 10;
/// The layer that a release changes.
const SETTINGS_BYTES: u64 = 1 << 20;
/// The settings layer's part of a small image.
const SETTINGS_PART: u64 = 16;
/// The other platform's own layer.
const FOREIGN_BYTES: u64 = 256 << 10;
/// About what index, manifest and configuration have together.
const DOCUMENTS_BYTES: u64 = 3 << 10;

/// Both releases.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// In the order of their versions.
    pub(super) releases: [Release; 2],
    /// What is in the first release, for one platform.
    pub(super) tally: Tally,
}

/// What is pushed under one tag.
#[derive(Clone, Debug)]
pub(super) struct Release {
    /// The tag.
    pub(super) tag: &'static str,
    /// Layers and configurations, each digest once.
    pub(super) blobs: Vec<Blob>,
    /// Manifests and, last, the index that the tag names.
    pub(super) documents: Vec<Document>,
    /// What a device of this platform must hold: digests and sizes.
    pub(super) content: BTreeMap<Digest, u64>,
}

impl Release {
    /// What one device needs, in bytes.
    pub(super) fn content_bytes(&self) -> u64 {
        self.content.values().sum()
    }

    /// What a device that has `before` still needs, in bytes.
    pub(super) fn changed_bytes(&self, before: Option<&Self>) -> u64 {
        let missing = self.content.iter().filter(|(digest, _)| before.is_none_or(|before| !before.content.contains_key(*digest)));
        missing.map(|(_, size)| size).sum()
    }
}

/// A layer or a configuration.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    /// Its digest.
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Where it is.
    pub(super) content: Content,
}

/// Where a blob is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// In this file.
    File(PathBuf),
    /// Here.
    Bytes(Bytes),
}

/// A manifest or index.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// Its media type.
    pub(super) media_type: MediaType,
    /// Its digest.
    pub(super) digest: Digest,
    /// Its bytes.
    pub(super) bytes: Bytes,
}

impl Document {
    fn new(media_type: MediaType, text: String) -> Self {
        Self { media_type, digest: Digest::sha256(text.as_bytes()), bytes: text.into() }
    }
}

/// Builds the image in the new folder `dir`, so that a device of `own` needs `size` bytes for the first release.
pub(super) fn build(dir: &Path, own: &Platform, size: u64) -> anyhow::Result<Image> {
    build_from(&ROOTS.map(PathBuf::from), dir, own, size)
}

fn build_from(roots: &[PathBuf], dir: &Path, own: &Platform, size: u64) -> anyhow::Result<Image> {
    std::fs::create_dir(dir).with_context(|| format!("making the folder {}", dir.display()))?;
    let start = |name: &str, bytes| LayerWriter::create(dir.join(name).with_extension("tar"), bytes);
    let fill = |mut writer: LayerWriter, files: &mut Files| {
        writer.fill(files, u64::MAX)?;
        writer.generate_rest()?;
        writer.finish()
    };
    let mut files = Files::below(roots, SMALL_FILE_BYTES + 1..=u64::MAX);

    let mut base = start("base", size / 3)?;
    let small = base.fill(&mut Files::below(roots, 1..=SMALL_FILE_BYTES), SMALL_FILES)?;
    base.generate(SMALL_FILES - small, SMALL_FILE_BYTES)?;
    let base = fill(base, &mut files)?;

    let mut settings = Vec::new();
    let settings_files = files.clone();
    for number in ["1", "2"] {
        files = settings_files.clone();
        let mut writer = start(&format!("settings-{number}"), SETTINGS_BYTES.min(size / SETTINGS_PART))?;
        writer.add(Path::new("etc/hedgerow-demo/version"), number.as_bytes())?;
        settings.push(fill(writer, &mut files)?);
    }
    let app = fill(start("app", size - base.size - settings[0].size - DOCUMENTS_BYTES)?, &mut files)?;
    let foreign = fill(start("foreign", FOREIGN_BYTES)?, &mut files)?;

    let other = other_platform(own)?;
    let release = |tag, settings: &Layer| release(tag, (own, &[&base, &app, settings]), (&other, &[&base, &foreign]));
    let mut tally = Tally::default();
    for layer in [&base, &app, &settings[0]] {
        tally += layer.tally;
    }
    Ok(Image { releases: [release("1.0", &settings[0])?, release("1.1", &settings[1])?], tally })
}

/// A platform that is not this one.
fn other_platform(own: &Platform) -> anyhow::Result<Platform> {
    let architecture = if own.as_str().contains("arm64") { "amd64" } else { "arm64" };
    Ok(Platform::new("linux", architecture, None)?)
}

type Layers<'a> = (&'a Platform, &'a [&'a Layer]);

fn release(tag: &'static str, own: Layers<'_>, other: Layers<'_>) -> anyhow::Result<Release> {
    let (mut blobs, mut content) = (BTreeMap::new(), BTreeMap::new());
    let (mut documents, mut named) = (Vec::new(), Vec::new());
    for (platform, layers) in [own, other] {
        let configuration = configuration(platform, layers)?;
        let configuration =
            Blob { digest: Digest::sha256(&configuration), size: configuration.len() as u64, content: Content::Bytes(configuration) };
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(MediaType::ImageConfig, configuration.size, configuration.digest)?)
            .layers(
                layers
                    .iter()
                    .map(|layer| descriptor(MediaType::ImageLayer, layer.size, layer.digest))
                    .collect::<anyhow::Result<Vec<_>>>()?,
            )
            .build()?;
        let manifest = Document::new(MediaType::ImageManifest, manifest.to_string()?);
        let (os, architecture, variant) = parts(platform);
        let mut stated = PlatformBuilder::default().os(os).architecture(architecture);
        if let Some(variant) = variant {
            stated = stated.variant(variant);
        }
        let size = manifest.bytes.len() as u64;
        let entry = DescriptorBuilder::default().media_type(MediaType::ImageManifest).size(size);
        named.push(entry.digest(oci_digest(manifest.digest)?).platform(stated.build()?).build()?);

        let files = layers.iter().map(|layer| Blob { digest: layer.digest, size: layer.size, content: Content::File(layer.path.clone()) });
        for blob in files.chain([configuration]) {
            if platform == own.0 {
                content.insert(blob.digest, blob.size);
            }
            blobs.insert(blob.digest, blob);
        }
        if platform == own.0 {
            content.insert(manifest.digest, size);
        }
        documents.push(manifest);
    }
    let index = ImageIndexBuilder::default().schema_version(SCHEMA_VERSION).media_type(MediaType::ImageIndex).manifests(named).build()?;
    let index = Document::new(MediaType::ImageIndex, index.to_string()?);
    content.insert(index.digest, index.bytes.len() as u64);
    documents.push(index);
    Ok(Release { tag, blobs: blobs.into_values().collect(), documents, content })
}

fn configuration(platform: &Platform, layers: &[&Layer]) -> anyhow::Result<Bytes> {
    let (os, architecture, variant) = parts(platform);
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest.to_string()).collect();
    let root = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?;
    let mut builder = ImageConfigurationBuilder::default().os(os).architecture(architecture).rootfs(root);
    if let Some(variant) = variant {
        builder = builder.variant(variant);
    }
    Ok(builder.build()?.to_string()?.into())
}

/// The properties of the OCI image-spec that the platform's name is made of.
fn parts(platform: &Platform) -> (&str, &str, Option<&str>) {
    let mut parts = platform.as_str().splitn(3, '-');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next())
}

fn descriptor(media_type: MediaType, size: u64, digest: Digest) -> anyhow::Result<Descriptor> {
    Ok(Descriptor::new(media_type, size, oci_digest(digest)?))
}

fn oci_digest(digest: Digest) -> anyhow::Result<oci_spec::image::Digest> {
    Ok(digest.to_string().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(image: &Image, size: u64) {
        let [first, second] = &image.releases;
        let content = first.content_bytes();
        assert!(content.abs_diff(size) <= size / 50, "{content} of {size}");
        assert!(image.tally.files + image.tally.generated_files > 500, "{:?}", image.tally);
        assert_eq!(first.changed_bytes(None), content);
        let changed = second.changed_bytes(Some(first));
        assert!((1..=SETTINGS_BYTES + 2 * DOCUMENTS_BYTES).contains(&changed), "{changed}");
        assert_eq!((first.content.len(), first.blobs.len(), first.documents.len()), (6, 6, 3));
        assert_eq!(second.content.len(), 6);
    }

    #[test]
    fn the_size_is_met_within_two_percent_with_files_of_this_machine_or_without() {
        let dir = tempfile::tempdir().unwrap();
        for (number, size) in [4 << 20, 9_999_999, 64 << 20].into_iter().enumerate() {
            check(&build(&dir.path().join(format!("real-{number}")), &"linux-amd64".parse().unwrap(), size).unwrap(), size);
            let image = build_from(&[], &dir.path().join(format!("made-{number}")), &"linux-arm-v7".parse().unwrap(), size).unwrap();
            assert_eq!(image.tally.files, 0);
            check(&image, size);
        }
    }

    #[test]
    fn the_same_machine_makes_the_same_image_and_both_platforms_share_a_layer() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str| build_from(&["/etc".into()], &dir.path().join(name), &"linux-arm64".parse().unwrap(), 4 << 20).unwrap();
        let (one, other) = (made("one"), made("other"));
        assert_eq!(one.releases[1].content, other.releases[1].content);
        let layers = one.releases[0]
            .documents
            .iter()
            .filter_map(|document| serde_json::from_slice::<oci_spec::image::ImageManifest>(&document.bytes).ok());
        let bases: Vec<String> = layers.map(|manifest| manifest.layers()[0].digest().to_string()).collect();
        assert_eq!(bases.len(), 2);
        assert_eq!(bases[0], bases[1]);
    }
}
