//! Publishing on the operator's side: a pushed tag becomes one signed statement for each of its platforms.
//!
//! Which digest a tag names is the seed's word, unless the operator states the digest; everything below that digest is
//! hashed here: index, manifests and configurations, and their media types are read from the hashed bytes. What was
//! published before is verified from the operator's own trust anchor on. Hash lists are the seed's; a lying one costs
//! time, never integrity.
//!
//! Not here: signing itself; see [`crate::trust`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, bail};
use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use protocol::digest::Digest;
use protocol::geometry::UNIT_BYTES;
use protocol::name::{AppName, OrgName, Platform, RepositoryName, Tag};
use protocol::oci::manifest::MANIFEST_BYTES_MOST;
use protocol::statement::version::{Descriptor, FORMAT, HashListName, Image, StatedBlob, VersionName, VersionStatement};
use serde::Serialize;

use crate::api::{self, ApiError, HashListQuery, HashLists, NewManagedVersion};
use crate::cli::operator::SeedApi;
use crate::clock::wall_time;
use crate::files::{self, Access};
use crate::store::meta::VersionRecord;
use crate::trust::proposal::{Change, Proposal};
use crate::trust::{NewVersion, OperatorKeys, TrustRefused, VerifiedRepository, prepare_version};

/// The largest image configuration that is read for its platform.
const CONFIG_BYTES_MAX: usize = 4 << 20;
/// Manifests of one index: far more than there are platforms.
const MANIFESTS_MAX: usize = 256;

const INDEXES: [&str; 2] = ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// What to publish.
#[derive(Clone, Debug)]
pub struct Request {
    /// The owner.
    pub org: OrgName,
    /// The app.
    pub app: AppName,
    /// Where its image was pushed.
    pub repository: RepositoryName,
    /// The tag to resolve.
    pub tag: Tag,
    /// What the tag must name; without it the seed decides.
    pub digest: Option<Digest>,
    /// The version's number, if not the next one.
    pub number: Option<u64>,
    /// The least version that devices may start from now on, if it changes.
    pub floor: Option<u64>,
    /// Whether the floor may be lowered.
    pub lower_floor: bool,
    /// Where the signed version is written, if it shall not be published yet.
    pub out: Option<PathBuf>,
}

/// What was published.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    /// The app.
    pub app: AppName,
    /// N.
    pub version: u64,
    /// What the tag named: an index or a manifest.
    pub digest: Digest,
    /// The platforms of the version.
    pub platforms: Vec<Platform>,
    /// The file that it was written to instead of being published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<PathBuf>,
}

/// What a tag names: at most one image for each platform.
struct Resolved {
    digest: Digest,
    index: Option<Descriptor>,
    images: BTreeMap<Platform, (Descriptor, Vec<Descriptor>)>,
}

/// How often a version is signed anew because others were published meanwhile: of those that are published at the same time one
/// always gets through.
const TRIES: usize = 8;

/// Resolves the tag, signs a statement for each platform, and publishes them as one version; anew if others came in between,
/// unless the version's number is asked for.
///
/// # Errors
/// When the tag names no image, the keys may not sign for the app, or the number that is asked for is taken.
pub async fn publish(api: &SeedApi, keys: &OperatorKeys, request: Request) -> anyhow::Result<Published> {
    for _ in 1..TRIES {
        match publish_once(api, keys, request.clone()).await {
            Err(error) if is_overtaken(&error, request.number) => tracing::info!("another version was published meanwhile; signing anew"),
            answer => return answer,
        }
    }
    publish_once(api, keys, request).await
}

/// Whether a version was not published because others were meanwhile, and may be signed anew.
fn is_overtaken(error: &anyhow::Error, number: Option<u64>) -> bool {
    let code = error.downcast_ref::<ApiError>().map(|error| error.code.as_str());
    match code {
        Some("stale" | "conflict") => true,
        Some("other_number") => number.is_none(),
        _ => false,
    }
}

async fn publish_once(api: &SeedApi, keys: &OperatorKeys, request: Request) -> anyhow::Result<Published> {
    let Request { org, app, repository, tag, digest, number, floor, lower_floor, out } = request;
    let source = api.metadata_of(&org);
    let mut view = VerifiedRepository::open(&keys.dir().join("trust"), &org, &keys.trusted_root()?)?;
    match view.refresh(wall_time(), &source, None).await {
        Ok(_) => {}
        Err(error @ TrustRefused::Expired { .. }) => tracing::warn!(%error, "expired metadata is signed anew by publishing"),
        Err(error @ TrustRefused::Unavailable { .. }) => {
            return Err(error)
                .context("the seed does not answer for the organisation; is it running, and are --url and --access-key right?");
        }
        Err(error) => return Err(error).context("the organisation's metadata on the seed is not what these keys signed"),
    }
    let published = view.published(&app, &source).await?;
    for role in view.expiring(wall_time()) {
        tracing::warn!(role = role.name, expires = %role.expires, "sign it anew with `hedgerow trust renew`, or devices stop trusting it");
    }
    let next = published.keys().next_back().map_or(1, |last| last + 1);
    let name = VersionName { app: app.clone(), version: number.unwrap_or(next) };

    let resolved = resolve(api, &repository, &tag, digest.as_ref()).await?;
    let statements = statements(api, &org, &name, (&repository, &tag), &resolved).await?;
    let deployed: api::Deployed = api.get(&format!("/api/v1/orgs/{org}/apps/{app}/deployed")).await?;
    let new = NewVersion { name, statements, deployed: deployed.versions, floor, lower_floor };
    let publication = prepare_version(&view, keys, new, wall_time())?;
    let (version, digest, platforms) = (publication.version, resolved.digest, resolved.images.into_keys().collect());
    if let Some(out) = &out {
        let proposal = Proposal::new(&view, &source, Change::Version(publication)).await?;
        files::replace(out, proposal.to_text().as_bytes(), Access::Public)?;
    } else {
        let _: api::Published = api.post(&format!("/api/v1/orgs/{org}/versions"), &publication).await?;
    }
    Ok(Published { app, version, digest, platforms, proposal: out })
}

/// The same for an organisation whose keys the seed keeps: the statements are made here, the seed signs them.
///
/// # Errors
/// When the tag names no image, the seed does not keep the keys, or the number that is asked for is taken.
pub async fn publish_managed(api: &SeedApi, request: Request) -> anyhow::Result<Published> {
    for _ in 1..TRIES {
        match publish_managed_once(api, request.clone()).await {
            Err(error) if is_overtaken(&error, request.number) => tracing::info!("another version was published meanwhile; asking again"),
            answer => return answer,
        }
    }
    publish_managed_once(api, request).await
}

async fn publish_managed_once(api: &SeedApi, request: Request) -> anyhow::Result<Published> {
    let Request { org, app, repository, tag, digest, number, floor, lower_floor, out } = request;
    if out.is_some() {
        bail!("--out writes what others sign too, and wants --keys; a seed that keeps the keys signs alone");
    }
    let published: Vec<VersionRecord> = api.get(&format!("/api/v1/orgs/{org}/apps/{app}/versions")).await?;
    let next = published.iter().map(|version| version.version).max().map_or(1, |last| last + 1);
    let name = VersionName { app: app.clone(), version: number.unwrap_or(next) };
    let resolved = resolve(api, &repository, &tag, digest.as_ref()).await?;
    let statements = statements(api, &org, &name, (&repository, &tag), &resolved).await?;
    let text = |(platform, bytes)| anyhow::Ok((platform, String::from_utf8(bytes)?));
    let statements = statements.into_iter().map(text).collect::<anyhow::Result<_>>()?;
    let new = NewManagedVersion { app, version: name.version, statements, floor, lower_floor };
    let published: api::Published = api.post(&format!("/api/v1/orgs/{org}/managed-versions"), &new).await?;
    tracing::warn!("the seed signed, because it keeps the keys of {org}: whoever takes it can do the same; for trials only");
    let (digest, platforms) = (resolved.digest, resolved.images.into_keys().collect());
    Ok(Published { app: published.app, version: published.version, digest, platforms, proposal: None })
}

/// The statement of `name` for each platform, as devices take it.
async fn statements(
    api: &SeedApi,
    org: &OrgName,
    name: &VersionName,
    (repository, tag): (&RepositoryName, &Tag),
    resolved: &Resolved,
) -> anyhow::Result<BTreeMap<Platform, Vec<u8>>> {
    let lists = hash_lists(api, org, resolved).await?;
    let mut statements = BTreeMap::new();
    for (platform, (manifest, blobs)) in &resolved.images {
        let image = Image {
            repository: repository.clone(),
            tag: tag.clone(),
            index: resolved.index.clone(),
            manifest: manifest.clone(),
            blobs: stated(blobs, &lists),
        };
        let statement = VersionStatement {
            format: FORMAT,
            org: org.clone(),
            app: name.app.clone(),
            version: name.version,
            platform: platform.clone(),
            images: vec![image],
        };
        let bytes = serde_json::to_vec(&statement)?;
        VersionStatement::parse(&bytes)
            .with_context(|| format!("devices would refuse the statement for {platform}; nothing was signed"))?;
        statements.insert(platform.clone(), bytes);
    }
    let platforms: Vec<&str> = statements.keys().map(Platform::as_str).collect();
    let platforms = platforms.join(", ");
    tracing::info!(%repository, %tag, digest = %resolved.digest, version = name.version, platforms, "signing");
    Ok(statements)
}

async fn resolve(api: &SeedApi, repository: &RepositoryName, tag: &Tag, expected: Option<&Digest>) -> anyhow::Result<Resolved> {
    let accept = [INDEXES, MANIFESTS].concat().join(", ");
    let (bytes, header) = api.manifest(repository.as_str(), tag.as_str(), &accept, MANIFEST_BYTES_MOST).await?;
    if let Some(expected) = expected.filter(|expected| expected.same_algorithm(&bytes) != **expected) {
        let found = expected.same_algorithm(&bytes);
        bail!(
            "{repository}:{tag} names {found}, not {expected}; nothing was signed: look who moved the tag, or publish the digest that you pushed"
        );
    }
    let digest = Digest::sha256(&bytes);
    let media_type = media_type_of(&bytes, &header).with_context(|| format!("{repository}:{tag} cannot be published"))?;
    let named = Descriptor { media_type: media_type.clone(), digest, size: bytes.len() as u64 };
    if !INDEXES.contains(&media_type.as_str()) {
        let (platform, blobs) = read_image(api, repository, &bytes).await?;
        return Ok(Resolved { digest, index: None, images: [(platform, (named, blobs))].into() });
    }
    let index: ImageIndex = serde_json::from_slice(&bytes).with_context(|| format!("{repository}:{tag} is no OCI index"))?;
    if index.manifests().len() > MANIFESTS_MAX {
        bail!("{repository}:{tag} names {} manifests, more than {MANIFESTS_MAX}", index.manifests().len());
    }
    let mut images = BTreeMap::new();
    for descriptor in index.manifests() {
        let attestation = descriptor.platform().as_ref().is_some_and(|platform| platform.os().to_string() == "unknown");
        if attestation || INDEXES.contains(&descriptor.media_type().as_ref()) {
            continue;
        }
        let wanted: Digest = descriptor.digest().to_string().parse()?;
        let (bytes, _) = api.manifest(repository.as_str(), &wanted.to_string(), &accept, MANIFEST_BYTES_MOST).await?;
        if wanted.same_algorithm(&bytes) != wanted {
            bail!("the seed sent other bytes than {wanted}; do not use this seed");
        }
        let media_type =
            media_type_of(&bytes, descriptor.media_type().as_ref()).with_context(|| format!("{wanted} cannot be published"))?;
        if !MANIFESTS.contains(&media_type.as_str()) {
            bail!("the index says that {wanted} is an image, but it is {media_type}; push the image anew");
        }
        let (own, blobs) = read_image(api, repository, &bytes).await?;
        let platform = match descriptor.platform() {
            Some(stated) => Platform::new(&stated.os().to_string(), &stated.architecture().to_string(), stated.variant().as_deref())?,
            None => own,
        };
        let manifest = Descriptor { media_type, digest: wanted, size: bytes.len() as u64 };
        if images.insert(platform.clone(), (manifest, blobs)).is_some() {
            bail!("{repository}:{tag} has two images for {platform}; a version has one for each platform");
        }
    }
    if images.is_empty() {
        bail!("{repository}:{tag} names no image");
    }
    Ok(Resolved { digest, index: Some(named), images })
}

/// The platform of an image, from its configuration, and the blobs that it needs.
async fn read_image(api: &SeedApi, repository: &RepositoryName, manifest: &[u8]) -> anyhow::Result<(Platform, Vec<Descriptor>)> {
    let manifest: ImageManifest = serde_json::from_slice(manifest).context("the tag names something else than an image")?;
    let describe = |descriptor: &oci_spec::image::Descriptor| {
        let digest: Digest = descriptor.digest().to_string().parse()?;
        anyhow::Ok(Descriptor { media_type: descriptor.media_type().to_string(), digest, size: descriptor.size() })
    };
    let config = describe(manifest.config())?;
    let limit = usize::try_from(config.size).unwrap_or(usize::MAX).min(CONFIG_BYTES_MAX);
    let bytes = api.blob(repository.as_str(), &config.digest.to_string(), limit).await.context("reading the image configuration")?;
    if config.digest.same_algorithm(&bytes) != config.digest {
        bail!("the seed sent other bytes than {}; do not use this seed", config.digest);
    }
    let configuration: ImageConfiguration = serde_json::from_slice(&bytes).context("the image configuration names no platform")?;
    let platform =
        Platform::new(&configuration.os().to_string(), &configuration.architecture().to_string(), configuration.variant().as_deref())?;
    let layers = manifest.layers().iter().map(describe).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((platform, std::iter::once(config).chain(layers).collect()))
}

async fn hash_lists(api: &SeedApi, org: &OrgName, resolved: &Resolved) -> anyhow::Result<BTreeMap<Digest, HashListName>> {
    let large = resolved.images.values().flat_map(|(_, blobs)| blobs).filter(|blob| blob.size > UNIT_BYTES);
    let blobs: BTreeSet<Digest> = large.map(|blob| blob.digest).collect();
    let query = HashListQuery { blobs: blobs.into_iter().collect() };
    let answer: HashLists = api.post(&format!("/api/v1/orgs/{org}/hash-lists"), &query).await?;
    Ok(answer.lists)
}

fn stated(blobs: &[Descriptor], lists: &BTreeMap<Digest, HashListName>) -> Vec<StatedBlob> {
    let mut seen = BTreeSet::new();
    let state = |blob: &Descriptor| StatedBlob {
        media_type: blob.media_type.clone(),
        digest: blob.digest,
        size: blob.size,
        hash_list: lists.get(&blob.digest).filter(|_| blob.size > UNIT_BYTES).cloned(),
    };
    blobs.iter().filter(|blob| seen.insert(blob.digest)).map(state).collect()
}

/// What a manifest or index says it is; `otherwise` counts only if it does not say so itself.
fn media_type_of(document: &[u8], otherwise: &str) -> anyhow::Result<String> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let Typed { media_type } = serde_json::from_slice(document).context("it is neither a manifest nor an index; push an image")?;
    let media_type = media_type.unwrap_or_else(|| otherwise.to_owned());
    if !INDEXES.contains(&media_type.as_str()) && !MANIFESTS.contains(&media_type.as_str()) {
        bail!("its media type {media_type:?} is neither a manifest nor an index; push an image");
    }
    Ok(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_what_the_hashed_bytes_say() {
        let [index, manifest] = [INDEXES[0], MANIFESTS[0]];
        let says = |text: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{text}"}}"#);
        assert_eq!(media_type_of(says(manifest).as_bytes(), index).unwrap(), manifest);
        assert_eq!(media_type_of(br#"{"schemaVersion":2}"#, index).unwrap(), index);
        for (document, otherwise) in [(says("text/html").as_str(), index), ("{}", "text/html"), ("{}", ""), ("nonsense", index)] {
            assert!(media_type_of(document.as_bytes(), otherwise).is_err(), "{document} {otherwise}");
        }
    }
}
