//! Which certificate authorities a new root of an organisation may name, and when a seed may give its old one up: in a
//! rotation no step leaves a device without an authority by which it finds its seed and its peers.
//!
//! Not here: the certificates, which are known by their SHA-256 here; see `node::transport::authorities`.

use crate::digest::Digest;

/// The authorities of a seed: the one that signs, and during a rotation the one that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedAuthorities {
    /// The one that signs.
    pub current: Digest,
    /// The one that comes next.
    pub next: Option<Digest>,
}

/// Why a new root is not put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritiesRefused {
    /// The one before named authorities, and this one names none.
    #[error("it names no certificate authorities any more, so devices would go back to those that they enrolled with; name those in force")]
    Dropped,
    /// It names none of this seed's.
    #[error(
        "it names no certificate authority of this seed, so devices would neither find it nor renew; `hedgerow seed ca show` lists them"
    )]
    Foreign,
    /// The old one goes in the same step as the next one comes.
    #[error(
        "it takes the right to sign from {0} before devices know the one that comes next; name both first, and let devices renew their \
         certificates"
    )]
    NoOverlap(Digest),
}

/// Whether a root that names `after` may follow one that names `before` (none: it does not speak of authorities, and devices
/// trust the one of their enrolment).
///
/// # Errors
/// With what devices would lose.
pub fn check_root(before: Option<&[Digest]>, after: Option<&[Digest]>, seed: &SeedAuthorities) -> Result<(), AuthoritiesRefused> {
    let Some(after) = after else {
        return if before.is_some() { Err(AuthoritiesRefused::Dropped) } else { Ok(()) };
    };
    let named_before = |authority: &Digest| before.is_some_and(|before| before.contains(authority));
    if after.contains(&seed.current) {
        return Ok(());
    }
    match seed.next {
        Some(next) if after.contains(&next) && named_before(&next) => Ok(()),
        Some(next) if after.contains(&next) => Err(AuthoritiesRefused::NoOverlap(seed.current)),
        _ => Err(AuthoritiesRefused::Foreign),
    }
}

/// Whether the seed may give its old authority up for `next`, as far as an organisation is concerned whose root names `named`.
pub fn may_retire(named: Option<&[Digest]>, next: &Digest) -> bool {
    named.is_some_and(|named| named.contains(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_goes_by_a_root_that_names_both() {
        let [old, new, other] = [b"old", b"new", b"etc"].map(|name| Digest::sha256(name));
        let alone = SeedAuthorities { current: old, next: None };
        let rotating = SeedAuthorities { current: old, next: Some(new) };
        let retired = SeedAuthorities { current: new, next: None };
        let (both, olds, news) = ([old, new], [old], [new]);
        assert_eq!(check_root(None, None, &alone), Ok(()));
        assert_eq!(check_root(None, Some(&olds), &alone), Ok(()));
        assert_eq!(check_root(None, Some(&both), &rotating), Ok(()));
        assert_eq!(check_root(Some(&both), Some(&news), &rotating), Ok(()));
        assert_eq!(check_root(Some(&both), Some(&news), &retired), Ok(()));
        assert_eq!(check_root(Some(&both), None, &rotating), Err(AuthoritiesRefused::Dropped));
        for before in [None, Some(olds.as_slice())] {
            assert_eq!(check_root(before, Some(&news), &rotating), Err(AuthoritiesRefused::NoOverlap(old)));
        }
        assert_eq!(check_root(None, Some(&[other]), &rotating), Err(AuthoritiesRefused::Foreign));
        assert_eq!(check_root(Some(&both), Some(&olds), &retired), Err(AuthoritiesRefused::Foreign));
        assert!(may_retire(Some(&both), &new) && may_retire(Some(&news), &new));
        assert!(!may_retire(None, &new) && !may_retire(Some(&olds), &new));
    }
}
