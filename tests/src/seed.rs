//! A seed, and its operator's commands.
//!
//! Not here: devices.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::Value;
use tempfile::TempDir;

use crate::http;
use crate::image::Layout;
use crate::log::Log;
use crate::process::{Outcome, Running};
use crate::program;
use crate::wait;

/// The organisation of every seed.
pub const ORG: &str = "acme";

/// A seed in its own directory, with its operator's keys beside it.
#[derive(Debug)]
pub struct Seed {
    process: Option<Running>,
    /// Its log.
    pub log: Log,
    /// What it printed when it was ready.
    pub ready: Value,
    /// What `seed init` printed.
    pub made: Value,
    home: TempDir,
}

/// An organisation and its access key.
#[derive(Clone, Debug)]
pub struct Organisation {
    /// Its name.
    pub name: String,
    /// A key with all its scopes.
    pub access_key: String,
}

impl Seed {
    /// Makes a seed and runs it.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Makes a seed and runs it with these flags.
    #[track_caller]
    pub fn start_with(flags: &[&str]) -> Self {
        let mut seed = Self::init();
        seed.run(flags);
        seed
    }

    /// Makes a seed whose registry speaks TLS with a certificate of the seed's own CA, and runs it.
    #[track_caller]
    pub fn start_with_tls() -> Self {
        let address = own_address();
        let listen = if address.is_loopback() { "0.0.0.0:0".to_owned() } else { format!("{address}:0") };
        let mut seed = Self::init_with(&["--listen", &listen, "--device-listen", &listen, "--host", &address.to_string()]);
        seed.run(&[]);
        seed
    }

    /// Makes a seed.
    #[track_caller]
    pub fn init() -> Self {
        Self::init_at("127.0.0.1:0", "127.0.0.1:0")
    }

    /// Makes a seed whose registry and API, and whose listener for devices, have these addresses.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn init_at(listen: &str, device_listen: &str) -> Self {
        Self::init_with(&["--listen", listen, "--device-listen", device_listen])
    }

    #[track_caller]
    fn init_with(flags: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("hedgerow-seed-").tempdir().expect("a temporary folder can be made");
        let (data, keys) = (home.path().join("data"), home.path().join("keys"));
        let mut command = program::hedgerow();
        command.args(["seed", "init", "--org", ORG, "--json"]).args(flags);
        let made = Outcome::of(command.arg("--data").arg(data).arg("--keys").arg(keys)).json();
        let log = Log::at(home.path().join("seed.log"));
        Self { process: None, log, ready: Value::Null, made, home }
    }

    /// The command that runs it.
    pub fn run_command(&self, flags: &[&str]) -> Command {
        let mut command = program::hedgerow();
        command.args(["--log", "json", "seed", "run", "--json", "--data"]).arg(self.data()).args(flags);
        command
    }

    /// Runs it, and waits until it is ready.
    #[track_caller]
    pub fn run(&mut self, flags: &[&str]) {
        self.run_as(self.run_command(flags));
    }

    /// Runs it by this command, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn run_as(&mut self, mut command: Command) {
        assert!(self.process.is_none(), "the seed runs already");
        let (process, ready) = Running::start_node(&mut command, &self.log);
        (self.process, self.ready) = (Some(process), ready);
    }

    /// The process.
    ///
    /// # Panics
    /// When it was stopped.
    #[track_caller]
    pub fn process(&mut self) -> &mut Running {
        self.process.as_mut().expect("the seed runs")
    }

    /// Tells it to stop, and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("the seed runs").stop()
    }

    /// Kills it.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.take().expect("the seed runs").kill();
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The operator's keys.
    pub fn keys(&self) -> PathBuf {
        self.home.path().join("keys")
    }

    /// A place for a test's other files, gone with the seed.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Registry and API.
    ///
    /// # Panics
    /// Never: `init` printed it.
    pub fn url(&self) -> &str {
        self.made["url"].as_str().expect("seed init prints url")
    }

    /// Registry and API without the scheme, as container tools want it.
    pub fn host(&self) -> &str {
        self.url().trim_start_matches("http://").trim_start_matches("https://")
    }

    /// The certificate of the CA that clients of registry and API have to trust; none if these speak plain HTTP.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.made["ca_file"].as_str().filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// A folder with the certificate of that CA under the name that container tools look for.
    ///
    /// # Panics
    /// When there is no such CA.
    #[track_caller]
    pub fn cert_dir(&self) -> String {
        let folder = self.scratch("certs");
        std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
        let ca = self.ca_file().expect("registry and API of this seed speak TLS");
        std::fs::copy(ca, folder.join("ca.crt")).expect("the certificate can be copied");
        folder.display().to_string()
    }

    /// A client of registry and API that trusts their CA.
    #[track_caller]
    pub fn client(&self) -> http::Client {
        self.ca_file().map_or_else(http::Client::default, |ca| http::Client::trusting(&ca))
    }

    /// Where devices connect.
    ///
    /// # Panics
    /// Never: `init` printed it.
    pub fn device_url(&self) -> &str {
        self.made["device_url"].as_str().expect("seed init prints device_url")
    }

    /// The organisation that it was made with.
    ///
    /// # Panics
    /// Never: `init` printed its key.
    pub fn org(&self) -> Organisation {
        let access_key = self.made["access_key"].as_str().expect("seed init prints access_key").to_owned();
        Organisation { name: ORG.to_owned(), access_key }
    }

    /// Makes another organisation.
    #[track_caller]
    pub fn create_org(&self, name: &str) -> Organisation {
        let created = self.operator(&self.org(), &["org", "create", name, "--json"]).json();
        assert_eq!(created["org"], name);
        let access_key = created["access_key"].as_str().unwrap_or_else(|| panic!("org create printed {created}")).to_owned();
        Organisation { name: name.to_owned(), access_key }
    }

    /// Runs a command of an organisation's operator.
    #[track_caller]
    pub fn operator(&self, org: &Organisation, arguments: &[&str]) -> Outcome {
        let mut command = program::hedgerow();
        command.env("HEDGEROW_URL", self.url()).env("HEDGEROW_ACCESS_KEY", &org.access_key).env("HEDGEROW_KEYS", self.keys());
        command.envs(self.ca_file().map(|ca| ("HEDGEROW_CA_FILE", ca)));
        Outcome::of(command.args(arguments))
    }

    /// Runs a command of the first organisation's operator.
    #[track_caller]
    pub fn run_operator(&self, arguments: &[&str]) -> Outcome {
        self.operator(&self.org(), arguments)
    }

    /// A token that enrols one device of `org`.
    #[track_caller]
    pub fn token(&self, org: &Organisation) -> String {
        let made = self.operator(org, &["fleet", "token", "--org", &org.name, "--json"]).json();
        assert!(made["expires"].is_string(), "{made}");
        made["token"].as_str().unwrap_or_else(|| panic!("fleet token printed {made}")).to_owned()
    }

    /// Pushes all of a layout to a repository, tag included, by the distribution protocol.
    ///
    /// # Panics
    /// When the seed does not take something.
    #[track_caller]
    pub fn push(&self, org: &Organisation, repository: &str, layout: &Layout) {
        let authorization = format!("Bearer {}", org.access_key);
        let url = |rest: &str| format!("{}/v2/{repository}/{rest}", self.url());
        let client = self.client();
        for image in &layout.images {
            for blob in image.layers.iter().chain([&image.config]) {
                let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/octet-stream")];
                let answer = client.send("POST", &url(&format!("blobs/uploads/?digest={blob}")), &headers, &layout.blob(blob));
                assert_eq!(answer.status, 201, "pushing {blob}: {}", answer.text());
            }
        }
        for (manifest, media_type) in layout.manifests() {
            let reference = if manifest == layout.digest { &layout.tag } else { &manifest };
            let headers = [("Authorization", authorization.as_str()), ("Content-Type", media_type)];
            let answer = client.send("PUT", &url(&format!("manifests/{reference}")), &headers, &layout.blob(&manifest));
            assert_eq!(answer.status, 201, "pushing {manifest}: {}", answer.text());
        }
    }

    /// Pushes a layout to the first organisation's app and publishes it: the version's number.
    ///
    /// # Panics
    /// When one of them fails.
    #[track_caller]
    pub fn publish(&self, app: &str, layout: &Layout) -> u64 {
        self.push(&self.org(), app, layout);
        let published = self.run_operator(&["app", "publish", &format!("{app}:{}", layout.tag), "--json"]).json();
        assert_eq!(published["digest"], layout.digest.as_str(), "{published}");
        published["version"].as_u64().unwrap_or_else(|| panic!("app publish printed {published}"))
    }

    /// Starts a rollout of a version to all devices.
    #[track_caller]
    pub fn start_rollout(&self, app: &str, version: u64) {
        let started = self.run_operator(&["rollout", "start", app, "--version", &version.to_string(), "--group", "all", "--json"]).json();
        assert_eq!(started["version"], version, "{started}");
    }

    /// What `rollout status` says.
    #[track_caller]
    pub fn rollout(&self, app: &str) -> Value {
        self.run_operator(&["rollout", "status", app, "--json"]).json()
    }

    /// Waits until `rollout status` says that this many devices are done.
    ///
    /// # Panics
    /// When it never does, or one fails.
    #[track_caller]
    pub fn await_done(&self, app: &str, devices: u64) {
        wait::until(&format!("the rollout of {app} to be done on {devices} devices"), || {
            let status = self.rollout(app);
            assert_eq!(status["devices"]["failed"], 0, "{status}");
            let arrived = ["stored", "healthy"].iter().filter_map(|state| status["devices"][state].as_u64()).sum::<u64>();
            let done = status["state"] == "done";
            assert!(!done || arrived >= devices, "done too early: {status}");
            done
        });
    }

    /// The value of one of its metrics.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        http::metric(self.ready["metrics_url"].as_str().expect("a seed that is ready prints metrics_url"), name)
    }

    /// All bytes of blobs that it sent to devices since it was started.
    #[track_caller]
    pub fn blob_bytes(&self) -> u64 {
        self.metric("hedgerow_seed_blob_bytes_total")
    }

    /// Copies a data directory to the new folder `to`.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[track_caller]
    pub fn copy_directory(from: &Path, to: &Path) {
        Outcome::of(Command::new("cp").arg("-a").arg(from).arg(to)).succeeded();
    }
}

/// The address by which others reach this machine, or loopback if they cannot. There, plain HTTP is a seed's default, and
/// docker checks no certificates.
fn own_address() -> IpAddr {
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return loopback };
    // An address for documentation (RFC 5737); connecting a datagram socket chooses a route and sends nothing.
    let routed = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr());
    routed.map_or(loopback, |address| address.ip())
}
