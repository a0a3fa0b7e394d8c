//! What each site may take of the seed's way out, when that is narrower than all sites together: everybody who fetches gets
//! as much as everybody else, up to its own WAN (processor sharing).
//!
//! Computed before the sites run, so that each still runs by itself: every site is one demand of one copy that begins when its
//! first device may fetch, were it up from the start. What a site takes beyond one copy, or while its WAN is cut, is not in the sum; the report's seconds
//! of seed egress show by how much the limit is missed.
//!
//! Not here: how a site's own flows share what it gets; see [`crate::network::sharing`].

use std::collections::VecDeque;

use crate::network::FRACTION_BITS;

/// A level that moves by less than one part in this many is left as it is, so that a fleet that comes and goes one by one
/// does not change it with every site.
const PRECISION: u64 = 64;

/// What the seed gives to each site, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeedEgress {
    /// From these moments on, in microseconds, no site gets more than this, in bits a microsecond shifted by [`FRACTION_BITS`].
    pub(crate) levels: Vec<(u64, u64)>,
    /// How long one copy takes for each site.
    pub(crate) copy_us: Vec<u64>,
}

impl SeedEgress {
    /// The plan for sites that begin at these moments, want `bits` each over a WAN of `wan`, of a seed that sends
    /// `egress`, both in bits a microsecond shifted by [`FRACTION_BITS`].
    pub(crate) fn plan(begins_us: &[u64], bits: u64, wan: u64, egress: u64) -> Self {
        let (egress, work) = (u128::from(egress), u128::from(bits) << FRACTION_BITS);
        let mut arrivals: Vec<usize> = (0..begins_us.len()).collect();
        arrivals.sort_by_key(|site| begins_us[*site]);
        let (mut arrivals, mut active) = (VecDeque::from(arrivals), VecDeque::new());
        let (mut now, mut given, mut level) = (0u64, 0u128, wan);
        let mut plan = Self { levels: Vec::new(), copy_us: vec![0; begins_us.len()] };
        while !arrivals.is_empty() || !active.is_empty() {
            let next_end = active.front().map(|(end, _): &(u128, usize)| now + micros(end.saturating_sub(given), level));
            let next_begin = arrivals.front().map(|site| begins_us[*site]);
            let until = next_end.into_iter().chain(next_begin).min().unwrap_or(now).max(now);
            given += u128::from(until - now) * u128::from(level);
            now = until;
            while let Some((_, site)) = active.pop_front_if(|(end, _)| *end <= given) {
                plan.copy_us[site] = now - begins_us[site];
            }
            while let Some(site) = arrivals.pop_front_if(|site| begins_us[*site] <= now) {
                active.push_back((given + work, site));
            }
            let share = egress / (active.len().max(1) as u128);
            level = u64::try_from(share).unwrap_or(wan).clamp(1, wan);
            plan.note(now, level);
        }
        plan
    }

    fn note(&mut self, now: u64, level: u64) {
        let known = self.levels.last().map_or(0, |(_, level)| *level);
        if level.abs_diff(known) > known / PRECISION {
            self.levels.push((now, level));
        }
    }
}

fn micros(work: u128, rate: u64) -> u64 {
    u64::try_from(work.div_ceil(u128::from(rate.max(1)))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn sites_that_begin_together_share_and_end_together() {
        let plan = SeedEgress::plan(&[0; 4], 100 * SECOND, 100 << FRACTION_BITS, 200 << FRACTION_BITS);
        assert_eq!(plan.copy_us, [2 * SECOND; 4]);
        assert_eq!(plan.levels, [(0, 50 << FRACTION_BITS), (2 * SECOND, 100 << FRACTION_BITS)]);
    }

    #[test]
    fn who_comes_later_takes_part_from_then_on() {
        let plan = SeedEgress::plan(&[SECOND, 0], 100 * SECOND, 100 << FRACTION_BITS, 100 << FRACTION_BITS);
        assert_eq!(plan.copy_us, [SECOND, SECOND], "one after the other");
        let plan = SeedEgress::plan(&[0, SECOND / 2], 100 * SECOND, 100 << FRACTION_BITS, 100 << FRACTION_BITS);
        assert_eq!(plan.copy_us, [SECOND * 3 / 2, SECOND * 3 / 2]);
    }

    #[test]
    fn a_wide_seed_limits_nobody() {
        let plan = SeedEgress::plan(&[0, 0, 0], 100 * SECOND, 50 << FRACTION_BITS, 1000 << FRACTION_BITS);
        assert_eq!((plan.copy_us, plan.levels), (vec![2 * SECOND; 3], vec![(0, 50 << FRACTION_BITS)]));
    }
}
