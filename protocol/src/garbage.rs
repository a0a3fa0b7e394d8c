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

pub mod clock;
mod named;
mod search;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use named::named;
pub use search::Search;

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

/// Whether a version's content is needed, and so neither garbage nor, where tags expire, without its tags: while the version
/// is not retired, else for the desired state that names it or for a device that reported it at `reported`.
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
    pub manifests: BTreeMap<Digest, Manifest>,
    /// Blobs, and when each was last used.
    pub blobs: BTreeMap<Digest, WallTime>,
}

impl Garbage {
    /// The same in parts of at most `size`, in the order in which they may be taken one after the other while pushes run:
    /// a manifest before those that refer to it, so that whoever takes these can see that it came back meanwhile and needs
    /// them; blobs at last.
    pub fn parts(self, size: usize) -> Vec<Self> {
        let Self { manifests, blobs } = self;
        let mut referrers: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        let mut next = VecDeque::new();
        for (digest, manifest) in &manifests {
            match manifest.subject.filter(|subject| manifests.contains_key(subject)) {
                Some(subject) => referrers.entry(subject).or_default().push(*digest),
                None => next.push_back(*digest),
            }
        }
        let mut ordered = Vec::with_capacity(manifests.len());
        while let Some(digest) = next.pop_front() {
            ordered.extend(manifests.get(&digest).map(|manifest| (digest, *manifest)));
            next.extend(referrers.remove(&digest).unwrap_or_default());
        }
        let blobs: Vec<(Digest, WallTime)> = blobs.into_iter().collect();
        let manifests = ordered.chunks(size).map(|part| Self { manifests: part.iter().copied().collect(), ..Self::default() });
        manifests.chain(blobs.chunks(size).map(|part| Self { blobs: part.iter().copied().collect(), ..Self::default() })).collect()
    }
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
        let Content { mut manifests, mut blobs, .. } = content;
        manifests.retain(|digest, _| !live.contains(digest));
        blobs.retain(|digest, _| !live.contains(digest));
        Ok(Garbage { manifests, blobs })
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
    fn a_subject_goes_before_what_refers_to_it_and_blobs_go_last() {
        let garbage = Marking::new(content(), &BTreeSet::new(), true, NOW).finish().unwrap();
        for size in 1..12 {
            let parts = garbage.clone().parts(size);
            let at = |name: &str| parts.iter().position(|part| part.manifests.contains_key(&digest(name))).unwrap();
            assert!(at("a") <= at("s") && at("s") <= at("t"), "in parts of {size}");
            assert!(parts.iter().all(|part| part.manifests.len() + part.blobs.len() <= size));
            let first_blobs = parts.iter().position(|part| !part.blobs.is_empty()).unwrap();
            assert!(parts[first_blobs..].iter().all(|part| part.manifests.is_empty()));
            let all = |of: fn(&Garbage) -> usize| parts.iter().map(of).sum::<usize>();
            assert_eq!((all(|part| part.manifests.len()), all(|part| part.blobs.len())), (6, 5));
        }
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
}
