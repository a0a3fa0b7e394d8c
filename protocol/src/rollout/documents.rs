//! The desired state that follows another.
//!
//! Not here: signing it.

use crate::name::{AppName, GroupName, OrgName};
use crate::statement::desired::{Counter, DesiredApp, DesiredState, FORMAT};
use crate::time::WallTime;

/// The counter after `previous`: one up within the epoch, from 1 on when the root delegates a higher `epoch`. After a
/// fast-forward there is none within the epoch: the last one stays, and whoever keeps the document refuses it.
pub const fn next_counter(previous: Option<Counter>, epoch: u64) -> Counter {
    match previous {
        Some(Counter { epoch: same, n }) if same == epoch => Counter { epoch, n: n.saturating_add(1) },
        _ => Counter { epoch, n: 1 },
    }
}

/// The desired state that follows `previous` with these changes: an app gets another entry, or goes. Without a previous one
/// it is the group's first.
pub fn next_desired_state(
    previous: Option<&DesiredState>,
    org: &OrgName,
    group: &GroupName,
    epoch: u64,
    expires: WallTime,
    changes: impl IntoIterator<Item = (AppName, Option<DesiredApp>)>,
) -> DesiredState {
    let mut apps = previous.map(|previous| previous.apps.clone()).unwrap_or_default();
    for (app, desired) in changes {
        match desired {
            Some(desired) => drop(apps.insert(app, desired)),
            None => drop(apps.remove(&app)),
        }
    }
    let counter = next_counter(previous.map(|previous| previous.counter), epoch);
    DesiredState { format: FORMAT, org: org.clone(), group: group.clone(), counter, expires, apps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::desired::Activation;
    use std::collections::BTreeMap;

    #[test]
    fn a_change_raises_the_counter_and_keeps_the_other_apps() {
        let desired = |version| DesiredApp {
            version,
            rollout: "r".parse().unwrap(),
            statements: BTreeMap::new(),
            activation: Activation::default(),
            before: None,
        };
        let (org, expires) = ("acme".parse().unwrap(), WallTime::from_unix_seconds(9));
        let next = |previous: Option<&DesiredState>, epoch, app: &str, version: Option<u64>| {
            let change = (app.parse().unwrap(), version.map(desired));
            next_desired_state(previous, &org, &GroupName::all(), epoch, expires, [change])
        };
        let first = next(None, 1, "web", Some(1));
        let second = next(Some(&first), 1, "db", Some(4));
        assert_eq!((first.counter, second.counter), (Counter { epoch: 1, n: 1 }, Counter { epoch: 1, n: 2 }));
        assert_eq!(second.apps.len(), 2);
        assert_eq!(next(Some(&second), 2, "web", Some(2)).counter, Counter { epoch: 2, n: 1 });
        let third = next(Some(&second), 1, "db", None);
        assert_eq!((third.counter.n, third.apps.len()), (3, 1));
    }
}
