//! Groups of devices: for each app a device is in exactly one.
//!
//! That is the group of the app with the highest priority whose selector takes the device's labels, else `all`. Two groups of
//! one app never have the same priority, so that no order of records or names decides.
//!
//! Not here: what a group shall have; see [`crate::statement::desired`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::label::Labels;
use crate::name::{AppName, GroupName};
use crate::selector::Selector;

/// The most groups of an organisation: they are looked at when a device polls.
pub const GROUPS_MAX: usize = 1024;

/// A group of devices, for one app. Groups of several apps may have the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// The app.
    pub app: AppName,
    /// The devices that it takes.
    pub selector: Selector,
    /// Of the groups that take a device the one with the highest priority has it.
    pub priority: u32,
}

/// Why a group is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupRefused {
    /// `all` is made by nobody.
    #[error("the group `all` exists for every app and takes every device that no other group takes; choose another name")]
    All,
    /// The name is taken.
    #[error("group {name} of {app} exists already; remove it first with `hedgerow fleet group remove`, or choose another name")]
    Exists {
        /// The group.
        name: GroupName,
        /// The app.
        app: AppName,
    },
    /// Another group of the app has the priority.
    #[error(
        "group {other} of {app} has priority {priority} already, so it would not be clear which of both has a device that both take; choose another priority"
    )]
    Tie {
        /// The group that has the priority.
        other: GroupName,
        /// The app.
        app: AppName,
        /// The priority.
        priority: u32,
    },
    /// There are too many.
    #[error("the organisation has {GROUPS_MAX} groups already; remove one that is not used")]
    TooMany,
}

/// Checks that `new` may be added to an organisation's `groups`.
///
/// # Errors
/// With the rule that it breaks.
pub fn check_new(groups: &[Group], new: &Group) -> Result<(), GroupRefused> {
    if new.name.is_all() {
        return Err(GroupRefused::All);
    }
    if groups.len() >= GROUPS_MAX {
        return Err(GroupRefused::TooMany);
    }
    let mut of_app = groups.iter().filter(|group| group.app == new.app);
    if of_app.clone().any(|group| group.name == new.name) {
        return Err(GroupRefused::Exists { name: new.name.clone(), app: new.app.clone() });
    }
    match of_app.find(|group| group.priority == new.priority) {
        Some(other) => Err(GroupRefused::Tie { other: other.name.clone(), app: new.app.clone(), priority: new.priority }),
        None => Ok(()),
    }
}

/// Whether a device whose groups are `of` is listed under `group`, whatever the app. In `all` is who is in no group of some app,
/// or of any if there are no groups.
pub fn is_listed(groups: &[Group], of: &BTreeMap<AppName, GroupName>, group: &GroupName) -> bool {
    if group.is_all() {
        return groups.is_empty() || groups.iter().any(|group| !of.contains_key(&group.app));
    }
    of.values().any(|of| of == group)
}

/// Whether a device with these labels is a member of `group` of `app`, among an organisation's `groups`.
pub fn is_member(groups: &[Group], labels: &Labels, app: &AppName, group: &GroupName) -> bool {
    let of_app = groups.iter().filter(|group| group.app == *app && group.selector.matches(labels));
    let best = of_app.max_by_key(|group| group.priority);
    best.map_or_else(|| group.is_all(), |best| best.name == *group)
}

/// The group of each app for a device with these labels; for apps that are absent it is `all`.
pub fn groups_of(groups: &[Group], labels: &Labels) -> BTreeMap<AppName, GroupName> {
    let mut best: BTreeMap<&AppName, &Group> = BTreeMap::new();
    for group in groups.iter().filter(|group| group.selector.matches(labels)) {
        let kept = best.entry(&group.app).or_insert(group);
        if group.priority > kept.priority {
            *kept = group;
        }
    }
    best.into_iter().map(|(app, group)| (app.clone(), group.name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Label;

    fn group(name: &str, app: &str, selector: &str, priority: u32) -> Group {
        Group { name: name.parse().unwrap(), app: app.parse().unwrap(), selector: selector.parse().unwrap(), priority }
    }

    fn of(groups: &[Group], labels: &[&str]) -> BTreeMap<AppName, GroupName> {
        let labels = labels.iter().map(|pair| pair.parse::<Label>().unwrap()).map(|label| (label.key, label.value)).collect();
        groups_of(groups, &labels)
    }

    #[test]
    fn the_matching_group_with_the_highest_priority_has_the_device() {
        let groups = [group("north", "web", "site=north", 1), group("lab", "web", "class=lab", 9), group("lab", "db", "class=lab", 1)];
        assert_eq!(of(&groups, &[]), [].into());
        assert_eq!(of(&groups, &["site=north"]), [("web".parse().unwrap(), "north".parse().unwrap())].into());
        let both = of(&groups, &["site=north", "class=lab"]);
        assert_eq!(both, [("web".parse().unwrap(), "lab".parse().unwrap()), ("db".parse().unwrap(), "lab".parse().unwrap())].into());
        let turned: Vec<Group> = groups.into_iter().rev().collect();
        assert_eq!(of(&turned, &["site=north", "class=lab"]), both, "their order does not matter");
    }

    #[test]
    fn ties_and_taken_names_are_refused() {
        let groups = [group("north", "web", "site=north", 1)];
        assert_eq!(check_new(&groups, &group("south", "web", "site=south", 2)), Ok(()));
        assert_eq!(check_new(&groups, &group("north", "db", "site=north", 1)), Ok(()), "another app");
        assert!(matches!(check_new(&groups, &group("south", "web", "site=south", 1)), Err(GroupRefused::Tie { .. })));
        assert!(matches!(check_new(&groups, &group("north", "web", "a", 2)), Err(GroupRefused::Exists { .. })));
        assert_eq!(check_new(&groups, &group("all", "web", "a", 2)), Err(GroupRefused::All));
        let many: Vec<Group> = (0..GROUPS_MAX).map(|n| group(&format!("g{n}"), "web", "a", u32::try_from(n).unwrap())).collect();
        assert_eq!(check_new(&many, &group("one-more", "db", "a", 0)), Err(GroupRefused::TooMany));
    }
}
