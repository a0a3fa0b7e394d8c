//! Two devices in one process: bytes over QUIC and HTTPS, and peers that mean harm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::agent::content::Proof;
use protocol::digest::Digest;
use protocol::hash_list::{HashList, HashListBuilder};
use protocol::wire::VERSION;
use quinn::{Connection, Endpoint};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::serve::Reply;
use super::*;
use crate::clock::TrustedClock;
use crate::listener;
use crate::transport::admission::Anchors;
use crate::transport::authorities::Authorities;
use crate::transport::ca::certificate_request;
use crate::transport::device_key::{DeviceKey, KeyType};
use crate::transport::identity::DEVICE_DNS_NAME;
use crate::transport::meter::Meter;
use crate::transport::quic;

const ANY: &str = "127.0.0.1:0";

struct World {
    dir: TempDir,
    authorities: Authorities,
}

struct Device {
    handle: SwarmHandle,
    news: mpsc::Receiver<News>,
    endpoint: Endpoint,
    metrics: Arc<DeviceMetrics>,
    blobs: BlobStore,
    /// Where HTTPS is served; dropping the sender would stop it.
    tcp: (SocketAddr, watch::Sender<bool>),
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authorities = Authorities::load_or_create(dir.path()).unwrap();
        Self { dir, authorities }
    }

    fn credentials(&self, org: &str, name: &str) -> DeviceCredentials {
        let anchors = Anchors::new(vec![self.authorities.current().certificate().clone()]).unwrap();
        let key = DeviceKey::create(&self.dir.path().join(format!("{org}-{name}.key")), KeyType::Ed25519).unwrap();
        let request = certificate_request(&key).unwrap();
        let issued = self.authorities.current().issue_leaf(&request, &org.parse().unwrap(), &name.parse().unwrap(), 3600).unwrap();
        let clock = Arc::new(TrustedClock::of_seed());
        DeviceCredentials::new(&issued.pem, key, Arc::new(Admission::new(anchors, clock))).unwrap()
    }

    async fn device(&self, name: &str) -> Device {
        let credentials = Arc::new(self.credentials("acme", name));
        let endpoint = quic::open(&credentials, ANY.parse().unwrap(), &[]).unwrap();
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(dir.join("partial")).unwrap();
        let (blobs, metrics) = (BlobStore::open(&dir).unwrap(), Arc::new(DeviceMetrics::default()));
        let parts = Parts {
            surroundings: watch::channel(Surroundings::default()).1,
            neighbours: watch::Sender::new(BTreeMap::new()),
            others: mpsc::channel(1).0,
            recording: None,
            endpoint: endpoint.clone(),
            me: credentials.identity.node,
            seed: 1,
            credentials: credentials.clone(),
            client: Arc::new(SeedClient::new(credentials.clone(), "https://127.0.0.1:1").unwrap()),
            blobs: blobs.clone(),
            partial_dir: dir.join("partial"),
            metrics: metrics.clone(),
        };
        let (handle, news, _) = start(parts);
        let tcp = TcpListener::bind(ANY).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let address = tcp.local_addr().unwrap();
        let tls = Arc::new(credentials.peer_server(&[b"http/1.1"]).unwrap());
        tokio::spawn(listener::serve_devices(tcp, tls, credentials.admission().clone(), Meter::new(None), handle.router(), stopped));
        Device { handle, news, endpoint, metrics, blobs, tcp: (address, stop) }
    }
}

impl Device {
    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// Puts a file into the store.
    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        std::fs::write(self.blobs.path(&digest), bytes).unwrap();
        digest
    }

    async fn want(&mut self, blob: Digest, size: usize, list: &HashList) {
        let list = self.put(&list.to_bytes());
        self.handle.want(blob, size as u64, Proof::HashList(list)).await;
        let stored = tokio::time::timeout(Duration::from_secs(60), self.news.recv()).await.expect("the blob is stored");
        assert!(matches!(stored, Some(News::Stored(whole, _)) if whole == blob), "{stored:?}");
    }

    async fn peers(&self, count: usize) {
        let connected = async {
            while self.metrics.peers() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), connected).await.expect("the peers are connected");
    }
}

fn content(size: usize) -> (Vec<u8>, Digest, HashList) {
    let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8 ^ (n >> 16) as u8).collect();
    let mut builder = HashListBuilder::new();
    builder.update(&bytes);
    let blob = Digest::sha256(&bytes);
    (bytes, blob, builder.finish(blob).unwrap())
}

/// Connects as a peer that greets as it should and then does what it likes.
async fn greeted(credentials: &DeviceCredentials, to: SocketAddr) -> (Endpoint, Connection, quinn::SendStream) {
    let endpoint = quic::open(credentials, ANY.parse().unwrap(), &[]).unwrap();
    let connection = endpoint.connect(to, DEVICE_DNS_NAME).unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    quic::write_frame(&mut send, &Message::Hello { version: VERSION, port: 9 }).await.unwrap();
    assert!(matches!(quic::read_frame(&mut receive).await.unwrap(), Message::Hello { .. }));
    tokio::spawn(async move { while quic::read_frame::<Message>(&mut receive).await.is_ok() {} });
    (endpoint, connection, send)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_comes_whole_over_quic_and_the_sender_is_known() {
    let world = World::new();
    let (bytes, blob, list) = content((5 << 20) + 77);
    let [mut one, mut two] = [world.device("one").await, world.device("two").await];
    one.put(&bytes);
    one.want(blob, bytes.len(), &list).await;
    two.handle.learned(vec![one.address()], true).await;
    two.peers(1).await;
    let status = two.handle.status().await.unwrap();
    assert_eq!((status.peers[0].device.as_str(), status.peers[0].transport.as_str()), ("one", "quic"));
    two.want(blob, bytes.len(), &list).await;
    assert!(std::fs::read(two.blobs.path(&blob)).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_udp_comes_through_blobs_come_over_https_both_ways() {
    let world = World::new();
    let [mut one, mut two] = [world.device("one").await, world.device("two").await];
    let (bytes, blob, list) = content((3 << 20) + 5);
    one.put(&bytes);
    one.want(blob, bytes.len(), &list).await;
    // Nothing listens on the UDP port with this number.
    two.handle.learned(vec![one.tcp.0], true).await;
    two.peers(1).await;
    assert_eq!(two.handle.status().await.unwrap().peers[0].transport, "https");
    two.want(blob, bytes.len(), &list).await;
    assert!(std::fs::read(two.blobs.path(&blob)).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_https_too_nobody_of_another_organisation_is_told_anything() {
    let world = World::new();
    let mut one = world.device("one").await;
    let (bytes, blob, list) = content(200_000);
    one.put(&bytes);
    one.want(blob, bytes.len(), &list).await;
    let ask = |credentials: DeviceCredentials| {
        let address = one.tcp.0;
        async move {
            let client = reqwest::Client::builder()
                .tls_backend_preconfigured(credentials.peer_client(b"http/1.1").unwrap())
                .resolve(DEVICE_DNS_NAME, address)
                .no_proxy()
                .build()
                .unwrap();
            client.get(format!("https://{DEVICE_DNS_NAME}:{}/swarm/v1/blobs/{blob}", address.port())).send().await
        }
    };
    assert!(ask(world.credentials("evil", "stranger")).await.is_err(), "the handshake is refused");
    // One of the organisation that has not greeted is told nothing either.
    assert_eq!(ask(world.credentials("acme", "three")).await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_may_open_only_so_many_streams_and_what_it_sends_unasked_is_not_kept() {
    let world = World::new();
    let one = world.device("one").await;
    let (_endpoint, connection, _control) = greeted(&world.credentials("acme", "hostile"), one.address()).await;
    one.peers(1).await;
    let mut streams = Vec::new();
    // Streams without a request stay open for a while; no more of them than allowed.
    while let std::task::Poll::Ready(stream) = futures_util::poll!(Box::pin(connection.open_bi())) {
        let (mut send, receive) = stream.unwrap();
        send.write_all(b"\0").await.unwrap();
        streams.push((send, receive));
        assert!(streams.len() < 100);
    }
    assert!(streams.len() > 16, "{}", streams.len());
    // What all of them together may send unread is the connection's window.
    let mut sent = 0;
    for (send, _) in &mut streams {
        while let std::task::Poll::Ready(written) = futures_util::poll!(Box::pin(send.write(&[0; 65_536]))) {
            sent += written.unwrap_or(0);
            tokio::task::yield_now().await;
            assert!(sent <= 1 << 20, "more was taken than any window of a peer that brings nothing");
        }
    }
}

#[tokio::test]
async fn who_does_not_read_what_it_asked_for_loses_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let bytes = vec![1; 1 << 20];
    let blob = Digest::sha256(&bytes);
    std::fs::write(store.path(&blob), &bytes).unwrap();
    let mut content = Content::new(store, dir.path().to_owned());
    content.insert(blob, Held::Whole { geometry: Geometry::listed(1 << 20) });
    let (commands, mut told) = mpsc::channel(4);
    let (decide, decision) = oneshot::channel();
    let (reply, answer) = Reply::http();
    let get = protocol::wire::Get { blob, first_unit: 0, units: 16 };
    let ask = Ask { peer: NodeId([1; 32]), get, reply };
    serve::start(AskId(7), ask, decision, content.reader(&blob), Buffers::default(), |_| Duration::from_millis(200), commands);
    decide.send(Decision::Serve).unwrap();
    let (_, _unread) = answer.await.unwrap();
    assert!(matches!(told.recv().await, Some(Command::Served { ask: AskId(7), too_slow: true })));
}
