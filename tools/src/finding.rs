//! What a checker of the tree has to say: where, what is wrong, and what to do about it.
//!
//! Not an error type: a checker that cannot do its work returns an error, one that has done it returns findings.

use std::fmt;

use anyhow::{Result, bail};

/// One thing that is wrong with the tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    /// A file with its line, or a crate.
    pub(crate) place: String,
    /// What is wrong, and why that is wrong.
    pub(crate) fault: String,
    /// What to do next.
    pub(crate) remedy: String,
}

impl Finding {
    /// A finding from its three parts.
    pub(crate) fn new(place: impl Into<String>, fault: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.into(), fault: fault.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    -> {}", self.place, self.fault, self.remedy)
    }
}

/// Prints the findings of the checker `name`, and fails if there are any.
pub(crate) fn report(name: &str, findings: &[Finding]) -> Result<()> {
    for finding in findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("{name}: nothing found");
            Ok(())
        }
        count => bail!("{name}: {count} found, listed above; mend them and run `cargo tools {name}` again"),
    }
}
