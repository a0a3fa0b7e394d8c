//! Which grants are in force, beside documents that may have expired.

use super::*;
use crate::envelope::Envelope;
use crate::statement::assignment::{Assignment, Pin};
use crate::statement::desired::tests::{assignment, kiosk, online, sealed_assignment};
use crate::statement::grant::{FORMAT, Grant, PAYLOAD_TYPE, Subject};
use ed25519_dalek::{Signer as _, SigningKey};

/// The assignments of these tests have expired by then.
const NOW: WallTime = WallTime::from_unix_seconds(1_000_000);

fn web() -> AppName {
    "web".parse().unwrap()
}

fn authority() -> GrantAuthority {
    let keys = vec![SigningKey::from_bytes(&[1; 32]).verifying_key()];
    GrantAuthority { org: "acme".parse().unwrap(), app: web(), is_allowed: true, keys, threshold: 1, floor: 0 }
}

/// A grant of version 3, as signed.
pub(crate) fn sealed(subject: Subject, counter: u64) -> String {
    let not_after = NOW.plus_seconds(60);
    let grant = Grant { format: FORMAT, org: "acme".parse().unwrap(), app: web(), version: 3, subject, counter, not_after };
    let key = SigningKey::from_bytes(&[1; 32]);
    let envelope = Envelope::seal(PAYLOAD_TYPE, &serde_json::to_vec(&grant).unwrap(), "app", |bytes| key.sign(bytes));
    serde_json::to_string(&envelope).unwrap()
}

/// The same, accepted by a device that never heard of its seed.
pub(crate) fn accepted(counter: u64) -> AcceptedGrant {
    Device::default().accept(&sealed(Subject::Group("all".into()), counter)).unwrap()
}

#[derive(Default)]
struct Device {
    counters: Counters,
    assignment: Option<String>,
    states: BTreeMap<GroupName, String>,
    grants: BTreeMap<AppName, KeptGrant>,
}

impl Device {
    fn assigned(assignment: &Assignment) -> Self {
        let envelope = String::from_utf8(sealed_assignment(assignment)).unwrap();
        Self { assignment: Some(envelope), ..Self::default() }
    }

    fn kept(&mut self) -> Kept<'_> {
        let Self { counters, assignment, states, grants } = self;
        Kept { counters, assignment, states, grants }
    }

    fn accept(&mut self, envelope: &str) -> Result<AcceptedGrant, &'static str> {
        let (online, device) = (online(1), kiosk());
        let reader = Reader { online: &online, device: &device, now: NOW };
        self.kept().accept_grant(reader, &authority(), envelope).map_err(|refused| refused.reason())
    }
}

#[test]
fn a_grant_to_a_group_counts_for_those_whose_last_assignment_says_so_however_old_it_is() {
    let to = |group: &str| sealed(Subject::Group(group.into()), 1);
    let west = Device::assigned(&assignment(1, &[("web", Assigned::Group("west".parse().unwrap()))]));
    let pinned = Device::assigned(&assignment(1, &[("web", Assigned::Pin(Pin { version: 2, statements: BTreeMap::new() }))]));
    let otherwise = Device::assigned(&assignment(1, &[]));
    for (mut device, all, in_west) in [
        (west, Err("other_subject"), Ok(3)),
        (otherwise, Ok(3), Err("other_subject")),
        (Device::default(), Ok(3), Err("other_subject")),
        (pinned, Err("other_subject"), Err("other_subject")),
    ] {
        let mut version = |group| device.accept(&to(group)).map(|accepted| accepted.grant().version);
        assert_eq!((version("all"), version("west")), (all, in_west));
        let own = sealed(Subject::Device(kiosk()), 1);
        assert!(device.accept(&own).is_ok(), "one that names the device counts in any case");
    }
}

#[test]
fn grants_end_when_the_seed_is_heard_and_an_older_one_never_comes_back() {
    let mut device = Device::default();
    let [older, newer] = [1, 2].map(|counter| sealed(Subject::Device(kiosk()), counter));
    let accepted = device.accept(&newer).unwrap();
    device.kept().keep_grant(&accepted, newer.clone());
    assert_eq!(device.grants[&web()].envelope.as_ref(), Some(&newer));
    assert_eq!(device.accept(&older), Err("older_counter"));
    assert!(device.kept().end_grants());
    assert!(!device.kept().end_grants(), "nothing is left to end");
    assert_eq!(device.grants[&web()], KeptGrant { counter: 2, envelope: None });
    assert_eq!(device.accept(&older), Err("older_counter"));
    assert!(device.accept(&newer).is_ok(), "who applies it again may, if the seed is out of reach again");
}
