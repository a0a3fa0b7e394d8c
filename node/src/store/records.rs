//! Records as journal and index keep them: a table, a key, a value in JSON; and how both are read.
//!
//! A key is made of parts with a space between them ([`key`]). Every part but the last is a name or a digest, which have
//! no spaces, so that all records under some first parts stand together, in the order of the next part.
//!
//! Not here: what the records mean; see [`super::embedded`].

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A kind of record. The names are stored and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// `org` → true.
    Org,
    /// `key id` → access key.
    AccessKey,
    /// `org key id` → true.
    OrgAccessKey,
    /// `repository` → true; a repository exists from its first blob or manifest on.
    Repository,
    /// `repository digest` → the blob's size, and when it was last used by a push.
    RepositoryBlob,
    /// `digest org holder` → its size, where the holder is a repository that has it as a blob or manifest, or a version.
    Holder,
    /// `repository digest` → manifest.
    Manifest,
    /// `repository tag` → digest of the manifest, and when it was pushed.
    Tag,
    /// `repository digest tag` → true, for each tag: the tags of a manifest.
    TagOf,
    /// `org pattern` → settings of the repositories that the pattern matches.
    RepositorySettings,
    /// `repository subject digest` → true.
    Referrer,
    /// `repository digest` → annotations of a manifest that refers to another.
    Annotations,
    /// `blob digest` → digest and size of its hash list.
    HashList,
    /// `digest of a list` → digest of the blob that it is of.
    ListedBlob,
    /// `org name` → file.
    TufFile,
    /// `org app number` → version.
    Version,
    /// `org app number` → when a device last reported that version.
    ReportedVersion,
    /// `secret's digest` → enrolment token.
    Token,
    /// `org device` → device.
    Device,
    /// `key's digest org` → revoked device key.
    RevokedKey,
    /// `org` → newest revocation list.
    RevocationList,
    /// `org device` → newest report.
    Report,
    /// `org group` → desired state.
    DesiredState,
    /// `believed` → the calendar time at which removing by age was last allowed.
    Clock,
    /// `rollout id` → rollout.
    Rollout,
    /// `org app number` → rollout id, counted up from 1.
    AppRollout,
    /// `org app group` → id of the rollout that has not ended there.
    OpenRollout,
    /// `org app name` → group.
    Group,
    /// `org device` → newest assignment.
    Assignment,
    /// `org app number device` → true, where the device is pinned to that version.
    Pin,
}

impl Table {
    /// The table's name, as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::AccessKey => "access_key",
            Self::OrgAccessKey => "org_access_key",
            Self::Repository => "repository",
            Self::RepositoryBlob => "repository_blob",
            Self::Holder => "holder",
            Self::Manifest => "manifest",
            Self::Tag => "tag",
            Self::TagOf => "tag_of",
            Self::RepositorySettings => "repository_settings",
            Self::Referrer => "referrer",
            Self::Annotations => "annotations",
            Self::HashList => "hash_list",
            Self::ListedBlob => "listed_blob",
            Self::TufFile => "tuf_file",
            Self::Version => "version",
            Self::ReportedVersion => "reported_version",
            Self::Token => "token",
            Self::Device => "device",
            Self::RevokedKey => "revoked_key",
            Self::RevocationList => "revocation_list",
            Self::Report => "report",
            Self::DesiredState => "desired_state",
            Self::Clock => "clock",
            Self::Rollout => "rollout",
            Self::AppRollout => "app_rollout",
            Self::OpenRollout => "open_rollout",
            Self::Group => "group",
            Self::Assignment => "assignment",
            Self::Pin => "pin",
        }
    }
}

/// A change of one record: table, key, and the new value or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change(pub Table, pub String, pub Option<Box<RawValue>>);

impl Change {
    /// About how many bytes the change takes in the journal.
    pub fn bytes(&self) -> usize {
        const PUNCTUATION_BYTES: usize = 32;
        self.1.len() + self.2.as_ref().map_or(0, |value| value.get().len()) + PUNCTUATION_BYTES
    }
}

/// Why records cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the index {0}; a node that runs builds it again from the journal as soon as it notices")]
pub struct IndexError(pub String);

/// What most keys need at most, in bytes: a repository's name and two digests.
const KEY_BYTES: usize = 192;

/// The key of these parts.
pub fn key(parts: &[&dyn std::fmt::Display]) -> String {
    let mut key = String::with_capacity(KEY_BYTES);
    for (number, part) in parts.iter().enumerate() {
        let space = if number > 0 { " " } else { "" };
        // To write into a string does not fail.
        let _ = write!(key, "{space}{part}");
    }
    key
}

/// The beginning of all keys that go on after these parts.
pub fn under(parts: &[&dyn std::fmt::Display]) -> String {
    key(parts) + " "
}

/// Which records of a table to read.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// The beginning of their keys.
    pub prefix: &'a str,
    /// Only those after this rest of the key, if given.
    pub after: Option<&'a str>,
    /// At most so many.
    pub limit: usize,
}

impl<'a> Range<'a> {
    /// All records whose keys begin with `prefix`.
    pub const fn all(prefix: &'a str) -> Self {
        Self { prefix, after: None, limit: usize::MAX }
    }
}

/// A record's key without the prefix that was asked for, and its value in JSON.
pub type Found = (String, Vec<u8>);

/// What many may share that was decoded once.
pub trait Shared: DeserializeOwned + Send + Sync + 'static {}

impl<T: DeserializeOwned + Send + Sync + 'static> Shared for T {}

/// Something that records can be read from.
pub trait Records {
    /// The value of a record in JSON.
    ///
    /// # Errors
    /// When the index fails.
    fn raw(&self, table: Table, key: &str) -> Result<Option<Bytes>, IndexError>;

    /// Records in the order of their keys.
    ///
    /// # Errors
    /// When the index fails.
    fn raw_scan(&self, table: Table, range: Range<'_>) -> Result<Vec<Found>, IndexError>;

    /// The value of a record.
    ///
    /// # Errors
    /// When the index fails, or holds something else than was stored.
    fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>, IndexError> {
        self.raw(table, key)?.map(|value| decode(table, &value)).transpose()
    }

    /// The value of a record, which is decoded once for many that ask, where it is kept in memory.
    ///
    /// # Errors
    /// When the index fails, or holds something else than was stored.
    fn get_shared<T: Shared>(&self, table: Table, key: &str) -> Result<Option<Arc<T>>, IndexError> {
        Ok(self.get(table, key)?.map(Arc::new))
    }

    /// Whether there is a record.
    ///
    /// # Errors
    /// When the index fails.
    fn contains(&self, table: Table, key: &str) -> Result<bool, IndexError> {
        Ok(self.raw(table, key)?.is_some())
    }

    /// Records in the order of their keys.
    ///
    /// # Errors
    /// When the index fails, or holds something else than was stored.
    fn scan<T: DeserializeOwned>(&self, table: Table, range: Range<'_>) -> Result<Vec<(String, T)>, IndexError> {
        self.raw_scan(table, range)?.into_iter().map(|(rest, value)| Ok((rest, decode(table, &value)?))).collect()
    }
}

pub(super) fn decode<T: DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, IndexError> {
    serde_json::from_slice(value).map_err(|error| IndexError(format!("holds an unreadable {}: {error}", table.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_what_it_prints() {
        let text = r#"[["tag","acme/web 1","sha256:00"],["tag","acme/web 2",null]]"#;
        let changes: Vec<Change> = serde_json::from_str(text).unwrap();
        assert_eq!((changes[0].0, changes[0].1.as_str()), (Table::Tag, "acme/web 1"));
        assert!(changes[0].2.is_some() && changes[1].2.is_none());
        assert_eq!(serde_json::to_string(&changes).unwrap(), text);
    }

    #[test]
    fn a_table_is_stored_under_its_name() {
        for table in [Table::Org, Table::RepositoryBlob, Table::DesiredState, Table::AppRollout] {
            assert_eq!(serde_json::to_value(table).unwrap(), table.name());
        }
    }
}
