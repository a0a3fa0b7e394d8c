//! `tuf-conformance-client`: the product's TUF client behind the command line that the official conformance suite of TUF
//! drives (its CLIENT-CLI document), so that the suite judges the code that devices run.
//!
//! Not here: verification, which is `node::trust::Updater`; running the suite, which `cargo tools soak` does.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use async_trait::async_trait;
use node::clock::wall_time;
use node::trust::{AnyRoot, MetadataSource, SourceError, Updater, check_target};
use tests::http::connection::{Body, attempt};
use tests::http::escaped;

type Outcome = Result<(), Box<dyn Error>>;

/// The largest artifact that is fetched, in bytes: the suite's have a few hundred.
const ARTIFACT_BYTES_MAX: usize = 64 << 20;

/// Where the first trusted root is kept: the suite looks at the files beside this folder.
const ANCHOR: &str = "anchor";

/// What was asked for.
#[derive(Default)]
struct Arguments {
    metadata_dir: PathBuf,
    metadata_url: String,
    target_names: Vec<String>,
    target_base_url: String,
    target_dir: PathBuf,
    command: Vec<String>,
}

/// A repository behind HTTP.
struct Repository {
    metadata: String,
    targets: String,
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: VecDeque<String>) -> Outcome {
    let arguments = Arguments::parse(arguments)?;
    let command: Vec<&str> = arguments.command.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command.as_slice() {
        ["init", root] => arguments.init(Path::new(root)),
        ["refresh"] => runtime.block_on(arguments.refreshed()).map(drop),
        ["download"] => runtime.block_on(arguments.download()),
        _ => Err(format!("there is no command {command:?}; there are init ROOT, refresh and download").into()),
    }
}

impl Arguments {
    fn parse(mut rest: VecDeque<String>) -> Result<Self, Box<dyn Error>> {
        let mut parsed = Self::default();
        while let Some(word) = rest.pop_front() {
            let mut value = || rest.pop_front().ok_or_else(|| format!("{word} wants a value"));
            match word.as_str() {
                "--metadata-dir" => parsed.metadata_dir = value()?.into(),
                "--metadata-url" => parsed.metadata_url = value()?,
                "--target-name" => parsed.target_names.push(value()?),
                "--target-base-url" => parsed.target_base_url = value()?,
                "--target-dir" => parsed.target_dir = value()?.into(),
                _ => parsed.command.push(word),
            }
        }
        Ok(parsed)
    }

    /// Keeps the first trusted root, if it is one.
    fn init(&self, root: &Path) -> Outcome {
        let root = fs::read(root)?;
        Updater::open(&self.metadata_dir, &root, Box::new(AnyRoot))?;
        fs::create_dir_all(self.metadata_dir.join(ANCHOR))?;
        fs::write(self.metadata_dir.join(ANCHOR).join("root.json"), &root)?;
        Ok(fs::write(self.metadata_dir.join("root.json"), &root)?)
    }

    async fn refreshed(&self) -> Result<(Updater, Repository), Box<dyn Error>> {
        let root = fs::read(self.metadata_dir.join(ANCHOR).join("root.json"))?;
        let mut updater = Updater::open(&self.metadata_dir, &root, Box::new(AnyRoot))?;
        let base = |url: &str| url.trim_end_matches('/').to_owned();
        let repository = Repository { metadata: base(&self.metadata_url), targets: base(&self.target_base_url) };
        updater.refresh(wall_time(), &repository, None).await?;
        Ok((updater, repository))
    }

    async fn download(&self) -> Outcome {
        let (mut updater, repository) = self.refreshed().await?;
        for name in &self.target_names {
            let found = updater.find(name, wall_time(), &repository).await?;
            let target = found.ok_or_else(|| format!("no role lists {name}"))?.target;
            let place = self.target_dir.join(escaped(name));
            let kept = fs::read(&place).ok().filter(|bytes| check_target(name, &target, bytes).is_ok());
            if kept.is_none() {
                fs::write(&place, updater.download(name, &target, ARTIFACT_BYTES_MAX, &repository).await?)?;
            }
        }
        Ok(())
    }
}

impl Repository {
    fn file(url: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let answer = attempt("GET", url, &[], Body::Whole(&[]))?;
        match answer.status {
            200 if answer.body.len() <= bytes_max => Ok(Some(answer.body)),
            200 => Err(std::io::Error::other(format!("{url} has more than {bytes_max} bytes")).into()),
            404 => Ok(None),
            status => Err(std::io::Error::other(format!("{url} answers {status}")).into()),
        }
    }
}

#[async_trait]
impl MetadataSource for Repository {
    async fn metadata(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        Self::file(&format!("{}/{name}", self.metadata), bytes_max)
    }

    async fn target(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        Self::file(&format!("{}/{path}", self.targets), bytes_max)
    }
}
