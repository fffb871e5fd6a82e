//! What was measured, and how it is told to people.

use super::{
    deaths::{Row, Scenario, Times},
    load,
};
use crate::{
    side::Side,
    statistics::number,
    table::{MIB, answer},
};
use serde::Serialize;
use std::fmt::Write;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    /// How many nodes there were.
    pub nodes: usize,
    pub deaths: Vec<Row>,
    pub load: Vec<load::Row>,
}

pub(super) fn section(measured: &Measured) -> String {
    let nodes = number(measured.nodes as f64, 0);
    let mut text = format!(
        "\nOf {nodes} nodes.\n\n| to be reached | beside | measured | reached |\n|---|---|---|---|\n"
    );
    for row in measured.deaths.iter().filter(|row| row.side == Side::Mainstay) {
        // The fastest of the ways in which upstream runs decides.
        let theirs = upstream(measured, row.scenario)
            .min_by(|one, other| one.detected.p50.total_cmp(&other.detected.p50));
        if let Some(theirs) = theirs {
            let factor = theirs.detected.p50 / row.detected.p50;
            let _ = writeln!(
                text,
                "| {}: noticed ≥ 3 × faster | {} | {factor:.2} × | {} |",
                row.scenario.title(),
                theirs.side.title(),
                answer(factor >= 3.0)
            );
        }
    }
    for row in &measured.load {
        let when = if row.busy { "at the limit" } else { "at rest" };
        let ratio = row.cpu[0] / row.cpu[1];
        let _ = writeln!(
            text,
            "| CPU ≤ 0.3 × upstream's, {when} | {} | {ratio:.2} × | {} |",
            Side::AloneLifted.title(),
            answer(ratio <= 0.3)
        );
        let rss = row.rss[0] as f64;
        let _ = writeln!(text, "| RSS ≤ 50 MB, {when} | – | {:.0} MB | {} |", rss / 1e6, answer(rss <= 50e6));
        let _ = writeln!(
            text,
            "| no false verdict in {:.0} s, {when} | – | {} | {} |",
            row.seconds,
            row.verdicts[0],
            answer(row.verdicts[0] == 0.0)
        );
    }
    deaths(measured, &mut text);
    load(measured, &mut text);
    text
}

fn upstream(measured: &Measured, scenario: Scenario) -> impl Iterator<Item = &Row> {
    measured.deaths.iter().filter(move |row| row.scenario == scenario && row.side != Side::Mainstay)
}

fn deaths(measured: &Measured, text: &mut String) {
    text.push_str("\n### Deaths\n\n| seconds from the last sign of life, p50 / p99 | | noticed | tainted | no Service sends to its pods | pods deleted |\n|---|---|--:|--:|--:|--:|\n");
    let shown = |times: Option<Times>| {
        times.map_or("–".into(), |times| format!("{:.1} / {:.1}", times.p50, times.p99))
    };
    for row in &measured.deaths {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            row.scenario.title(),
            row.side.title(),
            shown(Some(row.detected)),
            shown(row.tainted),
            shown(row.unserved),
            shown(row.deleted)
        );
    }
}

fn load(measured: &Measured, text: &mut String) {
    if measured.load.is_empty() {
        return;
    }
    text.push_str(
        "\n### Cost and false verdicts\n\n| | Mainstay | upstream, alone, limits lifted |\n|---|--:|--:|\n",
    );
    for row in &measured.load {
        let when = if row.busy {
            format!("{} s at the limit, {} writes a second", number(row.seconds, 0), number(row.writes, 0))
        } else {
            format!("{} s at rest", number(row.seconds, 0))
        };
        let _ = writeln!(text, "| share of a CPU, {when} | {:.3} | {:.3} |", row.cpu[0], row.cpu[1]);
        let _ = writeln!(
            text,
            "| peak memory (RSS), MiB, {when} | {:.0} | {:.0} |",
            row.rss[0] as f64 / MIB,
            row.rss[1] as f64 / MIB
        );
        let _ = writeln!(
            text,
            "| living nodes called dead, {when} | {} | {} |",
            row.verdicts[0], row.verdicts[1]
        );
    }
}
