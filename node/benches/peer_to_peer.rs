//! One peer to one peer: a blob from a device that holds it to one that wants it, verified and written, beside the same bytes
//! through plain quinn, from memory and thrown away. Every side is a process of its own, so that its processor time and
//! memory can be told apart; rounds alternate, and medians are printed.
//!
//! ```text
//! cargo bench -p node --bench peer_to_peer                     1 GiB, 5 rounds
//! HEDGEROW_BENCH_BYTES=268435456 HEDGEROW_BENCH_ROUNDS=3 …     other sizes and numbers
//! ```
//!
//! Not here: whole sites, with a seed and rates; that is the lab's.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use node::clock::TrustedClock;
use node::device::metrics::DeviceMetrics;
use node::device::seed_client::SeedClient;
use node::device::swarm::{self, News, SwarmHandle};
use node::store::blobs::BlobStore;
use node::transport::admission::{Admission, Anchors};
use node::transport::authorities::Authorities;
use node::transport::ca::certificate_request;
use node::transport::credentials::DeviceCredentials;
use node::transport::device_key::{DeviceKey, KeyType};
use node::transport::identity::DEVICE_DNS_NAME;
use node::transport::quic;
use protocol::agent::content::Proof;
use protocol::digest::Digest;
use protocol::hash_list::HashListBuilder;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TransportConfig, VarInt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

const ANY: &str = "127.0.0.1:0";
const LIFE_SECONDS: u64 = 86_400;
/// What both raw ends are given: more than a loopback ever has in flight.
const RAW_WINDOW_BYTES: u32 = 16 << 20;
const RAW_ALPN: &[u8] = b"raw";
const RAW_BLOCK_BYTES: usize = 1 << 20;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = || tokio::runtime::Runtime::new();
    match arguments[..] {
        ["serve", dir] => runtime()?.block_on(serve(Path::new(dir))),
        ["fetch", dir, address] => runtime()?.block_on(fetch(Path::new(dir), address.parse()?)),
        ["raw-serve", dir] => runtime()?.block_on(raw_serve(Path::new(dir))),
        ["raw-fetch", dir, address] => runtime()?.block_on(raw_fetch(Path::new(dir), address.parse()?)),
        [] => compare(),
        _ => bail!("this bench takes no arguments"),
    }
}

fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name} is a number")))
}

/// Seconds, processor seconds of both sides, and the receiver's largest resident memory in bytes.
type Figures = [f64; 4];

fn compare() -> anyhow::Result<()> {
    let bytes = number("HEDGEROW_BENCH_BYTES", 1 << 30)?;
    let rounds = number("HEDGEROW_BENCH_ROUNDS", 5)?;
    let dir = tempfile::tempdir()?;
    prepare(dir.path(), bytes)?;
    let (mut raw, mut own): (Vec<Figures>, Vec<Figures>) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        raw.push(measure(dir.path(), "raw-serve", "raw-fetch")?);
        own.push(measure(dir.path(), "serve", "fetch")?);
        eprintln!("round {}: raw {:.2?}, hedgerow {:.2?}", round + 1, raw[round], own[round]);
    }
    let (raw, own) = (medians(&raw), medians(&own));
    let gib = bytes as f64 / f64::from(1 << 30);
    let shown = |figures: Figures| {
        json!({
            "mib_per_second": (gib * 1024.0 / figures[0]).round(),
            "send_cpu_seconds_per_gib": figures[1] / gib,
            "receive_cpu_seconds_per_gib": figures[2] / gib,
            "receive_rss_bytes": figures[3],
        })
    };
    let result = json!({
        "bytes": bytes,
        "rounds": rounds,
        "quinn": shown(raw),
        "hedgerow": shown(own),
        "speed_ratio": raw[0] / own[0],
        "send_cpu_ratio": own[1] / raw[1],
    });
    println!("{result}");
    Ok(())
}

fn medians(rounds: &[Figures]) -> Figures {
    std::array::from_fn(|index| {
        let mut values: Vec<f64> = rounds.iter().map(|figures| figures[index]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

/// Two devices of one organisation; the first holds the blob, both hold its list.
fn prepare(dir: &Path, bytes: usize) -> anyhow::Result<()> {
    let authorities = Authorities::load_or_create(dir)?;
    fs::write(dir.join("ca"), authorities.current().certificate())?;
    for name in ["one", "two"] {
        fs::create_dir(dir.join(name))?;
        let key = DeviceKey::create(&dir.join(name).join("key"), KeyType::Ed25519)?;
        let request = certificate_request(&key)?;
        let issued = authorities.current().issue_leaf(&request, &"acme".parse()?, &name.parse()?, LIFE_SECONDS)?;
        fs::write(dir.join(name).join("leaf"), issued.pem)?;
    }
    let mut content = vec![0; bytes];
    getrandom::fill(&mut content)?;
    let mut builder = HashListBuilder::new();
    builder.update(&content);
    let blob = Digest::sha256(&content);
    let list = builder.finish(blob).context("a blob of one unit has no list")?.to_bytes();
    let list_digest = Digest::sha256(&list);
    for name in ["one", "two"] {
        BlobStore::open(&dir.join(name))?;
        fs::write(dir.join(name).join("blobs/sha256").join(list_digest.hex()), &list)?;
    }
    fs::write(dir.join("one/blobs/sha256").join(blob.hex()), content)?;
    fs::write(dir.join("what"), serde_json::to_vec(&json!({"blob": blob.to_string(), "size": bytes, "list": list_digest.to_string()}))?)?;
    Ok(())
}

/// One end of a measurement: it says a line when it is ready, and does the next thing when it is told a line.
struct Side {
    child: Child,
    tell: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Side {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (tell, says) = (child.stdin.take(), child.stdout.take().context("it has an output")?);
        Ok(Self { child, tell, says: BufReader::new(says) })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.says.read_line(&mut line)? > 0, "one side ended early");
        Ok(line.trim().to_owned())
    }

    fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.tell.as_mut().context("it has an input")?.write_all(b"go\n")?)
    }

    /// Processor time so far, in seconds: the kernel counts it in hundredths.
    fn cpu(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / 100.0)
    }

    fn rss_peak(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak of memory")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.tell = None;
        let _ = self.child.wait();
    }
}

fn measure(dir: &Path, serve: &str, fetch: &str) -> anyhow::Result<Figures> {
    let dir = dir.to_str().context("the folder's name is text")?;
    let mut server = Side::start(&[serve, dir])?;
    let address = server.line()?;
    let mut fetcher = Side::start(&[fetch, dir, &address])?;
    fetcher.line()?;
    let before = [server.cpu()?, fetcher.cpu()?];
    fetcher.go()?;
    let seconds: f64 = fetcher.line()?.parse()?;
    let figures = [seconds, server.cpu()? - before[0], fetcher.cpu()? - before[1], fetcher.rss_peak()?];
    let partial = Path::new(dir).join("two/partial");
    if fetch == "fetch" {
        let what: Value = serde_json::from_slice(&fs::read(Path::new(dir).join("what"))?)?;
        let blob: Digest = what["blob"].as_str().unwrap_or_default().parse()?;
        fs::remove_file(Path::new(dir).join("two/blobs/sha256").join(blob.hex()))?;
        fs::remove_dir_all(partial)?;
    }
    Ok(figures)
}

fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    println!("{text}");
    Ok(std::io::stdout().flush()?)
}

/// Waits for a line, or the end, of the input.
async fn told() -> anyhow::Result<bool> {
    let waiting = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    Ok(waiting.await?? > 0)
}

fn credentials(dir: &Path, name: &str) -> anyhow::Result<DeviceCredentials> {
    let anchors = Anchors::new(vec![fs::read(dir.join("ca"))?.into()])?;
    let clock = Arc::new(TrustedClock::of_seed());
    let key = DeviceKey::load(&dir.join(name).join("key"))?;
    DeviceCredentials::new(&fs::read_to_string(dir.join(name).join("leaf"))?, key, Arc::new(Admission::new(anchors, clock)))
}

/// A device's swarm, and the endpoint that it talks over.
struct Device {
    handle: SwarmHandle,
    news: mpsc::Receiver<News>,
    metrics: Arc<DeviceMetrics>,
    endpoint: Endpoint,
}

fn device(dir: &Path, name: &str) -> anyhow::Result<Device> {
    let credentials = Arc::new(credentials(dir, name)?);
    let endpoint = quic::open(&credentials, ANY.parse()?, &[])?;
    let metrics = Arc::new(DeviceMetrics::default());
    let partial_dir = dir.join(name).join("partial");
    fs::create_dir_all(&partial_dir)?;
    let parts = swarm::Parts {
        surroundings: watch::channel(protocol::site::Surroundings::default()).1,
        neighbours: watch::Sender::new(std::collections::BTreeMap::new()),
        others: mpsc::channel(1).0,
        recording: None,
        endpoint: endpoint.clone(),
        me: credentials.identity.node,
        seed: 1,
        credentials: credentials.clone(),
        client: Arc::new(SeedClient::new(credentials, "https://127.0.0.1:1")?),
        blobs: BlobStore::open(&dir.join(name))?,
        partial_dir,
        metrics: metrics.clone(),
    };
    let (handle, news, _running) = swarm::start(parts);
    Ok(Device { handle, news, metrics, endpoint })
}

/// Wants the blob, and waits until it is stored.
async fn want(dir: &Path, handle: &SwarmHandle, news: &mut mpsc::Receiver<News>) -> anyhow::Result<()> {
    let what: Value = serde_json::from_slice(&fs::read(dir.join("what"))?)?;
    let digest = |key: &str| what[key].as_str().unwrap_or_default().parse::<Digest>();
    let (blob, list) = (digest("blob")?, digest("list")?);
    handle.want(blob, what["size"].as_u64().context("a size")?, Proof::HashList(list)).await;
    match news.recv().await {
        Some(News::Stored(stored, _)) if stored == blob => Ok(()),
        other => bail!("the blob was not stored: {other:?}"),
    }
}

async fn serve(dir: &Path) -> anyhow::Result<()> {
    let Device { handle, mut news, endpoint, .. } = device(dir, "one")?;
    want(dir, &handle, &mut news).await?;
    say(endpoint.local_addr()?)?;
    while told().await? {}
    endpoint.close(0u8.into(), b"");
    Ok(())
}

async fn fetch(dir: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let Device { handle, mut news, metrics, endpoint } = device(dir, "two")?;
    handle.learned(vec![address], true).await;
    while metrics.peers() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    say("ready")?;
    told().await?;
    let started = Instant::now();
    want(dir, &handle, &mut news).await?;
    say(started.elapsed().as_secs_f64())?;
    while told().await? {}
    endpoint.close(0u8.into(), b"");
    Ok(())
}

fn raw_endpoint(dir: &Path, name: &str) -> anyhow::Result<Endpoint> {
    let credentials = credentials(dir, name)?;
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(RAW_WINDOW_BYTES)).receive_window(VarInt::from_u32(RAW_WINDOW_BYTES));
    transport.send_window(RAW_WINDOW_BYTES.into());
    let transport = Arc::new(transport);
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(credentials.peer_server(&[RAW_ALPN])?)?));
    server.transport_config(transport.clone());
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(credentials.peer_client(RAW_ALPN)?)?));
    client.transport_config(transport);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_recv_buffer_size(8 << 20)?;
    socket.set_send_buffer_size(8 << 20)?;
    socket.bind(&ANY.parse::<SocketAddr>()?.into())?;
    let runtime = quinn::default_runtime().context("a runtime")?;
    let mut endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket.into(), runtime)?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

async fn raw_serve(dir: &Path) -> anyhow::Result<()> {
    let endpoint = raw_endpoint(dir, "one")?;
    let what: Value = serde_json::from_slice(&fs::read(dir.join("what"))?)?;
    let mut left = usize::try_from(what["size"].as_u64().context("a size")?)?;
    let block = Bytes::from(vec![7; RAW_BLOCK_BYTES]);
    say(endpoint.local_addr()?)?;
    let connection = endpoint.accept().await.context("the endpoint closed")?.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    receive.read_exact(&mut [0]).await?;
    while left > 0 {
        let now = block.slice(..left.min(block.len()));
        left -= now.len();
        send.write_chunk(now).await?;
    }
    send.finish()?;
    while told().await? {}
    Ok(())
}

async fn raw_fetch(dir: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let endpoint = raw_endpoint(dir, "two")?;
    let connection = endpoint.connect(address, DEVICE_DNS_NAME)?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    say("ready")?;
    told().await?;
    let started = Instant::now();
    send.write_all(b"!").await?;
    while receive.read_chunk(RAW_BLOCK_BYTES, true).await?.is_some() {}
    say(started.elapsed().as_secs_f64())?;
    while told().await? {}
    Ok(())
}
