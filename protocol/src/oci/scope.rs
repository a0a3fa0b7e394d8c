//! What a registry token is asked for and allows: `repository:acme/web:pull,push`, `registry:catalog:*` (the token
//! specification of the CNCF distribution project, "Resource Provider Use").
//!
//! Asking is free: what is unknown or malformed is left out, and what may not be had is not given, but nothing of it is an
//! error.
//!
//! Not here: what a key may do, see [`super::access`], and how tokens are signed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::name::RepositoryName;

/// The most repositories of one token: more than a push that mounts from several repositories asks for, and few enough for the
/// token to fit into a header line of common proxies (8 KiB).
pub const SCOPES_MAX: usize = 16;

/// What is done to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Read it.
    Pull,
    /// Write it.
    Push,
    /// Delete from it.
    Delete,
}

/// What one token allows, or is asked to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenScopes {
    repositories: BTreeMap<RepositoryName, BTreeSet<Action>>,
    catalog: bool,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

impl TokenScopes {
    /// Reads the values of `scope` parameters, each one scope or several with spaces between them. Repositories beyond
    /// [`SCOPES_MAX`] are left out.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for scope in values.into_iter().flat_map(|value| value.split(' ')) {
            found.read(scope);
        }
        found
    }

    /// Reads `type:name:actions`.
    fn read(&mut self, scope: &str) {
        let Some((kind, rest)) = scope.split_once(':') else { return };
        let Some((name, actions)) = rest.rsplit_once(':') else { return };
        let has = |wanted: &str| actions.split(',').any(|action| action == wanted || action == "*");
        match kind {
            "registry" if name == "catalog" => self.catalog |= has("*"),
            "repository" => {
                let Ok(repository) = name.parse() else { return };
                for action in Action::ALL.into_iter().filter(|action| has(action.as_str())) {
                    self.allow(&repository, action);
                }
            }
            _ => {}
        }
    }

    /// Adds `action` on `repository`.
    pub fn allow(&mut self, repository: &RepositoryName, action: Action) {
        if let Some(actions) = self.repositories.get_mut(repository) {
            actions.insert(action);
        } else if self.repositories.len() < SCOPES_MAX {
            self.repositories.insert(repository.clone(), [action].into());
        }
    }

    /// Adds listing the repositories.
    pub const fn allow_catalog(&mut self) {
        self.catalog = true;
    }

    /// Whether `action` on `repository` is among them.
    pub fn allows(&self, repository: &RepositoryName, action: Action) -> bool {
        self.repositories.get(repository).is_some_and(|actions| actions.contains(&action))
    }

    /// Whether listing the repositories is among them.
    pub const fn allows_catalog(&self) -> bool {
        self.catalog
    }

    /// The actions on each repository.
    pub fn repositories(&self) -> impl Iterator<Item = (&RepositoryName, &BTreeSet<Action>)> {
        self.repositories.iter()
    }

    /// Whether there is nothing among them.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty() && !self.catalog
    }
}

impl fmt::Display for TokenScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repository = |(name, actions): (_, &BTreeSet<Action>)| {
            let actions: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
            format!("repository:{name}:{}", actions.join(","))
        };
        let catalog = self.catalog.then(|| "registry:catalog:*".to_owned());
        let scopes: Vec<String> = self.repositories().map(repository).chain(catalog).collect();
        f.write_str(&scopes.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn reads_repeated_and_space_separated_scopes() {
        let read = |values: &[&str]| TokenScopes::parse(values.iter().copied()).to_string();
        for (values, scopes) in [
            (vec!["repository:acme/web:pull"], "repository:acme/web:pull"),
            (vec!["repository:acme/web:push,pull"], "repository:acme/web:pull,push"),
            (vec!["repository:acme/web:*"], "repository:acme/web:pull,push,delete"),
            (vec!["repository:acme/a:pull repository:acme/b:pull"], "repository:acme/a:pull repository:acme/b:pull"),
            (vec!["repository:acme/a:pull", "repository:acme/a:push"], "repository:acme/a:pull,push"),
            (vec!["registry:catalog:*", "registry:catalog:*"], "registry:catalog:*"),
            (vec![], ""),
        ] {
            assert_eq!(read(&values), scopes, "{values:?}");
        }
    }

    #[test]
    fn leaves_out_what_is_unknown_or_malformed() {
        let texts = [
            "",
            "repository",
            "repository:acme/web",
            "repository:acme/web:",
            "repository:acme/web:admin",
            "repository:web:pull",
            "repository:seed.example:5000/acme/web:pull",
            "repository(plugin):acme/web:pull",
            "registry:catalog:pull",
            "registry:other:*",
            "a\u{0}:b:c",
        ];
        for text in texts {
            assert_eq!(TokenScopes::parse([text, "repository:acme/web:pull"]).to_string(), "repository:acme/web:pull", "{text:?}");
        }
    }

    #[test]
    fn a_scope_allows_what_it_names_alone() {
        let scopes = TokenScopes::parse(["repository:acme/web:pull,push"]);
        assert!(scopes.allows(&name("acme/web"), Action::Pull) && scopes.allows(&name("acme/web"), Action::Push));
        assert!(!scopes.allows(&name("acme/web"), Action::Delete) && !scopes.allows(&name("acme/web/x"), Action::Pull));
        assert!(!scopes.allows_catalog() && TokenScopes::parse(["registry:catalog:*"]).allows_catalog());
    }

    #[test]
    fn more_scopes_than_fit_are_left_out() {
        let asked: Vec<String> = (0..100).map(|n| format!("repository:acme/{n}:pull")).collect();
        let scopes = TokenScopes::parse(asked.iter().map(String::as_str));
        assert_eq!(scopes.repositories().count(), SCOPES_MAX);
        assert!(scopes.allows(&name("acme/0"), Action::Pull) && !scopes.allows(&name("acme/99"), Action::Pull));
    }
}
