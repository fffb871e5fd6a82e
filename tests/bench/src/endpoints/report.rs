//! What was measured, and how it is told to people.

use super::{
    checked::{self, INTERVAL},
    flips::{Cost, Row},
};
use crate::{
    side::Side,
    statistics::{Spread, number},
    table::{MIB, TARGETS, answer},
};
use serde::Serialize;
use std::fmt::Write;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    /// One row for each way in which kube-controller-manager runs, and round.
    pub flips: Vec<Row>,
    /// One row for each kind of check.
    pub checks: Vec<checked::Row>,
}

type Number = fn(&Cost) -> f64;

/// What of a side is shown: its name, its decimals, its number.
const LINES: [(&str, usize, Number); 12] = [
    ("flip → slice written, p50, ms", 1, |cost| cost.all.p50 * 1000.0),
    ("the same, p99, ms", 1, |cost| cost.all.p99 * 1000.0),
    ("pod becomes ready, p50, ms", 1, |cost| cost.ready.p50 * 1000.0),
    ("the same, p99, ms", 1, |cost| cost.ready.p99 * 1000.0),
    ("pod ceases to be ready, p50, ms", 1, |cost| cost.not_ready.p50 * 1000.0),
    ("the same, p99, ms", 1, |cost| cost.not_ready.p99 * 1000.0),
    ("flips overtaken by the next of the same pod", 0, |cost| cost.overtaken as f64),
    ("slices written a flip", 2, |cost| cost.slice_writes),
    ("statuses of pools written a flip", 2, |cost| cost.pool_writes),
    ("all writes of the controller a flip", 2, |cost| cost.all_writes),
    ("controller's CPU, s", 2, |cost| cost.cpu),
    ("controller's peak memory (RSS), MiB", 0, |cost| cost.rss as f64 / MIB),
];

/// What was to be reached beside upstream: its name, its bound, its number.
const BOUNDS: [(&str, f64, Number); 4] = [
    ("p99 ≤ 0.5 × upstream's", 0.5, |cost| cost.all.p99),
    ("slices written a flip ≤ upstream's", 1.0, |cost| cost.slice_writes),
    ("CPU ≤ 0.5 × upstream's", 0.5, |cost| cost.cpu),
    ("RSS ≤ 0.25 × upstream's", 0.25, |cost| cost.rss as f64),
];

pub(super) fn section(measured: &Measured) -> String {
    let mut text = String::new();
    let there: Vec<Side> =
        Side::UPSTREAM.into_iter().filter(|side| rows(measured, *side).next().is_some()).collect();
    text.push_str(&TARGETS.replace("pods", "beside").replace("--:", "---"));
    for (name, bound, of) in BOUNDS {
        // The hardest of the ways in which upstream runs decides.
        let ratio =
            |side: &Side| Some((*side, median(measured, *side, 0, of)? / median(measured, *side, 1, of)?));
        let hardest = there.iter().filter_map(ratio).max_by(|one, other| one.1.total_cmp(&other.1));
        if let Some((side, ratio)) = hardest {
            let _ = writeln!(text, "| {name} | {} | {ratio:.2} | {} |", side.title(), answer(ratio <= bound));
        }
    }
    for row in &measured.checks {
        let _ = writeln!(
            text,
            "| {} addresses checked by {} every {INTERVAL} s on under half a CPU | – | {:.2} | {} |",
            number(row.addresses as f64, 0),
            row.kind,
            row.cpu,
            answer(row.cpu < 0.5 && row.is_kept_up())
        );
    }
    for side in there {
        text.push_str(&table(measured, side));
    }
    checks(measured, &mut text);
    text
}

fn rows(measured: &Measured, side: Side) -> impl Iterator<Item = &Row> {
    measured.flips.iter().filter(move |row| row.side == side)
}

fn spread(measured: &Measured, side: Side, index: usize, of: Number) -> Option<Spread> {
    Spread::of(rows(measured, side).map(|row| of(&row.sides[index])))
}

fn median(measured: &Measured, side: Side, index: usize, of: Number) -> Option<f64> {
    spread(measured, side, index, of).map(|spread| spread.median)
}

/// What was measured beside upstream as it ran on this side.
fn table(measured: &Measured, side: Side) -> String {
    let flips = rows(measured, side).next().map_or(0, |row| row.flips);
    let rate = Spread::of(rows(measured, side).map(|row| row.rate)).map_or("–".into(), |rate| rate.show(1));
    let mut text = format!(
        "\n### Beside {}\n\n| median (range), {} flips a round, {rate} a second | Mainstay | upstream |\n|---|--:|--:|\n",
        side.title(),
        number(flips as f64, 0)
    );
    for (name, decimals, of) in LINES {
        let show =
            |index| spread(measured, side, index, of).map_or("–".into(), |spread| spread.show(decimals));
        let _ = writeln!(text, "| {name} | {} | {} |", show(0), show(1));
    }
    text
}

fn checks(measured: &Measured, text: &mut String) {
    if measured.checks.is_empty() {
        return;
    }
    text.push_str(
        "\n### Checks\n\n| kind | addresses | passing at the end | checks a second | share of a CPU | peak memory (RSS), MiB |\n",
    );
    text.push_str("|---|--:|--:|--:|--:|--:|\n");
    for row in &measured.checks {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} | {:.0} |",
            row.kind,
            number(row.addresses as f64, 0),
            number(row.passing as f64, 0),
            number(row.rate, 0),
            row.cpu,
            row.rss as f64 / MIB
        );
    }
}
