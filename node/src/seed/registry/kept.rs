//! What may not be deleted by its digest, because an immutable tag or a published version would be left in pieces.
//!
//! Only keys that may delete get here, so that a look at all tags of a repository and all versions of an organisation is in
//! its place. What is pushed meanwhile says itself what it needs, and is told what went.
//!
//! Not here: tags, and the manifests that they point at; the store refuses those.

use std::collections::BTreeMap;

use protocol::digest::Digest;
use protocol::garbage::{Search, named};
use protocol::name::{RepositoryName, Tag};
use protocol::oci::manifest::MANIFEST_BYTES_MOST;
use protocol::oci::route::Reference;
use protocol::repository::in_force;
use protocol::repository::tags::{Attempt, check_attempt};

use super::Call;
use super::error::Refused;
use crate::clock::wall_time;
use crate::store::needed::needed;

/// Tags read at once.
const BATCH: usize = 1000;

/// Checks that `digest` may go out of the repository.
///
/// # Errors
/// When something needs it, or when it is not known whether something does.
pub(super) async fn check(call: &Call<'_>, repository: &RepositoryName, digest: &Digest) -> Result<(), Refused> {
    let (store, blobs) = (&*call.state.store, &call.state.blobs);
    let versions = needed(store, blobs, &repository.org(), wall_time()).await.map_err(Refused::Failed)?;
    if versions.get(repository).is_some_and(|needed| needed.contains(digest)) {
        return Err(Refused::OfVersion { digest: *digest, repository: repository.clone() });
    }
    let roots = immutable(call, repository).await?;
    let mut search = Search::new(*digest, roots.keys().copied());
    while let Some((reached, root)) = search.poll_read() {
        if store.manifest(repository, &Reference::Digest(reached)).await?.is_some() {
            let bytes = blobs.read(&reached, MANIFEST_BYTES_MOST as u64).await?;
            search.handle_read(root, bytes.and_then(|bytes| named(&bytes)).unwrap_or_default());
        }
    }
    let Some((root, tag)) = search.found().and_then(|root| roots.get_key_value(&root)) else { return Ok(()) };
    let settings = store.repository_settings(&repository.org()).await?;
    check_attempt(&settings, repository, tag, root, Attempt::DeletePart(*digest)).map_err(Refused::Denied)
}

/// The manifests that immutable tags point at, each with one of those.
async fn immutable(call: &Call<'_>, repository: &RepositoryName) -> Result<BTreeMap<Digest, Tag>, Refused> {
    let settings = in_force(&call.state.store.repository_settings(&repository.org()).await?, repository);
    let (mut found, mut last) = (BTreeMap::new(), None::<Tag>);
    if settings.immutable.is_none() {
        return Ok(found);
    }
    loop {
        let tags = call.state.store.tag_records(repository, last.as_ref().map(Tag::as_str), BATCH).await?.unwrap_or_default();
        let Some((end, _)) = tags.last() else { return Ok(found) };
        last = Some(end.clone());
        found.extend(tags.into_iter().filter(|(tag, _)| settings.is_immutable(tag)).map(|(tag, record)| (record.digest, tag)));
    }
}
