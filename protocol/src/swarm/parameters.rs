//! The numbers of the swarm, in one place, each with its reason.
//!
//! Not here: limits of the wire; see [`crate::wire::limits`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a node behaves in a swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// How many incomplete spans, from the front, are fetched over the WAN at a time. Eight keep a 100 Mbit/s link busy at
    /// 300 ms RTT, and leave the order sequential enough that peers find what they miss.
    pub window_spans: usize,
    /// The same on a WAN that brings less than so many spans in [`Self::span_time`]: one arrives, one is asked for, and one is
    /// between owners.
    pub window_spans_min: usize,
    /// In about this time a span arrives: where it takes longer, too many connections share the WAN.
    pub span_time: Duration,
    /// The largest window: 32 MiB in flight fill a gigabit at 125 ms, and bound what requests in flight cost.
    pub window_spans_max: usize,
    /// The window is opened or closed this often: a round trip to a far seed, and some.
    pub window_interval: Duration,
    /// Spans that one node claims at a time, more if the site's nodes are too few to fill the window: the next is claimed while the one before still arrives.
    pub claims_max: usize,
    /// A node that misses more bytes than this of what its site holds, and more than [`Self::pulls_max`] pieces, claims nothing:
    /// with less the WAN falls idle where it is as fast as the LAN, with more it runs ahead of a slower one and the last spans
    /// are all over the site (50 devices, WAN twice the LAN: 1.18 of the bound, 1.37 with twice as much).
    pub backlog_max: u64,
    /// Claims of one peer that are believed at a time: an honest one has [`Self::claims_max`], and some that it has just
    /// released.
    pub foreign_claims_max: usize,
    /// Missing pieces that are looked at, from a random one on, to find one with a holder that is not busy.
    pub candidates_max: usize,
    /// Requests to peers in flight at a time: with eight a device waits for busy parents while others idle (15 devices, WAN = LAN:
    /// 1.25 of the bound, 1.10 with sixteen).
    pub pulls_max: usize,
    /// Most bytes of one request to a peer: small enough that a piece has many sources soon.
    pub pull_bytes_max: u64,
    /// No WAN fetch before this long after joining the site, so that peers that start together find each other first.
    pub hold_off: Duration,
    /// How long peers may take to say what they hold of a newly wanted blob, before the WAN is used without their answer.
    pub answer_wait: Duration,
    /// Between a claim and the fetch: more than the LAN's round trip, so that a better claim can arrive.
    pub claim_wait: Duration,
    /// A span that nobody claims falls to the next in line after this long: a few round trips of a busy LAN.
    pub rank_step: Duration,
    /// A claim without progress, of which its owner says nothing either, is taken over after this long, while other claims
    /// progress: the owner is gone.
    pub claim_stall: Duration,
    /// A claim without progress whose owner still speaks of it is taken over after this long, while other claims progress. On a
    /// full link a connection that lost packets waits for its retransmission timeout, which doubles each time (RFC 6298 §5.5);
    /// what two nodes then fetch at the same time fills the link yet more (15 devices at 8 Mbit/s fetched nearly three copies
    /// when such claims were taken over as soon as those of nodes that are gone).
    pub claim_stall_told: Duration,
    /// A fetch over the WAN that stands still for this long while others go on is made anew, by its owner, on another
    /// connection: a connection that lost packets on a full link waits ever longer before it sends again, and less of this wait
    /// than a takeover takes. Each further time it is given twice as long.
    pub wan_restart: Duration,
    /// When no claim progressed for this long, the WAN was slow or cut, and stalls are counted from its return.
    pub wan_pause: Duration,
    /// A claim without progress for this long is taken over even if nothing else progresses.
    pub claim_lapse: Duration,
    /// A claim that brought less than this many bytes a second since it was made, once [`Self::claim_lapse`] is over, is taken
    /// over: else a node that says of a span a byte now and then keeps it from its site for ever. Sixteen claims at this rate
    /// are a quarter of a megabit a second, so that no site whose WAN is of any use is that slow.
    pub claim_rate_min: u64,
    /// How long a node whose claim was taken over is not asked to own spans, unless it brings something sooner: it goes on to
    /// claim, and as long as the others do not listen each of its spans is fetched twice.
    pub demotion: Duration,
    /// Progress is told, and stalls are looked for, this often.
    pub tick: Duration,
    /// New pieces are gathered at least this long before they are announced to all: one message for many, well under a unit's
    /// time on a slow WAN. A span that came whole over the WAN is announced at once; this node's children in the trees are told
    /// each piece at once.
    pub have_delay: Duration,
    /// For each peer, pieces are gathered this much longer, so that a node hears at most fifty announcements a second, whatever
    /// the size of its site. Nobody waits for them: they are for repair, which waits longer.
    pub have_delay_per_peer: Duration,
    /// The longest that pieces are gathered; well below [`Self::repair_wait`].
    pub have_delay_max: Duration,
    /// A piece that the site holds and that did not come from this node's parent for this long is pulled from any holder.
    pub repair_wait: Duration,
    /// A request to a peer that brought bytes, but none for this long, is given up.
    pub pull_stall: Duration,
    /// A request is given up after this long if the peer delivered nothing at all since: it withholds, or is gone.
    pub first_byte_wait: Duration,
    /// A request to a peer that delivers, but brought nothing for this long, is given up: until then it may wait in the peer's
    /// queue.
    pub queue_wait: Duration,
    /// A fetch over the WAN without progress for this long is given up.
    pub wan_stall: Duration,
    /// A request to a peer that brings less than this many bytes a second, once twice [`Self::queue_wait`] is over, is given
    /// up: an eighth of what the slowest link of the field is for one of eight readers.
    pub pull_rate_min: u64,
    /// After this many requests for a blob that a peer did not fulfil, or of any blob that it left unanswered since it last
    /// delivered, its word does not keep the WAN waiting.
    pub unfulfilled_max: u32,
    /// A peer that is doubted for that is tried again after this long; each further time the pause doubles. A switch that
    /// restarts takes longer than the first, an idle connection lasts about as long as the next ones together.
    pub probe_min: Duration,
    /// The longest such pause.
    pub probe_max: Duration,
    /// How long a peer that answered `Busy` is left alone.
    pub busy_wait: Duration,
    /// First pause after a failed WAN fetch; it doubles up to [`Self::wan_retry_max`].
    pub wan_retry_min: Duration,
    /// Longest pause after a failed WAN fetch, and the pause for a blob that the seed does not have.
    pub wan_retry_max: Duration,
    /// Pause of a blob after this node's own disk failed.
    pub storage_retry: Duration,
    /// A stored blob is hashed again at most this often on the word of peers: hashing it is much work for a short message.
    pub recheck_interval: Duration,
    /// First ban of a peer that sent a wrong unit; it doubles with every further one.
    pub ban: Duration,
    /// After this many wrong units from the seed, the hash list is taken to lie.
    pub seed_refusals_max: u32,
    /// Requests served at a time, over all peers.
    pub uploads_max: usize,
    /// Requests of one peer that wait to be served; a further one is answered `Busy`. When all places are taken and as many
    /// requests wait, a peer may have one waiting.
    pub queue_per_peer_max: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            window_spans: 8,
            window_spans_min: 3,
            span_time: Duration::from_secs(1),
            window_spans_max: 64,
            window_interval: Duration::from_millis(500),
            claims_max: 2,
            backlog_max: 4 << 20,
            foreign_claims_max: 6,
            candidates_max: 16,
            pulls_max: 16,
            pull_bytes_max: 256 << 10,
            hold_off: Duration::from_secs(2),
            answer_wait: Duration::from_millis(500),
            claim_wait: Duration::from_millis(10),
            rank_step: Duration::from_millis(100),
            claim_stall: Duration::from_millis(1500),
            claim_stall_told: Duration::from_secs(5),
            wan_restart: Duration::from_secs(2),
            wan_pause: Duration::from_secs(1),
            claim_lapse: Duration::from_secs(10),
            claim_rate_min: 2 << 10,
            demotion: Duration::from_secs(60),
            tick: Duration::from_millis(250),
            have_delay: Duration::from_millis(50),
            have_delay_per_peer: Duration::from_millis(20),
            have_delay_max: Duration::from_secs(1),
            repair_wait: Duration::from_millis(1500),
            pull_stall: Duration::from_secs(2),
            first_byte_wait: Duration::from_secs(3),
            queue_wait: Duration::from_secs(10),
            wan_stall: Duration::from_secs(10),
            pull_rate_min: 4 << 10,
            unfulfilled_max: 3,
            probe_min: Duration::from_secs(2),
            probe_max: Duration::from_secs(60),
            busy_wait: Duration::from_millis(50),
            wan_retry_min: Duration::from_millis(250),
            wan_retry_max: Duration::from_secs(10),
            storage_retry: Duration::from_secs(5),
            recheck_interval: Duration::from_secs(600),
            ban: Duration::from_secs(3600),
            seed_refusals_max: 3,
            uploads_max: 8,
            queue_per_peer_max: 16,
        }
    }
}
