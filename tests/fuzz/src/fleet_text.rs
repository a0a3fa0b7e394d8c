//! What operators and devices write about the fleet: labels, selectors, step tables, time windows and lengths of time mean the
//! same when they are written and read again.
//!
//! Not here: signed documents; see `desired_state`.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use protocol::label::{Label, LabelChange, Labels};
use protocol::rollout::steps::Steps;
use protocol::rollout::window::Window;
use protocol::selector::Selector;
use protocol::span::Span;
use protocol::time::WallTime;

use super::assert_short;

/// Reads the text as each of them.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(label) = read_again::<Selector>(text).zip(text.parse::<Label>().ok()) {
        let labels: Labels = [(label.1.key, label.1.value)].into();
        assert!(label.0.matches(&labels), "the label {text} is a selector that takes it");
    }
    if let Some(steps) = read_again::<Steps>(text) {
        assert!(steps.share_at(u64::MAX).includes(u64::MAX), "everybody starts in the end");
        assert_eq!(steps.is_at_once(), steps.reached_after(u64::MAX) == 0);
    }
    if let Some(window) = read_again::<Window>(text) {
        let now = WallTime::from_unix_seconds(text.len() as u64 * 3_600);
        assert!(window.contains(now) || window.contains(window.opens_after(now)));
    }
    read_again::<Span>(text);
    if let Err(refused) = text.parse::<LabelChange>() {
        assert_short(&refused, 0);
    }
}

fn read_again<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            let again = value.to_string().parse::<T>();
            assert!(again.is_ok_and(|again| again == value), "{value} is read as something else");
            Some(value)
        }
        Err(refused) => {
            assert_short(&refused, 0);
            None
        }
    }
}
