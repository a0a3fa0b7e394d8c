//! Open files and sockets of the process: as many as the system lets it have.
//!
//! Programs begin with a soft limit of 1024, which `select` once needed, and may raise it up to the hard one. Nothing here uses
//! `select`.
//!
//! Not here: who gets them; see [`crate::listener`] and [`crate::config::limits`].

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised; raise the soft limit (`ulimit -n`)");
    }
}

/// How many of `wanted` connections one listener may have open: at most a quarter of the limit, because a seed has two
/// listeners, and half is for files and for what it connects to itself.
pub fn connections(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    share(wanted, limit)
}

fn share(wanted: u32, limit: u64) -> u32 {
    u32::try_from(limit / 4).unwrap_or(u32::MAX).clamp(1, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_leaves_descriptors_to_files() {
        assert_eq!([8, 1024, 16_384, u64::MAX].map(|limit| share(4096, limit)), [2, 256, 4096, 4096]);
        assert_eq!(share(4096, 0), 1);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
