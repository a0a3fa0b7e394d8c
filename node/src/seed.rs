//! A seed: the registry, the organisations' trust metadata, and control of the fleet.
//!
//! | module | holds |
//! |---|---|
//! | [`init`] | making a new seed |
//! | [`run`] | the whole life of a seed process |
//! | [`registry`] | the OCI distribution API |
//! | [`api`] | the control API for operators |
//! | [`extract`] | the parts of a request to that API |
//! | [`openapi`] | the description of that API |
//! | [`devices`] | what devices ask for, on their own listener |
//! | [`enrolment`] | tokens, enrolment, and whom the device listener lets in |
//! | [`revocation`] | keys that are refused for ever |
//! | [`fleet`] | groups, assignments, rollouts |
//! | [`limits`] | who has to wait, and what is refused |
//! | [`certificates`] | the certificates of the listeners, kept current |
//! | [`garbage`] | when garbage is collected |
//! | [`managed_keys`] | organisations that let the seed sign, for trials |
//! | [`metadata`] | trust metadata as it is sent |
//! | [`trust`] | publishing versions, and keeping metadata fresh |
//! | `signatures` | whether images are signed as their organisation asks for |
//! | [`pages`] | lists that are answered in parts |
//! | [`repositories`] | settings of repositories, and tags whose time is over |
//! | [`sites`] | where devices were seen, and with whom |
//! | [`metrics`], [`log_metrics`] | figures about this seed |
//! | [`monitor`] | `/metrics` and whether it is ready |
//! | [`activity`] | what a request did, said by its route |
//! | [`recorder`] | around every request: counts it, and tells the logs and webhooks |
//! | [`access_log`], [`audit`] | the two logs, with text made [`printable`] |
//! | [`webhooks`] | who else is told |
//!
//! Not here: what devices decide; see `protocol`.

pub mod access_log;
pub mod activity;
pub mod api;
pub mod audit;
pub mod certificates;
pub mod devices;
pub mod enrolment;
pub mod extract;
#[cfg(test)]
mod fixture;
pub mod fleet;
pub mod garbage;
pub mod init;
pub mod limits;
pub mod log_metrics;
pub mod managed_keys;
pub mod metadata;
pub mod metrics;
pub mod monitor;
pub mod openapi;
pub mod pages;
pub mod printable;
pub mod recorder;
pub mod registry;
pub mod repositories;
pub mod revocation;
pub mod run;
mod signatures;
pub mod sites;
pub mod trust;
pub mod webhooks;

use std::sync::Arc;

use crate::api::SeedTrust;
use crate::store::blobs::BlobStore;
use crate::store::meta::MetaStore;
use crate::transport::admission::Admission;
use crate::transport::authorities::{self, Authorities};
use crate::trust::OnlineSigner;

/// What the routes of a seed work with.
pub struct Seed {
    /// Records.
    pub store: Arc<dyn MetaStore>,
    /// Blob files.
    pub blobs: BlobStore,
    /// Signs desired states, snapshots and timestamps.
    pub signer: OnlineSigner,
    /// Lets requests to the registry in.
    pub gate: Arc<registry::auth::gate::Gate>,
    /// Sign server certificates and device leaves.
    pub authorities: Authorities,
    /// Which device certificates are good.
    pub admission: Arc<Admission>,
    /// How long a device leaf lives, in seconds.
    pub leaf_seconds: u64,
    /// Where devices connect.
    pub device_url: String,
    /// Who was seen where.
    pub sites: sites::Sites,
    /// Limits in force.
    pub guard: Arc<limits::Guard>,
    /// What each organisation's root delegates to the online key.
    pub delegations: fleet::assignments::Delegations,
    /// The keys of organisations that let the seed sign.
    pub managed: managed_keys::ManagedKeys,
    /// Trust metadata as it is sent again and again.
    pub compressed: metadata::Compressed,
    /// Figures.
    pub metrics: Arc<metrics::SeedMetrics>,
}

impl Seed {
    /// What an operator needs to make an organisation's root and tokens.
    pub fn trust(&self) -> SeedTrust {
        SeedTrust {
            online_key: hex::encode(self.signer.public_key().as_bytes()),
            device_url: self.device_url.clone(),
            ca_sha256: authorities::fingerprint(self.authorities.current()),
            authorities: self.authorities.all().map(authorities::named).collect(),
        }
    }
}
