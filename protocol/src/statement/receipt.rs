//! Receipts of polls that a device made for its site: the seed's word, signed with its online key, for when it was asked and how
//! far the documents of the devices are for which it was asked. A neighbour can keep a receipt back or hand over an old one, but
//! make none.
//!
//! A receipt is short, because it comes with every answer to such a poll, also with one that says that nothing changed: it names
//! what the seed says of the site by its digest, and that goes with it from device to device exactly as the seed wrote it.
//!
//! Not here: how old a receipt may be, and what follows from it; see [`crate::agent::turn`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signature;
use serde::{Deserialize, Serialize};

use super::desired::OnlineKey;
use super::refused::DocumentRefused;
use crate::digest::Digest;
use crate::envelope::{EnvelopeRefused, pre_authentication_encoding};
use crate::gossip::message::{GROUPS_MAX, OTHERS_MAX, SiteHeads};
use crate::name::OrgName;

/// The DSSE payload type of what is signed.
pub const PAYLOAD_TYPE: &str = "application/vnd.hedgerow.poll-receipt+json";

/// The only `format` this code reads and writes.
pub const FORMAT: u32 = 1;

/// What the seed says of a site, in bytes at most: [`OTHERS_MAX`] devices and [`GROUPS_MAX`] groups with the longest names.
pub const HEADS_BYTES_MAX: usize = 52 << 10;

/// A poll for a site, with the seed's word for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollReceipt {
    /// When the seed was asked, by its clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// The ed25519 signature.
    signature: Vec<u8>,
    /// What the seed said: [`SiteHeads`] as JSON.
    heads: String,
}

/// A poll for a site that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SitePoll {
    /// When, by the seed's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// What the seed said.
    pub heads: SiteHeads,
}

/// What is signed, in the pre-authentication encoding of DSSE.
#[derive(Serialize)]
struct Signed<'a> {
    format: u32,
    org: &'a OrgName,
    at_ms: u64,
    heads: Digest,
}

impl PollReceipt {
    /// The receipt of a poll at `at_ms` whose answer says `heads` of the site; `sign` gives the signature over the bytes that it is
    /// handed.
    pub fn seal(org: &OrgName, at_ms: u64, heads: String, sign: impl FnOnce(&[u8]) -> Signature) -> Self {
        let signature = sign(&signed(org, at_ms, &heads)).to_vec();
        Self { at_ms, signature, heads }
    }

    /// Time and signature, as they stand in a header of the answer.
    pub fn mark(&self) -> String {
        format!("{} {}", self.at_ms, STANDARD.encode(&self.signature))
    }

    /// The receipt with this mark for what the seed says of the site; none if it is no mark.
    pub fn of_mark(mark: &str, heads: String) -> Option<Self> {
        let (at_ms, signature) = mark.split_once(' ')?;
        Some(Self { at_ms: at_ms.parse().ok()?, signature: STANDARD.decode(signature).ok()?, heads })
    }

    /// The poll, if the seed of `online` gave this receipt for it.
    ///
    /// # Errors
    /// When it did not, or says more than anybody reads.
    pub fn open(&self, online: &OnlineKey) -> Result<SitePoll, DocumentRefused> {
        if self.heads.len() > HEADS_BYTES_MAX {
            return Err(EnvelopeRefused::Malformed.into());
        }
        let signed = signed(&online.org, self.at_ms, &self.heads);
        let fits = Signature::from_slice(&self.signature).is_ok_and(|signature| online.key.verify_strict(&signed, &signature).is_ok());
        if !fits {
            return Err(EnvelopeRefused::BadSignature.into());
        }
        let heads: SiteHeads = serde_json::from_str(&self.heads).map_err(|error| DocumentRefused::Malformed(error.to_string()))?;
        if heads.assignments.len() > OTHERS_MAX || heads.states.len() > GROUPS_MAX {
            return Err(EnvelopeRefused::Malformed.into());
        }
        Ok(SitePoll { at_ms: self.at_ms, heads })
    }

    /// Its size, about, in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.heads.len() + self.signature.len()
    }
}

#[expect(clippy::unwrap_used, reason = "strings and numbers always serialise")]
fn signed(org: &OrgName, at_ms: u64, heads: &str) -> Vec<u8> {
    let signed = Signed { format: FORMAT, org, at_ms, heads: Digest::sha256(heads.as_bytes()) };
    pre_authentication_encoding(PAYLOAD_TYPE, &serde_json::to_vec(&signed).unwrap())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::statement::desired::Counter;
    use crate::statement::desired::tests::online;
    use ed25519_dalek::{Signer, SigningKey};

    /// A receipt that the key numbered `key` signed; that of [`online`] is 7.
    pub(crate) fn receipt_by(key: u8, at_ms: u64, heads: &SiteHeads) -> PollReceipt {
        let key = SigningKey::from_bytes(&[key; 32]);
        PollReceipt::seal(&online(1).org, at_ms, serde_json::to_string(heads).unwrap(), |bytes| key.sign(bytes))
    }

    fn heads() -> SiteHeads {
        let counter = Counter { epoch: 1, n: 3 };
        SiteHeads { assignments: [("kiosk".parse().unwrap(), counter)].into(), timestamp: Some(9), ..SiteHeads::default() }
    }

    #[test]
    fn only_the_seeds_own_word_opens_also_after_it_went_through_a_header() {
        let receipt = receipt_by(7, 5, &heads());
        assert_eq!(receipt.open(&online(1)), Ok(SitePoll { at_ms: 5, heads: heads() }));
        let back = PollReceipt::of_mark(&receipt.mark(), receipt.heads.clone()).unwrap();
        assert_eq!(back, receipt);
        for mark in ["", "5", "x AAAA", "5 ?"] {
            assert_eq!(PollReceipt::of_mark(mark, String::new()), None, "{mark}");
        }
        let refused = Err(DocumentRefused::Envelope(EnvelopeRefused::BadSignature));
        let foreign = OnlineKey { org: "evil".parse().unwrap(), ..online(1) };
        assert_eq!(receipt.open(&foreign), refused);
        assert_eq!(receipt_by(8, 5, &heads()).open(&online(1)), refused);
        assert_eq!(PollReceipt { at_ms: 6, ..receipt.clone() }.open(&online(1)), refused, "it cannot be made younger");
        let other = serde_json::to_string(&SiteHeads::default()).unwrap();
        assert_eq!(PollReceipt { heads: other, ..receipt }.open(&online(1)), refused, "nor say something else");
    }

    #[test]
    fn what_is_signed_but_too_much_is_not_read() {
        let many = (0..=OTHERS_MAX).map(|n| (format!("d{n}").parse().unwrap(), Counter::default())).collect();
        let crowd = SiteHeads { assignments: many, ..SiteHeads::default() };
        let refused = Err(DocumentRefused::Envelope(EnvelopeRefused::Malformed));
        assert_eq!(receipt_by(7, 5, &crowd).open(&online(1)), refused);
        let key = SigningKey::from_bytes(&[7; 32]);
        let long = PollReceipt::seal(&online(1).org, 5, " ".repeat(HEADS_BYTES_MAX + 1), |bytes| key.sign(bytes));
        assert_eq!(long.open(&online(1)), refused);
    }
}
