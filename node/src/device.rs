//! A device: it asks its seed what to have, fetches it with its peers, and hands it to the local engine.
//!
//! | module | holds |
//! |---|---|
//! | [`run`] | the whole life of a device process |
//! | [`enroll`], [`renewal`] | how a device gets its identity, and its next certificate |
//! | [`identity`] | whom the device trusts, as its seed's verified answers say |
//! | [`state`] | what a device keeps between runs besides blobs |
//! | [`agent`] | the driver of [`protocol::agent`] |
//! | [`hook`] | the command that starts a version |
//! | [`signer`] | the key that signs reports |
//! | [`swarm`] | the driver of [`protocol::swarm`] |
//! | [`partial`] | blobs that are not whole yet |
//! | [`seed_client`] | requests to the seed |
//! | [`endpoint`] | the local pull-only registry |
//! | [`metrics`] | figures about this device |
//!
//! Not here: decisions; they are in `protocol`.

pub mod agent;
pub mod control;
pub mod endpoint;
pub mod enroll;
pub mod hook;
pub mod identity;
pub mod metrics;
pub mod partial;
pub mod renewal;
pub mod run;
pub mod seed_client;
pub mod signer;
pub mod state;
pub mod swarm;
