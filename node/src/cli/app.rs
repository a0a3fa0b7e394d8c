//! `hedgerow app …`: apps and their signed versions.
//!
//! | module | holds |
//! |---|---|
//! | `grant` | grants, for devices that cannot ask the seed |
//!
//! Not here: pushing images, which any OCI client does.

mod grant;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use protocol::digest::Digest;
use protocol::name::{Platform, RepositoryName, Tag};
use protocol::statement::evidence;
use protocol::statement::version::{STATEMENT_BYTES_MAX, VersionStatement};
use serde::Serialize;
use serde_json::json;

use super::Output;
use super::operator::{AppPath, Operator, SeedApi};
use crate::api;
use crate::publish::{Published, Request, publish, publish_managed};
use crate::store::meta::VersionRecord;
use crate::trust::{MetadataSource as _, OperatorKeys};

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Resolve a pushed tag, sign one statement for each of its platforms, and publish it as the next version.
    Publish(Publish),
    /// List the versions of an app.
    Versions(Versions),
    /// Show a version: its images, platform by platform, the signed evidence beside them, and whether it is retired.
    Show(Show),
    /// Sign a grant: a group or device that cannot ask the seed may run a version until a moment. Needs no network.
    Grant(grant::Grant),
    /// Take a version out of use: it cannot be rolled out any more, and its content may be removed; its statement stays.
    Retire(Retire),
}

/// An image that was pushed.
#[derive(Clone, Debug)]
struct TaggedApp {
    path: AppPath,
    tag: Tag,
    digest: Option<Digest>,
}

impl std::str::FromStr for TaggedApp {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (named, digest) = text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
        let Some((path, tag)) = named.rsplit_once(':') else {
            anyhow::bail!("what to publish is written ORG/APP:TAG or ORG/APP:TAG@sha256:HEX, for example acme/web:1.0")
        };
        let digest = digest.map(|digest| digest.parse().context("after @ stands a digest, written sha256:HEX")).transpose()?;
        Ok(Self { path: path.parse()?, tag: tag.parse()?, digest })
    }
}

/// `app publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// What to publish, as ORG/APP:TAG, or as ORG/APP:TAG@sha256:HEX to refuse a tag that the seed or another user moved.
    #[arg(value_name = "ORG/APP:TAG[@DIGEST]")]
    image: TaggedApp,
    /// The version's number; default: the next one. A number that is taken is a conflict.
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    /// The least version that devices may start from now on: older ones are refused, whatever the seed says.
    #[arg(long, value_name = "N")]
    floor: Option<u64>,
    /// Let the floor go down: devices may start versions again that were ruled out.
    #[arg(long, requires = "floor")]
    lower_floor: bool,
    /// Write the signed version to this file, for others to sign too, instead of publishing it: `trust sign`, `trust publish`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the organisation's keys are; left out, the seed signs, if it keeps them (`org create --managed-keys`).
    #[arg(long, value_name = "DIR", env = "HEDGEROW_KEYS")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `app versions`.
#[derive(Debug, Args)]
pub struct Versions {
    /// The app, as ORG/APP.
    app: AppPath,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `app show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The app, as ORG/APP.
    app: AppPath,
    /// The version.
    #[arg(long, value_name = "N")]
    version: u64,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

/// `app retire`.
#[derive(Debug, Args)]
pub struct Retire {
    /// The app, as ORG/APP.
    app: AppPath,
    /// The version.
    #[arg(long, value_name = "N")]
    version: u64,
    /// Why; whoever asks for the version later is told.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    output: Output,
}

impl Command {
    /// Carries out the subcommand.
    ///
    /// # Errors
    /// With what failed, why, and what to do.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Publish(publish) => publish.run().await,
            Self::Versions(versions) => versions.run().await,
            Self::Show(show) => show.run().await,
            Self::Grant(grant) => grant.run(),
            Self::Retire(retire) => retire.run().await,
        }
    }
}

impl Publish {
    async fn run(self) -> anyhow::Result<()> {
        let api = self.operator.connect()?;
        let AppPath { org, app } = self.image.path;
        let keys = self.keys.filter(|keys| !keys.as_os_str().is_empty()).map(|keys| OperatorKeys::load(&keys, &org)).transpose()?;
        let repository = RepositoryName::of_app(&org, &app);
        let (tag, digest, number) = (self.image.tag, self.image.digest, self.number);
        let request =
            Request { org, app, repository, tag, digest, number, floor: self.floor, lower_floor: self.lower_floor, out: self.out };
        let published: Published = match keys {
            Some(keys) => publish(&api, &keys, request).await?,
            None => publish_managed(&api, request).await?,
        };
        self.output.print(&published, || {
            let platforms: Vec<&str> = published.platforms.iter().map(Platform::as_str).collect();
            let (app, version, platforms, digest) = (&published.app, published.version, platforms.join(", "), published.digest);
            match &published.proposal {
                None => format!("{app} version {version} published for {platforms} ({digest})"),
                Some(file) => format!("{app} version {version} for {platforms} ({digest}) written to {}, not published", file.display()),
            }
        })
    }
}

impl Versions {
    async fn run(self) -> anyhow::Result<()> {
        let path = format!("/api/v1/orgs/{}/apps/{}/versions", self.app.org, self.app.app);
        let versions: Vec<VersionRecord> = self.operator.connect()?.get(&path).await?;
        self.output.print(&json!({"versions": versions}), || {
            let line = |version: &VersionRecord| {
                let platforms: Vec<&str> = version.statements.keys().map(Platform::as_str).collect();
                format!("{:>6}  {}{}", version.version, platforms.join(", "), describe_retirement(version))
            };
            if versions.is_empty() {
                "no version is published".to_owned()
            } else {
                versions.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        })
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let (api, AppPath { org, app }) = (self.operator.connect()?, self.app);
        let versions: Vec<VersionRecord> = api.get(&format!("/api/v1/orgs/{org}/apps/{app}/versions")).await?;
        let Some(version) = versions.into_iter().find(|version| version.version == self.version) else {
            anyhow::bail!("{org}/{app} has no version {}; `hedgerow app versions {org}/{app}` lists those it has", self.version)
        };
        let mut statements = BTreeMap::new();
        for (platform, digest) in &version.statements {
            let path = format!("{app}/{}/{}.{platform}.json", version.version, digest.hex());
            let bytes = api.metadata_of(&org).target(&path, STATEMENT_BYTES_MAX).await?;
            let bytes = bytes.with_context(|| format!("the seed does not have the statement {digest}"))?;
            anyhow::ensure!(digest.same_algorithm(&bytes) == *digest, "the seed sent other bytes than {digest}; do not use this seed");
            statements.insert(platform.clone(), VersionStatement::parse(&bytes)?);
        }
        let evidence = evidence(&api, &statements).await?;
        let (published, retired) = (version.published, &version.retired);
        let shown = json!({
            "app": app, "version": version.version, "published": published, "retired": retired,
            "statements": statements, "evidence": evidence,
        });
        self.output.print(&shown, || {
            let images = statements.values().flat_map(|statement| {
                statement.images.iter().map(|image| {
                    let (repository, tag, digest) = (&image.repository, &image.tag, &image.manifest.digest);
                    let bytes: u64 = image.blobs.iter().map(|blob| blob.size).sum();
                    format!("  {:<14} {repository}:{tag}  {digest}  {bytes} bytes", statement.platform)
                })
            });
            let head = format!("{org}/{app} version {}{}", version.version, describe_retirement(&version));
            let evidence = evidence.iter().map(|found| {
                let Evidence { platform, repository, digest, .. } = found;
                format!("  {platform:<14} signed evidence (in-toto, DSSE) {repository}@{digest}")
            });
            std::iter::once(head).chain(images).chain(evidence).collect::<Vec<_>>().join("\n")
        })
    }
}

impl Retire {
    async fn run(self) -> anyhow::Result<()> {
        let AppPath { org, app } = self.app;
        let path = format!("/api/v1/orgs/{org}/apps/{app}/versions/{}/retire", self.version);
        let version: VersionRecord = self.operator.connect()?.post(&path, &api::Retire { reason: self.reason }).await?;
        self.output.print(&version, || format!("{org}/{app} version {}{}", version.version, describe_retirement(&version)))
    }
}

/// The evidence of a version that stands beside an image.
#[derive(Debug, Serialize)]
struct Evidence {
    platform: Platform,
    repository: RepositoryName,
    /// What it refers to.
    subject: Digest,
    /// The artifact's manifest.
    digest: Digest,
}

/// The evidence of a version, as the registry lists what refers to its images; none where they are gone.
async fn evidence(api: &SeedApi, statements: &BTreeMap<Platform, VersionStatement>) -> anyhow::Result<Vec<Evidence>> {
    let mut found = Vec::new();
    for statement in statements.values() {
        for image in &statement.images {
            let subject = evidence::subject(image).digest;
            let wanted = [
                (evidence::APP_ANNOTATION, statement.app.to_string()),
                (evidence::PLATFORM_ANNOTATION, statement.platform.to_string()),
                (evidence::VERSION_ANNOTATION, statement.version.to_string()),
            ];
            let listed = api.referrers(&image.repository, &subject, evidence::PAYLOAD_TYPE).await?;
            let own = listed.into_iter().filter(|listed| wanted.iter().all(|(name, value)| listed.annotations.get(*name) == Some(value)));
            found.extend(own.map(|listed| Evidence {
                platform: statement.platform.clone(),
                repository: image.repository.clone(),
                subject,
                digest: listed.digest,
            }));
        }
    }
    Ok(found)
}

/// What stands behind a version that was retired.
fn describe_retirement(version: &VersionRecord) -> String {
    let Some(retired) = &version.retired else { return String::new() };
    let reason = retired.reason.as_ref().map(|reason| format!(": {}", reason.escape_debug()));
    format!("  retired{}", reason.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_tag_with_and_without_its_digest() {
        let plain: TaggedApp = "acme/web:1.0".parse().unwrap();
        assert_eq!((plain.path.app.as_str(), plain.tag.as_str(), plain.digest), ("web", "1.0", None));
        let digest = Digest::sha256(b"index");
        let pinned: TaggedApp = format!("acme/web:1.0@{digest}").parse().unwrap();
        assert_eq!((pinned.tag.as_str(), pinned.digest), ("1.0", Some(digest)));
        for wrong in ["acme/web", "acme/web:1.0@", "acme/web:1.0@sha256:00", "acme:1.0"] {
            assert!(wrong.parse::<TaggedApp>().is_err(), "{wrong}");
        }
    }
}
