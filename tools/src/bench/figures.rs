//! Medians, comparisons, and whether goals hold.
//!
//! Not here: what is measured; see `registry`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Hedgerow's name in tables.
pub(super) const HEDGEROW: &str = "hedgerow";

/// What a comparison should come to.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Nothing is asked for; it is told for the reader.
    None,
}

/// Whether a goal holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Holds,
    Fails,
    /// The run cannot tell.
    Void,
    /// Nothing was asked for.
    Told,
}

/// One line of the result: Hedgerow's figure beside another's, or alone.
pub(super) struct Comparison {
    pub(super) case: String,
    pub(super) unit: &'static str,
    pub(super) ours: f64,
    /// The other server and its figure.
    pub(super) other: Option<(&'static str, f64)>,
    /// What the goal is about: a ratio, or our figure.
    pub(super) found: f64,
    pub(super) goal: Goal,
    pub(super) verdict: Verdict,
}

/// The figures of one case: of each server one per run.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<&'static str, Vec<f64>>);

impl Runs {
    /// Adds the figure of a run.
    pub(super) fn add(&mut self, server: &'static str, figure: f64) {
        self.0.entry(server).or_default().push(figure);
    }

    /// The median of a server's runs.
    pub(super) fn median(&self, server: &str) -> f64 {
        self.0.get(server).map_or(f64::NAN, |figures| median(figures))
    }

    /// Compares Hedgerow's median with another's: `ratio` makes of both what the goal is about.
    pub(super) fn compare(
        &self,
        case: &str,
        unit: &'static str,
        other: &'static str,
        ratio: fn(f64, f64) -> f64,
        goal: Goal,
    ) -> Comparison {
        let (ours, theirs) = (self.median(HEDGEROW), self.median(other));
        let found = ratio(ours, theirs);
        Comparison { case: case.to_owned(), unit, ours, other: Some((other, theirs)), found, goal, verdict: goal.judge(found) }
    }

    /// All figures, for the JSON output.
    pub(super) fn to_json(&self) -> Value {
        json!(self.0)
    }
}

impl Goal {
    fn judge(self, found: f64) -> Verdict {
        let holds = match self {
            Self::AtLeast(least) => found >= least,
            Self::AtMost(most) => found <= most,
            Self::None => return Verdict::Told,
        };
        if holds { Verdict::Holds } else { Verdict::Fails }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
            Self::None => String::new(),
        }
    }
}

impl Verdict {
    const fn text(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "FAILS",
            Self::Void => "void",
            Self::Told => "",
        }
    }
}

impl Comparison {
    /// Hedgerow's figure alone.
    pub(super) fn alone(case: &str, unit: &'static str, ours: f64, goal: Goal) -> Self {
        Self { case: case.to_owned(), unit, ours, other: None, found: ours, goal, verdict: goal.judge(ours) }
    }

    /// The comparison as JSON.
    pub(super) fn to_json(&self) -> Value {
        let (other, theirs) = self.other.map_or((None, None), |(name, figure)| (Some(name), Some(figure)));
        json!({
            "case": self.case, "unit": self.unit, "hedgerow": self.ours, "other": other, "other_figure": theirs,
            "found": self.found, "goal": self.goal.text(), "verdict": self.verdict.text(),
        })
    }
}

/// The comparisons as a table for people.
pub(super) fn table(comparisons: &[Comparison]) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{:<22} {:<12} {:>10} {:<14} {:>10} {:>8} {:>8} verdict\n",
        "case", "unit", "hedgerow", "other", "its figure", "found", "goal"
    );
    for line in comparisons {
        let (other, theirs) = line.other.map_or(("", String::new()), |(name, figure)| (name, rounded(figure)));
        let (ours, found, goal) = (rounded(line.ours), rounded(line.found), line.goal.text());
        let (case, unit, verdict) = (&line.case, line.unit, line.verdict.text());
        let _ = writeln!(text, "{case:<22} {unit:<12} {ours:>10} {other:<14} {theirs:>10} {found:>8} {goal:>8} {verdict}");
    }
    text
}

fn rounded(figure: f64) -> String {
    if figure.abs() >= 1000.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}

/// A count as a number with a fraction.
#[expect(clippy::cast_precision_loss, reason = "counts of a measurement are far below 2^52")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

/// The middle of the figures.
pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => f64::NAN,
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert!((median(&[9.0, 1.0, 4.0]) - 4.0).abs() < f64::EPSILON);
        assert!((median(&[9.0, 1.0, 4.0, 2.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_goal_is_judged_by_the_ratio_and_one_that_was_not_measured_does_not_hold() {
        let mut runs = Runs::default();
        for (ours, theirs) in [(6.0, 2.0), (5.0, 1.0), (7.0, 9.0)] {
            runs.add(HEDGEROW, ours);
            runs.add("nginx", theirs);
        }
        let compare = |other, goal| runs.compare("x", "s", other, |ours, theirs| ours / theirs, goal).verdict;
        assert_eq!(compare("nginx", Goal::AtLeast(3.0)), Verdict::Holds);
        assert_eq!(compare("nginx", Goal::AtMost(2.9)), Verdict::Fails);
        assert_eq!(compare("nginx", Goal::None), Verdict::Told);
        assert_eq!(compare("distribution", Goal::AtMost(2.9)), Verdict::Fails);
    }

    #[test]
    fn the_table_names_both_figures_the_goal_and_the_verdict() {
        let mut runs = Runs::default();
        runs.add(HEDGEROW, 5.0);
        runs.add("nginx", 2.0);
        let lines = [
            runs.compare("pull", "s", "nginx", |ours, theirs| theirs / ours, Goal::AtLeast(1.0)),
            Comparison::alone("start", "s", 1.0, Goal::AtMost(2.0)),
        ];
        let table = table(&lines);
        assert!(table.contains("nginx") && table.contains("0.40") && table.contains(">= 1") && table.contains("FAILS"));
        assert!(table.lines().last().is_some_and(|line| line.ends_with("holds")));
    }
}
