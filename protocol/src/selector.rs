//! Which devices a group takes, by their labels.
//!
//! ```text
//! selector = term *("," term)              every term holds
//! term     = key "=" value                 the label has this value
//!          / key "!=" value                the label has another value, or there is none
//!          / key                           there is such a label
//!          / "!" key                       there is none
//! ```
//!
//! Not here: which of several groups a device is in; see [`crate::group`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::label::{LabelKey, LabelRefused, LabelValue, Labels};

/// The most terms of a selector: more than anybody reads, and few enough to look at them with each poll.
pub const TERMS_MAX: usize = 16;

/// Terms that a device's labels must meet, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Is(LabelKey, LabelValue),
    IsNot(LabelKey, LabelValue),
    Has(LabelKey),
    HasNot(LabelKey),
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorRefused {
    /// A term is empty, or there is none.
    #[error("a selector needs terms, as site=north or site=north,class!=lab; every device is in the group `all` already")]
    Empty,
    /// There are too many terms.
    #[error("the selector has {0} terms, more than {TERMS_MAX}; give the devices a label of their own")]
    TooManyTerms(usize),
    /// A key or value does not fit.
    #[error(transparent)]
    Label(#[from] LabelRefused),
}

impl Selector {
    /// Whether a device with these labels is taken.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => labels.get(key) == Some(value),
            Term::IsNot(key, value) => labels.get(key) != Some(value),
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorRefused;

    fn from_str(text: &str) -> Result<Self, SelectorRefused> {
        let count = text.split(',').count();
        if count > TERMS_MAX {
            return Err(SelectorRefused::TooManyTerms(count));
        }
        text.split(',').map(|term| term.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Term {
    type Err = SelectorRefused;

    fn from_str(text: &str) -> Result<Self, SelectorRefused> {
        if text.is_empty() {
            return Err(SelectorRefused::Empty);
        }
        if let Some(key) = text.strip_prefix('!') {
            return Ok(Self::HasNot(key.parse()?));
        }
        let Some((key, value)) = text.split_once('=') else { return Ok(Self::Has(text.parse()?)) };
        match key.strip_suffix('!') {
            Some(key) => Ok(Self::IsNot(key.parse()?, value.parse()?)),
            None => Ok(Self::Is(key.parse()?, value.parse()?)),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorRefused;

    fn try_from(text: String) -> Result<Self, SelectorRefused> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match term {
                Term::Is(key, value) => write!(f, "{comma}{key}={value}")?,
                Term::IsNot(key, value) => write!(f, "{comma}{key}!={value}")?,
                Term::Has(key) => write!(f, "{comma}{key}")?,
                Term::HasNot(key) => write!(f, "{comma}!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Label;

    fn matches(selector: &str, labels: &[&str]) -> bool {
        let labels = labels.iter().map(|pair| pair.parse::<Label>().unwrap()).map(|label| (label.key, label.value)).collect();
        selector.parse::<Selector>().unwrap().matches(&labels)
    }

    #[test]
    fn every_term_must_hold() {
        assert!(matches("site=north,class!=lab", &["site=north"]));
        assert!(matches("site=north,class!=lab", &["site=north", "class=shop"]));
        assert!(!matches("site=north,class!=lab", &["site=north", "class=lab"]));
        assert!(!matches("site=north", &["site=south"]) && !matches("site=north", &[]));
        assert!(matches("site", &["site=x"]) && !matches("site", &[]));
        assert!(matches("!site", &[]) && !matches("!site", &["site="]));
    }

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for text in ["site=north,class!=lab,gpu,!old", "k=", "k=a=b"] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        assert_eq!(" a=1 , b".parse::<Selector>().unwrap().to_string(), "a=1,b");
        assert_eq!("".parse::<Selector>(), Err(SelectorRefused::Empty));
        assert_eq!("a,,b".parse::<Selector>(), Err(SelectorRefused::Empty));
        for bad in ["=x", "!", "!!a", "A=1", "a b"] {
            assert!(matches!(bad.parse::<Selector>(), Err(SelectorRefused::Label(_))), "{bad}");
        }
        let many = vec!["a"; TERMS_MAX + 1].join(",");
        assert_eq!(many.parse::<Selector>(), Err(SelectorRefused::TooManyTerms(TERMS_MAX + 1)));
    }
}
