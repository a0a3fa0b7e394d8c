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
        files::create_private_dir(&data.join(KEYS)).unwrap();
        fs::write(data.join(KEYS).join("online.pem"), b"secret").unwrap();
        fs::write(data.join(FILE_NAME), b"listen = 1").unwrap();
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

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    async fn backup(&self) -> anyhow::Result<Copied> {
        let hold = self.store.hold_journal().await.unwrap();
        let source = Source { data: &self.path("data"), extent: &hold.extent, began: WallTime::default() };
        backup(source, &self.path("backup"), &mut |_| {}, || Ok(()))
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
    let source = Source { data: &world.path("data"), extent: &hold.extent, began: WallTime::default() };
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
    for private in ["backup", "backup/keys", "restored", "restored/keys"] {
        assert_eq!(mode(private), 0o700, "{private}");
    }
    for private in ["backup/keys/online.pem", "backup/backup.json", "backup/journal/00000001.log", "restored/keys/online.pem"] {
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
    let there = |digest: &Digest| file_path(&world.path("backup"), digest).exists();
    assert!(!there(&old) && there(&stays) && there(&new));
}

#[tokio::test]
async fn an_unfinished_backup_is_refused_until_it_is_finished() {
    let world = World::new().await;
    world.push("blob").await;
    world.backup().await.unwrap();
    let hold = world.store.hold_journal().await.unwrap();
    let source = Source { data: &world.path("data"), extent: &hold.extent, began: WallTime::default() };
    assert!(backup(source, &world.path("backup"), &mut |_| {}, || bail!("the seed stopped")).is_err());
    assert!(world.restore("restored").unwrap_err().to_string().contains("never finished"));
    assert!(!world.path("restored").exists());
    world.backup().await.unwrap();
    world.restore("restored").unwrap();
    assert!(world.restore("restored").unwrap_err().to_string().contains("not empty"));
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
    let source = Source { data: &other.path("data"), extent: &hold.extent, began: WallTime::default() };
    let refused = backup(source, &world.path("backup"), &mut |_| {}, || Ok(())).unwrap_err();
    assert!(refused.to_string().contains("another seed"), "{refused}");
    world.restore("restored").unwrap();
}

#[tokio::test]
async fn broken_blobs_are_named_and_never_copied() {
    let world = World::new().await;
    let (rotten, fine) = (world.push("rotten").await, world.push("fine").await);
    world.backup().await.unwrap();
    fs::write(file_path(&world.path("backup"), &rotten), b"rotted").unwrap();
    assert_eq!(world.restore("restored").unwrap().lost, [rotten]);
    assert!(!file_path(&world.path("restored"), &rotten).exists() && file_path(&world.path("restored"), &fine).exists());
    fs::write(world.blobs.path(&fine), b"").unwrap();
    let again = world.backup().await.unwrap();
    assert_eq!(again.lost, [], "the copy of the earlier backup is whole");
    assert_eq!(fs::read(file_path(&world.path("backup"), &fine)).unwrap(), b"fine");
    fs::remove_file(world.blobs.path(&fine)).unwrap();
    fs::write(file_path(&world.path("backup"), &fine), b"rotted").unwrap();
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
