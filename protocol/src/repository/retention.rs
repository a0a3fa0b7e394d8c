//! Which tags expire, and when.
//!
//! Without a rule nothing expires. A tag is kept as long as anything keeps it:
//!
//! - it is among the `keep_last` newest tags that retention looks at, by their last push (of two pushed in the same second
//!   the one with the higher name is newer);
//! - its last push is less than `keep_days` days ago;
//! - retention does not look at it, because `expire` lists patterns and none of them matches;
//! - a version whose content is needed ([`is_needed`](crate::garbage::is_needed)) names its manifest;
//! - its name says which manifest it is about (cosign's `sha256-<hex>.sig`, see [`subject_of`]), and that manifest is still
//!   in the repository: signatures go with what they sign. Such tags do not count among the newest of the others;
//! - it is not known when it was pushed, because the seed's clock was not set.
//!
//! A tag goes alone: its manifest is left to garbage collection, which keeps what another tag, an index or a version needs.
//! Retention also removes immutable tags, because their organisation asked for both; after that the name is free again.
//!
//! Not here: whether the clock is believed, see [`crate::garbage::clock`]; when tags are looked at, see `node::seed::repositories::expiry`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RepositorySettings;
use super::tags::{TagGlob, subject_of};
use crate::name::Tag;
use crate::time::WallTime;

const SECONDS_A_DAY: u64 = 86_400;

/// The rules in force for one repository; there is at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    keep_last: usize,
    keep_seconds: u64,
    looks_at: Option<Vec<TagGlob>>,
}

/// A tag as retention sees it.
#[derive(Clone, Copy, Debug)]
pub struct TagFacts<'a> {
    /// Its name.
    pub tag: &'a Tag,
    /// When it was last pushed; zero if that is not known.
    pub pushed: WallTime,
    /// Whether a version whose content is needed names its manifest.
    pub needed: bool,
    /// Whether the manifest that it is about by its name ([`subject_of`]) is in the repository.
    pub subject_present: bool,
}

/// What becomes of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// No rule is about it.
    Unlimited,
    /// It is kept, as long as this holds.
    Kept(KeptBy),
    /// It expires at this moment, which may have passed.
    Expires(WallTime),
}

/// Why a tag is kept that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptBy {
    /// A published version needs it.
    Version,
    /// The manifest that it is about is there.
    Subject,
    /// It is among the newest.
    KeepLast,
    /// It is not known when it was pushed.
    UnknownTime,
}

impl RepositorySettings {
    /// The rules about expiry, if there is one.
    pub fn retention(&self) -> Option<Retention> {
        let (last, days) = (self.keep_last.unwrap_or(0), self.keep_days.unwrap_or(0));
        (last > 0 || days > 0).then(|| Retention {
            keep_last: last as usize,
            keep_seconds: u64::from(days) * SECONDS_A_DAY,
            looks_at: self.expire.clone(),
        })
    }
}

impl Retention {
    fn looks_at(&self, tag: &Tag) -> bool {
        self.looks_at.as_ref().is_none_or(|globs| globs.iter().any(|glob| glob.matches(tag)))
    }

    /// What becomes of each of a repository's tags, all of which are given, in the same order.
    pub fn fates(&self, tags: &[TagFacts<'_>]) -> Vec<Fate> {
        let newest = self.newest(tags);
        let fate = |facts: &TagFacts<'_>| {
            if !self.looks_at(facts.tag) {
                Fate::Unlimited
            } else if facts.needed {
                Fate::Kept(KeptBy::Version)
            } else if facts.subject_present {
                Fate::Kept(KeptBy::Subject)
            } else if facts.pushed == WallTime::default() {
                Fate::Kept(KeptBy::UnknownTime)
            } else if newest.get(&is_about(facts)).is_some_and(|oldest| age_order(facts) <= *oldest) {
                Fate::Kept(KeptBy::KeepLast)
            } else {
                Fate::Expires(facts.pushed.plus_seconds(self.keep_seconds))
            }
        };
        tags.iter().map(fate).collect()
    }

    /// The oldest tag that still is among the newest, apart for tags that are about a manifest and for all others.
    fn newest<'a>(&self, tags: &[TagFacts<'a>]) -> BTreeMap<bool, AgeOrder<'a>> {
        let mut newest = BTreeMap::new();
        for about in [false, true] {
            let counts = |facts: &&TagFacts<'_>| is_about(facts) == about && !facts.subject_present && self.looks_at(facts.tag);
            let mut ages: Vec<_> = tags.iter().filter(counts).map(age_order).collect();
            ages.sort_unstable();
            if let Some(oldest) = self.keep_last.checked_sub(1).and_then(|last| ages.get(last).or(ages.last())) {
                newest.insert(about, *oldest);
            }
        }
        newest
    }
}

/// From the newest to the oldest.
type AgeOrder<'a> = (Reverse<WallTime>, Reverse<&'a Tag>);

const fn age_order<'a>(facts: &TagFacts<'a>) -> AgeOrder<'a> {
    (Reverse(facts.pushed), Reverse(facts.tag))
}

fn is_about(facts: &TagFacts<'_>) -> bool {
    subject_of(facts.tag).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    const DAY: u64 = SECONDS_A_DAY;

    fn retention(keep_last: u32, keep_days: u32) -> Retention {
        let settings = RepositorySettings { keep_last: Some(keep_last), keep_days: Some(keep_days), ..RepositorySettings::default() };
        settings.retention().unwrap()
    }

    /// What becomes of tags that were pushed on these days; `!` marks one that a version needs.
    fn fates(retention: &Retention, tags: &[(&str, u64)]) -> Vec<Fate> {
        let names: Vec<Tag> = tags.iter().map(|(name, _)| name.trim_start_matches('!').parse().unwrap()).collect();
        let facts: Vec<TagFacts<'_>> = tags
            .iter()
            .zip(&names)
            .map(|((name, day), tag)| TagFacts { tag, pushed: at(*day), needed: name.starts_with('!'), subject_present: false })
            .collect();
        retention.fates(&facts)
    }

    fn at(day: u64) -> WallTime {
        WallTime::from_unix_seconds(day * DAY)
    }

    #[test]
    fn without_a_rule_nothing_expires() {
        let settings = |keep_last, keep_days| RepositorySettings { keep_last, keep_days, ..RepositorySettings::default() };
        assert_eq!(settings(None, None).retention(), None);
        assert_eq!(settings(Some(0), Some(0)).retention(), None, "0 lifts a rule of a wider pattern");
        assert!(settings(Some(1), None).retention().is_some() && settings(None, Some(1)).retention().is_some());
    }

    #[test]
    fn the_newest_stay_and_the_others_expire_at_once() {
        let (kept, expired) = (Fate::Kept(KeptBy::KeepLast), |day| Fate::Expires(at(day)));
        assert_eq!(fates(&retention(2, 0), &[("a", 1), ("b", 3), ("c", 2)]), [expired(1), kept, kept]);
        assert_eq!(fates(&retention(2, 0), &[("a", 1)]), [kept]);
        assert_eq!(fates(&retention(1, 0), &[("a", 1), ("b", 1)]), [expired(1), kept], "of the same second");
    }

    #[test]
    fn a_tag_expires_when_its_days_are_over_unless_it_is_among_the_newest() {
        let kept = Fate::Kept(KeptBy::KeepLast);
        assert_eq!(fates(&retention(0, 10), &[("a", 1), ("b", 30)]), [Fate::Expires(at(11)), Fate::Expires(at(40))]);
        assert_eq!(fates(&retention(1, 10), &[("a", 1), ("b", 3)]), [Fate::Expires(at(11)), kept]);
    }

    #[test]
    fn what_versions_need_and_what_was_pushed_at_an_unknown_time_is_kept() {
        let tags = [("!old", 1), ("new", 9), ("unknown", 0), ("older", 2)];
        let expected = [Fate::Kept(KeptBy::Version), Fate::Kept(KeptBy::KeepLast), Fate::Kept(KeptBy::UnknownTime), Fate::Expires(at(2))];
        assert_eq!(fates(&retention(1, 0), &tags), expected);
    }

    #[test]
    fn tags_that_retention_does_not_look_at_stay_and_do_not_count() {
        let only = Retention { looks_at: Some(vec!["pr-*".parse().unwrap()]), ..retention(1, 0) };
        let tags = [("pr-1", 1), ("pr-2", 2), ("v1", 3)];
        assert_eq!(fates(&only, &tags), [Fate::Expires(at(1)), Fate::Kept(KeptBy::KeepLast), Fate::Unlimited]);
    }

    #[test]
    fn a_signature_stays_with_its_image_and_counts_for_itself() {
        let [image, signed, orphan] = ["v1", "image", "gone"];
        let about = |text: &str| format!("sha256-{}.sig", Digest::sha256(text.as_bytes()).hex()).parse::<Tag>().unwrap();
        let tags = [image.parse().unwrap(), about(signed), about(orphan)];
        let facts = |tag, day, subject_present| TagFacts { tag, pushed: at(day), needed: false, subject_present };
        let facts = [facts(&tags[0], 1, false), facts(&tags[1], 5, true), facts(&tags[2], 6, false)];
        let newest = Fate::Kept(KeptBy::KeepLast);
        assert_eq!(retention(1, 0).fates(&facts), [newest, Fate::Kept(KeptBy::Subject), newest]);
        let expected = [Fate::Expires(at(3)), Fate::Kept(KeptBy::Subject), Fate::Expires(at(8))];
        assert_eq!(retention(0, 2).fates(&facts), expected);
    }
}
