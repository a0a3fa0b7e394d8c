//! Organisations whose keys the seed keeps, for trials: `org create --managed-keys`. Whoever takes such a seed can ship code to
//! the devices of these organisations; of all others it holds no key that signs versions.
//!
//! The keys never leave the seed: a key with the scope `publish` may have a version signed, and gets no key by it.
//!
//! Not here: what is signed, and the checks that every version passes; see [`crate::trust`] and [`super::trust`].

use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use protocol::name::OrgName;
use protocol::statement::version::VersionName;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::Seed;
use super::api::Refused;
use crate::api::{NewManagedVersion, NewOrg, Published};
use crate::clock::wall_time;
use crate::store::meta::MetaError;
use crate::trust::{
    KeyError, NewVersion, OperatorKeys, PublicationRefused, StoredMetadata, TrustRefused, VerifiedRepository, new_repository,
    prepare_version,
};

/// The folder of these keys below the seed's own.
const FOLDER: &str = "managed";

/// Where the keys of such organisations are. One version is signed at a time: the verified metadata beside the keys is shared.
#[derive(Debug)]
pub struct ManagedKeys {
    dir: PathBuf,
    signing: Mutex<()>,
}

impl ManagedKeys {
    /// Those below the folder of the seed's own keys.
    pub fn below(seed_keys: &Path) -> Self {
        Self { dir: seed_keys.join(FOLDER), signing: Mutex::new(()) }
    }
}

impl Seed {
    /// What creates `org` with keys that stay here; keys of an attempt that did not get further are used.
    ///
    /// # Errors
    /// When the organisation exists, or the keys cannot be made.
    pub async fn new_managed_org(&self, org: OrgName) -> Result<NewOrg, Refused> {
        let _one = self.managed.signing.lock().await;
        if self.store.orgs().await?.contains(&org) {
            return Err(MetaError::Conflict(format!("organisation {org} exists")).into());
        }
        let (dir, online, name) = (self.managed.dir.clone(), self.signer.public_key(), org.clone());
        let made = spawn_blocking(move || {
            let keys = match OperatorKeys::generate(&dir, &name, None) {
                Err(KeyError::Exists(_)) => OperatorKeys::load(&dir, &name)?,
                made => made?,
            };
            let files = new_repository(&keys, &online, wall_time())?;
            if let Some(root) = files.first() {
                keys.store_trusted_root(root.content.as_bytes())?;
            }
            Ok::<_, KeyError>(files)
        });
        let files = made.await.map_err(|error| Refused::failed(&error))?.map_err(|error| Refused::failed(&error))?;
        Ok(NewOrg { org, files, managed_keys: true })
    }

    /// Signs a version with keys that are kept here, and publishes it as any other.
    ///
    /// # Errors
    /// When the organisation keeps its own keys, or the version is refused.
    pub async fn publish_managed(&self, org: &OrgName, new: NewManagedVersion) -> Result<Published, Refused> {
        let _one = self.managed.signing.lock().await;
        let keys = self.managed_keys(org).await?;
        let root = keys.trusted_root().map_err(|error| Refused::failed(&error))?;
        let (source, now) = (StoredMetadata { store: self.store.as_ref(), org }, wall_time());
        let own = |refused: TrustRefused| Refused::failed(&refused);
        let mut view = VerifiedRepository::open(&keys.dir().join("trust"), org, &root).map_err(own)?;
        match view.refresh(now, &source, None).await {
            Ok(_) | Err(TrustRefused::Expired { .. }) => {}
            Err(refused) => return Err(own(refused)),
        }
        view.published(&new.app, &source).await.map_err(own)?;
        let deployed = self.store.deployed_versions(org, &new.app).await?;
        let statements = new.statements.into_iter().map(|(platform, text)| (platform, text.into_bytes())).collect();
        let name = VersionName { app: new.app, version: new.version };
        let wanted = NewVersion { name, statements, deployed, floor: new.floor, lower_floor: new.lower_floor };
        let prepared = spawn_blocking(move || prepare_version(&view, &keys, wanted, now));
        let prepared = prepared.await.map_err(|error| Refused::failed(&error))?;
        let publication = prepared.map_err(|refused: PublicationRefused| super::trust::refused(&refused))?;
        self.publish(org, &publication).await
    }

    async fn managed_keys(&self, org: &OrgName) -> Result<OperatorKeys, Refused> {
        let (dir, name) = (self.managed.dir.clone(), org.clone());
        let loaded = spawn_blocking(move || OperatorKeys::load(&dir, &name)).await.map_err(|error| Refused::failed(&error))?;
        loaded.map_err(|error| match error {
            KeyError::Missing(_) => {
                let message = format!(
                    "the keys of {org} are with its operators, not on this seed, so it cannot sign for them: give --keys DIR or set \
                     HEDGEROW_KEYS"
                );
                Refused::new(StatusCode::CONFLICT, "no_managed_keys", message)
            }
            error => Refused::failed(&error),
        })
    }
}
