//! A change of trust metadata in a file, for people who sign it one after the other, on machines without a network.
//!
//! The file carries the metadata in force too, so that a machine that only has the organisation's root can verify it, say in
//! words what would change, and refuse what goes back unsaid. Whether the metadata in force is the newest, only the seed and
//! the devices can tell: they refuse what does not follow it.
//!
//! Not here: making changes, see [`super::change`] and [`super::publication`]; the command, see `cli::trust`.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use protocol::name::OrgName;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sigstore_tuf::metadata::Metadata;
use sigstore_tuf::{Key, RoleKeys, Root, TargetFile, Targets, TrustedMetadataSet};

use super::archive::{self, Archive};
use super::authorities::named_in;
use super::change::TrustChange;
use super::client::{RootsOf, VerifiedRepository};
use super::metadata;
use super::operator_keys::OperatorKeys;
use super::publication::{PUBLICATION_BYTES_MAX, Publication, PublicationRefused};
use super::refused::TrustRefused;
use super::repository::parsed;
use super::source::MetadataSource;
use super::updater::RootRules as _;
use crate::store::meta::TufFile;

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// The largest proposal, in bytes: a publication, and the metadata that it follows.
pub const PROPOSAL_BYTES_MAX: u64 = 2 * PUBLICATION_BYTES_MAX as u64;

/// A change, and the metadata in force that it follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The format of this document, [`FORMAT`].
    pub format: u32,
    /// The organisation.
    pub org: OrgName,
    /// The chain of roots, the top-level targets, and the roles and archive that the change touches, as they are in force.
    pub before: Vec<TufFile>,
    /// What shall be put in force.
    pub change: Change,
}

/// What is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A version of an app.
    Version(Publication),
    /// Who may sign what.
    Trust(TrustChange),
}

/// A proposal that fits the root that this machine trusts.
#[derive(Debug)]
pub struct Read {
    /// What would change, a line each.
    pub words: Vec<String>,
    /// What goes back, a line each: to be signed only if that is said.
    pub lowered: Vec<String>,
    /// Whose signatures each file needs.
    needs: Vec<Need>,
}

/// The keys of which so many must sign a file.
#[derive(Clone, Debug)]
struct Need {
    file: String,
    role: String,
    keyids: BTreeSet<String>,
    threshold: usize,
}

impl Proposal {
    /// The proposal of `change`, with the metadata in force that `view` has verified.
    ///
    /// # Errors
    /// When the metadata cannot be had.
    pub async fn new(view: &VerifiedRepository, source: &dyn MetadataSource, change: Change) -> Result<Self, TrustRefused> {
        let roles: Vec<String> = change.roles().map(|(role, _)| role).collect();
        let mut before = view.updater().files_in_force(roles.into_iter(), source).await?;
        if let Change::Version(publication) = &change {
            before.extend(view.archive_file(&publication.app)?);
        }
        Ok(Self { format: FORMAT, org: view.org().clone(), before, change })
    }

    /// Reads a proposal.
    ///
    /// # Errors
    /// When it is none, or of another format.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustRefused> {
        let malformed = |detail: String| TrustRefused::Malformed { file: "the proposal".to_owned(), detail };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if value["format"] != json!(FORMAT) {
            return Err(malformed(format!("it has format {}, this program reads {FORMAT}; update it", value["format"])));
        }
        serde_json::from_value(value).map_err(|error| malformed(error.to_string()))
    }

    /// The proposal as a file.
    ///
    /// # Panics
    /// Never: it consists of strings and numbers.
    #[expect(clippy::unwrap_used, reason = "strings, numbers and maps with string keys always serialise")]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap() + "\n"
    }

    /// Verifies the metadata in force from `anchor` on, and compares the change with it.
    ///
    /// # Errors
    /// When the metadata in force does not verify, or the change does not follow it.
    pub fn read(&self, anchor: &[u8]) -> Result<Read, PublicationRefused> {
        let (root, authorities) = self.trusted_root(anchor)?;
        let targets = self.targets_in_force(&root)?;
        let mut read = Read { words: vec![format!("organisation {}", self.org)], lowered: Vec::new(), needs: Vec::new() };
        let new_root = self.read_root(&root, authorities.as_deref(), &mut read)?;
        let new_targets = self.read_targets(new_root.as_ref().unwrap_or(&root), targets.as_ref(), &mut read)?;
        let delegating = new_targets.as_ref().or(targets.as_ref());
        for (role, file) in self.change.roles() {
            self.read_role(&role, file, targets.as_ref(), delegating, &mut read)?;
        }
        Ok(read)
    }

    /// Adds the signatures of the keys that are here and may sign; how many were added.
    ///
    /// # Errors
    /// When a key cannot be opened, or a file is broken.
    pub fn sign(&mut self, read: &Read, keys: &OperatorKeys) -> Result<usize, PublicationRefused> {
        let mut added = 0;
        for file in self.change.files_mut() {
            let wanted: BTreeSet<&String> = read.needs.iter().filter(|need| need.file == file.name).flat_map(|need| &need.keyids).collect();
            let mut document = document_of(file)?;
            let signed: BTreeSet<String> = signers(&document);
            let missing: Vec<String> = wanted.into_iter().filter(|keyid| !signed.contains(*keyid)).cloned().collect();
            let new: Value = serde_json::from_str(&keys.sign(&document["signed"], &missing)?).unwrap_or_default();
            let signatures = new["signatures"].as_array().cloned().unwrap_or_default();
            added += signatures.len();
            if let Some(all) = document["signatures"].as_array_mut() {
                all.extend(signatures);
            }
            file.content = document.to_string();
        }
        Ok(added)
    }

    /// What is still missing before the change can be put in force, a line each; nothing if it can.
    ///
    /// # Errors
    /// When a file is broken.
    pub fn missing(&self, read: &Read) -> Result<Vec<String>, PublicationRefused> {
        let mut missing = Vec::new();
        for file in self.change.files() {
            let signed = signers(&document_of(file)?);
            for need in read.needs.iter().filter(|need| need.file == file.name) {
                let found = need.keyids.intersection(&signed).count();
                if found < need.threshold {
                    let keys: Vec<&str> = need.keyids.difference(&signed).map(|keyid| short(keyid)).collect();
                    let wanted = need.threshold - found;
                    missing.push(format!("{}: {wanted} more of the keys of {}: {}", file.name, need.role, keys.join(", ")));
                }
            }
        }
        Ok(missing)
    }

    fn in_force(&self, role: &str) -> Option<&TufFile> {
        self.before.iter().find(|file| file.name.split_once('.').is_some_and(|(_, rest)| rest == metadata::unversioned(role)))
    }

    /// The root in force, and the certificate authorities that it names.
    fn trusted_root(&self, anchor: &[u8]) -> Result<(Root, Option<Vec<CertificateDer<'static>>>), TrustRefused> {
        let mut newest = TufFile { name: "root.json".to_owned(), content: String::from_utf8_lossy(anchor).into_owned() };
        let mut trusted = TrustedMetadataSet::from_root(anchor).map_err(|error| TrustRefused::of("root.json", error))?;
        let rules = RootsOf(self.org.clone());
        rules.check(None, trusted.root())?;
        loop {
            let next = metadata::versioned("root", trusted.root().version.saturating_add(1));
            let Some(file) = self.before.iter().find(|file| file.name == next) else {
                return Ok((trusted.root().clone(), named_in(&newest)?));
            };
            let before = trusted.root().clone();
            trusted.update_root(file.content.as_bytes()).map_err(|error| TrustRefused::of(&next, error))?;
            rules.check(Some(&before), trusted.root())?;
            newest = file.clone();
        }
    }

    fn targets_in_force(&self, root: &Root) -> Result<Option<Targets>, TrustRefused> {
        self.in_force("targets").map(|file| verified(file, "targets", &root.keys, root.role("targets"))).transpose()
    }

    fn read_root(
        &self,
        before: &Root,
        authorities: Option<&[CertificateDer<'static>]>,
        read: &mut Read,
    ) -> Result<Option<Root>, PublicationRefused> {
        let Change::Trust(TrustChange { root: Some(file), .. }) = &self.change else { return Ok(None) };
        let after: Root = parsed(file)?;
        check_follows(file, "root", before.version, after.version)?;
        RootsOf(self.org.clone()).check(Some(before), &after)?;
        read.words.extend(words::root(before, &after, &self.org)?);
        read.words.extend(words::authorities(authorities, named_in(file)?.as_deref()));
        for (role, root) in [("root in force", before), ("new root", &after)] {
            read.needs.push(Need::of(&file.name, role, root.role("root")));
        }
        Ok(Some(after))
    }

    fn read_targets(&self, root: &Root, before: Option<&Targets>, read: &mut Read) -> Result<Option<Targets>, PublicationRefused> {
        let Some(file) = self.change.targets() else { return Ok(None) };
        let after: Targets = parsed(file)?;
        check_follows(file, "targets", before.map_or(0, |before| before.version), after.version)?;
        read.words.extend(words::targets(before, &after));
        read.needs.push(Need::of(&file.name, "targets", root.role("targets")));
        Ok(Some(after))
    }

    /// Reads the new role of an app.
    fn read_role(
        &self,
        role: &str,
        file: &TufFile,
        targets: Option<&Targets>,
        delegating: Option<&Targets>,
        read: &mut Read,
    ) -> Result<(), PublicationRefused> {
        let authority = |targets: Option<&Targets>, name: &str| {
            let delegations = targets.and_then(|targets| targets.delegations.as_ref())?;
            let found = delegations.roles.iter().find(|found| found.name == name)?;
            Some((delegations.keys.clone(), found.role_keys()))
        };
        let before = match (self.in_force(role), authority(targets, role)) {
            (Some(file), Some((keys, authority))) => Some(verified(file, role, &keys, Some(&authority))?),
            _ => None,
        };
        let after: Targets = parsed(file)?;
        check_follows(file, role, before.as_ref().map_or(0, |before| before.version), after.version)?;
        let (from, to) = (before.as_ref().map_or(Ok(0), |before| metadata::floor(role, before))?, metadata::floor(role, &after)?);
        if to < from {
            read.lowered.push(format!("{role}: the floor goes down from {from} to {to}"));
        }
        let listed = before.as_ref().map(|before| self.listed(role, before)).transpose()?.unwrap_or_default();
        read.words.push(format!("{role}: version {}, valid until {}", after.version, after.expires));
        read.words.extend(words::app_role(role, &listed, &self.listed(role, &after)?, (from, to)));
        let new = authority(delegating, role).map(|(_, authority)| authority);
        read.needs.push(Need::of(&file.name, role, new.as_ref()));
        Ok(())
    }
}

impl Proposal {
    /// What a role of an app lists, with what stands in the archive that it pins, if that goes with the proposal.
    fn listed(&self, role: &str, found: &Targets) -> Result<BTreeMap<String, TargetFile>, PublicationRefused> {
        let mut listed = found.targets.clone();
        let Some(app) = metadata::app_of(role) else { return Ok(listed) };
        let (path, new) = (archive::path(&app), self.change.archive());
        let Some(target) = listed.get(&path) else { return Ok(listed) };
        let name = archive::file_name(&app, &metadata::target_digest(&path, target)?);
        match self.before.iter().chain(new).find(|file| file.name == name) {
            Some(file) => {
                listed.extend(Archive::verified(&app, found, file)?.targets);
                listed.remove(&path);
                Ok(listed)
            }
            None if new.is_some() => {
                let detail = "the proposal does not carry the archive that its role pins".to_owned();
                Err(TrustRefused::Unavailable { name, detail }.into())
            }
            None => Ok(listed),
        }
    }
}

impl Change {
    fn archive(&self) -> Option<&TufFile> {
        match self {
            Self::Version(publication) => publication.archive.as_ref(),
            Self::Trust(_) => None,
        }
    }

    fn targets(&self) -> Option<&TufFile> {
        match self {
            Self::Version(publication) => publication.targets.as_ref(),
            Self::Trust(change) => change.targets.as_ref(),
        }
    }

    /// The roles of apps, with their names.
    fn roles(&self) -> impl Iterator<Item = (String, &TufFile)> {
        let files: Vec<&TufFile> = match self {
            Self::Version(publication) => vec![&publication.app_role],
            Self::Trust(change) => change.roles.iter().collect(),
        };
        files.into_iter().filter_map(|file| {
            let (_, rest) = file.name.split_once('.')?;
            Some((rest.strip_suffix(".json")?.to_owned(), file))
        })
    }

    fn files(&self) -> Vec<&TufFile> {
        let root = match self {
            Self::Trust(change) => change.root.as_ref(),
            Self::Version(_) => None,
        };
        root.into_iter().chain(self.targets()).chain(self.roles().map(|(_, file)| file)).collect()
    }

    fn files_mut(&mut self) -> Vec<&mut TufFile> {
        match self {
            Self::Version(Publication { targets, app_role, .. }) => targets.iter_mut().chain([app_role]).collect(),
            Self::Trust(TrustChange { root, targets, roles, .. }) => root.iter_mut().chain(targets).chain(roles).collect(),
        }
    }
}

impl Need {
    fn of(file: &str, role: &str, authority: Option<&RoleKeys>) -> Self {
        let (file, role) = (file.to_owned(), role.to_owned());
        let keyids = authority.map(|authority| authority.keyids.iter().cloned().collect()).unwrap_or_default();
        // Without an authority nobody can sign: one signature of no key is missing for ever.
        Self { file, role, keyids, threshold: authority.map_or(1, |authority| authority.threshold) }
    }
}

/// The beginning of a key's identity, enough to tell an organisation's keys apart.
pub fn short(keyid: &str) -> &str {
    keyid.get(..12).unwrap_or(keyid)
}

fn verified(file: &TufFile, role: &str, keys: &BTreeMap<String, Key>, authority: Option<&RoleKeys>) -> Result<Targets, TrustRefused> {
    let refused = |error| TrustRefused::of(&file.name, error);
    let authority = authority.ok_or_else(|| refused(sigstore_tuf::Error::UnknownRole(role.to_owned())))?;
    let metadata = Metadata::<Targets>::from_slice(file.content.as_bytes()).map_err(refused)?;
    metadata.verify_threshold(keys, authority, role).map_err(refused)?;
    Ok(metadata.into_signed())
}

fn check_follows(file: &TufFile, role: &str, before: u64, after: u64) -> Result<(), PublicationRefused> {
    let wanted = before.saturating_add(1);
    if after != wanted {
        return Err(PublicationRefused::Stale { file: file.name.clone(), wanted, found: after });
    }
    let name = metadata::versioned(role, after);
    if file.name == name { Ok(()) } else { Err(PublicationRefused::OtherName { found: file.name.clone(), wanted: name }) }
}

fn document_of(file: &TufFile) -> Result<Value, TrustRefused> {
    serde_json::from_str(&file.content).map_err(|error| TrustRefused::Malformed { file: file.name.clone(), detail: error.to_string() })
}

fn signers(document: &Value) -> BTreeSet<String> {
    let signatures = document["signatures"].as_array().into_iter().flatten();
    signatures.filter_map(|signature| signature["keyid"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests;
