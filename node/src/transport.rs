//! Who is on the other end, and the bytes between: certificates, TLS and QUIC.
//!
//! | module | holds |
//! |---|---|
//! | [`identity`] | what a device's certificate says, and nothing that it does not prove |
//! | [`ca`] | the seed's certificate authority |
//! | [`certificate`] | the certificate that a listener shows, replaced while it listens |
//! | [`tls`] | TLS configurations of every listener and client |
//! | [`quic`] | the one QUIC endpoint of a device |
//! | [`meter`] | bytes counted, and slowed down if so configured, on a socket |
//!
//! Not here: what is said over a connection; see `device::swarm` and `seed`.

pub mod ca;
pub mod certificate;
pub mod identity;
pub mod meter;
pub mod quic;
pub mod tls;
