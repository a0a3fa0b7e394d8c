//! `cargo tools bench polls`: what polls of devices cost a seed, on kept connections and with a handshake each, and what
//! their reports do.
//!
//! One device's certificate stands for all: a seed does the same work for each. What is counted is the processor time of the
//! seed alone, so that the client may share the machine.
//!
//! Not here: polls that bring something new.

mod reports;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::client::{Connection, Endpoint, HOST};
use super::figures::{float, median};
use super::load::block_on;
use super::process::Process;
use crate::cargo::{Workspace, stdout_of};
use crate::shipped::HEDGEROW;
use reports::Reporter;

/// Connections at the same time: enough that the seed always has work.
const PARALLEL: usize = 32;
/// The fleet that the last figure is for, and how often each of its devices polls.
const DEVICES: f64 = 1_000_000.0;
const INTERVAL_SECONDS: f64 = 300.0;
/// The reports that the figure for them is for: those of a thousand devices, one a minute.
const REPORTS_A_SECOND: f64 = 1_000.0 / 60.0;
const ORG: &str = "bench";

/// Measure the seed's polls: handshakes and kept connections, by the second and core
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// How often each case is measured; medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How long each measurement lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    seconds: u64,
    /// Measure this program [default: the workspace's, built as it is shipped]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Whether a connection is used once.
#[derive(Clone, Copy)]
enum Way {
    Kept,
    Handshake,
}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let hedgerow = args.binary.clone().map_or_else(|| HEDGEROW.build(workspace), Ok)?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&workspace.target)?;
    let (process, endpoint) = set_up(&hedgerow, dir.path())?;
    let (mut kept, mut handshakes, mut reports) = (Vec::new(), Vec::new(), Vec::new());
    let (time, mut reporter) = (Duration::from_secs(args.seconds), Reporter::open(&dir.path().join(DEVICE))?);
    for _ in 0..args.runs {
        for (way, figures) in [(Way::Kept, &mut kept), (Way::Handshake, &mut handshakes)] {
            figures.push(per_core(&process, &endpoint, way, time)?);
        }
        reports.push(reporter.cost(&process, &endpoint, time)?);
    }
    process.stop()?;
    let (kept, handshakes, report) = (median(&kept), median(&handshakes), median(&reports));
    let reporting = REPORTS_A_SECOND * report;
    let cores = |per_core: f64| DEVICES / INTERVAL_SECONDS / per_core;
    if args.json {
        println!(
            "{}",
            json!({"kept_per_core_second": kept, "handshakes_per_core_second": handshakes, "million_kept_cores": cores(kept), "million_handshake_cores": cores(handshakes), "report_microseconds": report * 1e6, "thousand_reporting_cores": reporting})
        );
    } else {
        println!("unchanged polls a second and core, kept connections   {kept:.0}");
        println!("the same, each with a full mutual TLS handshake        {handshakes:.0}");
        println!("a million devices, every {INTERVAL_SECONDS} s: {:.2} cores kept, {:.2} with handshakes", cores(kept), cores(handshakes));
        println!("a report {:.0} us; those of a thousand devices, every 60 s: {:.2} % of a core", report * 1e6, reporting * 100.0);
    }
    Ok(())
}

/// A seed that runs, and its device listener as an enrolled device sees it.
fn set_up(hedgerow: &Path, dir: &Path) -> Result<(Process, Endpoint)> {
    let (data, keys, device) = (dir.join("data"), dir.join("keys"), dir.join(DEVICE));
    let mut init = Command::new(hedgerow);
    init.args(["seed", "init", "--json", "--org", ORG, "--host", HOST, "--listen", "127.0.0.1:0", "--device-listen", "127.0.0.1:0"]);
    let made: Value = serde_json::from_str(&stdout_of(init.arg("--data").arg(&data).arg("--keys").arg(&keys))?)?;
    let text = |key: &str| made.get(key).and_then(Value::as_str).with_context(|| format!("`seed init` tells no {key}"));
    let mut run = Command::new(hedgerow);
    run.env("HEDGEROW_LOG", "error").args(["seed", "run", "--json", "--data"]).arg(&data).stdout(Stdio::piped());
    let mut process = Process::start("hedgerow", &mut run)?;
    let mut line = String::new();
    let output = process.child().stdout.take().context("hedgerow has no output")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
    process.check()?;
    let mut token = Command::new(hedgerow);
    token.args(["fleet", "token", "--json", "--org", ORG, "--url", text("url")?, "--access-key", text("access_key")?, "--keys"]).arg(&keys);
    let token: Value = serde_json::from_str(&stdout_of(&mut token)?)?;
    let token = token.get("token").and_then(Value::as_str).context("`fleet token` tells no token")?;
    stdout_of(Command::new(hedgerow).args(["device", "enroll", "--json", "--token", token, "--data"]).arg(&device))?;
    let port: u16 = text("device_url")?.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).context("`seed init` tells no port")?;
    let tls = Some(connector(&device)?);
    Ok((process, Endpoint { address: SocketAddr::from(([127, 0, 0, 1], port)), tls, authorization: None }))
}

fn connector(device: &Path) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(device.join("ca.pem"))?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = CertificateDer::from_pem_file(device.join("device.pem"))?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(device.join("device.key"))?)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Unchanged polls for each second of the seed's processor time.
fn per_core(process: &Process, endpoint: &Endpoint, way: Way, time: Duration) -> Result<f64> {
    block_on(async {
        let mut first = endpoint.connect().await?;
        first.send(endpoint.head("GET", PATH, "").as_bytes()).await?;
        let answer = first.answer().await?.expect(200, "a poll")?;
        let etag = answer.etag.context("a poll was answered without an ETag")?;
        let request = Arc::new(endpoint.head("GET", PATH, &format!("if-none-match: {etag}\r\n")));
        let (polls, before, end) = (Arc::new(AtomicU64::new(0)), process.cpu_seconds()?, Instant::now() + time);
        let mut clients = JoinSet::new();
        for _ in 0..PARALLEL {
            let (endpoint, request, polls) = (endpoint.clone(), request.clone(), polls.clone());
            clients.spawn(async move {
                let mut kept = None;
                while Instant::now() < end {
                    let mut connection = match kept.take() {
                        Some(connection) => connection,
                        None => endpoint.connect().await?,
                    };
                    poll(&mut connection, &request).await?;
                    polls.fetch_add(1, Ordering::Relaxed);
                    if matches!(way, Way::Kept) {
                        kept = Some(connection);
                    }
                }
                anyhow::Ok(())
            });
        }
        while let Some(client) = clients.join_next().await {
            client??;
        }
        Ok(float(polls.load(Ordering::Relaxed)) / (process.cpu_seconds()? - before))
    })
}

/// The data directory of the device.
const DEVICE: &str = "device";

const PATH: &str = "/api/v1/device/state?port=0";

async fn poll(connection: &mut Connection, request: &str) -> Result<()> {
    connection.send(request.as_bytes()).await?;
    connection.answer().await?.expect(304, "an unchanged poll")?;
    Ok(())
}
