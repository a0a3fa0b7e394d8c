//! What the machines want done: every effect is recorded, checked and carried out.
//!
//! Not here: how flows go on after they started; see [`super::transfers`].

use std::ops::Range;

use protocol::swarm::{AskId, Effect, Event, FetchEnd, FetchId, Source};
use protocol::wire::Message;

use super::{OpenFetch, Site};
use crate::node_ids::ShortId;
use crate::queue::Happening;
use crate::scenario::Role;

impl Site<'_> {
    /// Takes everything that a machine has to say.
    pub(super) fn carry_out(&mut self, device: u32) -> Result<(), String> {
        while let Some(effect) = self.devices[device as usize].machine.as_mut().and_then(protocol::swarm::Swarm::poll_effect) {
            let frame_bytes = self.decisions.record(self.now, device, &effect);
            self.outcome.message_bytes += frame_bytes;
            self.carry_out_one(device, effect)?;
        }
        while let Some(event) = self.devices[device as usize].machine.as_mut().and_then(protocol::swarm::Swarm::poll_event) {
            self.checker.told(device, &event)?;
            if let Event::BlobComplete { .. } = event {
                self.devices[device as usize].complete = true;
                self.outcome.done_at_ms.push(u32::try_from(self.now / 1000).unwrap_or(u32::MAX));
                self.outcome.complete += 1;
                self.incomplete -= 1;
            }
        }
        self.arm(device);
        Ok(())
    }

    fn carry_out_one(&mut self, device: u32, effect: Effect<ShortId>) -> Result<(), String> {
        match effect {
            Effect::Send { peer, message } => {
                self.outcome.messages += 1;
                let at = self.arrival(device, peer.index());
                self.queue.push(at, peer.index(), Happening::Received { from: device, message: Box::new(message) });
            }
            Effect::SendAll { peers, message } => {
                self.outcome.messages += peers.len() as u64;
                self.send_all(device, peers, message);
            }
            Effect::Fetch { fetch, source, blob: _, units } => self.fetch(device, fetch, source, units)?,
            Effect::Cancel { fetch } => self.cancel(device, fetch),
            Effect::VerifyBlob { .. } => {
                let at = self.now + self.scenario.rates.checking_us(self.geometry.size());
                self.queue.push(at, device, Happening::BlobVerified);
            }
            Effect::Recheck { .. } if self.devices[device as usize].role == Role::Liar => {}
            Effect::Recheck { .. } => return Err(format!("device {device} hashes its blob again, though it sent no wrong unit")),
            Effect::DiscardUnits { .. } => return Err(format!("device {device} throws its units away, though no list lies")),
            Effect::Serve { ask } => self.serve(device, ask)?,
            Effect::RefuseNotHeld { ask } => self.refuse(device, ask, FetchEnd::NotHeld),
            Effect::RefuseBusy { ask } => self.refuse(device, ask, FetchEnd::Busy),
            Effect::Disconnect { peer } => self.disconnect(device, peer.index()),
        }
        Ok(())
    }

    /// Sends a message to several peers; to those from whom the device is apart it comes later.
    fn send_all(&mut self, device: u32, mut peers: Vec<ShortId>, message: Message) {
        if self.now < self.apart_until {
            let others: Vec<ShortId> = peers.extract_if(.., |peer| self.are_apart(device, peer.index())).collect();
            let told = Box::new((others, message.clone()));
            self.queue.push(self.apart_until + self.scenario.lan_latency_us, device, Happening::ReceivedByAll { told });
        }
        let told = Box::new((peers, message));
        self.queue.push(self.now + self.scenario.lan_latency_us, device, Happening::ReceivedByAll { told });
    }

    fn fetch(&mut self, device: u32, fetch: FetchId, source: Source<ShortId>, units: Range<u32>) -> Result<(), String> {
        self.checker.fetch_asked(device, fetch, source, units.clone())?;
        let server = match source {
            Source::Wan => {
                let first_byte_at = self.now + self.first_byte_us(device, &units);
                self.queue.push(first_byte_at, device, Happening::WanReached { fetch });
                None
            }
            Source::Peer(peer) => {
                let (peer, at) = (peer.index(), self.arrival(device, peer.index()));
                self.queue.push(at, peer, Happening::Asked { by: device, fetch, units: units.clone() });
                Some(peer)
            }
        };
        self.devices[device as usize].fetches.insert(fetch, OpenFetch { server, units, ask: None, slot: None });
        Ok(())
    }

    /// How long a fetch over the WAN takes to begin: a round trip, and more on a connection that was idle.
    fn first_byte_us(&self, device: u32, units: &Range<u32>) -> u64 {
        let rtt_us = self.scenario.wan_rtt_ms * 1000;
        if self.devices[device as usize].warm_until >= self.now {
            return rtt_us;
        }
        let bytes = self.geometry.bytes_of(units.clone());
        rtt_us + self.scenario.rates.slow_start_us(bytes.end - bytes.start, rtt_us)
    }

    fn cancel(&mut self, device: u32, fetch: FetchId) {
        let Some(open) = self.close_fetch(device, fetch) else { return };
        self.stop_flow(&open);
        if let (Some(server), Some(ask)) = (open.server, open.ask) {
            self.queue.push(self.arrival(device, server), server, Happening::AskEnded { ask });
        }
    }

    fn serve(&mut self, device: u32, ask: AskId) -> Result<(), String> {
        let Some((asker, fetch, life)) = self.devices[device as usize].asks.get(&ask).copied() else { return Ok(()) };
        if life != self.devices[asker as usize].life {
            return Ok(());
        }
        let Some(units) = self.devices[asker as usize].fetches.get(&fetch).map(|open| open.units.clone()) else { return Ok(()) };
        match self.devices[device as usize].role {
            Role::Honest | Role::Late => self.checker.serving(device, ask, units)?,
            Role::Withholder => return Ok(()),
            Role::Liar => {}
        }
        self.queue.push(self.arrival(device, asker), asker, Happening::ServingReached { ask, fetch });
        Ok(())
    }

    fn refuse(&mut self, device: u32, ask: AskId, end: FetchEnd) {
        let Some((asker, fetch, life)) = self.devices[device as usize].asks.remove(&ask) else { return };
        if life != self.devices[asker as usize].life {
            return;
        }
        self.queue.push(self.arrival(device, asker), asker, Happening::FetchRefused { fetch, end });
    }

    /// Closes the connection of two devices, and with it every flow between them.
    fn disconnect(&mut self, device: u32, peer: u32) {
        for (one, other) in [(device, peer), (peer, device)] {
            self.stop_flows_between(one, other);
        }
        let (life, peers_life) = (self.devices[device as usize].life, self.devices[peer as usize].life);
        self.queue.push(self.now, device, Happening::PeerLeft { peer, life: peers_life });
        self.queue.push(self.now + self.scenario.lan_latency_us, peer, Happening::PeerLeft { peer: device, life });
    }
}
