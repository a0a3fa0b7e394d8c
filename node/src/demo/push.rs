//! Pushing a release through `/v2/`, as any OCI client would: blobs that are missing, then manifests, then the tag.
//!
//! Not here: what is pushed; see [`super::image`].

use anyhow::{Context, bail};
use futures_util::TryStreamExt as _;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use super::image::{Blob, Content, Release};
use super::report::Progress;

/// What is read of a file at a time: all that is in memory of a layer.
const BLOCK_BYTES: usize = 64 << 10;

/// A repository of a registry.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    /// Makes requests.
    pub(super) http: Client,
    /// The registry.
    pub(super) url: String,
    /// Who pushes.
    pub(super) access_key: String,
    /// Where to.
    pub(super) repository: String,
}

impl Registry {
    /// Pushes what is missing of `release`.
    pub(super) async fn push(&self, release: &Release, progress: &Progress) -> anyhow::Result<()> {
        let bar = progress.bytes(&format!("push {}:{}", self.repository, release.tag), release.blobs.iter().map(|blob| blob.size).sum());
        for blob in &release.blobs {
            self.push_blob(blob, &bar).await.with_context(|| format!("pushing the blob {}", blob.digest))?;
        }
        let (last, manifests) = release.documents.split_last().context("a release has an index")?;
        let manifests = manifests.iter().map(|manifest| (manifest, manifest.digest.to_string()));
        for (document, reference) in manifests.chain([(last, release.tag.to_owned())]) {
            let request = self.request(Method::PUT, &self.path(&format!("manifests/{reference}")));
            let request = request.header(CONTENT_TYPE, document.media_type.to_string()).body(document.bytes.clone());
            expect(request, StatusCode::CREATED).await.with_context(|| format!("pushing the manifest {reference}"))?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    async fn push_blob(&self, blob: &Blob, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
        let known = self.request(Method::HEAD, &self.path(&format!("blobs/{}", blob.digest))).send().await?;
        if known.status() == StatusCode::OK {
            bar.inc(blob.size);
            return Ok(());
        }
        let started =
            expect(self.request(Method::POST, &self.path("blobs/uploads/")).header(CONTENT_LENGTH, 0), StatusCode::ACCEPTED).await?;
        let location = location(&started)?;
        let location = match &blob.content {
            Content::Bytes(_) => location,
            Content::File(path) => {
                let file = File::open(path).await.with_context(|| format!("opening {}", path.display()))?;
                let bar = bar.clone();
                let blocks = ReaderStream::with_capacity(file, BLOCK_BYTES).inspect_ok(move |block| bar.inc(block.len() as u64));
                let patch = self.request(Method::PATCH, &location).header(CONTENT_TYPE, "application/octet-stream");
                let patched = expect(patch.body(Body::wrap_stream(blocks)), StatusCode::ACCEPTED).await?;
                self::location(&patched)?
            }
        };
        let end = self.request(Method::PUT, &location).query(&[("digest", blob.digest.to_string())]);
        let end = match &blob.content {
            Content::Bytes(bytes) => end.body(bytes.clone()),
            Content::File(_) => end.header(CONTENT_LENGTH, 0),
        };
        expect(end, StatusCode::CREATED).await?;
        Ok(())
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }

    fn request(&self, method: Method, location: &str) -> RequestBuilder {
        let url = if location.starts_with('/') { format!("{}{location}", self.url) } else { location.to_owned() };
        self.http.request(method, url).basic_auth("demo", Some(&self.access_key))
    }
}

fn location(response: &Response) -> anyhow::Result<String> {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    Ok(location.context("the registry did not say where the upload goes on")?.to_owned())
}

async fn expect(request: RequestBuilder, wanted: StatusCode) -> anyhow::Result<Response> {
    let response = request.send().await?;
    let status = response.status();
    if status != wanted {
        bail!("the registry answered {status}: {}", response.text().await.unwrap_or_default().chars().take(500).collect::<String>());
    }
    Ok(response)
}
