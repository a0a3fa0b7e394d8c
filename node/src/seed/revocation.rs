//! Keys that are refused for ever: recorded, refused by this seed at once, and signed as a list for the devices.
//!
//! Not here: what stands on a list and for how long; see [`protocol::statement::revocation`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::name::{DeviceId, OrgName};
use protocol::rollout::REASON_BYTES_MAX;
use protocol::statement::renewal::is_current;
use protocol::statement::revocation::{Listed, RevocationList, listed};

use super::Seed;
use super::activity::{Activity, ActivityKind, RequestRecord};
use super::api::{Refused, require};
use super::extract::{Json, Path};
use super::registry::auth::Principal;
use crate::api::{DeviceRevoked, RevokeDevice};
use crate::clock::wall_time;
use crate::store::meta::{RevocationListRecord, RevokedKeyRecord, Scope};

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
        let record = RevokedKeyRecord { key_sha256, org: org.clone(), device: device.clone(), revoked, reason: revoke.reason };
        self.store.revoke_key(record.clone()).await?;
        tracing::info!(event = "device_revoked", %org, %device, reason = record.reason, "the key of a device was revoked");
        self.admission.revoke_also(&key_sha256);
        self.sign_revocations(org).await?;
        let left_out = self.revoked_now(org).await?.left_out;
        Ok(DeviceRevoked { device: device.clone(), key_sha256, revoked, left_out })
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
        loop {
            let Listed { keys, left_out } = self.revoked_now(org).await?;
            keys.iter().for_each(|key| self.admission.revoke_also(key));
            if left_out > 0 {
                let advice = "this seed refuses them, peers do not; replace the CA with `hedgerow seed ca rotate`";
                tracing::warn!(event = "revocations_left_out", %org, left_out, "more keys are revoked than a list has room for: {advice}");
            }
            let kept = self.store.revocation_list(org).await?;
            let delegation = self.delegation(org).await?;
            let now = wall_time();
            let is_current = match &kept {
                None => keys.is_empty(),
                Some(kept) => kept.keys == keys && is_current(kept.signed(), &delegation, self.signer.keyid(), now),
            };
            if is_current {
                return Ok(());
            }
            let expected = kept.map(|kept| kept.counter);
            let list = RevocationList::next(expected, org, delegation.epoch, now, keys);
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
        Ok(listed(keys.map(|key| (key.key_sha256, key.revoked)), wall_time()))
    }
}
