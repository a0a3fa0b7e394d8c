//! Manifests and tags, which are small and asked for often.
//!
//! Not here: the catalogue, which needs many repositories; see `large`.

use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use super::{Lab, REPOSITORY, Servers, progress};
use crate::bench::client::Endpoint;
use crate::bench::figures::{Goal, Runs};
use crate::bench::load::{self, Content, Creation, Way};

/// Connections that ask for manifests.
const CONNECTIONS: usize = 16;

/// How long one server is asked in one run.
const ASK_TIME: Duration = Duration::from_secs(3);

/// Tags of the list.
const TAGS: usize = 10_000;

/// Connections that push manifests and tags.
const PUSH_CONNECTIONS: usize = 32;

const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest of a small image, made different from others by `note`, with the config that all of them have.
pub(super) fn manifest(config: &Content, note: &str) -> String {
    let (digest, bytes) = (&config.digest, config.bytes);
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MEDIA_TYPE}\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\
         \"digest\":\"{digest}\",\"size\":{bytes}}},\"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\
         \"digest\":\"{digest}\",\"size\":{bytes}}}],\"annotations\":{{\"note\":\"{note}\"}}}}"
    )
}

/// The config of all manifests, pushed into a repository.
pub(super) async fn push_config(endpoint: &Endpoint, repository: &str) -> Result<Content> {
    let config = Content::new(1000);
    load::push(endpoint, repository, &config, Way::Whole, 1).await?;
    Ok(config)
}

/// The request that pushes a manifest.
pub(super) fn put(repository: &str, reference: &str, manifest: String) -> Creation {
    Creation { method: "PUT", path: path(repository, reference), media_type: MEDIA_TYPE, body: manifest }
}

fn path(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

/// GET and HEAD by tag and by digest.
pub(super) fn manifests(lab: &mut Lab, servers: &Servers) -> Result<()> {
    let text = manifest(&Content::new(1000), "measured");
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&text)));
    std::fs::write(servers.files.join("manifest"), &text)?;
    load::block_on(async {
        for server in servers.registries() {
            push_config(&server.endpoint, REPOSITORY).await?;
            let tagged = std::iter::once(put(REPOSITORY, "measured", text.clone()));
            load::create(&server.endpoint, tagged, 1).await.context(server.name)?;
        }
        Ok(())
    })?;
    for (method, by, reference) in
        [("GET", "tag", "measured"), ("HEAD", "tag", "measured"), ("GET", "digest", &digest), ("HEAD", "digest", &digest)]
    {
        let case = format!("manifest-{}-{by}", method.to_ascii_lowercase());
        let (mut per_second, mut p50, mut p99) = (Runs::default(), Runs::default(), Runs::default());
        for _ in 0..lab.runs {
            for server in servers.all() {
                let file = std::ptr::eq(server, &servers.nginx);
                let path = if file { "/manifest".into() } else { path(REPOSITORY, reference) };
                let rate = load::rate(&server.endpoint, method, &path, MEDIA_TYPE, CONNECTIONS, ASK_TIME).context(server.name)?;
                per_second.add(server.name, rate.per_second);
                p50.add(server.name, rate.p50_ms);
                p99.add(server.name, rate.p99_ms);
            }
        }
        progress(&format!("{case}: {:.0} requests/s", per_second.median("hedgerow")));
        let ratio = |ours: f64, theirs: f64| ours / theirs;
        lab.results.extend([
            per_second.compare(&case, "requests/s", "distribution", ratio, Goal::AtLeast(25.0)),
            per_second.compare(&case, "requests/s", "nginx", ratio, Goal::AtLeast(0.7)),
            p50.compare(&case, "p50 ms", "distribution", ratio, Goal::None),
            p99.compare(&case, "p99 ms", "distribution", ratio, Goal::AtMost(1.0)),
        ]);
        lab.keep(&case, &per_second);
        lab.keep(&format!("{case}, p99"), &p99);
    }
    Ok(())
}

/// The whole list of a repository with many tags, in as many pages as it takes.
pub(super) fn tags(lab: &mut Lab, servers: &Servers) -> Result<()> {
    const TAGGED: &str = "bench/tags";
    let mut seconds = Runs::default();
    load::block_on(async {
        for server in servers.registries() {
            progress(&format!("pushing {TAGS} tags to {}", server.name));
            let text = manifest(&push_config(&server.endpoint, TAGGED).await?, "tagged");
            let tagged = (0..TAGS).map(|n| put(TAGGED, &format!("v{n:05}"), text.clone()));
            load::create(&server.endpoint, tagged, PUSH_CONNECTIONS).await.context(server.name)?;
        }
        for _ in 0..lab.runs {
            for server in servers.registries() {
                let listed = load::list(&server.endpoint, &format!("/v2/{TAGGED}/tags/list?n={TAGS}"), "tags").await?;
                let (took, count) = listed.with_context(|| format!("{} does not list tags", server.name))?;
                anyhow::ensure!(count == TAGS, "{} lists {count} tags instead of {TAGS}", server.name);
                seconds.add(server.name, took);
            }
        }
        Ok(())
    })?;
    let compared = seconds.compare("tags-10000", "s", "distribution", |ours, theirs| ours / theirs, Goal::AtMost(1.0));
    lab.results.push(compared);
    lab.keep("tags-10000", &seconds);
    Ok(())
}
