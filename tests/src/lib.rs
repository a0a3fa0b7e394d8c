//! The product from outside: what tests need to start real seeds and devices, to talk to them, and to see what happened.
//!
//! | module | holds |
//! |---|---|
//! | [`program`] | where the binaries under test are, and which other tools are there |
//! | [`process`] | processes: started, waited for, stopped, never left behind |
//! | [`calendar`] | processes that believe that it is another day |
//! | [`taken`] | a seed's data directory in the wrong hands |
//! | [`wait`] | waiting for something to become true, with a deadline |
//! | [`log`] | the events in a process's log |
//! | [`disk`] | a disk that is small, to be filled |
//! | [`http`] | HTTP/1.1, plain or over TLS, and metrics |
//! | [`registry`] | a registry as clients see it: requests, and what must hold of every answer |
//! | [`token`] | tokens for the registry, as clients get them |
//! | [`wire`] | what goes over a connection to a server |
//! | [`image`] | images made for tests, as OCI layouts |
//! | [`receiver`] | a receiver of webhooks |
//! | [`seed`] | a seed, and its operator's commands |
//! | [`device`] | a device |
//! | [`lan`] | a LAN in network namespaces |
//! | [`nat`] | two LANs with the same addresses behind one public address |
//! | [`client`] | container tools that are not ours |
//!
//! It knows the product by its contracts only: commands, JSON, HTTP, files named in the documentation. What fails here
//! panics, because it is called by tests; a process whose test panics shows the end of its log.
//!
//! Not here: the tests; see `tests/acceptance`.

pub mod calendar;
pub mod client;
pub mod device;
pub mod disk;
pub mod http;
pub mod image;
pub mod lan;
pub mod log;
pub mod nat;
pub mod process;
pub mod program;
pub mod receiver;
pub mod registry;
pub mod seed;
pub mod taken;
pub mod token;
pub mod wait;
pub mod wire;
