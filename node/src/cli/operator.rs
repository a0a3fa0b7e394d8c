//! What operator commands share: where the seed is, the access key, and requests.
//!
//! Not here: what the requests mean; see [`crate::api`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use clap::Args;
use protocol::digest::Digest;
use protocol::name::{AppName, OrgName, RepositoryName};
use protocol::oci::manifest::MANIFEST_BYTES_MOST;
use reqwest::header::{ACCEPT_ENCODING, LINK};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::device::seed_client::{bounded, checked, decoded};
use crate::files;
use crate::gzip::GZIP;
use crate::transport::tls;
use crate::trust::{MetadataSource, SourceError, TrustChange, publication};

/// Where the seed is, and who asks.
#[derive(Clone, Debug, Args)]
pub struct Operator {
    /// The seed's registry and API, as `seed init` printed it.
    #[arg(long, env = "HEDGEROW_URL")]
    url: String,
    /// The access key.
    #[arg(long, env = "HEDGEROW_ACCESS_KEY", hide_env_values = true)]
    access_key: String,
    /// The seed's CA certificate, if it made its own.
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CA_FILE")]
    ca_file: Option<PathBuf>,
}

/// An app by its full name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPath {
    /// The organisation.
    pub org: OrgName,
    /// The app.
    pub app: AppName,
}

impl std::str::FromStr for AppPath {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (org, app) = text.split_once('/').context("an app is written ORG/APP, for example acme/web")?;
        Ok(Self { org: org.parse()?, app: app.parse()? })
    }
}

/// The most referrers of one manifest that are asked for: more than people can read.
const REFERRERS_MAX: usize = 4096;

/// A manifest that refers to another (distribution-spec, "Listing Referrers").
#[derive(Clone, Debug, Deserialize)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Referrers {
    manifests: Vec<Referrer>,
}

/// Requests to a seed.
#[derive(Debug)]
pub struct SeedApi {
    http: Client,
    base: String,
    access_key: String,
}

impl Operator {
    /// Opens the way to the seed.
    ///
    /// # Errors
    /// When the CA certificate cannot be read.
    pub fn connect(&self) -> anyhow::Result<SeedApi> {
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60));
        let ca_file = self.ca_file.as_ref().filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = ca_file {
            builder = builder.tls_backend_preconfigured(tls::operator_client(&files::read_text(path)?)?);
        }
        let http = builder.build().context("making the HTTP client")?;
        Ok(SeedApi { http, base: self.url.trim_end_matches('/').to_owned(), access_key: self.access_key.clone() })
    }
}

impl SeedApi {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.access_key)
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request
            .send()
            .await
            .with_context(|| format!("the seed at {} cannot be reached; is it running, and is --url right?", self.base))?;
        checked(response).await
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let body = bounded(self.send(request).await?, publication::PUBLICATION_BYTES_MAX).await?;
        serde_json::from_slice(&body).with_context(|| format!("the answer of {} cannot be read; is it a Hedgerow seed?", self.base))
    }

    /// Asks for `path`.
    ///
    /// # Errors
    /// When the seed cannot be reached or refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(self.request(Method::GET, path)).await
    }

    /// Asks for `path` with these parameters.
    ///
    /// # Errors
    /// When the seed cannot be reached or refuses.
    pub async fn get_with<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// When the seed cannot be reached or refuses.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// Hands over a change of who may sign for `org`.
    ///
    /// # Errors
    /// When the seed cannot be reached or refuses.
    pub async fn put_trust(&self, org: &OrgName, change: &TrustChange) -> anyhow::Result<()> {
        self.send(self.request(Method::POST, &format!("/api/v1/orgs/{org}/trust")).json(change)).await.map(drop)
    }

    /// Has `path` removed.
    ///
    /// # Errors
    /// When the seed cannot be reached or refuses.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    /// Changes at `path` what `body` speaks of.
    ///
    /// # Errors
    /// When the seed cannot be reached or refuses.
    pub async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.json(self.request(Method::PATCH, path).json(body)).await
    }

    /// Asks for a manifest: its exact bytes and media type.
    ///
    /// # Errors
    /// When there is none, or it is larger than `bytes_max`.
    pub async fn manifest(&self, repository: &str, reference: &str, accept: &str, bytes_max: usize) -> anyhow::Result<(Vec<u8>, String)> {
        let request = self.request(Method::GET, &format!("/v2/{repository}/manifests/{reference}")).header("Accept", accept);
        let response = request.send().await.with_context(|| format!("the seed at {} cannot be reached", self.base))?;
        match response.status() {
            StatusCode::NOT_FOUND => anyhow::bail!("{repository}:{reference} is not in the registry; push it first"),
            StatusCode::UNAUTHORIZED => anyhow::bail!("the access key may not read {repository}; check --access-key"),
            _ => {}
        }
        let response = checked(response).await?;
        let media_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Ok((bounded(response, bytes_max).await?, media_type))
    }

    /// Asks for what refers to a manifest and is of this type, page by page.
    ///
    /// # Errors
    /// When the seed cannot be reached or refuses.
    pub async fn referrers(&self, repository: &RepositoryName, subject: &Digest, artifact_type: &str) -> anyhow::Result<Vec<Referrer>> {
        let (mut path, mut found) = (format!("/v2/{repository}/referrers/{subject}"), Vec::new());
        let mut query = vec![("artifactType", artifact_type.to_owned())];
        loop {
            let response = self.send(self.request(Method::GET, &path).query(&query)).await?;
            let next = response.headers().get(LINK).and_then(|link| link.to_str().ok()?.strip_prefix('<')?.split_once('>'));
            let next = next.map(|(next, _)| next.to_owned()).filter(|next| next.starts_with("/v2/"));
            let page: Referrers = serde_json::from_slice(&bounded(response, MANIFEST_BYTES_MOST).await?).context("no list of referrers")?;
            found.extend(page.manifests);
            match next {
                Some(next) if found.len() < REFERRERS_MAX => path = next,
                _ => return Ok(found),
            }
            query.clear();
        }
    }

    /// Asks for a small blob of a repository.
    ///
    /// # Errors
    /// When there is none, or it is larger than `bytes_max`.
    pub async fn blob(&self, repository: &str, digest: &str, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
        let response = self.send(self.request(Method::GET, &format!("/v2/{repository}/blobs/{digest}"))).await?;
        bounded(response, bytes_max).await
    }

    /// The trust metadata of `org`, as this seed serves it.
    pub fn metadata_of<'a>(&'a self, org: &'a OrgName) -> OrgMetadata<'a> {
        OrgMetadata { api: self, org }
    }
}

/// The trust metadata of one organisation on a seed.
pub struct OrgMetadata<'a> {
    api: &'a SeedApi,
    org: &'a OrgName,
}

impl OrgMetadata<'_> {
    async fn optional(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let attempt = async {
            let request = self.api.request(Method::GET, &format!("/tuf/{}/{path}", self.org));
            let response = request.header(ACCEPT_ENCODING, GZIP).send().await?;
            if response.status() == StatusCode::NOT_FOUND {
                return anyhow::Ok(None);
            }
            Ok(Some(decoded(checked(response).await?, bytes_max).await?))
        };
        Ok(attempt.await?)
    }
}

#[async_trait]
impl MetadataSource for OrgMetadata<'_> {
    async fn metadata(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.optional(name, bytes_max).await
    }

    async fn target(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.optional(&format!("targets/{path}"), bytes_max).await
    }
}
