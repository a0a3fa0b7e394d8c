//! What a backup holds, what is refused, and what comes back.

use std::os::unix::fs::PermissionsExt as _;

use protocol::name::RepositoryName;

use super::*;
use crate::store::blobs::BlobStore;
use crate::store::embedded::EmbeddedStore;
use crate::store::meta::{AccessKeyRecord, BackupStore as _, BlobLink, KeyStore as _, RepositoryStore as _};

struct World {
    home: tempfile::TempDir,
    store: EmbeddedStore,
    blobs: BlobStore,
}

impl World {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        files::create_private_dir(&data.join("keys")).unwrap();
        fs::write(data.join("keys").join("online.pem"), b"secret").unwrap();
        fs::write(data.join("seed.toml"), b"listen = 1").unwrap();
        let (store, blobs) = (EmbeddedStore::open(&data).unwrap(), BlobStore::open(&data).unwrap());
        let (secret_sha256, created, org) = (Digest::sha256(b"s"), WallTime::default(), "acme".parse().unwrap());
        let key = AccessKeyRecord { id: "k".into(), org, secret_sha256, scopes: vec![], label: String::new(), created, expires: None };
        store.create_org(&"acme".parse().unwrap(), key, vec![]).await.unwrap();
        Self { home, store, blobs }
    }

    async fn push(&self, content: &str) -> Digest {
        let blob = self.blobs.put(None, content.to_owned().into()).await.unwrap();
        self.store.link_blob(&repository(), &blob.blob(), BlobLink { size: blob.size(), used: WallTime::default() }).await.unwrap();
        blob.blob()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    async fn backup(&self) -> anyhow::Result<Copied> {
        self.backup_that(|_| {}, || Ok(())).await
    }

    async fn backup_that(&self, mut watch: impl FnMut(Progress), intact: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Copied> {
        self.copying(false, &mut watch, intact).await
    }

    async fn copying(
        &self,
        trust_sizes: bool,
        watch: &mut Watch<'_>,
        intact: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Copied> {
        let hold = self.store.hold_journal().await.unwrap();
        let source = Source { data: &self.path("data"), extent: &hold.extent, began: WallTime::default(), trust_sizes };
        backup(source, &self.path("backup"), watch, intact)
    }

    fn copy(&self, from: &str, to: &str) {
        let copied = std::process::Command::new("cp").arg("-a").args([self.path(from), self.path(to)]).status().unwrap();
        assert!(copied.success());
    }

    /// Restores, and looks whether the repository has these blobs, whole, and not that one.
    async fn assert_restores(&self, has: &[Digest], has_not: &Digest) {
        let restored = self.path("looked");
        assert_eq!(self.restore("looked").unwrap().lost, []);
        let store = EmbeddedStore::open(&restored).unwrap();
        for blob in has {
            assert!(store.repository_blob(&repository(), blob).await.unwrap().is_some());
            assert_eq!(Digest::sha256(&fs::read(blob_file(&restored, blob)).unwrap()), *blob);
        }
        assert_eq!(store.repository_blob(&repository(), has_not).await.unwrap(), None);
        drop(store);
        fs::remove_dir_all(restored).unwrap();
    }

    fn restore(&self, to: &str) -> anyhow::Result<Copied> {
        restore(&self.path("backup"), &self.path(to), &mut |_| {})
    }
}

fn repository() -> RepositoryName {
    "acme/web".parse().unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_before_comes_back_and_what_came_later_does_not() {
    let world = World::new().await;
    let before = world.push("before").await;
    let hold = world.store.hold_journal().await.unwrap();
    let later = world.push("later").await;
    let source = Source { data: &world.path("data"), extent: &hold.extent, began: WallTime::default(), trust_sizes: false };
    let copied = backup(source, &world.path("backup"), &mut |_| {}, || Ok(())).unwrap();
    assert_eq!((copied.backup.blobs, copied.copied, copied.lost.len()), (1, 1, 0));
    world.restore("restored").unwrap();
    let (store, blobs) = (EmbeddedStore::open(&world.path("restored")).unwrap(), BlobStore::open(&world.path("restored")).unwrap());
    assert!(store.repository_blob(&repository(), &before).await.unwrap().is_some());
    assert_eq!(blobs.read(&before, 99).await.unwrap().unwrap(), "before");
    assert_eq!(store.repository_blob(&repository(), &later).await.unwrap(), None);
    assert_eq!(fs::read(world.path("restored/keys/online.pem")).unwrap(), b"secret");
    assert_eq!(fs::read(world.path("restored/seed.toml")).unwrap(), b"listen = 1");
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
    for private in ["backup", "backup/snapshot-000001/keys", "backup/snapshot-000001/audit", "restored", "restored/keys"] {
        assert_eq!(mode(private), 0o700, "{private}");
    }
    for private in [
        "backup/snapshot-000001/keys/online.pem",
        "backup/backup.json",
        "backup/snapshot-000001/journal/00000001.log",
        "restored/keys/online.pem",
    ] {
        assert_eq!(mode(private), 0o600, "{private}");
    }
}

#[tokio::test]
async fn again_into_the_same_folder_copies_what_is_new_and_removes_what_is_not_named() {
    let world = World::new().await;
    let (old, stays) = (world.push("old").await, world.push("stays").await);
    assert_eq!(world.backup().await.unwrap().copied, 2);
    world.store.unlink_blob(&repository(), &old).await.unwrap();
    let new = world.push("new").await;
    let again = world.backup().await.unwrap();
    assert_eq!((again.backup.blobs, again.copied), (2, 1));
    let there = |digest: &Digest| blob_file(&world.path("backup"), digest).exists();
    assert!(!there(&old) && there(&stays) && there(&new));
}

#[tokio::test]
async fn a_first_backup_that_was_interrupted_is_refused_until_it_is_finished() {
    let world = World::new().await;
    world.push("blob").await;
    assert!(world.backup_that(|_| {}, || bail!("the seed stopped")).await.is_err());
    assert!(world.restore("restored").unwrap_err().to_string().contains("never finished"));
    assert!(!world.path("restored").exists());
    world.backup().await.unwrap();
    world.restore("restored").unwrap();
    assert!(world.restore("restored").unwrap_err().to_string().contains("not empty"));
}

/// Ends a backup, as a kill would, at each step and each block of a blob.
#[tokio::test]
async fn whatever_interrupts_a_backup_there_is_the_earlier_one_or_the_new_one() {
    let world = World::new().await;
    let (old, stays) = (world.push("old").await, world.push("stays").await);
    world.backup().await.unwrap();
    world.copy("backup", "baseline");
    world.store.unlink_blob(&repository(), &old).await.unwrap();
    let new = world.push("new").await;
    let mut events = Vec::new();
    world.backup_that(|event| events.push(event), || Ok(())).await.unwrap();
    assert!(events.len() >= 7, "{events:?}");
    let naming = events.iter().position(|event| *event == Progress::At(Step::Naming)).unwrap();
    for (end, last) in events.iter().enumerate() {
        fs::remove_dir_all(world.path("backup")).unwrap();
        world.copy("baseline", "backup");
        let mut left = end;
        let ending = std::panic::AssertUnwindSafe(
            world.backup_that(|_| left = left.checked_sub(1).expect("it ends here, as the test wants"), || Ok(())),
        );
        assert!(futures_util::FutureExt::catch_unwind(ending).await.is_err());
        let (has, has_not) = if end > naming { (new, old) } else { (old, new) };
        world.assert_restores(&[stays, has], &has_not).await;
        world.backup().await.unwrap();
        world.assert_restores(&[stays, new], &old).await;
        let mut names: Vec<_> = fs::read_dir(world.path("backup")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?} after an end at {last:?}");
        assert!(!blob_file(&world.path("backup"), &old).exists());
    }
}

#[tokio::test]
async fn a_seed_that_stops_meanwhile_leaves_the_earlier_backup() {
    let world = World::new().await;
    let old = world.push("old").await;
    world.backup().await.unwrap();
    let new = world.push("new").await;
    assert!(world.backup_that(|_| {}, || bail!("the seed stopped")).await.is_err());
    world.assert_restores(&[old], &new).await;
}

#[tokio::test]
async fn a_copy_that_rotted_is_made_again_unless_sizes_are_trusted() {
    let world = World::new().await;
    let blob = world.push("blob").await;
    world.backup().await.unwrap();
    let copy = blob_file(&world.path("backup"), &blob);
    fs::write(&copy, b"rott").unwrap();
    let trusting = world.copying(true, &mut |_| {}, || Ok(())).await.unwrap();
    assert_eq!((trusting.copied, fs::read(&copy).unwrap().as_slice()), (0, b"rott".as_slice()));
    assert_eq!(world.backup().await.unwrap().copied, 1);
    assert_eq!(fs::read(&copy).unwrap(), b"blob");
    fs::write(&copy, b"rott").unwrap();
    fs::create_dir(world.path("backup/snapshot-000099")).unwrap();
    assert_eq!(world.copying(true, &mut |_| {}, || Ok(())).await.unwrap().copied, 1, "a run was interrupted");
}

#[tokio::test]
async fn what_a_killed_copy_left_half_written_is_cleared_away() {
    let world = World::new().await;
    world.push("blob").await;
    world.backup().await.unwrap();
    let (part, snapshot) = (world.path("backup/blobs/sha256/.part-x"), world.path("backup/snapshot-000002"));
    fs::write(&part, b"half").unwrap();
    fs::create_dir(&snapshot).unwrap();
    let again = world.backup().await.unwrap();
    assert_eq!(again.backup.snapshot, "snapshot-000003");
    assert!(!part.exists() && !snapshot.exists());
}

#[tokio::test]
async fn one_process_at_a_time_writes_a_backup() {
    let world = World::new().await;
    world.backup().await.unwrap();
    let _other = DataLock::acquire(&world.path("backup"), "seed backup").unwrap();
    assert!(world.backup().await.unwrap_err().to_string().contains("in use"));
    assert!(world.restore("restored").unwrap_err().to_string().contains("in use"));
}

#[tokio::test]
async fn the_audit_log_comes_back_up_to_its_last_whole_line() {
    let world = World::new().await;
    fs::create_dir(world.path("data/audit")).unwrap();
    fs::write(world.path("data/audit/0000000002.jsonl"), b"{\"v\":1}\n{\"v\":1}\n").unwrap();
    fs::write(world.path("data/audit/0000000003.jsonl"), b"{\"v\":1}\n{\"v\":").unwrap();
    world.backup().await.unwrap();
    world.restore("restored").unwrap();
    assert_eq!(fs::read(world.path("restored/audit/0000000002.jsonl")).unwrap(), b"{\"v\":1}\n{\"v\":1}\n");
    assert_eq!(fs::read(world.path("restored/audit/0000000003.jsonl")).unwrap(), b"{\"v\":1}\n");
}

#[tokio::test]
async fn other_folders_and_other_seeds_backups_are_left_alone() {
    let (world, other) = (World::new().await, World::new().await);
    fs::create_dir(world.path("backup")).unwrap();
    fs::write(world.path("backup/holiday.jpg"), b"x").unwrap();
    assert!(world.backup().await.unwrap_err().to_string().contains("something else"));
    assert!(world.restore("restored").unwrap_err().to_string().contains("something else"));
    fs::remove_file(world.path("backup/holiday.jpg")).unwrap();
    world.backup().await.unwrap();
    let hold = other.store.hold_journal().await.unwrap();
    let source = Source { data: &other.path("data"), extent: &hold.extent, began: WallTime::default(), trust_sizes: false };
    let refused = backup(source, &world.path("backup"), &mut |_| {}, || Ok(())).unwrap_err();
    assert!(refused.to_string().contains("another seed"), "{refused}");
    let source = Source { data: &other.path("data"), extent: &hold.extent, began: WallTime::default(), trust_sizes: false };
    let refused = backup(source, &other.path("data/backup"), &mut |_| {}, || Ok(())).unwrap_err();
    assert!(refused.to_string().contains("own data directory"), "{refused}");
    world.restore("restored").unwrap();
}

#[tokio::test]
async fn broken_blobs_are_named_and_never_copied() {
    let world = World::new().await;
    let (rotten, fine) = (world.push("rotten").await, world.push("fine").await);
    world.backup().await.unwrap();
    fs::write(blob_file(&world.path("backup"), &rotten), b"rotted").unwrap();
    assert_eq!(world.restore("restored").unwrap().lost, [rotten]);
    assert!(!blob_file(&world.path("restored"), &rotten).exists() && blob_file(&world.path("restored"), &fine).exists());
    fs::write(world.blobs.path(&fine), b"").unwrap();
    let again = world.backup().await.unwrap();
    assert_eq!(again.lost, [], "the copy of the earlier backup is whole");
    assert_eq!(fs::read(blob_file(&world.path("backup"), &fine)).unwrap(), b"fine");
    fs::remove_file(world.blobs.path(&fine)).unwrap();
    fs::write(blob_file(&world.path("backup"), &fine), b"rotted").unwrap();
    assert_eq!(world.backup().await.unwrap().lost, [fine]);
}

#[tokio::test]
async fn a_held_journal_keeps_its_files_through_a_checkpoint() {
    let world = World::new().await;
    let hold = world.store.hold_journal().await.unwrap();
    let text = "x".repeat(1 << 20);
    for number in 0..70 {
        let file = crate::store::meta::TufFile { name: format!("{number}.json"), content: text.clone() };
        let org = format!("org-{number}").parse().unwrap();
        let (secret_sha256, created) = (Digest::sha256(b"s"), WallTime::default());
        let key =
            AccessKeyRecord { id: format!("k{number}"), org, secret_sha256, scopes: vec![], label: String::new(), created, expires: None };
        world.store.create_org(&key.org.clone(), key, vec![file]).await.unwrap();
    }
    let journal = world.path("data/journal");
    assert!(hold.extent.files.iter().all(|file| journal.join(&file.name).exists()));
    drop(hold);
    world.push("after").await;
    world.push("after that").await;
    assert!(!journal.join("00000001.log").exists(), "now the checkpoint was written");
}
