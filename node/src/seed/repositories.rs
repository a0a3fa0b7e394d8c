//! Repositories as operators see them: their settings, their tags, and what becomes of each.
//!
//! Not here: the rules, see `protocol::repository`; the runs that remove tags, see [`expiry`].

pub mod expiry;

use axum::http::StatusCode;
use protocol::name::{OrgName, RepositoryName, Tag};
use protocol::repository::retention::Fate;
use protocol::repository::{Setting, decided_by, in_force};

use super::Seed;
use super::api::Refused;
use crate::api::{Page, RepositoryListed, RepositoryPage, RepositoryShown, TagShown};
use crate::store::blobs::BlobStore;
use crate::store::meta::{MetaStore, TagRecord};
use expiry::Needed;

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
        let more = names.len() > limit;
        names.truncate(limit);
        let next = names.last().filter(|_| more).cloned();
        let mut repositories = Vec::with_capacity(names.len());
        for repository in names {
            let tags = self.store.tag_records(&repository).await?.map_or(0, |tags| tags.len());
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
        let retention = settings.retention();
        let needed = match retention {
            Some(_) => self.needed(&org).await.map_err(|error| Refused::failed(error.as_ref()))?,
            None => Needed::new(),
        };
        let found = self.fates(repository, retention.as_ref(), &needed).await?;
        let found = found.ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "missing", format!("{repository} does not exist")))?;
        let limit = page.limit.unwrap_or(PAGE_TAGS_MAX).clamp(1, PAGE_TAGS_MAX);
        let mut tags = found.into_iter().map(shown).filter(|shown| page.last.as_deref().is_none_or(|last| shown.tag.as_str() > last));
        let shown: Vec<TagShown> = tags.by_ref().take(limit).collect();
        let next = tags.next().and_then(|_| shown.last()).map(|last| last.tag.clone());
        Ok(RepositoryShown { repository: repository.clone(), settings, from, tags: shown, next })
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
