//! Hedgerow: seed, device and operator's commands. Decisions are in `protocol`; here they are carried out.
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | one file a subcommand |
//! | [`config`] | settings: flag, environment, file, default |
//! | [`seed`], [`device`] | the two roles |
//! | [`demo`] | both roles on one machine, for a first look |
//! | [`publish`] | from a pushed tag to a signed version |
//! | [`trust`] | keys, and the organisations' TUF repositories |
//! | [`transport`] | certificates, TLS, QUIC, metered sockets |
//! | [`store`] | blobs, journal, index |
//! | [`api`] | bodies of the control API |
//! | [`listener`] | HTTP servers |
//! | [`control`] | what commands on the same machine ask of a running node |
//! | [`clock`], [`files`], [`descriptors`], [`telemetry`] | the system's clocks, small durable files, open files, logs and signals |

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod descriptors;
pub mod device;
pub mod files;
pub mod gzip;
pub mod listener;
pub mod publish;
pub mod seed;
pub mod store;
pub mod telemetry;
pub mod transport;
pub mod trust;
