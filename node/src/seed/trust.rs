//! Publishing versions, changing who may sign, and keeping the online metadata fresh.
//!
//! Not here: the rules; see [`crate::trust`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use protocol::digest::Digest;
use protocol::name::{OrgName, RepositoryName};
use protocol::statement::evidence::{EMPTY_CONFIG, MANIFEST_TYPE, PAYLOAD_TYPE};
use protocol::statement::version::VersionStatement;
use protocol::time::WallTime;

use super::Seed;
use super::api::Refused;
use super::fleet;
use crate::api::{NewOrg, OrgCreated, Published};
use crate::clock::wall_time;
use crate::seed::registry::auth::generate_key;
use crate::store::meta::{BlobLink, EvidenceRecord, ManifestRecord, MetaError, Scope, VersionContent};
use crate::trust::change::check_change;
use crate::trust::{
    CheckedEvidence, Publication, PublicationRefused, RepositoryFiles, StoredMetadata, TrustChange, check_publication, renewal_due,
};

/// Every scope of an organisation.
pub const ORG_SCOPES: [Scope; 5] = [Scope::Pull, Scope::Push, Scope::Delete, Scope::Publish, Scope::Admin];

/// How often it is looked whether metadata is due for renewal; it is renewed long before it expires.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(600);

impl Seed {
    /// Creates an organisation from the metadata that its operator signed.
    ///
    /// # Errors
    /// When the metadata does not fit this seed, or the name is taken.
    pub async fn create_org(&self, new: NewOrg, scopes: Vec<Scope>) -> Result<OrgCreated, Refused> {
        let files = self
            .signer
            .complete_new_repository(&new.org, &new.files, wall_time())
            .map_err(|refused| Refused::new(StatusCode::BAD_REQUEST, refused.reason(), refused.to_string()))?;
        let (access_key, record) = generate_key(&new.org, scopes).map_err(|error| Refused::failed(&error))?;
        self.store.create_org(&new.org, record, files).await?;
        Ok(OrgCreated { org: new.org, access_key })
    }

    /// Publishes a version that its operator signed.
    ///
    /// # Errors
    /// When it does not follow what is published, or is not signed by the app's key.
    pub async fn publish(&self, org: &OrgName, publication: &Publication) -> Result<Published, Refused> {
        let source = StoredMetadata { store: self.store.as_ref(), org };
        let current = RepositoryFiles::load(&source, Some(&publication.app)).await.map_err(|refused| Refused::failed(&refused))?;
        let checked = check_publication(org, &current, publication, &self.signer, wall_time()).map_err(|error| refused(&error))?;
        let statements: Result<Vec<VersionStatement>, _> =
            checked.statements.iter().map(|(_, bytes)| VersionStatement::parse(bytes)).collect();
        let statements = statements.map_err(|error| Refused::failed(&error))?;
        self.check_signatures(org, &statements).await?;
        let named = named(org, statements);
        let evidence = self.store_evidence(checked.evidence, checked.record.published).await?;
        for (digest, statement) in checked.statements {
            self.blobs.put(Some(digest), statement.into()).await.map_err(|error| Refused::failed(&error))?;
        }
        let published = Published { app: checked.record.app.clone(), version: checked.record.version };
        self.store.publish_version(org, checked.record, VersionContent { named, evidence }, &current.timestamp, checked.files).await?;
        Ok(published)
    }

    /// Stores the files of evidence; its records come with the version.
    async fn store_evidence(&self, evidence: Vec<CheckedEvidence>, now: WallTime) -> Result<Vec<EvidenceRecord>, Refused> {
        let mut records = Vec::with_capacity(evidence.len());
        for CheckedEvidence { repository, subject, envelope, manifest, annotations } in evidence {
            let mut put = Vec::new();
            for bytes in [EMPTY_CONFIG.to_vec(), envelope, manifest] {
                let (digest, size) = (Digest::sha256(&bytes), bytes.len() as u64);
                self.blobs.put(Some(digest), bytes.into()).await.map_err(|error| Refused::failed(&error))?;
                put.push((digest, BlobLink { size, used: now }));
            }
            let Some((digest, BlobLink { size, .. })) = put.pop() else { continue };
            let (media_type, artifact_type) = (MANIFEST_TYPE.to_owned(), Some(PAYLOAD_TYPE.to_owned()));
            let manifest = ManifestRecord { digest, media_type, size, subject: Some(subject), artifact_type, pushed: now };
            records.push(EvidenceRecord { repository, manifest, annotations, blobs: put });
        }
        Ok(records)
    }

    /// Puts a change of who may sign what in force.
    ///
    /// # Errors
    /// When it does not follow what is in force, is not signed by those who may, or does more than that.
    pub async fn change_trust(&self, org: &OrgName, change: &TrustChange) -> Result<(), Refused> {
        let source = StoredMetadata { store: self.store.as_ref(), org };
        let checked = check_change(org, &source, change, &self.signer, &self.authorities.fingerprints(), wall_time()).await;
        let (timestamp, files) = checked.map_err(|error| refused(&error))?;
        self.store.put_tuf_files(org, &timestamp, files).await?;
        // A new epoch asks for desired states and a revocation list that carry it; what fails here is tried again with the next
        // renewal.
        if let Err(refused) = self.sign_revocations(org).await {
            tracing::warn!(%org, error = %refused, "the revocation list is not signed anew yet");
        }
        if let Err(error) = fleet::states::renew_desired_states(self, org).await {
            tracing::warn!(%org, error = format!("{error:#}"), "the desired state is not signed anew yet");
        }
        Ok(())
    }

    async fn renew(&self, org: &OrgName) -> anyhow::Result<()> {
        let source = StoredMetadata { store: self.store.as_ref(), org };
        let current = RepositoryFiles::load(&source, None).await?;
        if renewal_due(&current, wall_time()) {
            let files = self.signer.renew(org, &current, wall_time())?;
            match self.store.put_tuf_files(org, &current.timestamp, files).await {
                Ok(()) => tracing::info!(%org, "metadata renewed"),
                Err(MetaError::Conflict(_)) => tracing::debug!(%org, "metadata changed while it was renewed; looking again later"),
                Err(error) => return Err(error.into()),
            }
        }
        self.sign_revocations(org).await.map_err(|refused| anyhow::anyhow!("the revocation list: {refused}"))?;
        fleet::states::renew_desired_states(self, org).await
    }
}

/// Keeps every organisation's metadata fresh, for as long as the seed runs.
pub async fn keep_fresh(seed: Arc<Seed>) {
    loop {
        match seed.store.orgs().await {
            Ok(orgs) => {
                for org in orgs {
                    if let Err(error) = seed.renew(&org).await {
                        tracing::error!(%org, error = format!("{error:#}"), "metadata cannot be renewed; devices stop trusting it when it expires");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "the organisations cannot be read"),
        }
        tokio::time::sleep(RENEWAL_INTERVAL).await;
    }
}

/// What statements name in the repositories of their organisation.
fn named(org: &OrgName, statements: Vec<VersionStatement>) -> BTreeMap<RepositoryName, BTreeSet<Digest>> {
    let mut named: BTreeMap<RepositoryName, BTreeSet<Digest>> = BTreeMap::new();
    for image in statements.into_iter().flat_map(|statement| statement.images).filter(|image| image.repository.is_of(org)) {
        named.entry(image.repository.clone()).or_default().extend(image.digests());
    }
    named
}

pub(super) fn refused(refused: &PublicationRefused) -> Refused {
    let status = if refused.is_conflict() {
        StatusCode::CONFLICT
    } else if matches!(refused, PublicationRefused::Repository(_)) {
        return Refused::failed(refused);
    } else {
        StatusCode::BAD_REQUEST
    };
    Refused::new(status, refused.reason(), refused.to_string())
}
