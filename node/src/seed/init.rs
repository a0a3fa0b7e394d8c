//! Making a new seed: its settings, CA and online key, and the first organisation with its keys.
//!
//! Not here: running it; see [`super::run`].

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use protocol::name::OrgName;
use serde::Serialize;

use super::Seed;
use super::fleet::assignments::Delegations;
use super::limits::Guard;
use super::managed_keys::ManagedKeys;
use super::metadata::Compressed;
use super::metrics::SeedMetrics;
use super::registry::auth::gate::Gate;
use super::registry::auth::token::TokenSigner;
use super::sites::Sites;
use super::trust::ORG_SCOPES;
use crate::api::NewOrg;
use crate::clock::TrustedClock;
use crate::clock::wall_time;
use crate::config::seed::{FILE_NAME, SeedConfig, SeedFile, SeedFlags};
use crate::files::{self, Access};
use crate::store::blobs::BlobStore;
use crate::store::embedded::EmbeddedStore;
use crate::store::folders::KEYS;
use crate::store::lock::DataLock;
use crate::store::meta::Scope;
use crate::transport::admission::Admission;
use crate::transport::authorities::Authorities;
use crate::transport::ca::ServerCertificate;
use crate::trust::{KeyError, OnlineSigner, OperatorKeys, new_repository};

/// What a new seed is made of.
#[derive(Clone, Debug)]
pub struct NewSeed {
    /// Its data directory.
    pub data: PathBuf,
    /// Where the operator's keys go; never below the data directory.
    pub keys: PathBuf,
    /// What seals them, if anything does.
    pub passphrase: Option<String>,
    /// The first organisation.
    pub org: OrgName,
    /// Its settings.
    pub settings: SeedFile,
}

/// What the operator must know of a new seed.
#[derive(Clone, Debug, Serialize)]
pub struct SeedMade {
    /// The first organisation.
    pub org: OrgName,
    /// A key with every scope of the organisation, which may also create organisations; it is not shown again.
    pub access_key: String,
    /// Where registry and API will be found.
    pub url: String,
    /// Where devices will connect.
    pub device_url: String,
    /// The CA's certificate, for clients of `url`; empty if that is plain HTTP or has a certificate of another CA.
    pub ca_file: String,
}

/// Makes a seed; nothing runs yet.
///
/// The organisation is created last. When `init` died before, it is repeated: with the keys that are there, and the
/// settings that it gets then.
///
/// # Errors
/// When there is one already, the keys are of another seed or would lie with the seed, or something cannot be written.
pub async fn init(mut new: NewSeed) -> anyhow::Result<SeedMade> {
    files::create_private_dir(&new.data)?;
    files::create_private_dir(&new.keys)?;
    refuse_keys_below_data(&new.keys, &new.data)?;
    let _lock = DataLock::acquire(&new.data, "seed init")?;
    choose_ports(&mut new.settings)?;
    let config = SeedConfig::check(&new.data, new.settings.clone(), SeedFlags::default())?;

    if let Some(files) = &config.tls_files {
        ServerCertificate::read(files)?;
    }

    let seed_keys = config.data.join(KEYS);
    files::create_private_dir(&seed_keys)?;
    let seed = open(&config, Authorities::load_or_create(&seed_keys)?)?;
    if !seed.store.orgs().await?.is_empty() {
        bail!("there is a seed in {} already; run it with `hedgerow seed run`, or use another --data", config.data.display());
    }
    let keys = operator_keys(&new, &seed.signer)?;
    let metadata = new_repository(&keys, &seed.signer.public_key(), wall_time())?;
    let root = metadata.first().context("a new repository has a root")?.content.clone();
    keys.store_trusted_root(root.as_bytes())?;
    files::replace(&new.data.join(FILE_NAME), toml::to_string_pretty(&new.settings)?.as_bytes(), Access::Public)?;
    let scopes = ORG_SCOPES.into_iter().chain([Scope::Seed]).collect();
    let created = seed
        .create_org(NewOrg { org: new.org, files: metadata, managed_keys: false }, scopes)
        .await
        .map_err(|refused| anyhow::anyhow!("{refused}"))?;
    if let Some(warning) = keys.unsealed_warning() {
        tracing::warn!("{warning}");
    }

    let ca_file = if config.uses_own_ca() { seed_keys.join("ca.pem").display().to_string() } else { String::new() };
    Ok(SeedMade { org: created.org, access_key: created.access_key, url: config.url(), device_url: config.device_url(), ca_file })
}

/// New keys, or those that an `init` of this same seed left when it died: their root, if there is one, names this seed.
fn operator_keys(NewSeed { keys: dir, org, passphrase, .. }: &NewSeed, signer: &OnlineSigner) -> anyhow::Result<OperatorKeys> {
    let exists = match OperatorKeys::generate(dir, org, passphrase.as_deref()) {
        Err(exists @ KeyError::Exists(_)) => exists,
        made => return Ok(made?),
    };
    let kept = OperatorKeys::load(dir, org)?;
    let of_this_seed = match kept.trusted_root() {
        Err(KeyError::Missing(_)) => true,
        root => {
            let root: serde_json::Value = serde_json::from_slice(&root?).context("the trusted root beside the keys is broken")?;
            let public = hex::encode(signer.public_key().as_bytes());
            let keys = root.pointer("/signed/keys").and_then(serde_json::Value::as_object);
            keys.is_some_and(|keys| keys.values().any(|key| key.pointer("/keyval/public").is_some_and(|value| *value == public)))
        }
    };
    if of_this_seed { Ok(kept) } else { Err(exists.into()) }
}

/// Opens the stores and keys of a seed.
///
/// # Errors
/// When one is broken.
pub(super) fn open(config: &SeedConfig, authorities: Authorities) -> anyhow::Result<Seed> {
    let store = EmbeddedStore::open(&config.data)?;
    let keys = config.data.join(KEYS);
    let signer = TokenSigner::load_or_generate(&keys.join("token.key"))?;
    Ok(Seed {
        store: Arc::new(store),
        blobs: BlobStore::open(&config.data)?,
        signer: OnlineSigner::load_or_generate(&keys.join("online.pem"))?,
        gate: Arc::new(Gate::new(signer, config.uses_tls(), config.public_url.clone())),
        admission: Arc::new(Admission::new(authorities.anchors()?, Arc::new(TrustedClock::of_seed()))),
        authorities,
        leaf_seconds: config.identity.leaf_seconds,
        device_url: config.device_url(),
        sites: Sites::start(),
        guard: Arc::new(Guard::new(config.limits.clone())),
        delegations: Delegations::default(),
        compressed: Compressed::default(),
        managed: ManagedKeys::below(&keys),
        metrics: Arc::new(SeedMetrics::default()),
    })
}

/// A seed that is taken over must not find the keys that sign versions.
fn refuse_keys_below_data(keys: &Path, data: &Path) -> anyhow::Result<()> {
    let (keys, data) = (keys.canonicalize()?, data.canonicalize()?);
    if keys.starts_with(&data) {
        bail!(
            "--keys {} lies below --data {}; whoever takes the seed would get the keys that sign versions: choose a folder outside",
            keys.display(),
            data.display()
        );
    }
    Ok(())
}

/// Chooses the ports that are 0; both are held until both are known, so that they differ.
fn choose_ports(settings: &mut SeedFile) -> anyhow::Result<()> {
    let mut held = Vec::new();
    for (listen, flag) in [(&mut settings.listen, "--listen"), (&mut settings.device_listen, "--device-listen")] {
        let address: SocketAddr = crate::config::address(listen, flag)?;
        if address.port() == 0 {
            let chosen = TcpListener::bind(address).with_context(|| format!("choosing a port for {flag} {listen}"))?;
            *listen = chosen.local_addr()?.to_string();
            held.push(chosen);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_seed(home: &Path, data: &str) -> NewSeed {
        let settings = SeedFile::new("127.0.0.1:5000", "127.0.0.1:7443");
        NewSeed { data: home.join(data), keys: home.join("keys"), passphrase: None, org: "acme".parse().unwrap(), settings }
    }

    #[tokio::test]
    async fn is_repeated_when_it_died_before_the_organisation_was_created() {
        let home = tempfile::tempdir().unwrap();
        let new = new_seed(home.path(), "seed");
        files::create_private_dir(&new.data).unwrap();
        let seed_keys = new.data.join(KEYS);
        files::create_private_dir(&seed_keys).unwrap();
        let signer = OnlineSigner::load_or_generate(&seed_keys.join("online.pem")).unwrap();
        let keys = OperatorKeys::generate(&new.keys, &new.org, None).unwrap();
        let metadata = new_repository(&keys, &signer.public_key(), wall_time()).unwrap();
        keys.store_trusted_root(metadata[0].content.as_bytes()).unwrap();
        files::replace(&new.data.join(FILE_NAME), b"listen = 1", Access::Public).unwrap();

        let made = init(new.clone()).await.unwrap();
        assert_eq!((made.org, made.url.as_str()), (new.org.clone(), "http://127.0.0.1:5000"));
        SeedConfig::load(&new.data, None, SeedFlags::default()).unwrap();
        assert!(init(new).await.unwrap_err().to_string().contains("a seed"), "it is complete");
        let other = init(new_seed(home.path(), "other")).await.unwrap_err();
        assert!(other.to_string().contains("keys"), "these keys are of the first seed: {other}");
    }
}
