//! `cargo tools bench registry`: Hedgerow's registry, Debian's `docker-registry` and nginx with the same bytes as files.
//!
//! The servers take turns in each run, and medians are compared. Client and servers share the processors of one machine,
//! so that figures of different machines do not compare; ratios do, about.
//!
//! | module | measures |
//! |---|---|
//! | `transfer` | pushes and pulls of a large blob |
//! | `metadata` | manifests, tags |
//! | `large` | a store of 100,000 manifests: start, memory, rebuild of the index, catalogue |
//!
//! Not here: how load is made (`load`), and how servers are started (`servers`).

mod large;
mod metadata;
mod transfer;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;

use super::figures::{Comparison, Runs, table};
use super::load::Content;
use super::process::Process;
use super::servers::{Certificate, Seed, Server, distribution, nginx};
use crate::cargo::Workspace;
use crate::shipped::HEDGEROW;

/// Measure the registry beside docker-registry 2.8.2 and nginx
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How the result is printed; progress goes to stderr
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
    /// Only these cases; can be repeated
    #[arg(long = "case", value_enum, value_name = "NAME")]
    cases: Vec<Case>,
    /// How often each server is measured; medians are compared
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The size of the blob that is pushed and pulled
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(1 << 20..))]
    bytes: u64,
    /// Manifests of the large store
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    manifests: u32,
    /// Measure this program [default: the workspace's, built as it is shipped]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where stores are made and removed again, on the disk that is to be measured [default: the folder of builds]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people.
    Text,
    /// One JSON object.
    Json,
}

/// What can be measured alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Case {
    /// A push in one PUT.
    Push,
    /// A push in chunks of 16 MiB.
    PushChunks,
    /// One pull.
    Pull1,
    /// 32 pulls at the same time.
    Pull32,
    /// 32 pulls at the same time over TLS.
    Pull32Tls,
    /// GET and HEAD of manifests by tag and digest, on 16 connections.
    Manifests,
    /// The list of 10,000 tags.
    Tags,
    /// The large store: start, catalogue, memory under load, rebuild of the index.
    LargeStore,
}

/// What all cases share.
struct Lab {
    dir: tempfile::TempDir,
    hedgerow: PathBuf,
    runs: u32,
    manifests: u32,
    content: Content,
    results: Vec<Comparison>,
    raw: Vec<serde_json::Value>,
}

/// The three servers with one blob in each.
struct Servers {
    hedgerow: Server,
    distribution: Server,
    nginx: Server,
    /// The folder whose files nginx serves.
    files: PathBuf,
}

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let hedgerow = args.binary.clone().map_or_else(|| HEDGEROW.build(workspace), Ok)?;
    let parent = args.dir.as_deref().unwrap_or(&workspace.target);
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(parent);
    let dir = dir.with_context(|| format!("cannot make a folder in {}; choose another with --dir", parent.display()))?;
    let content = Content::new(args.bytes);
    let mut lab = Lab { dir, hedgerow, runs: args.runs, manifests: args.manifests, content, results: Vec::new(), raw: Vec::new() };
    let wanted = |case: Case| args.cases.is_empty() || args.cases.contains(&case);
    let cases: Vec<Case> = Case::value_variants().iter().copied().filter(|case| wanted(*case)).collect();
    lab.measure(&cases)?;
    match args.output {
        Format::Text => print!("{}", table(&lab.results)),
        Format::Json => {
            let comparisons: Vec<_> = lab.results.iter().map(Comparison::to_json).collect();
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            println!(
                "{}",
                json!({ "runs": args.runs, "bytes": args.bytes, "processors": processors, "comparisons": comparisons, "figures": lab.raw })
            );
        }
    }
    Ok(())
}

impl Lab {
    fn measure(&mut self, cases: &[Case]) -> Result<()> {
        let plain = |case: &Case| !matches!(case, Case::Pull32Tls | Case::LargeStore);
        if cases.iter().any(plain) {
            let servers = Servers::start(self, None)?;
            for case in cases.iter().copied().filter(|case| plain(case)) {
                progress(&format!("{case:?}"));
                match case {
                    Case::Push => transfer::push(self, &servers, "push", super::load::Way::Whole)?,
                    Case::PushChunks => transfer::push(self, &servers, "push-chunks", transfer::CHUNKS)?,
                    Case::Pull1 => transfer::pull_one(self, &servers)?,
                    Case::Pull32 => transfer::pull_many(self, &servers, "pull-32")?,
                    Case::Manifests => metadata::manifests(self, &servers)?,
                    Case::Tags => metadata::tags(self, &servers)?,
                    Case::Pull32Tls | Case::LargeStore => {}
                }
            }
            servers.stop()?;
        }
        if cases.contains(&Case::Pull32Tls) {
            progress("Pull32Tls");
            let certificate = Certificate::make(self.dir.path())?;
            let servers = Servers::start(self, Some(&certificate))?;
            transfer::pull_many(self, &servers, "pull-32-tls")?;
            servers.stop()?;
        }
        if cases.contains(&Case::LargeStore) {
            large::measure(self)?;
        }
        Ok(())
    }

    /// A new folder below that of the lab.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn keep(&mut self, case: &str, runs: &Runs) {
        self.raw.push(json!({ "case": case, "runs": runs.to_json() }));
    }
}

impl Servers {
    fn start(lab: &Lab, certificate: Option<&Certificate>) -> Result<Self> {
        progress("setting up the servers, each with the blob");
        let dir = lab.folder(if certificate.is_some() { "tls" } else { "plain" })?;
        let files = dir.join("files");
        std::fs::create_dir_all(&files)?;
        lab.content.write_to(&files.join("blob"))?;
        let (hedgerow, _) = Seed::init(&lab.hedgerow, &dir, certificate.is_some())?.run()?;
        let servers = Self { hedgerow, distribution: distribution(&dir, certificate)?, nginx: nginx(&dir, &files, certificate)?, files };
        super::load::block_on(async {
            for server in servers.registries() {
                super::load::push(&server.endpoint, REPOSITORY, &lab.content, super::load::Way::Whole, 1).await?;
            }
            for server in servers.all() {
                super::load::verify(&server.endpoint, &servers.blob_path(server, lab), &lab.content.digest).await.context(server.name)?;
            }
            Ok(())
        })?;
        Ok(servers)
    }

    const fn registries(&self) -> [&Server; 2] {
        [&self.hedgerow, &self.distribution]
    }

    const fn all(&self) -> [&Server; 3] {
        [&self.hedgerow, &self.distribution, &self.nginx]
    }

    fn blob_path(&self, server: &Server, lab: &Lab) -> String {
        if std::ptr::eq(server, &self.nginx) { "/blob".into() } else { format!("/v2/{REPOSITORY}/blobs/{}", lab.content.digest) }
    }

    fn stop(self) -> Result<()> {
        [self.hedgerow, self.distribution, self.nginx].into_iter().map(|server| server.process).try_for_each(Process::stop)
    }
}

/// The repository that is pushed to.
const REPOSITORY: &str = "bench/web";

/// Says on stderr what happens.
fn progress(what: &str) {
    eprintln!("bench: {what}");
}

/// Removes what a case made, because disks are finite.
fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
