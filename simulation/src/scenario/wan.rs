//! What a site gets over its WAN, and when.
//!
//! Not here: how its flows share that; see [`crate::network`].

use protocol::rendezvous;

use super::Scenario;
use crate::network::FRACTION_BITS;
use crate::seed_egress::SeedEgress;

impl Scenario {
    /// Whether `site` has no WAN at first.
    pub(super) fn is_offline_at_first(&self, site: u32) -> bool {
        let draw = rendezvous::draw(rendezvous::draw(self.seed, u64::from(site)), u64::MAX);
        draw % 100 < self.faults.offline_percent.unwrap_or(0)
    }

    pub(super) fn plan_seed_egress(&self, seed_mbit: u64) -> SeedEgress {
        let hold_off_us = u64::try_from(self.parameters.hold_off.as_micros()).unwrap_or(u64::MAX);
        let offline_us = |site| if self.is_offline_at_first(site) { self.faults.offline_until_ms() * 1000 } else { 0 };
        let wanted_us = self.wanted_ms.unwrap_or(0) * 1000;
        let begins: Vec<u64> = (0..self.sites).map(|site| hold_off_us.max(wanted_us).max(offline_us(site))).collect();
        SeedEgress::plan(&begins, self.geometry().size() * 8, self.wan_capacity(), seed_mbit << FRACTION_BITS)
    }

    /// What `site` gets over its WAN at a moment, in bits a microsecond shifted by [`FRACTION_BITS`].
    pub(crate) fn wan_at(&self, site: u32, at_us: u64) -> u64 {
        let within = |from_ms: u64, for_ms: u64| (from_ms * 1000..(from_ms + for_ms) * 1000).contains(&at_us);
        let is_cut = self.faults.wan_cut_ms.is_some_and(|from| within(from, self.faults.wan_cut_for_ms()));
        let is_offline = self.is_offline_at_first(site) && within(0, self.faults.offline_until_ms());
        let levels = self.seed_egress.as_ref().map_or(&[][..], |plan| &plan.levels);
        let level = levels[..levels.partition_point(|(from, _)| *from <= at_us)].last().map_or(u64::MAX, |(_, level)| *level);
        if is_cut || is_offline { 0 } else { level.min(self.wan_capacity()) }
    }

    /// When that changes after the start, and to what.
    pub(crate) fn wan_changes(&self, site: u32) -> Vec<(u64, u64)> {
        let cut = self.faults.wan_cut_ms.into_iter().flat_map(|from| [from, from + self.faults.wan_cut_for_ms()]);
        let offline = self.is_offline_at_first(site).then(|| self.faults.offline_until_ms());
        let levels = self.seed_egress.iter().flat_map(|plan| plan.levels.iter().map(|(from, _)| *from));
        let mut moments: Vec<u64> = cut.chain(offline).map(|ms| ms * 1000).chain(levels).filter(|at| *at > 0).collect();
        moments.sort_unstable();
        let mut changes: Vec<(u64, u64)> = moments.into_iter().map(|at| (at, self.wan_at(site, at))).collect();
        changes.dedup_by_key(|(_, capacity)| *capacity);
        changes
    }
}
