//! Who is on the other end, and the bytes between: certificates, TLS and QUIC.
//!
//! | module | holds |
//! |---|---|
//! | [`identity`] | what a device's certificate says, and nothing that it does not prove |
//! | [`ca`], [`authorities`] | the seed's certificate authority, and two of them while one takes the other's place |
//! | [`admission`], [`verifier`] | which certificates are trusted, and the checks of a handshake |
//! | [`credentials`], [`device_key`], [`pkcs11`] | a device's certificate and key, which a PKCS#11 module may hold |
//! | [`certificate`] | the certificate that a listener shows, replaced while it listens |
//! | [`tls`] | TLS configurations of every listener and client |
//! | [`quic`] | the one QUIC endpoint of a device |
//! | [`control`] | libp2p over that endpoint |
//! | [`interfaces`], [`discovery`] | the networks of this machine, and the ways to find peers there |
//! | [`meter`] | bytes counted, and slowed down if so configured, on a socket |
//!
//! Not here: what is said over a connection; see `device::swarm` and `seed`.

pub mod admission;
pub mod authorities;
pub mod ca;
pub mod certificate;
pub mod control;
pub mod credentials;
pub mod device_key;
pub mod discovery;
pub mod identity;
pub mod interfaces;
pub mod meter;
pub mod pkcs11;
pub mod quic;
pub mod tls;
mod verifier;

#[cfg(test)]
mod tests;
