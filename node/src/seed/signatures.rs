//! What an organisation asks of images before they become a version: a cosign signature of a key that its settings name.
//! Signatures are looked for where cosign puts them, in the image's own repository.
//!
//! Not here: what counts as a signature; see `protocol::cosign`.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use protocol::cosign::{Candidate, CosignKey, candidates, index_lists, may_sign, signature_tag};
use protocol::digest::Digest;
use protocol::name::{OrgName, RepositoryName};
use protocol::oci::manifest::MANIFEST_BYTES_MOST;
use protocol::oci::route::Reference;
use protocol::repository::{Setting, decided_by, in_force};
use protocol::statement::version::{Image, VersionStatement};

use super::Seed;
use super::api::Refused;

/// The most manifests of one image that are looked at for signatures: far more than people sign an image.
const MANIFESTS_MAX: usize = 128;

/// Records read at once.
const BATCH: usize = 16;

impl Seed {
    /// Checks that every image of these statements is signed as the settings of its repository ask for.
    ///
    /// # Errors
    /// With which image is not, what was looked for, and what to do.
    pub async fn check_signatures(&self, org: &OrgName, statements: &[VersionStatement]) -> Result<(), Refused> {
        let settings = self.store.repository_settings(org).await?;
        let images = statements.iter().flat_map(|statement| &statement.images).filter(|image| image.repository.is_of(org));
        let mut signed = BTreeSet::new();
        for image in images {
            let keys = in_force(&settings, &image.repository).signed_by.unwrap_or_default();
            if keys.is_empty() {
                continue;
            }
            let pattern = decided_by(&settings, &image.repository, Setting::SignedBy).map(ToString::to_string).unwrap_or_default();
            self.check_image(image, &keys, &pattern, &mut signed).await?;
        }
        Ok(())
    }

    /// A signature of the index stands for the manifests that it lists; else the platform's own manifest must be signed.
    async fn check_image(
        &self,
        image: &Image,
        keys: &[CosignKey],
        pattern: &str,
        signed: &mut BTreeSet<(RepositoryName, Digest)>,
    ) -> Result<(), Refused> {
        let (repository, manifest) = (&image.repository, &image.manifest.digest);
        let mut named = vec![*manifest];
        if let Some(index) = &image.index {
            let bytes = self.document(repository, &index.digest, MANIFEST_BYTES_MOST as u64).await?;
            if bytes.is_some_and(|bytes| index_lists(&bytes, manifest)) {
                named.insert(0, index.digest);
            }
        }
        let mut found = Vec::new();
        for digest in &named {
            if signed.contains(&(repository.clone(), *digest)) || self.is_signed(repository, digest, keys, &mut found).await? {
                signed.insert((repository.clone(), *digest));
                return Ok(());
            }
        }
        let wanted = named.first().unwrap_or(manifest);
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let seen = if found.is_empty() { "there is none".to_owned() } else { format!("found {}", found.join("; ")) };
        let message = format!(
            "{repository}@{wanted} is not signed as the setting signed-by of {pattern} asks for: looked for a cosign signature by {} at the \
             tag {} and among the image's referrers, {seen}; sign it with `cosign sign --key cosign.key HOST/{repository}@{wanted}` and \
             publish again",
            keys.join(" or "),
            signature_tag(wanted).map_or_else(|| "of its digest".to_owned(), |tag| tag.to_string()),
        );
        Err(Refused::new(StatusCode::FORBIDDEN, "unsigned_image", message))
    }

    /// Whether one of `keys` signed `image`; what was found instead is added to `found`.
    async fn is_signed(
        &self,
        repository: &RepositoryName,
        image: &Digest,
        keys: &[CosignKey],
        found: &mut Vec<String>,
    ) -> Result<bool, Refused> {
        let mut refused: BTreeMap<String, u64> = BTreeMap::new();
        for manifest in self.signature_manifests(repository, image).await? {
            let bytes = self.document(repository, &manifest, MANIFEST_BYTES_MOST as u64).await?;
            for candidate in bytes.as_deref().map(candidates).unwrap_or_default() {
                match self.check_candidate(repository, image, &candidate, keys).await? {
                    Ok(()) => return Ok(true),
                    Err(reason) => *refused.entry(reason).or_default() += 1,
                }
            }
        }
        found.extend(refused.into_iter().map(|(reason, count)| if count == 1 { reason } else { format!("{reason} ({count} times)") }));
        Ok(false)
    }

    async fn check_candidate(
        &self,
        repository: &RepositoryName,
        image: &Digest,
        candidate: &Candidate,
        keys: &[CosignKey],
    ) -> Result<Result<(), String>, Refused> {
        let named = |reason: String| format!("{}: {reason}", candidate.digest);
        let Some(bytes) = self.document(repository, &candidate.digest, candidate.size).await? else {
            return Ok(Err(named("it is not in the repository, or has another size".to_owned())));
        };
        Ok(candidate.check(&bytes, image, keys).map_err(|refused| named(refused.to_string())))
    }

    /// The manifests that may hold signatures of `image`: the one at its signature tag, and those that refer to it.
    async fn signature_manifests(&self, repository: &RepositoryName, image: &Digest) -> Result<Vec<Digest>, Refused> {
        let mut found = Vec::new();
        if let Some(tag) = signature_tag(image) {
            found.extend(self.store.manifest(repository, &Reference::Tag(tag)).await?.map(|manifest| manifest.digest));
        }
        let mut last: Option<Digest> = None;
        loop {
            let batch = self.store.referrers(repository, image, last.as_ref(), BATCH).await?;
            let Some(end) = batch.last() else { return Ok(found) };
            last = Some(end.digest);
            let may_sign = batch.iter().filter(|manifest| manifest.artifact_type.as_deref().is_some_and(may_sign));
            found.extend(may_sign.map(|manifest| manifest.digest));
            if found.len() >= MANIFESTS_MAX {
                tracing::warn!(%repository, %image, "the image has more signatures than are looked at");
                found.truncate(MANIFESTS_MAX);
                return Ok(found);
            }
        }
    }

    /// A manifest or blob of the repository, if it has that and its file has at most `bytes_max` bytes.
    async fn document(&self, repository: &RepositoryName, digest: &Digest, bytes_max: u64) -> Result<Option<bytes::Bytes>, Refused> {
        let manifest = self.store.manifest(repository, &Reference::Digest(*digest)).await?;
        let blob = self.store.repository_blob(repository, digest).await?;
        let size = manifest.map(|manifest| manifest.size).or_else(|| blob.map(|link| link.size));
        if size.is_none_or(|size| size > bytes_max) {
            return Ok(None);
        }
        self.blobs.read(digest, bytes_max).await.map_err(|error| Refused::failed(&error))
    }
}
