//! Evidence of a version for tools that know nothing of Hedgerow: an in-toto Statement v1 that names the image and the
//! version statement, in a DSSE envelope signed by the app's key, as an OCI artifact that refers to the image.
//!
//! The predicate, of type [`PREDICATE_TYPE`], has these fields:
//!
//! | field | meaning |
//! |---|---|
//! | `org`, `app`, `version`, `platform` | the version, as `hedgerow app show` names it |
//! | `repository`, `tag` | where the image was pushed |
//! | `statement.name` | the version statement's path among the organisation's TUF targets |
//! | `statement.digest.sha256` | its SHA-256: the statement says what devices run, the evidence repeats the part others ask for |
//!
//! Its subjects are the index, if the tag named one, and the platform's manifest.
//!
//! Not here: what a device believes, which is the version statement alone; see [`super::version`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::version::{Descriptor, Image, VersionStatement};
use crate::digest::Digest;
use crate::envelope::{Envelope, EnvelopeRefused};
use crate::name::{AppName, OrgName, Platform, RepositoryName, Tag};

/// The DSSE payload type (in-toto attestation framework v1, "Envelope"), and the type of the artifact.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type of what is said of the image.
pub const PREDICATE_TYPE: &str = "urn:hedgerow:version:v1";
/// The media type of the envelope as a layer, as cosign has it.
pub const ENVELOPE_TYPE: &str = "application/vnd.dsse.envelope.v1+json";
/// The media type of the artifact's manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The artifact's empty configuration (image-spec, "Guidance for an Empty Descriptor").
pub const EMPTY_CONFIG: &[u8] = b"{}";

/// The annotations of the artifact, by which lists of referrers tell versions apart.
pub const VERSION_ANNOTATION: &str = "org.opencontainers.image.version";
/// The app, likewise.
pub const APP_ANNOTATION: &str = "urn:hedgerow:app";
/// The platform, likewise.
pub const PLATFORM_ANNOTATION: &str = "urn:hedgerow:platform";

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// Where cosign and `BuildKit` look for the predicate type of an attestation.
const PREDICATE_ANNOTATIONS: [&str; 2] = ["predicateType", "in-toto.io/predicate-type"];

/// The signed document (in-toto attestation framework v1, "Statement").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Resource>,
    predicate_type: String,
    predicate: Predicate,
}

/// Something by its digests (in-toto, "`ResourceDescriptor`").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    org: OrgName,
    app: AppName,
    version: u64,
    platform: Platform,
    repository: RepositoryName,
    tag: Tag,
    statement: Resource,
}

/// Why evidence is not stored beside an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceRefused {
    /// It is not signed as it must be.
    #[error("the evidence is not signed by a key of the app: {0}")]
    Envelope(#[from] EnvelopeRefused),
    /// It is not what follows from the statement.
    #[error("the evidence says something else than the version statement")]
    OtherContent,
}

/// The manifest that evidence refers to: what the image's tag named.
pub const fn subject(image: &Image) -> &Descriptor {
    match &image.index {
        Some(index) => index,
        None => &image.manifest,
    }
}

impl Evidence {
    /// What is to be signed for `image` of `statement`, whose exact bytes have the SHA-256 `digest`.
    pub fn of(statement: &VersionStatement, digest: &Digest, image: &Image) -> Self {
        let resource = |name: String, digest: &Digest| Resource { name, digest: [(digest.algorithm().name().into(), digest.hex())].into() };
        let named = image.index.iter().chain([&image.manifest]);
        Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: named.map(|descriptor| resource(image.repository.to_string(), &descriptor.digest)).collect(),
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                org: statement.org.clone(),
                app: statement.app.clone(),
                version: statement.version,
                platform: statement.platform.clone(),
                repository: image.repository.clone(),
                tag: image.tag.clone(),
                statement: resource(statement.name().target_path(&statement.platform), digest),
            },
        }
    }

    /// The bytes to be signed.
    ///
    /// # Panics
    /// Never: it consists of strings and numbers.
    #[expect(clippy::unwrap_used, reason = "strings, numbers and maps with string keys always serialise")]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap()
    }

    /// Whether `envelope` holds exactly this, signed by a key of which `fits(signed, signature)` knows.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, envelope: &[u8], fits: impl Fn(&[u8], &[u8]) -> bool) -> Result<(), EvidenceRefused> {
        let payload = Envelope::open_by(envelope, PAYLOAD_TYPE, |_, signed, signature| fits(signed, signature))?;
        let found: Self = serde_json::from_slice(&payload).map_err(|_| EvidenceRefused::OtherContent)?;
        if found == *self { Ok(()) } else { Err(EvidenceRefused::OtherContent) }
    }

    /// The artifact that carries `envelope` beside `image`: an image manifest with an artifact type and a subject
    /// (image-spec 1.1, "Guidelines for Artifact Usage").
    pub fn artifact(&self, envelope: &[u8], image: &Image) -> Vec<u8> {
        let descriptor =
            |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": PAYLOAD_TYPE,
            "config": descriptor(EMPTY_TYPE, EMPTY_CONFIG),
            "layers": [descriptor(ENVELOPE_TYPE, envelope)],
            "subject": subject(image),
            "annotations": self.annotations(),
        });
        manifest.to_string().into_bytes()
    }

    /// The annotations of the artifact.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let Predicate { app, version, platform, .. } = &self.predicate;
        let own =
            [(APP_ANNOTATION, app.to_string()), (PLATFORM_ANNOTATION, platform.to_string()), (VERSION_ANNOTATION, version.to_string())];
        let all = own.into_iter().chain(PREDICATE_ANNOTATIONS.map(|name| (name, PREDICATE_TYPE.to_owned())));
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Signer as _, SigningKey};
    use serde_json::Value;

    use super::*;
    use crate::statement::version::FORMAT;

    fn statement() -> VersionStatement {
        let descriptor =
            |media_type: &str, text: &str| Descriptor { media_type: media_type.into(), digest: Digest::sha256(text.as_bytes()), size: 10 };
        let image = Image {
            repository: "acme/web".parse().unwrap(),
            tag: "1.0".parse().unwrap(),
            index: Some(descriptor("application/vnd.oci.image.index.v1+json", "index")),
            manifest: descriptor(MANIFEST_TYPE, "manifest"),
            blobs: Vec::new(),
        };
        let (org, app) = ("acme".parse().unwrap(), "web".parse().unwrap());
        VersionStatement { format: FORMAT, org, app, version: 3, platform: "linux-amd64".parse().unwrap(), images: vec![image] }
    }

    #[test]
    fn it_is_an_in_toto_statement_about_index_and_manifest() {
        let statement = statement();
        let evidence = Evidence::of(&statement, &Digest::sha256(b"statement"), &statement.images[0]);
        let hex = |text: &str| json!({"sha256": Digest::sha256(text.as_bytes()).hex()});
        let found: Value = serde_json::from_slice(&evidence.to_bytes()).unwrap();
        let wanted = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "acme/web", "digest": hex("index")}, {"name": "acme/web", "digest": hex("manifest")}],
            "predicateType": "urn:hedgerow:version:v1",
            "predicate": {
                "org": "acme", "app": "web", "version": 3, "platform": "linux-amd64", "repository": "acme/web", "tag": "1.0",
                "statement": {"name": "web/3/linux-amd64.json", "digest": hex("statement")},
            },
        });
        assert_eq!(found, wanted);
    }

    #[test]
    fn only_this_content_under_a_known_key_is_evidence() {
        let (statement, key) = (statement(), SigningKey::from_bytes(&[1; 32]));
        let [image] = statement.images.as_slice() else { panic!("one image") };
        let evidence = Evidence::of(&statement, &Digest::sha256(b"statement"), image);
        let seal = |evidence: &Evidence| {
            let envelope = Envelope::seal(PAYLOAD_TYPE, &evidence.to_bytes(), "k", |bytes| key.sign(bytes));
            serde_json::to_vec(&envelope).unwrap()
        };
        let fits = |signed: &[u8], signature: &[u8]| {
            Signature::from_slice(signature).is_ok_and(|signature| key.verifying_key().verify_strict(signed, &signature).is_ok())
        };
        assert_eq!(evidence.check(&seal(&evidence), fits), Ok(()));
        let unknown = evidence.check(&seal(&evidence), |_, _| false);
        assert_eq!(unknown, Err(EvidenceRefused::Envelope(EnvelopeRefused::BadSignature)));
        let other = Evidence::of(&statement, &Digest::sha256(b"other"), image);
        assert_eq!(evidence.check(&seal(&other), fits), Err(EvidenceRefused::OtherContent));
    }

    #[test]
    fn its_artifact_refers_to_what_the_tag_named() {
        let mut statement = statement();
        let evidence = Evidence::of(&statement, &Digest::sha256(b"statement"), &statement.images[0]);
        let bytes = evidence.artifact(b"envelope", &statement.images[0]);
        let read = crate::oci::manifest::Manifest::parse(&bytes, Some(MANIFEST_TYPE)).unwrap();
        assert_eq!((read.subject, read.artifact_type.as_deref()), (Some(Digest::sha256(b"index")), Some(PAYLOAD_TYPE)));
        assert_eq!((read.annotations[VERSION_ANNOTATION].as_str(), read.annotations["predicateType"].as_str()), ("3", PREDICATE_TYPE));
        let named: Vec<Digest> = read.named.iter().map(|named| named.digest).collect();
        assert_eq!(named, [Digest::sha256(b"{}"), Digest::sha256(b"envelope")]);
        statement.images[0].index = None;
        assert_eq!(subject(&statement.images[0]).digest, Digest::sha256(b"manifest"));
    }
}
