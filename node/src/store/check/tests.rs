//! Each kind of damage is found, and what can be repaired is.

use std::fs;
use std::time::SystemTime;

use protocol::name::RepositoryName;
use protocol::time::WallTime;

use super::*;
use crate::store::blobs::BlobStore;
use crate::store::embedded::EmbeddedStore;
use crate::store::meta::{AccessKeyRecord, BlobLink, KeyStore as _, RepositoryStore as _};

/// A stopped seed's directory with a small and a large blob, which has a hash list.
struct World {
    dir: tempfile::TempDir,
    small: Digest,
    large: Digest,
    list: Digest,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, blobs) = (EmbeddedStore::open(dir.path()).unwrap(), BlobStore::open(dir.path()).unwrap());
        let (secret_sha256, now) = (Digest::sha256(b"s"), WallTime::default());
        let org = "acme".parse().unwrap();
        let key = AccessKeyRecord { id: "k".into(), org, secret_sha256, scopes: vec![], label: String::new(), created: now, expires: None };
        store.create_org(&"acme".parse().unwrap(), key, vec![]).await.unwrap();
        let repository: RepositoryName = "acme/web".parse().unwrap();
        let small = blobs.put(None, "small".into()).await.unwrap().blob();
        store.link_blob(&repository, &small, BlobLink { size: 5, used: now }).await.unwrap();
        let content = vec![7; 200_000];
        let mut builder = HashListBuilder::new();
        builder.update(&content);
        let large = blobs.put(None, content.into()).await.unwrap().blob();
        let list = blobs.put(None, builder.finish(large).unwrap().to_bytes().into()).await.unwrap();
        store.put_hash_list(&large, HashListName { digest: list.blob(), size: list.size() }).await.unwrap();
        store.link_blob(&repository, &large, BlobLink { size: 200_000, used: now }).await.unwrap();
        drop(store);
        Self { dir, small, large, list: list.blob() }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        blob_file(self.dir.path(), digest)
    }

    fn check(&self) -> Report {
        let extent = Extent::of_folder(&self.dir.path().join(JOURNAL)).unwrap();
        check(self.dir.path(), Some(&extent), true, &mut |_| {}).unwrap()
    }

    async fn repaired(&self) -> Report {
        let mut report = self.check();
        repair(self.dir.path(), &mut report).await.unwrap();
        report
    }

    #[track_caller]
    fn assert_whole(&self) {
        let report = self.check();
        assert_eq!((report.files, report.named, report.damaged, report.index_checked), (3, Some(3), 0, true), "{report:?}");
    }
}

fn damages(report: &Report) -> Vec<(Damage, Option<Digest>)> {
    report.findings.iter().map(|finding| (finding.damage, finding.digest)).collect()
}

#[tokio::test]
async fn a_whole_store_has_nothing_to_find() {
    let world = World::new().await;
    world.assert_whole();
    let device = check(world.dir.path(), None, true, &mut |_| {}).unwrap();
    assert_eq!((device.files, device.named, device.damaged, device.orphans), (3, None, 0, 0));
}

#[tokio::test]
async fn a_rotten_file_is_found_and_moved_aside() {
    let world = World::new().await;
    fs::write(world.path(&world.small), b"smell").unwrap();
    let report = world.repaired().await;
    assert_eq!(damages(&report), [(Damage::Rotten, Some(world.small))]);
    assert_eq!((report.unrepaired, report.findings[0].repaired), (1, false), "its content is still lost");
    assert_eq!(report.findings[0].next, Next::Bring(Again::Pushed));
    let aside = world.dir.path().join("rotten").join(format!("sha256-{}", world.small.hex()));
    assert_eq!(fs::read(aside).unwrap(), b"smell");
    let after = world.check();
    assert_eq!(damages(&after), [(Damage::Missing, Some(world.small))]);
    assert!(after.findings[0].found.contains("blob of acme/web"), "{}", after.findings[0].found);
    BlobStore::open(world.dir.path()).unwrap().put(None, "small".into()).await.unwrap();
    world.assert_whole();
}

#[test]
fn what_a_statement_names_comes_back_from_a_backup_however_many_repositories_have_it() {
    let (blob, list) = (Digest::sha256(b"blob"), Digest::sha256(b"list"));
    let mut named = Named::default();
    for repository in ["acme/a", "acme/b", "acme/c"] {
        named.holders.insert(format!("{blob} acme blob of {repository}"), Size::Known(1));
    }
    assert_eq!((named.again(&blob), named.again(&list)), (Again::Pushed, Again::Made));
    named.holders.insert(format!("{blob} acme {STATEMENT_OF} acme/web 1 any"), Size::OfFile);
    assert_eq!(named.again(&blob), Again::Restored);
    assert_eq!(named.shown_holders_of(&blob), "blob of acme/a, blob of acme/b, blob of acme/c");
}

#[tokio::test]
async fn a_rotten_file_that_nothing_names_is_repaired_by_moving_it_aside() {
    let world = World::new().await;
    let orphan = world.path(&Digest::sha256(b"orphan"));
    fs::write(&orphan, b"rotten").unwrap();
    let report = world.repaired().await;
    assert_eq!((report.damaged, report.unrepaired), (1, 0));
    assert!(!orphan.exists());
    world.assert_whole();
}

#[tokio::test]
async fn a_file_of_another_length_and_one_that_is_missing_are_found() {
    let world = World::new().await;
    File::options().write(true).open(world.path(&world.large)).unwrap().set_len(100_000).unwrap();
    fs::remove_file(world.path(&world.small)).unwrap();
    assert_eq!(damages(&world.check()), [(Damage::Rotten, Some(world.large)), (Damage::Missing, Some(world.small))]);
}

#[tokio::test]
async fn orphans_are_counted_and_left_to_garbage_collection() {
    let world = World::new().await;
    let path = world.path(&Digest::sha256(b"orphan"));
    fs::write(&path, b"orphan").unwrap();
    assert_eq!(world.check().orphans, 0, "a young file may be a push under way");
    let old = SystemTime::now() - Duration::from_secs(FILE_GRACE_SECONDS);
    File::open(&path).unwrap().set_modified(old).unwrap();
    let report = world.repaired().await;
    assert_eq!((report.orphans, report.orphan_bytes, report.damaged), (1, 6, 0));
    assert!(path.exists());
}

#[tokio::test]
async fn a_hash_list_that_is_missing_or_another_one_is_made_again() {
    let world = World::new().await;
    fs::remove_file(world.path(&world.list)).unwrap();
    let report = world.repaired().await;
    assert_eq!((damages(&report), report.unrepaired), (vec![(Damage::Missing, Some(world.list))], 0));
    world.assert_whole();

    let store = EmbeddedStore::open(world.dir.path()).unwrap();
    store.put_hash_list(&world.large, HashListName { digest: world.small, size: 5 }).await.unwrap();
    drop(store);
    let report = world.repaired().await;
    assert_eq!((damages(&report), report.unrepaired), (vec![(Damage::HashList, Some(world.large))], 0));
    world.assert_whole();
}

#[tokio::test]
async fn an_index_that_is_missing_or_foreign_is_built_again() {
    let world = World::new().await;
    let index = world.dir.path().join("index");
    let of_another = World::new().await;
    for damage in [None, Some(of_another.dir.path().join("index"))] {
        fs::remove_dir_all(&index).unwrap();
        if let Some(foreign) = damage {
            fs::rename(foreign, &index).unwrap();
        }
        let report = world.repaired().await;
        assert_eq!((damages(&report), report.unrepaired), (vec![(Damage::Index, None)], 0), "{report:?}");
        world.assert_whole();
    }
}

#[tokio::test]
async fn a_damaged_journal_is_found_and_not_touched() {
    let world = World::new().await;
    let path = world.dir.path().join("journal/00000001.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let report = world.repaired().await;
    assert_eq!((damages(&report), report.unrepaired), (vec![(Damage::Journal, None)], 1));
    assert_eq!(report.findings[0].next, Next::RestoreSeed);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_journal_that_ends_before_its_index_is_the_damage_and_the_index_is_left_to_tell_of_it() {
    let world = World::new().await;
    let path = world.dir.path().join("journal/00000001.log");
    let whole = fs::read(&path).unwrap();
    for bytes in [whole.len() - 1, whole.len() / 2] {
        fs::write(&path, &whole[..bytes]).unwrap();
        let report = world.repaired().await;
        assert_eq!((damages(&report)[0], report.findings[0].repaired), ((Damage::Journal, None), false), "{report:?}");
        assert!(report.findings[0].found.contains("acknowledged records were lost"), "{report:?}");
    }
    fs::remove_file(&path).unwrap();
    let report = world.repaired().await;
    assert_eq!((damages(&report)[0], report.findings[0].repaired), ((Damage::Journal, None), false), "{report:?}");
    fs::write(&path, &whole).unwrap();
    world.assert_whole();
}

#[tokio::test]
async fn a_torn_last_record_was_never_acknowledged_and_is_no_damage() {
    let world = World::new().await;
    let path = world.dir.path().join("journal/00000001.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(&[0, 0, 1]);
    fs::write(&path, &bytes).unwrap();
    world.assert_whole();
    assert_eq!(fs::read(&path).unwrap(), bytes, "a check only reads");
}
