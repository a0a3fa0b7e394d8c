//! Signed documents and the rules by which a device accepts them.
//!
//! | document | signed by | says |
//! |---|---|---|
//! | [`version::VersionStatement`] | the app's key, through TUF | what version N of an app is on one platform |
//! | [`desired::DesiredState`] | the seed's online key, which the root delegates | which version a group shall have, and when its devices may start it |
//! | [`assignment::Assignment`] | the same | which group a device takes each app from |
//! | [`revocation::RevocationList`] | the same | which device keys nobody talks to any more |
//! | [`receipt::PollReceipt`] | the same | when it was polled for a site, and how far the documents of its devices are |
//! | [`grant::Grant`] | the app's key | which version a group or device may run without asking the seed |
//!
//! `signed` is the shape that they share; [`counters`] keeps documents of the online key from going back, [`renewal`] says when they are signed anew, [`floor`] which
//! version of an app is the least that may be started; [`refused`] names the reasons.
//!
//! Not here: the TUF library, which lives in `node::trust` and holds the one [`TrustToken`].

pub mod assignment;
pub mod counters;
pub mod desired;
pub mod evidence;
pub mod floor;
pub mod grant;
pub mod receipt;
pub mod refused;
pub mod renewal;
pub mod revocation;
pub(crate) mod signed;
pub mod version;

use std::sync::atomic::{AtomicBool, Ordering};

/// The right to call a TUF-verified target an [`version::AcceptedStatement`]. There is one a process, made in `main` and
/// handed to the code that runs the TUF library.
#[derive(Debug)]
pub struct TrustToken(());

static TAKEN: AtomicBool = AtomicBool::new(false);

impl TrustToken {
    /// The token, the first time; none ever after.
    pub fn take() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::AcqRel)).then_some(Self(()))
    }
}
