//! Operations on trust metadata and versions.
//!
//! Not here: signatures; see `node::trust`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName};
use protocol::statement::desired::DesiredApp;

use super::keys::must_exist;
use super::repositories::{Size, link_blob, put_manifest, rely_on};
use super::{EmbeddedStore, Number, values};
use crate::store::meta::{
    DesiredStateRecord, EvidenceRecord, MetaError, Relied, Retirement, TrustStore, TufFile, VersionContent, VersionRecord,
};
use crate::store::records::{Range, Records, Table, key, under};
use crate::store::writer::Transaction;

/// How the holder of a statement starts; the version and the platform follow.
pub(in crate::store) const STATEMENT_OF: &str = "statement of";

#[async_trait]
impl TrustStore for EmbeddedStore {
    async fn tuf_file(&self, org: &OrgName, name: &str) -> Result<Option<TufFile>, MetaError> {
        let key = key(&[org, &name]);
        self.read(move |index| index.get(Table::TufFile, &key)).await
    }

    async fn put_tuf_files(&self, org: &OrgName, expected: &TufFile, files: Vec<TufFile>) -> Result<(), MetaError> {
        let (org, expected) = (org.clone(), expected.clone());
        self.write(move |t| put_tuf_files(t, &org, &expected, &files)).await
    }

    async fn publish_version(
        &self,
        org: &OrgName,
        version: VersionRecord,
        content: VersionContent,
        expected: &TufFile,
        files: Vec<TufFile>,
    ) -> Result<(), MetaError> {
        let (org, expected) = (org.clone(), expected.clone());
        self.write(move |t| publish_version(t, &org, &version, &content, &expected, &files)).await
    }

    async fn versions(&self, org: &OrgName, app: &AppName) -> Result<Vec<VersionRecord>, MetaError> {
        let prefix = under(&[org, app]);
        self.read(move |index| values(index.scan(Table::Version, Range::all(&prefix))?)).await
    }

    async fn org_versions(&self, org: &OrgName) -> Result<Vec<VersionRecord>, MetaError> {
        let prefix = under(&[org]);
        self.read(move |index| values(index.scan(Table::Version, Range::all(&prefix))?)).await
    }

    async fn version(&self, org: &OrgName, app: &AppName, number: u64) -> Result<Option<VersionRecord>, MetaError> {
        let key = key(&[org, app, &Number(number)]);
        self.read(move |index| index.get(Table::Version, &key)).await
    }

    async fn deployed_versions(&self, org: &OrgName, app: &AppName) -> Result<BTreeSet<u64>, MetaError> {
        let prefix = under(&[org]);
        let records: Vec<DesiredStateRecord> =
            self.read(move |index| values(index.scan(Table::DesiredState, Range::all(&prefix))?)).await?;
        let mut versions = BTreeSet::new();
        for record in records {
            versions.extend(record.state().map_err(MetaError::Failed)?.apps.get(app).map(|wanted| wanted.version));
        }
        Ok(versions)
    }

    async fn retire_version(&self, org: &OrgName, app: &AppName, number: u64, retirement: Retirement) -> Result<(), MetaError> {
        let (org, app) = (org.clone(), app.clone());
        self.write(move |t| retire_version(t, &org, &app, number, retirement)).await
    }
}

pub(super) fn put_files(t: &mut Transaction<'_>, org: &OrgName, files: &[TufFile]) -> Result<(), MetaError> {
    files.iter().try_for_each(|file| t.put(Table::TufFile, key(&[org, &file.name]), file))
}

fn put_tuf_files(t: &mut Transaction<'_>, org: &OrgName, expected: &TufFile, files: &[TufFile]) -> Result<(), MetaError> {
    const TIMESTAMP: &str = "timestamp.json";
    must_exist(t, org)?;
    let kept: Option<TufFile> = t.get(Table::TufFile, &key(&[org, &TIMESTAMP]))?;
    if kept.as_ref() != Some(expected) {
        return Err(MetaError::Conflict(format!("the trust metadata of {org} changed meanwhile; fetch it and try again")));
    }
    put_files(t, org, files)
}

fn publish_version(
    t: &mut Transaction<'_>,
    org: &OrgName,
    version: &VersionRecord,
    content: &VersionContent,
    expected: &TufFile,
    files: &[TufFile],
) -> Result<(), MetaError> {
    let VersionRecord { app, version: number, published, .. } = version;
    put_tuf_files(t, org, expected, files)?;
    let exists = |number: u64| t.contains(Table::Version, &key(&[org, app, &Number(number)]));
    let next = *number == 1 || (*number > 1 && exists(number - 1)?);
    if !next || exists(*number)? {
        return Err(MetaError::Conflict(format!(
            "version {number} is not the next one of {org}/{app}; look at its versions and try again"
        )));
    }
    for (repository, digests) in &content.named {
        let relied = |digest: &Digest| Relied { digest: *digest, may_be_manifest: true };
        rely_on(t, repository, digests.iter().map(relied), *published)?;
    }
    for EvidenceRecord { repository, manifest, annotations, blobs } in &content.evidence {
        blobs.iter().try_for_each(|(digest, link)| link_blob(t, repository, digest, *link))?;
        put_manifest(t, repository, manifest, annotations, &[])?;
    }
    for (platform, statement) in &version.statements {
        let holder = format!("{STATEMENT_OF} {app} {number} {platform}");
        t.put(Table::Holder, key(&[statement, org, &holder]), &Size::OfFile)?;
    }
    t.put(Table::Version, key(&[org, app, &Number(*number)]), version)
}

fn retire_version(t: &mut Transaction<'_>, org: &OrgName, app: &AppName, number: u64, retirement: Retirement) -> Result<(), MetaError> {
    let stored = key(&[org, app, &Number(number)]);
    let Some(version): Option<VersionRecord> = t.get(Table::Version, &stored)? else {
        return Err(MetaError::Missing(format!("version {number} of {org}/{app}")));
    };
    if version.retired.is_some() {
        return Ok(());
    }
    let desired: Vec<(String, DesiredStateRecord)> = t.scan(Table::DesiredState, Range::all(&under(&[org])))?;
    for (group, record) in desired {
        let state = record.state().map_err(MetaError::Failed)?;
        let named = |wanted: &DesiredApp| wanted.version == number || wanted.before.as_ref().is_some_and(|before| before.version == number);
        if state.apps.get(app).is_some_and(named) {
            return Err(MetaError::Conflict(format!(
                "version {number} of {org}/{app} is what group {group} shall have; start a rollout of another version first: \
                 hedgerow rollout start {org}/{app} --version N --group {group}"
            )));
        }
    }
    let pinned = t.raw_scan(Table::Pin, Range { limit: 1, ..Range::all(&under(&[org, app, &Number(number)])) })?;
    if let Some((device, _)) = pinned.first() {
        return Err(MetaError::Conflict(format!(
            "device {device} is pinned to version {number} of {org}/{app}; let it go first: \
             hedgerow fleet unpin {device} --app {org}/{app}"
        )));
    }
    t.put(Table::Version, stored, &VersionRecord { retired: Some(retirement), ..version })
}
