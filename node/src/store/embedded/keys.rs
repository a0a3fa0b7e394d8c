//! Operations on organisations and access keys.
//!
//! Not here: who may carry them out; see `seed::registry::auth`.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::name::OrgName;
use protocol::time::WallTime;

use super::trust::put_files;
use super::{EmbeddedStore, names, values};
use crate::store::meta::{AccessKeyRecord, KeyStore, MetaError, Scope, TufFile};
use crate::store::records::{IndexError, Range, Records, Table, key, under};
use crate::store::writer::Transaction;

#[async_trait]
impl KeyStore for EmbeddedStore {
    async fn create_org(&self, org: &OrgName, key: AccessKeyRecord, files: Vec<TufFile>) -> Result<(), MetaError> {
        let org = org.clone();
        self.write(move |t| create_org(t, &org, &key, &files)).await
    }

    async fn orgs(&self) -> Result<Vec<OrgName>, MetaError> {
        self.read(|index| names(&index.raw_scan(Table::Org, Range::all(""))?)).await
    }

    async fn access_key(&self, id: &str) -> Result<Option<Arc<AccessKeyRecord>>, MetaError> {
        let id = id.to_owned();
        self.read(move |index| index.get_shared(Table::AccessKey, &id)).await
    }

    async fn access_keys(&self, org: &OrgName) -> Result<Vec<AccessKeyRecord>, MetaError> {
        let org = org.clone();
        self.read(move |index| keys_of(index, &org)).await
    }

    async fn add_access_key(&self, key: AccessKeyRecord) -> Result<(), MetaError> {
        self.write(move |t| add_access_key(t, &key)).await
    }

    async fn revoke_access_key(&self, org: &OrgName, id: &str, now: WallTime) -> Result<(), MetaError> {
        let (org, id) = (org.clone(), id.to_owned());
        self.write(move |t| revoke_access_key(t, &org, &id, now)).await
    }
}

fn create_org(t: &mut Transaction<'_>, org: &OrgName, access_key: &AccessKeyRecord, files: &[TufFile]) -> Result<(), MetaError> {
    if t.contains(Table::Org, org.as_str())? {
        return Err(MetaError::Conflict(format!("organisation {org} exists already; choose another name")));
    }
    if access_key.org != *org {
        return Err(MetaError::Conflict(format!("the access key is of organisation {}, not {org}", access_key.org)));
    }
    t.put(Table::Org, org.to_string(), &true)?;
    add_access_key(t, access_key)?;
    put_files(t, org, files)
}

fn add_access_key(t: &mut Transaction<'_>, access_key: &AccessKeyRecord) -> Result<(), MetaError> {
    must_exist(t, &access_key.org)?;
    if t.contains(Table::AccessKey, &access_key.id)? {
        return Err(MetaError::Conflict("the access key's id is taken; make another key".into()));
    }
    t.put(Table::OrgAccessKey, key(&[&access_key.org, &access_key.id]), &true)?;
    t.put(Table::AccessKey, access_key.id.clone(), access_key)
}

fn revoke_access_key(t: &mut Transaction<'_>, org: &OrgName, id: &str, now: WallTime) -> Result<(), MetaError> {
    let found: Option<AccessKeyRecord> = t.get(Table::AccessKey, id)?;
    let revoked = found.filter(|found| found.org == *org).ok_or_else(|| MetaError::Missing(format!("access key {id} of {org}")))?;
    let is_last = |scope: Scope, keys: &[AccessKeyRecord]| {
        let can = |key: &AccessKeyRecord| key.scopes.contains(&scope) && !key.has_expired(now);
        can(&revoked) && !keys.iter().any(|other| other.id != revoked.id && can(other))
    };
    if is_last(Scope::Admin, &keys_of(t, org)?) {
        return Err(MetaError::Conflict(format!(
            "access key {id} is the last of {org} with scope admin, nobody could make keys any more; make another one first"
        )));
    }
    if revoked.scopes.contains(&Scope::Seed) && is_last(Scope::Seed, &values(t.scan(Table::AccessKey, Range::all(""))?)?) {
        return Err(MetaError::Conflict(format!(
            "access key {id} is the last with scope seed, nobody could create organisations any more; make another one first"
        )));
    }
    t.delete(Table::OrgAccessKey, key(&[org, &id]))?;
    t.delete(Table::AccessKey, id.to_owned())
}

fn keys_of(records: &impl Records, org: &OrgName) -> Result<Vec<AccessKeyRecord>, IndexError> {
    let found = records.raw_scan(Table::OrgAccessKey, Range::all(&under(&[org])))?;
    let keys = found.iter().map(|(id, _)| records.get(Table::AccessKey, id));
    keys.filter_map(Result::transpose).collect()
}

pub(super) fn must_exist(t: &Transaction<'_>, org: &OrgName) -> Result<(), MetaError> {
    if t.contains(Table::Org, org.as_str())? { Ok(()) } else { Err(MetaError::Missing(format!("organisation {org}"))) }
}
