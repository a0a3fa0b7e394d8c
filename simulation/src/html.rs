//! A report as one page that needs nothing else: figures in tables, plots in SVG.
//!
//! Not here: the figures; see [`crate::report`].

use std::fmt::Write as _;

use crate::baselines::{Baseline, Strategy};
use crate::report::{Report, Spread};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const MARGIN: f64 = 56.0;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}.partial{background:#fd8;padding:.5em 1em}\
code{font-size:13px;overflow-wrap:anywhere}";

/// A point of a plot.
type Point = (f64, f64);

/// The page.
pub fn page(report: &Report, command: &str) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>hedgerow-sim: {} devices at {} sites</title><style>{STYLE}</style>\n\
         <h1>{} devices at {} sites</h1>\n",
        report.devices, report.sites, report.devices, report.sites
    );
    if report.partial {
        let _infallible = writeln!(
            page,
            "<p class=\"partial\">Partial: the run was interrupted when {} of {} sites were done. All figures are of these.</p>",
            report.sites_done, report.sites
        );
    }
    let _infallible = writeln!(page, "{}", figures(report));
    let curves = &report.curves;
    let plots = [
        ("Devices done", "seconds", &curves.devices_done),
        ("Seed egress, Mbit/s", "seconds", &curves.seed_mbit),
        ("WAN copies per site", "percent of sites with no more", &curves.wan_copies),
    ];
    for (title, across, points) in plots {
        let _infallible = writeln!(page, "<h2>{title}</h2>{}", line(points, across));
    }
    if let Some(rollout) = &report.rollout {
        let _infallible = writeln!(page, "<h2>Rollout: {}</h2><p>{}</p>", escaped(&rollout.state), escaped(&rollout.reason));
        for (title, points) in [("Devices that run the version", &rollout.healthy), ("Devices on which it failed", &rollout.failed)] {
            let _infallible = writeln!(page, "<h3>{title}</h3>{}", line(points, "seconds"));
        }
    }
    if !report.strategies.is_empty() {
        let _infallible = writeln!(page, "<h2>Compared with other ways</h2>{}", comparison(report, &report.strategies));
    }
    let _infallible = writeln!(page, "<h2>To see it again</h2><code>{}</code></html>", escaped(command));
    page
}

fn figures(report: &Report) -> String {
    let spread = |name: &str, spread: Spread| format!("<tr><td>{name}<td>{:.4}<td>{:.4}<td>{:.4}\n", spread.p50, spread.p99, spread.max);
    format!(
        "<p>{} devices complete, {} killed; {} inputs to the machines in {:.1} s on {} threads; seed {}; digest <code>{}</code></p>\n\
         <table><tr><th>per site<th>median<th>99th of 100<th>largest\n{}{}{}</table>",
        report.complete,
        report.killed,
        report.events,
        report.seconds,
        report.threads,
        report.seed,
        report.digest,
        spread("WAN copies", report.wan_copies),
        spread("time / bound", report.time_over_bound),
        spread("seconds", report.virtual_seconds)
    )
}

fn comparison(report: &Report, baselines: &[Baseline]) -> String {
    let name = |strategy| match strategy {
        Strategy::NoSharing => "no sharing",
        Strategy::OneGateway => "one gateway",
        Strategy::RandomPieces => "random pieces, as BitTorrent",
    };
    let others = baselines.iter().map(|baseline| (name(baseline.strategy), baseline.time_over_bound.p50, baseline.wan_copies.p50));
    let rows: Vec<(&str, f64, f64)> =
        [("the bound", 1.0, 1.0), ("Hedgerow", report.time_over_bound.p50, report.wan_copies.p50)].into_iter().chain(others).collect();
    let widest = rows.iter().map(|(_, time, _)| *time).fold(1.0, f64::max);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", rows.len() * 36);
    for (nth, (name, time, copies)) in rows.iter().enumerate() {
        let (y, width) = (nth as f64 * 36.0, time / widest * (WIDTH - 380.0));
        let _infallible = write!(
            svg,
            "<text x=\"0\" y=\"{}\" font-size=\"14\">{name}</text><rect x=\"200\" y=\"{}\" width=\"{width:.1}\" height=\"24\" fill=\"#476\"/>\
             <text x=\"{:.1}\" y=\"{}\" font-size=\"13\">{time:.2} × the time, {copies:.2} copies</text>",
            y + 20.0,
            y + 4.0,
            208.0 + width,
            y + 20.0
        );
    }
    format!("{svg}</svg><p>Medians over sites. The other ways are shown without latency, messages or faults.</p>")
}

fn line(points: &[Point], across: &str) -> String {
    let largest = |of: fn(&Point) -> f64| points.iter().map(of).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let (right, top) = (largest(|point| point.0), largest(|point| point.1));
    let x = |value: f64| MARGIN + value / right * (WIDTH - 2.0 * MARGIN);
    let y = |value: f64| HEIGHT - MARGIN / 2.0 - value / top * (HEIGHT - MARGIN);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\"><g stroke=\"#bbb\" font-size=\"12\">", HEIGHT + 24.0);
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (up, along) = (y(top * part), x(right * part));
        let _infallible = write!(
            svg,
            "<path d=\"M{MARGIN} {up:.1}H{}\"/><text stroke=\"none\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text stroke=\"none\" x=\"{along:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            WIDTH - MARGIN,
            MARGIN - 6.0,
            up + 4.0,
            short(top * part),
            HEIGHT - 8.0,
            short(right * part)
        );
    }
    let path: Vec<String> = points.iter().map(|(along, up)| format!("{:.1} {:.1}", x(*along), y(*up))).collect();
    let _infallible = write!(
        svg,
        "</g><path d=\"M{}\" fill=\"none\" stroke=\"#152\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\" font-size=\"12\" text-anchor=\"middle\">{across}</text></svg>",
        if path.is_empty() { "0 0".to_owned() } else { path.join("L") },
        WIDTH / 2.0,
        HEIGHT + 14.0
    );
    svg
}

fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
