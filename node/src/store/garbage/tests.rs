//! Each kind of root, what goes, and pushes that come in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use protocol::envelope::Envelope;
use protocol::garbage::{LEASE_SECONDS, Manifest, REPORT_SECONDS};
use protocol::hash_list::HashListBuilder;
use protocol::label::Labels;
use protocol::name::{GroupName, Platform, Tag};
use protocol::oci::route::Reference;
use protocol::rollout::{AppReport, DeviceReport, DeviceState};
use protocol::statement::desired::{Activation, Before, Counter, DesiredApp, DesiredState, FORMAT as DESIRED_FORMAT};
use protocol::statement::version::{Descriptor, FORMAT, HashListName, Image, VersionStatement};
use tokio::sync::RwLock;

use super::*;
use crate::store::embedded::EmbeddedStore;
use crate::store::meta::{
    AccessKeyRecord, BlobLink, DesiredStateRecord, DeviceRecord, EvidenceRecord, FleetStore as _, GarbageStore as _, KeyStore as _,
    ManifestRecord, Relied, RepositoryStore as _, Retirement, TokenRecord, TrustStore as _, TufFile, VersionContent, VersionRecord,
};

/// When everything was pushed that a test does not say otherwise of.
const THEN: WallTime = WallTime::from_unix_seconds(1_000_000_000);
/// When the lease of that is over.
const NOW: WallTime = WallTime::from_unix_seconds(1_000_000_000 + LEASE_SECONDS);

const REAL: Options = Options { dry_run: false, lease: true, accept_clock: false };

/// After a leap that the test makes with intent.
const LATER: Options = Options { accept_clock: true, ..REAL };

fn org() -> OrgName {
    "acme".parse().unwrap()
}

fn repository() -> RepositoryName {
    "acme/web".parse().unwrap()
}

fn timestamp(n: u64) -> TufFile {
    TufFile { name: "timestamp.json".into(), content: n.to_string() }
}

struct World {
    _dir: tempfile::TempDir,
    store: EmbeddedStore,
    blobs: BlobStore,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, blobs) = (EmbeddedStore::open(dir.path()).unwrap(), BlobStore::open(dir.path()).unwrap());
        let (secret_sha256, scopes, label) = (Digest::sha256(b"s"), vec![], String::new());
        let key = AccessKeyRecord { id: "key".into(), org: org(), secret_sha256, scopes, label, created: THEN, expires: None };
        store.create_org(&org(), key, vec![timestamp(0)]).await.unwrap();
        Self { _dir: dir, store, blobs }
    }

    /// Stores a file that is old.
    async fn file(&self, content: &[u8]) -> Digest {
        let digest = self.young_file(content).await;
        self.make_old(&digest);
        digest
    }

    fn make_old(&self, digest: &Digest) {
        if let Ok(file) = std::fs::File::open(self.blobs.path(digest)) {
            file.set_modified(SystemTime::now() - Duration::from_secs(FILE_GRACE_SECONDS)).unwrap();
        }
    }

    async fn young_file(&self, content: &[u8]) -> Digest {
        self.blobs.put(None, Bytes::copy_from_slice(content)).await.unwrap().blob()
    }

    async fn blob(&self, content: &str) -> Digest {
        let digest = self.file(content.as_bytes()).await;
        self.store.link_blob(&repository(), &digest, BlobLink { size: content.len() as u64, used: THEN }).await.unwrap();
        digest
    }

    async fn manifest(&self, named: &[Digest], subject: Option<Digest>, tag: Option<&str>) -> Digest {
        let text = manifest_text(named, subject.as_ref());
        let digest = self.file(text.as_bytes()).await;
        let tags: Vec<Tag> = tag.into_iter().map(|tag| tag.parse().unwrap()).collect();
        let relied = named.iter().map(|digest| Relied { digest: *digest, may_be_manifest: true }).collect();
        self.store.put_manifest(&repository(), record(digest, subject, THEN), BTreeMap::new(), relied, &tags).await.unwrap();
        digest
    }

    /// An image with a layer, both named after `name`.
    async fn image(&self, name: &str, tag: Option<&str>) -> [Digest; 2] {
        let layer = self.blob(name).await;
        [self.manifest(&[layer], None, tag).await, layer]
    }

    /// Publishes an image as the next version of the app `web`.
    async fn publish(&self, number: u64, image: [Digest; 2]) -> BTreeMap<Platform, Digest> {
        self.publish_content(number, image, Vec::new()).await
    }

    async fn publish_content(
        &self,
        number: u64,
        [manifest, layer]: [Digest; 2],
        evidence: Vec<EvidenceRecord>,
    ) -> BTreeMap<Platform, Digest> {
        let platform: Platform = "linux-amd64".parse().unwrap();
        let named = |digest| Descriptor { media_type: "a/b".into(), digest, size: 1 };
        let blob = protocol::statement::version::StatedBlob { media_type: "a/b".into(), digest: layer, size: 1, hash_list: None };
        let (app, tag) = ("web".parse().unwrap(), "1".parse().unwrap());
        let image = Image { repository: repository(), tag, index: None, manifest: named(manifest), blobs: vec![blob] };
        let statement =
            VersionStatement { format: FORMAT, org: org(), app, version: number, platform: platform.clone(), images: vec![image] };
        let statement = self.file(&serde_json::to_vec(&statement).unwrap()).await;
        let statements = BTreeMap::from([(platform, statement)]);
        let app = "web".parse().unwrap();
        let record = VersionRecord { app, version: number, statements: statements.clone(), published: THEN, retired: None };
        let content = VersionContent { named: [(repository(), [manifest, layer].into())].into(), evidence };
        self.store.publish_version(&org(), record, content, &timestamp(number - 1), vec![timestamp(number)]).await.unwrap();
        statements
    }

    /// Publishes an untagged image with evidence beside it; the artifact and its layer.
    async fn publish_with_evidence(&self, number: u64, [manifest, layer]: [Digest; 2]) -> [Digest; 2] {
        let envelope = self.file(b"envelope").await;
        let artifact = self.file(manifest_text(&[envelope], Some(&manifest)).as_bytes()).await;
        let blobs = vec![(envelope, BlobLink { size: 8, used: THEN })];
        let evidence = vec![EvidenceRecord {
            repository: repository(),
            manifest: record(artifact, Some(manifest), THEN),
            annotations: BTreeMap::new(),
            blobs,
        }];
        self.publish_content(number, [manifest, layer], evidence).await;
        [artifact, envelope]
    }

    async fn retire(&self, number: u64) {
        let retirement = Retirement { at: THEN, reason: None };
        self.store.retire_version(&org(), &"web".parse().unwrap(), number, retirement).await.unwrap();
    }

    async fn collect(&self) -> Report {
        collect(&self.store, &self.blobs, REAL, NOW).await.unwrap()
    }

    /// Whether the repository has a manifest or blob, and its file is there.
    async fn has(&self, digest: &Digest) -> bool {
        let manifest = self.store.manifest(&repository(), &Reference::Digest(*digest)).await.unwrap().is_some();
        let blob = self.store.repository_blob(&repository(), digest).await.unwrap().is_some();
        let file = self.blobs.path(digest).exists();
        assert_eq!(manifest || blob, file, "{digest}");
        file
    }
}

fn manifest_text(named: &[Digest], subject: Option<&Digest>) -> String {
    let named: Vec<_> = named.iter().map(|digest| serde_json::json!({ "digest": digest, "size": 1 })).collect();
    serde_json::json!({ "layers": named, "subject": subject.map(|digest| serde_json::json!({ "digest": digest })) }).to_string()
}

fn record(digest: Digest, subject: Option<Digest>, pushed: WallTime) -> ManifestRecord {
    ManifestRecord { digest, media_type: "a/b".into(), size: 1, subject, artifact_type: None, pushed }
}

fn judged_then(subject: Option<Digest>) -> Manifest {
    Manifest { pushed: THEN, subject }
}

#[tokio::test]
async fn what_no_root_keeps_goes_with_its_files() {
    let world = World::new().await;
    let [manifest, layer] = world.image("lone", None).await;
    let unnamed = world.blob("unnamed").await;
    let orphan = world.file(b"orphan").await;
    let young = world.young_file(b"young").await;
    let dry = collect(&world.store, &world.blobs, Options { dry_run: true, ..REAL }, NOW).await.unwrap();
    assert!(world.has(&manifest).await && world.has(&layer).await && world.has(&unnamed).await);
    let report = world.collect().await;
    assert_eq!((report.repositories, report.manifests, report.blobs, report.files), (1, 1, 2, 4));
    assert_eq!(Report { dry_run: false, ..dry }, report, "a dry run tells what a real one does");
    assert!(report.bytes > 0 && report.left.is_empty());
    for gone in [manifest, layer, unnamed] {
        assert!(!world.has(&gone).await);
    }
    assert!(!world.blobs.path(&orphan).exists() && world.blobs.path(&young).exists());
    assert_eq!(world.collect().await, Report::default(), "nothing is left, not even the repository");
}

#[tokio::test]
async fn a_tag_is_a_root_and_so_are_referrers_of_what_it_keeps() {
    let world = World::new().await;
    let [image, layer] = world.image("image", None).await;
    let index = world.manifest(&[image], None, Some("1.0")).await;
    let signed = world.blob("signature").await;
    let signature = world.manifest(&[signed], Some(image), None).await;
    assert_eq!(world.collect().await.files, 0);
    for kept in [image, layer, index, signed, signature] {
        assert!(world.has(&kept).await);
    }
    world.store.delete_tag(&repository(), &"1.0".parse().unwrap(), None).await.unwrap();
    assert_eq!(world.collect().await.files, 5);
}

#[tokio::test]
async fn a_push_within_the_lease_is_a_root() {
    let world = World::new().await;
    let [manifest, layer] = world.image("image", None).await;
    let blob = world.blob("blob").await;
    let relied = [manifest, blob].map(|digest| Relied { digest, may_be_manifest: true });
    world.store.rely_on(&repository(), relied.to_vec(), THEN.plus_seconds(LEASE_SECONDS / 2)).await.unwrap();
    assert_eq!(world.collect().await.files, 0);
    for kept in [manifest, layer, blob] {
        assert!(world.has(&kept).await);
    }
}

#[tokio::test]
async fn a_published_version_is_a_root() {
    let world = World::new().await;
    let image = world.image("image", None).await;
    world.publish(1, image).await;
    assert_eq!(world.collect().await.files, 0);
    assert!(world.has(&image[0]).await && world.has(&image[1]).await);
}

#[tokio::test]
async fn the_content_of_a_retired_version_goes_and_its_statement_stays() {
    let world = World::new().await;
    let image = world.image("image", None).await;
    let statements = world.publish(1, image).await;
    world.retire(1).await;
    assert_eq!(world.collect().await.files, 2);
    assert!(!world.has(&image[0]).await && !world.has(&image[1]).await);
    assert!(statements.values().all(|statement| world.blobs.path(statement).exists()));
}

#[tokio::test]
async fn evidence_stays_beside_its_image_as_long_as_that_lives_and_goes_with_it() {
    let world = World::new().await;
    let image = world.image("image", None).await;
    let [artifact, envelope] = world.publish_with_evidence(1, image).await;
    assert_eq!(world.collect().await.files, 0, "nothing but a version names any of it");
    assert!(world.has(&artifact).await && world.has(&envelope).await);
    world.retire(1).await;
    assert_eq!(world.collect().await.files, 4);
    assert!(!world.has(&artifact).await && !world.has(&envelope).await && !world.has(&image[0]).await);
}

#[tokio::test]
async fn what_a_desired_state_names_is_a_root() {
    let world = World::new().await;
    let image = world.image("image", None).await;
    let statements = world.publish(1, image).await;
    world.retire(1).await;
    let (app, counter) = ("web".parse().unwrap(), Counter { epoch: 1, n: 1 });
    let before = Some(Before { version: 1, statements: statements.clone() });
    let rollout = "r".parse().unwrap();
    let apps = [(app, DesiredApp { version: 2, rollout, statements, activation: Activation::default(), before })].into();
    let state = DesiredState { format: DESIRED_FORMAT, org: org(), group: GroupName::all(), counter, expires: NOW, apps };
    let key = SigningKey::from_bytes(&[7; 32]);
    let envelope = Envelope::seal("x", &serde_json::to_vec(&state).unwrap(), "online", |bytes| key.sign(bytes));
    let envelope = serde_json::to_string(&envelope).unwrap();
    let record = DesiredStateRecord { group: GroupName::all(), counter, expires: NOW, signed_by: String::new(), envelope };
    world.store.put_desired_state(&org(), None, record, Vec::new()).await.unwrap();
    assert_eq!(world.collect().await.files, 0);
    assert!(world.has(&image[0]).await && world.has(&image[1]).await);
}

#[tokio::test]
async fn what_a_device_reported_is_a_root_for_ninety_days() {
    let world = World::new().await;
    let image = world.image("image", None).await;
    world.publish(1, image).await;
    world.publish(2, world.image("next", Some("2")).await).await;
    world.retire(1).await;
    let (device, secret) = ("edge".parse().unwrap(), Digest::sha256(b"secret"));
    let token = TokenRecord::single(secret, org(), NOW);
    world.store.add_token(token).await.unwrap();
    let platform = "linux-amd64".parse().unwrap();
    let (id, labels, pins) = ("edge".parse().unwrap(), Labels::new(), BTreeMap::new());
    let record = DeviceRecord { org: org(), id, platform, key_sha256: secret, enrolled: THEN, leaf_until: None, labels, pins };
    world.store.enroll(&secret, record, THEN).await.unwrap();
    let report = |counter, running| {
        let app = AppReport { version: 2, rollout: None, state: DeviceState::Stored, running, reason: None, fetched: None };
        let (labels, refused) = (Labels::new(), BTreeMap::new());
        DeviceReport { counter, apps: [("web".parse().unwrap(), app)].into(), labels, refused, stale: false }
    };
    world.store.put_report(&org(), &device, report(1, Some(1)), NOW).await.unwrap();
    world.store.put_report(&org(), &device, report(2, None), NOW.plus_seconds(60)).await.unwrap();
    assert_eq!(world.collect().await.files, 0, "the device may go back to what it had");
    let almost = NOW.plus_seconds(REPORT_SECONDS - 1);
    assert_eq!(collect(&world.store, &world.blobs, LATER, almost).await.unwrap().files, 0);
    let later = NOW.plus_seconds(REPORT_SECONDS);
    assert_eq!(collect(&world.store, &world.blobs, LATER, later).await.unwrap().files, 2);
}

#[tokio::test]
async fn a_statement_that_cannot_be_read_stops_the_sweep_of_its_organisation() {
    let world = World::new().await;
    let image = world.image("image", None).await;
    let statements = world.publish(1, image).await;
    let statement = statements.values().next().unwrap();
    std::fs::write(world.blobs.path(statement), b"rotten").unwrap();
    let report = world.collect().await;
    assert!(report.left[0].contains(&statement.to_string()), "{:?}", report.left);
    assert!(world.has(&image[0]).await && world.has(&image[1]).await);
}

#[tokio::test]
async fn a_needed_manifest_that_cannot_be_read_stops_the_sweep_of_its_repository() {
    let world = World::new().await;
    let [manifest, layer] = world.image("image", Some("1.0")).await;
    let lone = world.blob("lone").await;
    std::fs::write(world.blobs.path(&manifest), manifest_text(&[], None)).unwrap();
    let report = world.collect().await;
    assert!(report.left[0].contains(&manifest.to_string()), "{:?}", report.left);
    assert!(world.has(&layer).await && world.has(&lone).await);
}

#[tokio::test]
async fn a_hash_list_stays_as_long_as_its_blob() {
    let world = World::new().await;
    let content = vec![7; 200_000];
    let mut builder = HashListBuilder::new();
    builder.update(&content);
    let blob = world.file(&content).await;
    let list = world.file(&builder.finish(blob).unwrap().to_bytes()).await;
    world.store.put_hash_list(&blob, HashListName { digest: list, size: 1 }).await.unwrap();
    world.store.link_blob(&repository(), &blob, BlobLink { size: 200_000, used: NOW }).await.unwrap();
    assert_eq!(world.collect().await.files, 0);
    world.store.unlink_blob(&repository(), &blob).await.unwrap();
    assert_eq!(world.collect().await.files, 2);
    assert_eq!(world.store.hash_list(&blob).await.unwrap(), None);
    assert_eq!(world.store.org_blob(&org(), &list).await.unwrap(), None);
}

#[tokio::test]
async fn files_stay_while_they_are_held() {
    let world = World::new().await;
    let orphan = world.file(b"orphan").await;
    let hold = world.blobs.hold().await;
    let report = world.collect().await;
    assert_eq!((report.files, report.left.len()), (0, 1));
    assert!(world.blobs.path(&orphan).exists());
    drop(hold);
    assert_eq!(world.collect().await.files, 1);
}

#[tokio::test]
async fn a_repository_ends_with_the_last_thing_in_it_and_the_next_push_makes_it_anew() {
    let world = World::new().await;
    let names = async || world.store.repositories(&repository().org(), None, 9).await.unwrap();
    world.blob("layer").await;
    world.store.forget_repository(&repository()).await.unwrap();
    assert_eq!(names().await, [repository()], "it has a blob");
    world.collect().await;
    assert_eq!(names().await, []);
    assert_eq!(world.store.tags(&repository(), None, 9).await.unwrap(), None);
    world.image("image", Some("1")).await;
    world.collect().await;
    assert_eq!(names().await, [repository()]);
}

#[tokio::test]
async fn a_manifest_that_names_what_was_taken_is_refused() {
    let world = World::new().await;
    let blob = world.blob("layer").await;
    world.collect().await;
    let relied = vec![Relied { digest: blob, may_be_manifest: false }];
    let text = manifest_text(&[blob], None);
    let put = world
        .store
        .put_manifest(&repository(), record(Digest::sha256(text.as_bytes()), None, NOW), BTreeMap::new(), relied.clone(), &[])
        .await;
    assert!(matches!(put, Err(MetaError::Missing(_))));
    assert!(matches!(world.store.rely_on(&repository(), relied, NOW).await, Err(MetaError::Missing(_))));
    let link = BlobLink { size: 5, used: NOW };
    assert!(matches!(world.store.mount_blob(&repository(), &blob, link).await, Err(MetaError::Missing(_))));
}

#[tokio::test]
async fn what_changed_since_it_was_judged_is_not_taken() {
    let world = World::new().await;
    let [manifest, layer] = world.image("image", None).await;
    let judged = || Garbage { manifests: [(manifest, judged_then(None))].into(), blobs: [(layer, THEN)].into() };
    let tag = |tag: &str| [tag.parse().unwrap()];
    world.store.put_manifest(&repository(), record(manifest, None, THEN), BTreeMap::new(), vec![], &tag("1")).await.unwrap();
    assert!(matches!(world.store.sweep(&repository(), judged()).await, Err(MetaError::Conflict(_))), "tagged");
    world.store.delete_tag(&repository(), &"1".parse().unwrap(), None).await.unwrap();
    world.store.put_manifest(&repository(), record(manifest, None, NOW), BTreeMap::new(), vec![], &[]).await.unwrap();
    assert!(matches!(world.store.sweep(&repository(), judged()).await, Err(MetaError::Conflict(_))), "pushed");
    let relied = vec![Relied { digest: layer, may_be_manifest: false }];
    world.store.rely_on(&repository(), relied, NOW).await.unwrap();
    let only_blob = Garbage { manifests: BTreeMap::new(), ..judged() };
    assert_eq!(world.store.sweep(&repository(), only_blob).await.unwrap(), Garbage::default(), "relied on");
    assert!(world.has(&manifest).await && world.has(&layer).await);
}

#[tokio::test]
async fn a_signature_stays_when_its_image_comes_back_before_it_goes() {
    let world = World::new().await;
    let image = world.manifest(&[], None, None).await;
    let signature = world.manifest(&[], Some(image), None).await;
    let dead = [(image, judged_then(None)), (signature, judged_then(Some(image)))];
    let parts = Garbage { manifests: dead.into(), blobs: BTreeMap::new() }.parts(1);
    assert_eq!(parts.len(), 2);
    assert_eq!(world.store.sweep(&repository(), parts[0].clone()).await.unwrap().manifests.len(), 1);
    world.store.put_manifest(&repository(), record(image, None, NOW), BTreeMap::new(), vec![], &[]).await.unwrap();
    assert!(matches!(world.store.sweep(&repository(), parts[1].clone()).await, Err(MetaError::Conflict(_))));
    assert_eq!(world.collect().await.manifests, 0, "marked again, the image keeps its signature");
    assert!(world.has(&signature).await);
}

#[tokio::test]
async fn a_clock_that_jumps_takes_nothing_until_it_is_right_again_or_accepted() {
    let world = World::new().await;
    assert_eq!(world.collect().await.files, 0);
    let [manifest, layer] = world.image("image", None).await;
    let far = NOW.plus_seconds(10 * 365 * 86_400);
    let back = WallTime::from_unix_seconds(NOW.as_unix_seconds() - 86_400);
    for wrong in [far, far.plus_seconds(3600), back] {
        let report = collect(&world.store, &world.blobs, REAL, wrong).await.unwrap();
        assert!(report.dry_run && report.clock_doubted.unwrap().contains("--accept-clock"));
    }
    let would = collect(&world.store, &world.blobs, REAL, far).await.unwrap();
    assert_eq!((would.manifests, would.blobs), (1, 1), "it says what would go");
    assert!(world.has(&manifest).await && world.has(&layer).await);
    let dry = collect(&world.store, &world.blobs, Options { dry_run: true, ..REAL }, far).await.unwrap();
    assert_eq!(dry.clock_doubted, None);
    assert_eq!(collect(&world.store, &world.blobs, LATER, far).await.unwrap().files, 2, "an operator says that it is right");
    assert_eq!(collect(&world.store, &world.blobs, REAL, far.plus_seconds(60)).await.unwrap().clock_doubted, None);
}

/// Four clients push images with shared layers, as clients do: what a look says is there is not sent again. They delete
/// their tags again, and collection runs all the while, each time as if a day had passed. Whatever was acknowledged and not
/// deleted is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_that_race_with_collection_lose_nothing_that_was_acknowledged() {
    let world = Arc::new(World::new().await);
    let clock = Arc::new(RwLock::new(THEN));
    let refused = Arc::new(AtomicU64::new(0));
    let push = |client: u64| {
        let (world, clock, refused) = (world.clone(), clock.clone(), refused.clone());
        async move {
            let tag: Tag = format!("client-{client}").parse().unwrap();
            for round in 0..60_u64 {
                let layers: Vec<String> = (0..3).map(|n| format!("layer {}", (client + round + n) % 5)).collect();
                let mut named = Vec::new();
                for layer in &layers {
                    let digest = Digest::sha256(layer.as_bytes());
                    let now = clock.read().await;
                    let relied = vec![Relied { digest, may_be_manifest: false }];
                    if world.store.rely_on(&repository(), relied, *now).await.is_err() {
                        world.young_file(layer.as_bytes()).await;
                        let link = BlobLink { size: layer.len() as u64, used: *now };
                        world.store.link_blob(&repository(), &digest, link).await.unwrap();
                        world.make_old(&digest);
                    }
                    named.push(digest);
                }
                let text = manifest_text(&named, None);
                let manifest = world.young_file(text.as_bytes()).await;
                let now = clock.read().await;
                let relied = named.iter().map(|digest| Relied { digest: *digest, may_be_manifest: false }).collect();
                let put = world
                    .store
                    .put_manifest(&repository(), record(manifest, None, *now), BTreeMap::new(), relied, std::slice::from_ref(&tag))
                    .await;
                drop(now);
                match put {
                    Ok(()) => {}
                    Err(MetaError::Missing(_)) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                }
                tokio::task::yield_now().await;
                world.make_old(&manifest);
                for digest in named.iter().chain([&manifest]) {
                    assert!(world.has(digest).await, "{digest} was acknowledged and is tagged");
                }
                world.store.delete_tag(&repository(), &tag, Some(&manifest)).await.unwrap();
            }
        }
    };
    let clients: Vec<_> = (0..4).map(|client| tokio::spawn(push(client))).collect();
    let mut taken = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        let now = {
            let mut now = clock.write().await;
            *now = now.plus_seconds(LEASE_SECONDS);
            *now
        };
        let report = collect(&world.store, &world.blobs, REAL, now).await.unwrap();
        taken += report.manifests + report.blobs;
    }
    for client in clients {
        client.await.unwrap();
    }
    assert!(taken > 0, "collection never took anything, so nothing was shown");
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_finished_by_the_next() {
    let world = World::new().await;
    let [manifest, layer] = world.image("image", None).await;
    let half = Garbage { manifests: [(manifest, judged_then(None))].into(), blobs: BTreeMap::new() };
    world.store.sweep(&repository(), half).await.unwrap();
    let [_, kept] = world.image("kept", Some("1")).await;
    world.store.unlink_blob(&repository(), &layer).await.unwrap();
    world.store.let_go(vec![layer]).await.unwrap();
    assert_eq!(world.collect().await.files, 2);
    assert!(world.has(&kept).await);
}
