//! `hedgerow repo …`: repositories of an organisation, and how long and how firmly their tags are kept.
//!
//! Not here: pushing and pulling, which any OCI client does.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use protocol::cosign::CosignKey;
use protocol::name::{OrgName, RepositoryName};
use protocol::repository::tags::{MUTABLE_BY_DEFAULT, TagGlob};
use protocol::repository::{RepositoryPattern, RepositorySettings, Setting};
use protocol::time::WallTime;
use serde_json::json;

use super::Output;
use super::operator::{Operator, SeedApi};
use crate::api::{RepositoryPage, RepositoryShown, TagShown};
use crate::files;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the repositories of an organisation, with their tags counted and the settings in force.
    List(List),
    /// Show a repository: its settings and where each comes from, its tags and when they expire.
    Show(Show),
    /// Set for a repository, or for all that match a pattern, who may pull, which tags stay, and which expire.
    Set(Set),
}

/// `repo list`.
#[derive(Debug, Args)]
pub struct List {
    /// The organisation.
    org: OrgName,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `repo show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The repository, as ORG/REPO.
    #[arg(value_name = "ORG/REPO")]
    repository: RepositoryName,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `repo set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The repository, or ORG/* or ORG/PATH/* for all below; of several that match, the longest that says something decides.
    #[arg(value_name = "ORG/PATTERN")]
    pattern: RepositoryPattern,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// What `repo set` changes; the rest stays as it is.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
struct Change {
    /// Whether everybody may pull, without an access key; for one repository by its own name alone.
    #[arg(long, value_name = "on|off")]
    public: Option<Switch>,
    /// The tags that cannot be moved to another digest or deleted.
    #[arg(long, value_name = "on|off|GLOB,…")]
    immutable: Option<Globs>,
    /// The tags that stay movable [default: cosign's and those of referrers, sha256-*,sha512-*].
    #[arg(long, value_name = "off|GLOB,…")]
    mutable: Option<Globs>,
    /// Keep this many of the newest tags; without --keep-days the others expire at once.
    #[arg(long, value_name = "N|off")]
    keep_last: Option<Count>,
    /// Keep tags for this many days after their last push, and longer if --keep-last does.
    #[arg(long, value_name = "DAYS|off")]
    keep_days: Option<Count>,
    /// The tags that may expire at all [default: on, all of them].
    #[arg(long, value_name = "on|GLOB,…")]
    expire: Option<Globs>,
    /// Publish an image as a version only with a cosign signature by one of these keys: files like cosign.pub, P-256 in PEM form.
    #[arg(long, value_name = "off|FILE,…")]
    signed_by: Option<KeyFiles>,
    /// Remove everything that was set under this pattern, so that wider ones decide.
    #[arg(long, conflicts_with_all = ["public", "immutable", "mutable", "keep_last", "keep_days", "expire", "signed_by"])]
    clear: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// `on` for all tags, `off` for none, or patterns with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Globs(Vec<TagGlob>);

impl FromStr for Globs {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "on" => Ok(Self(vec![TagGlob::all()])),
            "off" => Ok(Self(Vec::new())),
            globs => Ok(Self(globs.split(',').map(str::parse).collect::<Result<_, _>>()?)),
        }
    }
}

/// Files with public keys, with commas between them; none for `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyFiles(Vec<PathBuf>);

impl FromStr for KeyFiles {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "off" => Ok(Self(Vec::new())),
            files if files.split(',').any(str::is_empty) => anyhow::bail!("it is off, or the names of files with commas between them"),
            files => Ok(Self(files.split(',').map(PathBuf::from).collect())),
        }
    }
}

impl KeyFiles {
    fn read(&self) -> anyhow::Result<Vec<CosignKey>> {
        let read = |path: &PathBuf| files::read_text(path)?.parse().with_context(|| format!("{} cannot be used", path.display()));
        self.0.iter().map(read).collect()
    }
}

/// A number from 1 on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count(u32);

impl FromStr for Count {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "off" => Ok(Self(0)),
            number => {
                let count: std::num::NonZeroU32 = number.parse().context("it is a number from 1 on, or off")?;
                Ok(Self(count.get()))
            }
        }
    }
}

impl Change {
    fn settings(self) -> anyhow::Result<RepositorySettings> {
        let globs = |globs: Option<Globs>| globs.map(|Globs(globs)| globs);
        Ok(RepositorySettings {
            public: self.public.map(|switch| switch == Switch::On),
            immutable: globs(self.immutable),
            mutable: globs(self.mutable),
            keep_last: self.keep_last.map(|Count(count)| count),
            keep_days: self.keep_days.map(|Count(count)| count),
            expire: globs(self.expire),
            signed_by: self.signed_by.map(|files| files.read()).transpose()?,
        })
    }
}

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
            Self::Set(set) => set.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let path = format!("/api/v1/orgs/{}/repositories", self.org);
        let mut repositories = Vec::new();
        let mut next = None;
        loop {
            let page: RepositoryPage = api.get(&page_of(&path, next.as_ref())).await?;
            repositories.extend(page.repositories);
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        self.output.print(&json!({ "repositories": repositories }), || {
            let lines = repositories.iter().map(|listed| {
                let said = Setting::ALL.into_iter().filter(|setting| setting.is_said(&listed.settings));
                let said: Vec<String> = said.map(|setting| format!("{}={}", name(setting), value(setting, &listed.settings))).collect();
                format!("{}  {} tags  {}", listed.repository, listed.tags, said.join(" ")).trim_end().to_owned()
            });
            let lines: Vec<String> = lines.collect();
            if lines.is_empty() { format!("{} has no repositories; push one with any OCI client", self.org) } else { lines.join("\n") }
        })
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let shown = whole(&self.operator.connect()?, &self.repository).await?;
        self.output.print(&shown, || describe(&shown))
    }
}

/// A repository with all its tags, page by page.
async fn whole(api: &SeedApi, repository: &RepositoryName) -> anyhow::Result<RepositoryShown> {
    let path = api_path(&repository.org(), "repositories", repository.as_str());
    let mut shown: RepositoryShown = api.get(&path).await?;
    while let Some(next) = shown.next.take() {
        let page: RepositoryShown = api.get(&page_of(&path, Some(&next))).await?;
        shown.tags.extend(page.tags);
        shown.next = page.next;
    }
    Ok(shown)
}

impl Set {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let path = api_path(&self.pattern.org(), "repository-settings", &self.pattern.to_string());
        let settings = if self.change.clear {
            api.delete(&path).await?;
            RepositorySettings::default()
        } else {
            api.patch(&path, &self.change.settings()?).await?
        };
        self.output.print(&json!({ "pattern": self.pattern, "settings": settings }), || {
            let said = Setting::ALL.into_iter().filter(|setting| setting.is_said(&settings));
            let lines: Vec<String> = said.map(|setting| format!("  {:<10} {}", name(setting), value(setting, &settings))).collect();
            if lines.is_empty() {
                format!("nothing is set under {} any more", self.pattern)
            } else {
                format!("set under {}:\n{}", self.pattern, lines.join("\n"))
            }
        })
    }
}

/// The path of something whose name begins with its organisation and may have slashes.
fn api_path(org: &OrgName, kind: &str, full_name: &str) -> String {
    let rest = full_name.strip_prefix(org.as_str()).unwrap_or(full_name);
    format!("/api/v1/orgs/{org}/{kind}{rest}")
}

fn page_of(path: &str, last: Option<&impl std::fmt::Display>) -> String {
    last.map_or_else(|| path.to_owned(), |last| format!("{path}?last={last}"))
}

/// A setting as its flag spells it.
const fn name(setting: Setting) -> &'static str {
    match setting {
        Setting::Public => "public",
        Setting::Immutable => "immutable",
        Setting::Mutable => "mutable",
        Setting::KeepLast => "keep-last",
        Setting::KeepDays => "keep-days",
        Setting::Expire => "expire",
        Setting::SignedBy => "signed-by",
    }
}

/// Its value as its flag takes it; where nothing is said, what holds then.
fn value(setting: Setting, settings: &RepositorySettings) -> String {
    let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
    let count = |count: Option<u32>| count.filter(|count| *count > 0).map_or_else(|| switch(false), |count| count.to_string());
    let list = |globs: &[TagGlob]| match globs {
        [] => switch(false),
        [all] if *all == TagGlob::all() => switch(true),
        globs => globs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    };
    match setting {
        Setting::Public => switch(settings.public.unwrap_or(false)),
        Setting::Immutable => list(settings.immutable.as_deref().unwrap_or_default()),
        Setting::Mutable => settings.mutable.as_deref().map_or_else(|| MUTABLE_BY_DEFAULT.join(","), list),
        Setting::KeepLast => count(settings.keep_last),
        Setting::KeepDays => count(settings.keep_days),
        Setting::Expire => settings.expire.as_deref().map_or_else(|| switch(true), list),
        Setting::SignedBy => match settings.signed_by.as_deref().unwrap_or_default() {
            [] => switch(false),
            keys => keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        },
    }
}

fn describe(shown: &RepositoryShown) -> String {
    let settings = Setting::ALL.into_iter().map(|setting| {
        let from = shown.from.get(&setting).map_or_else(|| "default".to_owned(), ToString::to_string);
        format!("  {:<10} {:<24} ({from})", name(setting), value(setting, &shown.settings))
    });
    let tags = shown.tags.iter().map(|tag| format!("{}  {}  pushed {}{}", tag.tag, tag.digest, date(tag.pushed), fate(tag)));
    let count = format!("{} tags", shown.tags.len());
    std::iter::once(shown.repository.to_string()).chain(settings).chain([count]).chain(tags).collect::<Vec<_>>().join("\n")
}

fn fate(tag: &TagShown) -> String {
    match (tag.expires, tag.kept) {
        (Some(expires), _) => format!("  expires {}", date(expires)),
        (None, Some(kept)) => {
            let by = serde_json::to_string(&kept).unwrap_or_default();
            format!("  kept ({})", by.trim_matches('"'))
        }
        (None, None) => String::new(),
    }
}

fn date(time: WallTime) -> String {
    let timestamp = i64::try_from(time.as_unix_seconds()).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| time.to_string(), |timestamp| timestamp.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        change: Change,
    }

    fn change(line: &str) -> Option<RepositorySettings> {
        let line = Line::try_parse_from(std::iter::once("set").chain(line.split_whitespace())).ok()?;
        line.change.settings().ok()
    }

    #[test]
    fn flags_become_settings_and_show_as_they_were_given() {
        let line = "--public on --immutable v*,1.* --mutable off --keep-last 10 --keep-days off --expire on --signed-by off";
        let settings = change(line).unwrap();
        assert_eq!((settings.public, settings.keep_last, settings.keep_days), (Some(true), Some(10), Some(0)));
        assert_eq!((settings.mutable.clone(), settings.immutable.as_ref().unwrap().len()), (Some(vec![]), 2));
        let shown: Vec<String> =
            Setting::ALL.into_iter().map(|setting| format!("--{} {}", name(setting), value(setting, &settings))).collect();
        assert_eq!(shown.join(" "), line);
    }

    #[test]
    fn a_line_without_a_change_or_with_a_senseless_one_is_refused() {
        for wrong in [
            "",
            "--keep-last 0",
            "--keep-days -1",
            "--immutable v?",
            "--immutable a,,b",
            "--public maybe",
            "--clear --public on",
            "--signed-by /no/such/file",
        ] {
            assert!(change(wrong).is_none(), "{wrong}");
        }
        assert_eq!(change("--clear"), Some(RepositorySettings::default()));
    }

    #[test]
    fn a_name_with_slashes_stands_below_its_organisation() {
        assert_eq!(api_path(&"acme".parse().unwrap(), "repositories", "acme/a/b"), "/api/v1/orgs/acme/repositories/a/b");
        assert_eq!(api_path(&"acme".parse().unwrap(), "repository-settings", "acme/*"), "/api/v1/orgs/acme/repository-settings/*");
    }
}
