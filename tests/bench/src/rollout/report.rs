//! The measured rows as tables for people, beside what was to be reached.

use super::turn::Row;
use crate::{
    side::Side,
    statistics::number,
    table::{self, Line, MIB, Number, answer},
};
use std::fmt::Write;

const LINES: &[Line<Row>] = &[
    ("status says complete, s", 2, |row| Some(row.complete)),
    ("last old pod gone, s", 2, |row| Some(row.gone)),
    ("controller's API writes", 0, |row| Some(row.writes() as f64)),
    ("its further writes until at rest", 0, |row| Some(row.late as f64)),
    ("writes by the API server's count, without events", 0, |row| Some(row.served_writes() as f64)),
    ("controller's API reads", 0, |row| Some(row.reads() as f64)),
    ("controller's CPU, s", 2, |row| Some(row.cpu)),
    ("controller's peak memory (RSS), MiB", 0, |row| Some(row.peak as f64 / MIB)),
    ("API server's CPU, s", 2, |row| Some(row.server_cpu)),
    ("most pods at one time", 0, |row| Some(row.most as f64)),
    ("fewest available pods, by status", 0, |row| Some(row.least_available as f64)),
    ("new pods made beyond those needed", 0, |row| Some(row.surplus as f64)),
];

/// What is to be no more than a Deployment's: its name, decimals, unit and number.
type Target = (&'static str, usize, &'static str, Number<Row>);

const TARGETS: &[Target] = &[
    ("time until complete", 2, " s", |row| Some(row.complete)),
    ("time until the last old pod is gone", 2, " s", |row| Some(row.gone)),
    ("controller's API writes", 0, "", |row| Some(row.writes() as f64)),
    ("writes by the API server's count", 0, "", |row| Some(row.served_writes() as f64)),
];

/// The section of the document, in Markdown.
pub(super) fn section(rows: &[Row]) -> String {
    let sizes = table::sizes(rows);
    let mut text = table::TARGETS.to_owned();
    for &pods in &sizes {
        for target in TARGETS {
            let _ = write!(text, "{}", reached(rows, pods, target));
        }
    }
    for pods in sizes {
        text.push_str(&table::table(rows, pods, LINES));
    }
    text
}

/// The line of one target: Mainstay's median beside the lowest one of upstream.
fn reached(rows: &[Row], pods: usize, (name, decimals, unit, measure): &Target) -> String {
    let median = |side| table::median(rows, side, pods, *measure);
    let upstream = Side::UPSTREAM.into_iter().filter_map(|side| Some((side, median(side)?)));
    let hardest = upstream.min_by(|(_, a), (_, b)| a.total_cmp(b));
    let (Some(ours), Some((side, theirs))) = (median(Side::Mainstay), hardest) else {
        return String::new();
    };
    let (share, is_reached) = (number(ours / theirs, 2), answer(ours <= theirs));
    let (ours, theirs) = (number(ours, *decimals), number(theirs, *decimals));
    let (pods, side) = (number(pods as f64, 0), side.title());
    format!(
        "| {name} ≤ a Deployment's | {pods} | {share} ({ours} to {theirs}{unit}; {side}) | {is_reached} |\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{super::turn::tests::row, *};

    #[test]
    fn a_target_is_held_against_the_side_that_is_hardest_to_reach() {
        let timed = |side, complete| Row { complete, ..row(side) };
        let rows = [
            timed(Side::Mainstay, 2.0),
            timed(Side::AloneLifted, 2.5),
            timed(Side::AloneLifted, 3.5),
            timed(Side::Shipped, 20.0),
        ];
        assert_eq!(
            reached(&rows, 10, &TARGETS[0]),
            "| time until complete ≤ a Deployment's | 10 | 0.67 (2.00 to 3.00 s; upstream, alone, limits \
             lifted) | yes |\n"
        );
        assert!(
            reached(&[timed(Side::Mainstay, 9.0), rows[1].clone()], 10, &TARGETS[0]).ends_with("**no** |\n")
        );
        assert_eq!(reached(&rows[1..], 10, &TARGETS[0]), "");
        let section = section(&rows);
        assert!(section.contains("| controller's API writes | 25 | 25 (25–25) | 25 |\n"), "{section}");
    }
}
