//! Whom the device trusts and how late it is, as its seed's answers say once they are verified: authorities from the root,
//! revoked keys from the signed list, the time from an answer over verified TLS. What was learnt once holds after a restart
//! and without a WAN.
//!
//! Not here: the next certificate, see [`super::renewal`]; the handshakes, see [`crate::transport`].

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use protocol::digest::Digest;
use protocol::name::NodeId;
use protocol::statement::desired::{Counter, OnlineKey};
use protocol::statement::revocation::AcceptedRevocations;
use protocol::time::WallTime;
use protocol::time::floor::{CheckedTime, TimeTrust};
use tokio::sync::Notify;

use super::state::{DeviceDir, Revoked};
use crate::clock::TrustedClock;
use crate::transport::admission::{Admission, Anchors};
use crate::transport::credentials::DeviceCredentials;
use crate::trust::authorities::named_authorities;

/// The floor is written when it has gone up by this much, in seconds: an hour lost in a crash is little, and flash wears.
const FLOOR_STEP_SECONDS: u64 = 3_600;

/// The identity of a running device.
#[derive(Debug)]
pub struct Identity {
    /// Its certificate and key, and whom it trusts.
    pub credentials: Arc<DeviceCredentials>,
    dir: DeviceDir,
    learnt: Mutex<Learnt>,
    authorities_changed: Notify,
}

/// What was taken note of, so that nothing is done or said twice.
#[derive(Debug)]
struct Learnt {
    root: Digest,
    revocations: Option<Counter>,
    kept_floor: Option<WallTime>,
    trust: TimeTrust,
}

impl Identity {
    /// The identity of the device in `dir`, whose newest verified root is `root`.
    ///
    /// # Errors
    /// When a file is missing or broken, or the key is not that of the certificate.
    pub fn open(dir: &DeviceDir, root: &[u8]) -> anyhow::Result<Self> {
        let kept_floor = dir.time_floor()?;
        let clock = Arc::new(TrustedClock::new(kept_floor, root_expires(root)?));
        let authorities = match named_authorities(root) {
            Ok(Some(named)) => named,
            Ok(None) => vec![dir.authority()?],
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the authorities of the root cannot be read; the one of the enrolment is trusted"
                );
                vec![dir.authority()?]
            }
        };
        let admission = Admission::new(Anchors::new(authorities)?, clock);
        let revoked = dir.revoked()?;
        let revocations = revoked.as_ref().map(|revoked| revoked.counter);
        admission.revoke(revoked.into_iter().flat_map(|revoked| revoked.keys));
        let credentials = Arc::new(DeviceCredentials::new(&dir.certificate()?, dir.key()?, Arc::new(admission))?);
        let learnt = Learnt { root: Digest::sha256(root), revocations, kept_floor, trust: TimeTrust::Trusted };
        let identity = Self { credentials, dir: dir.clone(), learnt: Mutex::new(learnt), authorities_changed: Notify::new() };
        identity.say_trust();
        Ok(identity)
    }

    /// The device's place in the swarm, and what makes its random choices reproducible.
    pub fn node(&self) -> (NodeId, u64) {
        let node = self.credentials.identity.node;
        (node, node.0.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte)))
    }

    /// The time that expiry is checked against, and whether the clock is trusted.
    pub fn time(&self) -> CheckedTime {
        self.admission().clock().read()
    }

    /// Whom the device trusts.
    pub fn admission(&self) -> &Arc<Admission> {
        self.credentials.admission()
    }

    /// Ends when the organisation's root names other authorities than before.
    pub async fn authorities_changed(&self) {
        self.authorities_changed.notified().await;
    }

    /// Takes the authorities that a newly verified root names.
    ///
    /// # Errors
    /// When it names some that cannot be read; those before stay trusted.
    pub fn learn_root(&self, root: &[u8]) -> anyhow::Result<()> {
        let digest = Digest::sha256(root);
        if self.learnt().root == digest {
            return Ok(());
        }
        self.admission().clock().believe_until(root_expires(root)?);
        if let Some(named) = named_authorities(root)?
            && self.admission().anchors().certificates() != named
        {
            self.admission().trust(Anchors::new(named)?);
            tracing::info!(event = "authorities_changed", "the root names other certificate authorities; the certificate is renewed soon");
            self.authorities_changed.notify_one();
        }
        self.learnt().root = digest;
        Ok(())
    }

    /// Takes the seed's revocation list, if it is newer than the one before. It is in force at once, also while the disk is
    /// full; one that cannot be kept is taken again with the next answer.
    ///
    /// # Errors
    /// When it is refused, and then the one before stays in force, or when it cannot be kept.
    pub async fn learn_revocations(&self, envelope: &str, online: &OnlineKey) -> anyhow::Result<()> {
        let newest = self.learnt().revocations;
        let accepted = AcceptedRevocations::accept(envelope.as_bytes(), online, newest, self.time().now);
        let accepted =
            accepted.map_err(|refused| anyhow::Error::new(refused.clone()).context(format!("revocation list ({})", refused.reason())))?;
        let list = accepted.list();
        if newest == Some(list.counter) {
            return Ok(());
        }
        let revoked = Revoked { format: 0, counter: list.counter, keys: list.keys.clone() };
        self.admission().revoke(revoked.keys.clone());
        let (dir, kept) = (self.dir.clone(), revoked.clone());
        tokio::task::spawn_blocking(move || dir.keep_revoked(&kept)).await.context("writing was interrupted")??;
        self.learnt().revocations = Some(revoked.counter);
        tracing::info!(
            event = "revocations",
            epoch = revoked.counter.epoch,
            n = revoked.counter.n,
            keys = revoked.keys.len(),
            "revocation list taken"
        );
        Ok(())
    }

    /// Keeps the floor of the clock if it went up, and says when the clock's trust changed.
    pub async fn keep_time(&self) {
        self.say_trust();
        let floor = self.admission().clock().floor();
        let is_due = self.learnt().kept_floor.is_none_or(|kept| kept.plus_seconds(FLOOR_STEP_SECONDS) <= floor);
        if !is_due {
            return;
        }
        let dir = self.dir.clone();
        match tokio::task::spawn_blocking(move || dir.keep_time_floor(floor)).await {
            Ok(Ok(())) => self.learnt().kept_floor = Some(floor),
            Ok(Err(error)) => {
                tracing::error!(error = format!("{error:#}"), "the floor of the clock cannot be kept; free disk space or check the disk");
            }
            Err(error) => tracing::error!(%error, "the floor of the clock was not written"),
        }
    }

    fn say_trust(&self) {
        let (time, floor) = (self.time(), self.admission().clock().floor());
        if std::mem::replace(&mut self.learnt().trust, time.trust) == time.trust {
            return;
        }
        let (trust, floor) = (time.trust.as_str(), floor.as_unix_seconds());
        if time.trust.is_trusted() {
            tracing::info!(event = "clock_trusted", floor, "the clock fits what was verified again");
        } else {
            tracing::warn!(event = "clock_untrusted", trust, floor, "the clock cannot be right; staged work does not start by it, set it");
        }
    }

    fn learnt(&self) -> std::sync::MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When root metadata expires; it has been verified.
fn root_expires(root: &[u8]) -> anyhow::Result<WallTime> {
    let root: serde_json::Value = serde_json::from_slice(root).context("the root metadata is broken")?;
    let expires = root.pointer("/signed/expires").and_then(serde_json::Value::as_str).context("the root metadata has no expiry")?;
    let expires: jiff::Timestamp = expires.parse().context("the expiry of the root metadata is no time")?;
    Ok(WallTime::from_unix_seconds(u64::try_from(expires.as_second()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::wall_time;
    use crate::device::state::Enrolment;
    use crate::transport::authorities::{Authorities, named};
    use crate::transport::ca::certificate_request;
    use crate::transport::ca::single_certificate;
    use crate::transport::device_key::{DeviceKey, KEY_FILE, KeyType};
    use crate::transport::identity::DeviceIdentity;
    use crate::trust::OnlineSigner;
    use protocol::identity::standing::{GRACE_SECONDS, Purpose};
    use protocol::statement::revocation::RevocationList;
    use serde_json::json;

    struct World {
        home: tempfile::TempDir,
        dir: DeviceDir,
        authorities: Authorities,
        signer: OnlineSigner,
    }

    impl World {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let (dir, authorities) = (DeviceDir::new(home.path()), Authorities::load_or_create(home.path()).unwrap());
            let signer = OnlineSigner::load_or_generate(&home.path().join("online.pem")).unwrap();
            let key = DeviceKey::create(&dir.join(KEY_FILE), KeyType::P256).unwrap();
            let (org, device) = ("acme".parse().unwrap(), "d1".parse().unwrap());
            let request = certificate_request(&key).unwrap();
            let issued = authorities.current().issue_leaf(&request, &org, &device, 3_600).unwrap();
            let platform = "linux-amd64".parse().unwrap();
            let enrolment = Enrolment { format: 0, org, device, platform, device_url: "https://seed.example".into(), key: None };
            dir.keep_enrolment(enrolment, &issued.pem, authorities.current().pem(), "{}").unwrap();
            Self { home, dir, authorities, signer }
        }

        fn open(&self) -> Identity {
            Identity::open(&self.dir, &root(&json!({}))).unwrap()
        }

        fn online(&self) -> OnlineKey {
            OnlineKey { org: "acme".parse().unwrap(), epoch: 1, key: self.signer.public_key() }
        }

        fn list(&self, n: u64, keys: &[Digest]) -> String {
            let before = Some(Counter { epoch: 1, n: n - 1 });
            let keys = keys.iter().copied().collect();
            self.signer.sign_revocations(&RevocationList::next(before, &"acme".parse().unwrap(), 1, wall_time(), keys))
        }
    }

    fn root(extension: &serde_json::Value) -> Vec<u8> {
        json!({"signed": {"expires": "2100-01-01T00:00:00Z", "x-hedgerow": extension}}).to_string().into_bytes()
    }

    #[tokio::test]
    async fn a_revocation_list_holds_after_a_restart_and_no_older_one_takes_its_place() {
        let world = World::new();
        let (stolen, lost) = (Digest::sha256(b"stolen"), Digest::sha256(b"lost"));
        let is_revoked = |identity: &Identity, key: &Digest| identity.admission().is_revoked(&NodeId(key.as_bytes().try_into().unwrap()));
        let identity = world.open();
        identity.learn_revocations(&world.list(2, &[stolen]), &world.online()).await.unwrap();
        assert!(is_revoked(&identity, &stolen));

        let again = world.open();
        assert!(is_revoked(&again, &stolen));
        let older = again.learn_revocations(&world.list(1, &[]), &world.online()).await.unwrap_err();
        assert!(format!("{older:#}").contains("older_counter"), "{older:#}");
        assert!(is_revoked(&again, &stolen));
        again.learn_revocations(&world.list(3, &[stolen, lost]), &world.online()).await.unwrap();
        assert!(is_revoked(&again, &lost));
    }

    #[tokio::test]
    async fn the_floor_of_the_clock_holds_after_a_restart() {
        let world = World::new();
        let identity = world.open();
        assert!(identity.time().trust.is_trusted());
        let later = wall_time().plus_seconds(10 * 86_400);
        identity.admission().clock().verified(later);
        identity.keep_time().await;
        let time = world.open().time();
        assert_eq!((time.now, time.trust), (later, TimeTrust::Behind));
    }

    #[test]
    fn the_authorities_of_a_new_root_are_trusted_and_a_list_that_cannot_be_read_changes_nothing() {
        let world = World::new();
        let both = Authorities::rotate(world.home.path()).unwrap();
        let identity = world.open();
        let trusted = || identity.admission().anchors().fingerprints();
        assert!(identity.learn_root(&root(&json!({"authorities": ["!"]}))).is_err());
        assert_eq!(trusted(), both.anchors().unwrap().fingerprints()[..1]);
        let names_both = root(&json!({"authorities": [named(world.authorities.current()), named(both.next().unwrap())]}));
        identity.learn_root(&names_both).unwrap();
        assert_eq!(trusted(), both.anchors().unwrap().fingerprints());
        assert!(!identity.credentials.is_of_newest_authority(), "it renews early, also if it is restarted before");
        let again = Identity::open(&world.dir, &names_both).unwrap();
        assert_eq!(again.admission().anchors().fingerprints(), trusted());
        assert!(!again.credentials.is_of_newest_authority());
        let request = certificate_request(again.credentials.key()).unwrap();
        let DeviceIdentity { org, device, .. } = again.credentials.identity.clone();
        let renewed = both.next().unwrap().issue_leaf(&request, &org, &device, 3_600).unwrap();
        again.credentials.replace(&renewed.pem).unwrap();
        assert!(again.credentials.is_of_newest_authority());
    }

    #[test]
    fn a_certificate_of_an_authority_that_was_removed_is_not_admitted_any_more() {
        let world = World::new();
        let both = Authorities::rotate(world.home.path()).unwrap();
        let identity = world.open();
        let shown = single_certificate(&world.dir.certificate().unwrap()).unwrap();
        let admits = || identity.admission().still_admits(&shown, Purpose::Blobs);
        assert_eq!(admits(), Ok(()));
        let mut changes = identity.admission().watch();
        identity.learn_root(&root(&json!({"authorities": [named(both.next().unwrap())]}))).unwrap();
        assert!(changes.has_changed().unwrap(), "whoever has connections open is told");
        changes.mark_unchanged();
        assert!(admits().is_err());
        identity.learn_root(&root(&json!({"authorities": [named(both.current()), named(both.next().unwrap())]}))).unwrap();
        assert_eq!(admits(), Ok(()));
        identity.admission().clock().verified(wall_time().plus_seconds(3_600 + GRACE_SECONDS + 60));
        assert!(admits().is_err(), "its grace has ended");
    }
}
