//! A device's certificate over its life: who gets one, when it is renewed, and what it is good for when its time is over.
//!
//! | module | decides |
//! |---|---|
//! | [`authorities`] | which certificate authorities a root may name, and when an old one may go |
//! | [`enrolment`] | which device a token gives a certificate to |
//! | [`renewal`] | when a device asks for the next one |
//! | [`standing`] | what a certificate is good for at a moment |
//!
//! Not here: which keys are revoked, see [`crate::statement::revocation`]; signatures and X.509, see `node::transport`.

pub mod authorities;
pub mod enrolment;
pub mod renewal;
pub mod standing;
