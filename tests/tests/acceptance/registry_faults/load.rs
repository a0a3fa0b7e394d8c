//! Clients that push, delete and pull as a list of random numbers says, and know at each moment what must be there.
//!
//! Each writes to a repository of its own, so that it alone decides what is there; all use the same blobs, so that what one
//! deletes another pushes. A request that got no answer may or may not have been carried out: its outcome is open until the
//! client looks.
//!
//! Not here: what happens to the seed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde_json::Value;
use tests::http::Answer;
use tests::http::connection::Body;
use tests::image::{digest, noise};

use super::{MANIFEST, Registry, manifest};

/// Sizes of blobs: around the units of hash lists, and around what is collected before it is written.
const SIZES: [usize; 6] = [117, 65_536, 65_537, 10_000, 262_145, 700_000];
/// Different blobs.
const BLOBS: u64 = 36;
/// Different manifests of a client.
const MANIFESTS: u64 = 20;
/// Tags of a client.
const TAGS: u64 = 6;

/// Numbers that look random, the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// The blobs that all clients push.
#[derive(Debug)]
pub(super) struct Blobs(Vec<(String, Vec<u8>)>);

impl Blobs {
    pub(super) fn new() -> Self {
        let blob = |n: u64| noise(n + 1, SIZES[n as usize % SIZES.len()]);
        Self((0..BLOBS).map(blob).map(|bytes| (digest(&bytes), bytes)).collect())
    }
}

/// Whether something is there, as far as its only writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Here,
    Gone,
    Open,
}

impl Presence {
    /// Before it is pushed: what is here stays here.
    fn before_push(self) -> Self {
        if self == Self::Here { Self::Here } else { Self::Open }
    }

    /// Before it is deleted: what is gone stays gone.
    fn before_delete(self) -> Self {
        if self == Self::Gone { Self::Gone } else { Self::Open }
    }

    /// What is known after the registry said whether it is there.
    #[track_caller]
    fn seen(self, here: bool, what: &str) -> Self {
        let seen = if here { Self::Here } else { Self::Gone };
        assert!(self == seen || self == Self::Open, "{what} is {seen:?}, but was acknowledged as {self:?}");
        seen
    }
}

/// What a tag may name; none stands for no such tag.
type Target = BTreeSet<Option<String>>;

/// One client.
#[derive(Debug)]
pub(super) struct Client<'a> {
    registry: Registry,
    repository: String,
    other: String,
    random: Random,
    blobs: &'a Blobs,
    blobs_here: BTreeMap<usize, Presence>,
    manifests_here: BTreeMap<String, Presence>,
    /// What each manifest names.
    needs: BTreeMap<String, [usize; 3]>,
    tags: BTreeMap<String, Target>,
    /// Writes that the registry acknowledged.
    pub(super) acknowledged: u64,
    /// Requests that got no answer.
    pub(super) unanswered: u64,
}

impl<'a> Client<'a> {
    /// Client `number` of `count`.
    pub(super) fn new(registry: &Registry, blobs: &'a Blobs, number: u64, count: u64, seed: u64) -> Self {
        let repository = |number: u64| format!("acme/load-{number}");
        Self {
            registry: registry.clone(),
            repository: repository(number),
            other: repository((number + 1) % count),
            random: Random::new(seed ^ (number << 32)),
            blobs,
            blobs_here: BTreeMap::new(),
            manifests_here: BTreeMap::new(),
            needs: BTreeMap::new(),
            tags: BTreeMap::new(),
            acknowledged: 0,
            unanswered: 0,
        }
    }

    /// Works until the registry has gone away.
    pub(super) fn work(&mut self) {
        while self.step().is_ok() {}
        self.unanswered += 1;
    }

    /// One thing that a client does.
    pub(super) fn step(&mut self) -> io::Result<()> {
        match self.random.below(16) {
            0..=3 => {
                let blob = self.any_blob();
                self.push_blob(blob)
            }
            4..=7 => self.push_image(),
            8 => self.delete_blob(),
            9 => self.delete_manifest(),
            10 => self.delete_tag(),
            11 => self.abandon_upload(),
            12 | 13 => self.pull_blob(),
            14 => self.pull_tag(),
            _ => self.list_tags(),
        }
    }

    /// Checks everything that it ever pushed, and settles what was open.
    pub(super) fn check(&mut self) {
        self.check_all().unwrap_or_else(|error| panic!("{}: the registry does not answer: {error}", self.repository));
    }

    fn check_all(&mut self) -> io::Result<()> {
        for (blob, presence) in self.blobs_here.clone() {
            let (name, size) = (&self.blobs.0[blob].0, self.blobs.0[blob].1.len());
            let here = self.pull(&self.repository, "blobs", name)?.is_some_and(|found| found.len() == size);
            self.blobs_here.insert(blob, presence.seen(here, &format!("{} {name}", self.repository)));
        }
        for (name, presence) in self.manifests_here.clone() {
            let here = self.pull(&self.repository, "manifests", &name)?.is_some();
            self.manifests_here.insert(name.clone(), presence.seen(here, &format!("{} {name}", self.repository)));
        }
        for (tag, target) in self.tags.clone() {
            let found = self.pull(&self.repository, "manifests", &tag)?.map(|manifest| digest(&manifest));
            assert!(target.contains(&found), "{}:{tag} is {found:?}, but can be {target:?} alone", self.repository);
            self.tags.insert(tag, Target::from([found]));
        }
        self.list_tags()
    }

    /// Forgets what garbage collection without a lease may have taken: what no tag needs that is surely there.
    pub(super) fn garbage_was_collected(&mut self) {
        let surely = |target: &Target| if target.len() == 1 { target.first().cloned().flatten() } else { None };
        let live: BTreeSet<String> = self.tags.values().filter_map(surely).collect();
        let needed: BTreeSet<usize> = live.iter().flat_map(|name| self.needs[name]).collect();
        for (_, presence) in self.manifests_here.iter_mut().filter(|(name, _)| !live.contains(*name)) {
            *presence = presence.before_delete();
        }
        for (_, presence) in self.blobs_here.iter_mut().filter(|(blob, _)| !needed.contains(blob)) {
            *presence = presence.before_delete();
        }
    }

    fn any_blob(&mut self) -> usize {
        self.random.below(BLOBS) as usize
    }

    fn any_tag(&mut self) -> String {
        format!("v{}", self.random.below(TAGS))
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/{rest}", self.repository)
    }

    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Body<'_>) -> io::Result<Answer> {
        self.registry.attempt(method, target, headers, body)
    }

    fn push_blob(&mut self, blob: usize) -> io::Result<()> {
        let (name, bytes) = &self.blobs.0[blob];
        let before = self.blobs_here.get(&blob).copied().unwrap_or(Presence::Gone);
        self.blobs_here.insert(blob, before.before_push());
        let end = match self.random.below(3) {
            0 => self.ask("POST", &self.url(&format!("blobs/uploads/?digest={name}")), &[], Body::Whole(bytes))?,
            1 => {
                let upload = self.start_upload()?;
                let upload = self.patch(&upload, &[], Body::Streamed(bytes))?;
                self.ask("PUT", &format!("{upload}?digest={name}"), &[], Body::Whole(b""))?
            }
            _ => {
                let mut upload = self.start_upload()?;
                let middle = self.random.below(bytes.len() as u64) as usize + 1;
                let (first, last) = bytes.split_at(middle);
                let range = format!("0-{}", middle - 1);
                upload = self.patch(&upload, &[("Content-Range", &range)], Body::Whole(first))?;
                self.ask("PUT", &format!("{upload}?digest={name}"), &[], Body::Whole(last))?
            }
        };
        accept(&end, &[201]);
        self.blobs_here.insert(blob, Presence::Here);
        self.acknowledged += 1;
        Ok(())
    }

    fn start_upload(&self) -> io::Result<String> {
        location(&self.ask("POST", &self.url("blobs/uploads/"), &[], Body::Whole(b""))?)
    }

    fn patch(&self, upload: &str, headers: &[(&str, &str)], body: Body<'_>) -> io::Result<String> {
        location(&self.ask("PATCH", upload, headers, body)?)
    }

    fn abandon_upload(&mut self) -> io::Result<()> {
        let upload = self.start_upload()?;
        let blob = self.any_blob();
        self.patch(&upload, &[], Body::Streamed(&self.blobs.0[blob].1)).map(drop)
    }

    /// Pushes an image with what it needs, by a tag or by its digest.
    fn push_image(&mut self) -> io::Result<()> {
        let number = self.random.below(MANIFESTS);
        let needed = [number, number * 3 + 1, number * 7 + 2].map(|blob| (blob % BLOBS) as usize);
        for blob in needed {
            if self.blobs_here.get(&blob) != Some(&Presence::Here) {
                self.push_blob(blob)?;
            }
        }
        let named = needed.map(|blob| (self.blobs.0[blob].0.as_str(), self.blobs.0[blob].1.len()));
        let bytes = manifest(&named, &format!("{} {number}", self.repository));
        let name = digest(&bytes);
        let before = self.manifests_here.get(&name).copied().unwrap_or(Presence::Gone);
        self.manifests_here.insert(name.clone(), before.before_push());
        self.needs.insert(name.clone(), needed);
        let tag = self.any_tag();
        let reference = match self.random.below(4) {
            0 => name.clone(),
            1 => format!("{name}?tag={tag}"),
            _ => tag.clone(),
        };
        let tagged = reference != name;
        if tagged {
            self.tags.entry(tag.clone()).or_insert_with(|| Target::from([None])).insert(Some(name.clone()));
        }
        let headers = [("Content-Type", MANIFEST)];
        accept(&self.ask("PUT", &self.url(&format!("manifests/{reference}")), &headers, Body::Whole(&bytes))?, &[201]);
        self.manifests_here.insert(name.clone(), Presence::Here);
        if tagged {
            self.tags.insert(tag, Target::from([Some(name)]));
        }
        self.acknowledged += 1;
        Ok(())
    }

    fn delete_blob(&mut self) -> io::Result<()> {
        let blob = self.any_blob();
        let before = self.blobs_here.get(&blob).copied().unwrap_or(Presence::Gone);
        self.blobs_here.insert(blob, before.before_delete());
        self.delete(&self.url(&format!("blobs/{}", self.blobs.0[blob].0)), before == Presence::Here)?;
        self.blobs_here.insert(blob, Presence::Gone);
        self.acknowledged += 1;
        Ok(())
    }

    fn delete_manifest(&mut self) -> io::Result<()> {
        let known: Vec<String> = self.manifests_here.keys().cloned().collect();
        let Some(name) = known.get(self.random.below(MANIFESTS) as usize) else { return Ok(()) };
        let before = self.manifests_here[name];
        self.manifests_here.insert(name.clone(), before.before_delete());
        for target in self.tags.values_mut().filter(|target| target.contains(&Some(name.clone()))) {
            target.insert(None);
        }
        self.delete(&self.url(&format!("manifests/{name}")), before == Presence::Here)?;
        self.manifests_here.insert(name.clone(), Presence::Gone);
        for target in self.tags.values_mut() {
            target.remove(&Some(name.clone()));
        }
        self.acknowledged += 1;
        Ok(())
    }

    fn delete_tag(&mut self) -> io::Result<()> {
        let tag = self.any_tag();
        let target = self.tags.entry(tag.clone()).or_insert_with(|| Target::from([None]));
        let here = !target.contains(&None);
        target.insert(None);
        self.delete(&self.url(&format!("manifests/{tag}")), here)?;
        self.tags.insert(tag, Target::from([None]));
        self.acknowledged += 1;
        Ok(())
    }

    fn delete(&self, target: &str, here: bool) -> io::Result<()> {
        accept(&self.ask("DELETE", target, &[], Body::Whole(b""))?, if here { &[202] } else { &[404] });
        Ok(())
    }

    fn pull_blob(&mut self) -> io::Result<()> {
        let blob = self.any_blob();
        let name = self.blobs.0[blob].0.clone();
        self.pull(&self.other, "blobs", &name)?;
        let here = self.pull(&self.repository, "blobs", &name)?.is_some();
        let before = self.blobs_here.get(&blob).copied().unwrap_or(Presence::Gone);
        before.seen(here, &format!("{} {name}", self.repository));
        Ok(())
    }

    fn pull_tag(&mut self) -> io::Result<()> {
        let tag = self.any_tag();
        self.pull(&self.other, "manifests", &tag)?;
        let found = self.pull(&self.repository, "manifests", &tag)?.map(|manifest| digest(&manifest));
        let allowed = self.tags.get(&tag).is_none_or(|target| target.contains(&found));
        assert!(allowed, "{}:{tag} is {found:?}, but can be {:?} alone", self.repository, self.tags[&tag]);
        Ok(())
    }

    /// What the registry serves, if anything: bytes that have the digest that it says, and that was asked for.
    fn pull(&self, repository: &str, kind: &str, reference: &str) -> io::Result<Option<Vec<u8>>> {
        let answer = self.ask("GET", &format!("{repository}/{kind}/{reference}"), &[], Body::Whole(b""))?;
        accept(&answer, &[200, 404]);
        if answer.status == 404 {
            return Ok(None);
        }
        let found = digest(&answer.body);
        assert_eq!(answer.header("docker-content-digest"), Some(found.as_str()), "{repository} {reference} is served as something else");
        assert!(!reference.starts_with("sha256:") || reference == found, "{repository} {reference} has wrong bytes: {found}");
        Ok(Some(answer.body))
    }

    fn list_tags(&self) -> io::Result<()> {
        let answer = self.ask("GET", &self.url("tags/list"), &[], Body::Whole(b""))?;
        accept(&answer, &[200, 404]);
        let listed: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()));
        let listed: Vec<&str> = listed["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (tag, target) in &self.tags {
            let here = listed.contains(&tag.as_str());
            assert!(here || target.contains(&None), "{}:{tag} is not listed: {listed:?}", self.repository);
            assert!(!here || target.iter().any(Option::is_some), "{}:{tag} is listed, but deleted", self.repository);
        }
        let unknown = listed.iter().find(|tag| !self.tags.contains_key(**tag));
        assert_eq!(unknown, None, "{} lists what was never pushed", self.repository);
        Ok(())
    }
}

fn location(answer: &Answer) -> io::Result<String> {
    accept(answer, &[202]);
    answer.header("location").map(str::to_owned).ok_or_else(|| io::Error::other("an upload without a place"))
}

#[track_caller]
fn accept(answer: &Answer, allowed: &[u16]) {
    assert!(allowed.contains(&answer.status), "{} instead of {allowed:?}: {}", answer.status, answer.text());
}
