//! Changes to tokens, devices' keys and revocations, each in one transaction.
//!
//! Not here: who is let in; [`protocol::identity::enrolment`] decides.

use protocol::digest::Digest;
use protocol::identity::enrolment::{Admitted, Applicant, TokenRefused, admit};
use protocol::name::{DeviceId, OrgName};
use protocol::statement::desired::Counter;
use protocol::time::WallTime;

use super::keys::must_exist;
use crate::store::meta::{DeviceRecord, MetaError, RevocationListRecord, RevokedKeyRecord, TokenRecord};
use crate::store::records::{Range, Records as _, Table, key, under};
use crate::store::writer::Transaction;

pub(super) fn add_token(t: &mut Transaction<'_>, token: &TokenRecord) -> Result<(), MetaError> {
    must_exist(t, &token.org)?;
    let secret = token.secret_sha256.to_string();
    if t.contains(Table::Token, &secret)? {
        return Err(MetaError::Conflict("a token with this secret exists already; make another one".into()));
    }
    t.put(Table::Token, secret, token)
}

pub(super) fn revoke_token(t: &mut Transaction<'_>, org: &OrgName, secret_sha256: &Digest) -> Result<(), MetaError> {
    let stored = secret_sha256.to_string();
    let token: Option<TokenRecord> = t.get(Table::Token, &stored)?;
    let token = token.filter(|token| token.org == *org);
    token.ok_or_else(|| MetaError::Missing(format!("such a token of {org}")))?;
    t.delete(Table::Token, stored)
}

pub(super) fn enroll(t: &mut Transaction<'_>, secret_sha256: &Digest, device: &DeviceRecord, now: WallTime) -> Result<Admitted, MetaError> {
    let token: Option<TokenRecord> = t.get(Table::Token, &secret_sha256.to_string())?;
    let mut token = token.filter(|token| token.org == device.org).ok_or(TokenRefused::Unknown)?;
    let is_revoked = is_revoked(t, &device.key_sha256)?;
    let applicant = Applicant { device: device.id.clone(), key: device.key_sha256, is_revoked };
    let stored = key(&[&device.org, &device.id]);
    let known: Option<DeviceRecord> = t.get(Table::Device, &stored)?;
    let admitted = admit(&token.terms(), &applicant, known.as_ref().map(|known| &known.key_sha256), now)?;
    if admitted != Admitted::Again {
        token.uses_left = token.uses_left.saturating_sub(1);
        token.used = token.uses_left == 0;
        t.put(Table::Token, secret_sha256.to_string(), &token)?;
    }
    if let (Admitted::Replacing, Some(old)) = (admitted, &known) {
        let reason = Some("another key was enrolled in its place".to_owned());
        let (org, device) = (old.org.clone(), old.id.clone());
        revoke(t, &RevokedKeyRecord { key_sha256: old.key_sha256, org, device: Some(device), revoked: now, leaf_until: None, reason })?;
        // The counters of the new key's reports begin anew; what the old key said last must not silence them.
        t.delete(Table::Report, stored.clone())?;
    }
    let leaf_until = known.as_ref().filter(|_| admitted == Admitted::Again).and_then(|known| known.leaf_until).max(device.leaf_until);
    let (mut labels, pins) = known.map(|known| (known.labels, known.pins)).unwrap_or_default();
    if admitted != Admitted::Again {
        labels.extend(token.labels);
    }
    t.put(Table::Device, stored, &DeviceRecord { leaf_until, labels, pins, ..device.clone() })?;
    Ok(admitted)
}

fn is_revoked(t: &Transaction<'_>, key_sha256: &Digest) -> Result<bool, MetaError> {
    Ok(!t.raw_scan(Table::RevokedKey, Range::all(&under(&[key_sha256])))?.is_empty())
}

pub(super) fn note_leaf(
    t: &mut Transaction<'_>,
    org: &OrgName,
    id: &DeviceId,
    key_sha256: &Digest,
    until: WallTime,
) -> Result<(), MetaError> {
    let stored = key(&[org, id]);
    let known: Option<DeviceRecord> = t.get(Table::Device, &stored)?;
    let known = known.filter(|known| known.key_sha256 == *key_sha256);
    let known = known.ok_or_else(|| MetaError::Missing(format!("device {id} of {org} with this key")))?;
    if is_revoked(t, key_sha256)? {
        return Err(MetaError::Token(TokenRefused::Revoked));
    }
    let leaf_until = known.leaf_until.max(Some(until));
    t.put(Table::Device, stored, &DeviceRecord { leaf_until, ..known })
}

pub(super) fn revoke(t: &mut Transaction<'_>, revoked: &RevokedKeyRecord) -> Result<(), MetaError> {
    let stored = key(&[&revoked.key_sha256, &revoked.org]);
    if t.contains(Table::RevokedKey, &stored)? {
        return Ok(());
    }
    let known: Option<DeviceRecord> = match &revoked.device {
        Some(device) => t.get(Table::Device, &key(&[&revoked.org, device]))?,
        None => None,
    };
    let leaf_until = known.filter(|known| known.key_sha256 == revoked.key_sha256).and_then(|known| known.leaf_until);
    t.put(Table::RevokedKey, stored, &RevokedKeyRecord { leaf_until, ..revoked.clone() })
}

pub(super) fn put_revocation_list(
    t: &mut Transaction<'_>,
    org: &OrgName,
    expected: Option<Counter>,
    list: &RevocationListRecord,
) -> Result<(), MetaError> {
    must_exist(t, org)?;
    let stored = key(&[org]);
    let kept: Option<RevocationListRecord> = t.get(Table::RevocationList, &stored)?;
    let kept = kept.map(|kept| kept.counter);
    if kept != expected || kept.is_some_and(|kept| kept >= list.counter) {
        return Err(MetaError::Conflict(format!("the revocation list of {org} changed meanwhile; try again")));
    }
    t.put(Table::RevocationList, stored, list)
}
