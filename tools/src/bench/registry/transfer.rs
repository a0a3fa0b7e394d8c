//! Pushes and pulls of one large blob. What is pulled is in the kernel's memory.
//!
//! Not here: memory under load; see `large`.

use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;

use super::{Lab, REPOSITORY, Servers, progress};
use crate::bench::figures::{Comparison, Goal, HEDGEROW, Runs, Verdict};
use crate::bench::load::{self, Way};

/// Chunks of the size that clients send by default.
pub(super) const CHUNKS: Way = Way::Chunks(16 << 20);

/// Pulls at the same time.
pub(super) const PARALLEL: usize = 32;

/// When the disk alone takes this share of the other registry's time, a push tells of the disk.
const DISK_SHARE_MAX: f64 = 0.4;

const DISTRIBUTION: &str = "distribution";
const NGINX: &str = "nginx";

fn ours_to_theirs(ours: f64, theirs: f64) -> f64 {
    ours / theirs
}

fn theirs_to_ours(ours: f64, theirs: f64) -> f64 {
    theirs / ours
}

/// Pushes one blob, with a write and fsync of the same bytes beside it.
pub(super) fn push(lab: &mut Lab, servers: &Servers, case: &str, way: Way) -> Result<()> {
    let (mut seconds, mut cpu) = (Runs::default(), Runs::default());
    for run in 0..lab.runs {
        for server in servers.registries() {
            let before = server.process.cpu_seconds()?;
            seconds.add(server.name, load::block_on(load::push(&server.endpoint, REPOSITORY, &lab.content, way, 1))?);
            cpu.add(server.name, server.process.cpu_seconds()? - before);
        }
        seconds.add("disk", write_and_sync(lab)?);
        progress(&format!("{case} {} of {}", run + 1, lab.runs));
    }
    let mut compared = seconds.compare(case, "s", DISTRIBUTION, ours_to_theirs, Goal::AtMost(0.6));
    let disk = seconds.compare(&format!("{case}, disk alone"), "s", "disk", ours_to_theirs, Goal::None);
    let share = seconds.median("disk") / seconds.median(DISTRIBUTION);
    if share > DISK_SHARE_MAX {
        compared.verdict = Verdict::Void;
        progress(&format!("{case} is void: the disk alone takes {:.0} % of distribution's time", share * 100.0));
    }
    lab.results.extend([compared, disk, cpu.compare(&format!("{case}, processor"), "cpu s", DISTRIBUTION, ours_to_theirs, Goal::None)]);
    lab.keep(case, &seconds);
    lab.keep(&format!("{case}, processor"), &cpu);
    Ok(())
}

/// What `dd conv=fsync` does.
fn write_and_sync(lab: &Lab) -> Result<f64> {
    let path = lab.dir.path().join("disk");
    let started = Instant::now();
    lab.content.write_to(&path)?;
    let mut file = std::fs::File::options().append(true).open(&path)?;
    file.flush()?;
    file.sync_all()?;
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(seconds)
}

/// One pull at a time.
pub(super) fn pull_one(lab: &mut Lab, servers: &Servers) -> Result<()> {
    let seconds = pulls(lab, servers, "pull-1", 1)?;
    let compared = [
        seconds.compare("pull-1", "s", DISTRIBUTION, theirs_to_ours, Goal::AtLeast(1.0)),
        seconds.compare("pull-1", "s", NGINX, theirs_to_ours, Goal::None),
    ];
    lab.results.extend(compared);
    Ok(())
}

/// Many pulls at the same time.
pub(super) fn pull_many(lab: &mut Lab, servers: &Servers, case: &str) -> Result<()> {
    let seconds = pulls(lab, servers, case, PARALLEL)?;
    let compared = [
        seconds.compare(case, "s", DISTRIBUTION, theirs_to_ours, Goal::AtLeast(1.5)),
        seconds.compare(case, "s", NGINX, theirs_to_ours, Goal::AtLeast(1.0)),
    ];
    lab.results.extend(compared);
    Ok(())
}

fn pulls(lab: &mut Lab, servers: &Servers, case: &str, parallel: usize) -> Result<Runs> {
    let (mut seconds, mut cpu) = (Runs::default(), Runs::default());
    for run in 0..lab.runs {
        for server in servers.all() {
            let path = servers.blob_path(server, lab);
            let before = server.process.cpu_seconds()?;
            seconds.add(server.name, load::block_on(load::pull(&server.endpoint, &path, lab.content.bytes, parallel))?);
            cpu.add(server.name, server.process.cpu_seconds()? - before);
        }
        progress(&format!("{case} {} of {}: hedgerow {:.2} s", run + 1, lab.runs, seconds.median(HEDGEROW)));
    }
    let processor = format!("{case}, processor");
    let told: [Comparison; 2] = [DISTRIBUTION, NGINX].map(|other| cpu.compare(&processor, "cpu s", other, theirs_to_ours, Goal::None));
    lab.results.extend(told);
    lab.keep(case, &seconds);
    lab.keep(&processor, &cpu);
    Ok(seconds)
}
