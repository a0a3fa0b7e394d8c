//! What a registry reads in a manifest: what it names, and what lists of referrers show. Everything else is the client's.
//!
//! `serde_json` refuses more than 128 levels, so that no depth ends the process.
//!
//! Not here: whether what it names exists; reading the body, which keeps to the largest manifest.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::digest::{Digest, DigestRefused};

/// The largest manifest that every registry takes, in bytes (distribution-spec, "Pushing Manifests").
pub const MANIFEST_BYTES_LEAST: usize = 4 << 20;

/// The largest manifest that any seed may be set to take, and that whoever reads manifests must bear, in bytes. Annotations
/// are written twice, and one change of a seed's records has at most 15 MiB.
pub const MANIFEST_BYTES_MOST: usize = 7 << 20;

/// The most that one manifest may name: images in the field have under 130 layers, build caches some thousand.
pub const NAMED_MAX: usize = 8192;

/// The most annotations of a manifest that refers to another: people read them. Without a bound, four million bytes of short
/// ones would take ten times that in memory.
pub const ANNOTATIONS_MAX: usize = 4096;

/// The longest media type, in bytes (RFC 6838 §4.2: 127 each for type and subtype).
pub const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// The longest part of what a manifest says that an error repeats, in characters.
const QUOTED_MAX: usize = 160;

/// What matters here in an image manifest, an index or an artifact (OCI image-spec).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The media type it was pushed with: 1 to [`MEDIA_TYPE_BYTES_MAX`] visible ASCII characters.
    pub media_type: String,
    /// Its artifact type; an image without one has that of its configuration.
    pub artifact_type: Option<String>,
    /// The manifest it refers to, which need not exist.
    pub subject: Option<Digest>,
    /// Its annotations, if it has a subject: only listed referrers show them.
    pub annotations: BTreeMap<String, String>,
    /// What must be in the repository before it, each once: at most [`NAMED_MAX`].
    pub named: Vec<Named>,
}

/// What a manifest names and must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as the manifest says.
    pub size: u64,
    /// Whether it stands in the list of an index.
    pub may_be_manifest: bool,
}

/// Why a manifest is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestRefused {
    /// It is not JSON, or a field that is read does not hold what it must.
    #[error("the manifest cannot be read: {0}")]
    Malformed(String),
    /// It says another type than it was pushed with.
    #[error("the manifest cannot be read: its mediaType is {stated}, it was sent as {sent}")]
    TypesDiffer {
        /// Its `mediaType`.
        stated: String,
        /// The `Content-Type` of the push.
        sent: String,
    },
    /// Nothing says its type.
    #[error("the manifest cannot be read: neither Content-Type nor mediaType says what it is")]
    NoType,
    /// Its type is not one.
    #[error("the manifest cannot be read: its media type must have 1 to {MEDIA_TYPE_BYTES_MAX} visible ASCII characters")]
    BadType,
    /// It names something by what is not a digest.
    #[error("the manifest names {text:?}: {reason}")]
    Digest {
        /// What stands there, cut off.
        text: String,
        /// Why it is no digest.
        reason: DigestRefused,
    },
    /// It names too much.
    #[error("a manifest may name at most {NAMED_MAX} blobs and manifests")]
    TooMany,
    /// It refers to another and has too many annotations.
    #[error("a manifest with a subject may have at most {ANNOTATIONS_MAX} annotations")]
    TooManyAnnotations,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Descriptors>,
    manifests: Option<Descriptors>,
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

/// The first [`NAMED_MAX`] of a list.
#[derive(Default)]
struct Descriptors {
    first: Vec<Descriptor>,
    too_many: bool,
}

/// The first [`ANNOTATIONS_MAX`] of a map.
#[derive(Default)]
struct Annotations {
    first: BTreeMap<String, String>,
    too_many: bool,
}

/// Whether a list of texts has one.
struct HasAny(bool);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<HasAny>,
}

impl Manifest {
    /// Reads a manifest that was pushed with this `Content-Type`; parameters after a semicolon are no part of the type.
    /// All of it must be readable, also what no field here is of: garbage collection has to know what it names.
    ///
    /// # Errors
    /// When it is not taken in.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestRefused> {
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(ManifestRefused::Malformed("it is not a JSON object".into()));
        }
        if crate::garbage::named(bytes).is_none() {
            let reason = "it is no JSON, or a part of it is too deep, a number that is too large, or text that is no Unicode";
            return Err(ManifestRefused::Malformed(reason.into()));
        }
        let fields: Fields = serde_json::from_slice(bytes).map_err(|error| ManifestRefused::Malformed(cut(&error.to_string())))?;
        let media_type = media_type(fields.media_type.as_deref(), content_type)?;
        let subject = fields.subject.as_ref().map(Descriptor::digest).transpose()?;
        let (layers, manifests) = (fields.layers.unwrap_or_default(), fields.manifests.unwrap_or_default());
        if layers.too_many || manifests.too_many {
            return Err(ManifestRefused::TooMany);
        }
        let (layers, manifests) = (&layers.first, &manifests.first);
        let blobs = fields.config.iter().chain(layers).filter(|descriptor| descriptor.is_distributable());
        let named = blobs.map(|descriptor| (descriptor, false)).chain(manifests.iter().map(|descriptor| (descriptor, true)));
        let named: Result<Vec<Named>, ManifestRefused> = named
            .take(NAMED_MAX + 1)
            .map(|(descriptor, may_be_manifest)| Ok(Named { digest: descriptor.digest()?, size: descriptor.size, may_be_manifest }))
            .collect();
        let mut named = named?;
        if named.len() > NAMED_MAX {
            return Err(ManifestRefused::TooMany);
        }
        let mut seen = BTreeSet::new();
        named.retain(|named| seen.insert(*named));
        let config_type = fields.config.map(|config| config.media_type);
        let artifact_type = [fields.artifact_type, config_type].into_iter().flatten().find(|media_type| !media_type.is_empty());
        let annotations = fields.annotations.filter(|_| subject.is_some()).unwrap_or_default();
        if annotations.too_many {
            return Err(ManifestRefused::TooManyAnnotations);
        }
        Ok(Self { media_type, artifact_type, subject, annotations: annotations.first, named })
    }
}

fn media_type(stated: Option<&str>, content_type: Option<&str>) -> Result<String, ManifestRefused> {
    let sent = content_type.and_then(|value| value.split(';').next()).map(str::trim).filter(|sent| !sent.is_empty());
    let media_type = match (sent, stated) {
        (Some(sent), Some(stated)) if sent != stated => {
            return Err(ManifestRefused::TypesDiffer { stated: cut(stated), sent: cut(sent) });
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type,
        (None, None) => return Err(ManifestRefused::NoType),
    };
    let visible = media_type.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || media_type.is_empty() || media_type.len() > MEDIA_TYPE_BYTES_MAX {
        return Err(ManifestRefused::BadType);
    }
    Ok(media_type.to_owned())
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, ManifestRefused> {
        self.digest.parse().map_err(|reason| ManifestRefused::Digest { text: cut(&self.digest), reason })
    }

    /// Layers of some base images must not leave their vendor's servers (image-spec, "Non-Distributable Layers").
    fn is_distributable(&self) -> bool {
        let marked = self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.");
        !marked && !self.urls.as_ref().is_some_and(|urls| urls.0)
    }
}

impl<'de> Deserialize<'de> for Descriptors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(First)
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FirstOfMap)
    }
}

impl<'de> Deserialize<'de> for HasAny {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Any)
    }
}

struct First;
struct FirstOfMap;
struct Any;

impl<'de> Visitor<'de> for First {
    type Value = Descriptors;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Descriptors, A::Error> {
        let mut found = Descriptors::default();
        while found.first.len() < NAMED_MAX {
            let Some(descriptor) = list.next_element()? else { return Ok(found) };
            found.first.push(descriptor);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            found.too_many = true;
        }
        Ok(found)
    }
}

impl<'de> Visitor<'de> for FirstOfMap {
    type Value = Annotations;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
        let mut found = Annotations::default();
        while found.first.len() < ANNOTATIONS_MAX {
            let Some((name, value)) = map.next_entry()? else { return Ok(found) };
            found.first.insert(name, value);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            found.too_many = true;
        }
        Ok(found)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = HasAny;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HasAny, A::Error> {
        let mut any = false;
        while list.next_element::<String>()?.is_some() {
            any = true;
        }
        Ok(HasAny(any))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(QUOTED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

    fn parse(text: &str, content_type: Option<&str>) -> Result<Manifest, ManifestRefused> {
        Manifest::parse(text.as_bytes(), content_type)
    }

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    #[test]
    fn the_type_is_the_pushed_one_without_parameters() {
        let pushed = |text: &str, content_type: Option<&str>| parse(text, content_type).map(|manifest| manifest.media_type);
        assert_eq!(pushed("{}", Some("application/x; charset=utf-8")), Ok("application/x".into()));
        assert_eq!(pushed(&format!(r#"{{"mediaType":"{OCI}"}}"#), None), Ok(OCI.into()));
        let differ = ManifestRefused::TypesDiffer { stated: "a/b".into(), sent: "a/c".into() };
        assert_eq!(pushed(r#"{"mediaType":"a/b"}"#, Some("a/c")), Err(differ));
        assert_eq!(pushed("{}", None), Err(ManifestRefused::NoType));
        assert_eq!(pushed("{}", Some(" ;x")), Err(ManifestRefused::NoType));
        for bad in ["a b", "ä", &"a".repeat(MEDIA_TYPE_BYTES_MAX + 1)] {
            assert_eq!(pushed("{}", Some(bad)), Err(ManifestRefused::BadType), "{bad}");
        }
        assert_eq!(pushed(r#"{"mediaType":""}"#, None), Err(ManifestRefused::BadType));
    }

    #[test]
    fn what_go_writes_for_nothing_is_nothing() {
        let nothing = r#"{"config":null,"layers":null,"manifests":null,"subject":null,"annotations":null}"#;
        assert_eq!(parse(nothing, Some(OCI)), parse("{}", Some(OCI)));
        assert_eq!(parse(nothing, Some(OCI)).unwrap().named, []);
    }

    #[test]
    fn names_what_must_exist() {
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
        let manifest = parse(&text.to_string(), Some(OCI)).unwrap();
        let named = |text: &str, size, may_be_manifest| Named { digest: digest(text), size, may_be_manifest };
        assert_eq!(manifest.named, [named("config", 1, false), named("layer", 2, false), named("manifest", 5, true)]);
        assert_eq!((manifest.subject, manifest.artifact_type.as_deref()), (Some(digest("subject")), Some("a/config")));
        assert_eq!(manifest.annotations.len(), 1);
    }

    #[test]
    fn annotations_matter_with_a_subject_alone() {
        assert!(parse(r#"{"annotations":{"a":"b"}}"#, Some(OCI)).unwrap().annotations.is_empty());
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for text in [
            "[]",
            "[null,null,null,[],[],null,null]",
            "",
            "{",
            r#"{"layers":{}}"#,
            r#"{"layers":[{"digest":"x"}]}"#,
            r#"{"config":{"digest":"x","size":-1}}"#,
        ] {
            assert!(matches!(parse(text, Some(OCI)), Err(ManifestRefused::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn refuses_digests_that_are_none() {
        let bad = r#"{"digest":"sha256:baddigeststring","size":1}"#;
        for text in [format!(r#"{{"layers":[{bad}]}}"#), format!(r#"{{"config":{bad}}}"#), format!(r#"{{"subject":{bad}}}"#)] {
            assert!(matches!(parse(&text, Some(OCI)), Err(ManifestRefused::Digest { .. })), "{text}");
        }
    }

    #[test]
    fn a_manifest_that_names_too_much_is_refused() {
        let layers = |count| {
            let layers: Vec<String> = (0..count).map(|size| format!(r#"{{"digest":"{}","size":{size}}}"#, digest("layer"))).collect();
            format!(r#"{{"layers":[{}]}}"#, layers.join(","))
        };
        assert_eq!(parse(&layers(NAMED_MAX), Some(OCI)).unwrap().named.len(), NAMED_MAX);
        assert_eq!(parse(&layers(NAMED_MAX + 1), Some(OCI)), Err(ManifestRefused::TooMany));
    }

    #[test]
    fn what_is_named_again_is_checked_once() {
        let entry = |size: u64| format!(r#"{{"digest":"{}","size":{size}}}"#, digest("layer"));
        let index = format!(r#"{{"manifests":[{}]}}"#, [entry(1), entry(1), entry(2), entry(1)].join(","));
        let named = parse(&index, Some(OCI)).unwrap().named;
        assert_eq!(named.iter().map(|named| named.size).collect::<Vec<_>>(), [1, 2], "another size is another claim");
    }

    #[test]
    fn annotations_of_a_referrer_are_bounded_and_those_of_others_do_not_matter() {
        let with = |count: usize, subject: &str| {
            let annotations: Vec<String> = (0..count).map(|number| format!(r#""{number}":"x""#)).collect();
            parse(&format!(r#"{{"annotations":{{{}}}{subject}}}"#, annotations.join(",")), Some(OCI))
        };
        let subject = format!(r#","subject":{{"digest":"{}","size":1}}"#, digest("subject"));
        assert_eq!(with(ANNOTATIONS_MAX, &subject).unwrap().annotations.len(), ANNOTATIONS_MAX);
        assert_eq!(with(ANNOTATIONS_MAX + 1, &subject), Err(ManifestRefused::TooManyAnnotations));
        assert!(with(ANNOTATIONS_MAX + 1, "").unwrap().annotations.is_empty());
    }

    /// As deep as the largest manifest allows: a reader that recursed would end the process here.
    #[test]
    fn deep_json_is_refused_without_recursion() {
        const DEEP: usize = 2 << 20;
        let nested = |field: &str| format!(r#"{{"{field}":{}{}}}"#, "[".repeat(DEEP), "]".repeat(DEEP));
        for field in ["unknown", "layers"] {
            assert!(matches!(parse(&nested(field), Some(OCI)), Err(ManifestRefused::Malformed(_))), "{field}");
        }
        let unclosed = format!(r#"{{"unknown":{}"#, r#"{"a":"#.repeat(DEEP / 5));
        assert!(matches!(parse(&unclosed, Some(OCI)), Err(ManifestRefused::Malformed(_))));
    }

    #[test]
    fn what_garbage_collection_could_not_read_is_refused() {
        for part in ["1e999", r#""\ud800""#] {
            let text = format!(r#"{{"unknown":{part}}}"#);
            assert_eq!(crate::garbage::named(text.as_bytes()), None, "{part}");
            assert!(matches!(parse(&text, Some(OCI)), Err(ManifestRefused::Malformed(_))), "{part}");
        }
    }
}
