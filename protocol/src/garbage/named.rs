//! What a manifest names.
//!
//! Not here: what follows from it; see [`super::Marking`].

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::digest::Digest;

/// What a manifest of any type names: every digest under a key `digest` or `blobSum` (Docker's schema 1), at any depth,
/// outside of its subject. That is more than a push must bring, so that nothing which a client may look for is taken from
/// it; none if the bytes are no JSON that can be read.
pub fn named(manifest: &[u8]) -> Option<Vec<Digest>> {
    let mut named = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(manifest);
    json.deserialize_any(Walk { named: &mut named, depth: 0, is_name: false }).ok()?;
    json.end().ok()?;
    Some(named)
}

/// Walks through JSON without keeping it.
struct Walk<'a> {
    named: &'a mut Vec<Digest>,
    depth: usize,
    is_name: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if self.depth == 0 && key == "subject" {
                map.next_value::<IgnoredAny>()?;
            } else {
                let is_name = key == "digest" || key == "blobSum";
                map.next_value_seed(Walk { named: &mut *self.named, depth: self.depth + 1, is_name })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Walk { named: &mut *self.named, depth: self.depth + 1, is_name: false })?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if let (true, Ok(digest)) = (self.is_name, text.parse()) {
            self.named.push(digest);
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    #[test]
    fn a_manifest_of_any_type_names_every_digest_but_its_subject() {
        let text = serde_json::json!({
            "schemaVersion": 2, "x": [null, true, 1.5, -1],
            "config": { "digest": digest("config"), "size": 1 },
            "layers": [{ "digest": digest("foreign"), "urls": ["https://example.com/"], "annotations": { "x": digest("not named") } }],
            "manifests": [{ "digest": digest("manifest"), "platform": { "deep": [{ "digest": digest("deep") }] } }],
            "fsLayers": [{ "blobSum": digest("old") }],
            "subject": { "digest": digest("subject") },
            "other": { "subject": { "digest": digest("inner") }, "digest": "none" },
        });
        let expected: BTreeSet<Digest> = ["config", "foreign", "manifest", "deep", "old", "inner"].map(digest).into();
        assert_eq!(named(text.to_string().as_bytes()).unwrap().into_iter().collect::<BTreeSet<_>>(), expected);
        for broken in ["", "{", "{}x", &"[".repeat(200)] {
            assert_eq!(named(broken.as_bytes()), None);
        }
    }
}
