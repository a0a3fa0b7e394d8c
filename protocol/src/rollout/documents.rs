//! The desired state that follows another, and what a group or a rollout takes over from what was.
//!
//! Not here: signing it.

use crate::name::{AppName, GroupName, OrgName};
use crate::statement::desired::{Activation, Before, Counter, DesiredApp, DesiredState, FORMAT, Starts};
use crate::time::WallTime;

/// What a new group has of an app: what `all` has settled on, for all its devices at once. Of a rollout there that was stopped
/// it is the version before.
pub fn inherited(all: Option<&DesiredState>, app: &AppName) -> Option<DesiredApp> {
    let kept = all?.apps.get(app)?.clone();
    let settled = match &kept.before {
        Some(before) if kept.activation.starts != Starts::Open => {
            DesiredApp { version: before.version, statements: before.statements.clone(), ..kept }
        }
        _ => kept,
    };
    Some(DesiredApp { activation: Activation::default(), before: None, ..settled })
}

/// What devices of a group shall have that may not start `version` yet: what the group has, but not what was aborted.
pub fn before(state: Option<&DesiredState>, app: &AppName, version: u64) -> Option<Before> {
    let DesiredApp { version: number, statements, activation, before, .. } = state?.apps.get(app)?;
    if activation.starts == Starts::Ended || *number == version {
        return before.clone().filter(|before| before.version != version);
    }
    Some(Before { version: *number, statements: statements.clone() })
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
    let counter = Counter::after(previous.map(|previous| previous.counter), epoch);
    DesiredState { format: FORMAT, org: org.clone(), group: group.clone(), counter, expires, apps }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn what_was_stopped_is_neither_inherited_nor_gone_back_to() {
        let web: AppName = "web".parse().unwrap();
        let state = |starts| {
            let activation = Activation { starts, steps: "10%,1h,100%".parse().unwrap(), ..Activation::default() };
            let before = Some(Before { version: 1, statements: BTreeMap::new() });
            let app = DesiredApp { version: 2, rollout: "r".parse().unwrap(), statements: BTreeMap::new(), activation, before };
            next_desired_state(None, &"acme".parse().unwrap(), &GroupName::all(), 1, WallTime::default(), [(web.clone(), Some(app))])
        };
        let versions = |starts| {
            let state = state(starts);
            let inherited = inherited(Some(&state), &web).unwrap();
            assert_eq!((inherited.activation, inherited.before), (Activation::default(), None));
            (inherited.version, before(Some(&state), &web, 3).map(|before| before.version))
        };
        assert_eq!(versions(Starts::Open), (2, Some(2)));
        assert_eq!(versions(Starts::Held), (1, Some(2)));
        assert_eq!(versions(Starts::Ended), (1, Some(1)));
        assert_eq!(before(Some(&state(Starts::Open)), &web, 2).map(|before| before.version), Some(1));
    }
}
