//! How a device finds peers: several sources at once, each of which proposes addresses; whether a proposed address is of
//! this site, [`protocol::site`] decides.
//!
//! | module | source |
//! |---|---|
//! | [`mdns`] | beacons on every LAN, IPv4 and IPv6 |
//! | [`fixed`] | the configured peers |
//! | [`hints`] | what the seed says of devices behind the same address or of the same configured site |
//!
//! Not here: dialling, see [`protocol::dialer`]; what peers say of each other, see `device::swarm`.

pub mod fixed;
pub mod hints;
pub mod mdns;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use protocol::site::Surroundings;
use tokio::sync::{mpsc, watch};

/// Proposals that may wait; a source that has one more waits itself.
const PROPOSALS_MAX: usize = 64;

/// Why an address is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The operator named it: it is of this site by definition.
    Configured,
    /// It was heard on a LAN.
    Heard,
    /// The seed knows of a device there that is behind the same address, or carries the same configured site.
    Hinted,
}

/// Addresses at which peers may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Why.
    pub reason: Reason,
    /// The addresses.
    pub addresses: Vec<SocketAddr>,
}

/// A way to find peers.
pub trait Source: Send {
    /// Proposes addresses until nobody takes proposals any more.
    fn run(self: Box<Self>, proposals: mpsc::Sender<Proposal>) -> BoxFuture<'static, ()>;
}

/// Runs the sources, and passes on what the site rule lets through. What it does not let through is kept, one proposal of
/// each kind, and judged again when the interfaces change.
pub async fn run(sources: Vec<Box<dyn Source>>, mut surroundings: watch::Receiver<Surroundings>, found: mpsc::Sender<Proposal>) {
    let (sender, mut proposals) = mpsc::channel(PROPOSALS_MAX);
    let mut running = tokio::task::JoinSet::new();
    for source in sources {
        running.spawn(source.run(sender.clone()));
    }
    drop(sender);
    let mut waiting: BTreeMap<Reason, Proposal> = BTreeMap::new();
    loop {
        let due: Vec<Proposal> = tokio::select! {
            proposal = proposals.recv() => match proposal {
                Some(proposal) => vec![proposal],
                None => return,
            },
            Ok(()) = surroundings.changed() => std::mem::take(&mut waiting).into_values().collect(),
        };
        for Proposal { reason, addresses } in due {
            let (near, far) = split(&surroundings.borrow_and_update(), reason, addresses);
            waiting.remove(&reason);
            if !far.is_empty() {
                tracing::debug!(?reason, ?far, "addresses of no device of this site are left alone");
                waiting.insert(reason, Proposal { reason, addresses: far });
            }
            if !near.is_empty() && found.send(Proposal { reason, addresses: near }).await.is_err() {
                return;
            }
        }
    }
}

/// The addresses of this site, and the others. The seed hints at a device that names a site only to those that name the same.
fn split(surroundings: &Surroundings, reason: Reason, addresses: Vec<SocketAddr>) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let site = surroundings.site.as_deref().filter(|_| reason == Reason::Hinted);
    addresses.into_iter().partition(|address| reason == Reason::Configured || surroundings.is_same_site(address.ip(), site))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::site::Interface;

    fn with_lan(address: &str, site: Option<&str>) -> Surroundings {
        let lan = Interface { addresses: vec![(address.parse().unwrap(), 24)], ..Interface::default() };
        Surroundings { interfaces: vec![lan], site: site.map(str::to_owned) }
    }

    async fn next(found: &mut mpsc::Receiver<Proposal>) -> Vec<String> {
        found.recv().await.unwrap().addresses.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_hint_is_judged_by_the_site_rule_and_again_when_a_cable_is_plugged_in() {
        let (hinter, source) = hints::source();
        let (change, surroundings) = watch::channel(with_lan("10.0.0.1", None));
        let (sender, mut found) = mpsc::channel(4);
        tokio::spawn(run(vec![Box::new(source)], surroundings, sender));
        hinter.hint(vec!["10.0.0.2:1".parse().unwrap(), "10.9.0.2:1".parse().unwrap()]);
        assert_eq!(next(&mut found).await, ["10.0.0.2:1"]);
        change.send_replace(with_lan("10.9.0.1", None));
        assert_eq!(next(&mut found).await, ["10.9.0.2:1"]);
    }

    #[test]
    fn a_configured_site_joins_what_the_seed_hints_at_but_not_what_is_heard() {
        let address = || vec!["10.9.0.2:1".parse().unwrap()];
        let roof = with_lan("10.0.0.1", Some("roof"));
        assert_eq!(split(&roof, Reason::Hinted, address()).0.len(), 1);
        assert_eq!(split(&roof, Reason::Heard, address()).0.len(), 0);
        assert_eq!(split(&with_lan("10.0.0.1", None), Reason::Hinted, address()).0.len(), 0);
        assert_eq!(split(&with_lan("10.0.0.1", None), Reason::Configured, address()).0.len(), 1);
    }
}
