//! Keeps the certificates of both listeners current: the operator's files are read anew when they change, what the seed's own
//! CA signed is signed anew in time.
//!
//! Not here: what is shown in a handshake; see [`crate::transport::certificate`].

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use protocol::identity::standing::Validity;
use protocol::time::WallTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::clock::wall_time;
use crate::config::seed::{SeedConfig, TlsFiles};
use crate::transport::authorities::Authorities;
use crate::transport::ca::{CertificateAuthority, ServerCertificate};
use crate::transport::certificate::CurrentCertificate;

/// How often files are looked at: what was renewed is shown seconds later, and looking costs two system calls.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A certificate that somebody else renews is warned about when it has less than this left: two weeks are time to act.
const WARN_SECONDS: u64 = 14 * DAY_SECONDS;
/// Warnings and errors that still hold are repeated this often.
const REPEAT_SECONDS: u64 = DAY_SECONDS;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The certificates of a running seed.
#[derive(Debug)]
pub struct Certificates {
    /// What registry and API show; none if they speak plain HTTP.
    pub registry: Option<Arc<CurrentCertificate>>,
    /// What devices see: one of each authority, the one that signs first.
    pub device: Vec<Arc<CurrentCertificate>>,
    files: Option<WatchedFiles>,
    registry_hosts: Vec<String>,
    device_hosts: Vec<String>,
    warned: WallTime,
}

impl Certificates {
    /// Reads the operator's files, or lets the seed's CA sign.
    ///
    /// # Errors
    /// When the files do not hold a certificate and its key, or a host cannot stand in one.
    pub fn open(config: &SeedConfig, authorities: &Authorities) -> anyhow::Result<Self> {
        let registry_hosts = config.certificate_hosts(config.listen);
        let device_hosts = config.certificate_hosts(config.device_listen);
        let files = config.tls_files.clone().map(WatchedFiles::new);
        let registry = match &config.tls_files {
            Some(files) => Some(ServerCertificate::read(files)?),
            None if config.uses_own_ca() => Some(authorities.current().issue_server(&registry_hosts)?),
            None => None,
        };
        let issue = |authority: &CertificateAuthority| Ok(Arc::new(CurrentCertificate::new(authority.issue_server(&device_hosts)?)?));
        Ok(Self {
            registry: registry.map(CurrentCertificate::new).transpose()?.map(Arc::new),
            device: authorities.all().map(issue).collect::<anyhow::Result<_>>()?,
            files,
            registry_hosts,
            device_hosts,
            warned: WallTime::from_unix_seconds(0),
        })
    }

    /// Keeps both current, for ever. SIGHUP makes it look at the files at once; without files the signal keeps its meaning.
    ///
    /// # Errors
    /// When SIGHUP cannot be waited for.
    pub async fn keep_current(mut self, authorities: &Authorities) -> anyhow::Result<()> {
        let mut hangup = match &self.files {
            Some(_) => Some(signal(SignalKind::hangup()).context("SIGHUP cannot be waited for")?),
            None => None,
        };
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = interval.tick() => false,
                () = received(&mut hangup) => true,
            };
            self.look(asked, wall_time(), authorities);
        }
    }

    fn look(&mut self, asked: bool, now: WallTime, authorities: &Authorities) {
        if let (Some(files), Some(registry)) = (&mut self.files, &self.registry) {
            files.refresh(asked, registry);
            self.warn(now);
        } else if let Some(registry) = &self.registry {
            reissue(registry, &self.registry_hosts, now, authorities.current());
        }
        for (shown, authority) in self.device.iter().zip(authorities.all()) {
            reissue(shown, &self.device_hosts, now, authority);
        }
    }

    /// Says once a day what clients are going to stumble over.
    fn warn(&mut self, now: WallTime) {
        let (Some(files), Some(registry)) = (&self.files, &self.registry) else { return };
        if now < self.warned.plus_seconds(REPEAT_SECONDS) {
            return;
        }
        let file = files.files.certificate.display();
        let until = registry.validity().until;
        if until <= now.plus_seconds(WARN_SECONDS) {
            self.warned = now;
            let days = until.as_unix_seconds().saturating_sub(now.as_unix_seconds()) / DAY_SECONDS;
            tracing::warn!(event = "certificate_expires", %file, days, "the TLS certificate has expired or soon will; renew it");
        }
        if let Some(host) = self.registry_hosts.first().filter(|host| !registry.names(host)) {
            self.warned = now;
            tracing::warn!(event = "certificate_names_other", %file, host, "the TLS certificate does not name this seed; clients will refuse it");
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Signs anew what has lived for two thirds of its time, or begins in the future: the clock was wrong when it was signed.
fn reissue(shown: &CurrentCertificate, hosts: &[String], now: WallTime, authority: &CertificateAuthority) {
    let Validity { from, until } = shown.validity();
    let lifetime = until.as_unix_seconds().saturating_sub(from.as_unix_seconds());
    if from <= now && now < from.plus_seconds(lifetime / 3 * 2) {
        return;
    }
    match authority.issue_server(hosts).and_then(|new| shown.replace(new)) {
        Ok(()) => tracing::info!(event = "certificate_renewed", ?hosts, "the seed's CA signed a new server certificate"),
        Err(error) => {
            tracing::error!(%error, ?hosts, "no new server certificate can be signed; restart the seed before the old one expires");
        }
    }
}

/// By what a file is known to have changed: its device, inode, size and time of change, to the nanosecond.
type Stamp = (u64, u64, u64, i64, i64);

#[derive(Debug)]
struct WatchedFiles {
    files: TlsFiles,
    /// The files as last read without an error, or as last complained about.
    settled: [Option<Stamp>; 2],
    /// The files when reading them failed for the first time.
    failed: Option<[Option<Stamp>; 2]>,
}

impl WatchedFiles {
    /// Watches the files from before they are read for the first time.
    fn new(files: TlsFiles) -> Self {
        let settled = stamps(&files);
        Self { files, settled, failed: None }
    }

    /// Shows what changed. Files are written one after the other: that they do not fit together is complained about when they
    /// still do not at the next look, or at once if somebody `asked` for it.
    fn refresh(&mut self, asked: bool, shown: &CurrentCertificate) {
        let found = stamps(&self.files);
        if found == self.settled && !asked {
            return;
        }
        match ServerCertificate::read(&self.files).and_then(|new| shown.replace(new)) {
            Ok(()) => {
                (self.settled, self.failed) = (found, None);
                let until = shown.validity().until.as_unix_seconds();
                tracing::info!(event = "certificate_loaded", file = %self.files.certificate.display(), until, "a new TLS certificate is shown");
            }
            Err(error) if asked || self.failed == Some(found) => {
                (self.settled, self.failed) = (found, None);
                tracing::error!(
                    event = "certificate_refused",
                    error = format!("{error:#}"),
                    "the new TLS files are refused, and the certificate before them is still shown; mend them, and they are read again"
                );
            }
            Err(_) => self.failed = Some(found),
        }
    }
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    let stamp = |found: Metadata| (found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec());
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).ok().map(stamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::path::Path;

    /// Writes a certificate for `host`, and its key, in the way in which files are replaced in the field.
    fn issue(dir: &Path, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        put(dir, "tls.pem", &certificate);
        put(dir, "tls.key", &key.serialize_pem());
        (certificate, key.serialize_pem())
    }

    fn put(dir: &Path, name: &str, text: &str) {
        std::fs::write(dir.join("new"), text).unwrap();
        std::fs::rename(dir.join("new"), dir.join(name)).unwrap();
    }

    fn watched(dir: &Path) -> (WatchedFiles, CurrentCertificate) {
        issue(dir, "one.example");
        let files = TlsFiles { certificate: dir.join("tls.pem"), key: dir.join("tls.key") };
        let shown = CurrentCertificate::new(ServerCertificate::read(&files).unwrap()).unwrap();
        (WatchedFiles::new(files), shown)
    }

    #[test]
    fn files_that_changed_are_shown_and_those_that_do_not_fit_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, shown) = watched(dir.path());
        issue(dir.path(), "two.example");
        files.refresh(false, &shown);
        assert!(shown.names("two.example"));

        put(dir.path(), "tls.key", &KeyPair::generate().unwrap().serialize_pem());
        files.refresh(false, &shown);
        assert!(files.failed.is_some(), "the certificate may be written any moment");
        files.refresh(false, &shown);
        assert!(files.failed.is_none() && shown.names("two.example"), "it was complained about, once");

        issue(dir.path(), "three.example");
        files.refresh(false, &shown);
        assert!(shown.names("three.example"));
    }

    #[test]
    fn what_the_own_ca_signed_is_signed_anew_after_two_thirds_of_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::create(dir.path(), "ca").unwrap();
        let hosts = ["seed.example".to_owned()];
        let shown = CurrentCertificate::new(authority.issue_server(&hosts).unwrap()).unwrap();
        let Validity { from, until } = shown.validity();
        let lifetime = until.as_unix_seconds() - from.as_unix_seconds();
        let changed = |at: u64| {
            let new = ["renewed.example".to_owned()];
            reissue(&shown, &new, from.plus_seconds(at), &authority);
            shown.names("renewed.example")
        };
        assert!(!changed(lifetime * 6 / 10));
        assert!(changed(lifetime * 7 / 10));
    }

    #[test]
    fn what_was_signed_under_a_clock_that_was_ahead_is_signed_anew_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::create(dir.path(), "ca").unwrap();
        let shown = CurrentCertificate::new(authority.issue_server(&["seed.example".to_owned()]).unwrap()).unwrap();
        let before = WallTime::from_unix_seconds(shown.validity().from.as_unix_seconds() - 1);
        reissue(&shown, &["right.example".to_owned()], before, &authority);
        assert!(shown.names("right.example"));
    }
}
