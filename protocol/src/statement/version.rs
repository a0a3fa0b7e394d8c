//! Version statements: what version N of an app is on one platform, as a TUF target `<app>/<N>/<os>-<arch>[-<variant>].json`.
//!
//! Not here: signatures; TUF carries them.

use serde::{Deserialize, Serialize};

use super::TrustToken;
use super::signed::{self, Format, Unreadable};
use crate::digest::Digest;
use crate::geometry::{BLOB_BYTES_MAX, UNIT_BYTES};
use crate::hash_list::list_bytes;
use crate::name::{AppName, OrgName, Platform, RepositoryName, Tag};

/// The largest statement, in bytes: holds [`BLOBS_MAX`] blobs with their hash lists.
pub const STATEMENT_BYTES_MAX: usize = 4 << 20;

/// The most blobs of one version and platform: images in the field have under 130 layers, an app has tens of images.
pub const BLOBS_MAX: usize = 8192;

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// Content by name, size and kind (OCI image-spec, "Content Descriptors").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Descriptor {
    /// The OCI media type.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
}

/// A blob that the version needs, with what proves its units on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatedBlob {
    /// The OCI media type.
    pub media_type: String,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// The blob's hash list; none when the blob is a single unit, or when the seed has never seen its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_list: Option<HashListName>,
}

/// Where the hash list of a blob is found: it is a blob itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashListName {
    /// Digest of the list.
    pub digest: Digest,
    /// Size of the list in bytes.
    pub size: u64,
}

/// One image of the app on the statement's platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Where it was pushed.
    pub repository: RepositoryName,
    /// The tag that was resolved.
    pub tag: Tag,
    /// The index that the tag named, if it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Descriptor>,
    /// This platform's manifest.
    pub manifest: Descriptor,
    /// Its configuration and layers, each digest once.
    pub blobs: Vec<StatedBlob>,
}

impl Image {
    /// The digests of index, manifest, configuration and layers.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        let documents = self.index.iter().chain([&self.manifest]).map(|document| document.digest);
        documents.chain(self.blobs.iter().map(|blob| blob.digest))
    }
}

/// What version N of an app is on one platform. Immutable: another content is another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionStatement {
    /// The format of this document, [`FORMAT`].
    pub format: u32,
    /// The owner.
    pub org: OrgName,
    /// The app.
    pub app: AppName,
    /// N, counted from 1.
    pub version: u64,
    /// The platform.
    pub platform: Platform,
    /// The app's images.
    pub images: Vec<Image>,
}

/// Why a TUF-verified target is still no statement to act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementRefused {
    /// Not JSON of the expected shape.
    #[error("the statement cannot be read: {0}")]
    Malformed(String),
    /// Written in a format this program does not know.
    #[error("the statement has format {0}, this program reads {FORMAT}; update it")]
    OtherFormat(u32),
    /// The content names another app, version or platform than the target's path.
    #[error("the statement is not about {0}")]
    OtherSubject(String),
    /// The statement belongs to another organisation.
    #[error("the statement belongs to organisation {0}")]
    ForeignOrg(OrgName),
    /// A size or count is beyond its limit.
    #[error("the statement is too large: {0}")]
    TooLarge(&'static str),
    /// The same digest stands with two sizes.
    #[error("{0} stands in the statement with two sizes")]
    Contradictory(Digest),
    /// The app's key ruled the version out.
    #[error("version {version} is below {floor}, the least that the app's key allows; roll out a newer one, or lower the floor")]
    BelowFloor {
        /// The version.
        version: u64,
        /// The least version allowed.
        floor: u64,
    },
    /// The hash list stated for the blob cannot be the blob's.
    #[error("the hash list stated for {0} cannot be its own: it has another size, or the blob needs none; publish the version anew")]
    ImpossibleHashList(Digest),
}

impl From<Unreadable> for StatementRefused {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed(detail) => Self::Malformed(detail),
            Unreadable::OtherFormat { found, .. } => Self::OtherFormat(found),
        }
    }
}

/// A version of an app, as coordinates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionName {
    /// The app.
    pub app: AppName,
    /// N, counted from 1.
    pub version: u64,
}

impl VersionName {
    /// The TUF target path of this version's statement for `platform`.
    pub fn target_path(&self, platform: &Platform) -> String {
        format!("{}/{}/{platform}.json", self.app, self.version)
    }
}

impl Format for VersionStatement {
    const FORMAT: u32 = FORMAT;
}

impl VersionStatement {
    /// The coordinates of the version.
    pub fn name(&self) -> VersionName {
        VersionName { app: self.app.clone(), version: self.version }
    }

    /// Reads a statement and checks everything that does not need a signature.
    ///
    /// # Errors
    /// When the bytes are not a well-formed statement within the limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementRefused> {
        if bytes.len() > STATEMENT_BYTES_MAX {
            return Err(StatementRefused::TooLarge("more than 4 MiB"));
        }
        let statement: Self = signed::read(bytes)?;
        statement.check_content()?;
        Ok(statement)
    }

    /// Everything a device must hold to have the version: indexes, manifests, configurations and layers, each digest once,
    /// in the statement's order.
    pub fn content(&self) -> Vec<StatedBlob> {
        let mut seen = std::collections::BTreeSet::new();
        let documents = self.images.iter().flat_map(|image| image.index.iter().chain([&image.manifest])).map(|descriptor| StatedBlob {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest,
            size: descriptor.size,
            hash_list: None,
        });
        let blobs = self.images.iter().flat_map(|image| image.blobs.iter().cloned());
        documents.chain(blobs).filter(|blob| seen.insert(blob.digest)).collect()
    }

    fn check_content(&self) -> Result<(), StatementRefused> {
        let mut sizes = std::collections::BTreeMap::new();
        let blobs = self.images.iter().flat_map(|image| image.blobs.iter().map(|blob| (blob.digest, blob.size)));
        let documents = self.images.iter().flat_map(|image| image.index.iter().chain([&image.manifest])).map(|d| (d.digest, d.size));
        for (digest, size) in documents.chain(blobs) {
            if size > BLOB_BYTES_MAX {
                return Err(StatementRefused::TooLarge("a blob of more than 1 TiB"));
            }
            if sizes.insert(digest, size).is_some_and(|other| other != size) {
                return Err(StatementRefused::Contradictory(digest));
            }
        }
        for blob in self.images.iter().flat_map(|image| &image.blobs) {
            let possible = blob.hash_list.as_ref().is_none_or(|list| {
                blob.size > UNIT_BYTES && list.digest != blob.digest && list.size == list_bytes(&blob.digest, blob.size)
            });
            if !possible {
                return Err(StatementRefused::ImpossibleHashList(blob.digest));
            }
        }
        if sizes.len() > BLOBS_MAX {
            return Err(StatementRefused::TooLarge("more than 8192 blobs"));
        }
        Ok(())
    }
}

/// A statement whose signatures, expiry and coordinates were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedStatement {
    statement: VersionStatement,
    digest: Digest,
    bytes: Vec<u8>,
    floor: u64,
}

impl AcceptedStatement {
    /// Accepts the bytes of the target that TUF verified for `name` on `platform`.
    ///
    /// # Errors
    /// When the bytes say something else than their coordinates, or are beyond a limit.
    pub fn accept(
        _trusted: &TrustToken,
        org: &OrgName,
        name: &VersionName,
        platform: &Platform,
        bytes: &[u8],
    ) -> Result<Self, StatementRefused> {
        let statement = VersionStatement::parse(bytes)?;
        if statement.org != *org {
            return Err(StatementRefused::ForeignOrg(statement.org));
        }
        if statement.name() != *name || statement.platform != *platform {
            return Err(StatementRefused::OtherSubject(name.target_path(platform)));
        }
        Ok(Self { statement, digest: Digest::sha256(bytes), bytes: bytes.to_vec(), floor: 0 })
    }

    /// An accepted statement without a signature, for the simulation, which moves no bytes.
    #[cfg(feature = "simulated")]
    pub fn simulated(statement: VersionStatement) -> Self {
        let digest = Digest::sha256(format!("{}/{}", statement.app, statement.version).as_bytes());
        Self { statement, digest, bytes: Vec::new(), floor: 0 }
    }

    /// The same, if the least version that the app's key allows, `floor`, does not rule it out.
    ///
    /// # Errors
    /// [`StatementRefused::BelowFloor`] if it does.
    pub fn at_floor(self, floor: u64) -> Result<Self, StatementRefused> {
        let version = self.statement.version;
        if version < floor { Err(StatementRefused::BelowFloor { version, floor }) } else { Ok(Self { floor, ..self }) }
    }

    /// The least version of the app that may be started, as its key said when this one was accepted; 0: any.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// What was accepted.
    pub const fn statement(&self) -> &VersionStatement {
        &self.statement
    }

    /// The SHA-256 of the statement's exact bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The statement's exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> VersionStatement {
        let descriptor = |text: &str| Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: Digest::sha256(text.as_bytes()),
            size: 10,
        };
        let blob = |text: &str| StatedBlob {
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            digest: Digest::sha256(text.as_bytes()),
            size: 5,
            hash_list: None,
        };
        VersionStatement {
            format: FORMAT,
            org: "acme".parse().unwrap(),
            app: "web".parse().unwrap(),
            version: 3,
            platform: "linux-amd64".parse().unwrap(),
            images: vec![Image {
                repository: "acme/web".parse().unwrap(),
                tag: "1.0".parse().unwrap(),
                index: Some(descriptor("index")),
                manifest: descriptor("manifest"),
                blobs: vec![blob("config"), blob("layer"), blob("layer")],
            }],
        }
    }

    #[test]
    fn content_names_each_digest_once() {
        let digests: Vec<_> = statement().content().into_iter().map(|blob| blob.digest).collect();
        let expected = ["index", "manifest", "config", "layer"].map(|text| Digest::sha256(text.as_bytes()));
        assert_eq!(digests, expected);
    }

    #[test]
    fn refuses_with_the_reason() {
        let good = statement();
        let bytes = |statement: &VersionStatement| serde_json::to_vec(statement).unwrap();
        assert_eq!(VersionStatement::parse(&bytes(&good)), Ok(good.clone()));
        let newer = VersionStatement { format: 2, ..good.clone() };
        assert_eq!(VersionStatement::parse(&bytes(&newer)), Err(StatementRefused::OtherFormat(2)));
        let mut contradictory = good.clone();
        contradictory.images[0].blobs[2].size = 6;
        let layer = Digest::sha256(b"layer");
        assert_eq!(VersionStatement::parse(&bytes(&contradictory)), Err(StatementRefused::Contradictory(layer)));
        let mut huge = good;
        huge.images[0].manifest.size = BLOB_BYTES_MAX + 1;
        assert!(matches!(VersionStatement::parse(&bytes(&huge)), Err(StatementRefused::TooLarge(_))));
        assert!(matches!(VersionStatement::parse(b"{}"), Err(StatementRefused::Malformed(_))));
    }

    #[test]
    fn a_hash_list_that_cannot_be_the_blobs_is_refused() {
        let layer = Digest::sha256(b"layer");
        let parse = |size, digest: &[u8], list_size| {
            let mut stated = statement();
            let list = HashListName { digest: Digest::sha256(digest), size: list_size };
            stated.images[0].blobs = vec![StatedBlob { size, hash_list: Some(list), ..stated.images[0].blobs[1].clone() }];
            VersionStatement::parse(&serde_json::to_vec(&stated).unwrap()).map(drop)
        };
        assert_eq!(parse(UNIT_BYTES + 1, b"list", 28 + 32 + 64), Ok(()));
        for (size, digest, list_size) in [
            (UNIT_BYTES + 1, b"list".as_slice(), 28 + 32 + 96),
            (UNIT_BYTES + 1, b"list", BLOB_BYTES_MAX),
            (UNIT_BYTES + 1, b"layer", 28 + 32 + 64),
            (UNIT_BYTES, b"list", 28 + 32 + 32),
        ] {
            assert_eq!(parse(size, digest, list_size), Err(StatementRefused::ImpossibleHashList(layer)));
        }
    }

    #[test]
    fn there_is_one_token_and_it_accepts_only_the_named_subject() {
        let token = crate::agent::tests::token();
        assert!(TrustToken::take().is_none());
        let good = statement();
        let bytes = serde_json::to_vec(&good).unwrap();
        let accept = |org: &str, version, platform: &str| {
            let name = VersionName { app: good.app.clone(), version };
            AcceptedStatement::accept(token, &org.parse().unwrap(), &name, &platform.parse().unwrap(), &bytes)
        };
        assert_eq!(accept("acme", 3, "linux-amd64").unwrap().digest(), Digest::sha256(&bytes));
        assert_eq!(accept("evil", 3, "linux-amd64"), Err(StatementRefused::ForeignOrg("acme".parse().unwrap())));
        assert!(matches!(accept("acme", 4, "linux-amd64"), Err(StatementRefused::OtherSubject(_))));
        assert!(matches!(accept("acme", 3, "linux-arm64"), Err(StatementRefused::OtherSubject(_))));
    }
}
