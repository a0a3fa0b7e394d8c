//! What a device and its connection to the seed are slow at, beside links: writing, hashing, and beginning.
//!
//! Modelled: a device hashes and writes units one after the other in the order in which they come, at the slower of the two
//! rates, and hashes the whole blob before it is complete; a connection to the seed that was idle begins with a small window,
//! which doubles each round trip (RFC 9002 §7.3.1). Not modelled: that a slow disk holds back what comes, reading for peers.
//!
//! Not here: links; see [`crate::network`].

use anyhow::ensure;
use clap::Args;
use serde::Deserialize;

use super::MBIT_MAX;

/// An initial window larger than this is none.
const SLOW_START_KIB_MAX: u64 = 1 << 20;

/// A connection that was idle for longer begins anew (RFC 9002 §7.8; a few round trips).
pub(crate) const IDLE_US: u64 = 1_000_000;

/// Rates of a device; nothing is limited unless it was chosen.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Rates of every device")]
pub struct Rates {
    /// What its disk writes, in Mbit/s [default: no limit]
    #[arg(long, value_name = "MBIT")]
    pub disk_mbit: Option<u64>,
    /// What it hashes, in Mbit/s: each unit as it comes, and the whole blob in the end [default: no limit]
    #[arg(long, value_name = "MBIT")]
    pub verify_mbit: Option<u64>,
    /// The initial window of a connection to the seed that was idle, in KiB: a fetch on it begins later by a round trip for each
    /// time that the window must double until it covers the request [default: no slow start]
    #[arg(long, value_name = "KIB")]
    pub slow_start_kib: Option<u64>,
    /// What of a WAN link's rate is payload, in thousandths: the rest is headers [default: 1000]
    #[arg(long, value_name = "N")]
    pub wan_goodput_permille: Option<u64>,
    /// The same of a device's LAN link [default: 1000]
    #[arg(long, value_name = "N")]
    pub lan_goodput_permille: Option<u64>,
}

impl Rates {
    /// These rates, and those of `others` where nothing was chosen.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            disk_mbit: self.disk_mbit.or(others.disk_mbit),
            verify_mbit: self.verify_mbit.or(others.verify_mbit),
            slow_start_kib: self.slow_start_kib.or(others.slow_start_kib),
            wan_goodput_permille: self.wan_goodput_permille.or(others.wan_goodput_permille),
            lan_goodput_permille: self.lan_goodput_permille.or(others.lan_goodput_permille),
        }
    }

    fn chosen(self) -> impl Iterator<Item = (&'static str, &'static str, u64, u64)> {
        let all = [
            ("disk_mbit", "disk-mbit", self.disk_mbit, MBIT_MAX),
            ("verify_mbit", "verify-mbit", self.verify_mbit, MBIT_MAX),
            ("slow_start_kib", "slow-start-kib", self.slow_start_kib, SLOW_START_KIB_MAX),
            ("wan_goodput_permille", "wan-goodput-permille", self.wan_goodput_permille, 1000),
            ("lan_goodput_permille", "lan-goodput-permille", self.lan_goodput_permille, 1000),
        ];
        all.into_iter().filter_map(|(key, flag, number, most)| Some((key, flag, number?, most)))
    }

    /// Refuses what cannot be.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        for (key, _, number, most) in self.chosen() {
            ensure!((1..=most).contains(&number), "`{key}` must be from 1 to {most}");
        }
        Ok(())
    }

    /// The flags that choose these rates.
    pub(crate) fn flags(self) -> impl Iterator<Item = (&'static str, String)> {
        self.chosen().map(|(_, flag, number, _)| (flag, number.to_string()))
    }

    /// The slower of disk and hashing, in Mbit/s, if one is limited.
    pub(crate) fn storing_mbit(self) -> Option<u64> {
        self.disk_mbit.into_iter().chain(self.verify_mbit).min()
    }

    /// How long it takes to hash the whole of a blob of `bytes`.
    pub(crate) fn checking_us(self, bytes: u64) -> u64 {
        self.verify_mbit.map_or(0, |mbit| (bytes * 8).div_ceil(mbit))
    }

    /// By how much a fetch of `bytes` over an idle connection begins later, at this round trip.
    pub(crate) fn slow_start_us(self, bytes: u64, rtt_us: u64) -> u64 {
        let doublings = |kib: u64| bytes.div_ceil(kib << 10).max(1).next_power_of_two().ilog2();
        self.slow_start_kib.map_or(0, |kib| rtt_us * u64::from(doublings(kib)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_each_round_trip_until_it_covers_the_request() {
        let rates = Rates { slow_start_kib: Some(16), ..Rates::default() };
        let waits = [1, 16 << 10, (16 << 10) + 1, 512 << 10].map(|bytes| rates.slow_start_us(bytes, 100));
        assert_eq!(waits, [0, 0, 100, 500]);
        assert_eq!(Rates::default().slow_start_us(1 << 30, 100), 0);
    }

    #[test]
    fn the_slower_of_disk_and_hashing_counts() {
        let rates = Rates { disk_mbit: Some(80), verify_mbit: Some(400), ..Rates::default() };
        assert_eq!((rates.storing_mbit(), rates.checking_us(1_000_000)), (Some(80), 20_000));
        assert_eq!((Rates::default().storing_mbit(), Rates::default().checking_us(1 << 40)), (None, 0));
    }
}
