//! What was measured, and how it is told to people: as tables, beside what was to be reached.

use super::{
    raw::Trial,
    turn::{Cost, Row},
};
use crate::{
    meter::total,
    side::Side,
    statistics,
    table::{self, Line, MIB, Number, answer},
};
use serde::Serialize;
use std::{collections::BTreeSet, fmt::Write};

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    /// How many requests the bare client had under way at a time, and what that brought.
    pub trials: Vec<Trial>,
    /// One row a side and round.
    pub rows: Vec<Row>,
}

/// Creation rate, as a share of the bare client's.
const RATE: f64 = 0.9;
/// CPU time, as a share of kube-controller-manager's.
const CPU: f64 = 1.0 / 3.0;
/// Memory, as a share of kube-controller-manager's.
const MEMORY: f64 = 0.25;

const LINES: &[Line<Row>] = &[
    ("all pods exist, s", 2, |row| Some(row.exist)),
    ("pods created a second", 0, |row| Some(rate(row))),
    ("status says all are ready, s", 2, |row| cost(row, |cost| cost.ready)),
    ("scaled to 0 until all are gone, s", 2, |row| Some(row.gone)),
    ("controller's CPU until ready, s", 2, |row| cost(row, |cost| cost.cpu_up)),
    ("controller's CPU from 0 to 0 pods, s", 2, |row| cost(row, |cost| cost.cpu_all)),
    ("controller's peak memory (RSS), MiB", 0, |row| cost(row, |cost| cost.peak as f64 / MIB)),
    ("its memory at rest, all pods ready, MiB", 0, |row| cost(row, |cost| cost.idle as f64 / MIB)),
    ("requests a pod until ready", 2, |row| {
        cost(row, |cost| total(&cost.requests_up) as f64 / row.pods as f64)
    }),
    ("requests a pod until gone", 2, |row| {
        cost(row, |cost| total(&cost.requests_down) as f64 / row.pods as f64)
    }),
    ("values of `status.replicas` between 0 and all", 0, |row| cost(row, |cost| cost.steps as f64)),
    ("requests at rest, without the Lease's", 0, |row| cost(row, |cost| cost.settled as f64)),
    ("API server's CPU until all pods exist, s", 2, |row| Some(row.server_cpu)),
    ("pods made beyond those asked for", 0, |row| Some(row.surplus as f64)),
];

fn rate(row: &Row) -> f64 {
    row.pods as f64 / row.exist
}

fn cost(row: &Row, number: impl Fn(&Cost) -> f64) -> Option<f64> {
    row.controller.as_ref().map(number)
}

/// The whole section of the document, in Markdown.
pub(super) fn section(measured: &Measured) -> String {
    let Measured { trials, rows } = measured;
    let mut text = String::new();
    let best = trials.iter().max_by(|a, b| a.rate.total_cmp(&b.rate));
    if let Some(best) = best {
        let tried: BTreeSet<usize> = trials.iter().map(|trial| trial.in_flight).collect();
        let tried: Vec<String> = tried.iter().map(usize::to_string).collect();
        let (best, tried) = (best.in_flight, tried.join(", "));
        let _ = writeln!(
            text,
            "The bare client had {best} requests under way at a time, the fastest of {tried}."
        );
    }
    let sizes = table::sizes(rows);
    text.push_str(&targets(rows, &sizes));
    for pods in sizes {
        text.push_str(&table::table(rows, pods, LINES));
    }
    text
}

/// What was to be reached, beside what was: each by the medians of the same run.
fn targets(rows: &[Row], sizes: &[usize]) -> String {
    let mut text = table::TARGETS.to_owned();
    for &pods in sizes {
        let median = |side, number| table::median(rows, side, pods, number);
        let mut ratio =
            |name: &str, target: f64, at_least: bool, against, number: Number<Row>, unit: &str| {
                let (Some(ours), Some(theirs)) = (median(Side::Mainstay, number), median(against, number))
                else {
                    return;
                };
                let share = ours / theirs;
                let is_reached = if at_least { share >= target } else { share <= target };
                let (pods, share) = (statistics::number(pods as f64, 0), statistics::number(share, 2));
                let _ = writeln!(
                    text,
                    "| {name} | {pods} | {share} ({ours:.2} to {theirs:.2} {unit}) | {} |",
                    answer(is_reached)
                );
            };
        let upstream = Side::AloneLifted;
        ratio(
            "creation rate ≥ 0.9 of the bare client's",
            RATE,
            true,
            Side::Bare,
            |row| Some(rate(row)),
            "a second",
        );
        ratio(
            "CPU until ready ≤ ⅓ of upstream's",
            CPU,
            false,
            upstream,
            |row| cost(row, |cost| cost.cpu_up),
            "s",
        );
        ratio(
            "CPU from 0 to 0 ≤ ⅓ of upstream's",
            CPU,
            false,
            upstream,
            |row| cost(row, |cost| cost.cpu_all),
            "s",
        );
        let peak = |row: &Row| cost(row, |cost| cost.peak as f64 / MIB);
        ratio("peak memory ≤ ¼ of upstream's", MEMORY, false, upstream, peak, "MiB");
        if let Some(most) = table::of(rows, Side::Mainstay, pods)
            .filter_map(|row| Some(row.controller.as_ref()?.settled.abs()))
            .max()
        {
            let (pods, is_reached) = (statistics::number(pods as f64, 0), answer(most == 0));
            let _ = writeln!(
                text,
                "| no request at rest, apart from Lease and watches | {pods} | {most} in the worst round | {is_reached} |"
            );
        }
    }
    text
}
