//! What a correct Hedgerow node decides.
//!
//! | module | decides |
//! |---|---|
//! | [`digest`], [`geometry`], [`hash_list`] | how bytes are named, cut into units and pieces, and proven |
//! | [`verify`] | the proofs that store and machines take: only checked bytes get one |
//! | [`statement`], [`envelope`] | which signed documents are accepted, and why others are refused |
//! | [`wire`] | what peers say to each other, byte by byte, and every limit on it |
//! | [`site`] | which devices are of one site |
//! | [`beacon`] | how devices of a LAN notice each other |
//! | [`gossip`] | what devices of a site tell each other of signed documents |
//! | [`dialer`] | which addresses are dialled, and when again |
//! | [`swarm`] | who fetches which bytes from whom |
//! | [`identity`] | how long a device's certificate counts, and who may get one |
//! | [`agent`] | what a device does with what its seed tells it |
//! | [`garbage`] | what a repository holds that nothing needs any more |
//! | [`repository`] | which settings of repositories hold where several match |
//! | [`rate_limit`], [`fair_places`], [`upload_places`] | who of a seed's clients has to wait |
//! | [`label`], [`selector`], [`group`] | which devices belong to which group |
//! | [`rollout`] | which devices may start a version when, how their reports add up, and when that is enough |
//! | [`sorted_map`] | nothing: it keeps machines small |
//! | [`device_key`] | whether a device's key signed something |
//! | [`cosign`] | whether a signature of an image is one that a policy asks for |
//! | [`webhook`] | what becomes of an event that a receiver was offered |
//! | [`oci`] | what the requests of container tools name and ask for |
//!
//! Every machine is driven the same way: `handle_input(now, Input)` and `handle_timeout(now)` go in; then the driver takes
//! `poll_effect()` until it is empty (an effect *must* be carried out; one that can fail comes back as an input), then
//! `poll_event()` (news for the owner), then arms a timer for `poll_timeout()`.
//!
//! Not here: clocks, files, sockets, random sources, the environment, async runtimes. `cargo tools layering` fails a
//! build that brings one in.

pub mod agent;
pub mod beacon;
pub mod bits;
pub mod byte_size;
pub mod cosign;
pub mod device_key;
pub mod dialer;
pub mod digest;
pub mod envelope;
pub mod fair_places;
pub mod garbage;
pub mod geometry;
pub mod gossip;
pub mod group;
pub mod hash_list;
pub mod identity;
pub mod label;
pub mod name;
pub mod oci;
pub mod rate_limit;
pub mod rendezvous;
pub mod repository;
pub mod rollout;
pub mod selector;
pub mod site;
pub mod sorted_map;
pub mod span;
pub mod statement;
pub mod swarm;
pub mod time;
pub mod upload_places;
pub mod verify;
pub mod webhook;
pub mod wire;
