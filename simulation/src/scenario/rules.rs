//! Rules of the swarm that a run may change, to see what they are worth.
//!
//! Not here: what they mean; see [`protocol::swarm::parameters`].

use std::time::Duration;

use clap::Args;
use protocol::swarm::parameters::Parameters;
use serde::Deserialize;

macro_rules! rules {
    (counts { $($count:ident: $type:ty = $count_flag:literal,)* } times { $($time:ident => $field:ident = $time_flag:literal,)* }) => {
        /// Parameters of the swarm that differ from those of a node; the names are theirs, times in milliseconds.
        #[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[command(next_help_heading = "Rules of the swarm")]
        pub struct Rules {
            $(#[doc = concat!("Changes `", stringify!($count), "`")] #[arg(long, value_name = "N")] pub $count: Option<$type>,)*
            $(#[doc = concat!("Changes `", stringify!($field), "`")] #[arg(long, value_name = "MS")] pub $time: Option<u32>,)*
        }

        impl Rules {
            /// These rules, and those of `others` where nothing was chosen.
            #[must_use]
            pub fn or(self, others: Self) -> Self {
                Self { $($count: self.$count.or(others.$count),)* $($time: self.$time.or(others.$time),)* }
            }

            /// `parameters` with these rules.
            pub(crate) fn applied(&self, mut parameters: Parameters) -> Parameters {
                $(if let Some(count) = self.$count { parameters.$count = count; })*
                $(if let Some(millis) = self.$time { parameters.$field = Duration::from_millis(u64::from(millis)); })*
                parameters
            }

            /// The flags that choose these rules.
            pub(crate) fn flags(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
                let counts = [$(($count_flag, self.$count.map(|count| count.to_string())),)*];
                let times = [$(($time_flag, self.$time.map(|millis| millis.to_string())),)*];
                counts.into_iter().chain(times).filter_map(|(flag, number)| Some((flag, number?)))
            }
        }
    };
}

rules! {
    counts {
        window_spans: usize = "window-spans",
        window_spans_min: usize = "window-spans-min",
        claims_max: usize = "claims-max",
        pulls_max: usize = "pulls-max",
        pull_bytes_max: u64 = "pull-bytes-max",
        backlog_max: u64 = "backlog-max",
        uploads_max: usize = "uploads-max",
        queue_per_peer_max: usize = "queue-per-peer-max",
        unfulfilled_max: u32 = "unfulfilled-max",
    }
    times {
        hold_off_ms => hold_off = "hold-off-ms",
        answer_wait_ms => answer_wait = "answer-wait-ms",
        claim_wait_ms => claim_wait = "claim-wait-ms",
        rank_step_ms => rank_step = "rank-step-ms",
        claim_stall_ms => claim_stall = "claim-stall-ms",
        claim_stall_told_ms => claim_stall_told = "claim-stall-told-ms",
        claim_lapse_ms => claim_lapse = "claim-lapse-ms",
        wan_restart_ms => wan_restart = "wan-restart-ms",
        have_delay_ms => have_delay = "have-delay-ms",
        have_delay_per_peer_ms => have_delay_per_peer = "have-delay-per-peer-ms",
        repair_wait_ms => repair_wait = "repair-wait-ms",
        pull_stall_ms => pull_stall = "pull-stall-ms",
        busy_wait_ms => busy_wait = "busy-wait-ms",
    }
}
