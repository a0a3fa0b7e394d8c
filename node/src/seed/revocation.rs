//! Keys that are refused for ever: recorded, refused by this seed at once, and signed as a list for the devices.
//!
//! Not here: what stands on a list and for how long; see [`protocol::statement::revocation`].

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::digest::Digest;
use protocol::name::{DeviceId, OrgName};
use protocol::rollout::REASON_BYTES_MAX;
use protocol::statement::desired::{Counter, OnlineKey};
use protocol::statement::renewal::is_current;
use protocol::statement::revocation::{Listed, RevocationList, Revoked, give_back, listed};

use super::Seed;
use super::activity::{Activity, ActivityKind, RequestRecord};
use super::api::{Refused, require};
use super::extract::{Json, Path};
use super::registry::auth::Principal;
use crate::api::{DeviceRevoked, RevokeDevice};
use crate::clock::wall_time;
use crate::store::meta::{RevocationListRecord, RevokedKeyRecord, Scope};
use crate::transport::identity::DeviceIdentity;

/// `POST /api/v1/orgs/{org}/devices/{device}/revoke`.
pub(super) async fn revoke(
    State(seed): State<Arc<Seed>>,
    Path((org, device)): Path<(OrgName, DeviceId)>,
    Extension(principal): Extension<Principal>,
    record: RequestRecord,
    Json(revoke): Json<RevokeDevice>,
) -> Result<Json<DeviceRevoked>, Refused> {
    require(&principal, &org, Scope::Admin)?;
    let revoked = seed.revoke_device(&org, &device, revoke).await?;
    record.did(Activity::in_org(ActivityKind::DeviceRevoke, &org, Some(device.to_string())));
    Ok(Json(revoked))
}

impl Seed {
    /// Revokes the key of a device: this seed refuses it from now on and closes its connections; peers do so at their next
    /// poll.
    ///
    /// # Errors
    /// When the device is not known.
    pub async fn revoke_device(&self, org: &OrgName, device: &DeviceId, revoke: RevokeDevice) -> Result<DeviceRevoked, Refused> {
        if revoke.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            let message = format!("a reason has at most {REASON_BYTES_MAX} bytes");
            return Err(Refused::new(StatusCode::BAD_REQUEST, "reason_too_long", message));
        }
        let Some(known) = self.store.device(org, device).await? else {
            let message = format!("{org} has no device {device}");
            return Err(Refused::new(StatusCode::NOT_FOUND, "unknown_device", message));
        };
        let (key_sha256, revoked) = (known.key_sha256, wall_time());
        tracing::info!(event = "device_revoked", %org, %device, reason = revoke.reason, "the key of a device was revoked");
        let record = RevokedKeyRecord {
            key_sha256,
            org: org.clone(),
            device: Some(device.clone()),
            revoked,
            leaf_until: None,
            reason: revoke.reason,
        };
        self.store.revoke_keys(vec![record]).await?;
        self.admission.revoke_also(&key_sha256);
        self.sign_revocations(org).await?;
        let left_out = self.revoked_now(org).await?.left_out;
        Ok(DeviceRevoked { device: device.clone(), key_sha256, revoked, left_out })
    }

    /// Takes back a list of revoked keys that a device holds and that this seed, restored from a backup, has forgotten. The list
    /// signed next has all of it, and a counter that devices take.
    ///
    /// # Errors
    /// When this seed's online key did not sign the list, or the root says that it does not count any more.
    pub async fn take_back_revocations(&self, from: &DeviceIdentity, envelope: &[u8]) -> Result<(), Refused> {
        let DeviceIdentity { org, device, .. } = from;
        let (delegation, since) = (self.delegation(org).await?, self.revocations_since(org).await?);
        let online = OnlineKey { org: org.clone(), epoch: delegation.epoch, key: self.signer.public_key() };
        let list = give_back(envelope, &online, since).map_err(|refused| {
            tracing::warn!(event = "revocations_refused", %org, %device, reason = refused.reason(), "a list is not taken back: {refused}");
            Refused::new(StatusCode::BAD_REQUEST, refused.reason(), refused.to_string())
        })?;
        let known: BTreeSet<Digest> =
            self.store.revoked_keys().await?.into_iter().filter(|key| key.org == *org).map(|key| key.key_sha256).collect();
        let (revoked, reason) = (wall_time(), Some("a device gave back the list that names it".to_owned()));
        let record = |key_sha256| {
            let (org, reason) = (org.clone(), reason.clone());
            RevokedKeyRecord { key_sha256, org, device: None, revoked, leaf_until: None, reason }
        };
        let forgotten: Vec<RevokedKeyRecord> = list.keys.difference(&known).copied().map(record).collect();
        let keys = forgotten.len();
        if keys > 0 {
            self.store.revoke_keys(forgotten).await?;
            tracing::warn!(event = "revocations_taken_back", %org, %device, keys, "keys are revoked again that this seed had forgotten");
        }
        self.sign_revocations_after(org, Some(list.counter)).await
    }

    /// The first epoch whose revocation lists count, as the organisation's root says; 0 if all do.
    async fn revocations_since(&self, org: &OrgName) -> Result<u64, Refused> {
        let root = self.current_root(org).await.map_err(|error| Refused::failed(error.as_ref()))?;
        let root: serde_json::Value = serde_json::from_str(&root).map_err(|error| Refused::failed(&error))?;
        Ok(root.pointer("/signed/x-hedgerow/online/revocations_since").and_then(serde_json::Value::as_u64).unwrap_or(0))
    }

    /// Refuses every key that was ever revoked, from the start of a seed on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refuse_revoked(&self) -> anyhow::Result<()> {
        let keys = self.store.revoked_keys().await?;
        self.admission.revoke(keys.into_iter().map(|key| key.key_sha256));
        Ok(())
    }

    /// Signs the organisation's list anew if its keys have changed, half of its life is over, or a new root has raised the
    /// epoch; refuses here what was revoked with it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sign_revocations(&self, org: &OrgName) -> Result<(), Refused> {
        self.sign_revocations_after(org, None).await
    }

    /// The same, with a counter above `seen`, which devices have taken, if that is of the epoch in force.
    async fn sign_revocations_after(&self, org: &OrgName, seen: Option<Counter>) -> Result<(), Refused> {
        loop {
            let Listed { keys, left_out } = self.revoked_now(org).await?;
            keys.iter().for_each(|key| self.admission.revoke_also(key));
            if left_out > 0 {
                let advice = "this seed refuses them, peers do not; replace the CA with `hedgerow seed ca rotate`";
                tracing::warn!(event = "revocations_left_out", %org, left_out, "more keys are revoked than a list has room for: {advice}");
            }
            let kept = self.store.revocation_list(org).await?;
            let delegation = self.delegation(org).await?;
            let seen = seen.filter(|seen| seen.epoch == delegation.epoch);
            let now = wall_time();
            let is_current = match &kept {
                None => keys.is_empty(),
                Some(kept) => {
                    let is_newer = seen.is_none_or(|seen| seen <= kept.counter);
                    is_newer && kept.keys == keys && is_current(kept.signed(), &delegation, self.signer.keyid(), now)
                }
            };
            if is_current {
                return Ok(());
            }
            let expected = kept.map(|kept| kept.counter);
            let list = RevocationList::next(expected.max(seen), org, delegation.epoch, now, keys);
            let envelope = self.signer.sign_revocations(&list);
            if expected == Some(list.counter) {
                let message =
                    format!("the counter of the revocation list of {org} has come to its end; raise the epoch: `hedgerow trust set`");
                return Err(Refused::new(StatusCode::CONFLICT, "counter_ended", message));
            }
            let signed_by = self.signer.keyid().to_owned();
            let digest = Some(list.digest());
            let record =
                RevocationListRecord { counter: list.counter, expires: list.expires, keys: list.keys, digest, signed_by, envelope };
            match self.store.put_revocation_list(org, expected, record).await.map_err(Refused::from) {
                Err(refused) if refused.is_conflict() => {}
                put => return put,
            }
        }
    }

    /// The keys that have to stand on the organisation's list now.
    async fn revoked_now(&self, org: &OrgName) -> Result<Listed, Refused> {
        let keys = self.store.revoked_keys().await?.into_iter().filter(|key| key.org == *org);
        let revoked = keys.map(|key| Revoked { key: key.key_sha256, at: key.revoked, leaf_until: key.leaf_until });
        Ok(listed(revoked, wall_time()))
    }
}
