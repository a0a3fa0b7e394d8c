//! Where trust metadata comes from: the seed, a peer, a bundle, a store. A source is believed in nothing.
//!
//! Not here: verification; see [`super::client`].

use async_trait::async_trait;
use protocol::name::OrgName;

use super::refused::TrustRefused;
use crate::store::meta::MetaStore;

/// The largest root metadata, in bytes: holds a thousand keys, a root has a handful.
pub const ROOT_BYTES_MAX: usize = 512 << 10;

/// The largest timestamp metadata, in bytes: one entry and its signatures take 600 bytes.
pub const TIMESTAMP_BYTES_MAX: usize = 16 << 10;

/// The largest snapshot metadata, in bytes: about 40 bytes an app, so 50,000 apps.
pub const SNAPSHOT_BYTES_MAX: usize = 2 << 20;

/// The largest metadata of a targets role, in bytes: about 160 bytes a version and platform, so 65,000 of them.
pub const TARGETS_BYTES_MAX: usize = 10 << 20;

/// Why a source could not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct SourceError(#[from] pub anyhow::Error);

impl From<std::io::Error> for SourceError {
    fn from(error: std::io::Error) -> Self {
        Self(error.into())
    }
}

/// A source of TUF files by name, for one organisation.
#[async_trait]
pub trait MetadataSource: Send + Sync {
    /// The metadata file `name` (`3.root.json`, `timestamp.json`, …); none if there is none.
    /// Reading stops with an error beyond `bytes_max` bytes.
    async fn metadata(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError>;

    /// The target at the consistent-snapshot path `path` (`<app>/<N>/<sha256>.<platform>.json`); none if there is none.
    /// Reading stops with an error beyond `bytes_max` bytes.
    async fn target(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError>;
}

/// The metadata that a seed's store keeps for an organisation. Of targets it has archives alone: statements are blobs.
pub struct StoredMetadata<'a> {
    /// The store.
    pub store: &'a dyn MetaStore,
    /// The organisation.
    pub org: &'a OrgName,
}

#[async_trait]
impl MetadataSource for StoredMetadata<'_> {
    async fn metadata(&self, name: &str, _bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let file = self.store.tuf_file(self.org, name).await.map_err(anyhow::Error::from)?;
        Ok(file.map(|file| file.content.into_bytes()))
    }

    async fn target(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.metadata(&format!("targets/{path}"), bytes_max).await
    }
}

/// The metadata file `name`, or none; refused beyond `bytes_max`.
pub(super) async fn find(source: &dyn MetadataSource, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, TrustRefused> {
    bounded(name, bytes_max, source.metadata(name, bytes_max).await)
}

/// The metadata file `name`, which must be there; refused beyond `bytes_max`.
pub(super) async fn fetch(source: &dyn MetadataSource, name: &str, bytes_max: usize) -> Result<Vec<u8>, TrustRefused> {
    find(source, name, bytes_max).await?.ok_or_else(|| missing(name))
}

/// The target at `path`, which must be there; refused beyond `bytes_max`.
pub(super) async fn fetch_target(source: &dyn MetadataSource, path: &str, bytes_max: usize) -> Result<Vec<u8>, TrustRefused> {
    bounded(path, bytes_max, source.target(path, bytes_max).await)?.ok_or_else(|| missing(path))
}

fn missing(name: &str) -> TrustRefused {
    TrustRefused::Unavailable { name: name.to_owned(), detail: "the source does not have it".to_owned() }
}

fn bounded(name: &str, bytes_max: usize, answer: Result<Option<Vec<u8>>, SourceError>) -> Result<Option<Vec<u8>>, TrustRefused> {
    let unavailable = |error: SourceError| TrustRefused::Unavailable { name: name.to_owned(), detail: error.to_string() };
    match answer.map_err(unavailable)? {
        Some(bytes) if bytes.len() > bytes_max => Err(TrustRefused::TooLarge { file: name.to_owned(), bytes_max }),
        found => Ok(found),
    }
}
