//! Manifests: what was read is within its limits, and a manifest made of it says the same.
//!
//! Not here: what the manifest's bytes hash to.

use protocol::oci::manifest::{MEDIA_TYPE_BYTES_MAX, Manifest, NAMED_MAX, Named};
use serde_json::{Value, json};

use super::{assert_short, first_line};

/// Reads a manifest that was pushed with the content type in the first line; an empty one is none.
pub fn run(data: &[u8]) {
    let Some((content_type, bytes)) = first_line(data) else { return };
    let content_type = (!content_type.is_empty()).then_some(content_type);
    match Manifest::parse(bytes, content_type) {
        Ok(manifest) => {
            assert!(manifest.named.len() <= NAMED_MAX);
            assert!((1..=MEDIA_TYPE_BYTES_MAX).contains(&manifest.media_type.len()), "{}", manifest.media_type);
            assert!(manifest.subject.is_some() || manifest.annotations.is_empty());
            let written = written(&manifest).to_string();
            assert_eq!(Manifest::parse(written.as_bytes(), None), Ok(manifest), "{written}");
        }
        Err(refused) => assert_short(&refused, 0),
    }
}

fn written(manifest: &Manifest) -> Value {
    let descriptor = |named: &Named| json!({ "digest": named.digest, "size": named.size });
    let (manifests, layers): (Vec<&Named>, Vec<&Named>) = manifest.named.iter().partition(|named| named.may_be_manifest);
    json!({
        "mediaType": manifest.media_type,
        "artifactType": manifest.artifact_type,
        "subject": manifest.subject.map(|digest| json!({ "digest": digest, "size": 0 })),
        "annotations": manifest.annotations,
        "layers": layers.into_iter().map(descriptor).collect::<Vec<_>>(),
        "manifests": manifests.into_iter().map(descriptor).collect::<Vec<_>>(),
    })
}
