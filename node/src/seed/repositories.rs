//! Repositories as operators see them: their settings, their tags, and what becomes of each.
//!
//! Not here: the rules, see `protocol::repository`; the runs that remove tags, see [`expiry`].

pub mod expiry;

use axum::http::StatusCode;
use protocol::name::{OrgName, RepositoryName, Tag};
use protocol::repository::retention::Fate;
use protocol::repository::{RepositorySettings, Setting, decided_by, in_force};

use super::api::Refused;
use super::{Seed, pages};
use crate::api::{Page, RepositoryListed, RepositoryPage, RepositoryShown, TagShown};
use crate::clock::wall_time;
use crate::store::blobs::BlobStore;
use crate::store::meta::{MetaStore, TagRecord};
use crate::store::needed::needed;

/// The most repositories in one answer; the tags of each are counted.
const PAGE_REPOSITORIES_MAX: usize = 100;

/// The most tags in one answer.
const PAGE_TAGS_MAX: usize = 1000;

/// What is known of repositories.
#[derive(Clone, Copy)]
pub struct Repositories<'a> {
    store: &'a dyn MetaStore,
    blobs: &'a BlobStore,
}

impl Seed {
    /// The repositories of this seed.
    pub fn repositories(&self) -> Repositories<'_> {
        Repositories { store: self.store.as_ref(), blobs: &self.blobs }
    }
}

impl Repositories<'_> {
    /// A page of an organisation's repositories.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, org: &OrgName, page: &Page) -> Result<RepositoryPage, Refused> {
        let limit = page.limit.unwrap_or(PAGE_REPOSITORIES_MAX).clamp(1, PAGE_REPOSITORIES_MAX);
        let settings = self.store.repository_settings(org).await?;
        let mut names = self.store.repositories(org, page.last.as_deref(), limit + 1).await?;
        let next = pages::cut(&mut names, limit).cloned();
        let mut repositories = Vec::with_capacity(names.len());
        for repository in names {
            let tags = self.store.tag_count(&repository).await?.unwrap_or_default();
            let settings = in_force(&settings, &repository);
            repositories.push(RepositoryListed { repository, tags, settings });
        }
        Ok(RepositoryPage { repositories, next })
    }

    /// A repository, and a page of its tags.
    ///
    /// # Errors
    /// When there is none.
    pub async fn show(&self, repository: &RepositoryName, page: &Page) -> Result<RepositoryShown, Refused> {
        let org = repository.org();
        let settings = self.store.repository_settings(&org).await?;
        let from = |setting: Setting| Some((setting, decided_by(&settings, repository, setting)?.clone()));
        let from = Setting::ALL.into_iter().filter_map(from).collect();
        let settings = in_force(&settings, repository);
        let limit = page.limit.unwrap_or(PAGE_TAGS_MAX).clamp(1, PAGE_TAGS_MAX);
        let mut tags = self.shown_tags(repository, &settings, page.last.as_deref(), limit + 1).await?;
        let next = pages::cut(&mut tags, limit).map(|last| last.tag.clone());
        Ok(RepositoryShown { repository: repository.clone(), settings, from, tags, next })
    }

    /// Up to `limit` tags after `last`. Without a rule about retention only these are read; with one, what becomes of a tag
    /// depends on all others, and on statements, which are kept in memory for a while.
    async fn shown_tags(
        &self,
        repository: &RepositoryName,
        settings: &RepositorySettings,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TagShown>, Refused> {
        let found = match settings.retention() {
            None => {
                let tags = self.store.tag_records(repository, last, limit).await?;
                tags.map(|tags| tags.into_iter().map(|(tag, record)| (tag, record, Fate::Unlimited)).collect::<Vec<_>>())
            }
            Some(retention) => {
                let needed = needed(self.store, self.blobs, &repository.org(), wall_time()).await;
                let needed = needed.map_err(|error| Refused::failed(error.as_ref()))?;
                self.fates(repository, &retention, &needed).await?
            }
        };
        let found = found.ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "missing", format!("{repository} does not exist")))?;
        Ok(found.into_iter().filter(|(tag, ..)| last.is_none_or(|last| tag.as_str() > last)).take(limit).map(shown).collect())
    }
}

fn shown((tag, record, fate): (Tag, TagRecord, Fate)) -> TagShown {
    let (expires, kept) = match fate {
        Fate::Unlimited => (None, None),
        Fate::Kept(by) => (None, Some(by)),
        Fate::Expires(at) => (Some(at), None),
    };
    TagShown { tag, digest: record.digest, pushed: record.pushed, expires, kept }
}
