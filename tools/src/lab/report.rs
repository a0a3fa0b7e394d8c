//! Several runs together: medians, the goals that they miss, a table for people and an object for programs.
//!
//! Not here: a single run; see [`super::outcome`].

use std::fmt;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::outcome::Outcome;
use super::scenario::{Scenario, Settings};

/// Figures that differ between runs, each with its unit.
const MEASURED: [(&str, &str); 10] = [
    ("wait_seconds", "s from the rollout's start to the first byte"),
    ("seconds", "s to the last device"),
    ("bound_seconds", "s, the bound"),
    ("bound_ratio", "of the bound"),
    ("direct_seconds", "s for a plain HTTPS download"),
    ("direct_ratio", "of a plain HTTPS download"),
    ("wan_copies", "copies over the WAN"),
    ("wan_bytes", "bytes over the WAN, with polls"),
    ("poll_bytes", "of them polls, by the rate before"),
    ("liar_named_by", "devices that named the liar"),
];

/// All runs of a scenario.
pub(super) struct Summary<'a> {
    scenario: &'a Scenario,
    settings: &'a Settings,
    outcomes: &'a [Outcome],
    missed: Vec<String>,
}

impl<'a> Summary<'a> {
    /// Puts runs together.
    pub(super) fn of(scenario: &'a Scenario, settings: &'a Settings, outcomes: &'a [Outcome]) -> Self {
        let mut summary = Self { scenario, settings, outcomes, missed: Vec::new() };
        let goals = scenario.goals;
        let wanted = [("wan_copies", Some(goals.wan_copies)), ("bound_ratio", goals.bound_ratio), ("direct_ratio", goals.direct_ratio)];
        for (name, goal) in wanted {
            let (median, Some(goal)) = (summary.median(name), goal) else { continue };
            if !median.is_some_and(|median| median <= goal) {
                summary.missed.push(format!("{name} is {:.3}, the goal is at most {goal}", median.unwrap_or(f64::NAN)));
            }
        }
        for (number, outcome) in outcomes.iter().enumerate() {
            summary.missed.extend(outcome.wrong.iter().map(|wrong| format!("run {}: {wrong}", number + 1)));
        }
        summary
    }

    fn median(&self, name: &str) -> Option<f64> {
        let mut values: Vec<f64> = self.outcomes.iter().filter_map(|outcome| outcome.figures.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
    }

    /// One object on one line.
    pub(super) fn json(&self) -> Value {
        let settings = self.settings;
        let runs: Vec<Value> = self.outcomes.iter().map(Outcome::json).collect();
        let mut object = json!({
            "scenario": self.scenario.name, "devices": settings.devices, "sites": settings.sites, "bytes": settings.bytes,
            "wan_mbit": settings.wan_mbit, "lan_mbit": settings.lan_mbit, "rtt_ms": settings.rtt_ms,
            "loss_percent": settings.loss_percent, "seed": settings.seed, "missed": self.missed, "passed": self.missed.is_empty(),
            "runs": runs,
        });
        for (name, _) in MEASURED {
            object[name] = json!(self.median(name));
        }
        object
    }

    /// Fails if a goal was missed.
    pub(super) fn verdict(&self) -> Result<()> {
        if !self.missed.is_empty() {
            bail!("the scenario {} misses {} of its goals, named above", self.scenario.name, self.missed.len());
        }
        Ok(())
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { devices, sites, bytes, wan_mbit, lan_mbit, rtt_ms, loss_percent, .. } = self.settings;
        let runs = self.outcomes.len();
        writeln!(
            f,
            "{}: {devices} devices at each of {sites} sites, {bytes} bytes, WAN {wan_mbit} and LAN {lan_mbit} Mbit/s, {rtt_ms} ms away, \
             {loss_percent} % lost, {runs} runs",
            self.scenario.name
        )?;
        if let Some(ways) = &self.settings.discovery {
            writeln!(f, "  devices found each other by {ways} alone")?;
        }
        for (name, unit) in MEASURED {
            let values: Vec<f64> = self.outcomes.iter().filter_map(|outcome| outcome.figures.get(name).copied()).collect();
            let (least, most) = (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(f64::MIN, f64::max));
            let digits = if name.ends_with("bytes") { 0 } else { 3 };
            let median = self.median(name).unwrap_or(f64::NAN);
            writeln!(f, "  {name:<15} {median:>14.digits$}  ({least:.digits$} to {most:.digits$}) {unit}")?;
        }
        let rss = self.outcomes.iter().map(Outcome::device_rss_bytes).max().unwrap_or(0);
        writeln!(f, "  {:<15} {:>14}  MiB, the most memory of a device", "device_rss", rss >> 20)?;
        for missed in &self.missed {
            writeln!(f, "  MISSED: {missed}")?;
        }
        Ok(())
    }
}

/// The scenarios with what they must reach.
pub(super) fn scenarios(scenarios: &[Scenario]) -> String {
    let mut text = format!("{:<14} {:>7} {:>8} {:>8}  {}\n", "scenario", "copies", "bound", "direct", "what happens");
    let goal = |goal: Option<f64>| goal.map_or("-".to_owned(), |goal| format!("{goal:.2}"));
    for Scenario { name, about, goals, .. } in scenarios {
        let (bound, direct) = (goal(goals.bound_ratio), goal(goals.direct_ratio));
        text += &format!("{name:<14} {:>7.2} {bound:>8} {direct:>8}  {about}\n", goals.wan_copies);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::scenario::{SCENARIOS, short};

    fn outcome(wan_copies: f64, wrong: &[&str]) -> Outcome {
        let figures = [("wan_copies", wan_copies), ("bound_ratio", 1.0), ("direct_ratio", 1.0)];
        Outcome::with(figures.into_iter().collect(), wrong.iter().map(|wrong| (*wrong).to_owned()).collect())
    }

    #[test]
    fn goals_are_for_medians_and_what_is_wrong_in_one_run_is_wrong() {
        let [(_, settings, _), ..] = short();
        let judge = |outcomes: &[Outcome]| Summary::of(&SCENARIOS[0], &settings, outcomes).missed;
        assert!(judge(&[outcome(1.0, &[]), outcome(1.01, &[]), outcome(3.0, &[])]).is_empty());
        let missed = judge(&[outcome(1.5, &[]), outcome(1.0, &[]), outcome(1.6, &[])]);
        assert_eq!(missed, ["wan_copies is 1.500, the goal is at most 1.02"]);
        assert_eq!(judge(&[outcome(1.0, &[]), outcome(1.0, &["d3 relayed"]), outcome(1.0, &[])]), ["run 2: d3 relayed"]);
    }

    #[test]
    fn a_figure_that_is_missing_reaches_no_goal() {
        let [(_, settings, _), ..] = short();
        assert_eq!(Summary::of(&SCENARIOS[0], &settings, &[]).missed.len(), 2);
    }

    #[test]
    fn every_scenario_is_listed_with_its_goals() {
        let text = scenarios(SCENARIOS);
        assert_eq!(text.lines().count(), SCENARIOS.len() + 1);
        assert!(text.contains("alone             1.02        -     1.02  one device"), "{text}");
    }
}
