//! The chain of the audit log: each line carries the SHA-256 of the line before it, so that a line that was changed, put in or
//! taken out shows at the next one. Lines cut off at the end do not show; whoever wants that notes the newest link elsewhere.
//!
//! Not here: files.

use std::fmt;

use protocol::digest::Digest;
use serde::{Deserialize, Serialize, Serializer};

/// SHA-256 of a line, without its line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link(String);

impl Link {
    /// What the first line of all carries.
    pub fn start() -> Self {
        Self("0".repeat(64))
    }

    /// What the line after this one carries.
    pub fn to(line: &[u8]) -> Self {
        Self(Digest::sha256(line).hex())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A line that does not follow the one before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} does not follow the line before it: one of them was changed, put in, or lost with the power")]
pub struct Broken {
    /// Its number, from 1.
    pub line: u64,
}

/// Checks lines, one after the other.
#[derive(Debug, Default)]
pub struct Checker {
    lines: u64,
    last: Option<Link>,
    broken: Option<Broken>,
}

impl Checker {
    /// Lines that follow `before`; without it the first line may follow any, because the file before is no longer kept.
    pub const fn after(before: Option<Link>) -> Self {
        Self { lines: 0, last: before, broken: None }
    }

    /// The next line.
    pub fn add(&mut self, line: &[u8]) {
        #[derive(Deserialize)]
        struct Carried<'a> {
            previous: &'a str,
        }
        self.lines += 1;
        let carried = serde_json::from_slice::<Carried<'_>>(line).ok();
        let follows = carried.is_some_and(|carried| self.last.as_ref().is_none_or(|last| last.0 == carried.previous));
        if !follows && self.broken.is_none() {
            self.broken = Some(Broken { line: self.lines });
        }
        self.last = Some(Link::to(line));
    }

    /// What the next line has to carry; none if there was no line, and none before it.
    pub fn last(&self) -> Option<&Link> {
        self.last.as_ref()
    }

    /// The first line that did not follow.
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: usize) -> Vec<String> {
        let mut link = Link::start();
        let mut lines = Vec::new();
        for n in 0..count {
            let line = format!("{{\"v\":1,\"previous\":\"{link}\",\"n\":{n}}}");
            link = Link::to(line.as_bytes());
            lines.push(line);
        }
        lines
    }

    fn first_broken(before: Option<Link>, lines: &[String]) -> Option<u64> {
        let mut checker = Checker::after(before);
        lines.iter().for_each(|line| checker.add(line.as_bytes()));
        checker.broken().map(|broken| broken.line)
    }

    #[test]
    fn a_changed_added_or_missing_line_shows_at_the_next_one() {
        let lines = chain(5);
        assert_eq!(first_broken(Some(Link::start()), &lines), None);
        let mut changed = lines.clone();
        changed[1] = changed[1].replace("\"n\":1", "\"n\":7");
        assert_eq!(first_broken(Some(Link::start()), &changed), Some(3));
        let mut without = lines.clone();
        without.remove(2);
        assert_eq!(first_broken(Some(Link::start()), &without), Some(3));
        let mut twice = lines.clone();
        twice.insert(3, lines[2].clone());
        assert_eq!(first_broken(Some(Link::start()), &twice), Some(4));
        let mut broken = lines;
        broken[3] = "\0\0".to_owned();
        assert_eq!(first_broken(Some(Link::start()), &broken), Some(4));
    }

    #[test]
    fn a_file_is_checked_by_itself_or_after_the_one_before() {
        let lines = chain(5);
        assert_eq!(first_broken(None, &lines[2..]), None);
        assert_eq!(first_broken(Some(Link::to(lines[1].as_bytes())), &lines[2..]), None);
        assert_eq!(first_broken(Some(Link::start()), &lines[2..]), Some(1));
    }
}
