//! What goes wrong in a run and when, and how everything is mended in the end.
//!
//! Not here: lost and late messages, which [`super::world`] draws one by one.

use super::agenda::Happening;
use super::draws::Draws;
use super::operator::Errand;
use super::world::{NOTICED_US, Verdict, World};

const SECOND: u64 = 1_000_000;

/// Something that goes wrong, or is mended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// A device loses its power.
    Crash {
        device: usize,
    },
    /// A device does nothing for a while, as a process that was stopped.
    Freeze {
        device: usize,
        micros: u64,
    },
    /// A site falls into two parts.
    Split {
        site: usize,
    },
    Join {
        site: usize,
    },
    CutWan {
        site: usize,
    },
    MendWan {
        site: usize,
    },
    /// Only so many bytes more fit on a device's disk; none: there is room again.
    Room {
        device: usize,
        bytes: Option<u64>,
    },
    /// A device's clock is wrong by so many seconds from now on.
    Clock {
        device: usize,
        ahead: i64,
    },
    /// A device sends a wrong unit though its disk is sound.
    Slip {
        device: usize,
    },
    /// A stored blob rots.
    Rot {
        device: usize,
    },
}

/// Draws a fault, of so many devices and sites, and after how long it is mended, if it is.
type Drawing = fn(&mut Draws, usize, usize) -> (Fault, Option<(u64, Fault)>);

impl World {
    /// Puts what goes wrong into the agenda.
    pub(super) fn plan_faults(&mut self) {
        let mut draws = Draws::new(self.plan.seed, 4);
        let kinds = self.plan.kinds;
        let planned: [(bool, Drawing); 8] = [
            (kinds.crashes, |draws, device, _| (Fault::Crash { device: draws.index(device) }, None)),
            (kinds.freezes, |draws, device, _| {
                let micros = draws.between(1, 30) * SECOND;
                (Fault::Freeze { device: draws.index(device), micros }, None)
            }),
            (kinds.partitions, |draws, _, sites| {
                let (site, after) = (draws.index(sites), draws.between(5, 120) * SECOND);
                (Fault::Split { site }, Some((after, Fault::Join { site })))
            }),
            (kinds.cuts, |draws, _, sites| {
                let (site, after) = (draws.index(sites), draws.between(5, 120) * SECOND);
                (Fault::CutWan { site }, Some((after, Fault::MendWan { site })))
            }),
            (kinds.full_disks, |draws, device, _| {
                let (device, after) = (draws.index(device), draws.between(5, 120) * SECOND);
                let bytes = Some(draws.below(3 << 20));
                (Fault::Room { device, bytes }, Some((after, Fault::Room { device, bytes: None })))
            }),
            (kinds.clock_jumps, |draws, device, _| {
                let ahead = draws.pick(&[-86_400, -3_600, -30, 25, 1_500, 7_200, 40_000_000]);
                let device = draws.index(device);
                let after = draws.between(5, 300) * SECOND;
                (Fault::Clock { device, ahead }, Some((after, Fault::Clock { device, ahead: 0 })))
            }),
            (kinds.slips, |draws, device, _| (Fault::Slip { device: draws.index(device) }, None)),
            (kinds.rot, |draws, device, _| (Fault::Rot { device: draws.index(device) }, None)),
        ];
        for (_, plan) in planned.iter().filter(|(wanted, _)| *wanted) {
            for _ in 0..draws.between(1, 5) {
                let at = draws.below(self.plan.heals_at);
                let (fault, mended) = plan(&mut draws, self.devices.len(), self.plan.sites);
                self.agenda.push(at, Happening::Fault(fault));
                if let Some((after, mended)) = mended {
                    self.agenda.push(at + after, Happening::Fault(mended));
                }
            }
        }
        if kinds.pauses {
            self.plan_pauses(&mut draws);
        }
    }

    /// The WAN of each site pauses now and then, never for as long as it takes a claim to lapse or a fetch to be given up.
    fn plan_pauses(&mut self, draws: &mut Draws) {
        for site in 0..self.plan.sites {
            let mut at = draws.below(10 * SECOND);
            for _ in 0..draws.between(2, 12) {
                let pause = draws.between(SECOND, 7 * SECOND);
                self.agenda.push(at, Happening::Fault(Fault::CutWan { site }));
                self.agenda.push(at + pause, Happening::Fault(Fault::MendWan { site }));
                at += pause + draws.between(2 * SECOND, 15 * SECOND);
            }
        }
    }

    /// Something goes wrong.
    pub(super) fn go_wrong(&mut self, fault: Fault) -> Verdict {
        if self.healed {
            return Ok(());
        }
        self.note(|| format!("{fault:?}"));
        match fault {
            Fault::Crash { device } => self.crash(device),
            Fault::Freeze { device, micros } => self.devices[device].frozen_until = self.now + micros,
            Fault::Split { site } => self.split(site),
            Fault::Join { site } => self.join(site),
            Fault::CutWan { site } => self.cut_wan(site),
            Fault::MendWan { site } => self.mend_wan(site),
            Fault::Room { device, bytes } => self.devices[device].disk.set_room(bytes),
            Fault::Clock { device, ahead } => self.devices[device].clock_ahead = ahead,
            Fault::Slip { device } => self.devices[device].slips += 1,
            Fault::Rot { device } => {
                let wholes: Vec<_> = self.devices[device].disk.wholes().copied().collect();
                if !wholes.is_empty() {
                    let blob = self.draws.pick(&wholes);
                    self.devices[device].disk.rot(blob);
                }
            }
        }
        Ok(())
    }

    fn crash(&mut self, device: usize) {
        if !self.devices[device].alive {
            return;
        }
        self.break_links_of(device);
        let lost = self.devices[device].disk.crash(&mut self.draws);
        self.checks.crashed(device, lost);
        self.devices[device].forget();
        let back = self.now + self.draws.between(SECOND / 10, 120 * SECOND);
        self.agenda.push(back, Happening::Started { device });
    }

    fn break_links_of(&mut self, device: usize) {
        for peer in (0..self.devices.len()).filter(|peer| *peer != device) {
            self.break_link(device, peer, NOTICED_US);
        }
    }

    fn split(&mut self, site: usize) {
        for device in 0..self.devices.len() {
            if self.devices[device].plan.site == site {
                self.lan.parts[device] = self.draws.below(2);
            }
        }
        for (one, other) in self.lan.standing() {
            if self.lan.parts[one] != self.lan.parts[other] {
                self.break_link(one, other, NOTICED_US);
            }
        }
    }

    fn join(&mut self, site: usize) {
        let members: Vec<usize> = (0..self.devices.len()).filter(|device| self.devices[*device].plan.site == site).collect();
        for device in &members {
            self.lan.parts[*device] = 0;
        }
        self.dial_all(&members);
    }

    fn dial_all(&mut self, members: &[usize]) {
        for (at, one) in members.iter().enumerate() {
            for other in &members[at + 1..] {
                self.dial_soon(*one, *other);
            }
        }
    }

    /// In a run whose seed goes, a site has lost it once a device has everything; that device then sends wrong units first.
    pub(super) fn lose_seed(&mut self, device: usize) {
        let site = self.devices[device].plan.site;
        if !self.plan.kinds.seed_gone || self.healed || self.wans[site].has_no_blobs || !self.complete_by_site().contains_key(&site) {
            return;
        }
        self.note(|| format!("site {site} has lost its seed, and only d{device} has everything"));
        self.wans[site].has_no_blobs = true;
        self.devices[device].slips += 1;
    }

    /// Faults end: everything is there again, but for seeds that are gone for good.
    pub(super) fn heal(&mut self) -> Verdict {
        self.note(|| "the faults end".to_owned());
        self.healed = true;
        for site in 0..self.plan.sites {
            self.mend_wan(site);
        }
        for device in 0..self.devices.len() {
            self.lan.parts[device] = 0;
            let known = &mut self.devices[device];
            known.disk.set_room(None);
            known.clock_ahead = 0;
            known.slips = 0;
            if !known.alive {
                let at = self.now + self.draws.below(10 * SECOND);
                self.agenda.push(at, Happening::Started { device });
            }
        }
        if self.plan.kinds.messages {
            // A real connection that loses a message is lost with it; those that stood through the losses begin anew.
            for (one, other) in self.lan.standing() {
                self.break_link(one, other, SECOND);
            }
        }
        let complete = self.complete_by_site();
        for site in 0..self.plan.sites {
            self.wans[site].has_no_blobs &= complete.contains_key(&site);
            let members: Vec<usize> = (0..self.devices.len()).filter(|device| self.devices[*device].plan.site == site).collect();
            self.dial_all(&members);
        }
        if self.restored {
            let now = self.wall();
            self.seed.raise_epoch(&self.library, now);
        }
        self.run_errand(Errand::Start { version: self.plan.newest() })
    }
}
