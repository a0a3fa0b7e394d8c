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
use protocol::statement::revocation::{AcceptedRevocations, HeldRevocations};
use protocol::time::WallTime;
use protocol::time::floor::{Bounds, CheckedTime, KeptFloor, TimeTrust};
use tokio::sync::Notify;

use super::state::DeviceDir;
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
    revocations: Option<HeldRevocations>,
    kept_floor: Option<KeptFloor>,
    trust: TimeTrust,
}

impl Identity {
    /// The identity of the device in `dir`, whose newest verified root is `root`, and whose newest verified timestamp expires
    /// at `timestamp`.
    ///
    /// # Errors
    /// When a file is missing or broken, or the key is not that of the certificate.
    pub fn open(dir: &DeviceDir, root: &[u8], timestamp: Option<WallTime>) -> anyhow::Result<Self> {
        let kept_floor = dir.time_floor()?;
        let clock = Arc::new(TrustedClock::new(kept_floor, bounds(root, timestamp)?));
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
        admission.revoke(revoked.iter().flat_map(HeldRevocations::refused));
        let credentials = Arc::new(DeviceCredentials::new(&dir.certificate()?, dir.key()?, Arc::new(admission))?);
        let learnt = Learnt { root: Digest::sha256(root), revocations: revoked, kept_floor, trust: TimeTrust::Trusted };
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

    /// Takes the authorities that a newly verified root names, and what it and the verified timestamp, which expires at
    /// `timestamp`, say of the time.
    ///
    /// # Errors
    /// When it names some that cannot be read; those before stay trusted.
    pub fn learn_root(&self, root: &[u8], timestamp: Option<WallTime>) -> anyhow::Result<()> {
        self.admission().clock().bound(bounds(root, timestamp)?);
        let digest = Digest::sha256(root);
        if self.learnt().root == digest {
            return Ok(());
        }
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

    /// The counter of the revocation list in force.
    pub fn revocations(&self) -> Option<Counter> {
        self.learnt().revocations.as_ref().map(|held| held.counter)
    }

    /// Whether the list with this digest is the one that was taken last.
    pub fn knows_revocations(&self, digest: &Digest) -> bool {
        self.learnt().revocations.as_ref().is_some_and(|held| held.digest.as_ref() == Some(digest))
    }

    /// How many keys are refused here.
    pub fn revoked_keys(&self) -> usize {
        self.learnt().revocations.as_ref().map_or(0, |held| held.refused().count())
    }

    /// The newest revocation list that was accepted, as signed.
    pub fn revocation_list(&self) -> Option<String> {
        self.learnt().revocations.as_ref().and_then(HeldRevocations::newest).map(str::to_owned)
    }

    /// Revocation lists, as signed, that the seed seems to have forgotten; `is_behind` if its newest is older than the one in
    /// force here, or it has none.
    pub fn forgotten_lists(&self, is_behind: bool) -> Vec<String> {
        self.learnt().revocations.iter().flat_map(|held| held.forgotten(is_behind)).map(str::to_owned).collect()
    }

    /// Takes the seed's revocation list; lists of epochs before `since` do not count any more. It is in force at once, also while
    /// the disk is full; one that cannot be kept is taken again with the next answer. How many keys were revoked before that the
    /// seed does not know of any more.
    ///
    /// # Errors
    /// When it is refused, and then the one before stays in force, or when it cannot be kept.
    pub async fn learn_revocations(&self, envelope: &[u8], online: &OnlineKey, since: u64) -> anyhow::Result<usize> {
        let (held, now) = (self.learnt().revocations.clone(), self.time().now);
        let newest = held.as_ref().map(HeldRevocations::seen);
        let accepted = AcceptedRevocations::accept(envelope, online, newest.as_ref(), now);
        let accepted =
            accepted.map_err(|refused| anyhow::Error::new(refused.clone()).context(format!("revocation list ({})", refused.reason())))?;
        let held = HeldRevocations::after(held.as_ref(), &accepted, since, now);
        self.admission().revoke(held.refused());
        let (dir, kept) = (self.dir.clone(), held.clone());
        tokio::task::spawn_blocking(move || dir.keep_revoked(kept)).await.context("writing was interrupted")??;
        let (Counter { epoch, n }, keys, forgotten) = (held.counter, held.keys.len(), held.earlier.len());
        self.learnt().revocations = Some(held);
        tracing::info!(event = "revocations", epoch, n, keys, forgotten, "revocation list taken");
        Ok(forgotten)
    }

    /// Keeps the floor of the clock if it went up, and says when the clock's trust changed.
    pub async fn keep_time(&self) {
        self.say_trust();
        let floor = self.admission().clock().kept();
        let is_kept = |kept: KeptFloor| kept.epoch == floor.epoch && floor.floor < kept.floor.plus_seconds(FLOOR_STEP_SECONDS);
        let is_due = !self.learnt().kept_floor.is_some_and(is_kept);
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
        let (time, floor) = (self.time(), self.admission().clock().kept().floor);
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

/// How far verified root metadata and the expiry of the verified timestamp let the floor of the clock go.
fn bounds(root: &[u8], timestamp: Option<WallTime>) -> anyhow::Result<Bounds> {
    let root: serde_json::Value = serde_json::from_slice(root).context("the root metadata is broken")?;
    let expires = root.pointer("/signed/expires").and_then(serde_json::Value::as_str).context("the root metadata has no expiry")?;
    let expires: jiff::Timestamp = expires.parse().context("the expiry of the root metadata is no time")?;
    let expires = WallTime::from_unix_seconds(u64::try_from(expires.as_second()).unwrap_or(0));
    let epoch = root.pointer("/signed/x-hedgerow/online/epoch").and_then(serde_json::Value::as_u64);
    let epoch = epoch.context("the root metadata delegates no online key")?;
    Ok(Bounds { epoch, until: timestamp.map_or(WallTime::default(), |timestamp| timestamp.min(expires)) })
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
            Identity::open(&self.dir, &root(1, &json!({})), None).unwrap()
        }

        fn online(&self) -> OnlineKey {
            OnlineKey { org: "acme".parse().unwrap(), epoch: 1, key: self.signer.public_key() }
        }

        fn list(&self, epoch: u64, n: u64, keys: &[Digest]) -> Vec<u8> {
            let before = Some(Counter { epoch, n: n - 1 });
            let keys = keys.iter().copied().collect();
            self.signer.sign_revocations(&RevocationList::next(before, &"acme".parse().unwrap(), epoch, wall_time(), keys)).into_bytes()
        }
    }

    fn root(epoch: u64, extension: &serde_json::Value) -> Vec<u8> {
        let mut root = json!({"signed": {"expires": "2100-01-01T00:00:00Z", "x-hedgerow": extension}});
        root["signed"]["x-hedgerow"]["online"] = json!({ "epoch": epoch });
        root.to_string().into_bytes()
    }

    #[tokio::test]
    async fn a_revocation_list_holds_after_a_restart_and_no_older_one_takes_its_place() {
        let world = World::new();
        let (stolen, lost) = (Digest::sha256(b"stolen"), Digest::sha256(b"lost"));
        let is_revoked = |identity: &Identity, key: &Digest| identity.admission().is_revoked(&NodeId(key.as_bytes().try_into().unwrap()));
        let identity = world.open();
        identity.learn_revocations(&world.list(1, 2, &[stolen]), &world.online(), 0).await.unwrap();
        assert!(is_revoked(&identity, &stolen));

        let again = world.open();
        assert!(is_revoked(&again, &stolen));
        let older = again.learn_revocations(&world.list(1, 1, &[]), &world.online(), 0).await.unwrap_err();
        assert!(format!("{older:#}").contains("older_counter"), "{older:#}");
        assert!(is_revoked(&again, &stolen));
        let other = again.learn_revocations(&world.list(1, 2, &[]), &world.online(), 0).await.unwrap_err();
        assert!(format!("{other:#}").contains("other_content"), "{other:#}");
        again.learn_revocations(&world.list(1, 3, &[stolen, lost]), &world.online(), 0).await.unwrap();
        assert!(is_revoked(&again, &lost));

        // A seed from a backup does not know of the last one.
        let online = OnlineKey { epoch: 2, ..world.online() };
        assert_eq!(again.learn_revocations(&world.list(2, 1, &[stolen]), &online, 0).await.unwrap(), 1);
        let restarted = world.open();
        assert!(is_revoked(&restarted, &stolen) && is_revoked(&restarted, &lost));
        let online = OnlineKey { epoch: 3, ..world.online() };
        assert_eq!(restarted.learn_revocations(&world.list(3, 1, &[stolen]), &online, 3).await.unwrap(), 0);
        assert!(is_revoked(&restarted, &stolen) && !is_revoked(&restarted, &lost), "the root ended lists of before");
    }

    #[tokio::test]
    async fn the_floor_of_the_clock_holds_after_a_restart_until_a_root_raises_the_epoch() {
        let world = World::new();
        let identity = world.open();
        assert!(identity.time().trust.is_trusted());
        let later = wall_time().plus_seconds(10 * 86_400);
        identity.admission().clock().heard(later);
        assert_eq!(identity.time().trust, TimeTrust::Behind);
        identity.keep_time().await;
        assert_eq!(world.open().time().trust, TimeTrust::Trusted, "what was only said is not kept");

        identity.learn_root(&root(1, &json!({})), Some(later)).unwrap();
        identity.keep_time().await;
        let time = world.open().time();
        assert_eq!((time.now, time.trust), (later, TimeTrust::Behind));

        identity.admission().clock().heard(wall_time());
        identity.learn_root(&root(2, &json!({})), Some(wall_time().plus_seconds(86_400))).unwrap();
        identity.keep_time().await;
        assert!(identity.time().trust.is_trusted());
        assert!(Identity::open(&world.dir, &root(2, &json!({})), None).unwrap().time().trust.is_trusted());
    }

    #[test]
    fn the_authorities_of_a_new_root_are_trusted_and_a_list_that_cannot_be_read_changes_nothing() {
        let world = World::new();
        let both = Authorities::rotate(world.home.path()).unwrap();
        let identity = world.open();
        let trusted = || identity.admission().anchors().fingerprints();
        assert!(identity.learn_root(&root(1, &json!({"authorities": ["!"]})), None).is_err());
        assert_eq!(trusted(), both.anchors().unwrap().fingerprints()[..1]);
        let names_both = root(1, &json!({"authorities": [named(world.authorities.current()), named(both.next().unwrap())]}));
        identity.learn_root(&names_both, None).unwrap();
        assert_eq!(trusted(), both.anchors().unwrap().fingerprints());
        assert!(!identity.credentials.is_of_newest_authority(), "it renews early, also if it is restarted before");
        let again = Identity::open(&world.dir, &names_both, None).unwrap();
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
        identity.learn_root(&root(1, &json!({"authorities": [named(both.next().unwrap())]})), None).unwrap();
        assert!(changes.has_changed().unwrap(), "whoever has connections open is told");
        changes.mark_unchanged();
        assert!(admits().is_err());
        identity.learn_root(&root(1, &json!({"authorities": [named(both.current()), named(both.next().unwrap())]})), None).unwrap();
        assert_eq!(admits(), Ok(()));
        let later = wall_time().plus_seconds(3_600 + GRACE_SECONDS + 60);
        identity.admission().clock().bound(Bounds { epoch: 1, until: later });
        identity.admission().clock().heard(later);
        assert!(admits().is_err(), "its grace has ended");
    }
}
