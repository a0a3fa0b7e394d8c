//! Handshakes between real endpoints: who is let in, with which reason the others are not, and what counts at once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use protocol::digest::Digest;
use protocol::identity::standing::GRACE_SECONDS;
use protocol::time::WallTime;
use protocol::time::floor::{Bounds, KeptFloor};
use quinn::Endpoint;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::admission::{Admission, Anchors};
use super::authorities::{Authorities, CertificatesByAuthority};
use super::ca::{CertificateAuthority, certificate_request};
use super::certificate::CurrentCertificate;
use super::credentials::DeviceCredentials;
use super::device_key::{DeviceKey, KeyType};
use super::identity::DEVICE_DNS_NAME;
use super::meter::Meter;
use super::{quic, tls};
use crate::clock::{TrustedClock, wall_time};
use crate::listener::serve_devices;

const LIFE_SECONDS: u64 = 3_600;
const DAY: u64 = 86_400;

struct World {
    dir: TempDir,
    authorities: Authorities,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authorities = Authorities::load_or_create(dir.path()).unwrap();
        Self { dir, authorities }
    }

    /// A device of `org` that trusts this world's authority, and believes that it is `later` seconds later than it is.
    fn device(&self, org: &str, name: &str, later: u64) -> DeviceCredentials {
        let anchors = Anchors::new(vec![self.authorities.current().certificate().clone()]).unwrap();
        device(self.dir.path(), self.authorities.current(), anchors, (org, name), later)
    }
}

fn device(dir: &Path, authority: &CertificateAuthority, anchors: Anchors, (org, name): (&str, &str), later: u64) -> DeviceCredentials {
    let kind = if name.ends_with("p256") { KeyType::P256 } else { KeyType::Ed25519 };
    let key = DeviceKey::create(&dir.join(format!("{org}-{name}.key")), kind).unwrap();
    let request = certificate_request(&key).unwrap();
    let issued = authority.issue_leaf(&request, &org.parse().unwrap(), &name.parse().unwrap(), LIFE_SECONDS).unwrap();
    let kept = (later > 0).then(|| KeptFloor { epoch: 1, floor: wall_time().plus_seconds(later) });
    let clock = Arc::new(TrustedClock::new(kept, Bounds { epoch: 1, until: WallTime::default() }));
    DeviceCredentials::new(&issued.pem, key, Arc::new(Admission::new(anchors, clock))).unwrap()
}

fn endpoint(credentials: &DeviceCredentials) -> Endpoint {
    quic::open(credentials, "127.0.0.1:0".parse().unwrap(), &[]).unwrap()
}

/// Lets one device dial another and exchange a byte: what each end says if that fails.
async fn meet(dialling: &DeviceCredentials, listening: &DeviceCredentials) -> [Result<(), String>; 2] {
    let (from, to) = (endpoint(dialling), endpoint(listening));
    let address = to.local_addr().unwrap();
    let dial = async {
        let connection = from.connect(address, DEVICE_DNS_NAME)?.await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(b"?").await?;
        receive.read_exact(&mut [0]).await?;
        anyhow::Ok(())
    };
    let listen = async {
        let connection = to.accept().await.unwrap().await?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        receive.read_exact(&mut [0]).await?;
        send.write_all(b"!").await?;
        connection.closed().await;
        anyhow::Ok(())
    };
    let dial = async {
        let dialled = dial.await;
        from.close(0u8.into(), b"");
        dialled
    };
    let both = async { tokio::join!(dial, listen) };
    let (dialled, listened) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("a handshake ends");
    [dialled, listened].map(|end| end.map_err(|error| format!("{error:#}")))
}

#[track_caller]
fn both_say(ends: &[Result<(), String>; 2], reason: &str) {
    for end in ends {
        let said = end.as_ref().expect_err("the handshake was refused");
        assert!(said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn devices_of_one_organisation_meet_whatever_kinds_of_key_they_have() {
    let world = World::new();
    let [one, two] = ["one", "two-p256"].map(|name| world.device("acme", name, 0));
    assert_eq!(meet(&one, &two).await, [Ok(()), Ok(())]);
    assert_eq!(meet(&two, &one).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn an_expired_certificate_is_let_in_in_its_grace_and_not_after() {
    let world = World::new();
    let expired = world.device("acme", "expired", 0);
    let in_grace = world.device("acme", "in-grace", 80 * DAY);
    assert_eq!(meet(&expired, &in_grace).await, [Ok(()), Ok(())]);
    assert_eq!(meet(&in_grace, &expired).await, [Ok(()), Ok(())]);
    let after = world.device("acme", "after", GRACE_SECONDS + DAY);
    both_say(&meet(&expired, &after).await, "xpired");
    both_say(&meet(&after, &expired).await, "xpired");
}

#[tokio::test]
async fn a_connection_over_https_ends_when_the_authority_of_its_device_is_removed() {
    let (world, other) = (World::new(), World::new());
    let [dialling, listening] = ["one", "two"].map(|name| world.device("acme", name, 0));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (admission, server) = (listening.admission().clone(), Arc::new(listening.peer_server(&[b"http/1.1"]).unwrap()));
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(serve_devices(socket, server, admission.clone(), Meter::new(None), axum::Router::new(), stopped));
    let connector = TlsConnector::from(Arc::new(dialling.peer_client(b"http/1.1").unwrap()));
    let socket = TcpStream::connect(address).await.unwrap();
    let mut connection = connector.connect(DEVICE_DNS_NAME.try_into().unwrap(), socket).await.unwrap();
    let [own, foreign] = [&world, &other].map(|world| world.authorities.current().certificate().clone());
    admission.trust(Anchors::new(vec![own, foreign.clone()]).unwrap());
    connection.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404", "another authority beside its own changes nothing");

    admission.trust(Anchors::new(vec![foreign]).unwrap());
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), connection.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it was closed");
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_whoever_dials_or_is_dialled_and_both_know_why() {
    let world = World::new();
    let [stolen, own] = ["stolen", "own"].map(|name| world.device("acme", name, 0));
    assert_eq!(meet(&stolen, &own).await, [Ok(()), Ok(())]);
    own.admission().revoke([Digest::Sha256(stolen.identity.node.0)]);
    both_say(&meet(&stolen, &own).await, "Revoked");
    both_say(&meet(&own, &stolen).await, "Revoked");
    own.admission().revoke([]);
    assert_eq!(meet(&own, &stolen).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn a_device_of_another_authority_or_organisation_is_refused() {
    let (world, other) = (World::new(), World::new());
    let own = world.device("acme", "own", 0);
    both_say(&meet(&other.device("acme", "own", 0), &own).await, "nknown");
    let [dialled, listened] = meet(&world.device("evil", "own", 0), &own).await;
    assert!(dialled.is_err() && listened.is_err());
}

#[tokio::test]
async fn devices_of_two_authorities_meet_while_both_are_trusted_and_a_new_certificate_counts_at_once() {
    let world = World::new();
    let both = Authorities::rotate(world.dir.path()).unwrap();
    let next = both.next().unwrap();
    let old = world.device("acme", "old", 0);
    let new = device(world.dir.path(), next, both.anchors().unwrap(), ("acme", "new"), 0);
    both_say(&meet(&new, &old).await, "nknown");
    old.admission().trust(both.anchors().unwrap());
    assert_eq!(meet(&new, &old).await, [Ok(()), Ok(())]);

    let renew = |authority: &CertificateAuthority, device: &DeviceCredentials| {
        let request = certificate_request(device.key()).unwrap();
        authority.issue_leaf(&request, &"acme".parse().unwrap(), &device.identity.device, LIFE_SECONDS).unwrap().pem
    };
    assert!(old.replace(&renew(next, &new)).is_err(), "a certificate of another device");
    assert!(old.replace(&renew(World::new().authorities.current(), &old)).is_err(), "a certificate of a foreign authority");
    old.replace(&renew(next, &old)).unwrap();
    new.admission().trust(Anchors::new(vec![next.certificate().clone()]).unwrap());
    assert_eq!(meet(&old, &new).await, [Ok(()), Ok(())], "the old authority is not needed any more");
}

/// A TLS client that knows no more than `config` says, towards a seed: the server's certificate, and whether the session was
/// resumed.
async fn visit(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> (Vec<u8>, Option<rustls::HandshakeKind>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let socket = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(config);
    let mut stream = connector.connect("127.0.0.1".try_into().unwrap(), socket).await.unwrap();
    stream.write_all(b"?").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    let session = stream.get_ref().1;
    (session.peer_certificates().unwrap()[0].to_vec(), session.handshake_kind())
}

/// A seed with these authorities that answers every connection with a byte.
async fn seed(authorities: &Authorities) -> (SocketAddr, Vec<Vec<u8>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let issue = |authority: &CertificateAuthority| authority.issue_server(&["127.0.0.1".to_owned()]).unwrap();
    let issued: Vec<_> = authorities.all().map(issue).collect();
    let leaves = issued.iter().map(|certificate| certificate.chain[0].to_vec()).collect();
    let shown = issued.into_iter().map(|certificate| Arc::new(CurrentCertificate::new(certificate).unwrap()));
    let shown = CertificatesByAuthority::new(authorities.all().zip(shown)).unwrap();
    let clock = Arc::new(TrustedClock::of_seed());
    let admission = Arc::new(Admission::new(authorities.anchors().unwrap(), clock));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls::device_listener(Arc::new(shown), admission).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut stream = acceptor.accept(socket).await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            stream.write_all(b"!").await.unwrap();
        }
    });
    (address, leaves)
}

#[tokio::test]
async fn each_device_sees_a_certificate_of_the_newest_authority_that_it_trusts() {
    let world = World::new();
    let both = Authorities::rotate(world.dir.path()).unwrap();
    let (address, leaves) = seed(&both).await;
    let away = world.device("acme", "away", 0);
    assert_eq!(visit(address, Arc::new(away.seed_client().unwrap())).await.0, leaves[0]);
    away.admission().trust(both.anchors().unwrap());
    assert_eq!(visit(address, Arc::new(away.seed_client().unwrap())).await.0, leaves[1]);
}

#[tokio::test]
async fn no_session_is_ever_resumed_even_if_the_client_would_like_to() {
    let world = World::new();
    let (address, _) = seed(&world.authorities).await;
    let mut config = world.device("acme", "own", 0).seed_client().unwrap();
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..3 {
        assert_eq!(visit(address, config.clone()).await.1, Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_device_whose_clock_is_behind_still_finds_its_seed() {
    let world = World::new();
    let (address, _) = seed(&world.authorities).await;
    // Its floor is that of the build, long before the seed's certificate begins, and the clock says less than that.
    let lost = world.device("acme", "lost", 0);
    let admission = Admission::new(world.authorities.anchors().unwrap(), Arc::new(TrustedClock::lost()));
    let request = certificate_request(lost.key()).unwrap();
    let issued = world.authorities.current().issue_leaf(&request, &lost.identity.org, &lost.identity.device, LIFE_SECONDS).unwrap();
    let lost = DeviceCredentials::new(&issued.pem, lost.key().clone(), Arc::new(admission)).unwrap();
    assert!(!lost.admission().clock().read().trust.is_trusted());
    visit(address, Arc::new(lost.seed_client().unwrap())).await;
}

#[tokio::test]
async fn a_device_whose_floor_is_years_ahead_still_finds_its_seed() {
    let world = World::new();
    let (address, _) = seed(&world.authorities).await;
    let ahead = world.device("acme", "ahead", 3 * 365 * DAY);
    assert!(ahead.admission().clock().read().now > wall_time().plus_seconds(2 * 365 * DAY));
    visit(address, Arc::new(ahead.seed_client().unwrap())).await;
}
