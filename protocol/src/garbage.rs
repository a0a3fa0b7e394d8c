//! What a repository holds that nothing needs any more.
//!
//! A repository is marked from its roots: what tags point at, what versions name, and what a push brought or relied on
//! within the [lease](LEASE_SECONDS). What a live manifest names is live, and so are the manifests that refer to a live
//! manifest; a manifest does not keep its own subject. Everything else may go.
//!
//! A [`Marking`] is driven like this: `poll_read()` gives a manifest, its file is read and `handle_read` is told what it
//! [names](named); when `poll_read()` gives none, `finish` says what may go. So of all manifests' contents one at a time is
//! in memory, and those of dead manifests are never read.
//!
//! Not here: reading records and files, and taking away; that nothing changed meanwhile is the store's to check.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::digest::Digest;
use crate::time::WallTime;

/// For so long after a push brought or relied on something, it is not garbage, in seconds: a push of many large layers
/// names them only at its end.
pub const LEASE_SECONDS: u64 = 24 * 60 * 60;

/// For so long after a device reported a version, its content is kept, in seconds: a device that comes back after a season
/// still finds what it was told to have.
pub const REPORT_SECONDS: u64 = 90 * 24 * 60 * 60;

/// A blob's file that no record names stays for so long, in seconds: records follow their files, within one request.
pub const FILE_GRACE_SECONDS: u64 = 60 * 60;

/// Whether something used at `used` is still under the lease.
pub const fn is_leased(used: WallTime, now: WallTime) -> bool {
    age(used, now) < LEASE_SECONDS
}

/// Whether what relies now on something used at `used` must renew the lease: only when half of it is over, so that a push
/// that asks for a thousand blobs is not a thousand writes. What is garbage is always due.
pub const fn renewal_due(used: WallTime, now: WallTime) -> bool {
    age(used, now) >= LEASE_SECONDS / 2
}

/// Whether a version's content is needed: its own while it is not retired, else for the desired state that names it or for
/// a device that reported it at `reported`.
pub fn is_needed(retired: bool, desired: bool, reported: Option<WallTime>, now: WallTime) -> bool {
    !retired || desired || reported.is_some_and(|reported| age(reported, now) < REPORT_SECONDS)
}

const fn age(since: WallTime, now: WallTime) -> u64 {
    now.as_unix_seconds().saturating_sub(since.as_unix_seconds())
}

/// A manifest of the repository that is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// When it was last pushed, or relied on by a push.
    pub pushed: WallTime,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
}

/// What a repository holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// What tags point at.
    pub tagged: BTreeSet<Digest>,
    /// Its manifests.
    pub manifests: BTreeMap<Digest, Manifest>,
    /// Its blobs, and when a push last brought or relied on each.
    pub blobs: BTreeMap<Digest, WallTime>,
}

/// What may go, each with the time that it was judged by: it stays if that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Manifests, and when each was last pushed.
    pub manifests: BTreeMap<Digest, WallTime>,
    /// Blobs, and when each was last used.
    pub blobs: BTreeMap<Digest, WallTime>,
}

/// A live manifest could not be read: what it names is not known, so nothing may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the manifest {0} is needed but cannot be read, so what it names is not known; look with `hedgerow store check`, then push it again"
)]
pub struct Unreadable(pub Digest);

/// A repository while it is being marked.
#[derive(Clone, Debug)]
pub struct Marking {
    content: Content,
    referrers: BTreeMap<Digest, Vec<Digest>>,
    live: BTreeSet<Digest>,
    unread: Vec<Digest>,
    unreadable: Option<Unreadable>,
}

impl Marking {
    /// Starts with the roots: tags, what `versions` name, and what is under the lease at `now`.
    pub fn new(content: Content, versions: &BTreeSet<Digest>, lease: bool, now: WallTime) -> Self {
        let mut referrers: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for (digest, manifest) in &content.manifests {
            if let Some(subject) = manifest.subject {
                referrers.entry(subject).or_default().push(*digest);
            }
        }
        let leased = |used: WallTime| lease && is_leased(used, now);
        let manifests = content.manifests.iter().filter(|(_, manifest)| leased(manifest.pushed)).map(|(digest, _)| *digest);
        let blobs = content.blobs.iter().filter(|(_, used)| leased(**used)).map(|(digest, _)| *digest);
        let roots: Vec<Digest> = content.tagged.iter().chain(versions).copied().chain(manifests).chain(blobs).collect();
        let mut marking = Self { content, referrers, live: BTreeSet::new(), unread: Vec::new(), unreadable: None };
        marking.mark(roots);
        marking
    }

    /// A live manifest whose file is to be read next; each is given once.
    pub fn poll_read(&mut self) -> Option<Digest> {
        self.unread.pop()
    }

    /// What a manifest names; none if its file is missing, broken, or cannot be understood.
    pub fn handle_read(&mut self, manifest: Digest, named: Option<Vec<Digest>>) {
        match named {
            Some(named) => self.mark(named),
            None => self.unreadable = Some(Unreadable(manifest)),
        }
    }

    /// What may go.
    ///
    /// # Errors
    /// When a live manifest could not be read.
    pub fn finish(self) -> Result<Garbage, Unreadable> {
        if let Some(unreadable) = self.unreadable {
            return Err(unreadable);
        }
        let Self { content, live, .. } = self;
        let manifests = content.manifests.into_iter().map(|(digest, manifest)| (digest, manifest.pushed));
        let dead = |(digest, _): &(Digest, WallTime)| !live.contains(digest);
        Ok(Garbage { manifests: manifests.filter(dead).collect(), blobs: content.blobs.into_iter().filter(dead).collect() })
    }

    fn mark(&mut self, mut digests: Vec<Digest>) {
        while let Some(digest) = digests.pop() {
            if self.live.insert(digest) && self.content.manifests.contains_key(&digest) {
                self.unread.push(digest);
                digests.extend(self.referrers.get(&digest).into_iter().flatten());
            }
        }
    }
}

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
    use super::*;

    const NOW: WallTime = WallTime::from_unix_seconds(1_000_000_000);
    const OLD: WallTime = WallTime::from_unix_seconds(1_000_000_000 - LEASE_SECONDS);

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    /// A repository where everything is old: index `i` names the images `a` and `b`, each names its configuration and the
    /// layer they share; the signature `s` refers to `a`, and `t` to `s`; `lone` names nothing and nothing names it.
    fn content() -> Content {
        let manifest = |subject: Option<&str>| Manifest { pushed: OLD, subject: subject.map(digest) };
        let manifests = [("i", None), ("a", None), ("b", None), ("s", Some("a")), ("t", Some("s")), ("lone", None)];
        let blobs = ["a config", "b config", "layer", "s blob", "unused"];
        Content {
            tagged: BTreeSet::new(),
            manifests: manifests.into_iter().map(|(name, subject)| (digest(name), manifest(subject))).collect(),
            blobs: blobs.into_iter().map(|name| (digest(name), OLD)).collect(),
        }
    }

    fn names(manifest: &Digest) -> Vec<Digest> {
        let all: [(&str, &[&str]); 6] = [
            ("i", &["a", "b"]),
            ("a", &["a config", "layer"]),
            ("b", &["b config", "layer"]),
            ("s", &["s blob"]),
            ("t", &[]),
            ("lone", &[]),
        ];
        let (_, named) = all.into_iter().find(|(name, _)| digest(name) == *manifest).unwrap();
        named.iter().map(|name| digest(name)).collect()
    }

    fn kept(content: &Content, versions: &[&str]) -> Vec<&'static str> {
        let versions = versions.iter().map(|name| digest(name)).collect();
        let mut marking = Marking::new(content.clone(), &versions, true, NOW);
        while let Some(manifest) = marking.poll_read() {
            marking.handle_read(manifest, Some(names(&manifest)));
        }
        let garbage = marking.finish().unwrap();
        let all = ["i", "a", "b", "s", "t", "lone", "a config", "b config", "layer", "s blob", "unused"];
        let goes = |name: &str| garbage.manifests.contains_key(&digest(name)) || garbage.blobs.contains_key(&digest(name));
        all.into_iter().filter(|name| !goes(name)).collect()
    }

    #[test]
    fn what_nothing_needs_goes() {
        assert!(kept(&content(), &[]).is_empty());
    }

    #[test]
    fn a_tag_keeps_what_its_manifest_names_and_what_refers_to_that() {
        let tagged = |name: &str| kept(&Content { tagged: [digest(name)].into(), ..content() }, &[]);
        assert_eq!(tagged("i"), ["i", "a", "b", "s", "t", "a config", "b config", "layer", "s blob"]);
        assert_eq!(tagged("b"), ["b", "b config", "layer"]);
        assert_eq!(tagged("s"), ["s", "t", "s blob"], "a manifest does not keep its subject");
    }

    #[test]
    fn a_version_keeps_what_it_names() {
        assert_eq!(kept(&content(), &["b", "a config"]), ["b", "a config", "b config", "layer"]);
        assert_eq!(kept(&content(), &["not here"]), Vec::<&str>::new());
    }

    #[test]
    fn what_was_pushed_within_the_lease_stays_and_keeps_what_it_names() {
        let mut young = content();
        young.manifests.get_mut(&digest("b")).unwrap().pushed = OLD.plus_seconds(1);
        young.blobs.insert(digest("unused"), OLD.plus_seconds(1));
        assert_eq!(kept(&young, &[]), ["b", "b config", "layer", "unused"]);
        let without = Marking::new(young, &BTreeSet::new(), false, NOW).finish().unwrap();
        assert_eq!((without.manifests.len(), without.blobs.len()), (6, 5));
    }

    #[test]
    fn nothing_goes_while_a_needed_manifest_cannot_be_read() {
        let mut marking = Marking::new(Content { tagged: [digest("i")].into(), ..content() }, &BTreeSet::new(), true, NOW);
        assert_eq!(marking.poll_read(), Some(digest("i")));
        marking.handle_read(digest("i"), None);
        assert_eq!(marking.finish(), Err(Unreadable(digest("i"))));
    }

    #[test]
    fn a_renewal_is_due_after_half_of_the_lease_and_always_for_garbage() {
        let at = |age| WallTime::from_unix_seconds(NOW.as_unix_seconds() - age);
        assert!(!renewal_due(at(0), NOW) && !renewal_due(at(LEASE_SECONDS / 2 - 1), NOW));
        assert!(renewal_due(at(LEASE_SECONDS / 2), NOW) && is_leased(at(LEASE_SECONDS - 1), NOW));
        assert!(renewal_due(OLD, NOW) && !is_leased(OLD, NOW));
        assert!(is_leased(NOW.plus_seconds(5), NOW), "a clock that went back takes nothing away");
    }

    #[test]
    fn a_retired_version_is_needed_while_a_desired_state_or_a_device_has_it() {
        let reported = |age| Some(WallTime::from_unix_seconds(NOW.as_unix_seconds() - age));
        assert!(is_needed(false, false, None, NOW));
        assert!(!is_needed(true, false, None, NOW));
        assert!(is_needed(true, true, None, NOW));
        assert!(is_needed(true, false, reported(REPORT_SECONDS - 1), NOW));
        assert!(!is_needed(true, false, reported(REPORT_SECONDS), NOW));
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
