//! What is plotted of a run, in a few hundred points whatever its size.
//!
//! Not here: the plots; see [`crate::html`].

use serde::Serialize;

use crate::site::SiteOutcome;

/// Points of a curve at most, about.
const POINTS: usize = 100;

/// Curves, as points in order of their first figure.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Curves {
    /// Seconds of virtual time, devices that are complete by then.
    pub devices_done: Vec<(f64, f64)>,
    /// Seconds of virtual time, what the seed sends to all sites, in Mbit/s.
    pub seed_mbit: Vec<(f64, f64)>,
    /// Percent of the sites, copies over the WAN that none of them exceeds.
    pub wan_copies: Vec<(f64, f64)>,
}

impl Curves {
    pub(crate) fn new(sites: &[(u32, SiteOutcome)], blob_bytes: u64) -> Self {
        let mut done: Vec<u32> = sites.iter().flat_map(|(_, site)| site.done_at_ms.iter().copied()).collect();
        done.sort_unstable();
        let mut copies: Vec<f64> = sites.iter().map(|(_, site)| site.wan_bytes as f64 / blob_bytes.max(1) as f64).collect();
        copies.sort_unstable_by(f64::total_cmp);
        let seconds = sites.iter().map(|(_, site)| site.wan_by_second.len()).max().unwrap_or(0);
        let mut wan = vec![0u64; seconds];
        for (_, site) in sites {
            for (sum, bytes) in wan.iter_mut().zip(&site.wan_by_second) {
                *sum += u64::from(*bytes);
            }
        }
        let step = seconds.div_ceil(POINTS).max(1);
        let mbit = |bytes: &[u64]| bytes.iter().sum::<u64>() as f64 * 8.0 / 1e6 / bytes.len() as f64;
        let done_points = sampled(&done).map(|(count, at_ms)| (f64::from(*at_ms) / 1000.0, count as f64));
        Self {
            devices_done: std::iter::once((0.0, 0.0)).chain(done_points).collect(),
            seed_mbit: wan.chunks(step).enumerate().map(|(nth, bytes)| ((nth * step) as f64, mbit(bytes))).collect(),
            wan_copies: sampled(&copies).map(|(count, most)| (count as f64 * 100.0 / copies.len() as f64, *most)).collect(),
        }
    }
}

/// Some of `sorted`, each with how many come up to it: the first, the last, and others at even distances.
fn sampled<T>(sorted: &[T]) -> impl Iterator<Item = (usize, &T)> {
    let step = sorted.len().div_ceil(POINTS).max(1);
    let last = sorted.len();
    sorted
        .iter()
        .enumerate()
        .map(|(nth, value)| (nth + 1, value))
        .filter(move |(count, _)| *count == 1 || *count == last || count % step == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_end_where_the_run_does_and_stay_short() {
        let site =
            SiteOutcome { done_at_ms: (0..5000).collect(), wan_by_second: vec![1_000_000; 500], wan_bytes: 2, ..SiteOutcome::default() };
        let curves = Curves::new(&[(0, site.clone()), (1, SiteOutcome { wan_bytes: 1, ..site })], 1);
        assert_eq!(curves.devices_done.last(), Some(&(4.999, 10_000.0)));
        assert!(curves.devices_done.len() <= POINTS + 3 && curves.seed_mbit.len() <= POINTS);
        assert!(curves.seed_mbit.iter().all(|(_, mbit)| (mbit - 16.0).abs() < 1e-9), "{:?}", curves.seed_mbit);
        assert_eq!(curves.wan_copies, [(50.0, 1.0), (100.0, 2.0)]);
    }
}
