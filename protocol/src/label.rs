//! Labels of devices, `key=value`: what groups are made of.
//!
//! An operator's label wins over the device's own of the same key, so that a device cannot move itself into a group that
//! its operator gave to others.
//!
//! Not here: which group the labels lead to; see [`crate::group`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest key or value of a label, in bytes: as long as a name.
pub const LABEL_BYTES_MAX: usize = 63;

/// The most labels that one side, operator or device, may give a device: a report carries them all.
pub const LABELS_MAX: usize = 64;

/// The key of a label: 1 to 63 of a-z 0-9, with `.`, `_`, `-` and `/` between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelKey(String);

/// The value of a label: at most 63 bytes without commas, control characters, or spaces at either end; it may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelValue(String);

/// Labels by key.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// One label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its key.
    pub key: LabelKey,
    /// Its value.
    pub value: LabelValue,
}

/// What is to become of a label: `key=value` sets it, `key-` takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// It gets this value.
    Set(Label),
    /// It goes.
    Remove(LabelKey),
}

/// Why something is not a label, or not one more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelRefused {
    /// The key does not fit.
    #[error("{0:?} is not the key of a label; use 1 to {LABEL_BYTES_MAX} of a-z 0-9, with . _ - / only between them")]
    Key(String),
    /// The value does not fit.
    #[error("{0:?} is not the value of a label; use at most {LABEL_BYTES_MAX} bytes without commas, control characters and outer spaces")]
    Value(String),
    /// There is no `=`.
    #[error("{0:?} is not a label; write KEY=VALUE, for example site=north")]
    NoValue(String),
    /// There are too many.
    #[error("there are {0} labels; a device has at most {LABELS_MAX}")]
    TooMany(usize),
}

/// The labels that count: the operator's, and those of the device's own whose keys the operator did not set.
pub fn effective(operator: &Labels, device: &Labels) -> Labels {
    let mut labels = device.clone();
    labels.extend(operator.clone());
    labels
}

/// Checks that one side gives not too many labels.
///
/// # Errors
/// When it does.
pub fn check_count(labels: &Labels) -> Result<(), LabelRefused> {
    if labels.len() > LABELS_MAX { Err(LabelRefused::TooMany(labels.len())) } else { Ok(()) }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for LabelKey {
    type Err = LabelRefused;

    fn from_str(text: &str) -> Result<Self, LabelRefused> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let (first, last) = (text.bytes().next(), text.bytes().next_back());
        let valid = text.len() <= LABEL_BYTES_MAX
            && first.is_some_and(alphanumeric)
            && last.is_some_and(alphanumeric)
            && text.bytes().all(|byte| alphanumeric(byte) || b"._-/".contains(&byte));
        if valid { Ok(Self(text.to_owned())) } else { Err(LabelRefused::Key(shown(text))) }
    }
}

impl FromStr for LabelValue {
    type Err = LabelRefused;

    fn from_str(text: &str) -> Result<Self, LabelRefused> {
        let valid = text.len() <= LABEL_BYTES_MAX && text.trim() == text && !text.contains(|c: char| c == ',' || c.is_control());
        if valid { Ok(Self(text.to_owned())) } else { Err(LabelRefused::Value(shown(text))) }
    }
}

impl FromStr for Label {
    type Err = LabelRefused;

    fn from_str(text: &str) -> Result<Self, LabelRefused> {
        let (key, value) = text.split_once('=').ok_or_else(|| LabelRefused::NoValue(shown(text)))?;
        Ok(Self { key: key.parse()?, value: value.parse()? })
    }
}

impl FromStr for LabelChange {
    type Err = LabelRefused;

    fn from_str(text: &str) -> Result<Self, LabelRefused> {
        match text.strip_suffix('-').filter(|_| !text.contains('=')) {
            Some(key) => Ok(Self::Remove(key.parse()?)),
            None => Ok(Self::Set(text.parse()?)),
        }
    }
}

macro_rules! text {
    ($type:ident) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = LabelRefused;

            fn try_from(text: String) -> Result<Self, LabelRefused> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(checked: $type) -> Self {
                checked.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(LabelKey);
text!(LabelValue);

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[&str]) -> Labels {
        pairs.iter().map(|pair| pair.parse::<Label>().unwrap()).map(|label| (label.key, label.value)).collect()
    }

    #[test]
    fn keys_and_values_have_a_form() {
        for good in ["site=north", "a/b.c_d-e=", "k=a=b!c", "k=zwei Wörter"] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        let long = format!("k={}", "v".repeat(LABEL_BYTES_MAX + 1));
        for bad in ["", "k", "=v", "Upper=v", "-k=v", "k-=v", "k=a,b", "k= v", "k=\n", &long] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_change_sets_or_takes_away() {
        assert_eq!("site-".parse::<LabelChange>().unwrap(), LabelChange::Remove("site".parse().unwrap()));
        assert!(matches!("site=a-".parse::<LabelChange>().unwrap(), LabelChange::Set(label) if label.value.as_str() == "a-"));
        assert!("site".parse::<LabelChange>().is_err());
    }

    #[test]
    fn the_operators_label_wins_and_the_device_adds_others() {
        let counted = effective(&labels(&["site=north"]), &labels(&["site=south", "class=lab"]));
        assert_eq!(counted, labels(&["site=north", "class=lab"]));
    }

    #[test]
    fn one_side_gives_a_bounded_number() {
        let many = |count: usize| (0..count).map(|n| (format!("k{n}").parse().unwrap(), "".parse().unwrap())).collect();
        assert_eq!(check_count(&many(LABELS_MAX)), Ok(()));
        assert_eq!(check_count(&many(LABELS_MAX + 1)), Err(LabelRefused::TooMany(LABELS_MAX + 1)));
    }
}
