//! The files of an organisation's TUF repository as answers to requests: compressed for those who take that, and kept
//! compressed, because all devices of an organisation ask for the same ones.
//!
//! Not here: what the files say; see [`crate::trust`].

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use protocol::name::OrgName;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::task::spawn_blocking;

use super::Seed;
use super::api::Refused;
use crate::gzip;
use crate::trust::statement_digest;

/// Compressed files kept, in bytes: the newest snapshot and app roles of a few hundred organisations.
const KEPT_BYTES_MAX: u64 = 16 << 20;
/// What keeping a file costs besides its name and content, in bytes, about.
const FILE_COST_BYTES: u64 = 128;
/// A file below this is sent as it is, in bytes: it fits into one packet anyway.
const COMPRESSED_BYTES_MIN: usize = 1024;

/// Files in compressed form, by organisation and name.
#[derive(Debug)]
pub struct Compressed(Cache<String, Bytes, Cost>);

#[derive(Clone, Debug)]
struct Cost;

impl Weighter<String, Bytes> for Cost {
    fn weight(&self, name: &String, content: &Bytes) -> u64 {
        FILE_COST_BYTES + name.len() as u64 + content.len() as u64
    }
}

impl Default for Compressed {
    fn default() -> Self {
        Self(Cache::with_weighter(1000, KEPT_BYTES_MAX, Cost))
    }
}

impl Compressed {
    /// The file `name`, whose content never changes, compressed.
    async fn of(&self, name: String, content: Bytes) -> Result<Bytes, Refused> {
        if let Some(kept) = self.0.get(&name) {
            return Ok(kept);
        }
        let compressed = spawn_blocking(move || gzip::compress(&content)).await.map_err(|error| Refused::failed(&error))?;
        let compressed = Bytes::from(compressed.map_err(|error| Refused::failed(&error))?);
        self.0.insert(name, compressed.clone());
        Ok(compressed)
    }
}

/// A file of an organisation's TUF repository: metadata, or under `targets/` a statement or the archive of an app.
///
/// # Errors
/// When there is none.
pub async fn tuf_file(seed: &Seed, org: &OrgName, path: &str, headers: &HeaderMap) -> Result<Response, Refused> {
    let missing = || Refused::new(StatusCode::NOT_FOUND, "missing", format!("{org} has no trust metadata {path}"));
    let content: Bytes = match path.strip_prefix("targets/") {
        Some(target) if let Some(digest) = statement_digest(target) => {
            let size = seed.store.org_blob(org, &digest).await?.ok_or_else(missing)?;
            let bytes = seed.blobs.read(&digest, size).await.map_err(|error| Refused::failed(&error))?;
            bytes.ok_or_else(missing)?
        }
        _ => seed.store.tuf_file(org, path).await?.ok_or_else(missing)?.content.into(),
    };
    // Every file but the timestamp has its version or digest in its name.
    let is_fixed = path.starts_with("targets/") || path.starts_with(|first: char| first.is_ascii_digit());
    let is_compressed = is_fixed && content.len() >= COMPRESSED_BYTES_MIN && gzip::is_accepted(headers);
    let body = if is_compressed { seed.compressed.of(format!("{org}/{path}"), content).await? } else { content };
    let mut response = ([(CONTENT_TYPE, "application/json")], body).into_response();
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_compressed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(gzip::GZIP));
    }
    Ok(response)
}
