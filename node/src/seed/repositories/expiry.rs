//! The runs that remove tags whose time is over.
//!
//! A run looks at every organisation that has a rule about retention. Each tag is removed by itself, if it was not pushed
//! since it was looked at; what versions need is read from their statements first, and if that fails nothing of the
//! organisation is removed. Nothing is removed while the clock is not believed. The audit log is told of each removal; the
//! seed itself did it, so the line has an organisation, but neither key nor device.
//!
//! Not here: the rules, see `protocol::repository::retention`, and `protocol::garbage::clock` for the clock. Manifests that no tag names any more are left to garbage
//! collection.

use std::sync::Arc;
use std::time::Duration;

use protocol::name::{OrgName, RepositoryName, Tag};
use protocol::oci::route::Reference;
use protocol::repository::in_force;
use protocol::repository::retention::{Fate, Retention, TagFacts};
use protocol::repository::tags::subject_of;
use protocol::time::WallTime;

use super::{PAGE_REPOSITORIES_MAX, Repositories};
use crate::clock::{timestamp, wall_time};
use crate::seed::Seed;
use crate::seed::activity::{Activity, ActivityKind, Outcome};
use crate::seed::audit::{AuditLog, Entry, Source, Who};
use crate::store::garbage::doubt_clock;
use crate::store::meta::{MetaError, TagRecord};
use crate::store::needed::{Needed, needed};

/// How often tags are looked at: rules speak of days.
const RUN_INTERVAL: Duration = Duration::from_secs(3600);

/// How long after its start a seed looks for the first time: clients that waited for it come first.
const FIRST_RUN_DELAY: Duration = Duration::from_secs(5);

/// What the audit log calls the seed itself.
const ACTOR: &str = "seed";

/// Removes tags whose time is over, for as long as the seed runs.
pub async fn keep_tidy(seed: Arc<Seed>, audit: AuditLog) {
    tokio::time::sleep(FIRST_RUN_DELAY).await;
    loop {
        if let Err(error) = seed.repositories().expire_tags(wall_time(), &audit).await {
            tracing::error!(%error, "the organisations cannot be read");
        }
        tokio::time::sleep(RUN_INTERVAL).await;
    }
}

impl Repositories<'_> {
    /// What becomes of each tag of a repository by its rules; none if it does not exist.
    pub(super) async fn fates(
        &self,
        repository: &RepositoryName,
        retention: &Retention,
        needed: &Needed,
    ) -> Result<Option<Vec<(Tag, TagRecord, Fate)>>, MetaError> {
        let Some(tags) = self.store.tag_records(repository, None, usize::MAX).await? else { return Ok(None) };
        let needed = needed.get(repository);
        let mut facts = Vec::with_capacity(tags.len());
        for (tag, record) in &tags {
            let subject_present = match subject_of(tag) {
                Some(subject) => self.store.manifest(repository, &Reference::Digest(subject)).await?.is_some(),
                None => false,
            };
            let needed = needed.is_some_and(|needed| needed.contains(&record.digest));
            facts.push(TagFacts { tag, pushed: record.pushed, needed, subject_present });
        }
        let fates = retention.fates(&facts);
        Ok(Some(tags.into_iter().zip(fates).map(|((tag, record), fate)| (tag, record, fate)).collect()))
    }

    /// Removes the tags of an organisation whose time is over: how many those were.
    async fn expire_tags_of(&self, org: &OrgName, now: WallTime, audit: &AuditLog) -> anyhow::Result<u64> {
        let settings = self.store.repository_settings(org).await?;
        if settings.values().all(|settings| settings.retention().is_none()) {
            return Ok(0);
        }
        let needed = needed(self.store, self.blobs, org, now).await?;
        let (mut expired, mut last) = (0, None::<RepositoryName>);
        loop {
            let page = self.store.repositories(org, last.as_ref().map(RepositoryName::as_str), PAGE_REPOSITORIES_MAX).await?;
            let Some(end) = page.last().cloned() else { return Ok(expired) };
            for repository in page {
                if let Some(retention) = in_force(&settings, &repository).retention() {
                    expired += self.expire_tags_in(&repository, &retention, &needed, now, audit).await?;
                }
            }
            last = Some(end);
        }
    }

    async fn expire_tags_in(
        &self,
        repository: &RepositoryName,
        retention: &Retention,
        needed: &Needed,
        now: WallTime,
        audit: &AuditLog,
    ) -> anyhow::Result<u64> {
        let fates = self.fates(repository, retention, needed).await?.unwrap_or_default();
        let due: Vec<(Tag, TagRecord)> = fates
            .into_iter()
            .filter(|(_, _, fate)| matches!(fate, Fate::Expires(at) if *at <= now))
            .map(|(tag, record, _)| (tag, record))
            .collect();
        if due.is_empty() {
            return Ok(0);
        }
        // A version may have been published since the others were looked at.
        let mut needed = self::needed(self.store, self.blobs, &repository.org(), now).await?;
        let needed = needed.remove(repository).unwrap_or_default();
        let mut expired = 0;
        for (tag, record) in due.into_iter().filter(|(_, record)| !needed.contains(&record.digest)) {
            match self.store.expire_tag(repository, &tag, record).await {
                Ok(()) => {
                    expired += 1;
                    let pushed = record.pushed.as_unix_seconds();
                    tracing::info!(event = "tag_expired", %repository, %tag, digest = %record.digest, pushed, "tag expired");
                    audit.add(entry(repository, tag, record)).await;
                }
                Err(MetaError::Conflict(_) | MetaError::Missing(_)) => tracing::debug!(%repository, %tag, "the tag changed meanwhile"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(expired)
    }

    async fn expire_tags(&self, now: WallTime, audit: &AuditLog) -> Result<(), MetaError> {
        if doubt_clock(self.store, false, now).await?.is_some() {
            return Ok(());
        }
        for org in self.store.orgs().await? {
            match self.expire_tags_of(&org, now, audit).await {
                Ok(0) => {}
                Ok(tags) => tracing::info!(event = "tags_expired", %org, tags, "tags whose time was over were removed"),
                Err(error) => {
                    tracing::error!(%org, error = format!("{error:#}"), "tags cannot be looked at; what expired stays until the next run");
                }
            }
        }
        Ok(())
    }
}

/// The audit log's line about a tag that was removed.
fn entry(repository: &RepositoryName, tag: Tag, record: TagRecord) -> Entry {
    Entry {
        time: timestamp(),
        action: ActivityKind::TagExpire,
        outcome: Outcome::Done,
        status: None,
        who: Some(Who { org: repository.org().to_string(), key: None, label: ACTOR.to_owned(), device: None }),
        from: Source { address: None, user_agent: String::new() },
        request: String::new(),
        method: String::new(),
        path: String::new(),
        target: Activity { tags: vec![tag], digest: Some(record.digest), ..Activity::in_repository(ActivityKind::TagExpire, repository) },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use bytes::Bytes;
    use protocol::digest::Digest;
    use protocol::garbage::clock::AHEAD_SECONDS_MAX;
    use protocol::statement::version::{Descriptor, FORMAT, Image, VersionStatement};

    use super::*;
    use crate::seed::audit::AuditWriter;
    use crate::seed::audit::files::Bounds;
    use crate::seed::registry::auth::generate_key;
    use crate::store::blobs::BlobStore;
    use crate::store::embedded::EmbeddedStore;
    use crate::store::meta::{
        GarbageStore as _, KeyStore as _, ManifestRecord, RepositoryStore as _, Retirement, TrustStore as _, TufFile, VersionContent,
        VersionRecord,
    };

    const DAY: u64 = 86_400;

    struct World {
        dir: tempfile::TempDir,
        store: EmbeddedStore,
        blobs: BlobStore,
        audit: AuditLog,
        writer: Mutex<Option<AuditWriter>>,
    }

    fn at(day: u64) -> WallTime {
        WallTime::from_unix_seconds(day * DAY)
    }

    fn org() -> OrgName {
        "acme".parse().unwrap()
    }

    fn tuf_file() -> TufFile {
        TufFile { name: "timestamp.json".into(), content: String::new() }
    }

    impl World {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (store, blobs) = (EmbeddedStore::open(dir.path()).unwrap(), BlobStore::open(dir.path()).unwrap());
            let (_, key) = generate_key(&org(), vec![]).unwrap();
            store.create_org(&org(), key, vec![tuf_file()]).await.unwrap();
            let bounds = Bounds { file_bytes: 1 << 20, files_kept: 1 };
            let (audit, writer) = AuditLog::start(dir.path(), bounds, Arc::default()).unwrap();
            Self { dir, store, blobs, audit, writer: Mutex::new(Some(writer)) }
        }

        const fn repositories(&self) -> Repositories<'_> {
            Repositories { store: &self.store, blobs: &self.blobs }
        }

        async fn push(&self, repository: &str, tag: &str, day: u64) -> Digest {
            let digest = Digest::sha256(tag.as_bytes());
            let manifest =
                ManifestRecord { digest, media_type: String::new(), size: 1, subject: None, artifact_type: None, pushed: at(day) };
            self.store
                .put_manifest(&repository.parse().unwrap(), manifest, BTreeMap::new(), vec![], &[tag.parse().unwrap()])
                .await
                .unwrap();
            digest
        }

        async fn set(&self, pattern: &str, settings: &str) {
            let settings = serde_json::from_str(settings).unwrap();
            self.store.put_repository_settings(&org(), &pattern.parse().unwrap(), Some(settings)).await.unwrap();
        }

        /// The tags that are left after a run on a day.
        async fn left(&self, repository: &str, day: u64) -> String {
            // However long the test says that the seed was off, its clock is right.
            self.store.believe_clock(at(day)).await.unwrap();
            self.run(at(day)).await;
            self.tags(repository).await
        }

        async fn run(&self, now: WallTime) {
            self.repositories().expire_tags(now, &self.audit).await.unwrap();
        }

        async fn tags(&self, repository: &str) -> String {
            let tags = self.store.tags(&repository.parse().unwrap(), None, 99).await.unwrap().unwrap();
            tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(" ")
        }

        /// The lines of the audit log, which ends.
        fn audited(&self) -> Vec<serde_json::Value> {
            self.writer.lock().unwrap().take().unwrap().finish();
            let text = std::fs::read_to_string(self.dir.path().join("audit/0000000001.jsonl")).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }

        async fn publish(&self, number: u64, manifest: Digest) -> Digest {
            let manifest = Descriptor { media_type: "m".into(), digest: manifest, size: 1 };
            let tag = "any".parse().unwrap();
            let image = Image { repository: "acme/web".parse().unwrap(), tag, index: None, manifest, blobs: vec![] };
            let (app, platform) = ("web".parse().unwrap(), "linux-amd64".parse().unwrap());
            let statement = VersionStatement { format: FORMAT, org: org(), app, version: number, platform, images: vec![image] };
            let bytes = Bytes::from(serde_json::to_vec(&statement).unwrap());
            let digest = self.blobs.put(None, bytes).await.unwrap().blob();
            let statements = [(statement.platform, digest)].into();
            let record = VersionRecord { app: statement.app, version: number, statements, published: at(1), retired: None };
            self.store.publish_version(&org(), record, VersionContent::default(), &tuf_file(), vec![]).await.unwrap();
            digest
        }
    }

    #[tokio::test]
    async fn the_closest_rule_expires_tags_and_the_others_stay() {
        let world = World::new().await;
        for (repository, tag, day) in [("acme/web", "a", 1), ("acme/web", "b", 2), ("acme/web", "c", 3), ("acme/team/x", "a", 1)] {
            world.push(repository, tag, day).await;
        }
        assert_eq!(world.left("acme/web", 1000).await, "a b c", "nothing is set");
        world.set("acme/*", r#"{"keep_days":10}"#).await;
        world.set("acme/web", r#"{"keep_last":1}"#).await;
        assert_eq!(world.left("acme/web", 11).await, "b c");
        assert_eq!(world.left("acme/team/x", 10).await, "");
        assert_eq!(world.left("acme/web", 1000).await, "c");
    }

    #[tokio::test]
    async fn what_a_version_needs_stays_until_it_is_retired() {
        let world = World::new().await;
        let old = world.push("acme/web", "old", 1).await;
        world.push("acme/web", "new", 2).await;
        world.publish(1, old).await;
        world.set("acme/web", r#"{"keep_last":1}"#).await;
        assert_eq!(world.left("acme/web", 9).await, "new old");
        let retirement = Retirement { at: at(9), reason: None };
        world.store.retire_version(&org(), &"web".parse().unwrap(), 1, retirement).await.unwrap();
        assert_eq!(world.left("acme/web", 9).await, "new");
    }

    #[tokio::test]
    async fn a_version_that_is_published_during_a_run_keeps_its_tags() {
        let world = World::new().await;
        let old = world.push("acme/web", "old", 1).await;
        world.push("acme/web", "new", 2).await;
        let (repository, before) = ("acme/web".parse().unwrap(), Needed::new());
        world.publish(1, old).await;
        world.set("acme/web", r#"{"keep_last":1}"#).await;
        let retention = in_force(&world.store.repository_settings(&org()).await.unwrap(), &repository).retention().unwrap();
        let expired = world.repositories().expire_tags_in(&repository, &retention, &before, at(9), &world.audit).await.unwrap();
        assert_eq!((expired, world.tags("acme/web").await.as_str()), (0, "new old"));
    }

    #[tokio::test]
    async fn a_clock_that_jumps_ahead_expires_nothing_until_it_is_right_again() {
        let world = World::new().await;
        world.push("acme/web", "a", 1).await;
        world.set("acme/web", r#"{"keep_days":30}"#).await;
        world.run(at(2)).await;
        world.run(at(3650)).await;
        world.run(at(3650)).await;
        assert_eq!(world.tags("acme/web").await, "a", "ten years in an hour");
        world.run(at(3)).await;
        for day in (1..).map_while(|week| Some(week * AHEAD_SECONDS_MAX / DAY).filter(|day| *day < 36)) {
            world.run(at(day)).await;
        }
        assert_eq!(world.tags("acme/web").await, "", "time went on as it does");
    }

    #[tokio::test]
    async fn a_removal_is_audited_as_the_seeds_own() {
        let world = World::new().await;
        let old = world.push("acme/web", "old", 1).await;
        world.push("acme/web", "new", 2).await;
        world.set("acme/web", r#"{"keep_last":1}"#).await;
        assert_eq!(world.left("acme/web", 9).await, "new");
        let lines = world.audited();
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!((&line["action"], &line["outcome"]), (&"tag.expire".into(), &"done".into()));
        assert_eq!(line["who"], serde_json::json!({ "org": "acme", "label": "seed" }));
        assert_eq!(line["target"], serde_json::json!({ "repository": "acme/web", "tags": ["old"], "digest": old }));
        assert!(line.get("method").is_none() && line.get("request").is_none() && line.get("path").is_none(), "{line}");
    }

    #[tokio::test]
    async fn nothing_expires_while_it_cannot_be_read_what_versions_need() {
        let world = World::new().await;
        let old = world.push("acme/web", "old", 1).await;
        world.push("acme/web", "new", 2).await;
        let statement = world.publish(1, old).await;
        world.set("acme/web", r#"{"keep_last":1}"#).await;
        let rotten = std::fs::read_to_string(world.blobs.path(&statement)).unwrap().replace(&old.hex(), &Digest::sha256(b"x").hex());
        std::fs::write(world.blobs.path(&statement), rotten).unwrap();
        assert_eq!(world.left("acme/web", 9).await, "new old", "a statement that rotted does not count");
        std::fs::remove_file(world.blobs.path(&statement)).unwrap();
        assert_eq!(world.left("acme/web", 9).await, "new old");
    }

    #[tokio::test]
    async fn a_signature_expires_after_its_image_is_gone() {
        let world = World::new().await;
        let image = world.push("acme/web", "v1", 1).await;
        let signature = format!("sha256-{}.sig", image.hex());
        world.push("acme/web", &signature, 1).await;
        world.push("acme/web", "v2", 2).await;
        world.set("acme/web", r#"{"keep_days":1}"#).await;
        assert_eq!(world.left("acme/web", 2).await, format!("{signature} v2"));
        world.store.delete_manifest(&"acme/web".parse().unwrap(), &image).await.unwrap();
        assert_eq!(world.left("acme/web", 2).await, "v2");
    }
}
