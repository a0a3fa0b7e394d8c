//! Who may do what in a registry: the one decision that a request is let in by.
//!
//! Two things must allow a request: the access key that it is from, and the token that it came with, if it came with one. A
//! repository belongs to one organisation, whose keys alone see that it exists; to pull from one that is public nobody needs
//! either.
//!
//! Not here: whether a key or token is valid, and which repositories are public; who asks is told that.

use crate::name::{OrgName, RepositoryName};
use crate::oci::scope::{Action, TokenScopes};

/// The holder of a valid access key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The organisation of the key.
    pub org: &'a OrgName,
    /// What the key may do to repositories of its organisation.
    pub actions: &'a [Action],
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker<'a> {
    /// By which key; none for a stranger.
    pub holder: Option<Holder<'a>>,
    /// What the token allows that the request came with; none if it came with the key itself, or with nothing.
    pub token: Option<&'a TokenScopes>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// All that was asked for, to a repository of the own organisation.
    Own,
    /// To read, because everybody may.
    Public,
    /// To learn that there is no such repository.
    NotSeen,
}

/// Where a blob may come from that is to be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountFrom<'a> {
    /// This repository.
    Repository(&'a RepositoryName),
    /// Any of the own organisation.
    Organisation,
}

/// Why somebody may not do that. A better token, or another key, might.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There are no credentials.
    NoCredentials,
    /// The token does not cover it, or was made for a stranger.
    Token,
    /// The key does not have the scope.
    Key(Action),
}

impl Asker<'_> {
    /// Whether the repository is one of its organisation.
    pub fn owns(&self, repository: &RepositoryName) -> bool {
        self.holder.is_some_and(|holder| repository.is_of(holder.org))
    }

    /// Checks that key and token allow `action` on `repository`, if it is one of the own organisation.
    ///
    /// # Errors
    /// When one does not.
    pub fn require(&self, action: Action, repository: &RepositoryName) -> Result<(), Denied> {
        self.require_key(action)?;
        self.require_token(|scopes| scopes.allows(repository, action))
    }

    /// Checks that key and token allow to list the repositories of the own organisation.
    ///
    /// # Errors
    /// When one does not.
    pub fn require_catalog(&self) -> Result<(), Denied> {
        self.require_key(Action::Pull)?;
        self.require_token(TokenScopes::allows_catalog)
    }

    /// Decides about `action` on `repository`, which everybody may read if it `is_public`. A key that has the scope is let in
    /// with any repository: that another organisation's does not exist for it is said by what answers.
    ///
    /// # Errors
    /// When it is not let in.
    pub fn decide(&self, action: Action, repository: &RepositoryName, is_public: bool) -> Result<Access, Denied> {
        let required = self.require(action, repository);
        if required.is_ok() && self.owns(repository) {
            return Ok(Access::Own);
        }
        if action == Action::Pull && is_public {
            return Ok(Access::Public);
        }
        required.map(|()| Access::NotSeen)
    }

    /// From where a blob may be mounted into the own repository `into`: `from`, which everybody may read if it `is_public`, or,
    /// if none is named, any repository of the organisation. Then the key decides, because no token names them all. None if
    /// there is nothing to look into for who asks; the blob is to be sent then.
    ///
    /// # Errors
    /// When a better token would be let in, so that its client gets that one.
    pub fn may_mount<'a>(
        &self,
        into: &RepositoryName,
        from: Option<&'a RepositoryName>,
        is_public: bool,
    ) -> Result<Option<MountFrom<'a>>, Denied> {
        if self.require_key(Action::Pull).is_err() {
            return Ok(None);
        }
        match from {
            None => self.require(Action::Pull, into).map(|()| Some(MountFrom::Organisation)),
            Some(from) if self.owns(from) => self.require(Action::Pull, from).map(|()| Some(MountFrom::Repository(from))),
            Some(from) => Ok(is_public.then_some(MountFrom::Repository(from))),
        }
    }

    /// What a token that is asked for may allow of `action` on `repository`: the part that the key has, and what everybody
    /// may.
    pub fn may_be_given(&self, action: Action, repository: &RepositoryName, is_public: bool) -> bool {
        let has = self.holder.is_some_and(|holder| holder.actions.contains(&action));
        (has && self.owns(repository)) || (action == Action::Pull && is_public)
    }

    fn require_key(&self, action: Action) -> Result<(), Denied> {
        match (self.holder, self.token) {
            (Some(holder), _) if holder.actions.contains(&action) => Ok(()),
            (Some(_), _) => Err(Denied::Key(action)),
            (None, Some(_)) => Err(Denied::Token),
            (None, None) => Err(Denied::NoCredentials),
        }
    }

    fn require_token(&self, allows: impl FnOnce(&TokenScopes) -> bool) -> Result<(), Denied> {
        if self.token.is_none_or(allows) { Ok(()) } else { Err(Denied::Token) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Access::{NotSeen, Own, Public};
    use Action::{Delete, Pull, Push};

    /// Key, token, action, repository, whether it is public; and what is decided.
    type Row<'a> = (Option<&'a [Action]>, Option<&'a str>, Action, &'a RepositoryName, bool, Decision);
    type Decision = Result<Access, Denied>;

    #[test]
    fn key_token_organisation_and_publicity_decide_together() {
        let (org, own, other) = ("acme".parse().unwrap(), "acme/web".parse().unwrap(), "other/web".parse().unwrap());
        let reader: Option<&[Action]> = Some(&[Pull]);
        let writer: Option<&[Action]> = Some(&[Pull, Push]);
        let (pull_own, pull_other, push_other) = ("repository:acme/web:pull", "repository:other/web:pull", "repository:other/web:push");
        let table: [Row<'_>; 22] = [
            (None, None, Pull, &own, false, Err(Denied::NoCredentials)),
            (None, None, Pull, &own, true, Ok(Public)),
            (None, None, Push, &own, true, Err(Denied::NoCredentials)),
            (None, Some(pull_own), Pull, &own, false, Err(Denied::Token)),
            (None, Some(pull_own), Pull, &own, true, Ok(Public)),
            (None, Some(pull_own), Delete, &own, true, Err(Denied::Token)),
            (reader, None, Pull, &own, false, Ok(Own)),
            (reader, None, Pull, &own, true, Ok(Own)),
            (reader, None, Push, &own, true, Err(Denied::Key(Push))),
            (reader, None, Pull, &other, false, Ok(NotSeen)),
            (reader, None, Pull, &other, true, Ok(Public)),
            (reader, None, Push, &other, true, Err(Denied::Key(Push))),
            (writer, None, Push, &own, false, Ok(Own)),
            (writer, None, Push, &other, false, Ok(NotSeen)),
            (writer, None, Push, &other, true, Ok(NotSeen)),
            (writer, None, Delete, &own, false, Err(Denied::Key(Delete))),
            (writer, Some(pull_own), Pull, &own, false, Ok(Own)),
            (writer, Some(pull_own), Push, &own, false, Err(Denied::Token)),
            (writer, Some(pull_own), Pull, &other, false, Err(Denied::Token)),
            (writer, Some(pull_own), Pull, &other, true, Ok(Public)),
            (writer, Some(pull_other), Pull, &other, false, Ok(NotSeen)),
            (writer, Some(push_other), Push, &other, true, Ok(NotSeen)),
        ];
        for (key, token, action, repository, is_public, decided) in table {
            let token = token.map(|token| TokenScopes::parse([token]));
            let asker = Asker { holder: key.map(|actions| Holder { org: &org, actions }), token: token.as_ref() };
            assert_eq!(asker.decide(action, repository, is_public), decided, "{asker:?} {action:?} {repository} {is_public}");
            let given = asker.may_be_given(action, repository, is_public);
            let by_key = key.is_some_and(|actions| actions.contains(&action)) && asker.owns(repository);
            assert_eq!(given, by_key || decided == Ok(Public), "what a token may allow: {asker:?} {action:?} {repository} {is_public}");
        }
    }

    type MountRow<'a> = (&'a [Action], Option<&'a str>, Option<&'a RepositoryName>, bool, Result<Option<MountFrom<'a>>, Denied>);

    #[test]
    fn a_mount_reads_what_key_and_token_may_read() {
        let org = "acme".parse().unwrap();
        let [into, base, other]: [RepositoryName; 3] = ["acme/web", "acme/base", "other/base"].map(|name| name.parse().unwrap());
        let (writer, blind): (&[Action], &[Action]) = (&[Pull, Push], &[Push]);
        let (all, into_alone) = ("repository:acme/web:pull,push repository:acme/base:pull", "repository:acme/web:pull,push");
        let from_other = Ok(Some(MountFrom::Repository(&other)));
        let table: [MountRow<'_>; 12] = [
            (writer, None, None, false, Ok(Some(MountFrom::Organisation))),
            (writer, None, Some(&base), false, Ok(Some(MountFrom::Repository(&base)))),
            (writer, None, Some(&other), false, Ok(None)),
            (writer, None, Some(&other), true, from_other),
            (writer, Some(all), Some(&base), false, Ok(Some(MountFrom::Repository(&base)))),
            (writer, Some(into_alone), Some(&base), false, Err(Denied::Token)),
            (writer, Some(into_alone), Some(&base), true, Err(Denied::Token)),
            (writer, Some(into_alone), None, false, Ok(Some(MountFrom::Organisation))),
            (writer, Some("repository:acme/web:push"), None, false, Err(Denied::Token)),
            (writer, Some(into_alone), Some(&other), true, from_other),
            (blind, None, None, false, Ok(None)),
            (blind, None, Some(&other), true, Ok(None)),
        ];
        for (actions, token, from, is_public, wanted) in table {
            let token = token.map(|token| TokenScopes::parse(token.split(' ')));
            let asker = Asker { holder: Some(Holder { org: &org, actions }), token: token.as_ref() };
            assert_eq!(asker.may_mount(&into, from, is_public), wanted, "{actions:?} {token:?} {from:?} {is_public}");
        }
    }

    #[test]
    fn to_list_repositories_needs_the_scope_to_pull_and_a_token_for_it() {
        let org = "acme".parse().unwrap();
        let holder = |actions| Some(Holder { org: &org, actions });
        let (catalog, pull) = (TokenScopes::parse(["registry:catalog:*"]), TokenScopes::parse(["repository:acme/web:pull"]));
        for (holder, token, decided) in [
            (None, None, Err(Denied::NoCredentials)),
            (None, Some(&catalog), Err(Denied::Token)),
            (holder(&[Push]), None, Err(Denied::Key(Pull))),
            (holder(&[Pull]), None, Ok(())),
            (holder(&[Pull]), Some(&catalog), Ok(())),
            (holder(&[Pull]), Some(&pull), Err(Denied::Token)),
        ] {
            assert_eq!(Asker { holder, token }.require_catalog(), decided, "{holder:?} {token:?}");
        }
    }
}
