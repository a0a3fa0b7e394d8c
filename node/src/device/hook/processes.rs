//! The processes of a start: a process group that is ended as a whole, and what an earlier run of the device left behind
//! because it was killed itself.
//!
//! Not here: the command; see [`super`].

use std::fs;
use std::path::Path;

use protocol::name::AppName;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::process::Child;

/// What is started while others are ended is found in the next round; who starts faster than this is let be.
const ROUNDS_MAX: usize = 20;

/// The process group of a start. All that is in it is ended with it, unless it is let go.
pub(super) struct Group(Option<Pid>);

impl Group {
    /// The group that `leader` leads.
    pub(super) fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// What still runs goes on.
    pub(super) fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0
            && let Err(error) = kill_process_group(leader, Signal::KILL)
            && error != Errno::SRCH
        {
            tracing::warn!(%error, "what the activate hook started cannot be ended");
        }
    }
}

/// Ends the processes of an earlier start of `version` of `app` by a device with this folder of blobs, wherever they went: they
/// have its environment. Says how many there were.
pub(super) fn end_leftovers(blobs: &Path, app: &AppName, version: u64) -> usize {
    let owner = [b"HEDGEROW_BLOBS=", blobs.as_os_str().as_encoded_bytes()].concat();
    let marks = [owner, format!("HEDGEROW_APP={app}").into_bytes(), format!("HEDGEROW_VERSION={version}").into_bytes()];
    let mut ended = 0;
    for _ in 0..ROUNDS_MAX {
        let found = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let round = found.filter_map(Pid::from_raw).filter(|process| end_if_marked(*process, &marks)).count();
        if round == 0 {
            break;
        }
        ended += round;
    }
    ended
}

/// The process is held by its descriptor while it is looked at, so that no other one that got its number is ended.
fn end_if_marked(process: Pid, marks: &[Vec<u8>]) -> bool {
    let Ok(held) = pidfd_open(process, PidfdFlags::empty()) else { return false };
    let Ok(environment) = fs::read(format!("/proc/{}/environ", process.as_raw_nonzero())) else { return false };
    let has = |mark: &Vec<u8>| environment.split(|byte| *byte == 0).any(|variable| variable == mark);
    marks.iter().all(has) && pidfd_send_signal(held, Signal::KILL).is_ok()
}
