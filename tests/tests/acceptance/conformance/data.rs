//! What is pushed: one set of blobs, manifests and tags for each kind of content that clients make.
//!
//! Not here: what is done with a set; see `lifecycle`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use tests::image::noise;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const NOT_DISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const EMPTY_JSON: &str = "application/vnd.oci.empty.v1+json";
const EXAMPLE: &str = "application/vnd.example.oci.conformance.v1";
const OTHER_EXAMPLE: &str = "application/vnd.example.oci.conformance.v2";

/// Bytes of a layer.
const LAYER_BYTES: usize = 2048;

/// What bytes are named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha256,
    Sha512,
}

/// Bytes and their name.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) digest: String,
    pub(super) bytes: Vec<u8>,
}

/// A manifest, and what lists of referrers say of it.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) media_type: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) subject: Option<String>,
    pub(super) listed: Value,
}

/// Content of one kind.
#[derive(Clone, Debug)]
pub(super) struct DataSet {
    pub(super) name: &'static str,
    pub(super) blobs: Vec<Blob>,
    /// In an order in which they can be pushed.
    pub(super) manifests: Vec<Manifest>,
    /// Each tag with the digest it points at.
    pub(super) tags: Vec<(String, String)>,
    /// Whether the tags are set while pushing by digest.
    pub(super) tags_by_parameter: bool,
    algorithm: Algorithm,
    layer: &'static str,
    descriptors_have_data: bool,
    custom_field: bool,
}

impl Algorithm {
    pub(super) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    pub(super) fn digest(self, bytes: &[u8]) -> String {
        let value = match self {
            Self::Sha256 => hex::encode(Sha256::digest(bytes)),
            Self::Sha512 => hex::encode(Sha512::digest(bytes)),
        };
        format!("{}:{value}", self.name())
    }
}

impl Blob {
    /// A blob of random bytes that `seed` decides.
    pub(super) fn random(algorithm: Algorithm, seed: u64, size: usize) -> Self {
        let bytes = noise(seed, size);
        Self { digest: algorithm.digest(&bytes), bytes }
    }
}

/// The digest that a descriptor has.
pub(super) fn digest_of(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().expect("a descriptor has a digest")
}

/// A platform of an index.
fn on(mut descriptor: Value, architecture: &str) -> Value {
    descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
    descriptor
}

fn annotations(number: u32) -> Value {
    json!({ "org.opencontainers.conformance": "hello", "org.example.number": number.to_string() })
}

/// Fills a set.
type Make = fn(&mut DataSet);

/// The kinds, by name.
const KINDS: [(&str, Make); 20] = [
    ("image", |set| set.image_with_tag(json!({}))),
    ("image-uncompressed", |set| {
        set.layer = LAYER;
        set.image_with_tag(json!({}));
    }),
    ("large-manifest", |set| {
        let many = (0..390).map(|n| (format!("large-annotation-{n}"), Value::from("A".repeat(10_000))));
        set.image_with_tag(json!({ "annotations": many.collect::<serde_json::Map<_, _>>() }));
    }),
    ("index", |set| set.index_with_tag(json!({}))),
    ("nested-index", |set| {
        let inner = [set.index_of_images(json!({})), set.index_of_images(json!({}))];
        let outer = set.index(&inner, json!({}));
        set.tag("nested-index", &outer);
    }),
    ("empty-index", |set| {
        let index = set.index(&[], json!({}));
        set.tag("empty-index", &index);
    }),
    ("artifact", |set| {
        let artifact = set.artifact(EXAMPLE, json!({}));
        set.tag("artifact", &artifact);
    }),
    ("artifact-index", |set| {
        let artifacts = [set.artifact(EXAMPLE, json!({})), set.artifact(EXAMPLE, json!({}))];
        let index = set.index(&artifacts, json!({ "artifactType": EXAMPLE }));
        set.tag("artifact-index", &index);
    }),
    ("artifact-without-layers", |set| {
        let empty = set.blob(EMPTY_JSON, b"{}");
        let artifact = set.manifest(MANIFEST, json!({ "artifactType": EXAMPLE, "config": empty, "layers": [empty] }));
        set.tag("artifact", &artifact);
    }),
    ("artifacts-with-subject", |set| {
        let subject = set.image(json!({}));
        set.tag("image", &subject);
        set.image(json!({ "subject": subject }));
        let first = set.artifact(EXAMPLE, json!({ "subject": subject, "annotations": annotations(1) }));
        set.tag("tagged-artifact1", &first);
        let second = set.artifact(OTHER_EXAMPLE, json!({ "subject": subject, "annotations": annotations(2) }));
        set.tag("tagged-artifact2", &second);
    }),
    ("index-with-subject", |set| {
        let subject = set.index_of_images(json!({}));
        set.tag("index", &subject);
        set.index_of_images(json!({ "subject": subject }));
        let artifact = json!({ "artifactType": EXAMPLE, "subject": subject, "annotations": annotations(1) });
        let artifact = set.index_of_images(artifact);
        set.tag("tagged-artifact", &artifact);
    }),
    ("missing-subject", |set| {
        let digest = set.algorithm.digest(b"missing content");
        let subject = json!({ "mediaType": MANIFEST, "digest": digest, "size": 123 });
        let artifact = set.artifact(EXAMPLE, json!({ "subject": subject, "annotations": annotations(1) }));
        set.tag("tagged-artifact", &artifact);
    }),
    ("data-field", |set| {
        set.descriptors_have_data = true;
        set.image_with_tag(json!({}));
    }),
    ("non-distributable-layers", |set| {
        let elsewhere = |seed| {
            let digest = Algorithm::Sha256.digest(&noise(seed, 256));
            json!({ "mediaType": NOT_DISTRIBUTABLE, "digest": digest, "size": 123_456, "urls": ["https://store.example.com/layer"] })
        };
        let layers = [elsewhere(901), elsewhere(902), set.random_layer()];
        let image = set.image_of(&layers, json!({}));
        set.tag("non-distributable-image", &image);
    }),
    ("custom-fields", |set| {
        set.custom_field = true;
        set.index_with_tag(json!({}));
    }),
    ("no-layers", |set| {
        let image = set.image_of(&[], json!({}));
        set.tag("no-layers", &image);
    }),
    ("sha512", |set| {
        set.algorithm = Algorithm::Sha512;
        set.index_of_images(json!({}));
    }),
    ("sha512-subject", |set| {
        set.algorithm = Algorithm::Sha512;
        let subject = set.image(json!({}));
        set.artifact(EXAMPLE, json!({ "subject": subject, "annotations": annotations(1) }));
    }),
    ("tag-param-sha256", DataSet::tagged_by_parameter),
    ("tag-param-sha512", |set| {
        set.algorithm = Algorithm::Sha512;
        set.tagged_by_parameter();
    }),
];

/// One set of each kind.
pub(super) fn all() -> Vec<DataSet> {
    let made = KINDS.into_iter().map(|(name, make)| {
        let mut set = DataSet::new(name);
        make(&mut set);
        set
    });
    made.collect()
}

impl DataSet {
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            blobs: Vec::new(),
            manifests: Vec::new(),
            tags: Vec::new(),
            tags_by_parameter: false,
            algorithm: Algorithm::Sha256,
            layer: LAYER_GZIP,
            descriptors_have_data: false,
            custom_field: false,
        }
    }

    /// Adds a blob and gives its descriptor.
    pub(super) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = self.algorithm.digest(bytes);
        let mut descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        if self.descriptors_have_data {
            descriptor["data"] = STANDARD.encode(bytes).into();
        }
        if self.blobs.iter().all(|blob| blob.digest != digest) {
            self.blobs.push(Blob { digest, bytes: bytes.to_vec() });
        }
        descriptor
    }

    /// Adds a layer that no other has.
    pub(super) fn random_layer(&mut self) -> Value {
        let bytes = noise(1 + self.blobs.len() as u64, LAYER_BYTES);
        self.blob(self.layer, &bytes)
    }

    /// Adds a manifest with these fields and gives its descriptor.
    pub(super) fn manifest(&mut self, media_type: &'static str, mut content: Value) -> Value {
        content["schemaVersion"] = 2.into();
        content["mediaType"] = media_type.into();
        if self.custom_field {
            content[format!("org.example.custom{}", self.manifests.len())] = "a value".into();
        }
        let bytes = content.to_string().into_bytes();
        let descriptor = json!({ "mediaType": media_type, "digest": self.algorithm.digest(&bytes), "size": bytes.len() });
        let mut listed = descriptor.clone();
        let artifact_type = content.get("artifactType").or_else(|| content.get("config")?.get("mediaType"));
        for (field, value) in [("artifactType", artifact_type), ("annotations", content.get("annotations"))] {
            if let Some(value) = value {
                listed[field] = value.clone();
            }
        }
        let subject = content.get("subject").map(|subject| digest_of(subject).to_owned());
        let digest = digest_of(&descriptor).to_owned();
        self.manifests.push(Manifest { digest, media_type, bytes, subject, listed });
        descriptor
    }

    /// Adds an image of two layers.
    pub(super) fn image(&mut self, fields: Value) -> Value {
        let layers = [self.random_layer(), self.random_layer()];
        self.image_of(&layers, fields)
    }

    fn image_of(&mut self, layers: &[Value], mut fields: Value) -> Value {
        let digests: Vec<&str> = layers.iter().map(digest_of).collect();
        let mut config = json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": digests } });
        if self.custom_field {
            config["org.example.custom"] = "a value".into();
        }
        fields["config"] = self.blob(CONFIG, config.to_string().as_bytes());
        fields["layers"] = layers.into();
        self.manifest(MANIFEST, fields)
    }

    fn artifact(&mut self, artifact_type: &str, mut fields: Value) -> Value {
        fields["artifactType"] = artifact_type.into();
        fields["config"] = self.blob(EMPTY_JSON, b"{}");
        let bytes = noise(1 + self.blobs.len() as u64, LAYER_BYTES);
        fields["layers"] = json!([self.blob(artifact_type, &bytes)]);
        self.manifest(MANIFEST, fields)
    }

    fn index(&mut self, children: &[Value], mut fields: Value) -> Value {
        fields["manifests"] = children.into();
        self.manifest(INDEX, fields)
    }

    fn index_of_images(&mut self, fields: Value) -> Value {
        let images = [on(self.image(json!({})), "amd64"), on(self.image(json!({})), "arm64")];
        self.index(&images, fields)
    }

    pub(super) fn tag(&mut self, tag: &str, descriptor: &Value) {
        self.tags.push((tag.to_owned(), digest_of(descriptor).to_owned()));
    }

    fn image_with_tag(&mut self, fields: Value) {
        let image = self.image(fields);
        self.tag(self.name, &image);
    }

    fn index_with_tag(&mut self, fields: Value) {
        let index = self.index_of_images(fields);
        self.tag(self.name, &index);
    }

    fn tagged_by_parameter(&mut self) {
        self.tags_by_parameter = true;
        self.index_with_tag(json!({}));
        for (number, manifest) in self.manifests.iter().enumerate() {
            self.tags.push((format!("{}-{number}", self.name), manifest.digest.clone()));
        }
    }
}
