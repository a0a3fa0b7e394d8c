//! The swarm machine, and a recording of its life if the device was told to keep one: a file that `hedgerow-sim replay` reads.
//!
//! It is written as the machine is driven, in the driver's own time, so a slow disk slows the swarm down: it is for looking
//! into a fault, not for every day. When the file is as large as it may be, or cannot be written, the recording ends there and
//! the device goes on.
//!
//! Not here: what stands in it; see [`protocol::swarm::recording`].

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Deref;
use std::path::Path;

use protocol::name::NodeId;
use protocol::swarm::parameters::Parameters;
use protocol::swarm::peer_view::OwnView;
use protocol::swarm::recording::{Entry, MAGIC, Made, encode};
use protocol::swarm::{Effect, Event, Input, Swarm};
use protocol::time::Instant;

/// The longest recording: about a million inputs, those of some gigabytes of blobs.
const RECORDING_BYTES_MAX: u64 = 64 << 20;

type Step<'a> = Entry<&'a Input, &'a Effect, &'a Event>;

/// An open recording.
#[derive(Debug)]
pub struct Recording {
    file: BufWriter<File>,
    left: u64,
}

impl Recording {
    /// Begins a recording in a new file. If that cannot be made, or is there from an earlier run, which may be the one to look
    /// into, the log says so and nothing is recorded: a device starts all the same.
    pub fn begin(path: &Path) -> Option<Self> {
        let attempt = || {
            let mut file = BufWriter::new(File::create_new(path)?);
            file.write_all(MAGIC)?;
            Ok::<_, io::Error>(file)
        };
        match attempt() {
            Ok(file) => Some(Self { file, left: RECORDING_BYTES_MAX }),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "nothing is recorded; name a file that does not exist yet");
                None
            }
        }
    }

    /// Writes a step; false if the recording ends before it.
    fn write(&mut self, step: &Step<'_>) -> io::Result<bool> {
        let bytes = encode(step);
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.file.flush()?;
            return Ok(false);
        };
        self.left = left;
        self.file.write_all(&bytes)?;
        Ok(true)
    }
}

/// The machine.
pub(super) struct Recorded {
    swarm: Swarm<OwnView>,
    recording: Option<Recording>,
}

impl Recorded {
    /// The machine of node `me`.
    pub(super) fn new(now: Instant, me: NodeId, seed: u64, recording: Option<Recording>) -> Self {
        let parameters = Parameters::default();
        let swarm = Swarm::new(now, me, seed, parameters.clone(), OwnView::default());
        let mut recorded = Self { swarm, recording };
        recorded.note(&Entry::Made(Box::new(Made { at: now, me, seed, parameters })));
        recorded
    }

    pub(super) fn handle_input(&mut self, now: Instant, input: Input) {
        self.note(&Entry::Heard { at: now, input: &input });
        self.swarm.handle_input(now, input);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.note(&Entry::Woken { at: now });
        self.swarm.handle_timeout(now);
    }

    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.swarm.poll_effect();
        self.note(&effect.as_ref().map_or(Entry::Idle, Entry::Wanted));
        effect
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let event = self.swarm.poll_event();
        if let Some(event) = &event {
            self.note(&Entry::Told(event));
        }
        event
    }

    fn note(&mut self, step: &Step<'_>) {
        let Some(recording) = &mut self.recording else { return };
        match recording.write(step) {
            Ok(true) => return,
            Ok(false) => tracing::warn!(bytes = RECORDING_BYTES_MAX, "the recording of the swarm is as long as it may be, and ends"),
            Err(error) => tracing::error!(%error, "the recording of the swarm cannot be written, and ends"),
        }
        self.recording = None;
    }
}

impl Deref for Recorded {
    type Target = Swarm<OwnView>;

    fn deref(&self) -> &Self::Target {
        &self.swarm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_ends_before_it_is_too_long_and_the_machine_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swarm.recording");
        let mut recording = Recording::begin(&path).unwrap();
        recording.left = 600;
        let mut machine = Recorded::new(Instant::ZERO, NodeId([1; 32]), 1, Some(recording));
        for n in 0..100 {
            machine.handle_input(Instant::from_micros(n), Input::PeerJoined { peer: NodeId([2; 32]) });
        }
        assert!(machine.recording.is_none());
        assert_eq!(machine.peers().count(), 1);
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length > 500 && length <= 600 + MAGIC.len() as u64, "{length}");
        assert!(Recording::begin(&path).is_none(), "an earlier one is kept");
    }
}
