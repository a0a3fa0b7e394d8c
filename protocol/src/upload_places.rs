//! Who gets a place for a new upload, and whose idle upload makes room for it: no key stops the others of its organisation,
//! and no organisation stops the others of its seed.
//!
//! Not here: the uploads themselves.

use std::time::Duration;

use crate::fair_places::{Verdict, may_take};

/// An upload makes room for another only when it has been idle for this long: no client pauses between two chunks of a
/// layer for so long, while what a broken pipeline left behind is a matter of days.
pub const IDLE_LEAST: Duration = Duration::from_secs(5 * 60);

/// How many uploads may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadPlaces {
    /// On the whole seed.
    pub all: usize,
    /// Of one access key.
    pub per_key: usize,
}

/// An upload under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenUpload<'a> {
    /// The organisation that it goes to.
    pub org: &'a str,
    /// The access key that started it.
    pub key: &'a str,
    /// How long nothing has been sent; none while something is.
    pub idle: Option<Duration>,
}

/// What comes of the wish to start an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There is one.
    Free,
    /// There is one when the upload with this place in the list has been ended.
    Instead(usize),
    /// There is none.
    Full(Full),
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Of the key.
    Key,
    /// Of the organisation.
    Org,
    /// Of the seed.
    Seed,
}

impl UploadPlaces {
    /// Whether `key` of `org` may start an upload while those `held` are under way. At its limit a key loses its own idle
    /// upload. An organisation that has its share loses its own too, or gets the place of one of the organisation that has
    /// the most, if that is more than it has itself.
    pub fn find(&self, org: &str, key: &str, held: &[OpenUpload<'_>]) -> Admission {
        let of_org = held.iter().filter(|upload| upload.org == org).count();
        let of_key = held.iter().filter(|upload| upload.org == org && upload.key == key).count();
        if of_key >= self.per_key {
            let own = longest_idle(held, |upload| upload.org == org && upload.key == key);
            return own.map_or(Admission::Full(Full::Key), Admission::Instead);
        }
        let full = match may_take(of_org, 1, self.all.saturating_sub(held.len())) {
            Verdict::Granted => return Admission::Free,
            Verdict::HasItsShare => Full::Org,
            Verdict::NoRoom => Full::Seed,
        };
        let count = |of: &OpenUpload<'_>| held.iter().filter(|upload| upload.org == of.org).count();
        let most = held.iter().map(count).max().filter(|most| *most > of_org);
        let own = longest_idle(held, |upload| upload.org == org);
        let left_behind = own.or_else(|| longest_idle(held, |upload| Some(count(upload)) == most));
        left_behind.map_or(Admission::Full(full), Admission::Instead)
    }
}

fn longest_idle(held: &[OpenUpload<'_>], may_end: impl Fn(&OpenUpload<'_>) -> bool) -> Option<usize> {
    let idle = held.iter().enumerate().filter_map(|(index, upload)| Some((upload.idle.filter(|idle| *idle >= IDLE_LEAST)?, index)));
    let mut idle: Vec<(Duration, usize)> = idle.collect();
    idle.sort_unstable_by(|one, other| other.cmp(one));
    idle.into_iter().map(|(_, index)| index).find(|index| held.get(*index).is_some_and(&may_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: UploadPlaces = UploadPlaces { all: 6, per_key: 2 };

    fn held<'a>(org: &'a str, key: &'a str, idle_minutes: u64) -> OpenUpload<'a> {
        OpenUpload { org, key, idle: (idle_minutes > 0).then(|| Duration::from_secs(idle_minutes * 60)) }
    }

    #[test]
    fn a_key_at_its_limit_loses_its_own_longest_idle_upload() {
        let uploads = [held("acme", "ci", 6), held("acme", "other", 50), held("acme", "ci", 7)];
        assert_eq!(PLACES.find("acme", "ci", &uploads), Admission::Instead(2));
        assert_eq!(PLACES.find("acme", "other", &uploads), Admission::Free);
        let busy = [held("acme", "ci", 0), held("acme", "ci", 4)];
        assert_eq!(PLACES.find("acme", "ci", &busy), Admission::Full(Full::Key));
        assert_eq!(PLACES.find("other", "ci", &busy), Admission::Free, "the key of another organisation");
    }

    #[test]
    fn an_organisation_that_has_its_share_makes_room_by_itself_and_leaves_some_to_others() {
        let uploads = [held("acme", "a", 9), held("acme", "a", 0), held("acme", "b", 8), held("acme", "b", 0), held("acme", "c", 7)];
        assert_eq!(PLACES.find("acme", "d", &uploads), Admission::Instead(0));
        assert_eq!(PLACES.find("other", "o", &uploads), Admission::Free);
        let busy = ["a", "a", "b", "b", "c"].map(|key| held("acme", key, 0));
        assert_eq!(PLACES.find("acme", "d", &busy), Admission::Full(Full::Org));
    }

    #[test]
    fn a_full_seed_makes_room_at_the_cost_of_who_has_the_most() {
        let mut uploads =
            [held("acme", "a", 7), held("acme", "a", 8), held("acme", "b", 0), held("acme", "b", 0), held("o", "x", 0), held("p", "y", 99)];
        assert_eq!(PLACES.find("new", "n", &uploads), Admission::Instead(1));
        assert_eq!(PLACES.find("o", "z", &uploads), Admission::Instead(1), "it has one, and acme has four");
        assert_eq!(PLACES.find("p", "z", &uploads), Admission::Instead(5), "its own comes first");
        uploads[0].idle = None;
        uploads[1].idle = None;
        assert_eq!(PLACES.find("new", "n", &uploads), Admission::Full(Full::Seed));
        assert_eq!(PLACES.find("o", "z", &uploads), Admission::Full(Full::Org));
    }
}
