//! What links bring, and the least time that a site needs with them.
//!
//! Not here: how flows share links; see [`crate::network`].

use super::Scenario;
use crate::network::FRACTION_BITS;

impl Scenario {
    /// What a WAN link brings, in bits a microsecond shifted by [`FRACTION_BITS`].
    pub(crate) fn wan_capacity(&self) -> u64 {
        goodput(self.wan_mbit, self.rates.wan_goodput_permille)
    }

    /// What the link of the device with `index` at a site of `devices` brings each way, in bits a microsecond shifted by
    /// [`FRACTION_BITS`].
    pub(crate) fn lan_capacity(&self, index: u32, devices: u32) -> u64 {
        goodput(self.faults.lan_mbit(index, devices, self.lan_mbit), self.rates.lan_goodput_permille)
    }

    /// The least time in which the blob can reach the `receivers` devices of a site that survive:
    /// max(F/w, F/d, nF/(w+Σu)), in microseconds, where d is at most what a device stores; the time for which the WAN is cut is
    /// added to the first, in which w is what the seed has for the site, and over Wi-Fi with air c it is at least 2(n-1)F/c.
    pub(crate) fn bound_us(&self, site: u32, receivers: u32) -> u64 {
        let (bits, devices) = (self.geometry().size() * 8, self.devices_of(site));
        let capacities =
            || (0..devices).filter(|index| self.faults.role(*index, devices).receives()).map(|index| self.lan_capacity(index, devices));
        let cut = self.faults.wan_cut_ms.map_or(0, |_| self.faults.wan_cut_for_ms() * 1000);
        let copy = self.seed_egress.as_ref().map_or(0, |plan| plan.copy_us[site as usize]).max(micros(bits, 1, self.wan_capacity()));
        let air = self.wifi_mbit.map_or(0, |mbit| micros(bits, 2 * u64::from(receivers.saturating_sub(1)), mbit << FRACTION_BITS));
        let all = self.wan_capacity() + capacities().sum::<u64>();
        let storing = self.rates.storing_mbit().map(|mbit| mbit << FRACTION_BITS);
        let slowest = capacities().chain(storing).min().unwrap_or(u64::MAX);
        (copy + cut).max(air).max(micros(bits, 1, slowest)).max(micros(bits, u64::from(receivers), all))
    }
}

fn goodput(mbit: u64, permille: Option<u64>) -> u64 {
    (mbit << FRACTION_BITS) * permille.unwrap_or(1000) / 1000
}

/// How long `times` as many bits take, at this many a microsecond shifted by [`FRACTION_BITS`].
fn micros(bits: u64, times: u64, capacity: u64) -> u64 {
    let work = (u128::from(bits) * u128::from(times)) << FRACTION_BITS;
    u64::try_from(work / u128::from(capacity.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{Choices, Scenario};

    #[test]
    fn headers_take_their_part_of_links_and_of_the_bound() {
        let scenario = |text: &str| Scenario::try_from(toml::from_str::<Choices>(text).unwrap()).unwrap();
        let full = scenario("wan_mbit = 8\nlan_mbit = 80");
        let part = scenario("wan_mbit = 8\nlan_mbit = 80\n[rates]\nwan_goodput_permille = 500\nlan_goodput_permille = 900");
        assert_eq!((full.wan_capacity(), full.lan_capacity(0, 2)), (2 * part.wan_capacity(), part.lan_capacity(0, 2) * 10 / 9));
        assert_eq!(part.bound_us(0, 20), 2 * full.bound_us(0, 20));
    }
}
