//! The seed's online key, which the root delegates: it signs desired states, snapshots and timestamps, and cannot name
//! new content.
//!
//! Not here: what it signs in the repository; see [`super::repository`].

use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use protocol::envelope::Envelope;
use protocol::name::OrgName;
use protocol::statement::assignment::{self, Assignment};
use protocol::statement::desired::{self, DesiredState};
use protocol::statement::receipt::PollReceipt;
use protocol::statement::revocation::{self, RevocationList};

use super::key_file::{self, KeyError};
use super::metadata;

/// The holder of a seed's online key.
pub struct OnlineSigner {
    pub(super) key: SigningKey,
    keyid: String,
}

impl std::fmt::Debug for OnlineSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnlineSigner").field("keyid", &self.keyid).finish_non_exhaustive()
    }
}

impl OnlineSigner {
    /// The key in the file `path`; a new one, mode 0600 and durable, if there is no such file.
    ///
    /// # Errors
    /// When the file is no key, or the disk or the random source fails.
    pub fn load_or_generate(path: &Path) -> Result<Self, KeyError> {
        match key_file::load(path) {
            Err(KeyError::Missing(_)) => {
                let key = key_file::generate()?;
                key_file::create(path, &key)?;
                Ok(Self::new(key))
            }
            found => found.map(Self::new),
        }
    }

    fn new(key: SigningKey) -> Self {
        let keyid = metadata::keyid(&key.verifying_key());
        Self { key, keyid }
    }

    /// The public key, for the root to delegate.
    pub fn public_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The key's TUF identity (TUF 1.0 §4.2), in lower-case hex.
    pub fn keyid(&self) -> &str {
        &self.keyid
    }

    /// The signed envelope of `state`, as JSON.
    pub fn sign_desired_state(&self, state: &DesiredState) -> String {
        self.sign(desired::PAYLOAD_TYPE, state)
    }

    /// The signed envelope of `assignment`, as JSON.
    pub fn sign_assignment(&self, assignment: &Assignment) -> String {
        self.sign(assignment::PAYLOAD_TYPE, assignment)
    }

    /// The signed envelope of `list`, as JSON.
    pub fn sign_revocations(&self, list: &RevocationList) -> String {
        self.sign(revocation::PAYLOAD_TYPE, list)
    }

    /// The receipt of a poll at `at_ms` for a site of which the answer says `heads`.
    pub fn sign_poll(&self, org: &OrgName, at_ms: u64, heads: String) -> PollReceipt {
        PollReceipt::seal(org, at_ms, heads, |bytes| self.key.sign(bytes))
    }

    #[expect(clippy::unwrap_used, reason = "strings, numbers and maps with string keys always serialise")]
    fn sign(&self, payload_type: &str, document: &impl serde::Serialize) -> String {
        let payload = serde_json::to_vec(document).unwrap();
        let envelope = Envelope::seal(payload_type, &payload, &self.keyid, |bytes| self.key.sign(bytes));
        serde_json::to_string(&envelope).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::name::GroupName;
    use protocol::statement::assignment::AcceptedAssignment;
    use protocol::statement::counters::Counters;
    use protocol::statement::desired::{AcceptedDesiredState, Counter, FORMAT, OnlineKey};
    use protocol::time::WallTime;

    #[test]
    fn the_key_is_made_once_and_signs_desired_states_that_devices_accept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("online.pem");
        let signer = OnlineSigner::load_or_generate(&path).unwrap();
        let again = OnlineSigner::load_or_generate(&path).unwrap();
        assert_eq!(signer.keyid(), again.keyid());
        let state = DesiredState {
            format: FORMAT,
            org: "acme".parse().unwrap(),
            group: GroupName::all(),
            counter: Counter { epoch: 1, n: 1 },
            expires: WallTime::from_unix_seconds(100),
            apps: std::collections::BTreeMap::default(),
        };
        let online = OnlineKey { org: state.org.clone(), epoch: 1, key: signer.public_key() };
        let assignment = Assignment {
            format: assignment::FORMAT,
            org: state.org.clone(),
            device: "kiosk".parse().unwrap(),
            counter: state.counter,
            expires: state.expires,
            otherwise: GroupName::all(),
            apps: std::collections::BTreeMap::default(),
        };
        let (now, mut counters) = (WallTime::from_unix_seconds(1), Counters::default());
        let envelope = again.sign_assignment(&assignment);
        let assigned = AcceptedAssignment::accept(envelope.as_bytes(), &online, &assignment.device, &mut counters, now).unwrap();
        let envelope = again.sign_desired_state(&state);
        AcceptedDesiredState::accept(envelope.as_bytes(), &online, &assigned, &mut counters, now).unwrap();
    }

    #[test]
    fn a_file_that_is_no_key_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("online.pem");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(OnlineSigner::load_or_generate(&path), Err(KeyError::Unreadable { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }
}
