//! A recording of a real node's swarm machine, replayed: the same machine is given what that one heard, at the same moments,
//! and must want byte for byte the same. It shows that what decides in the field is what decides here.
//!
//! Not here: what a recording is; see [`protocol::swarm::recording`]. Who makes one: `hedgerow device run --record`.

use std::io::{ErrorKind, Read};

use anyhow::{Context as _, bail, ensure};
use protocol::swarm::peer_view::OwnView;
use protocol::swarm::recording::{ENTRY_BYTES_MAX, Entry, MAGIC, Made, decode, encode};
use protocol::swarm::{Effect, Event, Swarm};
use protocol::time::Instant;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// What was replayed, and found to be the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Inputs of the machine.
    pub inputs: u64,
    /// Times that it was told that time has passed.
    pub timeouts: u64,
    /// What it wanted done.
    pub effects: u64,
    /// Its news.
    pub events: u64,
    /// From the machine's beginning to the last entry, in microseconds.
    pub micros: u64,
    /// SHA-256 over the effects and events.
    pub digest: String,
    /// Whether the recording ends in the middle of an entry, as that of a process that was killed does.
    pub cut: bool,
}

/// Replays a recording.
///
/// # Errors
/// When it is none, or the machine wants something else than the one that was recorded: with the entry.
pub fn replay(mut recording: impl Read) -> anyhow::Result<Replayed> {
    let mut magic = vec![0; MAGIC.len()];
    let is_one = recording.read_exact(&mut magic).is_ok() && magic == MAGIC;
    ensure!(is_one, "this is no recording of a swarm, or one of another version; `hedgerow device run --record FILE` makes one");
    let Some(Entry::Made(made)) = next(&mut recording)?.0 else { bail!("the recording ends before the machine began") };
    let mut replay = Replay::new(*made);
    for number in 2u64.. {
        let (entry, is_cut) = next(&mut recording).with_context(|| format!("entry {number}"))?;
        let Some(entry) = entry else {
            replay.done.cut = is_cut;
            break;
        };
        replay.step(entry).with_context(|| format!("entry {number}, {} µs", replay.done.micros))?;
    }
    Ok(replay.finish())
}

/// The next entry, and whether the recording ends within one.
fn next(recording: &mut impl Read) -> anyhow::Result<(Option<Entry>, bool)> {
    let mut length = [0; 4];
    match read_whole(recording, &mut length).context("the recording cannot be read")? {
        0 => return Ok((None, false)),
        4 => {}
        _ => return Ok((None, true)),
    }
    let length = u32::from_be_bytes(length) as usize;
    ensure!(length <= ENTRY_BYTES_MAX, "an entry of {length} bytes is longer than any");
    let mut body = vec![0; length];
    if read_whole(recording, &mut body).context("the recording cannot be read")? < length {
        return Ok((None, true));
    }
    Ok((Some(decode(&body)?), false))
}

/// Fills the buffer as far as there are bytes; how far.
fn read_whole(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

struct Replay {
    swarm: Swarm<OwnView>,
    began_at: Instant,
    hasher: Sha256,
    done: Replayed,
}

impl Replay {
    fn new(made: Made) -> Self {
        let Made { at, me, seed, parameters } = made;
        let swarm = Swarm::new(at, me, seed, parameters, OwnView::default());
        Self { swarm, began_at: at, hasher: Sha256::new(), done: Replayed::default() }
    }

    fn step(&mut self, entry: Entry) -> anyhow::Result<()> {
        match entry {
            Entry::Made(_) => bail!("a machine begins twice"),
            Entry::Heard { at, input } => {
                self.pass(at);
                self.done.inputs += 1;
                self.swarm.handle_input(at, input);
            }
            Entry::Woken { at } => {
                self.pass(at);
                self.done.timeouts += 1;
                self.swarm.handle_timeout(at);
            }
            Entry::Wanted(recorded) => {
                self.done.effects += 1;
                let replayed = self.swarm.poll_effect();
                self.compare(&effect(Some(&recorded)), &effect(replayed.as_ref()), &recorded, &replayed)?;
            }
            Entry::Told(recorded) => {
                self.done.events += 1;
                let replayed = self.swarm.poll_event();
                self.compare(&event(Some(&recorded)), &event(replayed.as_ref()), &recorded, &replayed)?;
            }
            Entry::Idle => {
                if let Some(more) = self.swarm.poll_effect() {
                    bail!("the recorded machine wanted nothing more, this one wants {more:?}");
                }
            }
        }
        Ok(())
    }

    fn pass(&mut self, now: Instant) {
        self.done.micros = u64::try_from(now.since(self.began_at).as_micros()).unwrap_or(u64::MAX);
    }

    fn compare<T: std::fmt::Debug>(&mut self, recorded: &[u8], replayed: &[u8], was: &T, is: &Option<T>) -> anyhow::Result<()> {
        ensure!(recorded == replayed, "recorded {was:?}, replayed {is:?}");
        self.hasher.update(recorded);
        Ok(())
    }

    fn finish(self) -> Replayed {
        Replayed { digest: hex::encode(self.hasher.finalize()), ..self.done }
    }
}

fn effect(effect: Option<&Effect>) -> Vec<u8> {
    encode(&effect.map_or(Entry::Idle, Entry::Wanted))
}

fn event(event: Option<&Event>) -> Vec<u8> {
    encode(&event.map_or(Entry::Idle, Entry::Told))
}

#[cfg(test)]
mod tests {
    use protocol::bits::Bits;
    use protocol::digest::Digest;
    use protocol::geometry::Geometry;
    use protocol::name::NodeId;
    use protocol::swarm::Input;
    use protocol::swarm::parameters::Parameters;
    use protocol::wire::{Message, PieceRange};

    use super::*;

    /// A device hears of a peer that holds all, and asks it; as a driver records it, with a change of what it wanted done.
    fn recording(change: fn(&mut Effect)) -> Vec<u8> {
        let (peer, blob, geometry) = (NodeId([2; 32]), Digest::sha256(b"blob"), Geometry::listed(1 << 20));
        let made = Made { at: Instant::from_micros(5), me: NodeId([1; 32]), seed: 7, parameters: Parameters::default() };
        let mut machine = Swarm::new(made.at, made.me, made.seed, made.parameters.clone(), OwnView::default());
        let mut bytes = MAGIC.to_vec();
        bytes.extend(encode(&Entry::Made(Box::new(made))));
        let holding = Message::Holding { blob, wanted: false, pieces: vec![PieceRange { start: 0, end: 16 }] };
        let mut held = Bits::new(geometry.units());
        held.insert_range(3..5);
        let inputs = [Input::PeerJoined { peer }, Input::Wanted { blob, geometry, held }, Input::Received { peer, message: holding }];
        for (n, input) in (0..).zip(inputs) {
            let at = Instant::from_micros(10 * n + 10_000_000);
            bytes.extend(encode(&Entry::Heard { at, input: &input }));
            machine.handle_input(at, input);
            while let Some(mut effect) = machine.poll_effect() {
                change(&mut effect);
                bytes.extend(encode(&Entry::Wanted(&effect)));
            }
            bytes.extend(encode(&Entry::Idle));
        }
        bytes
    }

    #[test]
    fn a_recording_gives_the_same_effects_again_also_when_its_end_is_missing() {
        let bytes = recording(|_| {});
        let replayed = replay(bytes.as_slice()).unwrap();
        assert_eq!((replayed.inputs, replayed.cut), (3, false));
        assert!(replayed.effects >= 3, "it asks for what the peer holds: {replayed:?}");
        let cut = replay(&bytes[..bytes.len() - 3]).unwrap();
        assert!(cut.cut && cut.effects == replayed.effects);
    }

    #[test]
    fn another_decision_than_the_recorded_one_is_seen_with_its_place() {
        let shorten = |effect: &mut Effect| {
            if let Effect::Fetch { units, .. } = effect {
                units.end -= 1;
            }
        };
        let bytes = recording(shorten);
        let error = format!("{:#}", replay(bytes.as_slice()).unwrap_err());
        assert!(error.contains("entry ") && error.contains("recorded Fetch") && error.contains("replayed"), "{error}");
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        for (bytes, reason) in [(b"".to_vec(), "no recording"), (b"hedgerow swarm recording 2\n".to_vec(), "another version")] {
            let error = format!("{:#}", replay(bytes.as_slice()).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
        let long = [MAGIC, &[255; 8]].concat();
        assert!(format!("{:#}", replay(long.as_slice()).unwrap_err()).contains("longer than any"));
        let wrong = [MAGIC, &[0, 0, 0, 1, 99]].concat();
        assert!(replay(wrong.as_slice()).is_err());
    }
}
