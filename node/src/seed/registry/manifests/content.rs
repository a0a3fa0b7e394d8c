//! What a registry reads in a manifest: what it names, and what lists of referrers show. Everything else is the client's.
//!
//! Not here: whether what it names exists.

use std::collections::BTreeMap;

use axum::http::HeaderValue;
use protocol::digest::Digest;
use protocol::time::WallTime;
use serde::Deserialize;

use super::super::error::Refused;
use crate::store::meta::ManifestRecord;

/// The most that one manifest may name: images in the field have under 130 layers, build caches some thousand.
const NAMED_MAX: usize = 8192;

/// The longest media type, in bytes (RFC 6838 §4.2: 127 each for type and subtype).
const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// The fields of an image manifest or index (OCI image-spec) that matter here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Content {
    #[serde(skip)]
    pushed_type: String,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

/// What a manifest names and must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) may_be_manifest: bool,
}

impl Content {
    /// Reads a manifest that was pushed with this content type.
    pub(super) fn parse(bytes: &[u8], content_type: Option<&HeaderValue>) -> Result<Self, Refused> {
        let invalid = |reason: String| Refused::ManifestInvalid(format!("the manifest cannot be read: {reason}"));
        let mut content: Self = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        let sent = content_type.and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next()).map(str::trim);
        let pushed = match (sent.filter(|sent| !sent.is_empty()), &content.media_type) {
            (Some(sent), Some(stated)) if sent != stated => {
                return Err(invalid(format!("its mediaType is {stated}, it was sent as {sent}")));
            }
            (Some(sent), _) => sent.to_owned(),
            (None, Some(stated)) => stated.clone(),
            (None, None) => return Err(invalid("neither Content-Type nor mediaType says what it is".into())),
        };
        let visible = pushed.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || pushed.len() > MEDIA_TYPE_BYTES_MAX {
            return Err(invalid("its media type is none".into()));
        }
        content.pushed_type = pushed;
        Ok(content)
    }

    /// What must be in the repository before this manifest.
    pub(super) fn must_exist(&self) -> Result<Vec<Named>, Refused> {
        let blobs = self.config.iter().chain(&self.layers).filter(|descriptor| descriptor.is_distributable());
        let named = blobs.map(|descriptor| (descriptor, false)).chain(self.manifests.iter().map(|descriptor| (descriptor, true)));
        let named: Result<Vec<Named>, Refused> = named
            .take(NAMED_MAX + 1)
            .map(|(descriptor, may_be_manifest)| Ok(Named { digest: descriptor.digest()?, size: descriptor.size, may_be_manifest }))
            .collect();
        let named = named?;
        if named.len() > NAMED_MAX {
            return Err(Refused::ManifestInvalid(format!("a manifest may name at most {NAMED_MAX} blobs and manifests")));
        }
        Ok(named)
    }

    /// The record of the manifest. An image without artifact type has that of its configuration.
    pub(super) fn record(self, digest: Digest, size: u64, pushed: WallTime) -> Result<ManifestRecord, Refused> {
        let subject = self.subject.as_ref().map(Descriptor::digest).transpose()?;
        let config_type = self.config.map(|config| config.media_type).filter(|media_type| !media_type.is_empty());
        let annotations = self.annotations.filter(|_| subject.is_some()).unwrap_or_default();
        let artifact_type = self.artifact_type.filter(|artifact_type| !artifact_type.is_empty()).or(config_type);
        Ok(ManifestRecord { digest, media_type: self.pushed_type, size, subject, artifact_type, annotations, pushed })
    }
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, Refused> {
        self.digest.parse().map_err(|reason| Refused::ManifestInvalid(format!("the manifest names {:?}: {reason}", self.digest)))
    }

    /// Layers of some base images must not leave their vendor's servers (image-spec, "Non-Distributable Layers").
    fn is_distributable(&self) -> bool {
        let marked = self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.");
        !marked && self.urls.as_ref().is_none_or(Vec::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

    fn parse(text: &str, content_type: Option<&'static str>) -> Result<Content, Refused> {
        Content::parse(text.as_bytes(), content_type.map(HeaderValue::from_static).as_ref())
    }

    #[test]
    fn the_type_is_the_pushed_one_without_parameters() {
        let pushed = |text: &str, content_type| parse(text, content_type).map(|content| content.pushed_type);
        assert_eq!(pushed("{}", Some("application/x; charset=utf-8")).unwrap(), "application/x");
        assert_eq!(pushed(&format!(r#"{{"mediaType":"{OCI}"}}"#), None).unwrap(), OCI);
        for (text, content_type) in [("{}", None), ("[]", Some(OCI)), ("", Some(OCI)), (r#"{"mediaType":"a/b"}"#, Some("a/c"))] {
            assert!(matches!(pushed(text, content_type), Err(Refused::ManifestInvalid(_))), "{text}");
        }
    }

    #[test]
    fn names_what_must_exist() {
        let digest = |text: &str| Digest::sha256(text.as_bytes());
        let text = serde_json::json!({
            "config": { "mediaType": "a/config", "digest": digest("config"), "size": 1 },
            "layers": [
                { "mediaType": "a/layer", "digest": digest("layer"), "size": 2 },
                { "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": digest("foreign"), "size": 3 },
                { "mediaType": "a/layer", "digest": digest("elsewhere"), "size": 4, "urls": ["https://example.com/"] },
            ],
            "manifests": [{ "digest": digest("manifest"), "size": 5 }],
            "subject": { "digest": digest("subject"), "size": 6 },
            "annotations": { "a": "b" },
        });
        let content = parse(&text.to_string(), Some(OCI)).unwrap();
        let named = |text: &str, size, may_be_manifest| Named { digest: digest(text), size, may_be_manifest };
        let expected = [named("config", 1, false), named("layer", 2, false), named("manifest", 5, true)];
        assert_eq!(content.must_exist().unwrap(), expected);
        let record = content.record(digest("x"), 9, WallTime::from_unix_seconds(1)).unwrap();
        assert_eq!((record.subject, record.artifact_type.as_deref()), (Some(digest("subject")), Some("a/config")));
        assert_eq!(record.annotations.len(), 1);
    }

    #[test]
    fn refuses_digests_that_are_none() {
        let content = parse(r#"{"layers":[{"digest":"sha256:baddigeststring","size":1}]}"#, Some(OCI)).unwrap();
        assert!(matches!(content.must_exist(), Err(Refused::ManifestInvalid(_))));
    }
}
