//! Pushes, pulls and requests in parallel, and how long they took.
//!
//! Not here: which servers, and what the times mean; see `registry`.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::client::{Connection, Endpoint};

/// Content is this block again and again.
const BLOCK_BYTES: usize = 1 << 20;

/// A blob of pseudo-random bytes that need not stand in memory.
#[derive(Clone)]
pub(super) struct Content {
    block: Arc<[u8]>,
    pub(super) bytes: u64,
    pub(super) digest: String,
}

/// How a blob is pushed.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// In one PUT.
    Whole,
    /// In several `PATCH` requests of so many bytes, ended by an empty PUT.
    Chunks(u64),
}

/// What many requests took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Content {
    /// Content of so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut word = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let block: Arc<[u8]> = (0..BLOCK_BYTES / 8).flat_map(|_| word()).collect();
        let mut content = Self { block, bytes, digest: String::new() };
        let mut hasher = Sha256::new();
        content.parts(0, bytes).for_each(|part| hasher.update(part));
        content.digest = format!("sha256:{}", hex::encode(hasher.finalize()));
        content
    }

    /// Writes it to a new file, in whole.
    pub(super) fn write_to(&self, path: &Path) -> Result<()> {
        let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        self.parts(0, self.bytes).try_for_each(|part| file.write_all(part)).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }

    fn parts(&self, mut start: u64, end: u64) -> impl Iterator<Item = &[u8]> {
        std::iter::from_fn(move || {
            let at = usize::try_from(start % BLOCK_BYTES as u64).unwrap_or(0);
            let bytes = (BLOCK_BYTES - at).min(usize::try_from(end - start).unwrap_or(usize::MAX));
            start += bytes as u64;
            (bytes > 0).then(|| &self.block[at..at + bytes])
        })
    }
}

/// Runs `work` on as many threads as there are processors.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Pulls `path`, which has `bytes` bytes, on so many connections at the same time; the seconds until the last has it.
pub(super) async fn pull(endpoint: &Endpoint, path: &str, bytes: u64, parallel: usize) -> Result<f64> {
    let started = Instant::now();
    let mut pulls = JoinSet::new();
    for _ in 0..parallel {
        let (endpoint, path) = (endpoint.clone(), path.to_owned());
        pulls.spawn(async move {
            let mut connection = endpoint.connect().await?;
            connection.send(endpoint.head("GET", &path, "").as_bytes()).await?;
            let answer = connection.answer().await?.expect(200, &path)?;
            let found = connection.forget_content(&answer).await?;
            anyhow::ensure!(found == bytes, "{path} has {found} bytes instead of {bytes}");
            Ok(())
        });
    }
    all(pulls).await?;
    Ok(started.elapsed().as_secs_f64())
}

/// Pulls `path` once and checks what it is.
pub(super) async fn verify(endpoint: &Endpoint, path: &str, digest: &str) -> Result<()> {
    let mut connection = endpoint.connect().await?;
    connection.send(endpoint.head("GET", path, "").as_bytes()).await?;
    let answer = connection.answer().await?.expect(200, path)?;
    let found = Sha256::digest(connection.content(&answer).await?);
    anyhow::ensure!(format!("sha256:{}", hex::encode(found)) == digest, "{path} is not what was pushed");
    Ok(())
}

/// Pushes `content` into `repository` so many times at the same time; the seconds until the last was acknowledged.
pub(super) async fn push(endpoint: &Endpoint, repository: &str, content: &Content, way: Way, parallel: usize) -> Result<f64> {
    let started = Instant::now();
    let mut pushes = JoinSet::new();
    for _ in 0..parallel {
        let (endpoint, repository, content) = (endpoint.clone(), repository.to_owned(), content.clone());
        pushes.spawn(async move { push_once(&endpoint, &repository, &content, way).await });
    }
    all(pushes).await?;
    Ok(started.elapsed().as_secs_f64())
}

async fn push_once(endpoint: &Endpoint, repository: &str, content: &Content, way: Way) -> Result<()> {
    let mut connection = endpoint.connect().await?;
    let start = endpoint.head("POST", &format!("/v2/{repository}/blobs/uploads/"), "content-length: 0\r\n");
    let mut location = ask(&mut connection, &start, 202).await?.context("an upload without a location")?;
    let mut sent = 0;
    if let Way::Chunks(bytes) = way {
        while sent < content.bytes {
            let end = content.bytes.min(sent + bytes);
            let more = format!(
                "content-type: application/octet-stream\r\ncontent-range: {sent}-{}\r\ncontent-length: {}\r\n",
                end - 1,
                end - sent
            );
            connection.send(endpoint.head("PATCH", &location, &more).as_bytes()).await?;
            for part in content.parts(sent, end) {
                connection.send(part).await?;
            }
            location = ask(&mut connection, "", 202).await?.context("a chunk without a location")?;
            sent = end;
        }
    }
    let separator = if location.contains('?') { '&' } else { '?' };
    let path = format!("{location}{separator}digest={}", content.digest);
    let more = format!("content-type: application/octet-stream\r\ncontent-length: {}\r\n", content.bytes - sent);
    connection.send(endpoint.head("PUT", &path, &more).as_bytes()).await?;
    for part in content.parts(sent, content.bytes) {
        connection.send(part).await?;
    }
    ask(&mut connection, "", 201).await?;
    Ok(())
}

/// Sends the rest of a request and reads its answer: the path of its location, if it has one.
async fn ask(connection: &mut Connection, rest: &str, wanted: u16) -> Result<Option<String>> {
    connection.send(rest.as_bytes()).await?;
    let answer = connection.answer().await?.expect(wanted, "a part of a push")?;
    connection.skip_content(&answer).await?;
    let path = |location: &str| match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or_else(String::new, |slash| rest[slash..].to_owned()),
        None => location.to_owned(),
    };
    Ok(answer.location.as_deref().map(path))
}

/// A small request that creates something.
#[derive(Clone)]
pub(super) struct Creation {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) media_type: &'static str,
    pub(super) body: String,
}

/// Carries out such requests on so many connections at the same time, each in its order.
pub(super) async fn create(endpoint: &Endpoint, creations: impl Iterator<Item = Creation>, parallel: usize) -> Result<()> {
    let mut queues: Vec<Vec<Creation>> = vec![Vec::new(); parallel];
    for (place, creation) in creations.enumerate() {
        queues[place % parallel].push(creation);
    }
    let mut tasks = JoinSet::new();
    for queue in queues {
        let endpoint = endpoint.clone();
        tasks.spawn(async move {
            let mut connection = endpoint.connect().await?;
            for Creation { method, path, media_type, body } in queue {
                let more = format!("content-type: {media_type}\r\ncontent-length: {}\r\n", body.len());
                ask(&mut connection, &(endpoint.head(method, &path, &more) + &body), 201).await.with_context(|| path)?;
            }
            Ok(())
        });
    }
    all(tasks).await
}

/// Reads a list in pages, following `Link`; the seconds, and how many entries it had under `key`. None if it is not served.
pub(super) async fn list(endpoint: &Endpoint, path: &str, key: &str) -> Result<Option<(f64, usize)>> {
    let started = Instant::now();
    let mut connection = endpoint.connect().await?;
    let (mut entries, mut next) = (0, Some(path.to_owned()));
    while let Some(path) = next {
        connection.send(endpoint.head("GET", &path, "").as_bytes()).await?;
        let answer = connection.answer().await?;
        let content = connection.content(&answer).await?;
        if answer.status == 404 || answer.status == 405 {
            return Ok(None);
        }
        let answer = answer.expect(200, &path)?;
        let page: serde_json::Value = serde_json::from_slice(&content).with_context(|| format!("{path} is not JSON"))?;
        entries += page.get(key).and_then(serde_json::Value::as_array).map_or(0, Vec::len);
        next = answer.link.as_deref().and_then(|link| Some(link.split_once('<')?.1.split_once('>')?.0.to_owned()));
    }
    Ok(Some((started.elapsed().as_secs_f64(), entries)))
}

/// Repeats a GET or HEAD for some time on so many connections, which one thread drives: their work is little, and the
/// servers need the other processors.
pub(super) fn rate(
    endpoint: &Endpoint,
    method: &'static str,
    path: &str,
    accept: &str,
    connections: usize,
    time: Duration,
) -> Result<Rate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request: Arc<str> = endpoint.head(method, path, &format!("accept: {accept}\r\n")).into();
    runtime.block_on(async {
        let started = Instant::now();
        let mut tasks: JoinSet<Result<Vec<u32>>> = JoinSet::new();
        for _ in 0..connections {
            let (endpoint, request) = (endpoint.clone(), Arc::clone(&request));
            tasks.spawn(async move {
                let mut connection = endpoint.connect().await?;
                let mut micros = Vec::new();
                while started.elapsed() < time {
                    let asked = Instant::now();
                    connection.send(request.as_bytes()).await?;
                    let answer = connection.answer().await?.expect(200, method)?;
                    if method != "HEAD" {
                        connection.skip_content(&answer).await?;
                    }
                    micros.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                Ok(micros)
            });
        }
        let mut micros: Vec<u32> = Vec::new();
        while let Some(task) = tasks.join_next().await {
            micros.append(&mut task.context("a connection of the load panicked")??);
        }
        let seconds = started.elapsed().as_secs_f64();
        micros.sort_unstable();
        let at = |share: usize| micros.get(micros.len() * share / 100).map_or(0.0, |micros| f64::from(*micros) / 1000.0);
        Ok(Rate { per_second: super::figures::float(micros.len() as u64) / seconds, p50_ms: at(50), p99_ms: at(99) })
    })
}

async fn all(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    while let Some(task) = tasks.join_next().await {
        task.context("a connection of the load panicked")??;
    }
    Ok(())
}
