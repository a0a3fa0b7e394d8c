//! Whether something is a part of what must not be taken apart: a walk from roots through what manifests name.
//!
//! Not here: which manifests are roots; reading them.

use std::collections::{BTreeSet, VecDeque};

use crate::digest::Digest;

/// A search for one digest, driven like a [`Marking`](super::Marking): `poll_read` gives what may be a manifest, and
/// `handle_read` is told what it [names](super::named).
#[derive(Clone, Debug)]
pub struct Search {
    wanted: Digest,
    /// Each with the root that led to it.
    waiting: VecDeque<(Digest, Digest)>,
    seen: BTreeSet<Digest>,
    found: Option<Digest>,
}

impl Search {
    /// A search for `wanted` in what the `roots` lead to. A root is not found by itself.
    pub fn new(wanted: Digest, roots: impl IntoIterator<Item = Digest>) -> Self {
        let waiting: VecDeque<_> = roots.into_iter().map(|root| (root, root)).collect();
        let seen = waiting.iter().map(|(root, _)| *root).collect();
        Self { wanted, waiting, seen, found: None }
    }

    /// The next to be read, and the root that leads to it; none when the search is over.
    pub fn poll_read(&mut self) -> Option<(Digest, Digest)> {
        if self.found.is_some() { None } else { self.waiting.pop_front() }
    }

    /// Takes what a manifest that `root` leads to names: nothing, if it is none.
    pub fn handle_read(&mut self, root: Digest, named: impl IntoIterator<Item = Digest>) {
        for digest in named {
            if digest == self.wanted {
                self.found = Some(root);
                return;
            }
            if self.seen.insert(digest) {
                self.waiting.push_back((digest, root));
            }
        }
    }

    /// The root that leads to what is wanted.
    pub const fn found(&self) -> Option<Digest> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    /// The root that leads to `wanted`, and how many manifests were read.
    fn search(wanted: &str, roots: &[&str]) -> (Option<Digest>, usize) {
        let named: fn(Digest) -> &'static [&'static str] = |manifest| match manifest {
            manifest if manifest == digest("index") => &["image", "other image", "index"],
            manifest if manifest == digest("image") => &["layer", "shared"],
            manifest if manifest == digest("other image") => &["shared"],
            _ => &[],
        };
        let mut search = Search::new(digest(wanted), roots.iter().map(|root| digest(root)));
        let mut reads = 0;
        while let Some((manifest, root)) = search.poll_read() {
            reads += 1;
            search.handle_read(root, named(manifest).iter().map(|text| digest(text)));
        }
        (search.found(), reads)
    }

    #[test]
    fn finds_what_a_root_leads_to_at_any_depth_and_reads_nothing_twice() {
        assert_eq!(search("image", &["index"]), (Some(digest("index")), 1));
        assert_eq!(search("layer", &["index"]), (Some(digest("index")), 2));
        assert_eq!(search("shared", &["other image", "index"]), (Some(digest("other image")), 1));
        assert_eq!(search("elsewhere", &["index"]), (None, 5));
    }

    #[test]
    fn a_root_is_no_part_of_itself() {
        assert_eq!(search("image", &["image"]), (None, 3));
        assert_eq!(search("image", &[]), (None, 0));
    }
}
