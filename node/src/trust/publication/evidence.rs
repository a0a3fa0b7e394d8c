//! Evidence of a version, beside the images of its statements: signed on the operator's side, checked by the seed, which
//! cannot sign it.
//!
//! Not here: what it says, see `protocol::statement::evidence`; how it is stored.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, VerifyingKey};
use protocol::digest::Digest;
use protocol::name::{OrgName, Platform, RepositoryName};
use protocol::statement::evidence::{self, Evidence, PAYLOAD_TYPE};
use protocol::statement::version::{Image, VersionStatement};
use sigstore_tuf::Targets;

use super::super::metadata;
use super::super::operator_keys::OperatorKeys;
use super::PublicationRefused;

/// Evidence that passed every check, to be stored beside its image.
#[derive(Clone, Debug)]
pub struct CheckedEvidence {
    /// The image's repository.
    pub repository: RepositoryName,
    /// What the image's tag named: the evidence refers to it.
    pub subject: Digest,
    /// The signed envelope.
    pub envelope: Vec<u8>,
    /// The manifest of the artifact that carries it.
    pub manifest: Vec<u8>,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// The envelopes of each platform's evidence, one for each image, signed by the first of `keyids` that is here.
pub(super) fn seal(
    org: &OrgName,
    statements: &BTreeMap<Platform, String>,
    keys: &OperatorKeys,
    keyids: &[String],
) -> Result<BTreeMap<Platform, Vec<String>>, PublicationRefused> {
    let key = keyids.iter().find_map(|keyid| keys.name_of(keyid));
    let key = key.ok_or_else(|| PublicationRefused::ForeignKey("the evidence of its version".to_owned()))?;
    let mut sealed = BTreeMap::new();
    for (platform, text) in statements {
        let mut envelopes = Vec::new();
        for (evidence, _) in evidence_of(org, platform, text)? {
            let envelope = keys.seal_envelope(key, PAYLOAD_TYPE, &evidence.to_bytes())?;
            envelopes.push(serde_json::to_string(&envelope).map_err(|error| PublicationRefused::Change(error.to_string()))?);
        }
        sealed.insert(platform.clone(), envelopes);
    }
    Ok(sealed)
}

/// The evidence of `statements`, if each is signed by a key that `targets` delegates the role to, and says what its statement
/// does.
pub(super) fn check(
    org: &OrgName,
    statements: &BTreeMap<Platform, String>,
    sealed: &BTreeMap<Platform, Vec<String>>,
    (targets, role): (Option<&Targets>, &str),
) -> Result<Vec<CheckedEvidence>, PublicationRefused> {
    let keys = keys_of(targets, role);
    let is_signed = |signed: &[u8], signature: &[u8]| {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| keys.iter().any(|key| key.verify_strict(signed, &signature).is_ok()))
    };
    let mut checked = Vec::new();
    for (platform, text) in statements {
        let envelopes = sealed.get(platform).map(Vec::as_slice).unwrap_or_default();
        let wanted = evidence_of(org, platform, text)?;
        if envelopes.len() != wanted.len() || sealed.len() > statements.len() {
            return Err(PublicationRefused::EvidenceCount { platform: platform.clone(), found: envelopes.len(), wanted: wanted.len() });
        }
        for ((evidence, image), envelope) in wanted.into_iter().zip(envelopes) {
            let refused = |refused| PublicationRefused::Evidence { platform: platform.clone(), refused };
            evidence.check(envelope.as_bytes(), is_signed).map_err(refused)?;
            checked.push(CheckedEvidence {
                subject: evidence::subject(&image).digest,
                envelope: envelope.clone().into_bytes(),
                manifest: evidence.artifact(envelope.as_bytes(), &image),
                annotations: evidence.annotations(),
                repository: image.repository,
            });
        }
    }
    Ok(checked)
}

/// What is to be signed for each image of the statement in the organisation's own repositories.
fn evidence_of(org: &OrgName, platform: &Platform, text: &str) -> Result<Vec<(Evidence, Image)>, PublicationRefused> {
    let refused = |refused| PublicationRefused::Statement { platform: platform.clone(), refused };
    let (statement, digest) = (VersionStatement::parse(text.as_bytes()).map_err(refused)?, Digest::sha256(text.as_bytes()));
    let own = statement.images.iter().filter(|image| image.repository.is_of(org));
    Ok(own.map(|image| (Evidence::of(&statement, &digest, image), image.clone())).collect())
}

fn keys_of(targets: Option<&Targets>, role: &str) -> Vec<VerifyingKey> {
    let Some(delegations) = targets.and_then(|targets| targets.delegations.as_ref()) else { return Vec::new() };
    let delegated = delegations.roles.iter().filter(|found| found.name == role);
    delegated.flat_map(|role| &role.keyids).filter_map(|keyid| metadata::ed25519_key(delegations.keys.get(keyid)?)).collect()
}
