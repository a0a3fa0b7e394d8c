//! What commands on the same machine ask of a running seed, over the Unix socket `control.sock` in its data directory; and the
//! socket itself, which a device has too (see [`crate::device::control`]).
//!
//! The socket is for its owner alone (0600): whoever can open it can read the directory anyway.
//!
//! | request to a seed | answer |
//! |---|---|
//! | `POST /garbage?dry_run=true` | collects garbage; the report. With `accept_clock=true` the clock is believed from now on |
//! | `GET /hold` | a first line with the journal's files, then an empty line every few seconds; files and journal stay while it is read |
//!
//! Not here: what the commands do; see [`crate::cli::store`].

use std::convert::Infallible;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::device::agent::grants::GrantApplied;
use crate::seed::garbage::Collector;
use crate::store::garbage::Report;
use crate::store::journal::extent::Extent;
use crate::store::lock::{DataLock, LockError};

/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";

/// How often a hold is confirmed, so that both sides notice when the other is gone.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);

/// The longest time that a hold lasts: a copy of many terabytes; after it, a forgotten process no longer fills the disk.
const HOLD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest first line of a hold, in bytes: thousands of journal files.
const EXTENT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct GarbageQuery {
    dry_run: bool,
    #[serde(default)]
    accept_clock: bool,
}

/// A seed's answers, until it is told to stop.
pub async fn serve_seed(data: PathBuf, collector: Collector, stopped: watch::Receiver<bool>) {
    let router = Router::new().route("/garbage", post(garbage)).route("/hold", get(hold)).with_state(collector);
    serve(data, router, stopped).await;
}

/// Answers on the socket until it is told to stop. Without a socket the node goes on: commands then want it stopped.
pub async fn serve(data: PathBuf, router: Router, mut stopped: watch::Receiver<bool>) {
    let listener = match bind(&data) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "commands on this machine cannot reach this process; they need it stopped");
            let _ = stopped.wait_for(|stopped| *stopped).await;
            return;
        }
    };
    let serving = async { axum::serve(listener, router).await };
    tokio::select! {
        served = serving => tracing::error!(?served, "the control socket failed"),
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    if let Err(error) = std::fs::remove_file(data.join(SOCKET)) {
        tracing::debug!(%error, "the control socket was left behind");
    }
}

/// Makes the socket in a private folder and moves it into place, so that nobody can open it before it is private itself.
fn bind(data: &Path) -> anyhow::Result<UnixListener> {
    let folder =
        tempfile::Builder::new().prefix(".c").rand_bytes(4).tempdir_in(data).context("cannot make a folder for the control socket")?;
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot make the socket {}", path.display()))?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).context("cannot make the control socket private")?;
    std::fs::rename(&path, data.join(SOCKET)).context("cannot move the control socket into place")?;
    Ok(listener)
}

async fn garbage(State(collector): State<Collector>, Query(query): Query<GarbageQuery>) -> Result<Json<Report>, Failed> {
    // A run goes on when its client is gone: half of one is as much work for the next.
    let run = tokio::spawn(async move { collector.collect(query.dry_run, query.accept_clock).await });
    Ok(Json(run.await??))
}

async fn hold(State(collector): State<Collector>) -> Result<Response, Failed> {
    let seed = collector.seed();
    let blobs = seed.blobs.hold().await;
    let journal = seed.store.hold_journal().await?;
    let mut first = serde_json::to_vec(&journal.extent)?;
    first.push(b'\n');
    tracing::info!(event = "held", "files and journal are being held for a command on this machine");
    let end = tokio::time::Instant::now() + HOLD_MAX;
    let lines = stream::unfold((Some(Bytes::from(first)), blobs, journal), move |(first, blobs, journal)| async move {
        let line = match first {
            Some(first) => first,
            None if tokio::time::Instant::now() >= end => return None,
            None => {
                tokio::time::sleep(CONFIRM_EVERY).await;
                Bytes::from_static(b"\n")
            }
        };
        Some((Ok::<_, Infallible>(line), (None, blobs, journal)))
    });
    Ok(Body::from_stream(lines).into_response())
}

struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{:#}", self.0)).into_response()
    }
}

/// How a command comes to a data directory.
#[derive(Debug)]
pub enum Access {
    /// Nothing runs there, and nothing can start meanwhile.
    Alone(DataLock),
    /// A process runs there; with a socket, if it has started.
    Running(LockError, Option<Client>),
}

/// Takes the lock of the data directory `dir` as `role`, or finds the socket of the process that has it.
///
/// # Errors
/// When the directory cannot be used.
pub fn access(dir: &Path, role: &str) -> anyhow::Result<Access> {
    match DataLock::acquire(dir, role) {
        Ok(lock) => Ok(Access::Alone(lock)),
        Err(held @ LockError::Held { .. }) => {
            let socket = dir.join(SOCKET);
            let client = socket.exists().then(|| Client::new(&socket)).transpose()?;
            Ok(Access::Running(held, client))
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks a running node.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    fn new(socket: &Path) -> anyhow::Result<Self> {
        Ok(Self { http: reqwest::Client::builder().unix_socket(socket).build()? })
    }

    /// The answer to `GET /path`.
    ///
    /// # Errors
    /// With what the node says.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(answered(self.http.get(format!("http://localhost/{path}")).send().await).await?.json().await?)
    }

    /// Applies a grant on a device.
    ///
    /// # Errors
    /// With why it does not count there.
    pub async fn apply_grant(&self, envelope: String) -> anyhow::Result<GrantApplied> {
        Ok(answered(self.http.post("http://localhost/grant").body(envelope).send().await).await?.json().await?)
    }

    /// Collects garbage.
    ///
    /// # Errors
    /// With what the seed says.
    pub async fn collect(&self, dry_run: bool, accept_clock: bool) -> anyhow::Result<Report> {
        let request = self.http.post("http://localhost/garbage").query(&GarbageQuery { dry_run, accept_clock });
        Ok(answered(request.send().await).await?.json().await?)
    }

    /// Keeps files and journal from being removed.
    ///
    /// # Errors
    /// With what the seed says.
    pub async fn hold(&self) -> anyhow::Result<Held> {
        let mut response = answered(self.http.get("http://localhost/hold").send().await).await?;
        let mut line = BytesMut::new();
        while !line.ends_with(b"\n") {
            let Some(more) = response.chunk().await? else { bail!("the seed ended the hold at once; look into its log") };
            line.extend_from_slice(&more);
            anyhow::ensure!(line.len() <= EXTENT_BYTES_MAX, "the seed's journal has more files than can be");
        }
        let extent = serde_json::from_slice(line.trim_ascii())?;
        let lost = Arc::new(AtomicBool::new(false));
        let told = lost.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Ok(Some(_))) = tokio::time::timeout(CONFIRM_EVERY * 12, response.chunk()).await {}
            told.store(true, Ordering::Release);
        });
        Ok(Held { extent, lost, reader })
    }
}

/// Files and journal of a running seed, kept as they are until this is dropped.
#[derive(Debug)]
pub struct Held {
    /// The journal's files.
    pub extent: Extent,
    lost: Arc<AtomicBool>,
    reader: tokio::task::JoinHandle<()>,
}

impl Held {
    /// Fails if the seed stopped meanwhile.
    ///
    /// # Errors
    /// Then: files may be missing from what was read since.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.lost.load(Ordering::Acquire), "the seed stopped meanwhile, so files may have been removed; run this again");
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn answered(sent: reqwest::Result<reqwest::Response>) -> anyhow::Result<reqwest::Response> {
    let response = sent.context("the process does not answer on its control socket; is it starting or stopping?")?;
    if response.status().is_success() {
        return Ok(response);
    }
    bail!("it failed: {}", response.text().await.unwrap_or_default())
}
