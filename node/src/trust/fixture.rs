//! An organisation in memory, for the tests of this room: operator, seed and the files that a device is served.
//!
//! Not here: the claims; they stand beside the code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName, Platform};
use protocol::statement::TrustToken;
use protocol::statement::version::{Descriptor, FORMAT, Image, VersionName, VersionStatement};
use protocol::time::WallTime;
use tempfile::TempDir;

use super::client::VerifiedRepository;
use super::online_key::OnlineSigner;
use super::operator_keys::OperatorKeys;
use super::publication::{CheckedPublication, NewVersion, Publication, PublicationRefused, check_publication, prepare_version};
use super::repository::{RepositoryFiles, new_repository};
use super::source::{MetadataSource, SourceError};
use crate::store::meta::TufFile;

/// When the tests begin.
pub(super) const NOW: WallTime = WallTime::from_unix_seconds(1_800_000_000);

pub(super) const PLATFORMS: [&str; 2] = ["linux-amd64", "linux-arm64"];

/// The token of the test process, which can be taken only once: every test of this crate shares it.
pub(crate) fn token() -> &'static TrustToken {
    static TOKEN: OnceLock<TrustToken> = OnceLock::new();
    TOKEN.get_or_init(|| TrustToken::take().unwrap())
}

/// What a device is served; a test may spoil it.
#[derive(Clone, Default)]
pub(super) struct Served {
    pub(super) files: BTreeMap<String, String>,
    pub(super) targets: BTreeMap<String, Vec<u8>>,
}

/// A source that counts requests.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) served: Served,
    requests: AtomicUsize,
    names: Mutex<Vec<String>>,
}

impl Counted {
    pub(super) fn new(served: &Served) -> Self {
        Self { served: served.clone(), ..Self::default() }
    }

    pub(super) fn take_requests(&self) -> usize {
        self.requests.swap(0, Ordering::Relaxed)
    }

    /// What was asked for and is there.
    pub(super) fn take_names(&self) -> Vec<String> {
        std::mem::take(&mut self.names.lock().unwrap())
    }

    fn note(&self, name: &str, is_there: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if is_there {
            self.names.lock().unwrap().push(name.to_owned());
        }
    }
}

#[async_trait]
impl MetadataSource for Counted {
    async fn metadata(&self, name: &str, _bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.note(name, self.served.files.contains_key(name));
        Ok(self.served.files.get(name).map(|content| content.clone().into_bytes()))
    }

    async fn target(&self, path: &str, _bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.note(&format!("targets/{path}"), self.served.targets.contains_key(path));
        Ok(self.served.targets.get(path).cloned())
    }
}

pub(super) struct Fixture {
    pub(super) home: TempDir,
    pub(super) org: OrgName,
    pub(super) keys: OperatorKeys,
    pub(super) signer: OnlineSigner,
    pub(super) served: Served,
    /// What devices shall have, the floor asked for, and whether it may go down, for what is prepared next.
    pub(super) deployed: BTreeSet<u64>,
    pub(super) floor: Option<u64>,
    pub(super) lower_floor: bool,
    /// The platforms of what is prepared next.
    pub(super) platforms: Vec<Platform>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let org: OrgName = "acme".parse().unwrap();
        let keys = OperatorKeys::generate(&home.path().join("keys"), &org, None).unwrap();
        let signer = OnlineSigner::load_or_generate(&home.path().join("online.pem")).unwrap();
        let made = new_repository(&keys, &signer.public_key(), NOW).unwrap();
        keys.store_trusted_root(made[0].content.as_bytes()).unwrap();
        let files = signer.complete_new_repository(&org, &made, NOW).unwrap();
        let (served, deployed) = (Served::default(), BTreeSet::new());
        let mut fixture = Self { home, org, keys, signer, served, deployed, floor: None, lower_floor: false, platforms: platforms() };
        fixture.serve(files);
        fixture
    }

    pub(super) fn serve(&mut self, files: Vec<TufFile>) {
        for TufFile { name, content } in files {
            match name.strip_prefix("targets/") {
                Some(path) => drop(self.served.targets.insert(path.to_owned(), content.into_bytes())),
                None => drop(self.served.files.insert(name, content)),
            }
        }
    }

    pub(super) async fn files(&self, app: Option<&AppName>) -> RepositoryFiles {
        RepositoryFiles::load(&Counted::new(&self.served), app).await.unwrap()
    }

    /// Opens the kept metadata `name`, without a refresh.
    pub(super) fn open(&self, name: &str) -> VerifiedRepository {
        let root = self.keys.trusted_root().unwrap();
        VerifiedRepository::open(&self.home.path().join(name), &self.org, &root).unwrap()
    }

    pub(super) async fn prepare(&self, app: &str, version: u64, now: WallTime) -> Result<Publication, PublicationRefused> {
        let source = Counted::new(&self.served);
        let mut view = self.open("operator");
        let _ = view.refresh(now, &source, None).await;
        let name = VersionName { app: app.parse().unwrap(), version };
        view.published(&name.app, &source).await?;
        prepare_version(&view, &self.keys, self.new_version(&name), now)
    }

    pub(super) fn new_version(&self, name: &VersionName) -> NewVersion {
        let statements = statements(&self.org, name, &self.platforms);
        NewVersion { name: name.clone(), statements, deployed: self.deployed.clone(), floor: self.floor, lower_floor: self.lower_floor }
    }

    pub(super) async fn check(&self, publication: &Publication, now: WallTime) -> Result<CheckedPublication, PublicationRefused> {
        check_publication(&self.org, &self.files(Some(&publication.app)).await, publication, &self.signer, now)
    }

    pub(super) async fn publish(&mut self, app: &str, version: u64) {
        let publication = self.prepare(app, version, NOW).await.unwrap();
        let checked = self.check(&publication, NOW).await.unwrap();
        self.store(checked);
    }

    pub(super) fn store(&mut self, checked: CheckedPublication) {
        let name = VersionName { app: checked.record.app.clone(), version: checked.record.version };
        for (platform, digest) in &checked.record.statements {
            let (_, bytes) = checked.statements.iter().find(|(found, _)| found == digest).unwrap();
            let path = super::metadata::consistent_path(&name.target_path(platform), digest);
            self.served.targets.insert(path, bytes.clone());
        }
        self.serve(checked.files);
    }
}

fn platforms() -> Vec<Platform> {
    PLATFORMS.iter().map(|platform| platform.parse().unwrap()).collect()
}

fn statements(org: &OrgName, name: &VersionName, platforms: &[Platform]) -> BTreeMap<Platform, Vec<u8>> {
    let text = |platform: &Platform| serde_json::to_vec(&statement(org, name, platform)).unwrap();
    platforms.iter().map(|platform| (platform.clone(), text(platform))).collect()
}

fn statement(org: &OrgName, name: &VersionName, platform: &Platform) -> VersionStatement {
    VersionStatement {
        format: FORMAT,
        org: org.clone(),
        app: name.app.clone(),
        version: name.version,
        platform: platform.clone(),
        images: vec![Image {
            repository: format!("{org}/{}", name.app).parse().unwrap(),
            tag: "1.0".parse().unwrap(),
            index: None,
            manifest: Descriptor {
                media_type: "application/vnd.oci.image.manifest.v1+json".into(),
                digest: Digest::sha256(platform.as_str().as_bytes()),
                size: 10,
            },
            blobs: Vec::new(),
        }],
    }
}
