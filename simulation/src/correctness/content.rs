//! What the versions consist of, and what is in each unit of it. Bytes do not exist: a unit has a [`Tag`], and the right one
//! stands for the right bytes.
//!
//! Not here: who holds what; see [`super::disk`].

use std::collections::BTreeMap;

use protocol::digest::Digest;
use protocol::geometry::{Geometry, UNIT_BYTES};
use protocol::hash_list::list_bytes;
use protocol::name::{AppName, OrgName, Platform};
use protocol::statement::version::{self, AcceptedStatement, Descriptor, HashListName, Image, StatedBlob, VersionStatement};

use super::plan::{LayerPlan, VersionPlan};

/// What the bytes of a unit are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// Those of the blob.
    Right,
    /// Those that a lying hash list names.
    AsTheListLies,
    /// What somebody made up, or what rotted.
    Wrong,
    /// What a crash left.
    Torn,
}

/// What checks the units of a wanted blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proven {
    /// Its hash list, or its digest if it is a unit anyway.
    ByUnit,
    /// Its digest alone: the whole is one unit.
    ByWhole,
}

#[derive(Debug)]
struct Blob {
    size: u64,
    /// The unit of which the hash list says the wrong thing.
    lie: Option<u32>,
}

/// Everything that was published.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) org: OrgName,
    pub(super) app: AppName,
    pub(super) platform: Platform,
    blobs: BTreeMap<Digest, Blob>,
    statements: BTreeMap<u64, AcceptedStatement>,
}

impl Library {
    /// The versions of a plan, from 1 on.
    pub(super) fn new(versions: &[VersionPlan]) -> Result<Self, String> {
        let word = |error: &dyn std::fmt::Display| error.to_string();
        let mut library = Self {
            org: "acme".parse().map_err(|error| word(&error))?,
            app: "web".parse().map_err(|error| word(&error))?,
            platform: Platform::new("linux", "amd64", None).map_err(|error| word(&error))?,
            blobs: BTreeMap::new(),
            statements: BTreeMap::new(),
        };
        for (version, plan) in (1..).zip(versions) {
            let statement = library.publish(version, plan)?;
            library.statements.insert(version, statement);
        }
        Ok(library)
    }

    fn publish(&mut self, number: u64, plan: &VersionPlan) -> Result<AcceptedStatement, String> {
        let manifest = Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: Digest::sha256(format!("manifest {number}").as_bytes()),
            size: 700,
        };
        self.blobs.insert(manifest.digest, Blob { size: manifest.size, lie: None });
        let mut blobs: Vec<StatedBlob> = Vec::new();
        for layer in &plan.layers {
            let blob = self.layer(layer);
            if blobs.iter().all(|known| known.digest != blob.digest) {
                blobs.push(blob);
            }
        }
        let image = Image {
            repository: "acme/web".parse().map_err(|error| format!("{error}"))?,
            tag: "1".parse().map_err(|error| format!("{error}"))?,
            index: None,
            manifest,
            blobs,
        };
        let statement = VersionStatement {
            format: version::FORMAT,
            org: self.org.clone(),
            app: self.app.clone(),
            version: number,
            platform: self.platform.clone(),
            images: vec![image],
        };
        Ok(AcceptedStatement::simulated(statement))
    }

    fn layer(&mut self, plan: &LayerPlan) -> StatedBlob {
        let digest = Digest::sha256(format!("layer {} of {} bytes", plan.name, plan.size).as_bytes());
        let listed = plan.listed && plan.size > UNIT_BYTES;
        let list = HashListName { digest: Digest::sha256(digest.as_bytes()), size: list_bytes(&digest, plan.size) };
        if listed {
            self.blobs.insert(list.digest, Blob { size: list.size, lie: None });
        }
        self.blobs.insert(digest, Blob { size: plan.size, lie: plan.lie.filter(|_| listed) });
        StatedBlob {
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            digest,
            size: plan.size,
            hash_list: listed.then_some(list),
        }
    }

    /// The statement of a version.
    pub(super) fn statement(&self, version: u64) -> Option<&AcceptedStatement> {
        self.statements.get(&version)
    }

    /// The digests of all that a version needs, but for hash lists.
    pub(super) fn content(&self, version: u64) -> Vec<Digest> {
        let blobs = self.statements.get(&version).map(|statement| statement.statement().content());
        blobs.into_iter().flatten().map(|blob| blob.digest).collect()
    }

    /// Bytes of a blob.
    pub(super) fn size(&self, blob: &Digest) -> u64 {
        self.blobs.get(blob).map_or(0, |blob| blob.size)
    }

    /// Whether the hash list of a blob lies.
    pub(super) fn is_lied_about(&self, blob: &Digest) -> bool {
        self.blobs.get(blob).is_some_and(|blob| blob.lie.is_some())
    }

    /// How a blob is cut that is checked this way.
    pub(super) fn geometry(&self, blob: &Digest, proven: Proven) -> Geometry {
        match proven {
            Proven::ByUnit => Geometry::listed(self.size(blob)),
            Proven::ByWhole => Geometry::unlisted(self.size(blob)),
        }
    }

    /// What a unit must be to pass the check.
    pub(super) fn expected(&self, blob: &Digest, proven: Proven, unit: u32) -> Tag {
        let lie = self.blobs.get(blob).and_then(|blob| blob.lie);
        if proven == Proven::ByUnit && lie == Some(unit) { Tag::AsTheListLies } else { Tag::Right }
    }
}
