//! A store of 100,000 manifests, each in a repository of its own: how fast it starts, how fast its catalogue is read, what it
//! writes while nobody uses it, what memory a seed takes with it while blobs come and go, and how long its index takes to be
//! built again.
//!
//! Not here: how fast a single manifest is served; see `metadata`.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::metadata::{manifest, push_config, put};
use super::transfer::PARALLEL;
use super::{Lab, progress, remove};
use crate::bench::client::Endpoint;
use crate::bench::figures::{Comparison, Goal, Runs, float};
use crate::bench::load::{self, Creation, Way};
use crate::bench::servers::{ORG, Seed, distribution};

const MIB: f64 = 1_048_576.0;

/// Connections that fill the store.
const PUSH_CONNECTIONS: usize = 32;

/// How long after its start a seed has ended what it does by itself at its start, and how long it is looked at then.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
const IDLE_TIME: Duration = Duration::from_secs(10);

/// The largest page that Hedgerow gives. Distribution, which walks all folders for each page, is asked for a single one.
const PAGE: u32 = 1000;

/// Measures all of it.
pub(super) fn measure(lab: &mut Lab) -> Result<()> {
    let dir = lab.folder("large")?;
    let seed = Seed::init(&lab.hedgerow, &dir, false)?;
    progress(&format!("filling the large store with {} manifests", lab.manifests));
    let (server, _) = seed.run()?;
    load::block_on(fill(lab, &server.endpoint))?;
    let peak = float(server.process.peak_bytes()?) / MIB;
    lab.results.push(Comparison::alone("large-fill, memory", "MiB", peak, Goal::None));
    server.process.stop()?;

    let mut starts = Runs::default();
    for _ in 0..lab.runs {
        let (server, seconds) = seed.run()?;
        starts.add("hedgerow", seconds);
        server.process.stop()?;
    }
    lab.results.push(Comparison::alone("large-start", "s", starts.median("hedgerow"), Goal::AtMost(2.0)));
    lab.keep("large-start", &starts);

    idle(lab, &seed)?;
    catalogue(lab, &seed)?;
    memory(lab, &seed)?;

    fs::remove_dir_all(seed.data().join("index")).context("the index cannot be removed")?;
    progress("building the index again");
    let (server, seconds) = seed.run()?;
    lab.results.push(Comparison::alone("large-rebuild", "s", seconds, Goal::AtMost(60.0)));
    let peak = float(server.process.peak_bytes()?) / MIB;
    lab.results.push(Comparison::alone("large-rebuild, memory", "MiB", peak, Goal::None));
    server.process.stop()?;
    remove(&dir)
}

fn repository(n: u32) -> String {
    format!("{ORG}/r{n:06}")
}

async fn fill(lab: &Lab, endpoint: &Endpoint) -> Result<()> {
    let from = format!("{ORG}/config");
    let config = push_config(endpoint, &from).await?;
    let mounts = (0..lab.manifests).map(|n| Creation {
        method: "POST",
        path: format!("/v2/{}/blobs/uploads/?mount={}&from={from}", repository(n), config.digest),
        media_type: "application/octet-stream",
        body: String::new(),
    });
    load::create(endpoint, mounts, PUSH_CONNECTIONS).await?;
    let manifests = (0..lab.manifests).map(|n| put(&repository(n), "latest", manifest(&config, &n.to_string())));
    load::create(endpoint, manifests, PUSH_CONNECTIONS).await
}

/// What a seed that nobody uses writes, which wears flash out.
fn idle(lab: &mut Lab, seed: &Seed) -> Result<()> {
    progress("leaving the seed alone");
    let (server, _) = seed.run()?;
    thread::sleep(SETTLED_AFTER);
    let before = server.process.written_bytes()?;
    thread::sleep(IDLE_TIME);
    let written = float(server.process.written_bytes()? - before) / 1024.0 / IDLE_TIME.as_secs_f64();
    lab.results.push(Comparison::alone("large-idle", "KiB/s", written, Goal::AtMost(1.0)));
    server.process.stop()
}

/// The catalogue, beside that of distribution with as many repositories, which are made as folders because all that it
/// looks for is their names.
fn catalogue(lab: &mut Lab, seed: &Seed) -> Result<()> {
    progress("reading the catalogue");
    let dir = lab.folder("catalogue")?;
    let names = (0..lab.manifests).map(repository).chain([format!("{ORG}/config")]);
    for name in names {
        let folder = dir.join("distribution/docker/registry/v2/repositories").join(name);
        fs::create_dir_all(folder.join("_layers"))?;
        fs::create_dir_all(folder.join("_manifests"))?;
    }
    let (ours, _) = seed.run()?;
    let theirs = distribution(&dir, None)?;
    let mut seconds = Runs::default();
    let mut served = true;
    'runs: for _ in 0..lab.runs {
        for server in [&ours, &theirs] {
            let page = if std::ptr::eq(server, &ours) { PAGE } else { lab.manifests + 1 };
            let path = format!("/v2/_catalog?n={page}");
            let listed = load::block_on(load::list(&server.endpoint, &path, "repositories"))?;
            let Some((took, count)) = listed else {
                progress(&format!("{} serves no catalogue; the case is left out", server.name));
                served = false;
                break 'runs;
            };
            anyhow::ensure!(count > lab.manifests as usize, "{} lists {count} of {} repositories", server.name, lab.manifests);
            seconds.add(server.name, took);
        }
    }
    if served {
        let compared = seconds.compare("catalogue", "s", "distribution", |ours, theirs| ours / theirs, Goal::AtMost(1.0));
        lab.results.push(compared);
        lab.keep("catalogue", &seconds);
    }
    ours.process.stop()?;
    theirs.process.stop()?;
    remove(&dir)
}

/// The most memory while as many blobs are pushed and pulled at the same time as the goal says.
fn memory(lab: &mut Lab, seed: &Seed) -> Result<()> {
    progress(&format!("{PARALLEL} pushes and {PARALLEL} pulls at the same time"));
    let (server, _) = seed.run()?;
    let endpoint = &server.endpoint;
    let (repository, content) = (format!("{ORG}/web"), &lab.content);
    load::block_on(async {
        load::push(endpoint, &repository, content, Way::Whole, 1).await?;
        let path = format!("/v2/{repository}/blobs/{}", content.digest);
        tokio::try_join!(
            load::push(endpoint, &repository, content, Way::Whole, PARALLEL),
            load::pull(endpoint, &path, content.bytes, PARALLEL)
        )
    })?;
    let peak = float(server.process.peak_bytes()?) / MIB;
    lab.results.push(Comparison::alone("large-memory", "MiB", peak, Goal::AtMost(96.0)));
    server.process.stop()
}
