//! Operations on organisations and access keys.
//!
//! Not here: who may carry them out; see `seed::registry::auth`.

use async_trait::async_trait;
use protocol::name::OrgName;

use super::trust::put_files;
use super::{EmbeddedStore, names};
use crate::store::meta::{AccessKeyRecord, KeyStore, MetaError, TufFile};
use crate::store::records::{Range, Records, Table};
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

    async fn access_key(&self, id: &str) -> Result<Option<AccessKeyRecord>, MetaError> {
        let id = id.to_owned();
        self.read(move |index| index.get(Table::AccessKey, &id)).await
    }
}

fn create_org(t: &mut Transaction<'_>, org: &OrgName, access_key: &AccessKeyRecord, files: &[TufFile]) -> Result<(), MetaError> {
    if t.contains(Table::Org, org.as_str())? {
        return Err(MetaError::Conflict(format!("organisation {org} exists already; choose another name")));
    }
    if access_key.org != *org {
        return Err(MetaError::Conflict(format!("the access key is of organisation {}, not {org}", access_key.org)));
    }
    if t.contains(Table::AccessKey, &access_key.id)? {
        return Err(MetaError::Conflict("the access key's id is taken; make another key".into()));
    }
    t.put(Table::Org, org.to_string(), &true)?;
    t.put(Table::AccessKey, access_key.id.clone(), access_key)?;
    put_files(t, org, files)
}

pub(super) fn must_exist(t: &Transaction<'_>, org: &OrgName) -> Result<(), MetaError> {
    if t.contains(Table::Org, org.as_str())? { Ok(()) } else { Err(MetaError::Missing(format!("organisation {org}"))) }
}
