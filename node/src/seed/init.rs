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
use super::metrics::SeedMetrics;
use super::sites::Sites;
use super::trust::ORG_SCOPES;
use crate::api::NewOrg;
use crate::clock::wall_time;
use crate::config::seed::{FILE_NAME, SeedConfig, SeedFile, SeedFlags};
use crate::files::{self, Access};
use crate::store::blobs::BlobStore;
use crate::store::embedded::EmbeddedStore;
use crate::store::lock::DataLock;
use crate::store::meta::Scope;
use crate::transport::ca::CertificateAuthority;
use crate::trust::{OnlineSigner, OperatorKeys, new_repository};

/// What a new seed is made of.
#[derive(Clone, Debug)]
pub struct NewSeed {
    /// Its data directory.
    pub data: PathBuf,
    /// Where the operator's keys go; never below the data directory.
    pub keys: PathBuf,
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
    /// The CA's certificate, for clients of `url`; empty if that is plain HTTP.
    pub ca_file: String,
}

/// Makes a seed; nothing runs yet.
///
/// # Errors
/// When there is one already, the keys would lie with the seed, or something cannot be written.
pub async fn init(mut new: NewSeed) -> anyhow::Result<SeedMade> {
    files::create_private_dir(&new.data)?;
    files::create_private_dir(&new.keys)?;
    refuse_keys_below_data(&new.keys, &new.data)?;
    let _lock = DataLock::acquire(&new.data, "seed init")?;
    let file = new.data.join(FILE_NAME);
    if file.exists() {
        bail!("there is a seed in {} already; use another --data", new.data.display());
    }
    new.settings.listen = with_chosen_port(&new.settings.listen, "--listen")?;
    new.settings.device_listen = with_chosen_port(&new.settings.device_listen, "--device-listen")?;
    let config = SeedConfig::check(&new.data, new.settings.clone(), SeedFlags::default())?;

    let seed_keys = config.data.join("keys");
    files::create_private_dir(&seed_keys)?;
    let authority = match CertificateAuthority::load(&seed_keys) {
        Ok(authority) => authority,
        Err(_) => CertificateAuthority::create(&seed_keys)?,
    };
    let seed = open(&config, authority)?;
    let keys = OperatorKeys::generate(&new.keys, &new.org)?;
    let metadata = new_repository(&keys, &seed.signer.public_key(), wall_time());
    let root = metadata.first().context("a new repository has a root")?.content.clone();
    keys.store_trusted_root(root.as_bytes())?;
    let scopes = ORG_SCOPES.into_iter().chain([Scope::Seed]).collect();
    let created =
        seed.create_org(NewOrg { org: new.org, files: metadata }, scopes).await.map_err(|refused| anyhow::anyhow!("{refused}"))?;
    tracing::warn!("{}", keys.unsealed_warning());

    files::write_new(&file, toml::to_string_pretty(&new.settings)?.as_bytes(), Access::Public)?;
    let ca_file = if config.uses_tls() { seed_keys.join("ca.pem").display().to_string() } else { String::new() };
    Ok(SeedMade { org: created.org, access_key: created.access_key, url: config.url(), device_url: config.device_url(), ca_file })
}

/// Opens the stores and keys of a seed.
///
/// # Errors
/// When one is broken.
pub(super) fn open(config: &SeedConfig, authority: CertificateAuthority) -> anyhow::Result<Seed> {
    let store = EmbeddedStore::open(&config.data)?;
    Ok(Seed {
        store: Arc::new(store),
        blobs: BlobStore::open(&config.data)?,
        signer: OnlineSigner::load_or_generate(&config.data.join("keys").join("online.pem"))?,
        authority,
        device_url: config.device_url(),
        sites: Sites::default(),
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

fn with_chosen_port(listen: &str, flag: &str) -> anyhow::Result<String> {
    let address: SocketAddr = crate::config::address(listen, flag)?;
    if address.port() != 0 {
        return Ok(listen.to_owned());
    }
    let chosen = TcpListener::bind(address)
        .and_then(|listener| listener.local_addr())
        .with_context(|| format!("choosing a port for {flag} {listen}"))?;
    Ok(chosen.to_string())
}
