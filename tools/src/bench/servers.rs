//! How each server is set up and started: on loopback, on a port of its own, with its data below one folder.
//!
//! `docker-registry` runs without authentication, and nginx knows no manifests; Hedgerow checks an access key on every
//! request.
//!
//! Not here: what is asked of them; see `registry`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::client::{Endpoint, HOST};
use super::process::Process;

/// How long a server may take until it accepts connections.
const START_TIME: Duration = Duration::from_secs(10);

/// The organisation that Hedgerow's repositories are of.
pub(super) const ORG: &str = "bench";

/// A running server.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) endpoint: Endpoint,
    pub(super) process: Process,
}

/// A seed that can be started again and again.
pub(super) struct Seed {
    binary: PathBuf,
    data: PathBuf,
    address: SocketAddr,
    authorization: String,
    tls: Option<TlsConnector>,
}

/// The certificate of the servers that do not make their own.
pub(super) struct Certificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    tls: TlsConnector,
}

impl Seed {
    /// Makes a new seed in `dir`, speaking TLS or plain HTTP.
    pub(super) fn init(binary: &Path, dir: &Path, tls: bool) -> Result<Self> {
        let mut command = Command::new(binary);
        let listen = if tls { "0.0.0.0:0" } else { "127.0.0.1:0" };
        command.args(["seed", "init", "--output", "json", "--org", ORG, "--host", HOST, "--device-listen", "127.0.0.1:0"]);
        command.env("HEDGEROW_LOG", "error").args(["--listen", listen, "--data"]).arg(dir.join("data")).arg("--keys").arg(dir.join("keys"));
        let made: Value = serde_json::from_str(&crate::cargo::stdout_of(&mut command)?).context("`seed init` printed no JSON")?;
        let text = |key: &str| made.get(key).and_then(Value::as_str).with_context(|| format!("`seed init` tells no {key}"));
        let port = text("url")?.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).context("`seed init` tells no port")?;
        let pair = format!("bench:{}", text("access_key")?);
        Ok(Self {
            binary: binary.to_owned(),
            data: dir.join("data"),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            authorization: format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)),
            tls: if tls { Some(connector(CertificateDer::from_pem_file(text("ca_file")?)?)?) } else { None },
        })
    }

    /// Runs the seed; with it, the seconds until it was ready.
    pub(super) fn run(&self) -> Result<(Server, f64)> {
        let started = Instant::now();
        let mut command = Command::new(&self.binary);
        command.env("HEDGEROW_LOG", "error").args(["seed", "run", "--json", "--data"]).arg(&self.data).stdout(Stdio::piped());
        let mut process = Process::start("hedgerow", &mut command)?;
        let output = process.child().stdout.take().context("hedgerow has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if !line.contains("ready") {
            std::thread::sleep(Duration::from_millis(100));
            process.check()?;
        }
        let endpoint = Endpoint { address: self.address, tls: self.tls.clone(), authorization: Some(self.authorization.clone()) };
        Ok((Server { name: super::figures::HEDGEROW, endpoint, process }, started.elapsed().as_secs_f64()))
    }

    /// Its data directory.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }
}

impl Certificate {
    /// Makes a certificate in `dir`.
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
        let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Self { certificate, key, tls: connector(made.cert.der().clone())? })
    }
}

/// Starts Debian's `docker-registry` with a store in `dir`.
pub(super) fn distribution(dir: &Path, certificate: Option<&Certificate>) -> Result<Server> {
    let address = free_address()?;
    let tls = certificate.map_or_else(String::new, |certificate| {
        format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.certificate.display(), certificate.key.display())
    });
    let store = dir.join("distribution");
    let config = dir.join("distribution.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    \
         rootdirectory: {}\ncatalog:\n  maxentries: 1000000\nhttp:\n  addr: {address}\n{tls}",
        store.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    start("distribution", &mut command, address, certificate)
}

/// Starts nginx, which serves the files of `root`.
pub(super) fn nginx(dir: &Path, root: &Path, certificate: Option<&Certificate>) -> Result<Server> {
    let address = free_address()?;
    let tls = certificate.map_or_else(String::new, |certificate| {
        format!(
            "ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            certificate.certificate.display(),
            certificate.key.display()
        )
    });
    let ssl = if certificate.is_some() { " ssl" } else { "" };
    // Its workers would else be `nobody`, who may not enter the folders of root.
    let user = if crate::setup::is_root()? { "user root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {};\n", dir.join("nginx").join(kind).display()))
        .collect();
    let config = dir.join(if certificate.is_some() { "nginx-tls.conf" } else { "nginx.conf" });
    let pid = config.with_extension("pid");
    fs::create_dir_all(dir.join("nginx"))?;
    let text = format!(
        "{user}daemon off;\nworker_processes auto;\npid {};\nerror_log stderr error;\nevents {{ worker_connections 1024; }}\nhttp {{\n  \
         access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000000;\n  default_type application/octet-stream;\n\
         {temporary}  server {{ listen {address}{ssl}; {tls} root {}; }}\n}}\n",
        pid.display(),
        root.display()
    );
    fs::write(&config, text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&config).arg("-e").arg("stderr");
    start("nginx", &mut command, address, certificate)
}

fn start(name: &'static str, command: &mut Command, address: SocketAddr, certificate: Option<&Certificate>) -> Result<Server> {
    let mut process = Process::start(name, command)?;
    let give_up = Instant::now() + START_TIME;
    while TcpStream::connect(address).is_err() {
        process.check()?;
        anyhow::ensure!(Instant::now() < give_up, "{name} does not accept connections on {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let tls = certificate.map(|certificate| certificate.tls.clone());
    Ok(Server { name, endpoint: Endpoint { address, tls, authorization: None }, process })
}

/// A port that nobody uses at the moment.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn connector(trusted: CertificateDer<'static>) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).context("a certificate cannot be trusted")?;
    // All servers get the first suite of registry clients in Go. With another order, some would follow it and some would not.
    let cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let provider = rustls::crypto::CryptoProvider { cipher_suites, ..rustls::crypto::aws_lc_rs::default_provider() };
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
