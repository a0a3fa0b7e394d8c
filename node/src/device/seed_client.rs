//! Requests of a device to its seed, over HTTPS with its certificate.
//!
//! Not here: when they are made; [`protocol::agent`] and [`protocol::swarm`] decide.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use protocol::digest::Digest;
use protocol::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use protocol::name::DeviceId;
use protocol::time::WallTime;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, IF_NONE_MATCH, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use tokio::io::AsyncRead;
use tokio::sync::Notify;
use tokio_util::io::StreamReader;

use crate::api::{ApiError, BODY_BYTES_MAX, DeviceStateAnswer, LAN_ADDRESSES_MAX, POLL_RECEIPT, RenewRequest, Renewed};
use crate::gzip::{self, GZIP};
use crate::transport::credentials::DeviceCredentials;
use crate::trust::{MetadataSource, SourceError};

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Without a byte for this long a request is given up; the seed's slowest share of a WAN is far above one byte.
const READ_TIME: Duration = Duration::from_secs(30);
/// A request that is answered with little has this long in all: on a slow WAN 1 MiB takes half a minute.
const CONTROL_TIME: Duration = Duration::from_secs(60);
/// A connection is not used again after this long: under the time after which the seed closes it, so that no request meets
/// the closing.
const IDLE_TIME: Duration = Duration::from_secs(45);
/// Connections kept for the next request: a poll and the claims of the swarm.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// The codes by which a seed says that a certificate is not valid at this time.
const CERTIFICATE_REFUSED: [&str; 2] = ["certificate_expired", "certificate_early"];

/// The way to the seed.
#[derive(Debug)]
pub struct SeedClient {
    http: RwLock<Client>,
    credentials: Arc<DeviceCredentials>,
    base: String,
    org: String,
    certificate_refused: Notify,
}

/// What a device says of itself when it polls.
#[derive(Clone, Debug, Default)]
pub struct Poll<'a> {
    /// The tag of the answer that it has.
    pub etag: Option<&'a str>,
    /// Where it takes swarm connections.
    pub port: u16,
    /// Its configured site.
    pub site: Option<&'a str>,
    /// Its addresses on its LANs, which the seed hints at to others of the site.
    pub lan: Vec<IpAddr>,
    /// The others of its site for which it asks too.
    pub others: Vec<DeviceId>,
}

/// The seed's answer to a poll.
#[derive(Debug)]
pub struct Polled {
    /// What it says.
    pub answer: StateAnswer,
    /// How late it is by its clock, if it said so.
    pub at: Option<WallTime>,
    /// The mark of the receipt, if it was asked for others too.
    pub receipt: Option<String>,
}

/// What the answer to a poll says.
#[derive(Debug)]
pub enum StateAnswer {
    /// Nothing changed since the answer with the given tag.
    Unchanged,
    /// What the device shall know.
    Changed {
        /// The tag of this answer.
        etag: Option<String>,
        /// The answer.
        state: Box<DeviceStateAnswer>,
    },
}

/// Why a seed did not send a blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It does not have it, or not for this device.
    #[error("the seed has no such blob for this device")]
    Missing,
    /// Anything else, which may pass.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl SeedClient {
    /// The client of a device towards the seed at `base`.
    ///
    /// # Errors
    /// When the credentials do not fit together.
    pub fn new(credentials: Arc<DeviceCredentials>, base: &str) -> anyhow::Result<Self> {
        let (http, org) = (RwLock::new(Self::client(&credentials)?), credentials.identity.org.to_string());
        Ok(Self { http, credentials, base: base.trim_end_matches('/').to_owned(), org, certificate_refused: Notify::new() })
    }

    /// Makes requests on new connections from now on: with the certificate and the authorities that hold now.
    pub fn reconnect(&self) {
        match Self::client(&self.credentials) {
            Ok(client) => *self.http.write().unwrap_or_else(PoisonError::into_inner) = client,
            Err(error) => tracing::error!(error = format!("{error:#}"), "the HTTPS client cannot be made anew; restart the device"),
        }
    }

    fn http(&self) -> Client {
        self.http.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn client(credentials: &DeviceCredentials) -> anyhow::Result<Client> {
        Client::builder()
            .tls_backend_preconfigured(credentials.seed_client()?)
            .http1_only()
            .https_only(true)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIME)
            .read_timeout(READ_TIME)
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build()
            .context("making the HTTPS client")
    }

    /// Ends when the seed has said that the device's certificate is not valid at this time.
    pub async fn certificate_refused(&self) {
        self.certificate_refused.notified().await;
    }

    /// What the seed says of the time stands on an answer of a server whose certificate was verified.
    fn note_time(&self, response: &Response) -> Option<WallTime> {
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date =
            date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).and_then(|date| u64::try_from(date.timestamp().as_second()).ok());
        let said = WallTime::from_unix_seconds(date?);
        self.credentials.admission().clock().heard(said);
        Some(said)
    }

    /// Asks for the next certificate.
    ///
    /// # Errors
    /// When the seed cannot be reached, or refuses.
    pub async fn renew(&self, request: &RenewRequest) -> anyhow::Result<Renewed> {
        let response = self.http().post(format!("{}/api/v1/device/renew", self.base)).timeout(CONTROL_TIME).json(request).send().await?;
        let _ = self.note_time(&response);
        let body = bounded(checked(response).await?, BODY_BYTES_MAX).await?;
        serde_json::from_slice(&body).context("the seed's answer to the renewal cannot be read")
    }

    /// Polls.
    ///
    /// # Errors
    /// When the seed cannot be reached or answers with an error.
    pub async fn state(&self, Poll { etag, port, site, lan, others }: Poll<'_>) -> anyhow::Result<Polled> {
        let request = self.http().get(format!("{}/api/v1/device/state", self.base)).timeout(CONTROL_TIME);
        let mut request = request.query(&[("port", port.to_string())]);
        if !lan.is_empty() {
            let lan: Vec<String> = lan.iter().take(LAN_ADDRESSES_MAX).map(IpAddr::to_string).collect();
            request = request.query(&[("lan", lan.join(","))]);
        }
        if let Some(site) = site {
            request = request.query(&[("site", site)]);
        }
        if !others.is_empty() {
            let others: Vec<String> = others.iter().map(DeviceId::to_string).collect();
            request = request.query(&[("others", others.join(","))]);
        }
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request.send().await?;
        let at = self.note_time(&response);
        let receipt = response.headers().get(POLL_RECEIPT).and_then(|mark| mark.to_str().ok()).map(str::to_owned);
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Polled { answer: StateAnswer::Unchanged, at, receipt });
        }
        let response = match checked(response).await {
            Ok(response) => response,
            Err(error) => {
                let is_certificate = |answer: &ApiError| CERTIFICATE_REFUSED.contains(&answer.code.as_str());
                if error.downcast_ref().is_some_and(is_certificate) {
                    self.certificate_refused.notify_one();
                }
                return Err(error);
            }
        };
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let body = bounded(response, BODY_BYTES_MAX).await?;
        let state = serde_json::from_slice(&body).context("the seed's answer to the poll cannot be read")?;
        Ok(Polled { answer: StateAnswer::Changed { etag, state: Box::new(state) }, at, receipt })
    }

    /// Reports, in the envelope that the device signed.
    ///
    /// # Errors
    /// When the seed does not take the report.
    pub async fn report(&self, report: &Envelope) -> anyhow::Result<()> {
        let request = self.http().post(format!("{}/api/v1/device/report", self.base)).timeout(CONTROL_TIME);
        checked(request.json(report).send().await?).await?;
        Ok(())
    }

    /// The bytes `range` of a blob, as they arrive.
    ///
    /// # Errors
    /// [`BlobError::Missing`] when the seed has no such blob; otherwise when it cannot be reached, or does not send exactly
    /// this range.
    pub async fn blob_range(&self, blob: &Digest, range: Range<u64>) -> Result<impl AsyncRead + Unpin + use<>, BlobError> {
        let length = range.end - range.start;
        let request = self.http().get(format!("{}/api/v1/device/blobs/{blob}", self.base));
        let request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let response = request.send().await.context("the seed did not answer")?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(BlobError::Missing);
        }
        let response = checked(response).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT || response.content_length() != Some(length) {
            let (status, sent) = (response.status(), response.content_length());
            return Err(anyhow!("the seed answered {status} with {sent:?} bytes to a request for {length}").into());
        }
        Ok(StreamReader::new(Box::pin(response.bytes_stream().map_err(std::io::Error::other))))
    }

    /// The signed list of revoked keys.
    ///
    /// # Errors
    /// When the seed cannot be reached or answers with an error.
    pub async fn revocations(&self) -> anyhow::Result<Vec<u8>> {
        let response = self.http().get(format!("{}/api/v1/device/revocations", self.base)).timeout(CONTROL_TIME).send().await?;
        bounded(checked(response).await?, ENVELOPE_BYTES_MAX).await
    }

    /// Gives back a list of revoked keys, as signed, that the seed has forgotten.
    ///
    /// # Errors
    /// When the seed does not take it.
    pub async fn give_back_revocations(&self, envelope: String) -> anyhow::Result<()> {
        let request = self.http().post(format!("{}/api/v1/device/revocations", self.base)).timeout(CONTROL_TIME);
        checked(request.header(CONTENT_TYPE, "application/json").body(envelope).send().await?).await?;
        Ok(())
    }

    async fn optional(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let attempt = async {
            let request = self.http().get(format!("{}/tuf/{}/{path}", self.base, self.org)).timeout(CONTROL_TIME);
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
impl MetadataSource for SeedClient {
    async fn metadata(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.optional(name, bytes_max).await
    }

    async fn target(&self, path: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, SourceError> {
        self.optional(&format!("targets/{path}"), bytes_max).await
    }
}

/// The response, if it is a success; otherwise the seed's own words.
///
/// # Errors
/// When it is not a success.
pub async fn checked(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = bounded(response, BODY_BYTES_MAX).await.unwrap_or_default();
    match serde_json::from_slice::<ApiError>(&body) {
        Ok(error) => Err(error.into()),
        Err(_) if status.is_redirection() => bail!("the seed answered {status}, which is not followed; name the address that it points to"),
        Err(_) => bail!("the seed answered {status}; is there a proxy in between, or is it another server?"),
    }
}

/// The body of a response, if it is not larger than `bytes_max`.
///
/// # Errors
/// When it is, or breaks off.
pub async fn bounded(mut response: Response, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            bail!("the answer has more than {bytes_max} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The same for an answer that may be compressed: neither what arrives nor what it stands for is larger than `bytes_max`.
///
/// # Errors
/// When it is, or cannot be read.
pub async fn decoded(response: Response, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let encoding = response.headers().get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes() == GZIP.as_bytes());
    let body = bounded(response, bytes_max).await?;
    match encoding {
        None => Ok(body),
        Some(true) => gzip::inflate(&body, bytes_max).context("the compressed answer cannot be taken"),
        Some(false) => bail!("the answer has an encoding that was not asked for; is there a proxy in between?"),
    }
}
